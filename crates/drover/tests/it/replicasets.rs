//! A set of works over the clusters of a placement.

use anyhow::ensure;
use drover_testkit::{Fleet, eventually};
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::world::{LONG, api, apply, field, gone, good, up, works};

const SET: &str = "work.open-cluster-management.io/v1alpha1/ManifestWorkReplicaSet";
const CLUSTERS: [&str; 4] = ["cluster1", "cluster2", "cluster3", "cluster4"];

async fn namespace(client: &Client, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    apply(&api(client, "v1/Namespace", None), &object)
        .await
        .unwrap();
}

/// A placement of all clusters in the namespace `apps`.
async fn place(hub: &Client) -> Api<DynamicObject> {
    namespace(hub, "apps").await;
    let binding = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1beta2", "kind": "ManagedClusterSetBinding",
        "metadata": {"name": "global", "namespace": "apps"}, "spec": {"clusterSet": "global"},
    });
    let bindings = api(
        hub,
        "cluster.open-cluster-management.io/v1beta2/ManagedClusterSetBinding",
        Some("apps"),
    );
    apply(&bindings, &binding).await.unwrap();
    let placement = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1beta1", "kind": "Placement",
        "metadata": {"name": "all", "namespace": "apps"}, "spec": {},
    });
    let placements = api(
        hub,
        "cluster.open-cluster-management.io/v1beta1/Placement",
        Some("apps"),
    );
    apply(&placements, &placement).await.unwrap();
    placements
}

fn set(value: &str) -> Value {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}, "data": {"value": value}});
    json!({
        "apiVersion": "work.open-cluster-management.io/v1alpha1", "kind": "ManifestWorkReplicaSet",
        "metadata": {"name": "web", "namespace": "apps"},
        "spec": {
            "manifestWorkTemplate": {"workload": {"manifests": [map]}},
            "cascadeDeletionPolicy": "Foreground",
            "placementRefs": [{"name": "all", "rolloutStrategy": {"type": "Progressive", "progressive": {"maxConcurrency": 1}}}],
        },
    })
}

/// Waits until a condition of the set has this status and a message that begins so.
async fn says(sets: &Api<DynamicObject>, type_: &str, status: &str, message: &str) {
    let check = async || {
        let found = sets.get("web").await?;
        let all = found.data["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let condition = all.iter().find(|condition| condition["type"] == type_);
        let is = |name: &str| {
            condition
                .and_then(|c| c[name].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        ensure!(
            is("status") == status && is("message").starts_with(message),
            "{}",
            found.data["status"]
        );
        ensure!(
            condition
                .is_some_and(|c| c["observedGeneration"].as_i64() == found.metadata.generation),
            "{}",
            found.data["status"]
        );
        Ok(())
    };
    eventually(&format!("{type_}={status} {message}"), LONG, check)
        .await
        .unwrap();
}

async fn clusters_with_works(hub: &Client) -> Vec<String> {
    let all = api(hub, "work.open-cluster-management.io/v1/ManifestWork", None);
    let of_set = ListParams::default()
        .labels("work.open-cluster-management.io/manifestworkreplicaset=apps.web");
    let list = all.list(&of_set).await.unwrap();
    list.iter()
        .map(|work| work.namespace().unwrap_or_default())
        .collect()
}

async fn start() -> (Fleet, Client, Vec<Client>) {
    let fleet = up(&["--ephemeral", "--hubs", "1", "--clusters", "4"]).await;
    let hub = fleet.client("hub1").await.unwrap();
    let mut clusters = Vec::new();
    for name in CLUSTERS {
        clusters.push(fleet.client(name).await.unwrap());
    }
    (fleet, hub, clusters)
}

#[tokio::test]
async fn a_failing_cluster_stops_a_rollout_until_it_recovers() {
    let (_fleet, hub, clusters) = start().await;
    for (name, client) in CLUSTERS.iter().zip(&clusters) {
        if *name != "cluster2" {
            namespace(client, "shop").await;
        }
    }
    let placements = place(&hub).await;
    let sets = api(&hub, SET, Some("apps"));
    apply(&sets, &set("1")).await.unwrap();
    // In cluster2 the namespace is missing: nothing can be applied there.
    let stopped = "1 of 4 clusters succeeded; failed: cluster2; no further cluster is reached";
    says(&sets, "PlacementRolledOut", "False", stopped).await;
    assert_eq!(clusters_with_works(&hub).await, ["cluster1", "cluster2"]);
    namespace(&clusters[1], "shop").await;
    says(&sets, "PlacementRolledOut", "True", "4 of 4").await;
    says(&sets, "ManifestworkApplied", "True", "4 of 4").await;
    let summary = sets.get("web").await.unwrap().data["status"]["summary"].clone();
    let expected = json!({"total": 4, "desiredTotal": 4, "applied": 4, "available": 4, "updated": 4, "degraded": 0, "progressing": 0});
    assert_eq!(summary, expected);
    assert_eq!(clusters_with_works(&hub).await, CLUSTERS);

    apply(&sets, &set("2")).await.unwrap();
    says(&sets, "PlacementRolledOut", "True", "4 of 4").await;
    for (name, client) in CLUSTERS.iter().zip(&clusters) {
        good(&works(&hub, name), "web").await;
        field(
            &api(client, "v1/ConfigMap", Some("shop")),
            "a",
            "/data/value",
            "2",
        )
        .await;
    }

    // A placement that chooses fewer clusters takes the work from the others.
    let fewer = Patch::Merge(json!({"spec": {"numberOfClusters": 1}}));
    placements
        .patch("all", &PatchParams::default(), &fewer)
        .await
        .unwrap();
    says(&sets, "PlacementRolledOut", "True", "1 of 1").await;
    let one = async || {
        let left = clusters_with_works(&hub).await;
        ensure!(left.len() == 1, "{left:?}");
        Ok(left)
    };
    let left = eventually("the works of the others to go", LONG, one)
        .await
        .unwrap();
    for (name, client) in CLUSTERS.iter().zip(&clusters) {
        if *name != left[0] {
            gone(&api(client, "v1/ConfigMap", Some("shop")), "a").await;
        }
    }

    sets.delete("web", &DeleteParams::default()).await.unwrap();
    gone(&sets, "web").await;
    assert!(clusters_with_works(&hub).await.is_empty());
    for client in &clusters {
        gone(&api(client, "v1/ConfigMap", Some("shop")), "a").await;
    }
}
