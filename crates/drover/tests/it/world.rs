//! What the tests of this target share: a fleet, objects, and how to look at them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use drover_testkit::{Fleet, eventually};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};

pub(crate) const LONG: Duration = Duration::from_mins(2);

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_drover"))
}

pub(crate) async fn up(args: &[&str]) -> Fleet {
    match Fleet::up(program(), args, LONG).await {
        Ok(fleet) => fleet,
        Err(error) => panic!("{error:#}"),
    }
}

/// An API by `group/version/Kind`, `v1/Kind` in the core group.
pub(crate) fn api(client: &Client, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (version, kind) = kind.rsplit_once('/').unwrap_or(("v1", kind));
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

pub(crate) fn works(hub: &Client, cluster: &str) -> Api<DynamicObject> {
    api(
        hub,
        "work.open-cluster-management.io/v1/ManifestWork",
        Some(cluster),
    )
}

pub(crate) async fn apply(api: &Api<DynamicObject>, object: &Value) -> Result<DynamicObject> {
    let name = object["metadata"]["name"].as_str().context("no name")?;
    Ok(api
        .patch(
            name,
            &PatchParams::apply("test").force(),
            &Patch::Apply(object),
        )
        .await?)
}

pub(crate) fn work(name: &str, cluster: &str, manifests: &[Value]) -> Value {
    json!({
        "apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
        "metadata": {"name": name, "namespace": cluster}, "spec": {"workload": {"manifests": manifests}},
    })
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"value": value},
    })
}

/// `Type=Status/Reason` of each condition of a work that speaks of its current generation, sorted.
/// (A cluster's conditions do not depend on what its spec says.)
pub(crate) fn conditions(object: &DynamicObject) -> Vec<String> {
    let is_work = object
        .types
        .as_ref()
        .is_some_and(|types| types.kind == "ManifestWork");
    let generation = object.metadata.generation.filter(|_| is_work);
    let list = object.data["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let is_current =
        |seen: Option<i64>| generation.is_none() || seen.is_none() || seen == generation;
    let current = list
        .iter()
        .filter(|c| is_current(c["observedGeneration"].as_i64()));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> = current
        .map(|c| {
            format!(
                "{}={}/{}",
                text(&c["type"]),
                text(&c["status"]),
                text(&c["reason"])
            )
        })
        .collect();
    all.sort();
    all
}

pub(crate) const GOOD: [&str; 2] = [
    "Applied=True/AppliedManifestWorkComplete",
    "Available=True/ResourcesAvailable",
];

/// Waits until a work of the current generation is applied and available.
pub(crate) async fn good(api: &Api<DynamicObject>, name: &str) -> DynamicObject {
    let check = async || {
        let found = api.get(name).await?;
        let seen = conditions(&found);
        ensure!(
            GOOD.iter().all(|want| seen.iter().any(|have| have == want)),
            "{name} has {seen:?}: {}",
            found.data["status"]
        );
        Ok(found)
    };
    eventually(name, LONG, check).await.unwrap()
}

/// Waits until a field has a value.
pub(crate) async fn field(api: &Api<DynamicObject>, name: &str, pointer: &str, expected: &str) {
    let check = async || {
        let found = api.get(name).await?;
        let value = found
            .data
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        ensure!(value == expected, "{pointer} is {value:?}");
        Ok(())
    };
    eventually(&format!("{name}{pointer}"), LONG, check)
        .await
        .unwrap();
}

/// Waits until an object is not there.
pub(crate) async fn gone(api: &Api<DynamicObject>, name: &str) {
    let check = async || {
        let found = api.get_opt(name).await?;
        ensure!(
            found.is_none(),
            "it is there: {}",
            serde_json::to_string(&found)?
        );
        Ok(())
    };
    eventually(&format!("the end of {name}"), LONG, check)
        .await
        .unwrap();
}
