//! Decision groups: who is in which, as the labels of PlacementDecisions say (sdk-go: pkg/apis/cluster/v1beta1/placement.go).

use std::collections::{BTreeMap, BTreeSet};

use drover_api::cluster::v1alpha1::MandatoryDecisionGroup;
use drover_api::cluster::v1beta1::PlacementDecision;
use drover_api::names::placement::{GROUP_INDEX_LABEL, GROUP_NAME_LABEL};
use kube::ResourceExt;

/// Names a decision group. Groups come in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// From 0.
    pub index: i32,
    /// Empty when it has none.
    pub name: String,
}

/// A decision that does not say which group it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the label {GROUP_INDEX_LABEL} of PlacementDecision {decision} is {value:?}: it must be a number"
)]
pub struct BadGroup {
    /// The name of the decision.
    pub decision: String,
    /// What the label says.
    pub value: String,
}

/// The clusters of a placement by group, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(BTreeMap<GroupKey, BTreeSet<String>>);

impl FromIterator<(GroupKey, BTreeSet<String>)> for Groups {
    fn from_iter<I: IntoIterator<Item = (GroupKey, BTreeSet<String>)>>(groups: I) -> Self {
        Self(groups.into_iter().collect())
    }
}

impl Groups {
    /// The groups of one placement's decisions, in any order.
    ///
    /// # Errors
    /// When a decision does not name its group.
    pub fn read<'d>(
        decisions: impl IntoIterator<Item = &'d PlacementDecision>,
    ) -> Result<Self, BadGroup> {
        let mut groups: BTreeMap<GroupKey, BTreeSet<String>> = BTreeMap::new();
        for decision in decisions {
            let label = |name: &str| decision.labels().get(name).map_or("", String::as_str);
            let value = label(GROUP_INDEX_LABEL);
            let index = value.parse().map_err(|_| BadGroup {
                decision: decision.name_any(),
                value: value.to_owned(),
            })?;
            let name = label(GROUP_NAME_LABEL).to_owned();
            let group = groups.entry(GroupKey { index, name }).or_default();
            let chosen = decision.status.iter().flat_map(|status| &status.decisions);
            group.extend(
                chosen
                    .map(|chosen| chosen.cluster_name.clone())
                    .filter(|name| !name.is_empty()),
            );
        }
        Ok(Self(groups))
    }

    /// Whether there is no group at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The clusters of each group, in order.
    pub fn iter(&self) -> impl Iterator<Item = &BTreeSet<String>> {
        self.0.values()
    }

    /// Every cluster once.
    pub fn clusters(&self) -> BTreeSet<&str> {
        self.0.values().flatten().map(String::as_str).collect()
    }

    /// How many clusters there are.
    pub fn cluster_count(&self) -> usize {
        self.clusters().len()
    }

    /// The group of each cluster: the first that has it, while decisions change.
    pub fn by_cluster(&self) -> BTreeMap<&str, &GroupKey> {
        let mut of = BTreeMap::new();
        for (key, clusters) in &self.0 {
            for cluster in clusters {
                of.entry(cluster.as_str()).or_insert(key);
            }
        }
        of
    }

    /// The groups that are named, whatever the order of the names.
    pub fn select(&self, named: &[MandatoryDecisionGroup]) -> Self {
        let is_named = |key: &GroupKey| {
            named.iter().any(|group| match group.group_name.as_str() {
                "" => key.index == group.group_index,
                name => key.name == name,
            })
        };
        let chosen = self.0.iter().filter(|(key, _)| is_named(key));
        chosen
            .map(|(key, clusters)| (key.clone(), clusters.clone()))
            .collect()
    }

    /// The groups that `others` does not have.
    pub fn without(&self, others: &Self) -> Self {
        let rest = self
            .0
            .iter()
            .filter(|(key, _)| !others.0.contains_key(*key));
        rest.map(|(key, clusters)| (key.clone(), clusters.clone()))
            .collect()
    }

    /// Removes clusters for which `keep` says no; groups stay, empty if need be.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        for clusters in self.0.values_mut() {
            clusters.retain(|cluster| keep(cluster));
        }
    }
}
