//! Which clusters a placement chooses (ocm: pkg/placement).
//!
//! [`plan`] goes from what is seen to what is to be written: the clusters of the bound sets (`candidates`), less those that a
//! predicate (`predicate`) or a taint (`toleration`) keeps away, sorted by weighted scores (`score`), taken best first and
//! evenly where asked for (`spread`), in groups of objects of at most 100 (`group`, `decision`).
//!
//! Choosing looks at what was chosen before, so what is planned is a choice that stays when it is planned again (`schedule`).

mod candidates;
mod condition;
mod decision;
mod group;
mod predicate;
mod schedule;
mod score;
mod spread;
mod toleration;

use std::collections::BTreeMap;
use std::sync::Arc;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1alpha1::AddOnPlacementScore;
use drover_api::cluster::v1beta1::{
    ClusterDecision, Placement, PlacementDecision, PlacementStatus, ScoreCoordinateType,
};
use drover_api::cluster::v1beta2::{ManagedClusterSet, ManagedClusterSetBinding};
use drover_api::{conditions, names::placement as words};
use jiff::Timestamp;

pub use decision::MAX_DECISIONS;

/// Whether nobody shall choose clusters for a placement here: it goes away, or others choose.
pub fn is_left_alone(placement: &Placement) -> bool {
    let annotations = placement.metadata.annotations.as_ref();
    let disabled = annotations.and_then(|all| all.get(words::DISABLE_ANNOTATION));
    placement.metadata.deletion_timestamp.is_some() || disabled.is_some_and(|value| value == "true")
}

/// What is there.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The placement.
    pub placement: &'a Placement,
    /// All sets.
    pub sets: &'a [Arc<ManagedClusterSet>],
    /// Bindings; those of other namespaces do not count.
    pub bindings: &'a [Arc<ManagedClusterSetBinding>],
    /// All clusters.
    pub clusters: &'a [Arc<ManagedCluster>],
    /// Decisions; those of other namespaces do not count.
    pub decisions: &'a [Arc<PlacementDecision>],
    /// How often each cluster stands in decisions of other placements, of all namespaces.
    pub elsewhere: &'a BTreeMap<String, u64>,
    /// The scores in the namespace of a cluster.
    pub scores: &'a dyn Fn(&str) -> Vec<Arc<AddOnPlacementScore>>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create an object without a status; [`Action::SetDecisions`] follows, unless it has no clusters.
    CreateDecision(Box<PlacementDecision>),
    /// Write the clusters of an object.
    SetDecisions {
        /// Its name.
        name: String,
        /// At most [`MAX_DECISIONS`].
        decisions: Vec<ClusterDecision>,
    },
    /// Write the labels of an object that say which group it belongs to.
    SetLabels {
        /// Its name.
        name: String,
        /// All labels that are ours.
        labels: BTreeMap<String, String>,
    },
    /// Delete an object.
    DeleteDecision(String),
    /// Replace the placement's status.
    SetStatus(PlacementStatus),
    /// Tell people, as an event on the placement.
    Tell(Note),
    /// Look again right after this time.
    WakeAt(Timestamp),
}

/// Something that happened, as upstream tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether people should do something about it.
    pub warning: bool,
    /// `DecisionCreate`, `DecisionUpdate`, `DecisionDelete` or `ScoreUpdate`.
    pub reason: &'static str,
    /// The past form of the reason.
    pub action: &'static str,
    /// At most [`MAX_NOTE`] bytes.
    pub message: String,
    /// The PlacementDecision that it is about.
    pub decision: String,
}

/// The longest message of an event (ocm: pkg/placement/controllers/scheduling; the API takes 1024).
pub const MAX_NOTE: usize = 1000;

/// Why a placement cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}:{detail}")]
pub struct Misconfigured {
    /// The part that found out, by upstream's name; empty when it is none.
    pub part: &'static str,
    /// What is wrong.
    pub detail: String,
}

impl Misconfigured {
    fn new(part: &'static str, detail: impl Into<String>) -> Self {
        Self {
            part,
            detail: detail.into(),
        }
    }
}

/// What to do now. Doing it and planning again gives nothing but a time to look again.
///
/// A placement that cannot be followed keeps the clusters that it has, as long as they are in its sets.
pub fn plan(seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
    if is_left_alone(seen.placement) {
        return Vec::new();
    }
    let own = decision::Own::of(seen);
    let found = candidates::find(seen);
    let current = own.clusters();
    let asked = &seen.placement.spec.cluster_sets;
    let planned = found
        .clusters()
        .and_then(|clusters| schedule::schedule(seen, clusters, &current, now))
        .and_then(|schedule| {
            let ranking = decision::Ranking::of(seen.placement, &schedule, &own, now);
            let groups = group::divide(seen.placement, &schedule.chosen, &ranking)?;
            Ok((schedule, ranking, groups))
        });
    let mut actions = Vec::new();
    match planned {
        Ok((schedule, ranking, groups)) => {
            let wanted = decision::objects(seen.placement, groups);
            let verdict = condition::Verdict::scheduled(&found, asked, &schedule);
            decision::write(seen, &own, &wanted, Some(&schedule), &mut actions);
            let status = decision::status(&wanted, ranking.updated);
            set_status(seen.placement, status, &verdict, now, &mut actions);
            let wakes = [schedule.wake, ranking.wake].into_iter().flatten();
            actions.extend(wakes.min().map(Action::WakeAt));
        }
        Err(wrong) => {
            // What is wrong with the groups is told first.
            let groups = group::divide(seen.placement, &[], &decision::Ranking::by_name());
            let wrong = groups.err().unwrap_or(wrong);
            let wanted = own.kept(seen.placement, &found.names(seen));
            let kept = wanted.iter().map(|object| object.clusters.len()).sum();
            let verdict = condition::Verdict::misconfigured(&found, asked, &wrong, kept);
            decision::write(seen, &own, &wanted, None, &mut actions);
            let known = seen.placement.status.as_ref();
            let updated = known.and_then(|status| status.last_score_update_time.clone());
            let status = decision::status(&wanted, updated);
            set_status(seen.placement, status, &verdict, now, &mut actions);
        }
    }
    actions
}

fn set_status(
    placement: &Placement,
    mut status: PlacementStatus,
    verdict: &condition::Verdict,
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let known = placement.status.clone().unwrap_or_default();
    let news = verdict.conditions(placement.metadata.generation, now);
    status.conditions = conditions::merge(&known.conditions, news);
    if status != known {
        actions.push(Action::SetStatus(status));
    }
}

/// Whether a change of a cluster can change what placements choose. With CEL expressions everything can.
pub fn matters(old: &ManagedCluster, new: &ManagedCluster) -> bool {
    let parts = |cluster: &ManagedCluster| {
        let status = cluster.status.clone().unwrap_or_default();
        (status.cluster_claims, status.allocatable, status.capacity)
    };
    old.metadata.labels != new.metadata.labels
        || old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        || old.metadata.uid != new.metadata.uid
        || old.spec.taints != new.spec.taints
        || parts(old) != parts(new)
}

/// Whether a placement has CEL expressions, which may look at anything in a cluster and its scores.
pub fn has_expressions(placement: &Placement) -> bool {
    let mut selectors = placement.spec.predicates.iter();
    selectors.any(|it| {
        !it.required_cluster_selector
            .cel_selector
            .cel_expressions
            .is_empty()
    })
}

/// Whether a placement looks at the scores in AddOnPlacementScores of this name.
pub fn uses_score(placement: &Placement, resource: &str) -> bool {
    let mut configured = placement.spec.prioritizer_policy.configurations.iter();
    has_expressions(placement)
        || configured.any(|one| {
            one.score_coordinate.as_ref().is_some_and(|from| {
                let named = from
                    .add_on
                    .as_ref()
                    .map(|score| score.resource_name.as_str());
                from.type_ == ScoreCoordinateType::AddOn && named == Some(resource)
            })
        })
}

#[cfg(test)]
mod tests;
