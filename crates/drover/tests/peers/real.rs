//! Hub and agent on a real kube-apiserver with etcd: the same controllers, the same outcome.

use std::sync::Arc;
use std::time::Duration;

use drover_agent::{AgentOptions, HubEndpoint};
use drover_apiserver::auth::ca::Authority;
use drover_apiserver::auth::csr;
use drover_hub::install::{BootstrapToken, bootstrap_token};
use drover_hub::{Hub, Sign};
use drover_runtime::clock::Clock;
use drover_runtime::supervise::Tasks;
use drover_testkit::{KubeApi, KubeOptions};
use drover_transport::tls::{ServerPem, ServerTls};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::world::{api, apply, config_map, field, gone, good, work, works};

/// A hub and a cluster, each on a control plane of its own, joined by the broker.
async fn join(hub: &Client, cluster: &Client, tasks: &mut Tasks) {
    let authority = Arc::new(
        Authority::create("agents", SignedDuration::from_hours(24), Timestamp::now()).unwrap(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let issued = authority
        .issue_server(
            &["127.0.0.1".to_owned()],
            SignedDuration::from_hours(24),
            Timestamp::now(),
        )
        .unwrap();
    let tls = ServerTls::new(&ServerPem {
        cert: issued.certificate.clone().into_bytes(),
        key: issued.key.clone().into_bytes(),
        client_ca: Some(authority.certificate_pem().as_bytes().to_vec()),
    });
    let token = BootstrapToken {
        id: "abcdef".to_owned(),
        secret: "0123456789abcdef".to_owned(),
    };
    bootstrap_token(hub, &token, Duration::from_hours(1), &Clock::system())
        .await
        .unwrap();
    let endpoint = HubEndpoint {
        url: address.to_string(),
        ca_pem: authority.certificate_pem().as_bytes().to_vec(),
        server_name: None,
        bootstrap_token: Some(token.bearer()),
    };
    let sign: Sign = Arc::new(move |request, _| {
        let usages =
            ["digital signature", "key encipherment", "client auth"].map(ToOwned::to_owned);
        csr::sign(
            &authority,
            request,
            SignedDuration::from_hours(1),
            &usages,
            Timestamp::now(),
        )
        .map_err(|e| e.to_string())
    });
    let cancel = tasks.cancel_token();
    let hub = Hub {
        client: hub.clone(),
        listener,
        tls: Some(tls.unwrap()),
        sign,
        accept_all: true,
        approve_bootstrap: true,
        clock: Clock::system(),
    };
    tasks.spawn("hub", hub.run(cancel.clone()));
    drover_workloads::make_node(cluster, &Clock::system())
        .await
        .unwrap();
    tasks.run(
        "workloads",
        drover_workloads::run(cluster.clone(), Clock::system(), cancel.clone()),
    );
    let options = AgentOptions::new("cluster1", endpoint, "drover:real", cluster.clone());
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
    join(&hub, &cluster, &mut tasks).await;
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
