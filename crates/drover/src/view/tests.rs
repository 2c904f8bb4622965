use serde_json::json;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("it is a time")
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, generation: i64) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn cluster_of(accepts: bool, conditions: &[Value], leaving: bool) -> Cluster {
    let deleted = leaving.then_some("2026-01-01T01:00:00Z");
    let object = json!({
        "metadata": {"name": "c1", "deletionTimestamp": deleted},
        "spec": {"hubAcceptsClient": accepts},
        "status": {"conditions": conditions, "version": {"kubernetes": "v1.36.0"}},
    });
    cluster(&serde_json::from_value(object).expect("it is a cluster")).1
}

#[test]
fn a_cluster_says_what_it_waits_for() {
    let accepted = condition(
        "HubAcceptedManagedCluster",
        "True",
        "HubClusterAdminAccepted",
        "",
        1,
    );
    let denied = condition(
        "HubAcceptedManagedCluster",
        "False",
        "HubClusterAdminDenied",
        "",
        1,
    );
    let joined = condition(
        "ManagedClusterJoined",
        "True",
        "ManagedClusterJoined",
        "",
        1,
    );
    let available =
        |status: &str| condition("ManagedClusterConditionAvailable", status, "R", "m", 1);
    let clock = condition(
        "ManagedClusterConditionClockSynced",
        "False",
        "Clock",
        "far off",
        1,
    );
    let check = |accepts, conditions: &[Value], leaving, expected: &[(Severity, &str)]| {
        let found = cluster_of(accepts, conditions, leaving);
        let found: Vec<(Severity, &str)> = found
            .problems
            .iter()
            .map(|problem| (problem.severity, problem.text.as_str()))
            .collect();
        assert_eq!(found, expected);
    };
    let (failing, waiting) = (Severity::Failing, Severity::Waiting);
    let lets_in = "`drover clusters accept c1` lets it in";
    check(
        false,
        &[],
        false,
        &[(waiting, &format!("not accepted: {lets_in}"))],
    );
    check(
        false,
        &[denied],
        false,
        &[(waiting, &format!("denied: {lets_in}"))],
    );
    check(
        true,
        &[accepted],
        false,
        &[(waiting, "accepted, but its agent has not joined yet")],
    );
    let up = [joined.clone(), available("True")];
    check(
        true,
        std::slice::from_ref(&joined),
        false,
        &[(waiting, "its agent has not reported yet")],
    );
    check(true, &up, false, &[]);
    check(true, &up, true, &[(waiting, "is leaving")]);
    // A cluster that is not heard of is as bad as one that says that it fails.
    for status in ["False", "Unknown"] {
        check(
            true,
            &[joined.clone(), available(status)],
            false,
            &[(failing, "R: m")],
        );
    }
    let late = [joined, available("True"), clock];
    check(true, &late, false, &[(failing, "Clock: far off")]);
}

fn work_of(name: &str, conditions: &[Value], manifests: &[Value]) -> ManifestWork {
    let object = json!({
        "metadata": {"name": name, "namespace": "c1", "generation": 2},
        "spec": {"workload": {"manifests": []}},
        "status": {"conditions": conditions, "resourceStatus": {"manifests": manifests}},
    });
    serde_json::from_value(object).expect("it is a work")
}

fn manifest(name: &str, conditions: &[Value]) -> Value {
    json!({
        "resourceMeta": {"ordinal": 0, "group": "", "version": "v1", "kind": "ConfigMap", "resource": "configmaps",
            "name": name, "namespace": "shop"},
        "conditions": conditions,
    })
}

#[test]
fn a_work_says_which_object_is_wrong_and_why() {
    let check = |conditions: &[Value],
                 manifests: &[Value],
                 states: [&str; 2],
                 expected: &[(Severity, &str)]| {
        let (_, found) = work(&work_of("w", conditions, manifests));
        assert_eq!([&*found.applied, &*found.available], states);
        let problems: Vec<(Severity, &str)> = found
            .problems
            .iter()
            .map(|problem| (problem.severity, problem.text.as_str()))
            .collect();
        assert_eq!(problems, expected);
    };
    let (failing, waiting) = (Severity::Failing, Severity::Waiting);
    let applied = |status: &str, generation| condition("Applied", status, "A", "all", generation);
    let available = |status: &str| condition("Available", status, "V", "", 2);
    let healthy = |status: &str| condition("Healthy", status, "H", "1 of 3 ready", 2);
    let good = [applied("True", 2), available("True")];
    check(
        &[],
        &[],
        ["Unknown", "Unknown"],
        &[(waiting, "not reported yet")],
    );
    check(&good, &[], ["True", "True"], &[]);
    check(
        &[applied("True", 1)],
        &[],
        ["Unknown", "Unknown"],
        &[(waiting, "generation 2 not reported yet, only 1")],
    );
    // An object that is not applied is not available for the same reason, and its work says the same.
    let refused = condition("Applied", "False", "AppliedManifestFailed", "forbidden", 0);
    let missing = condition("Available", "False", "ResourceNotAvailable", "not found", 0);
    check(
        &[applied("False", 2), available("False")],
        &[
            manifest("a", &[refused, missing.clone()]),
            manifest("b", &[missing]),
        ],
        ["False", "False"],
        &[
            (
                failing,
                "ConfigMap shop/a: AppliedManifestFailed: forbidden",
            ),
            (failing, "ConfigMap shop/b: ResourceNotAvailable: not found"),
        ],
    );
    check(
        &[applied("False", 2), available("True")],
        &[],
        ["False", "True"],
        &[(failing, "A: all")],
    );
    let sick = [applied("True", 2), available("True"), healthy("False")];
    check(
        &sick,
        &[],
        ["True", "True"],
        &[(failing, "H: 1 of 3 ready")],
    );
    let rising = manifest("a", &[healthy("Unknown")]);
    check(
        &good,
        &[rising],
        ["True", "True"],
        &[(waiting, "ConfigMap shop/a: H: 1 of 3 ready")],
    );
}

#[test]
fn the_worst_comes_first() {
    let mut hub = Hub::default();
    let joined = condition("ManagedClusterJoined", "True", "J", "", 1);
    let up = condition("ManagedClusterConditionAvailable", "True", "A", "", 1);
    let down = condition("ManagedClusterConditionAvailable", "Unknown", "L", "", 1);
    let mut add = |name: &str, found: Cluster| {
        let name = name.to_owned();
        let found = Cluster {
            name: name.clone(),
            ..found
        };
        hub.clusters.insert(name, found);
    };
    for name in ["cluster2", "cluster10", "cluster3"] {
        add(name, cluster_of(true, &[joined.clone(), up.clone()], false));
    }
    add("cluster4", cluster_of(false, &[], false));
    add("cluster5", cluster_of(true, &[joined, down], false));
    let refused = work_of("w", &[condition("Applied", "False", "A", "", 2)], &[]);
    hub.works
        .insert(("cluster10".to_owned(), "w".to_owned()), work(&refused).1);
    let names: Vec<&str> = hub
        .ordered()
        .iter()
        .map(|(cluster, _)| &*cluster.name)
        .collect();
    assert_eq!(
        names,
        ["cluster5", "cluster10", "cluster4", "cluster2", "cluster3"]
    );
    let (clusters, works) = hub.tallies();
    assert_eq!(
        (clusters.failing, clusters.waiting, clusters.good),
        (1, 1, 3)
    );
    assert_eq!((works.failing, works.total()), (1, 1));
}

#[test]
fn a_new_list_replaces_what_is_known_when_it_is_complete() {
    let mut known = BTreeMap::from([(1, 1), (2, 2)]);
    let mut listed = None;
    let mut heard = |event| {
        hear(&mut known, &mut listed, event, |number: &i32| {
            (*number, *number)
        });
        known.keys().copied().collect::<Vec<_>>()
    };
    assert_eq!(heard(Event::Apply(3)), [1, 2, 3]);
    assert_eq!(heard(Event::Delete(1)), [2, 3]);
    assert_eq!(heard(Event::Init), [2, 3]);
    assert_eq!(heard(Event::InitApply(4)), [2, 3]);
    assert_eq!(heard(Event::InitDone), [4]);
    assert_eq!(heard(Event::Init), [4]);
    assert_eq!(heard(Event::InitDone), [0; 0]);
}

#[test]
fn times_are_told_in_the_unit_that_says_enough() {
    let now = at("2026-01-10T00:00:00Z");
    let check = |then: &str, expected: &str| assert_eq!(ago(now, at(then)), expected, "{then}");
    check("2026-01-10T00:00:10Z", "0s");
    check("2026-01-09T23:58:01Z", "119s");
    check("2026-01-09T23:58:00Z", "2m");
    check("2026-01-09T22:00:01Z", "119m");
    check("2026-01-09T22:00:00Z", "2h");
    check("2026-01-08T00:00:00Z", "2d");
}
