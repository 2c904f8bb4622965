//! A work from the hub to its cluster and back.

use std::process::Command;

use anyhow::ensure;
use drover_testkit::{Fleet, eventually};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::world::{
    LONG, api, apply, conditions, config_map, field, gone, good, program, up, work, works,
};

const WEBSHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/webshop");

struct Pair {
    fleet: Fleet,
    hub: Client,
    cluster: Client,
}

async fn pair(args: &[&str]) -> Pair {
    let fleet = up(args).await;
    let hub = fleet.client("hub1").await.unwrap();
    let cluster = fleet.client("cluster1").await.unwrap();
    Pair {
        fleet,
        hub,
        cluster,
    }
}

fn run(fleet: &Fleet, args: &[&str]) -> (bool, String) {
    let output = Command::new(program())
        .args(args)
        .env("KUBECONFIG", fleet.kubeconfig())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn clusters_join_the_hubs_in_turn() {
    let fleet = up(&["--ephemeral", "--hubs", "2", "--clusters", "3"]).await;
    for (hub, expected) in [
        ("hub1", vec!["cluster1", "cluster3"]),
        ("hub2", vec!["cluster2"]),
    ] {
        let client = fleet.client(hub).await.unwrap();
        let clusters = api(
            &client,
            "cluster.open-cluster-management.io/v1/ManagedCluster",
            None,
        );
        let list = clusters.list(&ListParams::default()).await.unwrap();
        assert_eq!(
            list.items
                .iter()
                .map(ResourceExt::name_any)
                .collect::<Vec<_>>(),
            expected
        );
        for cluster in list {
            let seen = conditions(&cluster);
            for want in [
                "HubAcceptedManagedCluster=True/HubClusterAdminAccepted",
                "ManagedClusterConditionAvailable=True/ManagedClusterAvailable",
                "ManagedClusterJoined=True/ManagedClusterJoined",
            ] {
                assert!(
                    seen.iter().any(|have| have == want),
                    "{} has {seen:?}",
                    cluster.name_any()
                );
            }
            assert!(
                cluster.data["status"]["version"]["kubernetes"]
                    .as_str()
                    .is_some_and(|v| v.starts_with('v'))
            );
            assert!(
                cluster.data["status"]["capacity"]["cpu"].is_string(),
                "{}",
                cluster.data["status"]
            );
        }
    }
    // A cluster that is available is not tainted.
    let (ok, text) = run(&fleet, &["status"]);
    assert!(ok && text.contains("✓ cluster1  Available"), "{text}");
    assert_eq!(fleet.stop().unwrap(), Some(0));
}

#[tokio::test]
async fn a_real_application_arrives_and_its_status_comes_back() {
    let Pair {
        fleet,
        hub,
        cluster,
    } = pair(&["--ephemeral", "--hubs", "1", "--clusters", "1"]).await;
    let (ok, text) = run(&fleet, &["apply", "-f", WEBSHOP, "--context", "hub1"]);
    assert!(ok, "{text}");
    let shop = works(&hub, "cluster1");
    good(&shop, "webshop-platform").await;
    good(&shop, "webshop").await;
    let feedback = async || {
        let found = shop.get("webshop").await?;
        let all = found.data["status"]["resourceStatus"]["manifests"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let values: Vec<Value> = all
            .iter()
            .flat_map(|m| {
                m["statusFeedback"]["values"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default()
            })
            .collect();
        let ready = values.iter().find(|value| value["name"] == "ReadyReplicas");
        let number = ready
            .and_then(|value| value["fieldValue"]["integer"].as_i64())
            .unwrap_or(0);
        ensure!(number > 0, "feedback is {values:?}");
        Ok(())
    };
    eventually("ready replicas of the storefront", LONG, feedback)
        .await
        .unwrap();
    let pods = api(&cluster, "v1/Pod", Some("webshop"));
    let running = async || {
        let all = pods.list(&ListParams::default()).await?.items;
        let phases: Vec<_> = all
            .iter()
            .map(|pod| {
                pod.data["status"]["phase"]
                    .as_str()
                    .unwrap_or("-")
                    .to_owned()
            })
            .collect();
        ensure!(
            phases.len() > 3
                && phases
                    .iter()
                    .all(|phase| phase == "Running" || phase == "Succeeded"),
            "{phases:?}"
        );
        Ok(())
    };
    eventually("running pods", LONG, running).await.unwrap();
    let (ok, text) = run(&fleet, &["status", "cluster1"]);
    assert!(
        ok && text.contains("✓ webshop  ") && text.contains("ReadyReplicas="),
        "{text}"
    );
    let (ok, text) = run(
        &fleet,
        &[
            "get",
            "deployments",
            "-n",
            "webshop",
            "--context",
            "cluster1",
        ],
    );
    assert!(ok && text.contains("storefront"), "{text}");
    // Everything goes with the works, and the namespace with what was in it.
    for name in ["webshop", "webshop-platform"] {
        shop.delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in ["webshop", "webshop-platform"] {
        gone(&shop, name).await;
    }
    gone(&api(&cluster, "v1/Namespace", None), "webshop").await;
}

#[tokio::test]
async fn a_stopped_fleet_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let args = ["--data", data, "--hubs", "1", "--clusters", "1"];
    let Pair {
        fleet,
        hub,
        cluster,
    } = pair(&args).await;
    let shop = works(&hub, "cluster1");
    apply(&shop, &work("kept", "cluster1", &[config_map("kept", "1")]))
        .await
        .unwrap();
    good(&shop, "kept").await;
    let maps = api(&cluster, "v1/ConfigMap", Some("default"));
    let before = maps.get("kept").await.unwrap();
    let address = fleet.ready()["brokers"].clone();
    assert_eq!(fleet.stop().unwrap(), Some(0));

    let Pair {
        fleet,
        hub,
        cluster,
    } = pair(&args).await;
    assert_eq!(
        fleet.ready()["brokers"],
        address,
        "a kept fleet keeps its addresses"
    );
    let (shop, maps) = (
        works(&hub, "cluster1"),
        api(&cluster, "v1/ConfigMap", Some("default")),
    );
    let after = maps.get("kept").await.unwrap();
    assert_eq!(
        (before.uid(), before.resource_version()),
        (after.uid(), after.resource_version()),
        "nothing was written anew"
    );
    apply(&shop, &work("kept", "cluster1", &[config_map("kept", "2")]))
        .await
        .unwrap();
    field(&maps, "kept", "/data/value", "2").await;
    // Deleted while the agent is away is deleted nevertheless.
    shop.delete("kept", &DeleteParams::default()).await.unwrap();
    fleet.kill();
    let Pair {
        fleet,
        hub,
        cluster,
    } = pair(&args).await;
    gone(&works(&hub, "cluster1"), "kept").await;
    gone(&api(&cluster, "v1/ConfigMap", Some("default")), "kept").await;
    assert_eq!(fleet.stop().unwrap(), Some(0));
}

/// Lets the cluster in or not, and waits until the hub did so.
async fn accept(hub: &Client, accepted: bool) {
    let clusters = api(
        hub,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    );
    let patch = json!({"spec": {"hubAcceptsClient": accepted}});
    clusters
        .patch("cluster1", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    let want = if accepted { "True" } else { "False" };
    let want = format!("HubAcceptedManagedCluster={want}");
    let done = async || {
        let seen = conditions(&clusters.get("cluster1").await?);
        ensure!(seen.iter().any(|have| have.starts_with(&want)), "{seen:?}");
        Ok(())
    };
    eventually(&want, LONG, done).await.unwrap();
}

/// The agent hears of works for the first time when they are being deleted already: it ends them all the same, whether it
/// finds what it applied or not.
#[tokio::test]
async fn a_deletion_that_an_agent_did_not_see_begin_is_finished() {
    let Pair {
        fleet: _fleet,
        hub,
        cluster,
    } = pair(&["--ephemeral", "--hubs", "1", "--clusters", "1"]).await;
    let shop = works(&hub, "cluster1");
    for name in ["known", "forgotten"] {
        apply(&shop, &work(name, "cluster1", &[config_map(name, "1")]))
            .await
            .unwrap();
        good(&shop, name).await;
    }
    accept(&hub, false).await;
    // The agent stops a moment after the hub said so.
    let applied = api(
        &cluster,
        "work.open-cluster-management.io/v1/AppliedManifestWork",
        None,
    );
    let forgotten = async || {
        for found in applied.list(&ListParams::default()).await? {
            if found.name_any().ends_with("-forgotten") {
                let free = json!({"metadata": {"finalizers": null}});
                applied
                    .patch(
                        &found.name_any(),
                        &PatchParams::default(),
                        &Patch::Merge(free),
                    )
                    .await?;
                applied
                    .delete(&found.name_any(), &DeleteParams::default())
                    .await?;
            }
        }
        let left = applied.list(&ListParams::default()).await?;
        ensure!(left.items.len() == 1, "{} are left", left.items.len());
        Ok(())
    };
    for name in ["known", "forgotten"] {
        shop.delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually("the record of one work alone", LONG, forgotten)
        .await
        .unwrap();
    accept(&hub, true).await;
    for name in ["known", "forgotten"] {
        gone(&shop, name).await;
    }
    gone(&api(&cluster, "v1/ConfigMap", Some("default")), "known").await;
}

#[tokio::test]
async fn a_cluster_that_leaves_takes_its_works_along_and_may_come_back() {
    let Pair {
        fleet: _fleet,
        hub,
        cluster,
    } = pair(&["--ephemeral", "--hubs", "1", "--clusters", "1"]).await;
    let (shop, maps) = (
        works(&hub, "cluster1"),
        api(&cluster, "v1/ConfigMap", Some("default")),
    );
    apply(&shop, &work("w", "cluster1", &[config_map("a", "1")]))
        .await
        .unwrap();
    good(&shop, "w").await;
    let clusters = api(
        &hub,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    );
    let before = clusters.get("cluster1").await.unwrap();
    clusters
        .delete("cluster1", &DeleteParams::default())
        .await
        .unwrap();
    gone(&clusters, "cluster1").await;
    assert!(maps.get_opt("a").await.unwrap().is_none());
    // The agent does not create it again; an administrator may.
    let again = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {"name": "cluster1"}, "spec": {"hubAcceptsClient": true, "leaseDurationSeconds": 60},
    });
    apply(&clusters, &again).await.unwrap();
    assert_ne!(before.uid(), clusters.get("cluster1").await.unwrap().uid());
    apply(&shop, &work("w", "cluster1", &[config_map("a", "2")]))
        .await
        .unwrap();
    good(&shop, "w").await;
    field(&maps, "a", "/data/value", "2").await;
}
