//! What a placement says of itself, in upstream's words (ocm: pkg/placement/controllers/scheduling).

use drover_api::conditions::{Status, condition};
use drover_api::names::placement as words;
use drover_api::{Condition, Time};
use jiff::Timestamp;

use super::Misconfigured;
use super::candidates::Candidates;
use super::schedule::Schedule;

/// The two conditions, without a time.
pub(super) struct Verdict {
    satisfied: (Status, &'static str, String),
    wrong: Option<String>,
}

impl Verdict {
    /// Of a placement that was followed.
    pub(super) fn scheduled(
        found: &Candidates<'_>,
        asked: &[String],
        schedule: &Schedule<'_>,
    ) -> Self {
        let satisfied = nothing_to_choose(found, asked).unwrap_or_else(|| {
            match (schedule.chosen.len(), schedule.missing) {
                (0, _) => nothing_matched(),
                (_, 0) => {
                    let message = "All cluster decisions scheduled".to_owned();
                    (Status::True, words::REASON_ALL_SCHEDULED, message)
                }
                (_, missing) => {
                    let message = format!("{missing} cluster decisions unscheduled");
                    (Status::False, words::REASON_NOT_ALL_SCHEDULED, message)
                }
            }
        });
        Self {
            satisfied,
            wrong: None,
        }
    }

    /// Of a placement that cannot be followed and keeps `kept` clusters.
    pub(super) fn misconfigured(
        found: &Candidates<'_>,
        asked: &[String],
        wrong: &Misconfigured,
        kept: usize,
    ) -> Self {
        let satisfied = nothing_to_choose(found, asked).unwrap_or_else(|| {
            if kept == 0 {
                return nothing_matched();
            }
            let message = format!(
                "The placement is misconfigured; the {kept} clusters selected before stay selected"
            );
            (Status::False, words::REASON_NOT_ALL_SCHEDULED, message)
        });
        Self {
            satisfied,
            wrong: Some(wrong.to_string()),
        }
    }

    pub(super) fn conditions(&self, generation: Option<i64>, now: Timestamp) -> [Condition; 2] {
        let time = Time(now);
        let (status, reason, message) = if let Some(wrong) = &self.wrong {
            (Status::True, words::REASON_MISCONFIGURED, wrong.as_str())
        } else {
            let message = "Placement configurations check pass";
            (Status::False, words::REASON_CONFIGURED, message)
        };
        let type_ = words::MISCONFIGURED;
        let misconfigured = condition(type_, status, reason, message, generation, &time);
        let (status, reason, message) = &self.satisfied;
        let type_ = words::SATISFIED;
        let satisfied = condition(type_, *status, reason, message.as_str(), generation, &time);
        [misconfigured, satisfied]
    }
}

fn nothing_to_choose(
    found: &Candidates<'_>,
    asked: &[String],
) -> Option<(Status, &'static str, String)> {
    if found.bindings == 0 {
        let message = "No valid ManagedClusterSetBindings found in placement namespace".to_owned();
        return Some((Status::False, words::REASON_NO_BINDINGS, message));
    }
    if found.sets.is_empty() {
        let sets = asked.join(",");
        let message =
            format!("None of ManagedClusterSets [{sets}] is bound to placement namespace");
        return Some((Status::False, words::REASON_NO_INTERSECTION, message));
    }
    let empty = found.clusters().is_ok_and(<[_]>::is_empty);
    empty.then(|| {
        let sets = found.sets.join(",");
        let message = format!("All ManagedClusterSets [{sets}] have no member ManagedCluster");
        (Status::False, words::REASON_SETS_EMPTY, message)
    })
}

fn nothing_matched() -> (Status, &'static str, String) {
    let message = "No ManagedCluster matches any of the cluster predicate".to_owned();
    (Status::False, words::REASON_NO_CLUSTER_MATCHED, message)
}
