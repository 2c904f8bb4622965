//! What the servers say of themselves: every built-in kind of the embedded server is described as the real one does.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::http::{Case, Report, fetch};
use crate::normal::{self, Kept};
use crate::servers::Servers;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Compares discovery documents of both forms, and the operations of OpenAPI.
pub(crate) async fn compare(servers: &Servers) -> Result<Report> {
    let mut report = Report::default();
    for path in ["/api", "/apis"] {
        let (kube, drover) = both(servers, path, AGGREGATED).await?;
        let (kube, drover) = (resources(&kube), resources(&drover));
        for (name, described) in &drover {
            check(
                &mut report,
                &format!("aggregated {name}"),
                kube.get(name),
                described,
            );
        }
    }
    let (_, groups) = both(servers, "/apis", "application/json").await?;
    let mut versions = vec!["/api/v1".to_owned()];
    for group in groups["groups"].as_array().into_iter().flatten() {
        let list = group["versions"].as_array().into_iter().flatten();
        versions.extend(
            list.filter_map(|version| Some(format!("/apis/{}", version["groupVersion"].as_str()?))),
        );
    }
    for path in versions
        .iter()
        .filter(|path| !path.contains("example.com") && !path.contains("open-cluster"))
    {
        let (kube, drover) = both(servers, path, "application/json").await?;
        let kube = by_name(&kube["resources"]);
        for (name, described) in by_name(&drover["resources"]) {
            check(
                &mut report,
                &format!("{path} {name}"),
                kube.get(&name),
                &described,
            );
        }
        let (kube, drover) =
            both(servers, &format!("/openapi/v3{path}"), "application/json").await?;
        let kube = operations(&kube);
        for (name, described) in operations(&drover) {
            check(
                &mut report,
                &format!("openapi {name}"),
                kube.get(&name),
                &described,
            );
        }
    }
    Ok(report)
}

fn check(report: &mut Report, name: &str, kube: Option<&Value>, drover: &Value) {
    report.cases += 1;
    let mut found = Vec::new();
    normal::differences("", kube.unwrap_or(&Value::Null), drover, &mut found);
    if !found.is_empty() {
        let list: Vec<String> = found
            .iter()
            .map(|(path, text)| format!("    {path}: {text}"))
            .collect();
        report
            .failures
            .push(format!("discovery: {name}\n{}", list.join("\n")));
    }
}

async fn both(servers: &Servers, path: &str, accept: &str) -> Result<(Value, Value)> {
    let case = Case {
        action: format!("GET {path}"),
        accept: Some(accept.to_owned()),
        ..Case::default()
    };
    let kept = Kept::new();
    let (kube, drover) = tokio::join!(
        fetch(&servers.kube, &case, &kept),
        fetch(&servers.drover, &case, &kept)
    );
    let body = |answer: Result<Value>| {
        Ok::<_, anyhow::Error>(answer.with_context(|| path.to_owned())?["body"].take())
    };
    Ok((body(kube)?, body(drover)?))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Resources of an aggregated document by group, version and name.
fn resources(document: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for group in items(&document["items"]) {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        if name.contains("example.com") || name.contains("open-cluster") {
            continue;
        }
        for version in items(&group["versions"]) {
            for resource in items(&version["resources"]) {
                all.insert(
                    format!("{name}/{}/{}", version["version"], resource["resource"]),
                    resource.clone(),
                );
            }
        }
    }
    all
}

fn by_name(list: &Value) -> BTreeMap<String, Value> {
    items(list)
        .map(|resource| {
            let mut resource = resource.clone();
            if let Some(fields) = resource.as_object_mut() {
                fields.remove("storageVersionHash");
            }
            (
                resource["name"].as_str().unwrap_or_default().to_owned(),
                resource,
            )
        })
        .collect()
}

/// What clients look for in operations: their sort, their kind, the names of their parameters.
fn operations(document: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        let shared = names(&methods["parameters"]);
        for (method, operation) in methods.as_object().into_iter().flatten() {
            if method == "parameters" {
                continue;
            }
            let mut parameters = names(&operation["parameters"]);
            parameters.extend(shared.iter().cloned());
            parameters.sort();
            let short = json!({
                "action": operation["x-kubernetes-action"],
                "kind": operation["x-kubernetes-group-version-kind"],
                "parameters": parameters,
            });
            all.insert(format!("{method} {path}"), short);
        }
    }
    all
}

fn names(parameters: &Value) -> Vec<String> {
    items(parameters)
        .filter_map(|one| Some(one["name"].as_str()?.to_owned()))
        .collect()
}
