use super::*;
use crate::work::manifest::{Served, parse};
use serde_json::json;

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(second).expect("small seconds are valid"))
}

fn work(spec: Value) -> ManifestWork {
    serde_json::from_value(json!({"metadata": {"name": "w", "generation": 3}, "spec": spec}))
        .expect("the work is valid")
}

fn observed(manifest: &Value, served: bool, live: Live, attempt: Attempt) -> Observed {
    Observed {
        parsed: parse(manifest),
        served: served.then(|| Served {
            resource: "things".to_owned(),
            namespaced: false,
        }),
        live,
        attempt,
    }
}

fn thing(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": name}})
}

fn verdict(conditions: &[Condition], type_: &str) -> (String, String, String) {
    let found = conditions::find(conditions, type_)
        .unwrap_or_else(|| panic!("{type_} is there: {conditions:?}"));
    (
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    )
}

fn check(manifests: &[Observed], applied: (&str, &str), available: (&str, &str, &str)) {
    let status = report(&work(json!({})), manifests, false, &at(1));
    let (seen, reason, _) = verdict(&status.conditions, "Applied");
    assert_eq!((seen.as_str(), reason.as_str()), applied);
    let (seen, reason, message) = verdict(&status.conditions, "Available");
    assert_eq!(
        (seen.as_str(), reason.as_str(), message.as_str()),
        available
    );
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(3))
    );
}

#[test]
fn the_sum_of_manifests() {
    let there = || Live::Present(thing("a"));
    let good = || observed(&thing("a"), true, there(), Attempt::Done);
    let ok = ("True", "AppliedManifestWorkComplete");
    let failed = ("False", "AppliedManifestWorkFailed");
    check(
        &[good()],
        ok,
        ("True", "ResourcesAvailable", "All resources are available"),
    );
    check(
        &[
            good(),
            observed(&thing("b"), true, Live::Absent, Attempt::Done),
        ],
        ok,
        (
            "False",
            "ResourcesNotAvailable",
            "1 of 2 resources are not available",
        ),
    );
    check(
        &[
            good(),
            observed(
                &thing("b"),
                true,
                Live::Unread("timeout".to_owned()),
                Attempt::None,
            ),
        ],
        failed,
        (
            "Unknown",
            "ResourcesStatusUnknown",
            "1 of 2 resources have unknown status",
        ),
    );
    check(
        &[
            good(),
            observed(&thing("b"), false, Live::Absent, Attempt::None),
        ],
        failed,
        (
            "Unknown",
            "ResourcesStatusUnknown",
            "1 of 2 resources have unknown status",
        ),
    );
    check(
        &[observed(&json!(1), false, Live::Absent, Attempt::None)],
        failed,
        (
            "Unknown",
            "ResourcesStatusUnknown",
            "1 of 1 resources have unknown status",
        ),
    );
    check(
        &[observed(
            &thing("a"),
            true,
            there(),
            Attempt::Failed("no".to_owned()),
        )],
        failed,
        ("True", "ResourcesAvailable", "All resources are available"),
    );
}

#[test]
fn each_manifest_says_why() {
    let check = |observed: Observed, expected: [(&str, &str, &str, &str); 2]| {
        let status = report(&work(json!({})), &[observed], false, &at(1));
        for (type_, seen, reason, message) in expected {
            assert_eq!(
                verdict(&status.resource_status.manifests[0].conditions, type_),
                (seen.to_owned(), reason.to_owned(), message.to_owned())
            );
        }
    };
    check(
        observed(&thing("a"), false, Live::Absent, Attempt::None),
        [
            (
                "Applied",
                "False",
                "AppliedManifestFailed",
                "Failed to apply manifest: no matches for kind \"Thing\" in version \"v1\"",
            ),
            (
                "Available",
                "Unknown",
                "IncompleteResourceMeta",
                "Resource meta is incomplete",
            ),
        ],
    );
    check(
        observed(
            &thing("a"),
            true,
            Live::Absent,
            Attempt::BadIgnoreField("x".to_owned()),
        ),
        [
            (
                "Applied",
                "False",
                "AppliedManifestSSAIgnoreFieldError",
                "Failed to apply manifest: x",
            ),
            (
                "Available",
                "False",
                "ResourceNotAvailable",
                "Resource is not available",
            ),
        ],
    );
}

#[test]
fn a_status_settles_and_keeps_its_times() {
    let mut work = work(json!({}));
    let manifests = [observed(
        &thing("a"),
        true,
        Live::Present(thing("a")),
        Attempt::None,
    )];
    let first = report(&work, &manifests, false, &at(1));
    work.status = Some(first.clone());
    assert_eq!(report(&work, &manifests, false, &at(2)), first);
}

#[test]
fn rules_make_a_work_complete() {
    let mut work = work(json!({"manifestConfigs": [{
        "resourceIdentifier": {"group": "batch", "resource": "things", "name": "*", "namespace": "*"},
        "conditionRules": [{"condition": "Complete", "type": "WellKnownConditions"}],
    }]}));
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}});
    let live = |complete: &str| json!({"status": {"conditions": [{"type": "Complete", "status": complete}]}});
    let status = report(
        &work,
        &[observed(
            &job,
            true,
            Live::Present(live("False")),
            Attempt::Done,
        )],
        false,
        &at(1),
    );
    assert_eq!(verdict(&status.conditions, "Complete").0, "False");
    let status = report(
        &work,
        &[observed(
            &job,
            true,
            Live::Present(live("True")),
            Attempt::Done,
        )],
        false,
        &at(1),
    );
    assert_eq!(
        verdict(&status.conditions, "Complete"),
        (
            "True".to_owned(),
            "ConditionRulesAggregated".to_owned(),
            "Manifest is complete".to_owned()
        )
    );

    // A new generation without the rule forgets the verdict.
    work.status = Some(status);
    work.metadata.generation = Some(4);
    work.spec.manifest_configs.clear();
    let status = report(
        &work,
        &[observed(
            &job,
            true,
            Live::Present(live("True")),
            Attempt::Done,
        )],
        false,
        &at(2),
    );
    assert_eq!(conditions::find(&status.conditions, "Complete"), None);
}
