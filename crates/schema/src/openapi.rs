//! Types as OpenAPI documents: what `kubectl apply`, `kubectl explain` and typed clients ask for.

mod emit;
mod paths;
mod meta;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::types::Schema;
use emit::{Emitter, Flavour};

/// A served group-version-kind, as the documents need it.
#[derive(Clone, Debug)]
pub struct Described<'a> {
    /// API group, empty for the core group.
    pub group: &'a str,
    /// Version of the group.
    pub version: &'a str,
    /// Kind of one object.
    pub kind: &'a str,
    /// Kind of a list.
    pub list_kind: &'a str,
    /// Name in URLs.
    pub plural: &'a str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verbs: &'a [&'a str],
    /// `status` subresource.
    pub status: bool,
    /// `scale` subresource.
    pub scale: bool,
    /// The shape of one object.
    pub schema: &'a Schema,
    /// Built-in kinds have upstream's definition names (`io.k8s.api.apps.v1.Deployment`).
    pub definition: Option<&'a str>,
}

impl Described<'_> {
    /// The name of its definition: upstream's, or the group backwards (`io.example.v1.Thing`).
    fn definition_name(&self) -> String {
        match self.definition {
            Some(name) => name.to_owned(),
            None => self.own_name(self.kind),
        }
    }

    /// The name of the definition of its lists.
    fn list_name(&self) -> String {
        match self.definition.and_then(|name| name.rsplit_once('.')) {
            Some((prefix, _)) => format!("{prefix}.{}", self.list_kind),
            None => self.own_name(self.list_kind),
        }
    }

    fn own_name(&self, kind: &str) -> String {
        let backwards: Vec<&str> = self.group.rsplit('.').collect();
        format!("{}.{}.{kind}", backwards.join("."), self.version)
    }

    fn gvk(&self, kind: &str) -> Value {
        json!({"group": self.group, "version": self.version, "kind": kind})
    }
}

/// The OpenAPI v3 document of one group and version.
pub fn v3(group: &str, version: &str, kinds: &[Described<'_>]) -> Value {
    let ours: Vec<&Described<'_>> = kinds
        .iter()
        .filter(|kind| (kind.group, kind.version) == (group, version))
        .collect();
    let (definitions, paths) = documents(Flavour::V3, &ours);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"BearerToken": bearer_token()},
        },
    })
}

/// One OpenAPI v2 document of everything.
pub fn v2(kinds: &[Described<'_>]) -> Value {
    let (definitions, paths) = documents(Flavour::V2, &kinds.iter().collect::<Vec<_>>());
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": bearer_token()},
        "security": [{"BearerToken": []}],
    })
}

fn bearer_token() -> Value {
    json!({
        "type": "apiKey",
        "name": "authorization",
        "in": "header",
        "description": "Bearer Token authentication",
    })
}

fn documents(
    flavour: Flavour,
    kinds: &[&Described<'_>],
) -> (Map<String, Value>, Map<String, Value>) {
    let mut emitter = Emitter::new(flavour);
    let mut paths = Map::new();
    for kind in kinds {
        let mut body = emitter.root(kind.schema.node());
        if let Some(body) = body.as_object_mut() {
            body.insert(
                "x-kubernetes-group-version-kind".to_owned(),
                json!([kind.gvk(kind.kind)]),
            );
        }
        emitter.definitions.insert(kind.definition_name(), body);
        if kind.verbs.contains(&"list") {
            let list = meta::list(kind, flavour);
            emitter.definitions.insert(kind.list_name(), list);
        }
        paths::add(kind, flavour, &mut paths);
    }
    if !kinds.is_empty() {
        let scale = kinds.iter().any(|kind| kind.scale);
        meta::add(flavour, scale, &mut emitter);
    }
    (emitter.definitions, paths)
}
