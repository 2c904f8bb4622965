//! `drover apply` and `drover get`, for those without kubectl.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cli::{self, Global};
use crate::kinds::{Kind, Kinds};
use crate::{connect, print};

const FIELD_MANAGER: &str = "drover";

/// Applies every object of the files; goes on after an object that fails, and fails in the end.
pub async fn apply(args: cli::Apply, global: &Global) -> Result<()> {
    let kubeconfig = connect::kubeconfig(global)?;
    let client = connect::client(&kubeconfig, global.context.as_deref()).await?;
    let objects = read(&args.file)?;
    let failed = apply_all(
        &client,
        objects,
        args.namespace.as_deref(),
        args.force_conflicts,
    )
    .await?;
    if failed > 0 {
        bail!("{failed} objects were not applied");
    }
    Ok(())
}

/// Applies objects in the order given and tells each; the answer is how many failed.
pub async fn apply_all(
    client: &Client,
    objects: Vec<Value>,
    namespace: Option<&str>,
    force: bool,
) -> Result<usize> {
    let mut kinds = Kinds::discover(client).await?;
    let mut params = PatchParams::apply(FIELD_MANAGER);
    params.force = force;
    let mut failed = 0;
    for mut object in objects {
        let shown = describe(&object);
        let (version, kind) = type_of(&object)?;
        if kinds.of(version, kind).is_none() {
            // Perhaps an object before this one defined the kind.
            kinds = Kinds::discover(client).await?;
        }
        let Some(found) = kinds.of(version, kind) else {
            print::error(&format!("{shown}: the API knows no {kind} of {version}"));
            failed += 1;
            continue;
        };
        let api = api(client, found, namespace_of(&object, namespace));
        if found.namespaced && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] =
                json!(namespace.unwrap_or(client.default_namespace()));
        }
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match api.patch(&name, &params, &Patch::Apply(&object)).await {
            Ok(_) => print::line(&format!("{shown} applied"))?,
            Err(error) => {
                print::error(&format!("{shown}: {}", connect::explain(&error)));
                failed += 1;
            }
        }
    }
    Ok(failed)
}

/// Shows objects of one kind.
pub async fn get(args: cli::Get, global: &Global) -> Result<()> {
    let kubeconfig = connect::kubeconfig(global)?;
    let client = connect::client(&kubeconfig, global.context.as_deref()).await?;
    let kinds = Kinds::discover(&client).await?;
    let kind = kinds
        .named(&args.kind)
        .with_context(|| format!("the API knows no {:?}", args.kind))?;
    let namespace = (kind.namespaced && !args.all_namespaces).then(|| {
        args.namespace
            .clone()
            .unwrap_or_else(|| client.default_namespace().to_owned())
    });
    if global.output.is_for_people() {
        return table(&client, kind, &args, namespace.as_deref()).await;
    }
    let api = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind.resource),
        None => Api::<DynamicObject>::all_with(client.clone(), &kind.resource),
    };
    let failed = |error: kube::Error| anyhow::anyhow!(connect::explain(&error));
    let shown = if let Some(name) = &args.name {
        serde_json::to_value(api.get(name).await.map_err(failed)?)?
    } else {
        let mut params = ListParams::default();
        params.label_selector.clone_from(&args.selector);
        let list = api.list(&params).await.map_err(failed)?;
        json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": list.items})
    };
    print::value(&shown, global.output)
}

/// The API prints the rows itself, as it does for kubectl.
async fn table(
    client: &Client,
    kind: &Kind,
    args: &cli::Get,
    namespace: Option<&str>,
) -> Result<()> {
    let resource = &kind.resource;
    let base = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let place = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    let name = args
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!("/{name}"));
    let query = args.selector.as_ref().map_or_else(String::new, |selector| {
        format!(
            "?labelSelector={}",
            selector
                .replace('%', "%25")
                .replace('=', "%3D")
                .replace(',', "%2C")
                .replace(' ', "%20")
        )
    });
    let request = http::Request::get(format!("{base}{place}/{}{name}{query}", resource.plural))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())?;
    let table: Value = client
        .request(request)
        .await
        .map_err(|error| anyhow::anyhow!(connect::explain(&error)))?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let columns = list(&table["columnDefinitions"]);
    let shown: Vec<usize> = (0..columns.len())
        .filter(|i| columns[*i]["priority"].as_i64().unwrap_or(0) == 0)
        .collect();
    let rows = list(&table["rows"]);
    if rows.is_empty() {
        print::note(&namespace.map_or_else(
            || "no objects found".to_owned(),
            |namespace| format!("no objects found in namespace {namespace}"),
        ));
        return Ok(());
    }
    let mut headings: Vec<String> = Vec::new();
    let with_namespace = args.all_namespaces
        && rows
            .iter()
            .any(|row| !row["object"]["metadata"]["namespace"].is_null());
    if with_namespace {
        headings.push("Namespace".to_owned());
    }
    headings.extend(shown.iter().map(|i| plain(&columns[*i]["name"])));
    let cells = rows.iter().map(|row| {
        let mut cells = Vec::new();
        if with_namespace {
            cells.push(plain(&row["object"]["metadata"]["namespace"]));
        }
        cells.extend(shown.iter().map(|i| plain(&row["cells"][*i])));
        cells
    });
    print::table(&headings, cells.collect())
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn api(client: &Client, kind: &Kind, namespace: Option<&str>) -> Api<DynamicObject> {
    match (kind.namespaced, namespace) {
        (true, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &kind.resource),
        (true, None) => Api::default_namespaced_with(client.clone(), &kind.resource),
        (false, _) => Api::all_with(client.clone(), &kind.resource),
    }
}

fn namespace_of<'o>(object: &'o Value, default: Option<&'o str>) -> Option<&'o str> {
    object["metadata"]["namespace"].as_str().or(default)
}

fn type_of(object: &Value) -> Result<(&str, &str)> {
    let (Some(version), Some(kind)) = (object["apiVersion"].as_str(), object["kind"].as_str())
    else {
        bail!("an object has no apiVersion or kind: {}", describe(object));
    };
    Ok((version, kind))
}

fn describe(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("object").to_lowercase();
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or("without a name");
    format!("{kind}/{name}")
}

/// Every object in files, folders (sorted, not deeper) and stdin, lists taken apart.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("failed to read stdin")?;
            parse(&text, Path::new("stdin"), &mut objects)?;
        } else if path.is_dir() {
            let mut files = Vec::new();
            for entry in std::fs::read_dir(path)
                .with_context(|| format!("failed to list {}", path.display()))?
            {
                files.push(entry?.path());
            }
            files.retain(|file| {
                file.extension()
                    .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
            });
            files.sort();
            for file in files {
                read_file(&file, &mut objects)?;
            }
        } else {
            read_file(path, &mut objects)?;
        }
    }
    if objects.is_empty() {
        bail!("no objects in the files given");
    }
    Ok(objects)
}

fn read_file(path: &Path, objects: &mut Vec<Value>) -> Result<()> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    parse(&text, path, objects)
}

fn parse(text: &str, path: &Path, objects: &mut Vec<Value>) -> Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .with_context(|| format!("{} is malformed", path.display()))?;
    for document in documents {
        if document["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"))
            && document["items"].is_array()
        {
            objects.extend(document["items"].as_array().cloned().unwrap_or_default());
        } else if !document.is_null() {
            objects.push(document);
        }
    }
    Ok(())
}
