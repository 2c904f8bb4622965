//! What a hub does for one managed cluster (ocm: pkg/registration/hub/{managedcluster,lease,taint,gc}).

use drover_api::cluster::v1::{ManagedCluster, Taint, TaintEffect};
use drover_api::conditions::{self, Status, condition};
use drover_api::names::{self, cluster as words};
use drover_api::{Condition, Time};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::roles;

/// Seconds between two renewals when a cluster does not say (ocm: pkg/registration/spoke/lease).
const DEFAULT_LEASE_SECONDS: i32 = 60;
/// Renewals that may be missed before a cluster counts as lost (ocm: pkg/registration/hub/lease).
const GRACE_RENEWALS: i32 = 5;

/// What the hub decides by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// Every cluster that asks is accepted once.
    pub accept_all: bool,
}

/// What is there.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The cluster.
    pub cluster: &'a ManagedCluster,
    /// Whether its namespace exists and is not going away.
    pub namespace: bool,
    /// When its lease was renewed last; `None` when there is no lease.
    pub renewed: Option<Timestamp>,
    /// Names of the works that are left in its namespace.
    pub works: &'a [String],
    /// Whether its roles are known to be written since the hub started, for this acceptance.
    pub roles_written: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Let the cluster in, and remember that nobody did it by hand.
    Accept {
        /// The value of the annotation.
        at: String,
    },
    /// Keep the object until its belongings are gone.
    AddFinalizer,
    /// Apply these objects.
    Ensure(Vec<Value>),
    /// Remember that the roles are written.
    RolesWritten,
    /// Delete these (API version, kind, namespace, name); what is not there is fine.
    Remove(Vec<(&'static str, &'static str, String, String)>),
    /// Create the cluster's lease.
    CreateLease,
    /// Delete these works.
    DeleteWorks(Vec<String>),
    /// Replace the taints.
    SetTaints(Vec<Taint>),
    /// Set these conditions.
    SetConditions(Vec<Condition>),
    /// Nothing is left: let the object go.
    RemoveFinalizer,
    /// Look again at this time.
    WakeAt(Timestamp),
}

/// What to do now. Doing it and planning again gives nothing but waits.
pub fn plan(seen: &Seen<'_>, policy: Policy, now: Timestamp) -> Vec<Action> {
    if seen.cluster.metadata.deletion_timestamp.is_some() {
        return leave(seen, now);
    }
    let mut actions = Vec::new();
    if !has_finalizer(seen.cluster) {
        actions.push(Action::AddFinalizer);
    }
    if policy.accept_all && !seen.cluster.spec.hub_accepts_client && !was_accepted(seen.cluster) {
        actions.push(Action::Accept {
            at: now.to_string(),
        });
        return actions;
    }
    let before = actions.len();
    if seen.cluster.spec.hub_accepts_client {
        admit(seen, &mut actions);
    } else {
        refuse(seen, &mut actions);
    }
    let mut news = acceptance(seen, now, actions.len() > before);
    let mut wake = None;
    if let (true, Some(renewed)) = (seen.cluster.spec.hub_accepts_client, seen.renewed) {
        let lost_at = renewed
            .saturating_add(grace(seen.cluster))
            .unwrap_or(Timestamp::MAX);
        if now >= lost_at {
            news.extend(lost(seen.cluster, now));
        } else {
            wake = Some(lost_at);
        }
    }
    taints(seen.cluster, &news, now, &mut actions);
    let current = conditions_of(seen.cluster);
    if conditions::merge(current, news.clone()) != current {
        actions.push(Action::SetConditions(news));
    }
    actions.extend(wake.map(Action::WakeAt));
    actions
}

fn admit(seen: &Seen<'_>, actions: &mut Vec<Action>) {
    let name = name_of(seen.cluster);
    if !seen.namespace || !seen.roles_written {
        let mut objects = vec![json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {names::CLUSTER_NAME_LABEL: name}},
        })];
        objects.extend(roles::of_cluster(name, true));
        actions.push(Action::Ensure(objects));
        actions.push(Action::RolesWritten);
    }
    if seen.renewed.is_none() {
        actions.push(Action::CreateLease);
    }
}

fn refuse(seen: &Seen<'_>, actions: &mut Vec<Action>) {
    // A cluster that was never accepted has nothing to take away.
    let accepted = conditions::find(conditions_of(seen.cluster), words::HUB_ACCEPTED).is_some();
    if accepted && !seen.roles_written {
        let name = name_of(seen.cluster);
        actions.push(Action::Ensure(roles::of_cluster(name, false)));
        actions.push(Action::Remove(role_bindings(name)));
        actions.push(Action::RolesWritten);
    }
}

/// The condition that says whether the cluster is let in. It follows the roles: `changing` roles
/// must be written first, which they are when actions run in order.
fn acceptance(seen: &Seen<'_>, now: Timestamp, changing: bool) -> Vec<Condition> {
    let (status, reason, message) = if seen.cluster.spec.hub_accepts_client {
        (
            Status::True,
            words::REASON_ACCEPTED,
            "Accepted by hub cluster admin",
        )
    } else if changing
        || conditions::find(conditions_of(seen.cluster), words::HUB_ACCEPTED).is_some()
    {
        (
            Status::False,
            words::REASON_DENIED,
            "Denied by hub cluster admin",
        )
    } else {
        return Vec::new();
    };
    vec![condition(
        words::HUB_ACCEPTED,
        status,
        reason,
        message,
        None,
        &Time(now),
    )]
}

fn lost(cluster: &ManagedCluster, now: Timestamp) -> Option<Condition> {
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
fn taints(cluster: &ManagedCluster, news: &[Condition], now: Timestamp, actions: &mut Vec<Action>) {
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
            time_added: Some(Time(whole_seconds(now))),
        });
    }
    if next != cluster.spec.taints {
        actions.push(Action::SetTaints(next));
    }
}

/// First the works (the agent still needs its rights to undo them), then the rights, then the object.
fn leave(seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
    if !has_finalizer(seen.cluster) {
        return Vec::new();
    }
    let name = name_of(seen.cluster);
    let (reason, message) = if seen.works.is_empty() {
        (
            words::REASON_NO_RESOURCE,
            "No cleaned resource in cluster ns.".to_owned(),
        )
    } else {
        (
            words::REASON_RESOURCE_REMAINING,
            format!("{} manifest works remain", seen.works.len()),
        )
    };
    let news = condition(
        words::DELETING,
        Status::from(seen.works.is_empty()),
        reason,
        message,
        None,
        &Time(now),
    );
    let mut actions = Vec::new();
    let current = conditions_of(seen.cluster);
    if conditions::merge(current, [news.clone()]) != current {
        actions.push(Action::SetConditions(vec![news]));
    }
    if !seen.works.is_empty() {
        actions.push(Action::DeleteWorks(seen.works.to_vec()));
        return actions;
    }
    let mut remove = role_bindings(name);
    let role = roles::cluster_role_name(name);
    remove.push((
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        String::new(),
        role.clone(),
    ));
    remove.push((
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        String::new(),
        role,
    ));
    remove.push((
        "coordination.k8s.io/v1",
        "Lease",
        name.to_owned(),
        names::CLUSTER_LEASE.to_owned(),
    ));
    actions.push(Action::Remove(remove));
    actions.push(Action::RemoveFinalizer);
    actions
}

fn role_bindings(cluster: &str) -> Vec<(&'static str, &'static str, String, String)> {
    roles::namespaced_names(cluster)
        .map(|(name, _)| {
            (
                "rbac.authorization.k8s.io/v1",
                "RoleBinding",
                cluster.to_owned(),
                name,
            )
        })
        .to_vec()
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

fn was_accepted(cluster: &ManagedCluster) -> bool {
    let annotations = cluster.metadata.annotations.as_ref();
    annotations.is_some_and(|a| a.contains_key(names::AUTOMATICALLY_ACCEPTED_ON_ANNOTATION))
}

fn has_finalizer(cluster: &ManagedCluster) -> bool {
    let finalizers = cluster.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|f| f == names::CLUSTER_FINALIZER)
}

fn conditions_of(cluster: &ManagedCluster) -> &[Condition] {
    cluster
        .status
        .as_ref()
        .map_or(&[], |status| &status.conditions)
}

fn name_of(cluster: &ManagedCluster) -> &str {
    cluster.metadata.name.as_deref().unwrap_or_default()
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
