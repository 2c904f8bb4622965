//! `drover manifests`: what installs a hub, an agent or a publisher on Kubernetes, made of typed objects so that no field can be misspelt.

mod agent;
mod hub;
mod network;
mod pod;
mod publisher;
mod rbac;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{ManifestRole, Manifests};
use crate::print;

/// Prints one document for each object, in the order in which they must be applied.
pub fn run(args: &Manifests) -> Result<()> {
    print::line(render(args)?.trim_end())
}

fn render(args: &Manifests) -> Result<String> {
    if args.network_policy && args.role != ManifestRole::Publisher {
        bail!("--network-policy is for a publisher: whom a hub and an agent reach is yours to say");
    }
    let objects = match args.role {
        ManifestRole::Hub => {
            if args.cluster.is_some() || args.hub.is_some() {
                bail!("--cluster and --hub are for an agent: a hub waits for its clusters");
            }
            hub::objects(args)?
        }
        ManifestRole::Agent => agent::objects(args)?,
        ManifestRole::Publisher => publisher::objects(args)?,
    };
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&object)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// An object as it is sent, with its kind.
fn object<K: Resource<DynamicType = ()> + Serialize>(typed: &K) -> Result<Value> {
    let mut value = serde_json::to_value(typed).context("failed to write an object")?;
    // Told by the type; typed objects of `kube` leave it out.
    value["apiVersion"] = K::api_version(&()).as_ref().into();
    value["kind"] = K::kind(&()).as_ref().into();
    Ok(pruned(value))
}

/// Without what says nothing.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, pruned(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(pruned).collect(),
        other => other,
    }
}

fn namespace(name: &str) -> Namespace {
    let mut metadata = named(name, None);
    // The pods keep to the strictest of the standards of Kubernetes; the API server shall hold them to it.
    let enforce = (
        "pod-security.kubernetes.io/enforce".to_owned(),
        "restricted".to_owned(),
    );
    metadata.labels.get_or_insert_default().extend([enforce]);
    Namespace {
        metadata,
        ..Namespace::default()
    }
}

/// What all that is printed carries.
fn named(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(ToOwned::to_owned),
        labels: Some([("app.kubernetes.io/part-of".to_owned(), "drover".to_owned())].into()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
