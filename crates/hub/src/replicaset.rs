//! Does what [`drover_core::replicaset`] plans for each set of works.

mod caches;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use drover_api::names::replica_set::FINALIZER;
use drover_api::work::v1::ManifestWork;
use drover_api::work::v1alpha1::ManifestWorkReplicaSet;
use drover_core::replicaset::{self, Action, Chosen, Seen};
use drover_runtime::clock::Clock;
use drover_runtime::controller::{self, Next};
use drover_runtime::queue::WorkQueue;
use drover_runtime::supervise::Tasks;
use futures::{StreamExt as _, stream};
use kube::api::{DeleteParams, Patch, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::HubError;
use crate::cache::WorkCache;
use crate::works::params;
use caches::Caches;
use memory::Memory;

pub(crate) use caches::Sets;

/// Sets that are worked on at the same time.
const WORKERS: usize = 4;
/// Works of one set that are written at the same time.
const WRITES: usize = 16;

/// The controller of sets of works.
pub(crate) struct ReplicaSets {
    client: Client,
    clock: Clock,
    caches: Caches,
    queue: Arc<WorkQueue<String>>,
    memory: Memory,
}

impl ReplicaSets {
    /// `sets` must hear of every work that `works` gets (see [`Sets::note`]).
    pub(crate) fn new(
        client: &Client,
        clock: &Clock,
        works: WorkCache,
        sets: Arc<Sets>,
        tasks: &mut Tasks,
    ) -> Self {
        Self {
            client: client.clone(),
            clock: clock.clone(),
            queue: sets.queue(),
            caches: Caches::fill(client, works, sets, tasks),
            memory: Memory::default(),
        }
    }

    /// Waits until everything was read once. The works must be ready before.
    pub(crate) async fn ready(&self) {
        self.caches.ready().await;
    }

    /// Serves until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        controller::run(
            "sets of works",
            self.queue.clone(),
            WORKERS,
            stop,
            |key| async move { self.reconcile(&key).await },
        )
        .await;
    }

    /// One round for one set.
    async fn reconcile(&self, key: &str) -> Result<Next, HubError> {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let Some(set) = self
            .caches
            .sets
            .get(&ObjectRef::new(name).within(namespace))
        else {
            self.memory.forget(key);
            return Ok(Next::OnChange);
        };
        let works = self.caches.works_of(key);
        // A plan must know what was written before, or it writes to more clusters than may change.
        if let Some(wait) = self
            .memory
            .unseen(key, |cluster, name| self.caches.works.get(cluster, name))
        {
            return Ok(Next::After(wait));
        }
        let now = self.clock.now();
        let plan = self.plan(&set, namespace, &works, now);
        let (actions, doubts) = self.memory.doubt(key, plan.actions, now);
        let mut round = Round {
            sets: self,
            key,
            set: ManifestWorkReplicaSet::clone(&set),
        };
        round.act(actions).await?;
        let again = plan
            .again_at
            .map(|time| time.duration_since(now).unsigned_abs());
        let next = again.into_iter().chain(doubts).min();
        Ok(next.map_or(Next::OnChange, |wait| {
            Next::After(wait + Duration::from_millis(1))
        }))
    }

    fn plan(
        &self,
        set: &ManifestWorkReplicaSet,
        namespace: &str,
        works: &[Arc<ManifestWork>],
        now: jiff::Timestamp,
    ) -> replicaset::Plan {
        let placements = self.caches.placements_of(set, namespace);
        let decisions = self.caches.decisions_of(namespace);
        let chosen = placements.iter().map(|placement| {
            let name = placement.metadata.name.as_deref().unwrap_or_default();
            let decisions = decisions
                .get(name)
                .into_iter()
                .flatten()
                .map(AsRef::as_ref)
                .collect();
            (
                name,
                Chosen {
                    placement,
                    decisions,
                },
            )
        });
        let chosen = chosen.collect();
        let strangers = self.caches.strangers(set, &chosen);
        let seen = Seen {
            set,
            placements: chosen,
            works: works.iter().map(AsRef::as_ref).collect(),
            strangers: strangers.iter().map(AsRef::as_ref).collect(),
        };
        replicaset::plan(&seen, now)
    }
}

/// One round for one set.
struct Round<'r> {
    sets: &'r ReplicaSets,
    key: &'r str,
    /// As the API answered last.
    set: ManifestWorkReplicaSet,
}

impl Round<'_> {
    /// A work that cannot be written does not keep the others; the set keeps its finalizer then.
    async fn act(&mut self, actions: Vec<Action>) -> Result<(), HubError> {
        let (works, own): (Vec<_>, Vec<_>) = actions.into_iter().partition(|action| {
            matches!(
                action,
                Action::Create(_) | Action::Update { .. } | Action::Delete { .. }
            )
        });
        let mut own = own.into_iter().peekable();
        if own.next_if_eq(&Action::AddFinalizer).is_some() {
            self.finalizers(|list| list.push(FINALIZER.to_owned()))
                .await?;
        }
        let this = &*self;
        let writes = stream::iter(works).map(|action| async move { this.write(action).await });
        let results: Vec<_> = writes.buffer_unordered(WRITES).collect().await;
        let failed = results.into_iter().find_map(Result::err);
        for action in own {
            match action {
                Action::SetStatus(status) => self.set_status(&json!(status)).await?,
                Action::RemoveFinalizer if failed.is_none() => {
                    self.finalizers(|list| list.retain(|name| name != FINALIZER))
                        .await?;
                }
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn write(&self, action: Action) -> Result<(), HubError> {
        match action {
            Action::Create(work) => self.create(*work).await,
            Action::Update {
                cluster,
                name,
                labels,
                spec,
            } => {
                let has_labels = (self.sets.caches.works.get(&cluster, &name))
                    .is_some_and(|work| work.metadata.labels.is_some());
                let mut patch = vec![json!({"op": "replace", "path": "/spec", "value": spec})];
                if has_labels {
                    patch.extend(labels.iter().map(|(label, value)| {
                        let label = label.replace('~', "~0").replace('/', "~1");
                        json!({"op": "add", "path": format!("/metadata/labels/{label}"), "value": value})
                    }));
                } else {
                    patch.push(json!({"op": "add", "path": "/metadata/labels", "value": labels}));
                }
                self.update(&cluster, &name, Value::Array(patch)).await
            }
            Action::Delete { cluster, name, .. } => {
                let api: Api<ManifestWork> = Api::namespaced(self.sets.client.clone(), &cluster);
                match api.delete(&name, &DeleteParams::default()).await {
                    Ok(_) => Ok(()),
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                    Err(error) => Err(self.failed(&cluster, &name, error)),
                }
            }
            Action::AddFinalizer | Action::SetStatus(_) | Action::RemoveFinalizer => Ok(()),
        }
    }

    async fn create(&self, work: ManifestWork) -> Result<(), HubError> {
        let (cluster, name) = (work.namespace().unwrap_or_default(), work.name_any());
        let api: Api<ManifestWork> = Api::namespaced(self.sets.client.clone(), &cluster);
        match api
            .create(
                &PostParams {
                    field_manager: params().field_manager,
                    ..PostParams::default()
                },
                &work,
            )
            .await
        {
            Ok(made) => {
                self.sets.memory.wrote(self.key, &cluster, &name, &made);
                Ok(())
            }
            // The cache will show whose it is.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(self.failed(&cluster, &name, error)),
        }
    }

    async fn update(&self, cluster: &str, name: &str, patch: Value) -> Result<(), HubError> {
        let patch =
            serde_json::from_value(patch).map_err(|error| HubError::Internal(error.to_string()))?;
        let api: Api<ManifestWork> = Api::namespaced(self.sets.client.clone(), cluster);
        let made = api
            .patch(name, &params(), &Patch::<ManifestWork>::Json(patch))
            .await;
        let made = made.map_err(|error| self.failed(cluster, name, error))?;
        self.sets.memory.wrote(self.key, cluster, name, &made);
        Ok(())
    }

    fn failed(&self, cluster: &str, name: &str, error: kube::Error) -> HubError {
        HubError::write(
            "manifest work",
            format!("{cluster}/{name} of the set {}", self.key),
            error,
        )
    }

    fn api(&self) -> Api<ManifestWorkReplicaSet> {
        let namespace = self.set.namespace().unwrap_or_default();
        Api::namespaced(self.sets.client.clone(), &namespace)
    }

    /// Merge patches fail when somebody else wrote in between.
    async fn finalizers(&mut self, change: impl FnOnce(&mut Vec<String>)) -> Result<(), HubError> {
        let mut finalizers = self.set.finalizers().to_vec();
        change(&mut finalizers);
        let patch = json!({"metadata": {"resourceVersion": self.set.resource_version(), "finalizers": finalizers}});
        let written = self
            .api()
            .patch(&self.set.name_any(), &params(), &Patch::Merge(patch))
            .await;
        self.keep("set of works", written)
    }

    async fn set_status(&mut self, status: &Value) -> Result<(), HubError> {
        let patch =
            json!({"metadata": {"resourceVersion": self.set.resource_version()}, "status": status});
        let name = self.set.name_any();
        let written = self
            .api()
            .patch_status(&name, &params(), &Patch::Merge(patch))
            .await;
        self.keep("status of the set of works", written)
    }

    fn keep(
        &mut self,
        what: &str,
        written: Result<ManifestWorkReplicaSet, kube::Error>,
    ) -> Result<(), HubError> {
        match written {
            Ok(written) => {
                self.set = written;
                Ok(())
            }
            // Somebody else removed the last finalizer.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(HubError::write(what, self.key, error)),
        }
    }
}
