//! Sets of clusters: who belongs to one, what a set and a binding say of themselves, and the two sets that every hub has (ocm:
//! pkg/registration/hub/{managedclusterset,managedclustersetbinding}; sdk-go: pkg/apis/cluster/v1beta2).

use std::collections::BTreeMap;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta2::{
    ManagedClusterSelector, ManagedClusterSet, ManagedClusterSetBinding, ManagedClusterSetSpec,
    SelectorType,
};
use drover_api::conditions::{self, Status, condition};
use drover_api::names::{self, cluster_set as words};
use drover_api::{Condition, LabelSelector, Time};
use jiff::Timestamp;

use crate::selector::{Selector, SelectorError};

/// With the value `false` a built-in set is left as somebody changed it (ocm, pkg/registration/hub/managedclusterset).
pub const AUTO_UPDATE_ANNOTATION: &str = "cluster.open-cluster-management.io/autoupdate";

/// The sets that every hub has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// Clusters that name no other set.
    Default,
    /// All clusters.
    Global,
}

impl BuiltIn {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Default, Self::Global];

    /// The set's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => names::cluster_set::DEFAULT,
            Self::Global => names::cluster_set::GLOBAL,
        }
    }

    /// How the set chooses its clusters.
    pub fn selector(self) -> ManagedClusterSelector {
        match self {
            Self::Default => ManagedClusterSelector::default(),
            Self::Global => ManagedClusterSelector {
                selector_type: SelectorType::LabelSelector,
                label_selector: Some(LabelSelector::default()),
            },
        }
    }

    /// What to do so that the set is there and chooses as it should. Everything else in it is free.
    pub fn plan(self, found: Option<&ManagedClusterSet>) -> Option<Repair> {
        let Some(found) = found else {
            let spec = ManagedClusterSetSpec {
                cluster_selector: self.selector(),
                managed_namespaces: Vec::new(),
            };
            let set = ManagedClusterSet::new(self.name(), spec);
            return Some(Repair::Create(Box::new(set)));
        };
        let annotations = found.metadata.annotations.as_ref();
        let left_alone = annotations
            .and_then(|all| all.get(AUTO_UPDATE_ANNOTATION))
            .is_some_and(|value| value == "false");
        let leaving = found.metadata.deletion_timestamp.is_some();
        let same = is_same(&found.spec.cluster_selector, &self.selector());
        (!left_alone && !leaving && !same).then(|| Repair::Restore(self.selector()))
    }
}

/// Absent and empty are the same in a selector, but for whether there is one.
fn is_same(one: &ManagedClusterSelector, other: &ManagedClusterSelector) -> bool {
    let parts = |selector: &ManagedClusterSelector| {
        selector.label_selector.clone().map(|labels| {
            (
                labels.match_labels.unwrap_or_default(),
                labels.match_expressions.unwrap_or_default(),
            )
        })
    };
    one.selector_type == other.selector_type && parts(one) == parts(other)
}

/// What a built-in set needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Repair {
    /// It is not there.
    Create(Box<ManagedClusterSet>),
    /// It chooses other clusters than it should.
    Restore(ManagedClusterSelector),
}

/// Which clusters a set has, by their labels.
pub fn members(set: &ManagedClusterSet) -> Result<Selector, SelectorError> {
    let chosen = &set.spec.cluster_selector;
    match (chosen.selector_type, &chosen.label_selector) {
        (SelectorType::ExclusiveClusterSetLabel, _) => {
            let name = set.metadata.name.as_deref().unwrap_or_default();
            Ok(Selector::equal(names::CLUSTER_SET_LABEL, name))
        }
        (SelectorType::LabelSelector, Some(labels)) => Selector::labels(labels),
        (SelectorType::LabelSelector, None) => Ok(Selector::nothing()),
    }
}

/// The sets that clusters with these labels belong to, by name. A set that nobody can follow has no clusters.
pub fn of_labels<'s>(
    labels: Option<&BTreeMap<String, String>>,
    sets: impl IntoIterator<Item = &'s ManagedClusterSet>,
) -> Vec<&'s str> {
    let sets = sets.into_iter();
    let of = |set: &ManagedClusterSet| members(set).is_ok_and(|it| it.matches_labels(labels));
    sets.filter(|set| of(set))
        .filter_map(|set| set.metadata.name.as_deref())
        .collect()
}

/// The condition of a set that differs from what it says now. It counts leaving clusters, too.
pub fn set_condition<'c>(
    set: &ManagedClusterSet,
    clusters: impl IntoIterator<Item = &'c ManagedCluster>,
    now: Timestamp,
) -> Result<Option<Condition>, SelectorError> {
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let members = members(set)?;
    let count = clusters
        .into_iter()
        .filter(|cluster| members.matches_labels(cluster.metadata.labels.as_ref()))
        .count();
    let new = if count == 0 {
        let message = "No ManagedCluster selected".to_owned();
        (Status::True, words::REASON_NO_CLUSTER, message)
    } else {
        let message = format!("{count} ManagedClusters selected");
        (Status::False, words::REASON_CLUSTERS_SELECTED, message)
    };
    let known = set.status.as_ref().map(|status| &*status.conditions);
    let generation = set.metadata.generation;
    Ok(changed(known, words::EMPTY, new, generation, now))
}

/// The condition of a binding that differs from what it says now; `exists`: there is a set of the name that it binds.
pub fn binding_condition(
    binding: &ManagedClusterSetBinding,
    exists: bool,
    now: Timestamp,
) -> Option<Condition> {
    let new = if exists {
        (Status::True, words::REASON_BOUND, String::new())
    } else {
        (Status::False, words::REASON_NOT_FOUND, String::new())
    };
    let known = binding.status.as_ref().map(|status| &*status.conditions);
    changed(known, words::BOUND, new, binding.metadata.generation, now)
}

fn changed(
    known: Option<&[Condition]>,
    type_: &str,
    (status, reason, message): (Status, &str, String),
    generation: Option<i64>,
    now: Timestamp,
) -> Option<Condition> {
    let new = condition(type_, status, reason, message, generation, &Time(now));
    let known = known.unwrap_or_default();
    (conditions::merge(known, [new.clone()]) != known).then_some(new)
}

/// Whether a cluster names no set and shall be put into the default one (feature gate DefaultClusterSet; ocm:
/// pkg/registration/webhook/v1).
pub fn lacks_set(cluster: &ManagedCluster) -> bool {
    let labels = cluster.metadata.labels.as_ref();
    let set = labels.and_then(|labels| labels.get(names::CLUSTER_SET_LABEL));
    cluster.metadata.deletion_timestamp.is_none() && set.is_none_or(String::is_empty)
}

#[cfg(test)]
mod tests;
