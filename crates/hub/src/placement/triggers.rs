//! From what changed to the placements and sets that look at it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta1::Placement;
use drover_core::{placement, sets};
use drover_runtime::queue::WorkQueue;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::COLLECT;
use super::caches::Caches;
use crate::sets::Sets;

/// Prefix of the keys of clusters.
pub(super) const CLUSTER: &str = "cluster/";
/// Prefix of the keys of sets.
pub(super) const SET: &str = "set/";
/// Prefix of the keys of bindings, with their namespaces.
pub(super) const BINDING: &str = "binding/";
/// Prefix of the keys of scores, with their namespaces.
pub(super) const SCORE: &str = "score/";

pub(super) struct Triggers {
    pub caches: Arc<Caches>,
    pub placements: Arc<WorkQueue<String>>,
    pub sets: Arc<WorkQueue<String>>,
    /// The clusters as they were last looked at.
    pub known: Mutex<HashMap<String, Arc<ManagedCluster>>>,
}

impl Triggers {
    /// Something changed.
    pub(super) fn reconcile(&self, key: &str) {
        if let Some(name) = key.strip_prefix(CLUSTER) {
            self.cluster(name);
        } else if let Some(name) = key.strip_prefix(SET) {
            self.sets.add(key.to_owned());
            for binding in self.caches.bindings.state() {
                if binding.name_any() == name {
                    let namespace = binding.namespace().unwrap_or_default();
                    self.sets.add(format!("{BINDING}{namespace}/{name}"));
                    self.bound(&namespace, &[name], |_| true);
                }
            }
        } else if let Some((namespace, name)) = split(key, BINDING) {
            self.sets.add(key.to_owned());
            self.bound(namespace, &[name], |_| true);
        } else if let Some((cluster, name)) = split(key, SCORE)
            && let Some(found) = self.caches.clusters.get(&ObjectRef::new(cluster))
        {
            self.clusters(&[&found], |it| placement::uses_score(it, name));
        }
    }

    fn cluster(&self, name: &str) {
        let now = self.caches.clusters.get(&ObjectRef::new(name));
        let before = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match &now {
                Some(now) => known.insert(name.to_owned(), now.clone()),
                None => known.remove(name),
            }
        };
        self.sets.add(format!("{CLUSTER}{name}"));
        let labels =
            |it: &Option<Arc<ManagedCluster>>| it.as_ref().map(|it| it.metadata.labels.clone());
        if labels(&before) != labels(&now) {
            for set in self.caches.sets.state() {
                self.sets
                    .add_after(format!("{SET}{}", set.name_any()), Sets::COLLECT);
            }
        }
        let matters = match (&before, &now) {
            (Some(before), Some(now)) => placement::matters(before, now),
            _ => true,
        };
        let both: Vec<&ManagedCluster> = [&before, &now]
            .into_iter()
            .flatten()
            .map(AsRef::as_ref)
            .collect();
        self.clusters(&both, |it| matters || placement::has_expressions(it));
    }

    /// Plans those placements that these clusters are candidates of, and that care.
    fn clusters(&self, clusters: &[&ManagedCluster], cares: impl Fn(&Placement) -> bool) {
        let all = self.caches.sets.state();
        let names: BTreeSet<&str> = clusters
            .iter()
            .flat_map(|it| {
                sets::of_labels(it.metadata.labels.as_ref(), all.iter().map(AsRef::as_ref))
            })
            .collect();
        let names: Vec<&str> = names.into_iter().collect();
        let bindings = self.caches.bindings.state();
        let bound = bindings
            .iter()
            .filter(|it| names.contains(&it.name_any().as_str()));
        let namespaces: BTreeSet<String> = bound.filter_map(|it| it.namespace()).collect();
        for found in self.caches.placements.state() {
            let namespace = found.namespace().unwrap_or_default();
            if namespaces.contains(&namespace) && asks_for(&found, &names) && cares(&found) {
                self.plan(&found);
            }
        }
    }

    /// Plans those placements of a namespace that ask for one of these sets, and that care.
    fn bound(&self, namespace: &str, sets: &[&str], cares: impl Fn(&Placement) -> bool) {
        for found in self.caches.placements.state() {
            let here = found.metadata.namespace.as_deref() == Some(namespace);
            if here && asks_for(&found, sets) && cares(&found) {
                self.plan(&found);
            }
        }
    }

    fn plan(&self, placement: &Placement) {
        let namespace = placement.namespace().unwrap_or_default();
        let key = format!("{namespace}/{}", placement.name_any());
        self.placements.add_after(key, COLLECT);
    }
}

fn asks_for(placement: &Placement, sets: &[&str]) -> bool {
    let asked = &placement.spec.cluster_sets;
    asked.is_empty() || asked.iter().any(|set| sets.contains(&set.as_str()))
}

fn split<'k>(key: &'k str, prefix: &str) -> Option<(&'k str, &'k str)> {
    key.strip_prefix(prefix)?.split_once('/')
}
