use std::sync::Arc;

use drover_api::cluster::v1alpha1::AddOnPlacementScore;
use drover_api::cluster::v1beta1::Placement;
use serde_json::{Value, json};

use super::*;

fn policy(policy: Value) -> PrioritizerPolicy {
    serde_json::from_value(policy).unwrap()
}

fn built_in(name: &str, weight: i32) -> Value {
    json!({"scoreCoordinate": {"type": "BuiltIn", "builtIn": name}, "weight": weight})
}

#[test]
fn weights_follow_the_mode() {
    use Prioritizer::{Allocatable, Balance, Steady};
    let check = |given: Value, expected: Result<Vec<(Prioritizer, i64)>, &str>| {
        let found = weights(&policy(given)).map_err(|wrong| wrong.to_string());
        assert_eq!(found, expected.map_err(str::to_owned));
    };
    let both = || vec![(Balance, 1), (Steady, 1)];
    check(json!({}), Ok(both()));
    check(json!({"mode": "Additive"}), Ok(both()));
    check(json!({"mode": "Exact"}), Ok(vec![]));
    check(
        json!({"mode": "Other"}),
        Err(":incorrect prioritizer policy mode: Other"),
    );
    let steady = json!({"mode": "Additive", "configurations": [built_in("Steady", 3), built_in("Balance", 0)]});
    check(steady, Ok(vec![(Steady, 3)]));
    let cpu = json!({"mode": "Exact", "configurations": [built_in("ResourceAllocatableCPU", -2), built_in("ResourceAllocatableMemory", 1)]});
    check(
        cpu,
        Ok(vec![(Allocatable("cpu"), -2), (Allocatable("memory"), 1)]),
    );
    check(
        json!({"configurations": [built_in("Spread", 1)]}),
        Err(":incorrect builtin prioritizer: Spread"),
    );
    check(
        json!({"configurations": [built_in("Spread", 0)]}),
        Ok(both()),
    );
    check(
        json!({"configurations": [{"weight": 1}]}),
        Err(":scoreCoordinate field is required"),
    );
    check(
        json!({"configurations": [{"scoreCoordinate": {"type": "AddOn"}}]}),
        Err(":addOn should not be empty"),
    );
    let score = AddOnScore {
        resource_name: "r".to_owned(),
        score_name: "s".to_owned(),
    };
    let add_on = json!({"scoreCoordinate": {"type": "AddOn", "addOn": score}, "weight": 2});
    let twice = json!({"mode": "Exact", "configurations": [add_on, add_on]});
    let of = || Prioritizer::AddOn(score.clone());
    check(twice, Ok(vec![(of(), 2), (of(), 2)]));
}

fn cluster(name: &str, status: Value) -> ManagedCluster {
    let object = json!({"metadata": {"name": name}, "status": status});
    serde_json::from_value(object).unwrap()
}

#[test]
fn balance_counts_other_placements() {
    let clusters: Vec<ManagedCluster> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|name| cluster(name, json!({})))
        .collect();
    let clusters: Vec<&ManagedCluster> = clusters.iter().collect();
    let counts = |counts: &[(&str, u64)]| {
        counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    };
    let check = |elsewhere: &[(&str, u64)], expected: [i64; 5]| {
        assert_eq!(balance(&counts(elsewhere), &clusters), expected);
    };
    check(&[], [100; 5]);
    check(&[("a", 1)], [-100, 100, 100, 100, 100]);
    check(
        &[("a", 1), ("b", 2), ("c", 3), ("d", 0)],
        [32, -32, -100, 100, 100],
    );
    check(&[("a", 3), ("z", 7)], [14, 100, 100, 100, 100]);
}

#[test]
fn what_a_cluster_can_give_is_compared() {
    let check = |amounts: &[Option<(&str, &str)>], expected: &[i64]| {
        let clusters: Vec<ManagedCluster> = amounts
            .iter()
            .map(|amounts| match amounts {
                Some((allocatable, "")) => json!({"allocatable": {"cpu": allocatable}}),
                Some((allocatable, capacity)) => {
                    json!({"allocatable": {"cpu": allocatable}, "capacity": {"cpu": capacity}})
                }
                None => json!({}),
            })
            .map(|status| cluster("c", status))
            .collect();
        let clusters: Vec<&ManagedCluster> = clusters.iter().collect();
        assert_eq!(allocatable("cpu", &clusters), expected);
    };
    check(&[], &[]);
    check(&[None], &[0]);
    check(&[Some(("4", "8"))], &[100]);
    check(
        &[Some(("4", "8")), Some(("4000m", "8")), None],
        &[100, 100, 0],
    );
    check(
        &[Some(("1", "8")), Some(("2", "8")), Some(("4", "8"))],
        &[-100, -33, 100],
    );
    check(
        &[Some(("1", "8")), Some(("100", "")), Some(("3", "8"))],
        &[-100, 0, 100],
    );
    check(
        &[
            Some(("16Gi", "1")),
            Some(("1500M", "1")),
            Some(("8Gi", "1")),
        ],
        &[100, -100, -9],
    );
}

#[test]
fn amounts_as_apimachinery_approximates_them() {
    for (text, expected) in [
        ("4", Some(4.0)),
        ("3500m", Some(3.5)),
        ("100m", Some(0.1)),
        ("16Gi", Some(17_179_869_184.0)),
        ("1e3", Some(1000.0)),
        ("7n", Some(7.0 * 1e-9)),
        ("many", None),
    ] {
        assert_eq!(approximate(&Quantity(text.to_owned())), expected, "{text}");
    }
}

#[test]
fn scores_of_add_ons_expire() {
    let now = Timestamp::from_second(100).unwrap();
    let check = |status: Value, expected: (i64, bool, Option<i64>)| {
        let object = json!({"metadata": {"name": "r", "namespace": "c"}, "status": status});
        let object: AddOnPlacementScore = serde_json::from_value(object).unwrap();
        let object = Arc::new(object);
        let scores = |cluster: &str| {
            assert_eq!(cluster, "c");
            vec![object.clone()]
        };
        let seen = Seen {
            placement: &Placement::default(),
            sets: &[],
            bindings: &[],
            clusters: &[],
            decisions: &[],
            elsewhere: &BTreeMap::new(),
            scores: &scores,
        };
        let score = AddOnScore {
            resource_name: "r".to_owned(),
            score_name: "s".to_owned(),
        };
        let found = add_on(&seen, "c", &score, now);
        let until = found.until.map(Timestamp::as_second);
        assert_eq!((found.value, found.expired, until), expected);
    };
    let at = |second: i64| Timestamp::from_second(second).unwrap().to_string();
    let items = json!([{"name": "s", "value": 7}, {"name": "t", "value": 9}]);
    check(json!({}), (0, false, None));
    check(json!({"scores": items}), (7, false, None));
    check(
        json!({"scores": items, "validUntil": at(100)}),
        (7, false, Some(100)),
    );
    check(
        json!({"scores": items, "validUntil": at(99)}),
        (0, true, None),
    );
    check(
        json!({"scores": [{"name": "t", "value": 9}]}),
        (0, false, None),
    );
}
