//! The conditions of a work, from those of its manifests.

use drover_api::{
    Condition, Time,
    conditions::{self, Status, condition},
    names::work as names,
    work::v1::ManifestCondition,
};

pub(super) fn applied(
    entries: &[ManifestCondition],
    generation: Option<i64>,
    now: &Time,
) -> Condition {
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

pub(super) fn available(
    entries: &[ManifestCondition],
    generation: Option<i64>,
    now: &Time,
) -> Condition {
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
            "cannot get any available resource ".to_owned(),
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
pub(super) fn rules(
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
            .filter(|condition| condition.type_ != names::AVAILABLE)
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
            [only] if !only.message.is_empty() => only.message.clone(),
            several => format!("Aggregated from {} manifest conditions", several.len()),
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

/// Sums up health: the first object that is wrong is named, or else the first that is not there yet. Where nothing is known of any
/// object, nothing is said of the work.
pub(super) fn healthy(
    all: &mut Vec<Condition>,
    entries: &[ManifestCondition],
    generation: Option<i64>,
    now: &Time,
) {
    let known: Vec<(&ManifestCondition, &Condition)> = entries
        .iter()
        .filter_map(|entry| Some((entry, conditions::find(&entry.conditions, names::HEALTHY)?)))
        .collect();
    if known.is_empty() {
        conditions::remove(all, names::HEALTHY);
        return;
    }
    let of = |status: Status| {
        let mut of = known.iter().filter(|(_, it)| it.status == status.as_str());
        of.next().map(|first| (first, of.count()))
    };
    let (status, reason, message) = if let Some((first, more)) = of(Status::False) {
        (Status::False, names::REASON_UNHEALTHY, named(first, more))
    } else if let Some((first, more)) = of(Status::Unknown) {
        (
            Status::Unknown,
            names::REASON_HEALTH_WAITS,
            named(first, more),
        )
    } else {
        let all = "All resources of which it is known are healthy".to_owned();
        (Status::True, names::REASON_ALL_HEALTHY, all)
    };
    conditions::set(
        all,
        condition(names::HEALTHY, status, reason, message, generation, now),
    );
}

fn named((entry, condition): &(&ManifestCondition, &Condition), more: usize) -> String {
    let meta = &entry.resource_meta;
    let place = if meta.namespace.is_empty() {
        meta.name.clone()
    } else {
        format!("{}/{}", meta.namespace, meta.name)
    };
    let more = match more {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!(
        "{} {place}: {}: {}{more}",
        meta.kind, condition.reason, condition.message
    )
}
