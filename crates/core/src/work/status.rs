//! What the hub is told of a work: one entry for each manifest, and their sum.

use drover_api::{
    Condition, Time,
    conditions::{self, Status, condition},
    names::work as names,
    work::v1::{
        ConditionRule, ConditionRuleType, ManifestCondition, ManifestResourceMeta,
        ManifestResourceStatus, ManifestWork, ManifestWorkStatus,
    },
};
use serde_json::Value;

use super::{
    feedback,
    manifest::{self, Gvk},
    plan::{Attempt, Live, Observed},
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
    let entries: Vec<ManifestCondition> = manifests
        .iter()
        .enumerate()
        .map(|(ordinal, observed)| {
            let meta = observed.meta(ordinal);
            let before = find_entry(&old.resource_status.manifests, &meta);
            judge.manifest(meta, observed, before)
        })
        .collect();

    let mut all = old.conditions;
    if !complete {
        conditions::set(&mut all, applied(&entries, generation, now));
    }
    conditions::set(&mut all, available(&entries, generation, now));
    aggregate_rules(&mut all, &entries, generation, now);
    ManifestWorkStatus {
        conditions: all,
        resource_status: ManifestResourceStatus { manifests: entries },
    }
}

/// The status of a work that is being deleted.
pub fn deleting(work: &ManifestWork, now: &Time) -> ManifestWorkStatus {
    let mut status = work.status.clone().unwrap_or_default();
    let verdict = condition(
        names::DELETING,
        Status::True,
        names::REASON_DELETING,
        "The work is being deleted from the managed cluster",
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
        conditions::set(&mut all, self.available(observed));

        let mut status_feedback = before
            .map(|entry| entry.status_feedback.clone())
            .unwrap_or_default();
        if let (Live::Present(live), Ok(desired)) = (&observed.live, &observed.parsed) {
            let found = feedback::collect(options.feedback, &desired.gvk, live, self.raw_feedback);
            status_feedback.values = found.values;
            conditions::set(
                &mut all,
                self.condition(
                    names::STATUS_FEEDBACK_SYNCED,
                    found.status,
                    found.reason,
                    found.message,
                ),
            );
            for rule in options.conditions {
                if let Some(verdict) = self.rule(rule, &desired.gvk, live) {
                    conditions::set(&mut all, verdict);
                }
            }
        }
        ManifestCondition {
            resource_meta: meta,
            status_feedback,
            conditions: all,
        }
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
                    Attempt::None | Attempt::Done | Attempt::Failed(_) => {
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

    /// The verdict of a rule; none where the rule has nothing to say about the kind.
    fn rule(&self, rule: &ConditionRule, gvk: &Gvk, live: &Value) -> Option<Condition> {
        match rule.type_ {
            ConditionRuleType::WellKnownConditions => {
                if rule.condition != names::COMPLETE {
                    return None;
                }
                let complete = well_known_complete(gvk, live)?;
                let message = match (complete, rule.message.as_str()) {
                    (_, message) if !message.is_empty() => message.to_owned(),
                    (true, _) => "Manifest is complete".to_owned(),
                    (false, _) => "Manifest is not complete".to_owned(),
                };
                Some(self.condition(
                    &rule.condition,
                    complete.into(),
                    names::REASON_RULE_EVALUATED,
                    message,
                ))
            }
            ConditionRuleType::Cel => {
                let message = "CEL condition rules are not evaluated by this agent".to_owned();
                Some(self.condition(
                    &rule.condition,
                    Status::Unknown,
                    names::REASON_RULE_INTERNAL_ERROR,
                    message,
                ))
            }
        }
    }

    fn condition(&self, type_: &str, status: Status, reason: &str, message: String) -> Condition {
        condition(type_, status, reason, message, self.generation, self.now)
    }
}

/// Whether an object of a kind that ends has ended; none for other kinds (ocm, pkg/work/spoke/conditions).
fn well_known_complete(gvk: &Gvk, live: &Value) -> Option<bool> {
    let status = live.get("status");
    match (gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str()) {
        ("batch", "v1", "Job") => Some(
            status
                .and_then(|status| status.get("conditions")?.as_array())
                .is_some_and(|all| {
                    all.iter().any(|one| {
                        matches!(
                            one.get("type").and_then(Value::as_str),
                            Some("Complete" | "Failed")
                        ) && one.get("status").and_then(Value::as_str) == Some("True")
                    })
                }),
        ),
        ("", "v1", "Pod") => Some(
            status
                .and_then(|status| status.get("phase")?.as_str())
                .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed")),
        ),
        _ => None,
    }
}

fn applied(entries: &[ManifestCondition], generation: Option<i64>, now: &Time) -> Condition {
    if entries
        .iter()
        .all(|entry| conditions::is_true(&entry.conditions, names::APPLIED))
    {
        condition(
            names::APPLIED,
            Status::True,
            names::REASON_WORK_APPLIED,
            "Apply manifest work complete",
            generation,
            now,
        )
    } else {
        condition(
            names::APPLIED,
            Status::False,
            names::REASON_WORK_APPLY_FAILED,
            "Failed to apply manifest work",
            generation,
            now,
        )
    }
}

fn available(entries: &[ManifestCondition], generation: Option<i64>, now: &Time) -> Condition {
    let count = |status| {
        entries
            .iter()
            .filter(|entry| conditions::is(&entry.conditions, names::AVAILABLE, status))
            .count()
    };
    let (missing, unknown, there, total) = (
        count(Status::False),
        count(Status::Unknown),
        count(Status::True),
        entries.len(),
    );
    let (status, reason, message) = if missing > 0 {
        (
            Status::False,
            names::REASON_RESOURCES_NOT_AVAILABLE,
            format!("{missing} of {total} resources are not available"),
        )
    } else if unknown > 0 {
        (
            Status::Unknown,
            names::REASON_RESOURCES_UNKNOWN,
            format!("{unknown} of {total} resources have unknown status"),
        )
    } else if there == 0 {
        (
            Status::Unknown,
            names::REASON_RESOURCES_UNKNOWN,
            "cannot get any available resource".to_owned(),
        )
    } else {
        (
            Status::True,
            names::REASON_RESOURCES_AVAILABLE,
            "All resources are available".to_owned(),
        )
    };
    condition(names::AVAILABLE, status, reason, message, generation, now)
}

/// Sums up the verdicts of rules. What no rule says any more is removed.
fn aggregate_rules(
    all: &mut Vec<Condition>,
    entries: &[ManifestCondition],
    generation: Option<i64>,
    now: &Time,
) {
    let verdicts = || {
        entries
            .iter()
            .flat_map(|entry| &entry.conditions)
            .filter(|condition| condition.reason.starts_with("ConditionRule"))
    };
    let mut types: Vec<&str> = verdicts()
        .map(|condition| condition.type_.as_str())
        .collect();
    types.sort_unstable();
    types.dedup();
    all.retain(|condition| {
        condition.reason != names::REASON_RULES_AGGREGATED
            || types.contains(&condition.type_.as_str())
    });
    for type_ in types {
        let of_type: Vec<&Condition> = verdicts()
            .filter(|condition| condition.type_ == type_)
            .collect();
        let has = |status: Status| {
            of_type
                .iter()
                .any(|condition| condition.status == status.as_str())
        };
        let order = if type_ == names::PROGRESSING {
            [Status::True, Status::Unknown, Status::False]
        } else {
            [Status::False, Status::Unknown, Status::True]
        };
        let status = order
            .into_iter()
            .find(|&status| has(status))
            .unwrap_or(Status::Unknown);
        let message = match of_type.as_slice() {
            [only] => only.message.clone(),
            several => {
                let agree = several
                    .iter()
                    .filter(|condition| condition.status == status.as_str())
                    .count();
                format!(
                    "{agree} of {} manifests have condition {type_} with status {}",
                    several.len(),
                    status.as_str()
                )
            }
        };
        conditions::set(
            all,
            condition(
                type_,
                status,
                names::REASON_RULES_AGGREGATED,
                message,
                generation,
                now,
            ),
        );
    }
}

#[cfg(test)]
mod tests;
