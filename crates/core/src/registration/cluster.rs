//! What a hub does for one managed cluster (ocm: pkg/registration/hub/{managedcluster,lease,taint,gc}).
//!
//! - here: acceptance and denial
//! - [`health`]: what the lease tells, and the taints that follow from it
//! - [`leave`]: the end

pub mod health;
pub mod leave;

use drover_api::cluster::v1::{ManagedCluster, Taint};
use drover_api::conditions::{self, Status, condition};
use drover_api::names::{self, cluster as words};
use drover_api::{Condition, Time};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::health::Renewal;
use self::leave::Belongings;
use super::roles;

pub use self::health::{grace, lease_seconds};

/// What the hub decides by itself.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Names of clusters that are accepted once when they ask; `*` stands for any text.
    pub accept: Vec<String>,
}

impl Policy {
    /// Whether a cluster of this name is let in without a person.
    pub fn accepts(&self, name: &str) -> bool {
        self.accept.iter().any(|pattern| fits(pattern, name))
    }
}

/// Whether `name` fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(head) else {
        return false;
    };
    let starts = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    starts.into_iter().any(|at| fits(rest, &name[at..]))
}

/// What is there.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The cluster.
    pub cluster: &'a ManagedCluster,
    /// Whether its namespace exists and is not going away.
    pub namespace: bool,
    /// The last renewal of its lease; `None` when there is no lease.
    pub renewal: Option<Renewal>,
    /// The add-ons and the works that are left in its namespace; only a cluster that leaves is asked for them.
    pub belongings: &'a Belongings,
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
    /// Keep the object until its belongings are gone: its finalizers shall be these.
    SetFinalizers(Vec<String>),
    /// Apply these objects.
    Ensure(Vec<Value>),
    /// Remember that the roles are written.
    RolesWritten,
    /// Delete these (API version, kind, namespace, name); what is not there is fine.
    Remove(Vec<(&'static str, &'static str, String, String)>),
    /// Create the cluster's lease.
    CreateLease,
    /// Delete these add-ons.
    DeleteAddOns(Vec<String>),
    /// Delete these works.
    DeleteWorks(Vec<String>),
    /// Replace the taints.
    SetTaints(Vec<Taint>),
    /// Set these conditions.
    SetConditions(Vec<Condition>),
    /// Look again at this time.
    WakeAt(Timestamp),
}

/// What to do now. Doing it and planning again gives nothing but waits.
pub fn plan(seen: &Seen<'_>, policy: &Policy, now: Timestamp) -> Vec<Action> {
    if seen.cluster.metadata.deletion_timestamp.is_some() {
        return leave::plan(seen, now);
    }
    let mut actions = Vec::new();
    let finalizers = seen.cluster.metadata.finalizers.as_deref();
    actions.extend(leave::finalizers(finalizers.unwrap_or_default()));
    if !seen.cluster.spec.hub_accepts_client
        && !was_decided(seen.cluster)
        && policy.accepts(name_of(seen.cluster))
    {
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
    if let (true, Some(renewal)) = (seen.cluster.spec.hub_accepts_client, seen.renewal) {
        let lost_at = renewal.lost_at(seen.cluster);
        if now >= lost_at {
            news.extend(health::lost(seen.cluster, now));
        } else {
            wake = Some(lost_at);
        }
        news.extend(health::clocks(seen.cluster, renewal, now));
    }
    health::taints(seen.cluster, &news, &mut actions);
    let current = conditions_of(seen.cluster);
    if conditions::merge(current, news.clone()) != current {
        actions.push(Action::SetConditions(news));
    }
    actions.extend(wake.map(Action::WakeAt));
    actions
}

/// What to say when the roles of a cluster cannot be written: it is accepted, but cannot do anything yet.
pub fn not_admitted(why: &str, now: Timestamp) -> Condition {
    condition(
        words::HUB_ACCEPTED,
        Status::False,
        words::REASON_ERROR,
        why,
        None,
        &Time(now),
    )
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
    if seen.renewal.is_none() {
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

/// Whether anybody decided about the cluster before: what was denied stays so until a person says otherwise.
fn was_decided(cluster: &ManagedCluster) -> bool {
    let annotations = cluster.metadata.annotations.as_ref();
    annotations.is_some_and(|a| a.contains_key(names::AUTOMATICALLY_ACCEPTED_ON_ANNOTATION))
        || conditions::find(conditions_of(cluster), words::HUB_ACCEPTED).is_some()
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

#[cfg(test)]
mod tests;
