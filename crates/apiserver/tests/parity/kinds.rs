//! The life of an object of every built-in kind, made from one manifest each.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Case, Script};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str =
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
const PARTIALS: &str =
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

/// A kind and how to make one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kind {
    /// Path of the collection.
    path: String,
    /// Minimal manifest.
    manifest: Value,
    /// A merge patch that the kind allows.
    #[serde(default)]
    change: Option<Value>,
    /// A merge patch of the status.
    #[serde(default)]
    status: Option<Value>,
    /// Differences with their reasons, for all cases.
    #[serde(default)]
    allowed: std::collections::BTreeMap<String, String>,
}

/// The scripts for all kinds in a file.
pub(crate) fn scripts(text: &str) -> Result<Vec<Script>> {
    let kinds: Vec<Kind> = serde_saphyr::from_str(text).context("kinds")?;
    kinds.iter().map(script).collect()
}

fn script(kind: &Kind) -> Result<Script> {
    let name = kind.manifest["metadata"]["name"]
        .as_str()
        .context("a manifest has a name")?;
    let api_version = &kind.manifest["apiVersion"];
    let object_kind = &kind.manifest["kind"];
    let (list, one) = (kind.path.clone(), format!("{}/{name}", kind.path));
    let case = |name: &str, action: String| Case {
        name: name.to_owned(),
        action,
        allowed: kind.allowed.clone(),
        ..Case::default()
    };
    let patch = |name: &str, query: &str, content: &str, body: Value| Case {
        body: Some(body),
        content: Some(content.to_owned()),
        ..case(name, format!("PATCH {one}{query}"))
    };
    let accept = |mut case: Case, accept: &str| {
        case.accept = Some(accept.to_owned());
        case
    };
    let select = format!("fieldSelector=metadata.name%3D{name}");
    let mut cases = vec![
        Case {
            body: Some(kind.manifest.clone()),
            ..case(
                "dry run",
                format!("POST {list}?dryRun=All&fieldValidation=Strict"),
            )
        },
        Case {
            body: Some(kind.manifest.clone()),
            keep: [("rv".to_owned(), "/metadata/resourceVersion".to_owned())].into(),
            ..case(
                "create",
                format!("POST {list}?fieldManager=maker&fieldValidation=Strict"),
            )
        },
        Case {
            body: Some(kind.manifest.clone()),
            ..case("create again", format!("POST {list}"))
        },
        Case {
            keep: [("object".to_owned(), String::new())].into(),
            ..case("get", format!("GET {one}"))
        },
        Case {
            body: Some(json!("${object}")),
            ..case("replace by the same", format!("PUT {one}"))
        },
        Case {
            ..case("list", format!("GET {list}?{select}"))
        },
        accept(case("table", format!("GET {list}?{select}")), TABLE),
        accept(case("partial", format!("GET {one}")), PARTIAL),
        accept(case("partials", format!("GET {list}?{select}")), PARTIALS),
    ];
    if let Some(change) = &kind.change {
        cases.push(patch(
            "merge",
            "",
            "application/merge-patch+json",
            change.clone(),
        ));
    }
    let label = json!({"metadata": {"labels": {"a": "1"}}});
    cases.push(patch(
        "strategic",
        "?fieldManager=labeller",
        "application/strategic-merge-patch+json",
        label,
    ));
    let annotation = json!([{"op": "add", "path": "/metadata/annotations", "value": {"b": "2"}}]);
    cases.push(patch(
        "json patch",
        "",
        "application/json-patch+json",
        annotation,
    ));
    let applied = json!({"apiVersion": api_version, "kind": object_kind, "metadata": {"name": name, "labels": {"a": "2"}}});
    let apply = "application/apply-patch+yaml";
    cases.push(patch(
        "apply conflict",
        "?fieldManager=applier",
        apply,
        applied.clone(),
    ));
    cases.push(patch(
        "apply with force",
        "?fieldManager=applier&force=true",
        apply,
        applied,
    ));
    cases.push(patch(
        "apply the manifest",
        "?fieldManager=other&force=true",
        apply,
        kind.manifest.clone(),
    ));
    if let Some(status) = &kind.status {
        cases.push(Case {
            body: Some(json!({"status": status})),
            content: Some("application/merge-patch+json".to_owned()),
            ..case("status", format!("PATCH {one}/status"))
        });
        cases.push(case("get status", format!("GET {one}/status")));
        cases.push(accept(
            case("table with status", format!("GET {list}?{select}")),
            TABLE,
        ));
    }
    let mut stale = kind.manifest.clone();
    stale["metadata"]["resourceVersion"] = json!("${rv}");
    cases.push(Case {
        body: Some(stale),
        ..case("replace what has changed", format!("PUT {one}"))
    });
    cases.push(Case {
        body: Some(kind.manifest.clone()),
        ..case("replace whatever is there", format!("PUT {one}"))
    });
    cases.push(case("delete, dry run", format!("DELETE {one}?dryRun=All")));
    cases.push(case("delete", format!("DELETE {one}")));
    cases.push(Case {
        until: [("code".to_owned(), json!(404))].into(),
        ..case("gone", format!("GET {one}"))
    });
    let object_kind = object_kind.as_str().unwrap_or_default();
    Ok(Script {
        name: format!(
            "kinds {}.{object_kind}",
            api_version.as_str().unwrap_or_default()
        ),
        cases,
    })
}
