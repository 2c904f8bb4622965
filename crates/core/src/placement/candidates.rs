//! The clusters that a placement may choose from: those of the sets that are bound to its namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta2::ManagedClusterSet;

use super::{Misconfigured, Seen};
use crate::sets;

/// What there is to choose from.
pub(super) struct Candidates<'a> {
    /// How many bindings of the namespace have a set that exists.
    pub bindings: usize,
    /// The names of the sets, in order.
    pub sets: Vec<&'a str>,
    clusters: Result<Vec<&'a ManagedCluster>, Misconfigured>,
}

impl<'a> Candidates<'a> {
    /// The clusters by name, or why that cannot be told.
    pub(super) fn clusters(&self) -> Result<&[&'a ManagedCluster], Misconfigured> {
        self.clusters.as_deref().map_err(Clone::clone)
    }

    /// Names of the clusters that may stay chosen: where the sets cannot tell, all that there are.
    pub(super) fn names(&self, seen: &Seen<'a>) -> BTreeSet<&'a str> {
        if let Ok(clusters) = &self.clusters {
            return clusters.iter().map(|cluster| name_of(cluster)).collect();
        }
        let all = seen.clusters.iter().map(AsRef::as_ref);
        let stay = all.filter(|cluster| cluster.metadata.deletion_timestamp.is_none());
        stay.map(name_of).collect()
    }
}

pub(super) fn name_of(cluster: &ManagedCluster) -> &str {
    cluster.metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn find<'a>(seen: &Seen<'a>) -> Candidates<'a> {
    let namespace = &seen.placement.metadata.namespace;
    let by_name: BTreeMap<&str, &'a Arc<ManagedClusterSet>> = seen
        .sets
        .iter()
        .filter_map(|set| Some((set.metadata.name.as_deref()?, set)))
        .collect();
    // A binding has the name of its set; upstream looks at nothing else of it.
    let bound: BTreeMap<&str, &'a Arc<ManagedClusterSet>> = seen
        .bindings
        .iter()
        .filter(|binding| binding.metadata.namespace == *namespace)
        .filter_map(|binding| by_name.get_key_value(binding.metadata.name.as_deref()?))
        .map(|(name, set)| (*name, *set))
        .collect();
    let asked = &seen.placement.spec.cluster_sets;
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|set| set == name);
    let chosen: Vec<(&'a str, &'a Arc<ManagedClusterSet>)> = bound
        .iter()
        .filter(|(name, _)| is_asked(name))
        .map(|(name, set)| (*name, *set))
        .collect();
    Candidates {
        bindings: bound.len(),
        clusters: clusters(seen, &chosen),
        sets: chosen.into_iter().map(|(name, _)| name).collect(),
    }
}

fn clusters<'a>(
    seen: &Seen<'a>,
    sets: &[(&'a str, &'a Arc<ManagedClusterSet>)],
) -> Result<Vec<&'a ManagedCluster>, Misconfigured> {
    let members = sets.iter().map(|(name, set)| {
        sets::members(set).map_err(|error| {
            let detail = format!("the selector of set {name} cannot be followed: {error}");
            Misconfigured::new("ManagedClusterSet", detail)
        })
    });
    let members: Vec<_> = members.collect::<Result<_, _>>()?;
    let mut clusters: Vec<&ManagedCluster> = seen
        .clusters
        .iter()
        .map(AsRef::as_ref)
        .filter(|cluster| cluster.metadata.deletion_timestamp.is_none())
        .filter(|cluster| {
            let labels = cluster.metadata.labels.as_ref();
            members.iter().any(|members| members.matches_labels(labels))
        })
        .collect();
    clusters.sort_by(|one, other| name_of(one).cmp(name_of(other)));
    clusters.dedup_by(|one, other| name_of(one) == name_of(other));
    Ok(clusters)
}
