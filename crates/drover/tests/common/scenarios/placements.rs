//! Sets, bindings and placements, with clusters that are there for one scenario and have no agents.

use anyhow::ensure;
use drover_testkit::eventually;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::super::Ground;
use crate::placing::{Place, SATISFIED, SET_LABEL};
use crate::world::{LONG, gone};

/// Decisions follow labels, taints and numbers, and go with their placement.
pub(super) async fn a_placement_picks_and_picks_again(ground: Ground) {
    let place = Place::new(&ground.fleet.hub, &ground.space).await;
    let set = ground.own("set");
    place.set(&set, None).await;
    place.bind(&set).await;
    let names = ["a", "b", "c"].map(|name| ground.own(name));
    let [a, b, c] = &names;
    for name in &names {
        place
            .cluster(name, json!({SET_LABEL: set, "zone": "east"}))
            .await;
    }
    let spec = |count: u32| {
        json!({
            "numberOfClusters": count,
            "predicates": [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"zone": "east"}}}}],
            "decisionStrategy": {"groupStrategy": {"clustersPerDecisionGroup": 1}},
        })
    };
    let shows = async |chosen: &[&String], condition: &str| {
        let lines = chosen.iter().enumerate();
        let lines: Vec<String> = lines.map(|(at, name)| format!("{at}/: {name}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        place.expect("p", &lines, condition).await;
    };
    place.place("p", spec(2)).await;
    shows(&[a, b], SATISFIED).await;

    let zone = json!({"metadata": {"labels": {"zone": "west"}}});
    place.patch(&place.clusters(), a, zone).await;
    shows(&[b, c], SATISFIED).await;
    place.available(c, "Unknown").await;
    let fewer = "PlacementSatisfied=False/NotAllDecisionsScheduled";
    shows(&[b], fewer).await;
    place.available(c, "True").await;
    shows(&[b, c], SATISFIED).await;
    let mut grouped = spec(1);
    let first = json!({"groupName": "first", "groupClusterSelector": {"labelSelector": {"matchLabels": {"zone": "east"}}}});
    grouped["decisionStrategy"]["groupStrategy"]["decisionGroups"] = json!([first]);
    place.place("p", grouped).await;
    let named = format!("0/first: {b}");
    place.expect("p", &[&named], SATISFIED).await;
    place.place("p", spec(1)).await;
    shows(&[b], SATISFIED).await;
    let decisions = place.decisions();
    let by_hand = DeleteParams::default();
    decisions.delete("p-decision-1", &by_hand).await.unwrap();
    shows(&[b], SATISFIED).await;

    place.placements().delete("p", &by_hand).await.unwrap();
    gone(&decisions, "p-decision-1").await;
    forget(&place, &names, Some(&set)).await;
}

/// Only sets that are bound are chosen from; a cluster without a set is in the default one; the two built-in sets stay as they are.
pub(super) async fn sets_and_bindings_say_who_may_be_chosen(ground: Ground) {
    let place = Place::new(&ground.fleet.hub, &ground.space).await;
    let (name, set) = (ground.own("a"), ground.own("set"));
    let chosen = format!("0/: {name}");
    place.cluster(&name, json!({"own": name})).await;
    let labelled = async || {
        let found = place.clusters().get(&name).await?;
        let set = found.labels().get(SET_LABEL).cloned().unwrap_or_default();
        ensure!(set == "default", "{set:?}");
        Ok(())
    };
    eventually("the default set", LONG, labelled).await.unwrap();
    let own = json!({"labelSelector": {"matchLabels": {"own": name}}});
    let spec = json!({"predicates": [{"requiredClusterSelector": own}]});
    place.place("p", spec).await;
    let unbound = "PlacementSatisfied=False/NoManagedClusterSetBindings";
    place.expect("p", &["0/: "], unbound).await;
    place.bind("default").await;
    place.expect("p", &[&chosen], SATISFIED).await;

    let moves = json!({"metadata": {"labels": {SET_LABEL: set}}});
    place.patch(&place.clusters(), &name, moves).await;
    let nobody = "PlacementSatisfied=False/NoManagedClusterMatched";
    let empty = "PlacementSatisfied=False/AllManagedClusterSetsEmpty";
    let left = async || {
        let seen = crate::world::conditions(&place.placements().get("p").await?);
        ensure!(
            seen.iter().any(|have| have == nobody || have == empty),
            "{seen:?}"
        );
        Ok(())
    };
    eventually("nobody to be chosen", LONG, left).await.unwrap();
    place.bind(&set).await;
    let bindings = place.bindings();
    let missing = "Bound=False/ClusterSetNotFound";
    place.says(&bindings, &set, missing).await;
    place.set(&set, None).await;
    place
        .says(&bindings, &set, "Bound=True/ClusterSetBound")
        .await;
    let filled = "ClusterSetEmpty=False/ClustersSelected";
    place.says(&place.sets(), &set, filled).await;
    place.expect("p", &[&chosen], SATISFIED).await;
    let by_hand = DeleteParams::default();
    bindings.delete(&set, &by_hand).await.unwrap();
    eventually("nobody to be chosen", LONG, left).await.unwrap();

    // No other scenario chooses from this set.
    let global = place.sets().get("global").await.unwrap().uid();
    place.sets().delete("global", &by_hand).await.unwrap();
    let again = async || {
        let found = place.sets().get("global").await?;
        ensure!(found.uid() != global, "it is the old one");
        Ok(())
    };
    eventually("the global set to come back", LONG, again)
        .await
        .unwrap();
    let other =
        json!({"spec": {"clusterSelector": {"labelSelector": {"matchLabels": {"a": "b"}}}}});
    place.patch(&place.sets(), "global", other).await;
    let restored = async || {
        let found = place.sets().get("global").await?;
        let labels = found
            .data
            .pointer("/spec/clusterSelector/labelSelector/matchLabels");
        ensure!(labels.is_none_or(Value::is_null), "{}", found.data["spec"]);
        Ok(())
    };
    eventually("the selector of everybody", LONG, restored)
        .await
        .unwrap();
    place.placements().delete("p", &by_hand).await.unwrap();
    forget(&place, &[name], Some(&set)).await;
}

/// Takes away what no other scenario shall see.
pub(super) async fn forget(place: &Place, clusters: &[String], set: Option<&String>) {
    let params = DeleteParams::default();
    for name in clusters {
        place.clusters().delete(name, &params).await.unwrap();
    }
    for name in clusters {
        gone(&place.clusters(), name).await;
    }
    if let Some(set) = set {
        place.sets().delete(set, &params).await.unwrap();
    }
}
