//! Drover's agent in OCM's hub: it joins over OCM's event server, and works for OCM's controllers over MQTT.

use std::sync::Arc;

use anyhow::{Context, ensure};
use drover_agent::{AgentOptions, HubEndpoint, WorkOptions};
use drover_apiserver::store::Database;
use drover_protocol::topics::{TopicNames, Topics};
use drover_testkit::ocm::{OcmHub, namespace};
use drover_testkit::{KubeApi, KubeOptions, Mosquitto, MosquittoOptions, eventually};
use drover_transport::mqtt::{MqttConfig, MqttTransport};
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::hub::embedded;
use crate::ocm::{CLUSTER, joined, note};
use crate::world::{LONG, api, apply, config_map, field, gone, good, work, works};

/// An OCM hub on a real control plane, and a cluster on an embedded API.
struct Place {
    _kube: KubeApi,
    hub: Client,
    ocm: OcmHub,
    _database: Database,
    cluster: Client,
    stop: CancellationToken,
}

impl Place {
    async fn start() -> Self {
        let kube = KubeApi::start(KubeOptions::default()).await.unwrap();
        let hub = kube.client().await.unwrap();
        let ocm = OcmHub::prepare(kube.kubeconfig(), &hub).await.unwrap();
        let (database, stop) = (Database::memory(), CancellationToken::new());
        let cluster = embedded(&database, &stop).await;
        Self {
            _kube: kube,
            hub,
            ocm,
            _database: database,
            cluster,
            stop,
        }
    }

    fn maps(&self) -> kube::Api<DynamicObject> {
        api(&self.cluster, "v1/ConfigMap", Some("default"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn ends<E: std::fmt::Debug>(
    cancel: CancellationToken,
    agent: JoinHandle<Result<(), E>>,
) {
    cancel.cancel();
    agent.await.unwrap().unwrap();
}

/// What an administrator of the hub does for a cluster that asks to join.
pub(crate) async fn let_in(hub: &Client) {
    let clusters = api(
        hub,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    );
    let requests = api(
        hub,
        "certificates.k8s.io/v1/CertificateSigningRequest",
        None,
    );
    let check = async || {
        clusters.get(CLUSTER).await?;
        let own = format!("open-cluster-management.io/cluster-name={CLUSTER}");
        let list = requests.list(&ListParams::default().labels(&own)).await?;
        let name = list.items.first().and_then(|one| one.metadata.name.clone());
        name.context("no request")
    };
    let request = eventually("the cluster to ask", LONG, check).await.unwrap();
    let approved = json!({"status": {"conditions": [
        {"type": "Approved", "status": "True", "reason": "Test", "message": "by hand"},
    ]}});
    let params = PatchParams::default();
    requests
        .patch_subresource("approval", &request, &params, &Patch::Merge(approved))
        .await
        .unwrap();
    let accepted = json!({"spec": {"hubAcceptsClient": true}});
    clusters
        .patch(CLUSTER, &params, &Patch::Merge(accepted))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn drovers_agent_joins_ocms_hub_and_works_for_it() {
    let place = Place::start().await;
    let _registration = place.ocm.registration().await.unwrap();
    let (_server, url) = place.ocm.server().await.unwrap();
    let endpoint = HubEndpoint {
        url,
        ca_pem: std::fs::read(place.ocm.authority().ca()).unwrap(),
        server_name: None,
        // Any token that the hub's API knows will do.
        bootstrap_token: Some("admin-token".to_owned()),
    };
    let options = AgentOptions::new(CLUSTER, endpoint, "drover:ocm", place.cluster.clone());
    let run = |cancel: &CancellationToken| {
        tokio::spawn(drover_agent::run(options.clone(), cancel.clone()))
    };
    let cancel = CancellationToken::new();
    let agent = run(&cancel);
    let_in(&place.hub).await;
    joined(&place.hub).await;
    let (shops, maps) = (works(&place.hub, CLUSTER), place.maps());
    let put = async |value: &str| {
        let shop = work("shop", CLUSTER, &[config_map("a", value)]);
        apply(&shops, &shop).await.unwrap();
    };
    put("1").await;
    good(&shops, "shop").await;
    put("2").await;
    field(&maps, "a", "/data/value", "2").await;
    good(&shops, "shop").await;
    ends(cancel, agent).await;
    put("3").await;
    let cancel = CancellationToken::new();
    let agent = run(&cancel);
    field(&maps, "a", "/data/value", "3").await;
    good(&shops, "shop").await;
    shops
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    gone(&shops, "shop").await;
    gone(&maps, "a").await;
    ends(cancel, agent).await;
    note(
        "ocm-server",
        "Drover's agent at OCM's hub 1.2.1 (event server and registration controllers on a real kube-apiserver), over gRPC:",
        &[
            "the cluster joins: request, approved by hand, certificate, accepted, Available",
            "a work is applied, reported on, changed",
            "the agent is stopped, a work is changed, the agent is started again",
            "a work is deleted",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn drovers_agent_works_for_ocms_replica_sets_over_mqtt() {
    let (place, broker) = tokio::join!(
        Place::start(),
        Mosquitto::start(MosquittoOptions::default())
    );
    let broker = broker.unwrap();
    let _manager = place.ocm.work_mqtt(&broker.address()).await.unwrap();
    let topics = TopicNames {
        source_events: format!("sources/mwrsctrl/clusters/{CLUSTER}/sourceevents"),
        agent_events: format!("sources/mwrsctrl/clusters/{CLUSTER}/agentevents"),
        source_broadcast: "sources/+/sourcebroadcast".to_owned(),
        agent_broadcast: format!("clusters/{CLUSTER}/agentbroadcast"),
    };
    let config = MqttConfig::new(
        broker.address(),
        "ocm1-work-agent",
        Topics::new(&topics).unwrap(),
    );
    let over = Arc::new(MqttTransport::new(config));
    let options = WorkOptions::new(CLUSTER, over, &broker.address(), place.cluster.clone());
    let cancel = CancellationToken::new();
    let agent = tokio::spawn(drover_agent::run_works(options, cancel.clone()));

    namespace(&place.hub, CLUSTER).await.unwrap();
    place_shop(&place.hub).await;
    let sets = api(
        &place.hub,
        "work.open-cluster-management.io/v1alpha1/ManifestWorkReplicaSet",
        Some("default"),
    );
    let set = |value: &str| {
        json!({
            "apiVersion": "work.open-cluster-management.io/v1alpha1", "kind": "ManifestWorkReplicaSet",
            "metadata": {"name": "shop", "namespace": "default"},
            "spec": {
                "manifestWorkTemplate": {"workload": {"manifests": [config_map("a", value)]}},
                "placementRefs": [{"name": "all", "rolloutStrategy": {"type": "All"}}],
            },
        })
    };
    apply(&sets, &set("1")).await.unwrap();
    field(&place.maps(), "a", "/data/value", "1").await;
    let counted = async || {
        let found = sets.get("shop").await?;
        let summary = &found.data["status"]["summary"];
        ensure!(
            summary["applied"] == 1 && summary["available"] == 1,
            "{summary}"
        );
        Ok(())
    };
    eventually("the set to be counted", LONG, counted)
        .await
        .unwrap();
    apply(&sets, &set("2")).await.unwrap();
    field(&place.maps(), "a", "/data/value", "2").await;
    sets.delete("shop", &DeleteParams::default()).await.unwrap();
    gone(&sets, "shop").await;
    gone(&place.maps(), "a").await;
    ends(cancel, agent).await;
    note(
        "ocm-sets",
        "Drover's agent and OCM's work manager 1.2.1 as a source (`mwrsctrl`) behind mosquitto:",
        &[
            "a ManifestWorkReplicaSet is applied and counted",
            "it is changed",
            "it is deleted",
        ],
    );
}

/// A placement that chose the cluster: nobody runs here who would choose.
async fn place_shop(hub: &Client) {
    let placement = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1beta1", "kind": "Placement",
        "metadata": {"name": "all", "namespace": "default"}, "spec": {},
    });
    let kind = "cluster.open-cluster-management.io/v1beta1/Placement";
    apply(&api(hub, kind, Some("default")), &placement)
        .await
        .unwrap();
    let decision = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1beta1", "kind": "PlacementDecision",
        "metadata": {"name": "all-decision-1", "namespace": "default", "labels": {
            "cluster.open-cluster-management.io/placement": "all",
            "cluster.open-cluster-management.io/decision-group-index": "0",
        }},
    });
    let kind = "cluster.open-cluster-management.io/v1beta1/PlacementDecision";
    let decisions = api(hub, kind, Some("default"));
    apply(&decisions, &decision).await.unwrap();
    let chosen = json!({"status": {"decisions": [{"clusterName": CLUSTER, "reason": ""}]}});
    decisions
        .patch_status(
            "all-decision-1",
            &PatchParams::default(),
            &Patch::Merge(chosen),
        )
        .await
        .unwrap();
}
