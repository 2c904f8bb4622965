//! What the hub is told of a work: one entry for each manifest, and their sum.

mod limit;
mod sum;

use drover_api::{
    Condition, Time,
    conditions::{self, Status, condition},
    names::work as names,
    work::v1::{
        FeedbackValue, ManifestCondition, ManifestResourceMeta, ManifestResourceStatus,
        ManifestWork, ManifestWorkStatus,
    },
};

use super::{
    feedback::{self, Feedback},
    health::{self, Health},
    manifest,
    plan::{Attempt, Live, Observed},
    rules,
};

/// The status of a work whose manifests were observed (and, where needed, attempted). Transition times are kept where the status stays.
pub fn report(
    work: &ManifestWork,
    manifests: &[Observed],
    raw_feedback: bool,
    now: &Time,
) -> ManifestWorkStatus {
    let old = work.status.clone().unwrap_or_default();
    let generation = work.metadata.generation;
    let complete = conditions::is_true(&old.conditions, names::COMPLETE);
    let judge = Judge {
        work,
        generation,
        raw_feedback,
        complete,
        now,
    };
    let mut entries: Vec<ManifestCondition> = manifests
        .iter()
        .enumerate()
        .filter_map(|(ordinal, observed)| {
            let meta = observed.meta(ordinal);
            let before = find_entry(&old.resource_status.manifests, &meta);
            // What came into the spec of a work that is done is not applied any more.
            (before.is_some() || !complete).then(|| judge.manifest(meta, observed, before))
        })
        .collect();
    limit::messages(&mut entries);

    let mut all = old.conditions;
    if !complete {
        conditions::set(&mut all, sum::applied(&entries, generation, now));
    }
    conditions::set(&mut all, sum::available(&entries, generation, now));
    sum::healthy(&mut all, &entries, generation, now);
    sum::rules(&mut all, &entries, generation, now);
    ManifestWorkStatus {
        conditions: all,
        resource_status: ManifestResourceStatus { manifests: entries },
    }
}

/// The status of a work that is not even looked at: why.
pub fn refused(work: &ManifestWork, why: &str, now: &Time) -> ManifestWorkStatus {
    let mut status = work.status.clone().unwrap_or_default();
    let verdict = condition(
        names::APPLIED,
        Status::False,
        names::REASON_WORK_APPLY_FAILED,
        format!("Failed to apply manifest work: {why}"),
        work.metadata.generation,
        now,
    );
    conditions::set(&mut status.conditions, verdict);
    status
}

/// The status of a work that is being deleted.
pub fn deleting(work: &ManifestWork, now: &Time) -> ManifestWorkStatus {
    let mut status = work.status.clone().unwrap_or_default();
    let verdict = condition(
        names::DELETING,
        Status::True,
        names::REASON_DELETING,
        "ManifestWork is being deleted",
        work.metadata.generation,
        now,
    );
    conditions::set(&mut status.conditions, verdict);
    status
}

/// The entry of an earlier status for the same object.
pub fn find_entry<'e>(
    entries: &'e [ManifestCondition],
    meta: &ManifestResourceMeta,
) -> Option<&'e ManifestCondition> {
    let key = |meta: &ManifestResourceMeta| {
        (
            meta.group.clone(),
            meta.kind.clone(),
            meta.namespace.clone(),
            meta.name.clone(),
        )
    };
    if meta.name.is_empty() {
        return entries.iter().find(|entry| {
            entry.resource_meta.ordinal == meta.ordinal && entry.resource_meta.name.is_empty()
        });
    }
    entries
        .iter()
        .find(|entry| key(&entry.resource_meta) == key(meta))
}

struct Judge<'a> {
    work: &'a ManifestWork,
    generation: Option<i64>,
    raw_feedback: bool,
    complete: bool,
    now: &'a Time,
}

impl Judge<'_> {
    fn manifest(
        &self,
        meta: ManifestResourceMeta,
        observed: &Observed,
        before: Option<&ManifestCondition>,
    ) -> ManifestCondition {
        let options = manifest::options(&self.work.spec, &meta);
        let mut all = before
            .map(|entry| entry.conditions.clone())
            .unwrap_or_default();
        // Verdicts of rules that an older generation had are not carried on.
        all.retain(|condition| {
            !condition.reason.starts_with("ConditionRule")
                || condition.observed_generation == self.generation
        });
        let done = self.complete || conditions::is_true(&all, names::COMPLETE);
        if !done || conditions::find(&all, names::APPLIED).is_none() {
            conditions::set(&mut all, self.applied(observed));
        }
        let live = match (&observed.live, &observed.parsed) {
            (Live::Present(live), Ok(desired)) => Some((live, &desired.gvk)),
            _ => None,
        };
        let denied = observed.denied();
        let verdicts = match live {
            Some((live, gvk)) if denied.is_none() => rules::judge(options.conditions, gvk, live),
            _ => Vec::new(),
        };
        // A rule may say what Available means for this object.
        if verdicts.iter().all(|it| it.type_ != names::AVAILABLE) {
            conditions::set(&mut all, self.available(observed));
        }
        for it in verdicts {
            let verdict = self.condition(&it.type_, it.status, it.reason, it.message);
            conditions::set(&mut all, verdict);
        }
        let mut status_feedback = before
            .map(|entry| entry.status_feedback.clone())
            .unwrap_or_default();
        conditions::remove(&mut all, names::HEALTHY);
        if let Some((live, gvk)) = live {
            let found = match denied {
                None => feedback::collect(options.feedback, gvk, live, self.raw_feedback),
                Some(why) => Feedback::withheld(why),
            };
            self.feedback(&mut all, &mut status_feedback.values, found);
            let health = health::of(gvk, live, &observed.pods).filter(|_| denied.is_none());
            if let Some(health) = health {
                let earlier = before.map_or(&[][..], |entry| &entry.conditions);
                all.extend(conditions::find(earlier, names::HEALTHY).cloned());
                conditions::set(&mut all, self.healthy(health));
            }
        }
        ManifestCondition {
            resource_meta: meta,
            status_feedback,
            conditions: all,
        }
    }

    fn feedback(&self, all: &mut Vec<Condition>, values: &mut Vec<FeedbackValue>, found: Feedback) {
        // New values are news, even where the status of the condition stays (ocm, pkg/work/spoke/controllers/statuscontroller).
        if *values != found.values {
            conditions::remove(all, names::STATUS_FEEDBACK_SYNCED);
        }
        *values = found.values;
        let synced = self.condition(
            names::STATUS_FEEDBACK_SYNCED,
            found.status,
            found.reason,
            found.message,
        );
        conditions::set(all, synced);
    }

    fn healthy(&self, health: Health) -> Condition {
        let (status, reason, message) = match health {
            Health::Good => (
                Status::True,
                names::REASON_HEALTHY.to_owned(),
                "Resource is healthy".to_owned(),
            ),
            Health::Waits(why) => (Status::Unknown, why.reason, why.message),
            Health::Bad(why) => (Status::False, why.reason, why.message),
        };
        self.condition(names::HEALTHY, status, &reason, message)
    }

    fn applied(&self, observed: &Observed) -> Condition {
        match observed.failure() {
            None => self.condition(
                names::APPLIED,
                Status::True,
                names::REASON_MANIFEST_APPLIED,
                "Apply manifest complete".to_owned(),
            ),
            Some(why) => {
                let reason = match observed.attempt {
                    Attempt::BadIgnoreField(_) => names::REASON_IGNORE_FIELD_ERROR,
                    Attempt::None | Attempt::Done | Attempt::Failed(_) | Attempt::Denied(_) => {
                        names::REASON_MANIFEST_APPLY_FAILED
                    }
                };
                self.condition(
                    names::APPLIED,
                    Status::False,
                    reason,
                    format!("Failed to apply manifest: {why}"),
                )
            }
        }
    }

    fn available(&self, observed: &Observed) -> Condition {
        let (status, reason, message) = match &observed.live {
            _ if observed.parsed.is_err() || observed.served.is_none() => (
                Status::Unknown,
                names::REASON_INCOMPLETE_META,
                "Resource meta is incomplete".to_owned(),
            ),
            Live::Present(_) => (
                Status::True,
                names::REASON_RESOURCE_AVAILABLE,
                "Resource is available".to_owned(),
            ),
            Live::Absent => (
                Status::False,
                names::REASON_RESOURCE_NOT_AVAILABLE,
                "Resource is not available".to_owned(),
            ),
            Live::Unread(why) => (
                Status::Unknown,
                names::REASON_FETCHING_FAILED,
                format!("Failed to fetch resource: {why}"),
            ),
        };
        self.condition(names::AVAILABLE, status, reason, message)
    }

    fn condition(&self, type_: &str, status: Status, reason: &str, message: String) -> Condition {
        condition(type_, status, reason, message, self.generation, self.now)
    }
}

#[cfg(test)]
mod tests;
