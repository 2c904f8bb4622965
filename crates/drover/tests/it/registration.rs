//! Clusters join hubs, are accepted and denied, move from one hub to another, and leave.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use drover_agent::{AgentError, AgentOptions, Bootstrap, HubEndpoint, KubeEndpoint};
use drover_apiserver::store::Database;
use drover_runtime::clock::Clock;
use drover_testkit::{Fleet, eventually};
use jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::hub::embedded;
use crate::rights::{forbidden, identity, only_its_own, own_client};
use crate::world::{
    LONG, api, apply, conditions, config_map, gone, good, program, up, work, works,
};

const CLUSTER: &str = "edge";

/// Two hubs, and a cluster without an agent.
struct Place {
    fleet: Fleet,
    folder: TempDir,
    cluster: Client,
    stop: CancellationToken,
    _database: Database,
}

impl Place {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("fleet");
        let args = [
            "--data",
            data.to_str().unwrap(),
            "--hubs",
            "2",
            "--clusters",
            "0",
        ];
        let (database, stop) = (Database::memory(), CancellationToken::new());
        let (fleet, cluster) = tokio::join!(up(&args), embedded(&database, &stop));
        Self {
            fleet,
            folder,
            cluster,
            stop,
            _database: database,
        }
    }

    async fn hub(&self, name: &str) -> Client {
        self.fleet.client(name).await.unwrap()
    }

    fn token(&self, hub: &str) -> String {
        let kept = fs::read(self.folder.path().join("fleet/fleet.json")).unwrap();
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        kept["bootstrap"][hub].as_str().unwrap().to_owned()
    }

    /// A kubeconfig that lets a cluster ask to join.
    fn bootstrap(&self, hub: &str) -> PathBuf {
        let file = self.folder.path().join(format!("{hub}.kubeconfig"));
        let of = self.fleet.kubeconfig();
        drover_testkit::ocm::bootstrap_kubeconfig(&of, hub, &self.token(hub), &file).unwrap();
        file
    }

    fn kube(&self, hub: &str) -> KubeEndpoint {
        KubeEndpoint::read(&self.bootstrap(hub)).unwrap()
    }

    fn events(&self, hub: &str) -> HubEndpoint {
        let ca = format!("fleet/pki/{hub}-agents.crt");
        HubEndpoint {
            url: self.fleet.ready()["brokers"][hub]
                .as_str()
                .unwrap()
                .to_owned(),
            ca_pem: fs::read(self.folder.path().join(ca)).unwrap(),
            server_name: None,
            bootstrap_token: Some(self.token(hub)),
        }
    }

    /// Tells the agent of a hub, as who moves the cluster does.
    async fn name_hub(&self, name: &str, order: &str, data: &Value) {
        let secrets = api(
            &self.cluster,
            "v1/Secret",
            Some("open-cluster-management-agent"),
        );
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "labels": {"agent.drover.dev/bootstrap": order}}, "stringData": data,
        });
        apply(&secrets, &secret).await.unwrap();
    }

    fn drover(&self, hub: &str, args: &[&str]) -> String {
        let output = Command::new(program())
            .args([
                "--kubeconfig",
                self.fleet.kubeconfig().to_str().unwrap(),
                "--context",
                hub,
            ])
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Agent {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), AgentError>>,
}

fn start(options: AgentOptions) -> Agent {
    let cancel = CancellationToken::new();
    let task = tokio::spawn(drover_agent::run(options, cancel.clone()));
    Agent { cancel, task }
}

impl Agent {
    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn clusters(hub: &Client) -> Api<DynamicObject> {
    api(
        hub,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    )
}

/// Waits until the cluster has these conditions on a hub, `Type=Status`.
async fn has(hub: &Client, wanted: &[&str]) {
    let clusters = clusters(hub);
    let check = async || {
        let seen = conditions(&clusters.get(CLUSTER).await?);
        for want in wanted {
            ensure!(seen.iter().any(|have| have.starts_with(want)), "{seen:?}");
        }
        Ok(())
    };
    eventually(&wanted.join(", "), LONG, check).await.unwrap();
}

const JOINED: [&str; 3] = [
    "HubAcceptedManagedCluster=True/HubClusterAdminAccepted",
    "ManagedClusterConditionAvailable=True/ManagedClusterAvailable",
    "ManagedClusterJoined=True/ManagedClusterJoined",
];

async fn renewed_since(hub: &Client, before: &Value) -> Value {
    let leases = api(hub, "coordination.k8s.io/v1/Lease", Some(CLUSTER));
    let check = async || {
        let lease = leases.get("managed-cluster-lease").await?;
        let renewed = lease.data["spec"]["renewTime"].clone();
        ensure!(renewed != *before, "it is {renewed}");
        Ok(renewed)
    };
    eventually("a renewal", LONG, check).await.unwrap()
}

async fn short_lease(hub: &Client) {
    let short = json!({"spec": {"leaseDurationSeconds": 1}});
    let params = PatchParams::default();
    let clusters = clusters(hub);
    clusters
        .patch(CLUSTER, &params, &Patch::Merge(short))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_joins_over_the_api_is_denied_accepted_and_leaves() {
    let place = Place::start().await;
    let hub = place.hub("hub1").await;
    let endpoint = place.kube("hub1");
    let address = endpoint.server().to_owned();
    let options = AgentOptions::new(CLUSTER, endpoint, &address, place.cluster.clone());
    let agent = start(options.clone());
    has(&hub, &JOINED).await;
    short_lease(&hub).await;
    let first = renewed_since(&hub, &Value::Null).await;
    renewed_since(&hub, &first).await;
    let (shop, maps) = (
        works(&hub, CLUSTER),
        api(&place.cluster, "v1/ConfigMap", Some("default")),
    );
    apply(&shop, &work("w", CLUSTER, &[config_map("a", "1")]))
        .await
        .unwrap();
    good(&shop, "w").await;

    // Its certificate is good for its own and nothing else.
    let own = own_client(&identity(&place.cluster, &address).await).await;
    let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    apply(&api(&hub, "v1/Namespace", None), &other)
        .await
        .unwrap();
    only_its_own(&own, CLUSTER, "other").await;

    // Shut out, it keeps nothing but the sight of itself; what runs in the cluster stays.
    place.drover("hub1", &["clusters", "deny", CLUSTER]);
    has(
        &hub,
        &["HubAcceptedManagedCluster=False/HubClusterAdminDenied"],
    )
    .await;
    let denied = works(&own, CLUSTER);
    let check = async || match denied.list(&kube::api::ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        answer => anyhow::bail!("{answer:?}"),
    };
    eventually("the rights to go", LONG, check).await.unwrap();
    clusters(&own).get(CLUSTER).await.unwrap();
    let leases = api(&own, "coordination.k8s.io/v1/Lease", Some(CLUSTER));
    forbidden("a lease", leases.get("managed-cluster-lease").await);
    maps.get("a").await.unwrap();
    let said = place.drover("hub1", &["clusters", "accept", CLUSTER]);
    assert!(said.contains("managedcluster edge accepted"), "{said}");
    has(&hub, &JOINED).await;
    apply(&shop, &work("w", CLUSTER, &[config_map("a", "2")]))
        .await
        .unwrap();
    good(&shop, "w").await;

    // A restart needs no bootstrap credentials, and leaving waits for the agent.
    agent.stop().await;
    let agent = start(options);
    clusters(&hub)
        .delete(CLUSTER, &DeleteParams::default())
        .await
        .unwrap();
    gone(&maps, "a").await;
    gone(&clusters(&hub), CLUSTER).await;
    let roles = api(
        &hub,
        "rbac.authorization.k8s.io/v1/RoleBinding",
        Some(CLUSTER),
    );
    gone(&roles, "open-cluster-management:managedcluster:edge:work").await;
    agent.stop().await;
}

/// The agent is told of another hub and moves there; what it runs for the first stays for the second to take over.
async fn moves(place: &Place, options: AgentOptions, to: &str, bootstrap: Value) {
    let (first, second) = (place.hub("hub1").await, place.hub("hub2").await);
    let agent = start(options);
    has(&first, &JOINED).await;
    let shop = works(&first, CLUSTER);
    apply(&shop, &work("w", CLUSTER, &[config_map("a", "1")]))
        .await
        .unwrap();
    good(&shop, "w").await;
    place.name_hub("target", "1", &bootstrap).await;
    has(&second, &JOINED).await;
    identity(&place.cluster, to).await;
    short_lease(&second).await;
    let renewed = renewed_since(&second, &Value::Null).await;
    renewed_since(&second, &renewed).await;
    let maps = api(&place.cluster, "v1/ConfigMap", Some("default"));
    maps.get("a").await.unwrap();
    let shop = works(&second, CLUSTER);
    apply(&shop, &work("w", CLUSTER, &[config_map("a", "2")]))
        .await
        .unwrap();
    good(&shop, "w").await;
    let applied = api(
        &place.cluster,
        "work.open-cluster-management.io/v1/AppliedManifestWork",
        None,
    );
    let check = async || {
        let all = applied.list(&kube::api::ListParams::default()).await?.items;
        let stamped = |one: &DynamicObject| !one.data["status"]["evictionStartTime"].is_null();
        ensure!(
            all.len() == 2 && all.iter().filter(|one| stamped(one)).count() == 1,
            "{all:?}"
        );
        Ok(())
    };
    eventually("the work of the first hub to be given up", LONG, check)
        .await
        .unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_moves_between_hubs_by_a_secret_over_their_apis() {
    let place = Place::start().await;
    let options = AgentOptions::new(CLUSTER, place.kube("hub1"), "hub1", place.cluster.clone());
    let target = fs::read_to_string(place.bootstrap("hub2")).unwrap();
    let to = place.kube("hub2").server().to_owned();
    moves(
        &place,
        options,
        &to,
        json!({"kubeconfig": target, "hub-identity": "hub2"}),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_moves_between_hubs_by_a_secret_over_their_event_services() {
    let place = Place::start().await;
    let options = AgentOptions::new(CLUSTER, place.events("hub1"), "hub1", place.cluster.clone());
    let target = place.events("hub2");
    let config = format!("url: {}\ncaFile: ca.crt\ntokenFile: token\n", target.url);
    let secret = json!({
        "config.yaml": config, "ca.crt": String::from_utf8(target.ca_pem).unwrap(),
        "token": target.bootstrap_token.unwrap(), "hub-identity": "hub2",
    });
    moves(&place, options, &target.url, secret).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_denied_goes_to_the_next_hub_and_back() {
    let place = Place::start().await;
    let (first, second) = (place.hub("hub1").await, place.hub("hub2").await);
    let mut options =
        AgentOptions::new(CLUSTER, place.events("hub1"), "hub1", place.cluster.clone());
    // One way of each kind.
    options.hubs.push(Bootstrap::at(place.kube("hub2")));
    let agent = start(options);
    has(&first, &JOINED).await;
    assert!(clusters(&second).get_opt(CLUSTER).await.unwrap().is_none());
    place.drover("hub1", &["clusters", "deny", CLUSTER]);
    has(&second, &JOINED).await;
    place.drover("hub1", &["clusters", "accept", CLUSTER]);
    short_lease(&first).await;
    let before = renewed_since(&first, &Value::Null).await;
    place.drover("hub2", &["clusters", "deny", CLUSTER]);
    renewed_since(&first, &before).await;
    agent.stop().await;
}

/// An agent whose clock is ten minutes off.
async fn skewed(ahead: SignedDuration) {
    let place = Place::start().await;
    let hub = place.hub("hub1").await;
    let mut options =
        AgentOptions::new(CLUSTER, place.events("hub1"), "hub1", place.cluster.clone());
    options.clock = Clock::new(move || Timestamp::now() + ahead);
    let agent = start(options.clone());
    has(&hub, &["HubAcceptedManagedCluster=True"]).await;
    short_lease(&hub).await;
    has(
        &hub,
        &["ManagedClusterConditionClockSynced=False/ManagedClusterClockOutOfSync"],
    )
    .await;
    // Restarted, its certificate still counts, and its lease is renewed.
    agent.stop().await;
    let agent = start(options);
    let renewed = renewed_since(&hub, &Value::Null).await;
    renewed_since(&hub, &renewed).await;
    let cluster = clusters(&hub).get(CLUSTER).await.unwrap();
    let seen = conditions(&cluster);
    let lost = |one: &String| one.starts_with("ManagedClusterConditionAvailable=Unknown");
    assert!(!seen.iter().any(lost), "{seen:?}");
    let skip = json!({"metadata": {"annotations": {
        "registration.open-cluster-management.io/skip-clock-sync-check": "true"}}});
    let params = PatchParams::default();
    clusters(&hub)
        .patch(CLUSTER, &params, &Patch::Merge(skip))
        .await
        .unwrap();
    has(&hub, &JOINED).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ten_minutes_ahead_costs_neither_lease_nor_certificate() {
    skewed(SignedDuration::from_mins(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ten_minutes_behind_costs_neither_lease_nor_certificate() {
    skewed(SignedDuration::from_mins(-10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_and_limits_reach_the_hub_as_they_change() {
    let place = Place::start().await;
    let hub = place.hub("hub1").await;
    let mut options =
        AgentOptions::new(CLUSTER, place.events("hub1"), "hub1", place.cluster.clone());
    // Only what is watched can be as fast as this test.
    options.tuning.status_interval = Duration::from_hours(1);
    options.tuning.claims.max_custom = 1;
    let agent = start(options);
    has(&hub, &JOINED).await;
    let claims = api(
        &place.cluster,
        "cluster.open-cluster-management.io/v1alpha1/ClusterClaim",
        None,
    );
    for (name, labels) in [
        ("b", json!({})),
        ("a", json!({})),
        ("id.k8s.io", json!({})),
        (
            "hidden",
            json!({"open-cluster-management.io/spoke-only": "true"}),
        ),
    ] {
        let claim = json!({
            "apiVersion": "cluster.open-cluster-management.io/v1alpha1", "kind": "ClusterClaim",
            "metadata": {"name": name, "labels": labels}, "spec": {"value": name},
        });
        apply(&claims, &claim).await.unwrap();
    }
    let reported = async |wanted: &[&str]| {
        let check = async || {
            let found = clusters(&hub).get(CLUSTER).await?;
            let claims = found.data["status"]["clusterClaims"].as_array().cloned();
            let names: Vec<String> = claims
                .unwrap_or_default()
                .iter()
                .filter_map(|one| one["name"].as_str().map(ToOwned::to_owned))
                .collect();
            ensure!(names == wanted, "{names:?}");
            Ok(())
        };
        eventually("claims", LONG, check).await.unwrap();
    };
    reported(&["id.k8s.io", "a"]).await;
    claims.delete("a", &DeleteParams::default()).await.unwrap();
    reported(&["id.k8s.io", "b"]).await;
    agent.stop().await;
}
