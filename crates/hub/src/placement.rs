//! Does what [`drover_core::placement`] plans for each placement.

mod caches;
mod notes;
mod triggers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta1::{Placement, PlacementDecision, PlacementStatus};
use drover_core::placement::{self, Action, Seen};
use drover_runtime::clock::Clock;
use drover_runtime::controller::{self, Next};
use drover_runtime::queue::WorkQueue;
use drover_runtime::supervise::Tasks;
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PostParams, Preconditions};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::HubError;
use crate::sets::Sets;
use crate::works::params;
use caches::Caches;
use notes::Notes;
use triggers::Triggers;

/// How long changes of clusters, scores, sets and decisions are collected before a placement is planned again: however many change, a
/// placement is planned five times a second at most.
const COLLECT: Duration = Duration::from_millis(200);
/// How long a round waits until the cache shows what it wrote; the next placement shall see it.
const SHOWN: Duration = Duration::from_secs(1);

/// Rounds of sets, bindings and clusters that run at the same time.
const SET_WORKERS: usize = 4;

/// The controller of placements.
struct Placements {
    client: Client,
    clock: Clock,
    caches: Arc<Caches>,
    notes: Notes,
}

/// Changes of objects that cluster sets and placements look at.
pub(crate) type Changes = WorkQueue<String>;

/// The controllers of cluster sets and placements.
pub(crate) struct Placing {
    caches: Arc<Caches>,
    changes: Arc<Changes>,
    queue: Arc<WorkQueue<String>>,
    sets_queue: Arc<WorkQueue<String>>,
    placements: Placements,
    triggers: Triggers,
    sets: Sets,
}

impl Placing {
    /// Fills the caches. `changes` must hear of every cluster that `clusters` gets (see [`cluster_changed`]), and somebody else waits for
    /// `clusters` to be ready.
    pub(crate) fn new(
        client: &Client,
        clock: &Clock,
        clusters: Store<ManagedCluster>,
        changes: Arc<Changes>,
        tasks: &mut Tasks,
    ) -> Self {
        let queue: Arc<WorkQueue<String>> = Arc::default();
        let sets_queue: Arc<WorkQueue<String>> = Arc::default();
        let caches = Caches::fill(client, clusters, &queue, &changes, tasks);
        let (notes, publish) = notes::new(client, tasks.cancel_token());
        tasks.run("the events of placements", publish);
        let placements = Placements {
            client: client.clone(),
            clock: clock.clone(),
            caches: caches.clone(),
            notes,
        };
        let triggers = Triggers {
            caches: caches.clone(),
            placements: queue.clone(),
            sets: sets_queue.clone(),
            known: std::sync::Mutex::default(),
        };
        let sets = Sets::new(
            client,
            clock,
            &caches.clusters,
            &caches.sets,
            &caches.bindings,
        );
        sets_queue.add(Sets::FIRST.to_owned());
        Self {
            caches,
            changes,
            queue,
            sets_queue,
            placements,
            triggers,
            sets,
        }
    }

    /// Waits until the caches are filled. Once only: a cache wakes one of those that wait for it.
    pub(crate) async fn ready(&self) {
        self.caches.ready().await;
    }

    /// Runs the controllers until `stop`.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let (placements, triggers, sets) = (&self.placements, &self.triggers, &self.sets);
        tokio::join!(
            controller::run(
                "changes of clusters",
                self.changes.clone(),
                1,
                stop.clone(),
                |key| async move {
                    triggers.reconcile(&key);
                    Ok::<_, HubError>(Next::OnChange)
                }
            ),
            controller::run(
                "cluster sets",
                self.sets_queue.clone(),
                SET_WORKERS,
                stop.clone(),
                |key| async move { sets.reconcile(&key).await }
            ),
            // One at a time: each shall see what the others chose.
            controller::run(
                "placements",
                self.queue.clone(),
                1,
                stop.clone(),
                |key| async move { placements.reconcile(&key).await }
            ),
        );
    }
}

/// Notes that a cluster changed.
pub(crate) fn cluster_changed(changes: &Changes, cluster: &ManagedCluster) {
    changes.add(format!("{}{}", triggers::CLUSTER, cluster.name_any()));
}

impl Placements {
    async fn reconcile(&self, key: &str) -> Result<Next, HubError> {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let reference = ObjectRef::new(name).within(namespace);
        let Some(found) = self.caches.placements.get(&reference) else {
            return Ok(Next::OnChange);
        };
        let now = self.clock.now();
        let actions = self.plan(&found, namespace, now);
        let mut round = Round {
            placement: &found,
            namespace,
            decisions: Api::namespaced(self.client.clone(), namespace),
            placements: Api::namespaced(self.client.clone(), namespace),
            written: HashMap::new(),
        };
        let (mut next, mut told) = (Next::OnChange, Vec::new());
        for action in actions {
            match action {
                Action::WakeAt(time) => {
                    let wait = time.duration_since(now).unsigned_abs();
                    next = Next::After(wait + Duration::from_millis(1));
                }
                Action::Tell(note) => told.push(note),
                action => round.act(&self.caches, action).await?,
            }
        }
        for note in told {
            let uid = round.written.get(&note.decision).and_then(ResourceExt::uid);
            self.notes.tell(&found, note, uid);
        }
        self.caches.show(&round.written, namespace, SHOWN).await;
        Ok(next)
    }

    fn plan(&self, placement: &Placement, namespace: &str, now: Timestamp) -> Vec<Action> {
        let caches = &self.caches;
        let (sets, clusters) = (caches.sets.state(), caches.clusters.state());
        let of_namespace = caches.decisions_of(namespace);
        let elsewhere = caches.elsewhere(placement, &of_namespace);
        let scores = std::cell::OnceCell::new();
        let seen = Seen {
            placement,
            sets: &sets,
            bindings: &caches.bindings_of(namespace),
            clusters: &clusters,
            decisions: &of_namespace,
            elsewhere: &elsewhere,
            scores: &|cluster: &str| {
                let all: &HashMap<_, Vec<_>> = scores.get_or_init(|| caches.scores_by_cluster());
                all.get(cluster).cloned().unwrap_or_default()
            },
        };
        placement::plan(&seen, now)
    }
}

/// One round for one placement.
struct Round<'r> {
    placement: &'r Placement,
    namespace: &'r str,
    decisions: Api<PlacementDecision>,
    placements: Api<Placement>,
    /// What was written, as the API answered.
    written: HashMap<String, PlacementDecision>,
}

impl Round<'_> {
    async fn act(&mut self, caches: &Caches, action: Action) -> Result<(), HubError> {
        match action {
            Action::CreateDecision(object) => {
                let name = object.name_any();
                let made = self.decisions.create(&PostParams::default(), &object).await;
                self.keep(name, made)
            }
            Action::SetDecisions { name, decisions } => {
                let version = self.version(caches, &name);
                let patch = json!({"metadata": {"resourceVersion": version}, "status": {"decisions": decisions}});
                let patch = Patch::Merge(patch);
                let made = self.decisions.patch_status(&name, &params(), &patch).await;
                self.keep(name, made)
            }
            Action::SetLabels { name, labels } => {
                let version = self.version(caches, &name);
                let patch = json!({"metadata": {"resourceVersion": version, "labels": labels}});
                let patch = Patch::Merge(patch);
                let made = self.decisions.patch(&name, &params(), &patch).await;
                self.keep(name, made)
            }
            Action::DeleteDecision(name) => self.delete(caches, &name).await,
            Action::SetStatus(status) => self.set_status(status).await,
            // The caller's.
            Action::Tell(_) | Action::WakeAt(_) => Ok(()),
        }
    }

    /// The version that the plan saw, or that this round wrote since.
    fn version(&self, caches: &Caches, name: &str) -> Option<String> {
        let written = self.written.get(name).map(Resource::meta);
        let cached = caches.decision(self.namespace, name);
        let meta = written.or(cached.as_ref().map(|found| found.meta()));
        meta.and_then(|meta| meta.resource_version.clone())
    }

    fn keep(
        &mut self,
        name: String,
        made: Result<PlacementDecision, kube::Error>,
    ) -> Result<(), HubError> {
        let shown = format!("{}/{name}", self.namespace);
        let made = made.map_err(|error| HubError::write("placement decision", shown, error))?;
        self.written.insert(name, made);
        Ok(())
    }

    async fn delete(&self, caches: &Caches, name: &str) -> Result<(), HubError> {
        let found = caches.decision(self.namespace, name);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: found.and_then(|found| found.uid()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.decisions.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => {
                let shown = format!("{}/{name}", self.namespace);
                Err(HubError::write("placement decision", shown, error))
            }
        }
    }

    async fn set_status(&self, status: PlacementStatus) -> Result<(), HubError> {
        let name = self.placement.name_any();
        let patch = json!({
            "metadata": {"resourceVersion": self.placement.resource_version()},
            "status": {
                "numberOfSelectedClusters": status.number_of_selected_clusters,
                "decisionGroups": status.decision_groups,
                "conditions": status.conditions,
                "lastScoreUpdateTime": status.last_score_update_time,
            },
        });
        let written = self
            .placements
            .patch_status(&name, &params(), &Patch::Merge(patch))
            .await;
        let shown = format!("{}/{name}", self.namespace);
        written
            .map(|_| ())
            .map_err(|error| HubError::write("status of placement", shown, error))
    }
}

/// How often clusters stand in decisions.
fn count<'d>(decisions: impl IntoIterator<Item = &'d PlacementDecision>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for found in decisions {
        for decision in found.status.iter().flat_map(|status| &status.decisions) {
            *counts.entry(decision.cluster_name.clone()).or_default() += 1;
        }
    }
    counts
}
