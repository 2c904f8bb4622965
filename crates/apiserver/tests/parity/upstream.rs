//! The definitions of Open Cluster Management: they install unchanged, and both servers judge objects alike.

use std::fs;

use anyhow::{Context, Result};
use drover_testkit::program;
use serde_json::{Value, json};

use crate::http::{Case, Script};

/// Installs every definition, waits until it is established, then asks the cases in `objects`.
pub(crate) fn script(objects: &str) -> Result<Script> {
    let mut cases = Vec::new();
    let mut files: Vec<_> = fs::read_dir(program("crds")?)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for file in files {
        let text = fs::read_to_string(&file)?;
        let definition: Value = serde_saphyr::from_str(&text)
            .with_context(|| format!("failed to read {}", file.display()))?;
        let name = definition["metadata"]["name"]
            .as_str()
            .context("a definition has a name")?
            .to_owned();
        cases.push(Case {
            name: format!("install {name}"),
            action: format!("POST {path}?fieldValidation=Strict"),
            body: Some(definition),
            // Conditions come when they come.
            allowed: [(".body.status".to_owned(), "not yet".to_owned())].into(),
            ..Case::default()
        });
        cases.push(Case {
            name: format!("established {name}"),
            action: format!("GET {path}/{name}"),
            until: [
                ("/status/conditions/0/status".to_owned(), json!("True")),
                ("/status/conditions/1/status".to_owned(), json!("True")),
            ]
            .into(),
            ..Case::default()
        });
    }
    let more: Vec<Case> = serde_saphyr::from_str(objects)?;
    cases.extend(more);
    Ok(Script {
        name: "upstream".to_owned(),
        cases,
    })
}
