//! What the agent of a cluster does to join its hub and to stay (ocm: pkg/registration/{spoke,register}).
//!
//! - [`hubs`]: which of several hubs to be at, and when to go to another
//! - [`certificate`]: from the bootstrap token to a certificate, and from each certificate to the next
//! - [`status`]: what the cluster tells of itself, and when its API server counts as unavailable
//! - here: who the agent is, where it stands with the hub, its lease

pub mod certificate;
pub mod hubs;
pub mod status;

use std::collections::BTreeMap;

use drover_api::cluster::v1::{ManagedCluster, ManagedClusterSpec};
use drover_api::conditions::{self, Status};
use drover_api::names::cluster as words;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// Seconds between two renewals when a cluster does not say (ocm: pkg/registration/spoke/lease).
const DEFAULT_LEASE_SECONDS: i32 = 60;
/// How much of its period a renewal may come late, so that a fleet does not renew in step (ocm: `leaseUpdateJitterFactor`).
const LEASE_JITTER: f64 = 0.25;

/// Where an agent stands with its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The hub did not show the cluster yet.
    Unknown,
    /// Nobody at the hub decided yet, or what an accepted cluster needs there is not ready.
    Waiting,
    /// The hub's administrator does not want the cluster.
    Denied,
    /// The hub lets the cluster in.
    Accepted,
}

/// Where the agent of this cluster stands, by the hub's own copy of it.
pub fn standing(cluster: Option<&ManagedCluster>) -> Standing {
    let Some(cluster) = cluster else {
        return Standing::Unknown;
    };
    let conditions = cluster
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    match (
        cluster.spec.hub_accepts_client,
        conditions::find(conditions, words::HUB_ACCEPTED),
    ) {
        // The condition follows the roles: without it every request would be refused.
        (true, Some(accepted)) if accepted.status == Status::True.as_str() => Standing::Accepted,
        (false, Some(_)) => Standing::Denied,
        (true | false, _) => Standing::Waiting,
    }
}

/// The cluster that an agent asks its hub to take in.
pub fn cluster(
    name: &str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
) -> ManagedCluster {
    let mut cluster = ManagedCluster::new(name, ManagedClusterSpec::default());
    cluster.metadata.labels = Some(labels).filter(|labels| !labels.is_empty());
    cluster.metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    cluster
}

/// When a lease that was renewed at `renewed` is renewed again; `jitter` is random in 0..1.
pub fn next_renewal(cluster: &ManagedCluster, renewed: Timestamp, jitter: f64) -> Timestamp {
    let seconds = match cluster.spec.lease_duration_seconds {
        None | Some(0) => DEFAULT_LEASE_SECONDS,
        Some(seconds) => seconds.max(1),
    };
    let late = f64::from(seconds) * LEASE_JITTER * jitter.clamp(0.0, 1.0);
    let period = SignedDuration::from_secs(i64::from(seconds))
        .saturating_add(SignedDuration::from_millis((late * 1000.0) as i64));
    renewed.saturating_add(period).unwrap_or(Timestamp::MAX)
}

/// The lease, renewed now.
pub fn renewed(lease: &Lease, now: Timestamp) -> Lease {
    let mut lease = lease.clone();
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests;
