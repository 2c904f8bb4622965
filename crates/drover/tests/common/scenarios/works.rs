//! Works from the hub to the cluster and back.

use std::process::Command;

use anyhow::ensure;
use drover_testkit::eventually;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::super::Ground;
use crate::world::{LONG, api, apply, field, gone, good, program};

pub(super) async fn a_cluster_follows_its_work(ground: Ground) {
    let (works, maps) = (ground.works(), ground.there("v1/ConfigMap"));
    let map = |name, value| ground.config_map(name, value);
    let name = ground.work("w", &[map("a", "1"), map("b", "1")]).await;
    good(&works, &name).await;
    // A change to a manifest.
    ground.work("w", &[map("a", "2"), map("b", "1")]).await;
    field(&maps, "a", "/data/value", "2").await;
    // Drift.
    let drift = Patch::Merge(json!({"data": {"value": "by hand"}}));
    let by_hand = PatchParams::default();
    maps.patch("a", &by_hand, &drift).await.unwrap();
    field(&maps, "a", "/data/value", "2").await;
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    field(&maps, "b", "/data/value", "1").await;
    // A manifest leaves the work.
    ground.work("w", &[map("a", "2")]).await;
    gone(&maps, "b").await;
    good(&works, &name).await;
    // The work goes.
    works.delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&works, &name).await;
    assert!(
        maps.get_opt("a").await.unwrap().is_none(),
        "a work is gone only after its objects"
    );
}

pub(super) async fn a_work_that_cannot_be_applied_says_why_and_stops_no_other(ground: Ground) {
    let works = ground.works();
    let group = format!("{}.example.com", ground.space);
    let bad = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bad", "namespace": ground.space},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": []}}},
    });
    let early = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Widget",
        "metadata": {"name": "early", "namespace": ground.space}, "spec": {"size": 1},
    });
    let bad = ground
        .work("bad", &[ground.config_map("fine", "1"), bad])
        .await;
    let early = ground.work("early", &[early]).await;
    let other = ground
        .work("other", &[ground.config_map("other", "1")])
        .await;
    good(&works, &other).await;
    field(&ground.there("v1/ConfigMap"), "fine", "/data/value", "1").await;
    let told = async || {
        let found = works.get(&bad).await?;
        let manifest = &found.data["status"]["resourceStatus"]["manifests"][1];
        let message = manifest["conditions"].to_string();
        ensure!(
            message.contains("AppliedManifestFailed") && message.contains("spec.template"),
            "{message}"
        );
        Ok(())
    };
    eventually("the reason", LONG, told).await.unwrap();
    // The kind appears, and the work that waited for it is applied. Whoever defines a kind lets the agent use it.
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("widgets.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}}}],
        },
    });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": ground.own("widgets"), "labels": {"open-cluster-management.io/aggregate-to-work": "true"}},
        "rules": [{"apiGroups": [group], "resources": ["widgets"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]}],
    });
    let cluster = |kind: &str| api(&ground.fleet.cluster, kind, None);
    let roles = cluster("rbac.authorization.k8s.io/v1/ClusterRole");
    apply(&roles, &role).await.unwrap();
    let definitions = cluster("apiextensions.k8s.io/v1/CustomResourceDefinition");
    apply(&definitions, &definition).await.unwrap();
    good(&works, &early).await;
    for name in [&bad, &early, &other] {
        works.delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in [&bad, &early, &other] {
        gone(&works, name).await;
    }
}

/// An object that moves from one work to another stays, or is made again.
pub(super) async fn a_change_between_two_works_loses_nothing(ground: Ground) {
    let (works, maps) = (ground.works(), ground.there("v1/ConfigMap"));
    let map = |name, value| ground.config_map(name, value);
    let from = ground
        .work("from", &[map("moves", "1"), map("stays", "1")])
        .await;
    good(&works, &from).await;
    let to = ground.work("to", &[map("moves", "2")]).await;
    good(&works, &to).await;
    ground.work("from", &[map("stays", "1")]).await;
    good(&works, &from).await;
    field(&maps, "moves", "/data/value", "2").await;
    works.delete(&from, &DeleteParams::default()).await.unwrap();
    gone(&works, &from).await;
    gone(&maps, "stays").await;
    field(&maps, "moves", "/data/value", "2").await;
    works.delete(&to, &DeleteParams::default()).await.unwrap();
    gone(&works, &to).await;
    gone(&maps, "moves").await;
}

pub(super) async fn a_deployment_reports_what_is_ready(ground: Ground) {
    let works = ground.works();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": ground.space},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "example/web:1"}]}}},
    });
    let mut work = crate::world::work(&ground.own("web"), &ground.fleet.name, &[deployment]);
    work["spec"]["manifestConfigs"] = json!([{
        "resourceIdentifier": {"group": "apps", "resource": "deployments", "namespace": ground.space, "name": "web"},
        "feedbackRules": [{"type": "WellKnownStatus"}],
    }]);
    apply(&works, &work).await.unwrap();
    let name = ground.own("web");
    let ready = async || {
        let found = works.get(&name).await?;
        let values =
            &found.data["status"]["resourceStatus"]["manifests"][0]["statusFeedback"]["values"];
        let list = values.as_array().cloned().unwrap_or_default();
        let ready = list.iter().find(|value| value["name"] == "ReadyReplicas");
        let number = ready.map(|value| &value["fieldValue"]["integer"]);
        ensure!(number == Some(&Value::from(2)), "feedback is {values}");
        Ok(())
    };
    eventually("two ready replicas", LONG, ready).await.unwrap();
    works.delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&works, &name).await;
    gone(&ground.there("apps/v1/Deployment"), "web").await;
}

pub(super) async fn a_work_that_is_deleted_at_once_leaves_nothing(ground: Ground) {
    let (works, maps) = (ground.works(), ground.there("v1/ConfigMap"));
    for round in 0..30 {
        let name = ground
            .work("short", &[ground.config_map("short", &round.to_string())])
            .await;
        works.delete(&name, &DeleteParams::default()).await.unwrap();
        gone(&works, &name).await;
    }
    // Another work comes after it: whatever was to be applied is applied, and what was to go is gone.
    let last = ground.work("last", &[ground.config_map("last", "1")]).await;
    good(&works, &last).await;
    gone(&maps, "short").await;
    works.delete(&last, &DeleteParams::default()).await.unwrap();
    gone(&works, &last).await;
}

pub(super) async fn commands_apply_and_show_a_work(ground: Ground) {
    let folder = tempfile::tempdir().unwrap();
    let (file, name) = (folder.path().join("work.json"), ground.own("shown"));
    let work = crate::world::work(&name, &ground.fleet.name, &[ground.config_map("a", "1")]);
    std::fs::write(&file, work.to_string()).unwrap();
    let run = async |args: &[&str]| {
        let mut command = Command::new(program());
        command
            .args(args)
            .arg("--kubeconfig")
            .arg(&ground.fleet.kubeconfig);
        command.args(["--context", &ground.fleet.context]);
        let ran = tokio::task::spawn_blocking(move || command.output());
        let output = ran.await.unwrap().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{args:?}: {said}");
        said
    };
    run(&["apply", "-f", &file.display().to_string()]).await;
    good(&ground.works(), &name).await;
    let shown = run(&["get", "works", "--namespace", &ground.fleet.name]).await;
    assert!(shown.contains(&name), "{shown}");
    let shown = run(&["status", &ground.fleet.name]).await;
    assert!(shown.contains(&format!("✓ {name}")), "{shown}");
    let works = ground.works();
    works.delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&works, &name).await;
}
