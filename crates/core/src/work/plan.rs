//! The next steps for one work, from birth to deletion.
//!
//! The agent observes, plans, does, and observes again until nothing but waiting is left. A manifest that was attempted in this round
//! is not attempted again; its failure is reported instead.

mod removal;
mod settle;

use drover_api::{
    ObjectMeta, Time, conditions,
    names::work as names,
    work::v1::{
        AppliedManifestResourceMeta, AppliedManifestWork, AppliedManifestWorkSpec,
        AppliedManifestWorkStatus, DeletePropagationPolicy, ManifestResourceMeta, ManifestWork,
        ManifestWorkStatus, UpdateStrategyType,
    },
};
use serde_json::Value;
use std::time::Duration;

use super::{
    apply::{self, ApplyError, Write},
    manifest::{self, Desired, ManifestError, Served},
    owners::{self, Owner},
    status,
};
use removal::Removal;
use settle::settle;

/// How long to wait before an object that is on its way out is looked at again; a watch usually tells earlier.
pub const REMOVAL_POLL: Duration = Duration::from_secs(1);

/// An object as it is in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Live {
    /// It does not exist.
    Absent,
    /// It exists.
    Present(Value),
    /// Nobody can tell; why.
    Unread(String),
}

/// What was tried for a manifest in this round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing yet.
    None,
    /// The write succeeded.
    Done,
    /// The write failed; why.
    Failed(String),
    /// The executor may not do it; why.
    Denied(String),
    /// A path of an ignored field is wrong; why.
    BadIgnoreField(String),
}

/// One manifest and its object.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// What the manifest names.
    pub parsed: Result<Desired, ManifestError>,
    /// How the cluster serves the kind; absent while it does not.
    pub served: Option<Served>,
    /// The object.
    pub live: Live,
    /// What was tried.
    pub attempt: Attempt,
    /// The pods that tell why the object is not healthy, where [`super::health::pods`] asks for them.
    pub pods: Vec<Value>,
}

impl Observed {
    /// The manifest's entry in the status.
    pub fn meta(&self, ordinal: usize) -> ManifestResourceMeta {
        manifest::meta(ordinal, self.parsed.as_ref(), self.served.as_ref())
    }

    /// Why the executor may not apply the manifest; none when it may.
    pub fn denied(&self) -> Option<&str> {
        match &self.attempt {
            Attempt::Denied(why) => Some(why),
            Attempt::None | Attempt::Done | Attempt::Failed(_) | Attempt::BadIgnoreField(_) => None,
        }
    }

    /// Why the manifest is not applied; none when it is, or nothing was tried because nothing had to be.
    pub fn failure(&self) -> Option<String> {
        let desired = match &self.parsed {
            Err(why) => return Some(why.to_string()),
            Ok(desired) => desired,
        };
        match (&self.served, &self.attempt, &self.live) {
            (None, ..) => Some(format!(
                "no matches for kind {:?} in version {:?}",
                desired.gvk.kind,
                desired.gvk.api_version()
            )),
            (Some(served), ..) if served.namespaced && desired.namespace.is_empty() => {
                Some(format!(
                    "{} live in namespaces: the manifest needs metadata.namespace",
                    served.resource
                ))
            }
            (_, Attempt::Failed(why) | Attempt::Denied(why) | Attempt::BadIgnoreField(why), _)
            | (_, Attempt::None, Live::Unread(why)) => Some(why.clone()),
            (_, Attempt::Done, _) | (_, Attempt::None, Live::Absent | Live::Present(_)) => None,
        }
    }
}

/// The agent's place in the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Lowercase hex SHA-256 of the address of the hub's API server.
    pub hub_hash: String,
    /// The agent.
    pub agent_id: String,
}

impl Identity {
    /// The name of the AppliedManifestWork of a work.
    pub fn applied_name(&self, work: &str) -> String {
        format!("{}-{work}", self.hub_hash)
    }
}

/// Everything that is known of one work.
#[derive(Clone, Debug)]
pub struct Seen<'s> {
    /// The work on the hub; absent when there is none.
    pub work: Option<&'s ManifestWork>,
    /// Its trace in the cluster.
    pub applied: Option<&'s AppliedManifestWork>,
    /// The agent's place.
    pub identity: &'s Identity,
    /// The manifests of the spec, in its order; needed when [`needs`] says so.
    pub manifests: &'s [Observed],
    /// Objects of the trace that may have to go, as [`residue`] lists them.
    pub residue: &'s [(AppliedManifestResourceMeta, Live)],
    /// Whether lists and objects are reported as JSON text.
    pub raw_feedback: bool,
}

/// What has to be observed before a plan can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The work and its trace are enough.
    Nothing,
    /// Manifests and residue.
    Manifests,
    /// Everything in the trace counts as residue.
    Trace,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put the finalizer on the work.
    AddFinalizer,
    /// Take it off.
    RemoveFinalizer,
    /// Create the trace.
    CreateApplied(Box<AppliedManifestWork>),
    /// Put the finalizer on the trace.
    AddAppliedFinalizer,
    /// Take it off.
    RemoveAppliedFinalizer,
    /// Put the labels of the work and the name of the agent on the trace.
    AdoptApplied,
    /// Delete the trace; its finalizer keeps it until its objects are gone.
    DeleteApplied,
    /// Bring the object of a manifest nearer to it.
    Write {
        /// The index of the manifest.
        ordinal: usize,
        /// The request.
        write: Box<Write>,
    },
    /// Record that a manifest cannot be written as it is configured.
    Refuse {
        /// The index of the manifest.
        ordinal: usize,
        /// Why.
        why: String,
    },
    /// Delete an object, in the background, if it still has this uid.
    Delete {
        /// The object.
        target: AppliedManifestResourceMeta,
        /// Its uid.
        uid: String,
    },
    /// Take the owner's reference off an object that stays.
    Release {
        /// The object.
        target: AppliedManifestResourceMeta,
        /// A JSON merge patch.
        patch: Value,
    },
    /// Write the status of the trace.
    PatchApplied(AppliedManifestWorkStatus),
    /// Write the status of the work on the hub.
    PatchStatus(Box<ManifestWorkStatus>),
    /// Look again after this time.
    Wait(Duration),
}

/// What must be observed for the next plan.
pub fn needs(work: Option<&ManifestWork>, applied: Option<&AppliedManifestWork>) -> Needs {
    match (work, applied) {
        (Some(work), _) if is_too_large(work) && work.metadata.deletion_timestamp.is_none() => {
            Needs::Nothing
        }
        (_, Some(applied)) if applied.metadata.deletion_timestamp.is_some() => Needs::Trace,
        (Some(work), Some(_)) if work.metadata.deletion_timestamp.is_some() => Needs::Trace,
        (Some(work), Some(applied))
            if has_finalizer(&work.metadata, names::FINALIZER)
                && has_finalizer(&applied.metadata, names::APPLIED_FINALIZER) =>
        {
            Needs::Manifests
        }
        _ => Needs::Nothing,
    }
}

/// The objects of the trace that may have to go.
pub fn residue(
    needs: Needs,
    manifests: &[Observed],
    applied: Option<&AppliedManifestWork>,
) -> Vec<AppliedManifestResourceMeta> {
    let entries = applied
        .and_then(|applied| applied.status.as_ref())
        .map_or(&[][..], |status| &status.applied_resources);
    match needs {
        Needs::Nothing => Vec::new(),
        Needs::Trace => entries.to_vec(),
        Needs::Manifests => entries
            .iter()
            .filter(|entry| {
                !manifests
                    .iter()
                    .enumerate()
                    .any(|(at, observed)| may_be(&observed.meta(at), entry))
            })
            .cloned()
            .collect(),
    }
}

/// Whether nothing was ever applied for this manifest, as far as the work and its trace tell, and it is created before anything
/// else can be done. Then nobody has to ask whether its object is there: the create tells, in the rare case. Where an executor's
/// rights decide whether it is created, one has to ask.
pub fn is_new(
    work: &ManifestWork,
    applied: Option<&AppliedManifestWork>,
    meta: &ManifestResourceMeta,
) -> bool {
    let strategy = manifest::options(&work.spec, meta).strategy;
    let creates = matches!(
        strategy.map(|strategy| strategy.type_).unwrap_or_default(),
        UpdateStrategyType::Update | UpdateStrategyType::CreateOnly
    );
    let recorded = applied.and_then(|applied| applied.status.as_ref());
    let recorded = recorded.is_some_and(|status| {
        status
            .applied_resources
            .iter()
            .any(|entry| may_be(meta, entry))
    });
    let reported = work.status.as_ref().is_some_and(|status| {
        conditions::is_true(&status.conditions, names::COMPLETE)
            || status::find_entry(&status.resource_status.manifests, meta).is_some()
    });
    creates && !recorded && !reported && work.spec.executor.is_none()
}

/// Works with more manifests are not applied: neither their status nor their trace fits into one object.
pub const MAX_MANIFESTS: usize = 4000;

fn is_too_large(work: &ManifestWork) -> bool {
    work.spec.workload.manifests.len() > MAX_MANIFESTS
}

/// Whether the manifest is, or while its kind is not served may be, the object of the entry.
fn may_be(meta: &ManifestResourceMeta, entry: &AppliedManifestResourceMeta) -> bool {
    meta.group == entry.group
        && meta.name == entry.name
        && (meta.resource == entry.resource || meta.resource.is_empty())
        && (meta.namespace == entry.namespace || meta.resource.is_empty())
}

/// The next steps. Empty, or only waiting, when all is as it should be.
pub fn plan(seen: &Seen<'_>, now: &Time) -> Vec<Action> {
    let Some(work) = seen.work else {
        return match seen.applied {
            Some(applied) if applied.metadata.deletion_timestamp.is_some() => {
                tear_down(seen, applied)
            }
            _ => Vec::new(),
        };
    };
    if work.metadata.deletion_timestamp.is_some() {
        return plan_deletion(seen, work, now);
    }
    if !has_finalizer(&work.metadata, names::FINALIZER) {
        return vec![Action::AddFinalizer];
    }
    if is_too_large(work) {
        return refuse(work, now);
    }
    let Some(applied) = seen.applied else {
        return vec![Action::CreateApplied(Box::new(new_trace(
            seen.identity,
            work,
        )))];
    };
    if applied.metadata.deletion_timestamp.is_some() {
        return tear_down(seen, applied);
    }
    if applied.spec.agent_id != seen.identity.agent_id || !carries_labels(work, applied) {
        return vec![Action::AdoptApplied];
    }
    if !has_finalizer(&applied.metadata, names::APPLIED_FINALIZER) {
        return vec![Action::AddAppliedFinalizer];
    }
    let owner = owner_of(applied);
    let writes = plan_writes(seen, work, &owner);
    if !writes.is_empty() {
        return settle::announced(seen, applied, writes);
    }
    settle(seen, work, applied, &owner, now)
}

fn new_trace(identity: &Identity, work: &ManifestWork) -> AppliedManifestWork {
    let name = work.metadata.name.clone().unwrap_or_default();
    AppliedManifestWork {
        metadata: ObjectMeta {
            name: Some(identity.applied_name(&name)),
            finalizers: Some(vec![names::APPLIED_FINALIZER.to_owned()]),
            labels: work.metadata.labels.clone(),
            ..ObjectMeta::default()
        },
        spec: AppliedManifestWorkSpec {
            hub_hash: identity.hub_hash.clone(),
            agent_id: identity.agent_id.clone(),
            manifest_work_name: name,
        },
        status: None,
    }
}

fn refuse(work: &ManifestWork, now: &Time) -> Vec<Action> {
    let count = work.spec.workload.manifests.len();
    let why = format!("it has {count} manifests, at most {MAX_MANIFESTS} are applied; split it");
    let status = status::refused(work, &why, now);
    let told = work.status.as_ref() == Some(&status);
    (!told)
        .then(|| Action::PatchStatus(Box::new(status)))
        .into_iter()
        .collect()
}

/// Whether the trace has the labels of the work; it may have more.
fn carries_labels(work: &ManifestWork, applied: &AppliedManifestWork) -> bool {
    let has = applied.metadata.labels.as_ref();
    work.metadata
        .labels
        .iter()
        .flatten()
        .all(|(key, value)| has.is_some_and(|has| has.get(key) == Some(value)))
}

fn owner_of(applied: &AppliedManifestWork) -> Owner {
    Owner {
        name: applied.metadata.name.clone().unwrap_or_default(),
        uid: applied.metadata.uid.clone().unwrap_or_default(),
    }
}

fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers
        .as_ref()
        .is_some_and(|all| all.iter().any(|one| one == name))
}

/// The writes that manifests need and that were not attempted yet, in the order of kinds.
fn plan_writes(seen: &Seen<'_>, work: &ManifestWork, owner: &Owner) -> Vec<Action> {
    let old = work.status.as_ref();
    if old.is_some_and(|status| conditions::is_true(&status.conditions, names::COMPLETE)) {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..seen.manifests.len()).collect();
    order.sort_by_key(|&at| manifest::rank(seen.manifests[at].parsed.as_ref()));
    order
        .into_iter()
        .filter_map(|ordinal| plan_write(work, ordinal, &seen.manifests[ordinal], owner))
        .collect()
}

fn plan_write(
    work: &ManifestWork,
    ordinal: usize,
    observed: &Observed,
    owner: &Owner,
) -> Option<Action> {
    if observed.attempt != Attempt::None || observed.failure().is_some() {
        return None;
    }
    let desired = observed.parsed.as_ref().ok()?;
    let live = match &observed.live {
        Live::Present(live) => Some(live),
        Live::Absent => None,
        Live::Unread(_) => return None,
    };
    let meta = observed.meta(ordinal);
    let before = work
        .status
        .as_ref()
        .and_then(|status| status::find_entry(&status.resource_status.manifests, &meta));
    if before.is_some_and(|entry| conditions::is_true(&entry.conditions, names::COMPLETE)) {
        return None;
    }
    // An object on its way out cannot be changed for good; the next round creates it anew.
    if live.is_some_and(|live| live.pointer("/metadata/deletionTimestamp").is_some()) {
        return None;
    }
    let options = manifest::options(&work.spec, &meta);
    match apply::write(desired, live, options.strategy, owner, owns(work, &meta)) {
        Ok(write) => write.map(|write| Action::Write {
            ordinal,
            write: Box::new(write),
        }),
        Err(ApplyError::IgnoreField { path, why }) => Some(Action::Refuse {
            ordinal,
            why: format!("{path:?}: {why}"),
        }),
    }
}

/// Whether the work is to own the object, which then goes with it.
pub fn owns(work: &ManifestWork, meta: &ManifestResourceMeta) -> bool {
    !is_orphaned(
        work,
        &meta.group,
        &meta.resource,
        &meta.namespace,
        &meta.name,
    )
}

/// Whether the delete option lets the object stay when the work goes.
fn is_orphaned(
    work: &ManifestWork,
    group: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> bool {
    let Some(option) = &work.spec.delete_option else {
        return false;
    };
    match option.propagation_policy {
        DeletePropagationPolicy::Foreground => false,
        DeletePropagationPolicy::Orphan => true,
        DeletePropagationPolicy::SelectivelyOrphan => option
            .selectively_orphans
            .iter()
            .flat_map(|orphans| &orphans.orphaning_rules)
            .any(|rule| manifest::identifies(rule, group, resource, namespace, name)),
    }
}

fn plan_deletion(seen: &Seen<'_>, work: &ManifestWork, now: &Time) -> Vec<Action> {
    if !has_finalizer(&work.metadata, names::FINALIZER) {
        return Vec::new();
    }
    let Some(applied) = seen.applied else {
        return vec![Action::RemoveFinalizer];
    };
    let told = work
        .status
        .as_ref()
        .is_some_and(|status| conditions::is_true(&status.conditions, names::DELETING));
    let mut actions = Vec::new();
    if !told {
        actions.push(Action::PatchStatus(Box::new(status::deleting(work, now))));
    }
    if applied.metadata.deletion_timestamp.is_some() {
        actions.extend(tear_down(seen, applied));
        return actions;
    }
    let owner = owner_of(applied);
    let mut bound = false;
    for (entry, live) in seen.residue {
        if !is_orphaned(
            work,
            &entry.group,
            &entry.resource,
            &entry.namespace,
            &entry.name,
        ) {
            continue;
        }
        match live {
            Live::Present(live) => {
                if let Some(references) = owners::change(live, &owner, false) {
                    bound = true;
                    actions.push(Action::Release {
                        target: entry.clone(),
                        patch: owners::patch(live, references),
                    });
                }
            }
            Live::Absent => (),
            Live::Unread(_) => {
                bound = true;
                actions.push(Action::Wait(REMOVAL_POLL));
            }
        }
    }
    if !bound {
        actions.push(Action::DeleteApplied);
    }
    actions
}

/// Deletes the objects of a trace that is being deleted; when all are gone, lets it go.
fn tear_down(seen: &Seen<'_>, applied: &AppliedManifestWork) -> Vec<Action> {
    if !has_finalizer(&applied.metadata, names::APPLIED_FINALIZER) {
        return vec![Action::Wait(REMOVAL_POLL)];
    }
    let owner = owner_of(applied);
    let removals: Vec<_> = seen
        .residue
        .iter()
        .map(|(entry, live)| (entry, removal::decide(live, &owner)))
        .collect();
    if removals
        .iter()
        .all(|(_, removal)| *removal == Removal::Gone)
    {
        return vec![Action::RemoveAppliedFinalizer];
    }
    let mut actions: Vec<Action> = removals
        .into_iter()
        .filter_map(|(entry, removal)| removal.action(entry))
        .collect();
    actions.push(Action::Wait(REMOVAL_POLL));
    actions
}

#[cfg(test)]
mod tests;
