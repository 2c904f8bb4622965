//! Registration over the Kubernetes API of hubs on a real control plane, with either side OCM's.

use drover_agent::{AgentOptions, Bootstrap, KubeEndpoint};
use drover_apiserver::store::Database;
use drover_runtime::clock::Clock;
use drover_testkit::ocm::{OcmHub, bootstrap_kubeconfig};
use drover_testkit::{KubeApi, KubeOptions, eventually};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::hub::{TestHub, embedded};
use crate::ocm::{APPLIES, CLUSTER, Spoke, applies, joined, note};
use crate::ocm_hub::{ends, let_in};
use crate::rights::{identity, only_its_own, own_client};
use crate::world::{LONG, api, apply, config_map, field, gone, good, work, works};

async fn control_plane() -> (KubeApi, Client) {
    let options = KubeOptions {
        controllers: true,
        ..KubeOptions::default()
    };
    let kube = KubeApi::start(options).await.unwrap();
    let client = kube.client().await.unwrap();
    (kube, client)
}

/// The hub's administrator shuts the cluster out.
async fn deny(hub: &Client) {
    let clusters = api(
        hub,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    );
    let denied = Patch::Merge(json!({"spec": {"hubAcceptsClient": false}}));
    let params = PatchParams::default();
    clusters.patch(CLUSTER, &params, &denied).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn drovers_agent_uses_the_api_of_ocms_hub_and_moves_to_drovers() {
    let ((kube, hub), (second_kube, second)) = tokio::join!(control_plane(), control_plane());
    let ocm = OcmHub::prepare(kube.kubeconfig(), &hub).await.unwrap();
    let _registration = ocm.registration().await.unwrap();
    let served = TestHub::start(&second, Vec::new()).await;
    let (database, stop) = (Database::memory(), CancellationToken::new());
    let cluster = embedded(&database, &stop).await;

    let endpoint = KubeEndpoint::read(&kube.kubeconfig()).unwrap();
    let mut options = AgentOptions::new(CLUSTER, endpoint, kube.url(), cluster.clone());
    options.tuning.certificate_seconds = Some(3600);
    let run = |options: &AgentOptions, cancel: &CancellationToken| {
        tokio::spawn(drover_agent::run(options.clone(), cancel.clone()))
    };
    let cancel = CancellationToken::new();
    let agent = run(&options, &cancel);
    let_in(&hub).await;
    joined(&hub).await;
    let (shops, maps) = (
        works(&hub, CLUSTER),
        api(&cluster, "v1/ConfigMap", Some("default")),
    );
    let put = async |value: &str| {
        let shop = work("shop", CLUSTER, &[config_map("a", value)]);
        apply(&shops, &shop).await.unwrap();
        field(&maps, "a", "/data/value", value).await;
        good(&shops, "shop").await;
    };
    put("1").await;
    let first = identity(&cluster, kube.url()).await;
    let own = own_client(&first).await;
    let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    apply(&api(&hub, "v1/Namespace", None), &other)
        .await
        .unwrap();
    only_its_own(&own, CLUSTER, "other").await;
    ends(cancel, agent).await;

    // Fifty minutes later its certificate is nearly over: OCM's hub renews it by itself.
    options.clock = Clock::new(|| Timestamp::now() + SignedDuration::from_mins(50));
    let cancel = CancellationToken::new();
    let agent = run(&options, &cancel);
    let check = async || {
        let now = identity(&cluster, kube.url()).await;
        anyhow::ensure!(now["tls.crt"] != first["tls.crt"], "it is the old one");
        Ok(())
    };
    eventually("another certificate", LONG, check)
        .await
        .unwrap();
    ends(cancel, agent).await;

    // It knows of another hub, and goes there when OCM's does not accept it any more.
    options.clock = Clock::system();
    let target = cluster_bootstrap(&second_kube, &served);
    options.hubs.push(Bootstrap::at(target));
    let cancel = CancellationToken::new();
    let agent = run(&options, &cancel);
    put("2").await;
    deny(&hub).await;
    joined(&second).await;
    let shops = works(&second, CLUSTER);
    let shop = work("shop", CLUSTER, &[config_map("a", "3")]);
    apply(&shops, &shop).await.unwrap();
    field(&maps, "a", "/data/value", "3").await;
    good(&shops, "shop").await;
    let own = own_client(&identity(&cluster, second_kube.url()).await).await;
    apply(&api(&second, "v1/Namespace", None), &other)
        .await
        .unwrap();
    only_its_own(&own, CLUSTER, "other").await;
    shops
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    gone(&shops, "shop").await;
    ends(cancel, agent).await;
    stop.cancel();
    note(
        "ocm-hub-csr",
        "Drover's agent over the Kubernetes API of OCM's hub 1.2.1 (`csr` registration, `kube` works; kube-apiserver, etcd and kube-controller-manager):",
        &[
            "the cluster joins: request, approved by hand, signed by the control plane, accepted, Available",
            "a work is applied and reported on",
            "the agent's certificate is good for its own cluster and namespace alone",
            "the certificate is renewed in time, by the hub itself",
            "OCM's hub denies the cluster: the agent joins a hub of Drover's on another control plane",
        ],
    );
}

/// What lets an agent ask to join Drover's hub over its API.
fn cluster_bootstrap(kube: &KubeApi, hub: &TestHub) -> KubeEndpoint {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap");
    let token = hub.endpoint().bootstrap_token.unwrap();
    bootstrap_kubeconfig(&kube.kubeconfig(), "peer", &token, &file).unwrap();
    KubeEndpoint::read(&file).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ocms_agents_use_the_api_of_a_hub_on_a_real_control_plane() {
    let ((kube, hub), spoke) = tokio::join!(control_plane(), Spoke::start());
    let spoke = spoke.unwrap();
    let served = TestHub::start(&hub, Vec::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = folder.path().join("bootstrap.kubeconfig");
    let token = served.endpoint().bootstrap_token.unwrap();
    bootstrap_kubeconfig(&kube.kubeconfig(), "peer", &token, &bootstrap).unwrap();
    let _registration = spoke.agents.registration_csr(&bootstrap).await.unwrap();
    joined(&hub).await;
    let config = spoke.agents.identity().join("kubeconfig");
    let _agent = spoke.agents.work("kube", &config).await.unwrap();
    applies(&hub, &spoke).await;
    let requests = api(
        &hub,
        "certificates.k8s.io/v1/CertificateSigningRequest",
        None,
    );
    let all = requests.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 1, "{all:?}");
    note(
        "ocm-csr-kube",
        "OCM's agents over the Kubernetes API of a hub of Drover's on a real control plane:",
        &[
            "the cluster joins with a bootstrap kubeconfig: request, certificate, accepted, Available",
            APPLIES,
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_importers_configure_is_served_by_a_real_control_plane() {
    let kube = KubeApi::start(KubeOptions::default()).await.unwrap();
    let hub = kube.client().await.unwrap();
    drover_hub::install::definitions(&hub, &drover_api::crds::import())
        .await
        .unwrap();
    let configs = api(
        &hub,
        "config.open-cluster-management.io/v1alpha1/KlusterletConfig",
        None,
    );
    let config = |grace: &str| {
        json!({
            "apiVersion": "config.open-cluster-management.io/v1alpha1", "kind": "KlusterletConfig",
            "metadata": {"name": "global"}, "spec": {"appliedManifestWorkEvictionGracePeriod": grace,
                "pullSecret": {"name": "pull", "namespace": "default"},
                "multipleHubsConfig": {"genBootstrapKubeConfigStrategy": "IncludeCurrentHub", "bootstrapKubeConfigs": {
                    "type": "LocalSecrets", "localSecretsConfig": {"kubeConfigSecrets": [{"name": "target"}]}}}},
        })
    };
    apply(&configs, &config("INFINITE")).await.unwrap();
    let found = configs.get("global").await.unwrap();
    assert_eq!(found.data["spec"]["pullSecret"]["name"], "pull");
    apply(&configs, &config("soon")).await.unwrap_err();
}
