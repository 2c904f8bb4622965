//! OCM's own agents, served by Drover's hub: they join, and apply works in a real cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use drover_testkit::compat::{Outcome, Table};
use drover_testkit::ocm::{GrpcConfig, OcmAgents};
use drover_testkit::{Fleet, KubeApi, KubeOptions, Process, eventually};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::hub::TestHub;
use crate::world::{LONG, api, apply, conditions, config_map, field, gone, good, up, work, works};

pub(crate) const CLUSTER: &str = "ocm1";

/// A managed cluster on a real control plane, with OCM's agents.
pub(crate) struct Spoke {
    _kube: KubeApi,
    pub client: Client,
    pub agents: OcmAgents,
}

impl Spoke {
    pub(crate) async fn start() -> Result<Self> {
        let kube = KubeApi::start(KubeOptions::default()).await?;
        let client = kube.client().await?;
        let agents = OcmAgents::prepare(CLUSTER, kube.kubeconfig(), &client).await?;
        Ok(Self {
            _kube: kube,
            client,
            agents,
        })
    }

    pub(crate) fn maps(&self) -> Api<DynamicObject> {
        api(&self.client, "v1/ConfigMap", Some("default"))
    }

    fn programs(&self) -> Api<DynamicObject> {
        api(&self.client, "apps/v1/Deployment", Some("default"))
    }
}

/// The test ran to its end: notes in docs/compatibility.md what was seen to work.
pub(crate) fn note(section: &str, head: &str, seen: &[&str]) {
    let mut table = Table::new(section, head, &["what", "outcome"]);
    for what in seen {
        table.row(&[what], vec![Outcome::Pass]);
    }
    table.check().unwrap();
}

/// What [`applies`] sees.
pub(crate) const APPLIES: &str =
    "a work is applied, reported on with feedback, changed; what is not wanted any more is pruned";
/// What [`agent_away`] sees.
pub(crate) const AGENT_AWAY: &str =
    "the work agent is killed; one work is made and one deleted meanwhile";

/// Waits until the registration agent brought the cluster in.
pub(crate) async fn joined(hub: &Client) {
    joined_as(hub, CLUSTER).await;
}

/// The same for any cluster.
pub(crate) async fn joined_as(hub: &Client, cluster: &str) {
    let clusters = api(
        hub,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    );
    let check = async || {
        let found = clusters.get(cluster).await?;
        let seen = conditions(&found);
        for want in [
            "HubAcceptedManagedCluster=True/HubClusterAdminAccepted",
            "ManagedClusterConditionAvailable=True/ManagedClusterAvailable",
            "ManagedClusterJoined=True/ManagedClusterJoined",
        ] {
            ensure!(seen.iter().any(|have| have == want), "{seen:?}");
        }
        Ok(())
    };
    eventually("the cluster to join", LONG, check)
        .await
        .unwrap();
}

fn deployment(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "example/web:1"}]}}},
    })
}

/// A work with a configuration and a program whose status is asked for.
fn shop(value: &str, replicas: i64) -> Value {
    let mut shop = work(
        "shop",
        CLUSTER,
        &[config_map("a", value), deployment(replicas)],
    );
    shop["spec"]["manifestConfigs"] = json!([{
        "resourceIdentifier": {"group": "apps", "resource": "deployments", "namespace": "default", "name": "web"},
        "feedbackRules": [{"type": "WellKnownStatus"}],
    }]);
    shop
}

/// The agents apply a work with a program, report on it, change it, and drop what is not wanted any more.
pub(crate) async fn applies(hub: &Client, spoke: &Spoke) {
    let (maps, programs) = (spoke.maps(), spoke.programs());
    let shops = works(hub, CLUSTER);
    apply(&shops, &shop("1", 1)).await.unwrap();
    good(&shops, "shop").await;
    let status = json!({"status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}});
    programs
        .patch_status("web", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    feedback(hub, "ReadyReplicas", 1).await;
    apply(&shops, &work("shop", CLUSTER, &[config_map("a", "2")]))
        .await
        .unwrap();
    field(&maps, "a", "/data/value", "2").await;
    gone(&programs, "web").await;
    good(&shops, "shop").await;
}

/// The agent dies, and what it shall do changes meanwhile.
pub(crate) async fn agent_away(
    hub: &Client,
    spoke: &Spoke,
    agent: &mut Process,
    driver: &str,
    config: &Path,
) {
    agent.kill();
    let shops = works(hub, CLUSTER);
    let second = work("second", CLUSTER, &[config_map("b", "1")]);
    apply(&shops, &second).await.unwrap();
    shops
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    *agent = spoke.agents.work(driver, config).await.unwrap();
    gone(&shops, "shop").await;
    gone(&spoke.maps(), "a").await;
    good(&shops, "second").await;
    shops
        .delete("second", &DeleteParams::default())
        .await
        .unwrap();
    gone(&shops, "second").await;
    gone(&spoke.maps(), "b").await;
}

/// The registration agent renews the lease of its cluster, which is made short for this.
async fn renews(hub: &Client) {
    let clusters = api(
        hub,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    );
    let short = json!({"spec": {"leaseDurationSeconds": 1}});
    clusters
        .patch(CLUSTER, &PatchParams::default(), &Patch::Merge(short))
        .await
        .unwrap();
    let leases = api(hub, "coordination.k8s.io/v1/Lease", Some(CLUSTER));
    let mut seen = BTreeSet::new();
    let check = async || {
        let lease = leases.get("managed-cluster-lease").await?;
        seen.insert(lease.data["spec"]["renewTime"].to_string());
        ensure!(seen.len() > 2, "{seen:?}");
        Ok(())
    };
    eventually("renewals", LONG, check).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ocms_agents_join_an_embedded_hub_and_work_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("fleet");
    let (fleet, spoke) = tokio::join!(start(&data), Spoke::start());
    let spoke = spoke.unwrap();
    let hub = fleet.client("hub1").await.unwrap();
    let bootstrap = spoke.agents.grpc(&endpoint(&fleet, &data)).unwrap();
    let _registration = spoke.agents.registration_grpc(&bootstrap).await.unwrap();
    joined(&hub).await;
    renews(&hub).await;
    let config = spoke.agents.identity().join("config.yaml");
    let mut agent = spoke.agents.work("grpc", &config).await.unwrap();
    applies(&hub, &spoke).await;
    fleet.kill();
    let fleet = start(&data).await;
    let hub = fleet.client("hub1").await.unwrap();
    let third = work("shop", CLUSTER, &[config_map("a", "3")]);
    apply(&works(&hub, CLUSTER), &third).await.unwrap();
    field(&spoke.maps(), "a", "/data/value", "3").await;
    good(&works(&hub, CLUSTER), "shop").await;
    agent_away(&hub, &spoke, &mut agent, "grpc", &config).await;
    note(
        "ocm-embedded",
        "OCM's registration and work agents 1.2.1 at a hub of Drover's on the embedded API, over gRPC; the cluster is a real kube-apiserver:",
        &[
            "the cluster joins with a bootstrap token: request, certificate, accepted, Available",
            "the lease is renewed as often as the hub says",
            APPLIES,
            "the hub is killed and started again; a work is changed",
            AGENT_AWAY,
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ocms_agents_join_a_hub_on_a_real_control_plane() {
    let (kube, spoke) = tokio::join!(KubeApi::start(KubeOptions::default()), Spoke::start());
    let (kube, spoke) = (kube.unwrap(), spoke.unwrap());
    let hub = kube.client().await.unwrap();
    let mut served = TestHub::start(&hub, Vec::new()).await;
    let endpoint = served.endpoint();
    let bootstrap = GrpcConfig {
        url: endpoint.url,
        ca_pem: String::from_utf8(endpoint.ca_pem).unwrap(),
        token: endpoint.bootstrap_token,
    };
    let bootstrap = spoke.agents.grpc(&bootstrap).unwrap();
    let _registration = spoke.agents.registration_grpc(&bootstrap).await.unwrap();
    joined(&hub).await;
    let config = spoke.agents.identity().join("config.yaml");
    let mut agent = spoke.agents.work("grpc", &config).await.unwrap();
    applies(&hub, &spoke).await;
    served.stop().await;
    let third = work("shop", CLUSTER, &[config_map("a", "3")]);
    apply(&works(&hub, CLUSTER), &third).await.unwrap();
    served.restart().await;
    field(&spoke.maps(), "a", "/data/value", "3").await;
    good(&works(&hub, CLUSTER), "shop").await;
    agent_away(&hub, &spoke, &mut agent, "grpc", &config).await;
    note(
        "ocm-kube",
        "The same at a hub on a real kube-apiserver:",
        &[
            "the cluster joins with a bootstrap token: request, certificate, accepted, Available",
            APPLIES,
            "the hub is stopped, a work is changed, the hub is started again",
            AGENT_AWAY,
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ocms_agents_use_the_api_of_an_embedded_hub() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("fleet");
    let (fleet, spoke) = tokio::join!(start(&data), Spoke::start());
    let spoke = spoke.unwrap();
    let hub = fleet.client("hub1").await.unwrap();
    let bootstrap = folder.path().join("bootstrap.kubeconfig");
    let token = endpoint(&fleet, &data).token.unwrap();
    drover_testkit::ocm::bootstrap_kubeconfig(&fleet.kubeconfig(), "hub1", &token, &bootstrap)
        .unwrap();
    let _registration = spoke.agents.registration_csr(&bootstrap).await.unwrap();
    joined(&hub).await;
    let config = spoke.agents.identity().join("kubeconfig");
    let mut agent = spoke.agents.work("kube", &config).await.unwrap();
    applies(&hub, &spoke).await;
    agent_away(&hub, &spoke, &mut agent, "kube", &config).await;
    note(
        "ocm-csr",
        "The same agents with the embedded API of the hub itself (`csr` registration, `kube` works):",
        &[
            "the cluster joins with a bootstrap kubeconfig: request, certificate, accepted, Available",
            APPLIES,
            AGENT_AWAY,
        ],
    );
}

async fn start(data: &Path) -> Fleet {
    let data = data.to_str().unwrap();
    up(&["--data", data, "--hubs", "1", "--clusters", "0"]).await
}

fn endpoint(fleet: &Fleet, data: &Path) -> GrpcConfig {
    let kept: Value = serde_json::from_slice(&fs::read(data.join("fleet.json")).unwrap()).unwrap();
    GrpcConfig {
        url: fleet.ready()["brokers"]["hub1"]
            .as_str()
            .unwrap()
            .to_owned(),
        ca_pem: fs::read_to_string(data.join("pki/hub1-agents.crt")).unwrap(),
        token: kept["bootstrap"]["hub1"].as_str().map(ToOwned::to_owned),
    }
}

/// Waits until a value was read back from the cluster.
async fn feedback(hub: &Client, name: &str, value: i64) {
    let shop = works(hub, CLUSTER);
    let check = async || {
        let found = shop.get("shop").await?;
        let manifests = found.data["status"]["resourceStatus"]["manifests"]
            .as_array()
            .cloned()
            .context("no manifests")?;
        let seen: Vec<_> = manifests
            .iter()
            .filter_map(|one| one["statusFeedback"]["values"].as_array().cloned())
            .flatten()
            .collect();
        let want = json!({"name": name, "fieldValue": {"type": "Integer", "integer": value}});
        ensure!(seen.contains(&want), "{seen:?}");
        Ok(())
    };
    eventually(name, LONG, check).await.unwrap();
}
