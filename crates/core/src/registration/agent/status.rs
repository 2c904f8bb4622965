//! What a cluster tells its hub of itself (ocm: pkg/registration/spoke/managedcluster).

use std::collections::BTreeMap;

use drover_api::cluster::v1::{
    ManagedCluster, ManagedClusterClaim, ManagedClusterStatus, ManagedClusterVersion,
};
use drover_api::cluster::v1alpha1::ClusterClaim;
use drover_api::conditions::{self, Status, condition};
use drover_api::names::{self, claim, cluster as words};
use drover_api::{Condition, Quantity, Time};
use drover_schema::builtin::quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;

use super::certificate::Validity;
use super::{Standing, standing};

/// How many claims are reported beside the reserved ones, unless told otherwise (ocm: `max-custom-cluster-claims`).
pub const MAX_CUSTOM_CLAIMS: usize = 20;
/// How long checks may fail before the API server counts as unavailable.
const FAILING: SignedDuration = SignedDuration::from_secs(20);
/// A report that the hub does not show after this long is sent again.
const RESEND: SignedDuration = SignedDuration::from_secs(15);

/// What was observed in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whether its API server answers; else why not.
    pub available: Result<(), String>,
    /// Version of Kubernetes.
    pub version: String,
    /// Sum over all nodes.
    pub capacity: BTreeMap<String, Quantity>,
    /// Sum over all nodes that take pods.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Claims, in order.
    pub claims: Vec<ManagedClusterClaim>,
}

/// A status that was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// The resourceVersion of the hub's copy that it was made from.
    pub version: Option<String>,
    /// What was sent.
    pub status: ManagedClusterStatus,
    /// When.
    pub at: Timestamp,
}

/// The agent's certificate, as far as the hub is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// The life of the one in use.
    pub held: &'a Validity,
    /// Why the next one could not be had.
    pub problem: Option<&'a str>,
}

/// What to do about the status.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The hub knows everything, or is not to be told.
    Nothing,
    /// It was told; look again at this time.
    Wait(Timestamp),
    /// Tell it this.
    Send(Box<ManagedClusterStatus>),
}

/// Plans the report to the hub, whose copy `cluster` is.
pub fn plan(
    cluster: &ManagedCluster,
    certificate: Option<Certificate<'_>>,
    report: Option<&Report>,
    sent: Option<&Sent>,
    now: Timestamp,
) -> Step {
    if standing(Some(cluster)) != Standing::Accepted || is_held_back(cluster) {
        return Step::Nothing;
    }
    // Until the hub shows a change, what was sent is what it will show.
    let sent = sent.filter(|sent| sent.version == cluster.metadata.resource_version);
    let hub = cluster.status.clone().unwrap_or_default();
    let base = sent.map_or(&hub, |sent| &sent.status);
    let wanted = wanted(cluster, base, certificate, report, now);
    match sent {
        _ if wanted == hub => Step::Nothing,
        Some(sent) if wanted == sent.status => {
            let again = sent.at.saturating_add(RESEND).unwrap_or(Timestamp::MAX);
            if again > now {
                Step::Wait(again)
            } else {
                Step::Send(Box::new(wanted))
            }
        }
        Some(_) | None => Step::Send(Box::new(wanted)),
    }
}

/// Hub and cluster disagree about the time: what the agent says would carry wrong times.
fn is_held_back(cluster: &ManagedCluster) -> bool {
    let annotations = cluster.metadata.annotations.as_ref();
    let skip = annotations.is_some_and(|a| a.contains_key(names::SKIP_CLOCK_SYNC_CHECK_ANNOTATION));
    let conditions = cluster
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    !skip && conditions::is(conditions, words::CLOCK_SYNCED, Status::False)
}

fn wanted(
    cluster: &ManagedCluster,
    base: &ManagedClusterStatus,
    certificate: Option<Certificate<'_>>,
    report: Option<&Report>,
    now: Timestamp,
) -> ManagedClusterStatus {
    let mut wanted = base.clone();
    let judge = |type_: &str, status: Status, reason: &str, message: String| {
        condition(
            type_,
            status,
            reason,
            message,
            cluster.metadata.generation,
            &Time(now),
        )
    };
    let mut news: Vec<Condition> = Vec::new();
    if !conditions::is_true(&base.conditions, words::JOINED) {
        let message = "Managed cluster joined".to_owned();
        news.push(judge(
            words::JOINED,
            Status::True,
            words::REASON_JOINED,
            message,
        ));
    }
    if let Some(certificate) = certificate {
        let (status, reason, message) = match certificate.problem {
            None => {
                let Validity { from, until } = certificate.held;
                let message = format!("client certificate rotated starting from {from} to {until}");
                (Status::True, words::REASON_CERTIFICATE_UPDATED, message)
            }
            Some(why) => (
                Status::False,
                words::REASON_CERTIFICATE_FAILED,
                why.to_owned(),
            ),
        };
        news.push(judge(words::CERTIFICATE_ROTATED, status, reason, message));
    }
    if let Some(report) = report {
        news.push(match &report.available {
            Ok(()) => {
                let message = "Managed cluster is available".to_owned();
                judge(
                    words::AVAILABLE,
                    Status::True,
                    words::REASON_AVAILABLE,
                    message,
                )
            }
            Err(why) => {
                let message = format!("The kube-apiserver is not ok: {why}");
                judge(
                    words::AVAILABLE,
                    Status::False,
                    words::REASON_API_UNAVAILABLE,
                    message,
                )
            }
        });
        // What cannot be observed now stays as it was.
        if report.available.is_ok() {
            wanted.capacity.clone_from(&report.capacity);
            wanted.allocatable.clone_from(&report.allocatable);
            wanted.version = ManagedClusterVersion {
                kubernetes: report.version.clone(),
            };
            wanted.cluster_claims.clone_from(&report.claims);
        }
    }
    for mut new in news {
        // The generation alone is no news.
        if let Some(old) = conditions::find(&wanted.conditions, &new.type_)
            && (&old.status, &old.reason, &old.message) == (&new.status, &new.reason, &new.message)
        {
            new.observed_generation = old.observed_generation;
        }
        conditions::set(&mut wanted.conditions, new);
    }
    wanted
}

/// What checks of the API server amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Well,
    /// It did not answer since then, which may be a hiccup.
    Failing(Timestamp),
    /// It has not answered since then, for too long.
    Unavailable(Timestamp),
}

/// Judges a check: whether it went well now, after what was known before.
pub fn health(before: Health, well: bool, now: Timestamp) -> Health {
    if well {
        return Health::Well;
    }
    match before {
        Health::Well => Health::Failing(now),
        Health::Failing(since) if now.duration_since(since) < FAILING => before,
        Health::Failing(since) | Health::Unavailable(since) => Health::Unavailable(since),
    }
}

/// Sums of what nodes have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// Over all nodes.
    pub capacity: BTreeMap<String, Quantity>,
    /// Over all nodes that take pods.
    pub allocatable: BTreeMap<String, Quantity>,
}

impl Resources {
    /// Counts a node. An amount that is none is left out.
    pub fn count(&mut self, node: &Node) {
        let Some(status) = &node.status else { return };
        add(&mut self.capacity, status.capacity.as_ref());
        let spec = node.spec.as_ref();
        let takes_pods = spec.is_none_or(|spec| spec.unschedulable != Some(true));
        if takes_pods {
            add(&mut self.allocatable, status.allocatable.as_ref());
        }
    }
}

type Amounts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn add(sums: &mut BTreeMap<String, Quantity>, amounts: Option<&Amounts>) {
    for (name, amount) in amounts.into_iter().flatten() {
        let before = sums.get(name).map(|sum| sum.0.as_str());
        if let Some(sum) = quantity::sum(before.into_iter().chain([amount.0.as_str()])) {
            sums.insert(name.clone(), Quantity(sum));
        }
    }
}

/// Which claims are reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimLimits {
    /// How many beside the reserved ones.
    pub max_custom: usize,
    /// Ends of names that are reserved as well.
    pub reserved_suffixes: Vec<String>,
}

impl Default for ClaimLimits {
    fn default() -> Self {
        Self {
            max_custom: MAX_CUSTOM_CLAIMS,
            reserved_suffixes: Vec::new(),
        }
    }
}

impl ClaimLimits {
    fn reserves(&self, name: &str) -> bool {
        let ends = |suffix: &String| name.ends_with(suffix.as_str());
        claim::RESERVED.contains(&name) || self.reserved_suffixes.iter().any(ends)
    }
}

/// The claims to report: the reserved ones by name, then the others by name, as many as may be; also how many were left out
/// for that.
pub fn claims(found: &[ClusterClaim], limits: &ClaimLimits) -> (Vec<ManagedClusterClaim>, usize) {
    let shown = found.iter().filter(|claim| {
        let labels = claim.metadata.labels.as_ref();
        !labels.is_some_and(|labels| labels.contains_key(names::SPOKE_ONLY_LABEL))
    });
    let by_name: BTreeMap<&str, &str> = shown
        .filter_map(|claim| Some((claim.metadata.name.as_deref()?, claim.spec.value.as_str())))
        .collect();
    let (reserved, custom): (Vec<_>, Vec<_>) = by_name
        .into_iter()
        .partition(|(name, _)| limits.reserves(name));
    let dropped = custom.len().saturating_sub(limits.max_custom);
    let kept = reserved
        .into_iter()
        .chain(custom.into_iter().take(limits.max_custom));
    let claims = kept.map(|(name, value)| ManagedClusterClaim {
        name: name.to_owned(),
        value: value.to_owned(),
    });
    (claims.collect(), dropped)
}

#[cfg(test)]
mod tests;
