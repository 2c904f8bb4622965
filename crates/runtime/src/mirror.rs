//! Caches of one kind that tell what changed.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::reflector::{self, Lookup, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

/// How often one that waits for a cache looks again.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until a cache was filled once; false when it never will be. Any number of tasks may wait for the same cache: of those
/// that wait by `Store::wait_until_ready` only the last one is woken.
pub async fn filled<K>(cache: &Store<K>) -> bool
where
    K: Lookup + Clone + 'static,
    <K as Lookup>::DynamicType: Eq + Hash + Clone,
{
    loop {
        if let Ok(outcome) = tokio::time::timeout(LOOK, cache.wait_until_ready()).await {
            return outcome.is_ok();
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
    use futures::future::join_all;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everybody_who_waits_for_a_cache_is_woken() {
        let (cache, mut writer) = reflector::store::<ConfigMap>();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let cache = cache.clone();
                tokio::spawn(async move { filled(&cache).await })
            })
            .collect();
        tokio::task::yield_now().await;
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        for done in join_all(waiting).await {
            assert!(done.is_ok());
        }
    }
}
