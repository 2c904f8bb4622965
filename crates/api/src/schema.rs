//! From the schemas that the types derive to the structural schemas that the API server takes.
//!
//! Three private keywords carry what a derive cannot say: `x-default` (a default of the CRD, as opposed to Rust's), `x-nullable`, and
//! `x-required` (a member with a default that upstream lists as required).

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value, json};

use crate::object::Shape;

pub(crate) fn label_key_pattern() -> &'static str {
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
}

pub(crate) fn subdomain_label_pattern() -> &'static str {
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
}

pub(crate) fn subdomain_pattern() -> &'static str {
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$"
}

/// A list of conditions with the limits that metav1.Condition declares.
pub(crate) fn conditions_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": { "type": "string", "format": "date-time", "description": "When the status last changed." },
                "message": { "type": "string", "maxLength": 32768, "description": "For people." },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0, "description": "The generation that was judged." },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "For programs.",
                },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds." },
                "type": { "type": "string", "maxLength": 316, "pattern": label_key_pattern(), "description": "What is judged." },
            },
        },
    })
}

/// The same list, merged by type.
pub(crate) fn conditions_map(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = conditions_list(generator);
    schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
    schema
}

/// The same list where it must be present.
pub(crate) fn conditions_map_required(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = conditions_map(generator);
    schema.insert("x-required".to_owned(), json!(true));
    schema
}

/// A metav1.LabelSelector, atomic as upstream declares it.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchExpressions": {
                "type": "array",
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string" },
                        "operator": { "type": "string" },
                        "values": { "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "atomic" },
                    },
                },
            },
            "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } },
        },
    })
}

/// A list of requirements on labels or claims.
pub(crate) fn requirements(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["key", "operator"],
            "properties": {
                "key": { "type": "string", "description": "The name to look for." },
                "operator": { "type": "string", "description": "In, NotIn, Exists or DoesNotExist." },
                "values": {
                    "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "atomic",
                    "description": "For In and NotIn at least one, for the others none.",
                },
            },
        },
    })
}

/// An integer or a string of this pattern, by default `default`.
pub(crate) fn int_or_string(pattern: &str, default: Option<&str>) -> Schema {
    let mut schema = json_schema!({
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "pattern": pattern,
        "x-kubernetes-int-or-string": true,
    });
    if let Some(default) = default {
        schema.insert("x-default".to_owned(), json!(default));
    }
    schema
}

/// The structural schema of a whole object of kind `K`.
pub(crate) fn object_schema<K: Shape>(with_status: bool) -> Value {
    let mut generator = SchemaSettings::openapi3()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut properties = Map::new();
    properties.insert("apiVersion".to_owned(), json!({ "type": "string" }));
    properties.insert("kind".to_owned(), json!({ "type": "string" }));
    properties.insert("metadata".to_owned(), json!({ "type": "object" }));
    if let Some(spec) = K::spec_schema(&mut generator) {
        properties.insert("spec".to_owned(), structural(spec.to_value()));
    }
    if with_status {
        properties.insert(
            "status".to_owned(),
            structural(K::status_schema(&mut generator).to_value()),
        );
    }
    json!({ "type": "object", "description": description(K::DOC), "properties": properties })
}

/// The text of doc attributes printed as `doc = r"…"`, with as many `#` around it as its quotes need, or `doc = "…"`.
fn description(attributes: &[&str]) -> String {
    let lines = attributes.iter().filter_map(|text| {
        let literal = text.strip_prefix("doc")?.trim_start().strip_prefix('=')?;
        let literal = literal.trim().trim_start_matches('r').trim_matches('#');
        literal.strip_prefix('"')?.strip_suffix('"')
    });
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Makes a derived schema structural: one type, no null, the defaults and requirements of the CRD.
fn structural(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else {
        return schema;
    };
    for keyword in ["title", "$schema", "default", "nullable"] {
        schema.remove(keyword);
    }
    unwrap_option(&mut schema);
    collect_enum(&mut schema);
    signed_format(&mut schema);
    for (private, public) in [("x-default", "default"), ("x-nullable", "nullable")] {
        if let Some(value) = schema.remove(private) {
            schema.insert(public.to_owned(), value);
        }
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = schema.remove(keyword) {
            schema.insert(keyword.to_owned(), structural(inner));
        }
    }
    if let Some(Value::Object(properties)) = schema.remove("properties") {
        let structural = properties_of(properties, &mut schema);
        schema.insert("properties".to_owned(), Value::Object(structural));
    }
    Value::Object(schema)
}

fn properties_of(
    properties: Map<String, Value>,
    parent: &mut Map<String, Value>,
) -> Map<String, Value> {
    let mut required: Vec<Value> = parent
        .remove("required")
        .and_then(|value| value.as_array().cloned())
        .unwrap_or_default();
    let mut done = Map::new();
    for (name, property) in properties {
        let mut property = structural(property);
        if property
            .as_object_mut()
            .and_then(|object| object.remove("x-required"))
            .is_some()
        {
            required.push(Value::String(name.clone()));
        }
        done.insert(name, property);
    }
    required.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
    required.dedup();
    if !required.is_empty() {
        parent.insert("required".to_owned(), Value::Array(required));
    }
    done
}

/// `type: [T, null]` and `anyOf: [T, null]` become `T`: absent and null are the same to the API server.
fn unwrap_option(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if schema.contains_key("x-kubernetes-int-or-string") {
        return;
    }
    if let Some(Value::Array(mut branches)) = schema.remove("anyOf") {
        branches.retain(|branch| {
            branch.get("type") != Some(&json!("null")) && branch.get("enum") != Some(&json!([null]))
        });
        for branch in branches {
            let Value::Object(branch) = structural_branch(branch) else {
                continue;
            };
            for (keyword, value) in branch {
                schema.entry(keyword).or_insert(value);
            }
        }
    }
}

/// A branch is merged into its parent, which is made structural afterwards; only nested enums need care first.
fn structural_branch(branch: Value) -> Value {
    let Value::Object(mut branch) = branch else {
        return branch;
    };
    collect_enum(&mut branch);
    Value::Object(branch)
}

/// Kubernetes knows no unsigned formats: the signed one that holds all values, whose bounds are declared beside it.
fn signed_format(schema: &mut Map<String, Value>) {
    let signed = match schema.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16") => "int32",
        Some("uint32" | "uint64" | "uint") => "int64",
        _ => return,
    };
    schema.insert("format".to_owned(), json!(signed));
}

/// `oneOf: [{const: A}, {const: B}]` (variants with docs) becomes `enum: [A, B]`.
fn collect_enum(schema: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = schema.remove("oneOf") else {
        return;
    };
    let mut values = Vec::new();
    for branch in branches {
        match (
            branch.get("const"),
            branch.get("enum").and_then(Value::as_array),
        ) {
            (Some(value), _) => values.push(value.clone()),
            (None, Some(several)) => values.extend(several.iter().cloned()),
            (None, None) => (),
        }
    }
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), Value::Array(values));
}
