//! What the controller of sets knows of the API, and which set a change concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_api::cluster::v1beta1::{Placement, PlacementDecision};
use drover_api::names::placement::PLACEMENT_LABEL;
use drover_api::names::replica_set::SET_LABEL;
use drover_api::work::v1::ManifestWork;
use drover_api::work::v1alpha1::ManifestWorkReplicaSet;
use drover_core::replicaset::{Chosen, key, set_of};
use drover_runtime::mirror::{filled, mirror};
use drover_runtime::queue::WorkQueue;
use drover_runtime::supervise::Tasks;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};

use crate::cache::WorkCache;

/// How long changes of works and decisions are collected: however many there are, a set is planned five times a second at most.
const COLLECT: Duration = Duration::from_millis(200);

/// Which works belong to which set. It names at least all that there are; a name without a work is found out at the cache.
#[derive(Default)]
pub(crate) struct Sets {
    queue: Arc<WorkQueue<String>>,
    known: Mutex<Known>,
}

/// Cluster and name of a work.
type Place = (String, String);

#[derive(Default)]
struct Known {
    /// The works of a set, by `namespace/name` of the set.
    works: HashMap<String, BTreeSet<Place>>,
    /// The set of each work.
    sets: HashMap<Place, String>,
}

impl Sets {
    pub(super) fn queue(&self) -> Arc<WorkQueue<String>> {
        self.queue.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of a work, after the cache did: it belongs to this set now, or to none.
    pub(crate) fn note(&self, work: &ManifestWork) {
        let now = set_of(work).map(|(namespace, name)| format!("{namespace}/{name}"));
        let place = (work.namespace().unwrap_or_default(), work.name_any());
        let mut known = self.known();
        let before = match &now {
            Some(set) => known.sets.insert(place.clone(), set.clone()),
            None => known.sets.remove(&place),
        };
        if before != now
            && let Some(works) = before.as_ref().and_then(|set| known.works.get_mut(set))
        {
            works.remove(&place);
        }
        if let Some(set) = &now {
            known.works.entry(set.clone()).or_default().insert(place);
        }
        drop(known);
        let left = before.filter(|before| Some(before) != now.as_ref());
        for set in left.into_iter().chain(now) {
            self.queue.add_after(set, COLLECT);
        }
    }

    fn works(&self, set: &str) -> Vec<Place> {
        let known = self.known();
        known
            .works
            .get(set)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Forgets a work that the cache does not have any more.
    fn prune(&self, set: &str, place: &Place, works: &WorkCache) {
        let mut known = self.known();
        // Looked at under the lock: who comes back is in the cache before it is noted.
        if works.get(&place.0, &place.1).is_some() {
            return;
        }
        known.sets.remove(place);
        if let Some(found) = known.works.get_mut(set) {
            found.remove(place);
            if found.is_empty() {
                known.works.remove(set);
            }
        }
    }
}

/// Everything that a plan looks at.
pub(super) struct Caches {
    pub sets: Store<ManifestWorkReplicaSet>,
    placements: Store<Placement>,
    decisions: Store<PlacementDecision>,
    pub works: WorkCache,
    known: Arc<Sets>,
}

impl Caches {
    pub(super) fn fill(
        client: &Client,
        works: WorkCache,
        known: Arc<Sets>,
        tasks: &mut Tasks,
    ) -> Self {
        let stop = tasks.cancel_token();
        let queue = known.queue();
        let (sets, task) = mirror(
            Api::all(client.clone()),
            Config::default(),
            stop.clone(),
            move |found: &ManifestWorkReplicaSet| queue.add(name(found)),
        );
        tasks.run("the cache of sets of works", task);
        let follow = follower(&sets, &known);
        let (placements, task) = mirror(
            Api::all(client.clone()),
            Config::default(),
            stop.clone(),
            move |found: &Placement| {
                follow(&found.namespace().unwrap_or_default(), &found.name_any());
            },
        );
        tasks.run("the cache of placements of sets", task);
        let follow = follower(&sets, &known);
        let (decisions, task) = mirror(
            Api::all(client.clone()),
            Config::default().labels(PLACEMENT_LABEL),
            stop,
            move |found: &PlacementDecision| {
                if let Some(placement) = found.labels().get(PLACEMENT_LABEL) {
                    follow(&found.namespace().unwrap_or_default(), placement);
                }
            },
        );
        tasks.run("the cache of decisions for sets", task);
        Self {
            sets,
            placements,
            decisions,
            works,
            known,
        }
    }

    pub(super) async fn ready(&self) {
        filled(&self.sets).await;
        filled(&self.placements).await;
        filled(&self.decisions).await;
        for work in self.works.all() {
            self.known.note(&work);
        }
    }

    /// The works of a set, by cluster.
    pub(super) fn works_of(&self, set: &str) -> Vec<Arc<ManifestWork>> {
        let places = self.known.works(set);
        let works = places.iter().filter_map(|place| {
            let work = self.works.get(&place.0, &place.1);
            if work.is_none() {
                self.known.prune(set, place, &self.works);
            }
            work
        });
        works.collect()
    }

    /// The placements that a set names, as far as they exist.
    pub(super) fn placements_of(
        &self,
        set: &ManifestWorkReplicaSet,
        namespace: &str,
    ) -> Vec<Arc<Placement>> {
        let refs = set.spec.placement_refs.iter();
        let places = refs.map(|reference| ObjectRef::new(&reference.name).within(namespace));
        places
            .filter_map(|place| self.placements.get(&place))
            .collect()
    }

    /// The decisions of a namespace, by placement.
    pub(super) fn decisions_of(
        &self,
        namespace: &str,
    ) -> BTreeMap<String, Vec<Arc<PlacementDecision>>> {
        let mut found: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for decision in self.decisions.state() {
            let placement = decision.labels().get(PLACEMENT_LABEL).cloned();
            if decision.namespace().as_deref() == Some(namespace)
                && let Some(placement) = placement
            {
                found.entry(placement).or_default().push(decision);
            }
        }
        found
    }

    /// The works of chosen clusters that have the name of the set, but not its label.
    pub(super) fn strangers(
        &self,
        set: &ManifestWorkReplicaSet,
        chosen: &BTreeMap<&str, Chosen<'_>>,
    ) -> Vec<Arc<ManifestWork>> {
        let (name, label) = (set.name_any(), key(set));
        let decisions = chosen.values().flat_map(|chosen| &chosen.decisions);
        let clusters = decisions
            .flat_map(|decision| &decision.status)
            .flat_map(|status| &status.decisions);
        let works = clusters.filter_map(|decision| self.works.get(&decision.cluster_name, &name));
        works
            .filter(|work| work.labels().get(SET_LABEL) != Some(&label))
            .collect()
    }
}

fn name(set: &ManifestWorkReplicaSet) -> String {
    format!("{}/{}", set.namespace().unwrap_or_default(), set.name_any())
}

/// Wakes the sets that name a placement.
fn follower(
    sets: &Store<ManifestWorkReplicaSet>,
    known: &Arc<Sets>,
) -> impl Fn(&str, &str) + Send + 'static {
    let (sets, queue) = (sets.clone(), known.queue());
    move |namespace, placement| {
        let follows = |set: &ManifestWorkReplicaSet| {
            set.namespace().as_deref() == Some(namespace)
                && set
                    .spec
                    .placement_refs
                    .iter()
                    .any(|reference| reference.name == placement)
        };
        for set in sets.state().iter().filter(|set| follows(set)) {
            queue.add_after(name(set), COLLECT);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn work(cluster: usize, set: &str) -> ManifestWork {
        serde_json::from_value(json!({"metadata": {
            "name": "web", "namespace": format!("c{cluster}"), "labels": {SET_LABEL: set}}}))
        .expect("a work")
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_changes_are_one_round() {
        let sets = Sets::default();
        for cluster in 0..1000 {
            sets.note(&work(cluster, "apps.web"));
        }
        let queue = sets.queue();
        assert_eq!(queue.next().await, "apps/web");
        queue.done(&"apps/web".to_owned());
        let more = tokio::time::timeout(Duration::from_mins(1), queue.next()).await;
        assert!(more.is_err(), "{more:?}");
        assert_eq!(sets.works("apps/web").len(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_work_that_changes_sets_concerns_both() {
        let sets = Sets::default();
        sets.note(&work(1, "apps.web"));
        sets.note(&work(1, "apps.v1.shop"));
        let queue = sets.queue();
        let mut told = [queue.next().await, queue.next().await];
        told.sort();
        assert_eq!(told, ["apps/v1.shop", "apps/web"]);
        assert!(sets.works("apps/web").is_empty());
        assert_eq!(sets.works("apps/v1.shop").len(), 1);
    }
}
