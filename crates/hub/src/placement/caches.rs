//! What placements look at.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1alpha1::AddOnPlacementScore;
use drover_api::cluster::v1beta1::{Placement, PlacementDecision};
use drover_api::cluster::v1beta2::{ManagedClusterSet, ManagedClusterSetBinding};
use drover_api::names::placement::PLACEMENT_LABEL;
use drover_runtime::mirror::{filled, mirror};
use drover_runtime::queue::WorkQueue;
use drover_runtime::supervise::Tasks;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};
use tokio::sync::Notify;

use super::triggers::{BINDING, SCORE, SET};
use super::{COLLECT, Changes, count};

/// Clusters by how often they stand in decisions, and for which state of the decisions.
type Totals = (u64, Arc<BTreeMap<String, u64>>);

pub(super) struct Caches {
    pub clusters: Store<ManagedCluster>,
    pub sets: Store<ManagedClusterSet>,
    pub bindings: Store<ManagedClusterSetBinding>,
    pub placements: Store<Placement>,
    pub decisions: Store<PlacementDecision>,
    pub scores: Store<AddOnPlacementScore>,
    heard: Arc<Heard>,
    totals: Mutex<Option<Totals>>,
}

/// How often decisions changed.
#[derive(Default)]
struct Heard {
    count: AtomicU64,
    more: Notify,
}

impl Caches {
    pub(super) fn fill(
        client: &Client,
        clusters: Store<ManagedCluster>,
        queue: &Arc<WorkQueue<String>>,
        changes: &Arc<Changes>,
        tasks: &mut Tasks,
    ) -> Arc<Self> {
        let stop = tasks.cancel_token();
        let told = changes.clone();
        let changed =
            move |found: &ManagedClusterSet| told.add(format!("{SET}{}", found.name_any()));
        let all = Api::all(client.clone());
        let (sets, task) = mirror(all, Config::default(), stop.clone(), changed);
        tasks.run("the cache of cluster sets", task);

        let told = changes.clone();
        let changed = move |found: &ManagedClusterSetBinding| {
            told.add(key(BINDING, found));
        };
        let all = Api::all(client.clone());
        let (bindings, task) = mirror(all, Config::default(), stop.clone(), changed);
        tasks.run("the cache of cluster set bindings", task);

        let told = changes.clone();
        let changed = move |found: &AddOnPlacementScore| told.add(key(SCORE, found));
        let all = Api::all(client.clone());
        let (scores, task) = mirror(all, Config::default(), stop.clone(), changed);
        tasks.run("the cache of placement scores", task);

        let told = queue.clone();
        let changed = move |found: &Placement| told.add(key("", found));
        let all = Api::all(client.clone());
        let (placements, task) = mirror(all, Config::default(), stop.clone(), changed);
        tasks.run("the cache of placements", task);

        let (told, heard) = (queue.clone(), Arc::<Heard>::default());
        let hears = heard.clone();
        let changed = move |found: &PlacementDecision| {
            hears.count.fetch_add(1, Ordering::AcqRel);
            hears.more.notify_waiters();
            if let Some(placement) = found.labels().get(PLACEMENT_LABEL) {
                let namespace = found.namespace().unwrap_or_default();
                told.add_after(format!("{namespace}/{placement}"), COLLECT);
            }
        };
        let all = Api::all(client.clone());
        let (decisions, task) = mirror(all, Config::default(), stop, changed);
        tasks.run("the cache of placement decisions", task);

        Arc::new(Self {
            clusters,
            sets,
            bindings,
            placements,
            decisions,
            scores,
            heard,
            totals: Mutex::default(),
        })
    }

    /// Waits until all were read once. A cache that ends before was told to stop.
    pub(super) async fn ready(&self) {
        filled(&self.clusters).await;
        filled(&self.sets).await;
        filled(&self.bindings).await;
        filled(&self.placements).await;
        filled(&self.decisions).await;
        filled(&self.scores).await;
    }

    pub(super) fn decision(&self, namespace: &str, name: &str) -> Option<Arc<PlacementDecision>> {
        self.decisions.get(&ObjectRef::new(name).within(namespace))
    }

    pub(super) fn decisions_of(&self, namespace: &str) -> Vec<Arc<PlacementDecision>> {
        let mut all = self.decisions.state();
        all.retain(|found| found.metadata.namespace.as_deref() == Some(namespace));
        all
    }

    pub(super) fn bindings_of(&self, namespace: &str) -> Vec<Arc<ManagedClusterSetBinding>> {
        let mut all = self.bindings.state();
        all.retain(|found| found.metadata.namespace.as_deref() == Some(namespace));
        all
    }

    pub(super) fn scores_by_cluster(&self) -> HashMap<String, Vec<Arc<AddOnPlacementScore>>> {
        let mut all: HashMap<String, Vec<Arc<AddOnPlacementScore>>> = HashMap::new();
        for found in self.scores.state() {
            let cluster = found.namespace().unwrap_or_default();
            all.entry(cluster).or_default().push(found);
        }
        all
    }

    /// How often clusters stand in decisions of other placements; `of_namespace` are all decisions of its namespace.
    pub(super) fn elsewhere(
        &self,
        placement: &Placement,
        of_namespace: &[Arc<PlacementDecision>],
    ) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::clone(&self.totals());
        let name = placement.metadata.name.as_ref();
        let own = of_namespace
            .iter()
            .filter(|found| found.labels().get(PLACEMENT_LABEL) == name);
        for (cluster, own) in count(own.map(AsRef::as_ref)) {
            if let Some(count) = counts.get_mut(&cluster) {
                *count = count.saturating_sub(own);
            }
        }
        counts.retain(|_, count| *count > 0);
        counts
    }

    fn totals(&self) -> Arc<BTreeMap<String, u64>> {
        // Read before the decisions: what comes in between is counted again next time.
        let heard = self.heard.count.load(Ordering::Acquire);
        let mut known = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, totals)) = known.as_ref().filter(|(at, _)| *at == heard) {
            return totals.clone();
        }
        let all = self.decisions.state();
        let totals = Arc::new(count(all.iter().map(AsRef::as_ref)));
        *known = Some((heard, totals.clone()));
        totals
    }

    /// Waits until the cache shows what was written, or something newer, but not for ever.
    pub(super) async fn show(
        &self,
        written: &HashMap<String, PlacementDecision>,
        namespace: &str,
        limit: Duration,
    ) {
        let shown = async {
            for (name, object) in written {
                loop {
                    let more = self.heard.more.notified();
                    tokio::pin!(more);
                    more.as_mut().enable();
                    let found = self.decision(namespace, name);
                    if found.is_some_and(|found| is_as_new(&found, object)) {
                        break;
                    }
                    more.await;
                }
            }
        };
        if tokio::time::timeout(limit, shown).await.is_err() {
            tracing::debug!(namespace, "the cache does not show yet what was written");
        }
    }
}

/// Versions are numbers that grow (Kubernetes: API concepts, resource versions).
fn is_as_new(found: &PlacementDecision, written: &PlacementDecision) -> bool {
    let version = |object: &PlacementDecision| object.resource_version()?.parse::<u64>().ok();
    match (version(found), version(written)) {
        (Some(found), Some(written)) => found >= written,
        _ => true,
    }
}

fn key(prefix: &str, found: &impl ResourceExt) -> String {
    let namespace = found.namespace().unwrap_or_default();
    format!("{prefix}{namespace}/{}", found.name_any())
}
