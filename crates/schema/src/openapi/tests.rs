//! What clients look for in the documents.

use serde_json::{Value, json};

use super::{Described, v2, v3};
use crate::structural;
use crate::types::Schema;

fn schema() -> Schema {
    let written = json!({"type": "object", "description": "A thing.", "properties": {"spec": {
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"type": "string", "maxLength": 5, "nullable": true, "description": "Text."},
            "n": {"type": "number", "minimum": 1, "exclusiveMinimum": true},
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
            "o": {"type": "object", "oneOf": [{"required": ["x"], "properties": {"x": {"minLength": 1}}}]},
        },
    }}});
    structural::compile("s", &written).expect("the schema is structural")
}

fn document(make: &dyn Fn(&[Described<'_>]) -> Value) -> Value {
    let schema = schema();
    make(&[Described {
        group: "s1.example.io",
        version: "v1",
        kind: "Thing",
        list_kind: "ThingList",
        plural: "things",
        namespaced: true,
        verbs: &[
            "get",
            "list",
            "watch",
            "create",
            "update",
            "patch",
            "delete",
            "deletecollection",
        ],
        status: true,
        scale: true,
        schema: &schema,
        definition: None,
    }])
}

/// Every reference in a document leads somewhere.
#[track_caller]
fn closed(document: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.trim_start_matches('#');
                assert!(
                    document.pointer(pointer).is_some_and(Value::is_object),
                    "{reference}"
                );
            }
            map.values().for_each(|value| closed(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| closed(document, value)),
        _ => (),
    }
}

#[test]
fn references_lead_somewhere() {
    let three = document(&|kinds| v3("s1.example.io", "v1", kinds));
    closed(&three, &three);
    let two = document(&|kinds| v2(kinds));
    closed(&two, &two);
}

#[test]
fn the_built_in_kinds_are_described_by_their_names() {
    let schemas: Vec<_> = crate::builtin::kinds()
        .iter()
        .map(|kind| (kind, kind.schema()))
        .collect();
    let kinds: Vec<String> = schemas
        .iter()
        .map(|(kind, _)| format!("{}List", kind.kind))
        .collect();
    let described: Vec<Described<'_>> = schemas
        .iter()
        .zip(&kinds)
        .map(|((kind, schema), list_kind)| Described {
            group: kind.group,
            version: kind.version,
            kind: kind.kind,
            list_kind,
            plural: kind.plural,
            namespaced: kind.namespaced,
            verbs: &["get", "list", "create", "patch"],
            status: kind.status,
            scale: kind.scale,
            schema,
            definition: Some(kind.definition),
        })
        .collect();
    let two = v2(&described);
    closed(&two, &two);
    let map = &two["definitions"]["io.k8s.api.core.v1.ConfigMap"]["properties"];
    assert_eq!(map["data"]["additionalProperties"]["type"], "string");
    let three = v3("", "v1", &described);
    closed(&three, &three);
    assert!(three["paths"]["/api/v1/namespaces/{name}"]["patch"].is_object());
}

#[test]
fn kubectl_finds_out_that_the_server_validates() {
    let document = document(&|kinds| v3("s1.example.io", "v1", kinds));
    let patch =
        &document["paths"]["/apis/s1.example.io/v1/namespaces/{namespace}/things/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "s1.example.io", "version": "v1", "kind": "Thing"})
    );
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert_eq!(patch["operationId"], "patchS1ExampleIoV1NamespacedThing");
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert_eq!(
        names,
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    let types: Vec<&String> = patch["requestBody"]["content"]
        .as_object()
        .into_iter()
        .flat_map(|it| it.keys())
        .collect();
    assert_eq!(
        types,
        [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json"
        ]
    );
    let paths: Vec<&String> = document["paths"]
        .as_object()
        .into_iter()
        .flat_map(|it| it.keys())
        .collect();
    assert_eq!(
        paths,
        [
            "/apis/s1.example.io/v1/namespaces/{namespace}/things",
            "/apis/s1.example.io/v1/namespaces/{namespace}/things/{name}",
            "/apis/s1.example.io/v1/namespaces/{namespace}/things/{name}/scale",
            "/apis/s1.example.io/v1/namespaces/{namespace}/things/{name}/status",
            "/apis/s1.example.io/v1/things",
        ]
    );
}

#[test]
fn schemas_say_what_was_written() {
    let three = document(&|kinds| v3("s1.example.io", "v1", kinds));
    let thing = &three["components"]["schemas"]["io.example.s1.v1.Thing"];
    assert_eq!(
        thing["x-kubernetes-group-version-kind"],
        json!([{"group": "s1.example.io", "version": "v1", "kind": "Thing"}])
    );
    assert_eq!(
        thing["properties"]["spec"],
        json!({
            "type": "object",
            "required": ["a"],
            "properties": {
                "a": {"type": "string", "maxLength": 5, "nullable": true, "description": "Text."},
                "n": {"type": "number", "minimum": 1, "exclusiveMinimum": true},
                "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
                "o": {"type": "object", "oneOf": [{"required": ["x"], "properties": {"x": {"minLength": 1}}}]},
            },
        })
    );
    assert_eq!(
        thing["properties"]["metadata"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    let two = document(&|kinds| v2(kinds));
    let spec = &two["definitions"]["io.example.s1.v1.Thing"]["properties"]["spec"];
    assert_eq!(spec["properties"]["o"], json!({"type": "object"}));
    assert_eq!(spec["properties"]["a"].get("nullable"), None);
}

#[test]
fn documents_of_other_groups_are_empty() {
    let other = document(&|kinds| v3("other", "v1", kinds));
    assert_eq!(other["paths"], json!({}));
}
