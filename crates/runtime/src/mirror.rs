//! Caches of one kind that tell what changed.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::reflector::store::WriterDropped;
use kube::runtime::reflector::{self, Lookup, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

/// How often a cache that others wait for too is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until a cache was filled once. Any number may wait: `Store::wait_until_ready` of kube-runtime wakes only the one who asked
/// last, so whoever else waits looks again after a while.
///
/// # Errors
/// When the cache ended before it was filled.
pub async fn filled<K>(store: &Store<K>) -> Result<(), WriterDropped>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    loop {
        if let Ok(outcome) = tokio::time::timeout(LOOK, store.wait_until_ready()).await {
            return outcome;
        }
    }
}

/// Fills a cache by list and watch, and keeps it so until `cancel`.
///
/// The second half of the answer must be run; `changed` is called after the cache was updated, with
/// the object as it is now or (deleted) as it was last. After a new list every object counts as
/// changed, and so does every object that went between two lists: a level-triggered caller misses
/// nothing. Failures are logged and retried with backoff.
pub fn mirror<K>(
    api: Api<K>,
    config: watcher::Config,
    cancel: CancellationToken,
    mut changed: impl FnMut(&K) + Send + 'static,
) -> (Store<K>, impl Future<Output = ()> + Send)
where
    K: Resource + Lookup + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    <K as Lookup>::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
    <K as Resource>::DynamicType: Default,
{
    let (store, writer) = reflector::store::<K>();
    let cache = store.clone();
    let task = async move {
        let stream = reflector::reflector(writer, watch(api, config)).default_backoff();
        futures::pin_mut!(stream);
        let mut before = Vec::new();
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return,
                event = stream.next() => event,
            };
            match event {
                Some(Ok(Event::Apply(object) | Event::Delete(object))) => changed(&object),
                Some(Ok(Event::Init)) => before = cache.state(),
                // The cache shows a new list only when it is complete.
                Some(Ok(Event::InitApply(_))) => {}
                Some(Ok(Event::InitDone)) => {
                    cache.state().iter().for_each(|object| changed(object));
                    let gone = |object: &&Arc<K>| {
                        cache.get(&ObjectRef::from_obj(object.as_ref())).is_none()
                    };
                    before
                        .iter()
                        .filter(gone)
                        .for_each(|object| changed(object));
                    before.clear();
                }
                Some(Err(error)) => tracing::debug!(%error, "a watch was interrupted"),
                None => return,
            }
        }
    };
    (store, task)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;

    use super::filled;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_a_cache_hear_that_it_is_filled() {
        let (store, mut writer) = reflector::store::<Pod>();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { filled(&store).await })
            })
            .collect();
        tokio::task::yield_now().await;
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        for one in waiting {
            one.await.expect("it ends").expect("it is filled");
        }
    }
}
