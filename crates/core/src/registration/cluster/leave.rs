//! The end of a cluster on its hub: first its add-ons, then its works, then its rights, then the object itself
//! (ocm: pkg/registration/hub/gc).

use std::collections::BTreeMap;

use drover_api::conditions::{self, Status, condition};
use drover_api::names::{self, cluster as words};
use drover_api::{Condition, Time};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Action, Seen, conditions_of, name_of, role_bindings};
use crate::registration::roles;

/// What must be gone before the cluster goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Its add-ons.
    pub addons: Vec<Belonging>,
    /// Its works.
    pub works: Vec<Belonging>,
}

impl Belongings {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.addons.is_empty() && self.works.is_empty()
    }
}

/// An add-on or a work in the namespace of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belonging {
    /// Its name.
    pub name: String,
    /// When it goes, from 0 (first) to 100.
    pub priority: u8,
    /// Whether it is deleted already and only waits for its finalizers.
    pub waits: bool,
}

impl Belonging {
    /// By the metadata of an object. A priority that is none counts as the first (ocm: `getCleanupPriority`).
    pub fn of(metadata: &ObjectMeta) -> Self {
        let annotations = metadata.annotations.as_ref();
        let priority = annotations
            .and_then(|all| all.get(names::CLEANUP_PRIORITY_ANNOTATION))
            .and_then(|text| text.parse().ok())
            .filter(|priority| *priority <= 100);
        let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            priority: priority.unwrap_or(0),
            waits: metadata.deletion_timestamp.is_some() && !finalizers.is_empty(),
        }
    }
}

/// What keeps a cluster until its belongings and its rights are gone. Upstream has one finalizer for each.
const OURS: [&str; 2] = [names::CLUSTER_FINALIZER, names::CLUSTER_RESOURCE_FINALIZER];

/// The step that puts the finalizers on a cluster that lacks one.
pub(super) fn finalizers(current: &[String]) -> Option<Action> {
    let missing = OURS
        .into_iter()
        .filter(|name| !current.iter().any(|known| known == name));
    let mut wanted = current.to_vec();
    wanted.extend(missing.map(ToOwned::to_owned));
    (wanted.len() > current.len()).then_some(Action::SetFinalizers(wanted))
}

/// The steps of a cluster that is being deleted: the agent keeps its rights until there is nothing left to undo.
pub(super) fn plan(seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
    let finalizers = seen.cluster.metadata.finalizers.as_deref();
    let mut left = finalizers.unwrap_or_default().to_vec();
    left.retain(|name| !OURS.contains(&name.as_str()));
    if left.len() == finalizers.unwrap_or_default().len() {
        return Vec::new();
    }
    let mut actions = Vec::new();
    let news = deleting(seen.belongings, now);
    let current = conditions_of(seen.cluster);
    if conditions::merge(current, [news.clone()]) != current {
        actions.push(Action::SetConditions(vec![news]));
    }
    actions.extend(clear(name_of(seen.cluster), seen.belongings));
    if seen.belongings.is_empty() {
        actions.push(Action::SetFinalizers(left));
    }
    actions
}

/// The steps for what a cluster left behind whose object went without waiting for it.
pub fn clear(cluster: &str, belongings: &Belongings) -> Vec<Action> {
    if !belongings.addons.is_empty() {
        return first(&belongings.addons)
            .map(Action::DeleteAddOns)
            .into_iter()
            .collect();
    }
    if !belongings.works.is_empty() {
        return first(&belongings.works)
            .map(Action::DeleteWorks)
            .into_iter()
            .collect();
    }
    let mut remove = role_bindings(cluster);
    let role = roles::cluster_role_name(cluster);
    let rbac = "rbac.authorization.k8s.io/v1";
    for kind in ["ClusterRoleBinding", "ClusterRole"] {
        remove.push((rbac, kind, String::new(), role.clone()));
    }
    remove.push((
        "coordination.k8s.io/v1",
        "Lease",
        cluster.to_owned(),
        names::CLUSTER_LEASE.to_owned(),
    ));
    vec![Action::Remove(remove)]
}

/// Those that go next: of the lowest priority, and not on their way yet.
fn first(all: &[Belonging]) -> Option<Vec<String>> {
    let mut by_priority: BTreeMap<u8, Vec<&Belonging>> = BTreeMap::new();
    for one in all {
        by_priority.entry(one.priority).or_default().push(one);
    }
    let (_, lowest) = by_priority.into_iter().next()?;
    let names: Vec<String> = lowest
        .into_iter()
        .filter(|one| !one.waits)
        .map(|one| one.name.clone())
        .collect();
    (!names.is_empty()).then_some(names)
}

fn deleting(belongings: &Belongings, now: Timestamp) -> Condition {
    let (what, left) = if belongings.addons.is_empty() {
        ("manifestworks", &belongings.works)
    } else {
        ("managedclusteraddons", &belongings.addons)
    };
    let (reason, message) = if left.is_empty() {
        (
            words::REASON_NO_RESOURCE,
            "No cleaned resource in cluster ns.".to_owned(),
        )
    } else {
        let waiting = left.iter().filter(|one| one.waits).count();
        (
            words::REASON_RESOURCE_REMAINING,
            format!(
                "{} {what} remain, {waiting} of them wait for their finalizers",
                left.len()
            ),
        )
    };
    condition(
        words::DELETING,
        Status::from(left.is_empty()),
        reason,
        message,
        None,
        &Time(now),
    )
}

/// What to say when something of the cluster cannot be deleted.
pub fn failed(why: &str, now: Timestamp) -> Condition {
    condition(
        words::DELETING,
        Status::False,
        words::REASON_DELETING_ERROR,
        why,
        None,
        &Time(now),
    )
}
