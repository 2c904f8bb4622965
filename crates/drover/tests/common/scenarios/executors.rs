//! Works in the name of a service account of the cluster.

use std::time::Duration;

use anyhow::ensure;
use drover_testkit::eventually;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::super::Ground;
use crate::world::{LONG, apply, field, gone, good};

const RBAC: &str = "rbac.authorization.k8s.io";
/// The agent asks again once a minute.
const ASKED_AGAIN: Duration = LONG.saturating_mul(3);

/// What an account needs for an object that goes with its work.
pub(super) const ALL: [&str; 5] = ["create", "update", "patch", "get", "delete"];

fn role(ground: &Ground, name: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": {"name": name, "namespace": ground.space},
        "rules": [{"apiGroups": ["", RBAC], "resources": resources, "verbs": verbs}],
    })
}

/// Lets the account do something in the scenario's namespace.
pub(super) async fn grant(ground: &Ground, name: &str, resources: &[&str], verbs: &[&str]) {
    let binding = json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": {"name": name, "namespace": ground.space},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "runner", "namespace": ground.space}],
    });
    let roles = ground.there(&format!("{RBAC}/v1/Role"));
    let granted = role(ground, name, resources, verbs);
    apply(&roles, &granted).await.unwrap();
    let bindings = ground.there(&format!("{RBAC}/v1/RoleBinding"));
    apply(&bindings, &binding).await.unwrap();
}

/// An account without rights, in the form that a work names it in.
pub(super) async fn runner(ground: &Ground) -> Value {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "runner", "namespace": ground.space},
    });
    let accounts = ground.there("v1/ServiceAccount");
    apply(&accounts, &account).await.unwrap();
    let account = json!({"namespace": ground.space, "name": "runner"});
    json!({"subject": {"type": "ServiceAccount", "serviceAccount": account}})
}

/// Waits until the manifest with this number says that it was not applied, and why.
async fn refused(ground: &Ground, work: &str, number: usize, why: &str) {
    let works = ground.works();
    let told = async || {
        let found = works.get(work).await?;
        let manifest = &found.data["status"]["resourceStatus"]["manifests"][number];
        let text = manifest["conditions"].to_string();
        ensure!(text.contains(why), "{}", found.data["status"]);
        Ok(())
    };
    eventually(why, LONG, told).await.unwrap();
}

/// An account without rights applies nothing, one with rights applies what it may, and nobody gives away rights that he lacks.
pub(super) async fn an_executor_is_refused_and_then_allowed(ground: Ground) {
    let works = ground.works();
    let executor = runner(&ground).await;
    let work = |value: &str| {
        let manifests = [
            ground.config_map("ran", value),
            role(&ground, "fair", &["configmaps"], &["get"]),
            role(&ground, "greedy", &["secrets"], &["get"]),
        ];
        let mut work = crate::world::work(&ground.own("ran"), &ground.fleet.name, &manifests);
        work["spec"]["executor"] = executor.clone();
        work
    };
    let name = ground.own("ran");
    apply(&works, &work("1")).await.unwrap();
    let runner = format!(
        "system:serviceaccount:{}:runner is not allowed to",
        ground.space
    );
    refused(&ground, &name, 0, &format!("{runner} create configmaps")).await;
    refused(&ground, &name, 1, &format!("{runner} create roles")).await;
    let maps = ground.there("v1/ConfigMap");
    assert!(maps.get_opt("ran").await.unwrap().is_none());

    // A change of the work is a reason to ask at once.
    grant(&ground, "runs", &["configmaps", "roles"], &ALL).await;
    apply(&works, &work("2")).await.unwrap();
    field(&maps, "ran", "/data/value", "2").await;
    let roles = ground.there(&format!("{RBAC}/v1/Role"));
    let made = async || Ok(roles.get("fair").await?);
    eventually("the fair role", LONG, made).await.unwrap();
    refused(&ground, &name, 2, &format!("{runner} apply this")).await;
    assert!(roles.get_opt("greedy").await.unwrap().is_none());

    // Otherwise it is asked again in time.
    grant(&ground, "reads", &["secrets"], &["get"]).await;
    let made = async || Ok(roles.get("greedy").await?);
    let made = eventually("the greedy role", ASKED_AGAIN, made).await;
    made.unwrap();
    good(&works, &name).await;
    works.delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&works, &name).await;
    gone(&maps, "ran").await;
    gone(&roles, "greedy").await;
}
