mod properties;
mod world;

use serde_json::{Value, json};

use super::*;
use world::{World, at};

#[test]
fn without_anything_bound_there_is_an_empty_decision() {
    let mut world = World::default();
    world.cluster("c1", json!({}));
    world.place("p", json!({}));
    world.settle();
    assert_eq!(world.shown(), "p-decision-1 0//: ");
    let message = "No valid ManagedClusterSetBindings found in placement namespace";
    assert_eq!(
        world.condition("PlacementSatisfied"),
        format!("False NoManagedClusterSetBindings {message}")
    );
    let message = "Placement configurations check pass";
    assert_eq!(
        world.condition("PlacementMisconfigured"),
        format!("False Succeedconfigured {message}")
    );
}

#[test]
fn sets_must_be_bound_to_the_namespace() {
    let check = |sets: Value, expected: &str, shown: &str| {
        let mut world = World::default();
        world.set("one", json!({}));
        world.set("two", json!({}));
        world.set("free", json!({}));
        world.bind("one");
        world.bind("two");
        world.bind("missing");
        world.cluster("c1", json!({"set": "one"}));
        world.cluster("c2", json!({"set": "free"}));
        world.place("p", json!({"clusterSets": sets}));
        world.settle();
        assert_eq!(world.condition("PlacementSatisfied"), expected);
        assert_eq!(world.shown(), format!("p-decision-1 0//: {shown}"));
    };
    let all = "True AllDecisionsScheduled All cluster decisions scheduled";
    check(json!([]), all, "c1");
    check(json!(["one", "free"]), all, "c1");
    check(
        json!(["free", "missing"]),
        "False NoIntersection None of ManagedClusterSets [free,missing] is bound to placement namespace",
        "",
    );
    check(
        json!(["two"]),
        "False AllManagedClusterSetsEmpty All ManagedClusterSets [two] have no member ManagedCluster",
        "",
    );
}

#[test]
fn leaving_clusters_are_not_chosen() {
    let mut world = World::bound(2);
    world.place("p", json!({}));
    world.settle();
    assert_eq!(world.chosen(), ["c000", "c001"]);
    world.change("c000", |cluster| {
        cluster.metadata.deletion_timestamp = Some(at(0));
    });
    world.settle();
    assert_eq!(world.chosen(), ["c001"]);
}

/// The clusters that predicates leave of a fixed four.
#[track_caller]
fn check_predicates(predicates: Value, expected: &[&str], satisfied: &str) {
    let mut world = World::bound(0);
    world.cluster(
        "a",
        json!({"set": "s", "cloud": "x", "claims": {"id": "1", "platform": "AWS"}}),
    );
    world.cluster(
        "b",
        json!({"set": "s", "cloud": "y", "claims": {"id": "2"}, "taints": []}),
    );
    world.cluster("c", json!({"set": "s", "version": "1.30.0"}));
    world.cluster("d", json!({"set": "s", "cloud": "x", "version": "1.32.0"}));
    world.score("a", "demo", json!([{"name": "cpu", "value": 81}]), None);
    world.score("d", "demo", json!([{"name": "cpu", "value": 80}]), None);
    world.place("p", json!({"predicates": predicates}));
    world.settle();
    assert_eq!(world.chosen(), expected);
    let said = world.condition("PlacementSatisfied");
    assert!(said.contains(satisfied), "{said}");
}

fn labels(selector: Value) -> Value {
    json!({"requiredClusterSelector": {"labelSelector": selector}})
}

fn claims(expressions: Value) -> Value {
    json!({"requiredClusterSelector": {"claimSelector": {"matchExpressions": expressions}}})
}

fn expressions(expressions: &[&str]) -> Value {
    json!({"requiredClusterSelector": {"celSelector": {"celExpressions": expressions}}})
}

#[test]
fn one_predicate_must_hold() {
    let all = "True AllDecisionsScheduled";
    let none =
        "False NoManagedClusterMatched No ManagedCluster matches any of the cluster predicate";
    let x = || labels(json!({"matchLabels": {"cloud": "x"}}));
    check_predicates(json!([]), &["a", "b", "c", "d"], all);
    check_predicates(json!([{}]), &["a", "b", "c", "d"], all);
    check_predicates(json!([x()]), &["a", "d"], all);
    check_predicates(
        json!([labels(json!({"matchLabels": {"cloud": "z"}}))]),
        &[],
        none,
    );
    let in_id = json!([{"key": "id", "operator": "In", "values": ["2", "3"]}]);
    check_predicates(json!([x(), claims(in_id)]), &["a", "b", "d"], all);
    check_predicates(
        json!([claims(
            json!([{"key": "platform", "operator": "DoesNotExist"}])
        )]),
        &["b", "c", "d"],
        all,
    );
    check_predicates(
        json!([claims(
            json!([{"key": "id", "operator": "NotIn", "values": ["1"]}])
        )]),
        &["b", "c", "d"],
        all,
    );
    let mut both = x();
    both["requiredClusterSelector"]["claimSelector"] =
        json!({"matchExpressions": [{"key": "id", "operator": "Exists"}]});
    check_predicates(json!([both]), &["a"], all);
}

#[test]
fn expressions_look_at_the_cluster_and_its_scores() {
    let all = "True AllDecisionsScheduled";
    check_predicates(
        json!([expressions(&["managedCluster.metadata.name in ['a', 'b']"])]),
        &["a", "b"],
        all,
    );
    let newer = "semver(managedCluster.status.version.kubernetes).isGreaterThan(semver('1.31.0'))";
    check_predicates(json!([expressions(&[newer])]), &["d"], all);
    check_predicates(
        json!([expressions(&[
            "managedCluster.scores('demo').exists(s, s.value > 80)"
        ])]),
        &["a"],
        all,
    );
    check_predicates(
        json!([expressions(&[
            "managedCluster.scores('demo').size() == 1",
            "managedCluster.metadata.name != 'a'"
        ])]),
        &["d"],
        all,
    );
    check_predicates(
        json!([expressions(&["managedCluster.metadata.name"])]),
        &[],
        "NoManagedClusterMatched",
    );
    check_predicates(
        json!([expressions(&["managedCluster.missing == 1"])]),
        &[],
        "NoManagedClusterMatched",
    );
    check_predicates(
        json!([expressions(&["lists.range(100000000).size() > 0"])]),
        &[],
        "NoManagedClusterMatched",
    );
}

#[test]
fn a_misconfigured_placement_keeps_what_it_has() {
    let check = |wrong: Value, why: &str| {
        let mut world = World::bound(3);
        world.place("p", wrong.clone());
        world.settle();
        assert_eq!(world.chosen(), Vec::<String>::new());
        assert!(
            world
                .condition("PlacementSatisfied")
                .starts_with("False NoManagedClusterMatched")
        );
        world.place("p", json!({}));
        world.settle();
        let before = world.shown();
        world.place("p", wrong);
        world.settle();
        assert_eq!(world.shown(), before);
        let said = world.condition("PlacementMisconfigured");
        assert!(
            said.starts_with("True Misconfigured ") && said.contains(why),
            "{said}"
        );
        let said = world.condition("PlacementSatisfied");
        assert!(said.starts_with("False NotAllDecisionsScheduled"), "{said}");
        // Who leaves the sets leaves the placement.
        world.clusters.remove("c001");
        world.settle();
        assert_eq!(world.chosen(), ["c000", "c002"]);
    };
    check(
        json!({"predicates": [expressions(&["xxxx.expression"])]}),
        "Predicate:compilation failed: ",
    );
    let odd = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
    check(
        json!({"predicates": [labels(odd.clone())]}),
        "Predicate:\"Near\" is not a valid label selector operator",
    );
    check(
        json!({"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]}),
        "TaintToleration:If the operator is Exists, the value should be empty.",
    );
    check(
        json!({"prioritizerPolicy": {"mode": "Other"}}),
        ":incorrect prioritizer policy mode: Other",
    );
    check(
        json!({"decisionStrategy": {"groupStrategy": {"clustersPerDecisionGroup": "10"}}}),
        ":10 invalid type: string is not a percentage",
    );
    let group = json!({"groupName": "one", "groupClusterSelector": {"labelSelector": odd}});
    check(
        json!({"decisionStrategy": {"groupStrategy": {"decisionGroups": [group]}}}),
        ":\"Near\"",
    );
}

#[test]
fn a_set_that_cannot_be_followed_moves_nothing() {
    let mut world = World::bound(2);
    world.place("p", json!({}));
    world.settle();
    let odd = json!({"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}});
    world.set("s", odd);
    world.settle();
    assert_eq!(world.chosen(), ["c000", "c001"]);
    assert!(
        world
            .condition("PlacementMisconfigured")
            .contains("the selector of set s cannot be followed")
    );
}

#[test]
fn so_many_clusters_are_chosen_as_are_asked_for() {
    let check = |count: i32, chosen: usize, expected: &str| {
        let mut world = World::bound(3);
        world.place("p", json!({"numberOfClusters": count}));
        world.settle();
        assert_eq!(world.chosen().len(), chosen);
        assert!(world.condition("PlacementSatisfied").starts_with(expected));
        assert_eq!(world.status().number_of_selected_clusters, chosen as i32);
    };
    check(2, 2, "True AllDecisionsScheduled");
    check(3, 3, "True AllDecisionsScheduled");
    check(
        5,
        3,
        "False NotAllDecisionsScheduled 2 cluster decisions unscheduled",
    );
    check(0, 0, "False NoManagedClusterMatched");
    check(-1, 0, "False NoManagedClusterMatched");
}

#[test]
fn what_is_chosen_stays_while_others_would_do_as_well() {
    let mut world = World::bound(4);
    world.place("p", json!({"numberOfClusters": 2}));
    world.settle();
    assert_eq!(world.chosen(), ["c000", "c001"]);
    world.cluster("a", json!({"set": "s"}));
    world.settle();
    assert_eq!(world.chosen(), ["c000", "c001"]);
    world.clusters.remove("c000");
    world.settle();
    assert_eq!(world.chosen(), ["a", "c001"]);
    // Staying counts as much as being used by nobody else, unless it is configured to count more.
    world.elsewhere.insert("c001".to_owned(), 1);
    let heavy = json!({"numberOfClusters": 2, "prioritizerPolicy": {"configurations": [
        {"scoreCoordinate": {"type": "BuiltIn", "builtIn": "Steady"}, "weight": 3},
    ]}});
    world.place("p", heavy);
    world.settle();
    assert_eq!(world.chosen(), ["a", "c001"]);
    world.place("p", json!({"numberOfClusters": 2}));
    world.settle();
    assert_eq!(world.chosen(), ["a", "c002"]);
}

#[test]
fn scores_of_add_ons_decide_until_they_expire() {
    let mut world = World::bound(3);
    world.score("c000", "r", json!([{"name": "s", "value": -10}]), None);
    world.score("c001", "r", json!([{"name": "s", "value": 50}]), Some(30));
    world.score("c002", "r", json!([{"name": "s", "value": 20}]), None);
    let coordinate = json!({"type": "AddOn", "addOn": {"resourceName": "r", "scoreName": "s"}});
    let policy =
        json!({"mode": "Exact", "configurations": [{"scoreCoordinate": coordinate, "weight": 2}]});
    world.place(
        "p",
        json!({"numberOfClusters": 1, "prioritizerPolicy": policy}),
    );
    world.settle();
    assert_eq!(world.chosen(), ["c001"]);
    assert_eq!(world.wake, Some(at(30).0));
    assert_eq!(world.told_last("ScoreUpdate"), "c001:100 c002:40 c000:-20 ");
    world.now = 31;
    world.settle();
    assert_eq!(world.chosen(), ["c002"]);
    assert_eq!(world.wake, None);
    let warning = "Decision p-decision-1 is updated with placement p in namespace ns: AddOnPlacementScores c001/r expired in plugin AddOn/r/s";
    assert_eq!(world.told_last("DecisionUpdate"), warning);
}

#[test]
fn tolerations_end_in_time() {
    let mut world = World::bound(3);
    let taint =
        |effect: &str| json!([{"key": "gone", "effect": effect, "timeAdded": at(0).0.to_string()}]);
    world.cluster("c000", json!({"set": "s", "taints": taint("NoSelect")}));
    world.cluster(
        "c001",
        json!({"set": "s", "taints": taint("NoSelectIfNew")}),
    );
    world.cluster(
        "c002",
        json!({"set": "s", "taints": taint("PreferNoSelect")}),
    );
    let tolerations = json!([{"key": "gone", "operator": "Exists", "tolerationSeconds": 20}]);
    world.place("p", json!({"tolerations": tolerations}));
    world.settle();
    assert_eq!(world.chosen(), ["c000", "c001", "c002"]);
    assert_eq!(world.wake, Some(at(20).0));
    world.now = 20;
    world.settle();
    assert_eq!(
        (world.chosen(), world.wake),
        (vec!["c001".to_owned(), "c002".to_owned()], None)
    );
    world.decisions.clear();
    world.settle();
    assert_eq!(world.chosen(), ["c002"]);
}

#[test]
fn clusters_are_spread() {
    let mut world = World::bound(0);
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")] {
        world.cluster(name, json!({"set": "s", "zone": zone}));
    }
    let term = |when: &str| json!([{"topologyKey": "zone", "topologyKeyType": "Label", "whenUnsatisfiable": when}]);
    let place = |count: Value, when: &str| json!({"numberOfClusters": count, "spreadPolicy": {"spreadConstraints": term(when)}});
    world.place("p", place(json!(2), "DoNotSchedule"));
    world.settle();
    assert_eq!(world.chosen(), ["a1", "b1"]);
    world.place("p", place(json!(4), "DoNotSchedule"));
    world.settle();
    assert_eq!(world.chosen(), ["a1", "a2", "b1"]);
    assert!(
        world
            .condition("PlacementSatisfied")
            .ends_with("1 cluster decisions unscheduled")
    );
    world.place("p", place(json!(4), "ScheduleAnyway"));
    world.settle();
    assert_eq!(world.chosen(), ["a1", "a2", "a3", "b1"]);
    world.place("p", place(json!(null), "DoNotSchedule"));
    world.settle();
    assert_eq!(world.chosen(), ["a1", "a2", "b1"]);
}

fn groups(size: Value, groups: Value) -> Value {
    json!({"decisionStrategy": {"groupStrategy": {"clustersPerDecisionGroup": size, "decisionGroups": groups}}})
}

#[test]
fn decisions_are_divided_into_groups() {
    let check = |spec: Value, expected: &str| {
        let mut world = World::bound(0);
        for (name, cloud) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "z"), ("e", "x")] {
            world.cluster(
                name,
                json!({"set": "s", "cloud": cloud, "claims": {"cloud": cloud}}),
            );
        }
        world.place("p", spec);
        world.settle();
        assert_eq!(world.shown(), expected);
    };
    let by_label = |name: &str, cloud: &str| json!({"groupName": name, "groupClusterSelector": {"labelSelector": {"matchLabels": {"cloud": cloud}}}});
    let by_claim = |name: &str, cloud: &str| {
        let expressions = json!([{"key": "cloud", "operator": "In", "values": [cloud]}]);
        json!({"groupName": name, "groupClusterSelector": {"claimSelector": {"matchExpressions": expressions}}})
    };
    check(json!({}), "p-decision-1 0//: a b c d e");
    check(
        groups(json!(2), json!([])),
        "p-decision-1 0//: a b; p-decision-2 1//: c d; p-decision-3 2//: e",
    );
    check(
        groups(json!("50%"), json!([])),
        "p-decision-1 0//: a b c; p-decision-2 1//: d e",
    );
    check(
        groups(json!("100%"), json!([])),
        "p-decision-1 0//: a b c d e",
    );
    check(groups(json!(0), json!([])), "p-decision-1 0//: a b c d e");
    check(groups(json!(9), json!([])), "p-decision-1 0//: a b c d e");
    check(
        groups(json!("100%"), json!([by_claim("canary", "y")])),
        "p-decision-1 0/canary/: b; p-decision-2 1//: a c d e",
    );
    check(
        groups(
            json!(2),
            json!([
                by_label("first", "x"),
                by_label("none", "w"),
                by_claim("again", "x"),
                by_label("last", "z")
            ]),
        ),
        "p-decision-1 0/first/: a c; p-decision-2 1/first/: e; p-decision-3 2/last/: d; p-decision-4 3//: b",
    );
}

#[test]
fn an_object_has_at_most_a_hundred() {
    let mut world = World::bound(230);
    world.place("p", json!({}));
    world.settle();
    let sizes: Vec<usize> = world
        .decisions
        .values()
        .map(|found| world::clusters(found).len())
        .collect();
    assert_eq!(sizes, [100, 100, 30]);
    let group = &world.status().decision_groups[0];
    assert_eq!(
        group.decisions,
        ["p-decision-1", "p-decision-2", "p-decision-3"]
    );
    assert_eq!(
        (
            group.clusters_count,
            world.status().number_of_selected_clusters
        ),
        (230, 230)
    );
    world.place("p", json!({"numberOfClusters": 120}));
    world.settle();
    assert_eq!(world.decisions.len(), 2);
    assert_eq!(
        world.told_last("DecisionDelete"),
        "Decision p-decision-3 is deleted with placement p in namespace ns"
    );
}

#[test]
fn no_cluster_is_missing_while_clusters_move() {
    let mut world = World::bound(250);
    world.place("p", json!({}));
    world.settle();
    let all = world.chosen();
    world.cluster("a", json!({"set": "s"}));
    world.watch(|world| assert!(all.iter().all(|name| world.chosen().contains(name))));
    world.clusters.remove("a");
    let all = all.clone();
    world.watch(|world| assert!(all.iter().all(|name| world.chosen().contains(name))));
    world.clusters.remove("c000");
    world.watch(|world| assert!(all[1..].iter().all(|name| world.chosen().contains(name))));
}

#[test]
fn decisions_sorted_by_score_keep_their_scores_for_a_while() {
    let mut world = World::bound(3);
    let coordinate = json!({"type": "AddOn", "addOn": {"resourceName": "r", "scoreName": "s"}});
    let policy = json!({"mode": "Exact", "configurations": [{"scoreCoordinate": coordinate}]});
    let score = |world: &mut World, values: [i32; 3]| {
        for (i, value) in values.into_iter().enumerate() {
            world.score(
                &format!("c00{i}"),
                "r",
                json!([{"name": "s", "value": value}]),
                None,
            );
        }
    };
    score(&mut world, [1, 3, 2]);
    world.place(
        "p",
        json!({"sortBy": "Score", "scoreRateLimit": "10s", "prioritizerPolicy": policy}),
    );
    world.settle();
    assert_eq!(world.shown(), "p-decision-1 0//: c001=3 c002=2 c000=1");
    assert_eq!(world.status().last_score_update_time, Some(at(0)));
    score(&mut world, [9, 3, 2]);
    world.now = 5;
    world.settle();
    assert_eq!(world.shown(), "p-decision-1 0//: c001=3 c002=2 c000=1");
    assert_eq!(world.wake, Some(at(10).0));
    world.now = 10;
    world.settle();
    assert_eq!(world.shown(), "p-decision-1 0//: c000=9 c001=3 c002=2");
    assert_eq!(world.status().last_score_update_time, Some(at(10)));
    // Other clusters are shown at once.
    world.now = 11;
    world.cluster("z", json!({"set": "s"}));
    score(&mut world, [4, 3, 2]);
    world.settle();
    assert_eq!(world.shown(), "p-decision-1 0//: c000=4 c001=3 c002=2 z");
}

#[test]
fn what_others_changed_is_put_right() {
    let mut world = World::bound(2);
    world.place("p", json!({}));
    world.settle();
    let before = world.shown();
    world.decisions.clear();
    world.settle();
    assert_eq!(world.shown(), before);
    let found = world.decisions.get_mut("p-decision-1").unwrap();
    let labels = found.metadata.labels.as_mut().unwrap();
    labels.insert(words::GROUP_NAME_LABEL.to_owned(), "odd".to_owned());
    labels.insert("theirs".to_owned(), "stays".to_owned());
    world.settle();
    assert_eq!(world.shown(), before);
    let labels = world.decisions["p-decision-1"]
        .metadata
        .labels
        .as_ref()
        .unwrap();
    assert_eq!(labels.get("theirs").map(String::as_str), Some("stays"));
}

#[test]
fn others_may_decide() {
    let mut world = World::bound(2);
    world.place("p", json!({}));
    world.placement.metadata.annotations = Some(BTreeMap::from([(
        words::DISABLE_ANNOTATION.to_owned(),
        "true".to_owned(),
    )]));
    assert_eq!(world.plan(), []);
    world.placement.metadata.annotations = Some(BTreeMap::from([(
        words::DISABLE_ANNOTATION.to_owned(),
        "yes".to_owned(),
    )]));
    assert_ne!(world.plan(), []);
    world.placement.metadata.deletion_timestamp = Some(at(0));
    assert_eq!(world.plan(), []);
}

#[test]
fn only_some_changes_of_a_cluster_matter() {
    let cluster = |value: Value| serde_json::from_value::<ManagedCluster>(value).unwrap();
    let old = cluster(
        json!({"metadata": {"name": "c", "resourceVersion": "1"}, "status": {"allocatable": {"cpu": "1"}}}),
    );
    let check = |new: Value, expected: bool| assert_eq!(matters(&old, &cluster(new)), expected);
    check(
        json!({"metadata": {"name": "c", "resourceVersion": "2"}, "status": {"allocatable": {"cpu": "1"}, "conditions": []}}),
        false,
    );
    check(
        json!({"metadata": {"name": "c"}, "status": {"allocatable": {"cpu": "2"}}}),
        true,
    );
    check(
        json!({"metadata": {"name": "c", "labels": {"a": "b"}}, "status": {"allocatable": {"cpu": "1"}}}),
        true,
    );
    check(
        json!({"metadata": {"name": "c"}, "spec": {"taints": [{"key": "k", "effect": "NoSelect"}]}, "status": {"allocatable": {"cpu": "1"}}}),
        true,
    );
}
