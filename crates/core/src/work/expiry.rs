//! When a work that is done is deleted on the hub (ocm, pkg/work/hub/controllers/manifestworkgarbagecollection).

use drover_api::names::{replica_set, work as names};
use drover_api::{Time, conditions, work::v1::ManifestWork};
use std::time::Duration;

/// No work is left alone for longer.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// What to do with a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing.
    Keep,
    /// Look again after this time.
    After(Duration),
    /// Delete it.
    Now,
}

/// Decides about one work. One that belongs to a set of works is the set's to delete.
pub fn decide(work: &ManifestWork, now: &Time) -> Expiry {
    let of_set = work
        .metadata
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(replica_set::SET_LABEL));
    if of_set || work.metadata.deletion_timestamp.is_some() {
        return Expiry::Keep;
    }
    let limit = work.spec.delete_option.as_ref();
    let Some(limit) = limit.and_then(|option| option.ttl_seconds_after_finished) else {
        return Expiry::Keep;
    };
    let complete = work
        .status
        .as_ref()
        .and_then(|status| conditions::find(&status.conditions, names::COMPLETE))
        .filter(|complete| complete.status == conditions::Status::True.as_str());
    let Some(complete) = complete else {
        return Expiry::Keep;
    };
    // A negative limit has passed; so has none that lies beyond the time that can be told.
    let limit = Duration::from_secs(u64::try_from(limit).unwrap_or(0));
    // The agent's clock said when: a future of its own does not make the work live longer than the limit.
    let since = Duration::try_from(now.0.duration_since(complete.last_transition_time.0));
    match limit.checked_sub(since.unwrap_or_default()) {
        Some(left) if !left.is_zero() => Expiry::After(left.min(LONGEST_WAIT)),
        Some(_) | None => Expiry::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn works_expire_when_they_are_done() {
        let at =
            |second| Time(jiff::Timestamp::from_second(second).expect("small seconds are valid"));
        let check = |limit: Value, complete: &str, metadata: Value, now: i64, expected: Expiry| {
            let work = json!({
                "metadata": metadata, "spec": {"deleteOption": {"ttlSecondsAfterFinished": limit}},
                "status": {"conditions": [{"type": "Complete", "status": complete, "reason": "R", "message": "",
                    "lastTransitionTime": "1970-01-01T00:01:40Z"}]},
            });
            let work: ManifestWork = serde_json::from_value(work).expect("it is a work");
            assert_eq!(
                decide(&work, &at(now)),
                expected,
                "{limit} {complete} {now}"
            );
        };
        let free = || json!({});
        check(
            json!(30),
            "True",
            free(),
            110,
            Expiry::After(Duration::from_secs(20)),
        );
        check(json!(30), "True", free(), 130, Expiry::Now);
        check(
            json!(30),
            "True",
            free(),
            10,
            Expiry::After(Duration::from_secs(30)),
        );
        check(json!(0), "True", free(), 100, Expiry::Now);
        check(json!(-5), "True", free(), 100, Expiry::Now);
        check(
            json!(i64::MAX),
            "True",
            free(),
            100,
            Expiry::After(LONGEST_WAIT),
        );
        check(json!(0), "False", free(), 1000, Expiry::Keep);
        check(json!(null), "True", free(), 1000, Expiry::Keep);
        let set =
            json!({"labels": {"work.open-cluster-management.io/manifestworkreplicaset": "n.s"}});
        check(json!(0), "True", set, 1000, Expiry::Keep);
        check(
            json!(0),
            "True",
            json!({"deletionTimestamp": "1970-01-01T00:01:40Z"}),
            1000,
            Expiry::Keep,
        );
    }
}
