//! What holds for any fleet and any placement.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{World, at, clusters};
use super::*;

fn zone() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn taints() -> impl Strategy<Value = Value> {
    let effect = prop::sample::select(vec!["NoSelect", "PreferNoSelect", "NoSelectIfNew"]);
    let taint = (prop::sample::select(vec!["k", "l"]), effect, 0_i64..60).prop_map(|(key, effect, added)| {
        json!({"key": key, "effect": effect, "timeAdded": at(added).0.to_string()})
    });
    prop_oneof![4 => Just(json!([])), 1 => prop::collection::vec(taint, 1..3).prop_map(Value::Array)]
}

fn cluster() -> impl Strategy<Value = Value> {
    let set = prop::sample::select(vec!["s", "s", "s", "t", "u"]);
    (set, zone(), zone(), 1_u32..9, taints(), any::<bool>()).prop_map(|(set, zone, rack, cpu, taints, canary)| {
        json!({"set": set, "zone": zone, "claims": {"rack": rack}, "cpu": cpu.to_string(), "taints": taints, "canary": canary.to_string()})
    })
}

fn prioritizers() -> impl Strategy<Value = Value> {
    let built_in = prop::sample::select(vec!["Balance", "Steady", "ResourceAllocatableCPU"]);
    let built_in = built_in.prop_map(|name| json!({"type": "BuiltIn", "builtIn": name}));
    let add_on = Just(json!({"type": "AddOn", "addOn": {"resourceName": "r", "scoreName": "s"}}));
    let coordinate = prop_oneof![3 => built_in, 1 => add_on];
    let one = (coordinate, -3_i32..4)
        .prop_map(|(from, weight)| json!({"scoreCoordinate": from, "weight": weight}));
    let mode = prop::sample::select(vec!["Additive", "Exact"]);
    (mode, prop::collection::vec(one, 0..4))
        .prop_map(|(mode, configurations)| json!({"mode": mode, "configurations": configurations}))
}

fn spread() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        ("zone", "Label"),
        ("rack", "Claim"),
        ("none", "Label"),
    ]);
    let when = prop::sample::select(vec!["DoNotSchedule", "ScheduleAnyway"]);
    let term = (key, 1_i32..4, when).prop_map(|((key, type_), skew, when)| {
        json!({"topologyKey": key, "topologyKeyType": type_, "maxSkew": skew, "whenUnsatisfiable": when})
    });
    prop_oneof![2 => Just(json!([])), 1 => prop::collection::vec(term, 1..3).prop_map(Value::Array)]
}

fn predicates() -> impl Strategy<Value = Value> {
    let labels = prop::collection::vec(zone(), 1..3).prop_map(|zones| {
        json!({"labelSelector": {"matchExpressions": [{"key": "zone", "operator": "In", "values": zones}]}})
    });
    let claims = zone().prop_map(|rack| {
        json!({"claimSelector": {"matchExpressions": [{"key": "rack", "operator": "NotIn", "values": [rack]}]}})
    });
    let one = prop_oneof![labels, claims]
        .prop_map(|selector| json!({"requiredClusterSelector": selector}));
    prop_oneof![2 => Just(json!([])), 1 => prop::collection::vec(one, 1..3).prop_map(Value::Array)]
}

fn spec() -> impl Strategy<Value = Value> {
    let tolerations = prop::sample::select(vec![
        json!([]),
        json!([{"key": "k", "operator": "Exists"}]),
        json!([{"operator": "Exists", "tolerationSeconds": 40}]),
    ]);
    let sets = prop::sample::select(vec![json!([]), json!(["s"]), json!(["s", "t", "u"])]);
    let size = prop::sample::select(vec![json!("100%"), json!("30%"), json!(3), json!(150)]);
    let canary = json!([{"groupName": "canary", "groupClusterSelector": {"labelSelector": {"matchLabels": {"canary": "true"}}}}]);
    let groups = prop::sample::select(vec![json!([]), canary]);
    let sort = prop::sample::select(vec!["ClusterName", "Score"]);
    let parts = (
        sets,
        prop::option::of(0_i32..12),
        predicates(),
        prioritizers(),
        spread(),
        tolerations,
        size,
        groups,
        sort,
    );
    parts.prop_map(|(sets, count, predicates, prioritizers, spread, tolerations, size, groups, sort)| {
        json!({
            "clusterSets": sets, "numberOfClusters": count, "predicates": predicates, "prioritizerPolicy": prioritizers,
            "spreadPolicy": {"spreadConstraints": spread}, "tolerations": tolerations, "sortBy": sort,
            "decisionStrategy": {"groupStrategy": {"clustersPerDecisionGroup": size, "decisionGroups": groups}},
        })
    })
}

prop_compose! {
    fn world(most: usize)(
        clusters in prop::collection::vec(cluster(), 0..most),
        scores in prop::collection::vec(prop::option::of((-100_i32..101, prop::option::of(0_i64..100))), most),
        counts in prop::collection::vec(0_u64..4, most),
        spec in spec(),
        now in 0_i64..100,
    ) -> World {
        let mut world = World::bound(0);
        world.now = now;
        world.set("t", json!({"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"zone": "a"}}}}));
        world.bind("t");
        world.set("u", json!({}));
        for (i, about) in clusters.into_iter().enumerate() {
            let name = format!("c{i:03}");
            if let Some((value, until)) = scores[i] {
                world.score(&name, "r", json!([{"name": "s", "value": value}]), until);
            }
            if counts[i] > 0 {
                world.elsewhere.insert(name.clone(), counts[i]);
            }
            world.cluster(&name, about);
        }
        world.place("p", spec);
        world
    }
}

/// What a cluster must fulfil, told in another way than the plan tells it.
fn may_be_chosen(world: &World, cluster: &ManagedCluster, before: &[String]) -> bool {
    let value = |key: &str| cluster.metadata.labels.as_ref().unwrap()[key].clone();
    let rack = cluster.status.as_ref().unwrap().cluster_claims[0]
        .value
        .clone();
    let spec = serde_json::to_value(&world.placement.spec).unwrap();
    let asked = &world.placement.spec.cluster_sets;
    let asked = |set: &str| asked.is_empty() || asked.iter().any(|it| it == set);
    let member = (asked("s") && value(drover_api::names::CLUSTER_SET_LABEL) == "s")
        || (asked("t") && value("zone") == "a");
    let predicates = spec["predicates"].as_array().cloned().unwrap_or_default();
    let holds = |predicate: &Value| {
        let selector = &predicate["requiredClusterSelector"];
        let labels = selector["labelSelector"]["matchExpressions"][0]["values"].as_array();
        let claims = selector["claimSelector"]["matchExpressions"][0]["values"].as_array();
        labels.is_none_or(|zones| zones.contains(&json!(value("zone"))))
            && claims.is_none_or(|racks| !racks.contains(&json!(rack)))
    };
    let tolerates = |key: &str, added: i64| {
        let mut tolerations = world.placement.spec.tolerations.iter();
        tolerations.any(|it| {
            (it.key.is_empty() || it.key == key)
                && it
                    .toleration_seconds
                    .is_none_or(|seconds| world.now < added + seconds)
        })
    };
    let kept_away = cluster.spec.taints.iter().any(|taint| {
        let tolerated = tolerates(&taint.key, taint.time_added.as_ref().unwrap().0.as_second());
        let stays = before.contains(cluster.metadata.name.as_ref().unwrap());
        match taint.effect {
            drover_api::cluster::v1::TaintEffect::PreferNoSelect => false,
            drover_api::cluster::v1::TaintEffect::NoSelect => !tolerated,
            drover_api::cluster::v1::TaintEffect::NoSelectIfNew => !tolerated && !stays,
        }
    });
    member && !kept_away && (predicates.is_empty() || predicates.iter().any(holds))
}

#[track_caller]
fn check_decisions(world: &World, before: &[String]) {
    let mut all = BTreeSet::new();
    for (number, found) in world.decisions.values().enumerate() {
        assert!(clusters(found).len() <= MAX_DECISIONS);
        let name = found.metadata.name.as_ref().unwrap();
        assert!(world.decisions.len() > 9 || *name == format!("p-decision-{}", number + 1));
        for decision in clusters(found) {
            assert!(
                all.insert(&decision.cluster_name),
                "{} is there twice",
                decision.cluster_name
            );
            let cluster = &world.clusters[&decision.cluster_name];
            assert!(
                may_be_chosen(world, cluster, before),
                "{}",
                decision.cluster_name
            );
        }
    }
    let status = world.status();
    assert_eq!(status.number_of_selected_clusters, all.len() as i32);
    let groups = status.decision_groups.iter();
    assert_eq!(
        groups.map(|group| group.clusters_count).sum::<i32>(),
        all.len() as i32
    );
    let most = world.placement.spec.number_of_clusters;
    assert!(most.is_none_or(|most| all.len() as i32 <= most));
}

/// Without spreading and scores that compare clusters with each other.
fn is_plain(world: &World) -> bool {
    let policy = &world.placement.spec.prioritizer_policy;
    let comparing = |it: &drover_api::cluster::v1beta1::PrioritizerConfig| {
        let from = it.score_coordinate.as_ref().unwrap();
        from.built_in.starts_with("Resource") || (from.built_in == "Steady" && it.weight < 0)
    };
    world
        .placement
        .spec
        .spread_policy
        .spread_constraints
        .is_empty()
        && !policy.configurations.iter().any(comparing)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn planning_twice_changes_nothing(mut world in world(24), other in spec(), later in 0_i64..100) {
        world.settle();
        check_decisions(&world, &[]);
        let before = world.chosen();
        world.now += later;
        world.place("p", other);
        world.settle();
        check_decisions(&world, &before);
    }

    #[test]
    fn a_leaving_cluster_moves_no_other(mut world in world(24), which in any::<prop::sample::Index>()) {
        prop_assume!(is_plain(&world));
        world.settle();
        let before = world.chosen();
        prop_assume!(!before.is_empty());
        let gone = which.get(&before).clone();
        world.clusters.remove(&gone);
        world.elsewhere.remove(&gone);
        world.settle();
        let after = world.chosen();
        prop_assert!(before.iter().all(|name| *name == gone || after.contains(name)), "{:?} -> {:?}", before, after);
        prop_assert!(after.len() <= before.len());
    }

    #[test]
    fn a_cluster_that_is_not_chosen_leaves_unseen(mut world in world(24), which in any::<prop::sample::Index>()) {
        prop_assume!(is_plain(&world));
        world.settle();
        let before = world.chosen();
        let others: Vec<String> = world.clusters.keys().filter(|name| !before.contains(name)).cloned().collect();
        prop_assume!(!others.is_empty());
        world.clusters.remove(which.get(&others));
        let actions = world.plan();
        let writes = |action: &Action| matches!(action, Action::SetDecisions { .. } | Action::CreateDecision(_) | Action::DeleteDecision(_));
        prop_assert!(!actions.iter().any(writes), "{:?}", actions);
    }

    #[test]
    fn the_order_of_what_is_seen_does_not_matter(world in world(24), seed in any::<u64>()) {
        let mut clusters: Vec<_> = world.clusters.values().cloned().map(Arc::new).collect();
        let expected = world.plan();
        let count = clusters.len();
        for i in (1..count).rev() {
            let other = (seed.rotate_left(i as u32) % (i as u64 + 1)) as usize;
            clusters.swap(i, other);
        }
        let mut other = world.clone();
        other.bindings.reverse();
        prop_assert_eq!(other.plan_of(clusters), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn large_fleets_move_without_a_gap(mut world in world(320), joins in prop::collection::vec(0_usize..400, 1..4)) {
        world.placement.spec = serde_json::from_value(json!({})).unwrap();
        for cluster in world.clusters.values_mut() {
            cluster.spec.taints.clear();
        }
        world.settle();
        let before = world.chosen();
        for join in joins {
            world.cluster(&format!("c{join:03}b"), json!({"set": "s", "zone": "a", "claims": {"rack": "a"}, "cpu": "1", "canary": "false"}));
        }
        world.watch(|world| {
            let now: BTreeSet<String> = world.chosen().into_iter().collect();
            assert!(before.iter().all(|name| now.contains(name)));
        });
    }
}
