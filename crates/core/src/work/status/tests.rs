use super::*;
use crate::work::manifest::{Served, parse};
use serde_json::{Value, json};

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
        pods: Vec::new(),
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
            "Job is finished".to_owned()
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

/// A work of one deployment, with these options for it.
fn of_deployment(options: &Value) -> ManifestWork {
    let mut config = options.clone();
    config["resourceIdentifier"] =
        json!({"group": "apps", "resource": "things", "name": "*", "namespace": "*"});
    work(json!({"manifestConfigs": [config]}))
}

fn deployment(status: Value) -> Observed {
    let manifest =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    let mut live = manifest.clone();
    live["status"] = status;
    observed(&manifest, true, Live::Present(live), Attempt::Done)
}

#[test]
fn a_rule_may_say_what_available_means() {
    let rule = json!({"conditionRules": [{"condition": "Available", "type": "CEL", "celExpressions": ["object.status.replicas > 1"]}]});
    let mut work = of_deployment(&rule);
    let one = [deployment(json!({"replicas": 1}))];
    let status = report(&work, &one, false, &at(1));
    assert_eq!(
        verdict(&status.conditions, "Available"),
        (
            "False".to_owned(),
            "ResourcesNotAvailable".to_owned(),
            "1 of 1 resources are not available".to_owned()
        )
    );
    work.status = Some(status.clone());
    assert_eq!(
        report(&work, &one, false, &at(2)),
        status,
        "it does not flip"
    );
}

#[test]
fn new_values_are_news() {
    let mut work = of_deployment(&json!({"feedbackRules": [{"type": "WellKnownStatus"}]}));
    let synced = |status: &ManifestWorkStatus| {
        let all = &status.resource_status.manifests[0].conditions;
        conditions::find(all, "StatusFeedbackSynced").map(|it| it.last_transition_time.clone())
    };
    let status = report(&work, &[deployment(json!({"replicas": 1}))], false, &at(1));
    work.status = Some(status);
    let same = report(&work, &[deployment(json!({"replicas": 1}))], false, &at(2));
    assert_eq!(synced(&same), Some(at(1)));
    let other = report(&work, &[deployment(json!({"replicas": 2}))], false, &at(3));
    assert_eq!(synced(&other), Some(at(3)));
}

#[test]
fn rules_are_summed_up() {
    let rule = |type_: &str| json!({"condition": type_, "type": "CEL", "celExpressions": ["object.status.replicas > 1"]});
    let work = of_deployment(&json!({"conditionRules": [rule("Progressing"), rule("Degraded")]}));
    let check = |replicas: &[i64], progressing: (&str, &str), degraded: (&str, &str)| {
        let all: Vec<_> = replicas
            .iter()
            .map(|it| deployment(json!({"replicas": it})))
            .collect();
        let status = report(&work, &all, false, &at(1));
        for (type_, expected) in [("Progressing", progressing), ("Degraded", degraded)] {
            let (seen, reason, message) = verdict(&status.conditions, type_);
            assert_eq!(
                (seen.as_str(), message.as_str(), reason.as_str()),
                (expected.0, expected.1, "ConditionRulesAggregated"),
                "{type_}"
            );
        }
    };
    check(
        &[2],
        ("True", "Manifest is Progressing"),
        ("True", "Manifest is Degraded"),
    );
    let sum = "Aggregated from 2 manifest conditions";
    check(&[1, 2], ("True", sum), ("False", sum));
    check(&[2, 2], ("True", sum), ("True", sum));
    check(&[1, 1], ("False", sum), ("False", sum));
}

#[test]
fn health_names_what_is_wrong() {
    let good = || deployment(json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}));
    let waits = || deployment(json!({"replicas": 1, "updatedReplicas": 1}));
    let bad = || {
        deployment(
            json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]}),
        )
    };
    let unknown = || observed(&thing("a"), true, Live::Present(thing("a")), Attempt::Done);
    let check = |manifests: &[Observed], expected: Option<(&str, &str, &str)>| {
        let status = report(&work(json!({})), manifests, false, &at(1));
        let found = conditions::find(&status.conditions, "Healthy");
        let found = found.map(|it| (it.status.as_str(), it.reason.as_str(), it.message.as_str()));
        assert_eq!(found, expected);
        let (seen, ..) = verdict(&status.conditions, "Available");
        assert_eq!(seen, "True", "what exists is available");
    };
    check(&[unknown()], None);
    check(
        &[unknown(), good()],
        Some((
            "True",
            "ResourcesHealthy",
            "All resources of which it is known are healthy",
        )),
    );
    check(
        &[good(), waits()],
        Some((
            "Unknown",
            "ResourcesProgressing",
            "Deployment web: DeploymentProgressing: 0 of 1 replicas are available, 1 are up to date",
        )),
    );
    check(
        &[waits(), bad(), bad()],
        Some((
            "False",
            "ResourcesUnhealthy",
            "Deployment web: ReplicaFailure: 0 of 1 replicas are available, 0 are up to date: FailedCreate: quota (and 1 more)",
        )),
    );
}

#[test]
fn what_the_executor_may_not_touch_is_not_told_of() {
    let work = of_deployment(&json!({
        "feedbackRules": [{"type": "WellKnownStatus"}],
        "conditionRules": [{"condition": "Fine", "type": "CEL", "celExpressions": ["true"]}],
    }));
    let mut denied = deployment(json!({"replicas": 1}));
    denied.attempt = Attempt::Denied("not allowed".to_owned());
    let status = report(&work, &[denied], false, &at(1));
    let entry = &status.resource_status.manifests[0];
    assert!(entry.status_feedback.values.is_empty());
    assert_eq!(verdict(&entry.conditions, "Applied").0, "False");
    assert_eq!(
        verdict(&entry.conditions, "StatusFeedbackSynced").0,
        "False"
    );
    for absent in ["Fine", "Healthy"] {
        assert_eq!(conditions::find(&entry.conditions, absent), None);
    }
}

#[test]
fn what_comes_into_a_work_that_is_done_is_left_alone() {
    let mut work = work(json!({}));
    let there = |name: &str| {
        observed(
            &thing(name),
            true,
            Live::Present(thing(name)),
            Attempt::None,
        )
    };
    let mut status = report(&work, &[there("a")], false, &at(1));
    let done = condition(
        "Complete",
        Status::True,
        "ManifestsComplete",
        "",
        Some(3),
        &at(1),
    );
    conditions::set(&mut status.conditions, done);
    work.status = Some(status);
    let new = observed(&thing("b"), true, Live::Absent, Attempt::None);
    let status = report(&work, &[there("a"), new], false, &at(2));
    assert_eq!(status.resource_status.manifests.len(), 1);
    assert_eq!(verdict(&status.conditions, "Available").0, "True");
}
