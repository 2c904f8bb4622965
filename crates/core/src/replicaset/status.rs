//! What a set says of itself.

use std::collections::BTreeSet;

use drover_api::Time;
use drover_api::conditions::{self, condition};
use drover_api::names::replica_set as names;
use drover_api::work::v1alpha1::{
    ManifestWorkReplicaSetStatus, ManifestWorkReplicaSetSummary as Summary, PlacementSummary,
};
use jiff::Timestamp;

use super::BadPlacement;

/// Names that a message lists, at most.
const NAMED: usize = 5;

/// What a look at all placements found.
#[derive(Default)]
pub(super) struct Told {
    pub placements: Vec<PlacementSummary>,
    pub bad: Vec<BadPlacement>,
    pub bad_name: Option<String>,
    /// Clusters in which another set has a work of this name, and which set that is.
    pub occupied: Vec<(String, String)>,
    pub decided: usize,
    pub succeeded: usize,
    pub failed: BTreeSet<String>,
    pub breached: bool,
}

/// The status, made from the one that the set has.
pub(super) fn status(
    before: &ManifestWorkReplicaSetStatus,
    told: &Told,
    generation: Option<i64>,
    now: Timestamp,
) -> ManifestWorkReplicaSetStatus {
    let mut status = before.clone();
    let now = Time(now);
    let mut say = |(type_, holds, reason, message): (&str, bool, &str, String)| {
        conditions::set(
            &mut status.conditions,
            condition(type_, holds.into(), reason, message, generation, &now),
        );
    };
    say(verified(told));
    // Nothing is known of a set none of whose placements can be followed: it keeps what it said.
    if told.placements.is_empty() && !told.bad.is_empty() && told.bad_name.is_none() {
        return status;
    }
    let summary = sum(&told.placements);
    say(rolled_out(told));
    say(applied(told, &summary));
    status.summary = summary;
    status.placements_summary.clone_from(&told.placements);
    status
}

type Said = (&'static str, bool, &'static str, String);

fn verified(told: &Told) -> Said {
    let missing = told
        .bad
        .iter()
        .any(|bad| matches!(bad, BadPlacement::NotFound(_)));
    let texts: Vec<String> = told.bad.iter().map(ToString::to_string).collect();
    let (holds, reason) = if missing {
        (false, names::REASON_PLACEMENT_NOT_FOUND)
    } else if !told.bad.is_empty() {
        (false, names::REASON_NOT_AS_EXPECTED)
    } else if told.decided == 0 {
        (false, names::REASON_PLACEMENT_EMPTY)
    } else {
        (true, names::REASON_AS_EXPECTED)
    };
    (names::PLACEMENT_VERIFIED, holds, reason, texts.join("; "))
}

fn rolled_out(told: &Told) -> Said {
    let complete = told.bad.is_empty() && told.bad_name.is_none() && told.succeeded == told.decided;
    let mut message = vec![format!(
        "{} of {} clusters succeeded",
        told.succeeded, told.decided
    )];
    if !told.failed.is_empty() {
        message.push(format!("failed: {}", list(&told.failed)));
    }
    if told.breached {
        message.push("no further cluster is reached, because more failed than may".to_owned());
    }
    let reason = if complete {
        names::REASON_COMPLETE
    } else {
        names::REASON_PROGRESSING
    };
    (
        names::PLACEMENT_ROLLED_OUT,
        complete,
        reason,
        message.join("; "),
    )
}

fn applied(told: &Told, summary: &Summary) -> Said {
    let said = |holds, reason, message| (names::WORKS_APPLIED, holds, reason, message);
    if let Some(message) = &told.bad_name {
        return said(false, names::REASON_INVALID_NAME, message.clone());
    }
    if told.decided == 0 && told.bad.is_empty() {
        return said(false, names::REASON_PLACEMENT_EMPTY, String::new());
    }
    let occupied = told.occupied.first().map(|(cluster, other)| {
        format!(
            "; the set {other} has a work of the same name in cluster {cluster}: one of the two needs another name"
        )
    });
    let message = format!(
        "{} of {} works are available{}",
        summary.available,
        summary.total,
        occupied.unwrap_or_default()
    );
    let calm = summary.progressing == 0 && summary.degraded == 0;
    if summary.total > 0 && summary.available == summary.total && calm {
        said(true, names::REASON_AS_EXPECTED, message)
    } else if summary.progressing > 0 && summary.degraded == 0 {
        said(false, names::REASON_PROCESSING, message)
    } else {
        said(false, names::REASON_NOT_AS_EXPECTED, message)
    }
}

fn list(clusters: &BTreeSet<String>) -> String {
    let named: Vec<&str> = clusters.iter().take(NAMED).map(String::as_str).collect();
    let more = clusters.len() - named.len();
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{rest}", named.join(", "))
}

fn sum(placements: &[PlacementSummary]) -> Summary {
    let mut all = Summary::default();
    for placement in placements {
        let part = &placement.summary;
        all.total += part.total;
        all.progressing += part.progressing;
        all.available += part.available;
        all.degraded += part.degraded;
        all.applied += part.applied;
        all.desired_total += part.desired_total;
        all.updated += part.updated;
    }
    all
}
