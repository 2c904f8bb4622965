//! After the writes: what left the spec goes, what is there is recorded and reported.

use drover_api::{
    Time, conditions,
    names::work as names,
    work::v1::{
        AppliedManifestResourceMeta, AppliedManifestWork, AppliedManifestWorkStatus,
        ManifestResourceMeta, ManifestWork,
    },
};
use serde_json::Value;

use super::{
    Action, Live, Observed, REMOVAL_POLL, Seen, may_be,
    removal::{self, Removal},
};
use crate::work::{owners::Owner, status};

/// After the writes: remove what left the spec, record what is there, report.
pub(super) fn settle(
    seen: &Seen<'_>,
    work: &ManifestWork,
    applied: &AppliedManifestWork,
    owner: &Owner,
    now: &Time,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut waits = false;
    let mut staying = Vec::new();
    let done = work
        .status
        .as_ref()
        .is_some_and(|status| conditions::is_true(&status.conditions, names::COMPLETE));
    for (entry, live) in seen.residue {
        // What a work that is done has left behind stays until the work goes.
        if done {
            staying.push(entry.clone());
            continue;
        }
        let removal = removal::decide(live, owner);
        if removal != Removal::Gone {
            staying.push(entry.clone());
        }
        waits |= removal != Removal::Gone;
        actions.extend(removal.action(entry));
    }
    let old = applied.status.clone().unwrap_or_default();
    let recorded = trace_of(seen.manifests, &old.applied_resources, staying);
    if !says(&old.applied_resources, &recorded) {
        // Recorded before anything is deleted: what is on its way out is still in the record.
        actions.insert(
            0,
            Action::PatchApplied(AppliedManifestWorkStatus {
                applied_resources: recorded,
                eviction_start_time: old.eviction_start_time,
            }),
        );
    }
    let status = status::report(work, seen.manifests, seen.raw_feedback, now);
    if work.status.as_ref() != Some(&status) {
        actions.push(Action::PatchStatus(Box::new(status)));
    }
    let returning = seen.manifests.iter().any(|one| matches!(&one.live, Live::Present(live) if live.pointer("/metadata/deletionTimestamp").is_some()));
    if waits || returning {
        actions.push(Action::Wait(REMOVAL_POLL));
    }
    actions
}

/// The writes, and before them the record of what they are about to make: an agent that dies in between, or gets another spec then, leaves
/// nothing behind that nobody knows of.
pub(super) fn announced(
    seen: &Seen<'_>,
    applied: &AppliedManifestWork,
    writes: Vec<Action>,
) -> Vec<Action> {
    let old = applied.status.clone().unwrap_or_default();
    let mut all = old.applied_resources.clone();
    for action in &writes {
        let Action::Write { ordinal, .. } = action else {
            continue;
        };
        let meta = seen.manifests[*ordinal].meta(*ordinal);
        if !all.iter().any(|entry| may_be(&meta, entry)) {
            all.push(entry_of(meta, String::new()));
        }
    }
    if all.len() == old.applied_resources.len() {
        return writes;
    }
    all.sort();
    let record = Action::PatchApplied(AppliedManifestWorkStatus {
        applied_resources: all,
        eviction_start_time: old.eviction_start_time,
    });
    std::iter::once(record).chain(writes).collect()
}

/// Whether a record says this already. A uid that it does not give yet is not worth a request: whose an object is, it says itself.
fn says(old: &[AppliedManifestResourceMeta], new: &[AppliedManifestResourceMeta]) -> bool {
    let key = |it: &AppliedManifestResourceMeta| AppliedManifestResourceMeta {
        uid: String::new(),
        ..it.clone()
    };
    let mut old = old.to_vec();
    old.sort();
    let same = |(old, new): (&AppliedManifestResourceMeta, &AppliedManifestResourceMeta)| {
        old == new || (old.uid.is_empty() && *old == key(new))
    };
    old.len() == new.len() && old.iter().zip(new).all(same)
}

fn entry_of(meta: ManifestResourceMeta, uid: String) -> AppliedManifestResourceMeta {
    AppliedManifestResourceMeta {
        group: meta.group,
        version: meta.version,
        resource: meta.resource,
        name: meta.name,
        namespace: meta.namespace,
        uid,
    }
}

/// The record of the objects that are in the cluster for the work.
fn trace_of(
    manifests: &[Observed],
    old: &[AppliedManifestResourceMeta],
    staying: Vec<AppliedManifestResourceMeta>,
) -> Vec<AppliedManifestResourceMeta> {
    let mut all = staying;
    for (at, observed) in manifests.iter().enumerate() {
        let meta = observed.meta(at);
        let uid = match &observed.live {
            // Those that are not owned are recorded too; removal passes them by.
            Live::Present(live) => {
                let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
                Some(uid.unwrap_or_default().to_owned())
            }
            Live::Absent | Live::Unread(_) => None,
        };
        match uid {
            Some(uid) => all.push(entry_of(meta, uid)),
            // What cannot be told now stays as it was recorded.
            None if observed.live != Live::Absent
                || observed.served.is_none()
                || observed.failure().is_some() =>
            {
                all.extend(old.iter().filter(|entry| may_be(&meta, entry)).cloned());
            }
            None => (),
        }
    }
    all.sort();
    all.dedup_by(|one, other| {
        (&one.group, &one.resource, &one.namespace, &one.name)
            == (&other.group, &other.resource, &other.namespace, &other.name)
    });
    all
}
