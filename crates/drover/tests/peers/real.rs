//! Hub and agent on a real kube-apiserver with etcd: the same controllers, the same outcome.

use std::time::Duration;

use drover_agent::AgentOptions;
use drover_runtime::clock::Clock;
use drover_runtime::supervise::Tasks;
use drover_testkit::{KubeApi, KubeOptions};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::hub::TestHub;
use crate::world::{api, apply, config_map, field, gone, good, work, works};

/// A cluster on a control plane of its own, joined to the hub by the broker.
async fn join(hub: &TestHub, cluster: &Client, tasks: &mut Tasks) {
    let cancel = tasks.cancel_token();
    drover_workloads::make_node(cluster, &Clock::system())
        .await
        .unwrap();
    tasks.run(
        "workloads",
        drover_workloads::run(cluster.clone(), Clock::system(), cancel.clone()),
    );
    let options = AgentOptions::new("cluster1", hub.endpoint(), "drover:real", cluster.clone());
    tasks.spawn("agent", drover_agent::run(options, cancel));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_lives_and_dies_on_a_real_control_plane() {
    let options = KubeOptions {
        controllers: true,
        ..KubeOptions::default()
    };
    let (hub_api, cluster_api) = tokio::join!(KubeApi::start(options), KubeApi::start(options));
    let (hub_api, cluster_api) = (hub_api.unwrap(), cluster_api.unwrap());
    let (hub, cluster) = (
        hub_api.client().await.unwrap(),
        cluster_api.client().await.unwrap(),
    );
    let mut tasks = Tasks::new(CancellationToken::new());
    let cancel = tasks.cancel_token();
    let served = TestHub::start(&hub, Vec::new()).await;
    join(&served, &cluster, &mut tasks).await;
    let scenario = async {
        let clusters = api(
            &hub,
            "cluster.open-cluster-management.io/v1/ManagedCluster",
            None,
        );
        let joined = async || {
            let found = clusters.get("cluster1").await?;
            let seen = crate::world::conditions(&found);
            anyhow::ensure!(
                seen.iter()
                    .any(|c| c == "ManagedClusterConditionAvailable=True/ManagedClusterAvailable"),
                "{seen:?}"
            );
            Ok(())
        };
        drover_testkit::eventually("the cluster to join", crate::world::LONG, joined)
            .await
            .unwrap();
        let (shop, maps) = (
            works(&hub, "cluster1"),
            api(&cluster, "v1/ConfigMap", Some("default")),
        );
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "example/web:1"}]}}},
        });
        apply(
            &shop,
            &work(
                "w",
                "cluster1",
                &[config_map("a", "1"), config_map("b", "1"), deployment],
            ),
        )
        .await
        .unwrap();
        good(&shop, "w").await;
        let drift = Patch::Merge(json!({"data": {"value": "by hand"}}));
        maps.patch("a", &PatchParams::default(), &drift)
            .await
            .unwrap();
        field(&maps, "a", "/data/value", "1").await;
        apply(&shop, &work("w", "cluster1", &[config_map("a", "2")]))
            .await
            .unwrap();
        field(&maps, "a", "/data/value", "2").await;
        gone(&maps, "b").await;
        gone(&api(&cluster, "apps/v1/Deployment", Some("default")), "web").await;
        shop.delete("w", &DeleteParams::default()).await.unwrap();
        gone(&shop, "w").await;
        gone(&maps, "a").await;
    };
    tokio::select! {
        () = scenario => cancel.cancel(),
        failed = tasks.wait(Duration::from_secs(10)) => panic!("{failed:?}"),
    }
}
