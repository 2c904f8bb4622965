//! What the lease of a cluster tells: whether its agent lives, and whether the clocks agree.
//!
//! Upstream judges a lease by the time that the agent wrote. Here it counts when the hub heard of it, by the hub's own
//! clock: an agent whose clock is wrong is not lost for that.

use drover_api::cluster::v1::{ManagedCluster, Taint, TaintEffect};
use drover_api::conditions::{self, Status, condition};
use drover_api::names::{self, cluster as words};
use drover_api::{Condition, Time};
use jiff::{SignedDuration, Timestamp};

use super::{Action, conditions_of};

/// Seconds between two renewals when a cluster does not say (ocm: pkg/registration/spoke/lease).
const DEFAULT_LEASE_SECONDS: i32 = 60;
/// Renewals that may be missed before a cluster counts as lost (ocm: pkg/registration/hub/lease).
const GRACE_RENEWALS: i32 = 5;

/// The last renewal of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// When, by the agent's clock.
    pub written: Timestamp,
    /// When the hub heard of it, by its own clock.
    pub heard: Timestamp,
    /// Whether the hub saw it happen; otherwise it found the lease so when it started.
    pub witnessed: bool,
}

impl Renewal {
    /// The renewal that a lease shows now, after what was known of it before.
    pub fn hear(before: Option<Self>, written: Timestamp, now: Timestamp) -> Self {
        match before {
            Some(before) if before.written == written => before,
            before => Self {
                written,
                heard: now,
                witnessed: before.is_some(),
            },
        }
    }

    /// When the cluster counts as lost if nothing more is heard.
    pub fn lost_at(&self, cluster: &ManagedCluster) -> Timestamp {
        let after = |from: Timestamp, wait| from.saturating_add(wait).unwrap_or(Timestamp::MAX);
        if self.witnessed || !in_sync(cluster) {
            return after(self.heard, grace(cluster));
        }
        // Found so at the start. Agents may not have reached the hub while it was away: they get the time to.
        let soon = SignedDuration::from_secs(2 * i64::from(lease_seconds(cluster)));
        after(self.written.min(self.heard), grace(cluster)).max(after(self.heard, soon))
    }
}

fn in_sync(cluster: &ManagedCluster) -> bool {
    !conditions::is(conditions_of(cluster), words::CLOCK_SYNCED, Status::False)
}

/// Compares the clocks of hub and agent, when the hub saw the lease being renewed (ocm: `ClockSyncController`).
pub(super) fn clocks(
    cluster: &ManagedCluster,
    renewal: Renewal,
    now: Timestamp,
) -> Option<Condition> {
    if !renewal.witnessed {
        return None;
    }
    let apart = renewal.heard.duration_since(renewal.written).abs();
    let (status, reason, message) = if apart < grace(cluster) {
        (
            Status::True,
            words::REASON_CLOCK_SYNCED,
            "The clocks of the managed cluster and of the hub agree.".to_owned(),
        )
    } else {
        let direction = if renewal.written > renewal.heard {
            "ahead of"
        } else {
            "behind"
        };
        (
            Status::False,
            words::REASON_CLOCK_OUT_OF_SYNC,
            format!(
                "The clock of the managed cluster is {direction} that of the hub by more than {} seconds: \
                 its agent reports nothing until they agree.",
                grace(cluster).as_secs()
            ),
        )
    };
    let known = conditions::find(conditions_of(cluster), words::CLOCK_SYNCED);
    if known.is_some_and(|known| known.status == status.as_str()) {
        return None;
    }
    Some(condition(
        words::CLOCK_SYNCED,
        status,
        reason,
        message,
        None,
        &Time(now),
    ))
}

/// Nothing was heard of the agent for too long; only the agent itself takes that back.
pub(super) fn lost(cluster: &ManagedCluster, now: Timestamp) -> Option<Condition> {
    let known = conditions::find(conditions_of(cluster), words::AVAILABLE);
    if known.is_some_and(|c| c.status == Status::Unknown.as_str()) {
        return None;
    }
    Some(condition(
        words::AVAILABLE,
        Status::Unknown,
        words::REASON_LEASE_STOPPED,
        "Registration agent stopped updating its lease.",
        None,
        &Time(now),
    ))
}

/// A cluster that is not available repels placements.
pub(super) fn taints(cluster: &ManagedCluster, news: &[Condition], actions: &mut Vec<Action>) {
    let available = conditions::find(news, words::AVAILABLE)
        .or_else(|| conditions::find(conditions_of(cluster), words::AVAILABLE));
    let wanted = match available.map(|c| Status::read(&c.status)) {
        Some(Status::True) => None,
        Some(Status::False) => Some(names::taint::UNAVAILABLE),
        Some(Status::Unknown) | None => Some(names::taint::UNREACHABLE),
    };
    let ours = |taint: &Taint| {
        taint.effect == TaintEffect::NoSelect
            && (taint.key == names::taint::UNAVAILABLE || taint.key == names::taint::UNREACHABLE)
    };
    let mut next: Vec<Taint> = cluster
        .spec
        .taints
        .iter()
        .filter(|taint| !ours(taint) || wanted == Some(taint.key.as_str()))
        .cloned()
        .collect();
    if let Some(key) = wanted
        && !next.iter().any(ours)
    {
        next.push(Taint {
            key: key.to_owned(),
            value: String::new(),
            effect: TaintEffect::NoSelect,
            // Whoever puts a taint on may not say when: admission does.
            time_added: None,
        });
    }
    if next != cluster.spec.taints {
        actions.push(Action::SetTaints(next));
    }
}

/// How long a lease may stay as it is before the cluster counts as lost.
pub fn grace(cluster: &ManagedCluster) -> SignedDuration {
    SignedDuration::from_secs(i64::from(lease_seconds(cluster)) * i64::from(GRACE_RENEWALS))
}

/// Seconds between two renewals of a cluster's lease.
pub fn lease_seconds(cluster: &ManagedCluster) -> i32 {
    cluster
        .spec
        .lease_duration_seconds
        .filter(|seconds| *seconds > 0)
        .unwrap_or(DEFAULT_LEASE_SECONDS)
}
