//! An agent made of OCM's Go clients, served by Drover's hub.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use drover_testkit::{Fleet, Probe, eventually};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::world::{LONG, api, apply, conditions, config_map, gone, up, work, works};

const FINALIZER: &str = "cluster.open-cluster-management.io/manifest-work-cleanup";

/// The status of a work that was applied.
fn seen(generation: i64) -> Value {
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Probed", "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-05-30T09:00:00Z",
        })
    };
    json!({"conditions": [condition("Applied"), condition("Available")]})
}

#[tokio::test]
async fn a_go_agent_receives_reports_and_releases_works() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("fleet");
    let fleet = up(&[
        "--data",
        data.to_str().unwrap(),
        "--hubs",
        "1",
        "--clusters",
        "0",
    ])
    .await;
    let hub = fleet.client("hub1").await.unwrap();
    let config = connect(&fleet, &hub, &data, folder.path()).await;
    let args = ["-driver", "grpc", "-config", &config, "-cluster", "probe"];
    let probe = Probe::start("probe", "agent", &args, folder.path())
        .await
        .unwrap();
    let ask = async |command: Value| {
        let done = async || probe.ask(command.clone()).await;
        eventually("the Go agent", LONG, done).await.unwrap()
    };
    let holds = async |check: fn(&Value) -> bool| {
        let look = async || {
            let works = probe.ask(json!({"do": "list"})).await?;
            ensure!(check(&works[0]), "it holds {works}");
            Ok(())
        };
        eventually("the work at the Go agent", LONG, look)
            .await
            .unwrap();
    };
    let shop = works(&hub, "probe");
    apply(&shop, &work("go", "probe", &[config_map("a", "1")]))
        .await
        .unwrap();
    holds(|work| work["metadata"]["generation"] == 1).await;
    ask(json!({"do": "finalizers", "name": "go", "list": [FINALIZER]})).await;
    ask(json!({"do": "status", "name": "go", "object": seen(1)})).await;
    let reported = async |generation: i64| {
        let check = async || {
            let found = shop.get("go").await?;
            ensure!(found.metadata.generation == Some(generation));
            let seen = conditions(&found);
            ensure!(
                seen == [
                    "Applied=True/Probed",
                    "Available=True/Probed",
                    "Reported=True/SequenceID"
                ],
                "{seen:?}"
            );
            let finalizers = found.metadata.finalizers.unwrap_or_default();
            ensure!(finalizers == [FINALIZER], "{finalizers:?}");
            Ok(())
        };
        eventually("the status on the hub", LONG, check)
            .await
            .unwrap();
    };
    reported(1).await;
    apply(
        &shop,
        &work("go", "probe", &[config_map("a", "2"), config_map("b", "1")]),
    )
    .await
    .unwrap();
    holds(|work| work["spec"]["workload"]["manifests"][1]["metadata"]["name"] == "b").await;
    ask(json!({"do": "status", "name": "go", "object": seen(2)})).await;
    reported(2).await;
    shop.delete("go", &DeleteParams::default()).await.unwrap();
    holds(|work| work["metadata"]["deletionTimestamp"].is_string()).await;
    ask(json!({"do": "finalizers", "name": "go", "list": []})).await;
    gone(&shop, "go").await;
    assert_eq!(fleet.stop().unwrap(), Some(0));
}

/// Lets the Go agent act for the cluster `probe`: the rights of an agent, and a token.
async fn connect(fleet: &Fleet, hub: &kube::Client, data: &Path, folder: &Path) -> String {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "probe"}});
    apply(&api(hub, "v1/Namespace", None), &namespace)
        .await
        .unwrap();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "probe", "namespace": "probe"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "open-cluster-management:managedcluster:work"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "probe"}],
    });
    apply(
        &api(
            hub,
            "rbac.authorization.k8s.io/v1/RoleBinding",
            Some("probe"),
        ),
        &binding,
    )
    .await
    .unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(hub.clone(), "probe");
    let request = TokenRequest {
        spec: TokenRequestSpec::default(),
        ..TokenRequest::default()
    };
    let issue = async || {
        let answer = accounts
            .create_token_request("default", &PostParams::default(), &request)
            .await?;
        answer.status.context("no status")
    };
    let token = eventually("a token", Duration::from_secs(10), issue)
        .await
        .unwrap()
        .token;
    let url = fleet.ready()["brokers"]["hub1"]
        .as_str()
        .unwrap()
        .to_owned();
    let config = folder.join("grpc.yaml");
    let ca = data.join("pki/hub1-agents.crt");
    fs::write(
        &config,
        format!("url: {url}\ncaFile: {}\ntoken: {token}\n", ca.display()),
    )
    .unwrap();
    config.to_str().unwrap().to_owned()
}
