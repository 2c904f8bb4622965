//! Which kinds the cluster serves right now.
//!
//! What is served is remembered until a CustomResourceDefinition changes; what is not served is remembered for a moment only, so that
//! many works that wait for one kind ask for it once, and none waits for long after it appeared.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_core::work::manifest::{Gvk, Served};
use drover_runtime::queue::WorkQueue;
use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Key;

/// How long a group version that lacks a kind is not asked again.
const ABSENT_FOR: Duration = Duration::from_millis(250);
/// When waiting works are tried after a definition changed: discovery follows a definition with some delay.
const TRIES_AFTER_CHANGE: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// The kinds of one cluster.
pub struct Kinds {
    client: Client,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    served: HashMap<Gvk, Served>,
    /// Group versions that were asked, and when; they answered what is in `served`.
    asked: HashMap<String, Instant>,
    /// Whom to tell when definitions change.
    waiting: HashSet<Key>,
}

impl Kinds {
    /// Nothing is known yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and the state is valid after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the cluster serves the kind; none when it does not. Then `key` is told when that may have changed.
    pub async fn find(&self, gvk: &Gvk, key: &Key) -> Result<Option<Served>, kube::Error> {
        let api_version = gvk.api_version();
        {
            let mut state = self.state();
            if let Some(served) = state.served.get(gvk) {
                return Ok(Some(served.clone()));
            }
            if state
                .asked
                .get(&api_version)
                .is_some_and(|at| at.elapsed() < ABSENT_FOR)
            {
                state.waiting.insert(key.clone());
                return Ok(None);
            }
        }
        let list = if gvk.group.is_empty() {
            self.client.list_core_api_resources(&gvk.version).await
        } else {
            self.client.list_api_group_resources(&api_version).await
        };
        let resources = match list {
            Ok(list) => list.resources,
            Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut state = self.state();
        for resource in resources
            .into_iter()
            .filter(|resource| !resource.name.contains('/'))
        {
            let gvk = Gvk {
                group: gvk.group.clone(),
                version: gvk.version.clone(),
                kind: resource.kind,
            };
            state.served.insert(
                gvk,
                Served {
                    resource: resource.name,
                    namespaced: resource.namespaced,
                },
            );
        }
        let found = state.served.get(gvk).cloned();
        if found.is_none() {
            state.asked.insert(api_version, Instant::now());
            state.waiting.insert(key.clone());
        }
        Ok(found)
    }

    /// Forgets everything and tells the keys that wait.
    fn changed(&self, queue: &WorkQueue<Key>, last: bool) {
        let waiting: Vec<Key> = {
            let mut state = self.state();
            state.served.clear();
            state.asked.clear();
            if last {
                state.waiting.drain().collect()
            } else {
                state.waiting.iter().cloned().collect()
            }
        };
        for key in waiting {
            queue.add(key);
        }
    }

    /// Watches the definitions until `cancel`.
    pub async fn run(self: Arc<Self>, queue: Arc<WorkQueue<Key>>, cancel: CancellationToken) {
        let definitions: Api<PartialObjectMeta<CustomResourceDefinition>> =
            Api::all(self.client.clone());
        let stream = watcher::watcher(definitions, watcher::Config::default()).default_backoff();
        futures::pin_mut!(stream);
        let mut tries: Vec<Instant> = Vec::new();
        loop {
            let due = tries.first().copied();
            tokio::select! {
                () = cancel.cancelled() => return,
                event = stream.next() => match event {
                    Some(Ok(_)) => {
                        let now = Instant::now();
                        tries = TRIES_AFTER_CHANGE.iter().map(|after| now + *after).collect();
                    }
                    Some(Err(error)) => tracing::debug!(%error, "the watch of definitions was interrupted"),
                    None => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    tries.remove(0);
                    self.changed(&queue, tries.is_empty());
                }
            }
        }
    }
}
