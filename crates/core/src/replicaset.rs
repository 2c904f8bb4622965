//! One work for every cluster that placements choose: what to write, and what to say about it.
//!
//! The works, their names and labels, and the conditions and numbers of the status are those of OCM's controller (ocm:
//! pkg/work/hub/controllers/manifestworkreplicasetcontroller); docs/replica-sets.md lists where the two differ, and why.

mod rounds;
mod state;
mod status;
mod wanted;

use std::collections::BTreeMap;

use drover_api::cluster::v1beta1::{Placement, PlacementDecision};
use drover_api::names::replica_set as names;
use drover_api::work::v1::{ManifestWork, ManifestWorkSpec};
use drover_api::work::v1alpha1::{
    CascadeDeletionPolicy, ManifestWorkReplicaSet, ManifestWorkReplicaSetStatus,
};
use jiff::Timestamp;
use kube::ResourceExt;

pub use state::state;
pub use wanted::{up_to_date, work};

use crate::rollout::{BadGroup, BadStrategy};
use rounds::Round;

/// What is known when a set is planned.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The set.
    pub set: &'a ManifestWorkReplicaSet,
    /// The placements that it names, as far as they exist.
    pub placements: BTreeMap<&'a str, Chosen<'a>>,
    /// Every work that has the label of the set, in any cluster.
    pub works: Vec<&'a ManifestWork>,
    /// The works of chosen clusters that have the name of the set, but not its label.
    pub strangers: Vec<&'a ManifestWork>,
}

/// A placement and its decisions.
#[derive(Clone, Debug)]
pub struct Chosen<'a> {
    /// The placement.
    pub placement: &'a Placement,
    /// Its decisions, in any order.
    pub decisions: Vec<&'a PlacementDecision>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The set must not go before its works are deleted.
    AddFinalizer,
    /// A cluster gets the work.
    Create(Box<ManifestWork>),
    /// A cluster gets the work as it is now.
    Update {
        /// The cluster.
        cluster: String,
        /// The name of its work.
        name: String,
        /// The labels that it must have; others stay.
        labels: BTreeMap<String, String>,
        /// What it must say.
        spec: Box<ManifestWorkSpec>,
    },
    /// A cluster loses the work.
    Delete {
        /// The cluster.
        cluster: String,
        /// The name of its work.
        name: String,
        /// The decisions are being rewritten, or so it seems: the cluster may be back in a moment.
        doubtful: bool,
    },
    /// After everything else.
    SetStatus(Box<ManifestWorkReplicaSetStatus>),
    /// After every deletion.
    RemoveFinalizer,
}

/// What to do now, in this order, and when to look again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be done in this order; a failed one on a single work does not keep the others.
    pub actions: Vec<Action>,
    /// When time alone changes the plan.
    pub again_at: Option<Timestamp>,
}

/// Why a placement of a set cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPlacement {
    /// It does not exist.
    #[error("placement {0} does not exist")]
    NotFound(String),
    /// Its strategy cannot be read.
    #[error("placement {0}: {1}")]
    Strategy(String, BadStrategy),
    /// Its decisions cannot be read.
    #[error("placement {0}: {1}")]
    Group(String, BadGroup),
}

/// The value of the label that joins works to their set: `namespace.name`.
pub fn key(set: &ManifestWorkReplicaSet) -> String {
    format!("{}.{}", set.namespace().unwrap_or_default(), set.name_any())
}

/// Namespace and name of the set that a work belongs to. Namespaces have no dots, names may have some.
pub fn set_of(work: &ManifestWork) -> Option<(&str, &str)> {
    work.labels().get(names::SET_LABEL)?.split_once('.')
}

/// Plans one set.
pub fn plan(seen: &Seen<'_>, now: Timestamp) -> Plan {
    let finalized = seen
        .set
        .finalizers()
        .iter()
        .any(|name| name == names::FINALIZER);
    if seen.set.metadata.deletion_timestamp.is_some() {
        return if finalized {
            removal(seen)
        } else {
            Plan::default()
        };
    }
    let mut plan = Round::new(seen, now).plan();
    if !finalized {
        plan.actions.insert(0, Action::AddFinalizer);
    }
    plan
}

fn removal(seen: &Seen<'_>) -> Plan {
    let left = seen
        .works
        .iter()
        .filter(|work| work.metadata.deletion_timestamp.is_none());
    let mut actions: Vec<Action> = left.map(|work| delete(work, false)).collect();
    let waits = seen.set.spec.cascade_deletion_policy == CascadeDeletionPolicy::Foreground;
    if !waits || seen.works.is_empty() {
        actions.push(Action::RemoveFinalizer);
    }
    Plan {
        actions,
        again_at: None,
    }
}

fn delete(work: &ManifestWork, doubtful: bool) -> Action {
    Action::Delete {
        cluster: work.namespace().unwrap_or_default(),
        name: work.name_any(),
        doubtful,
    }
}

#[cfg(test)]
mod tests;
