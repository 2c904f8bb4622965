//! Sequences of writes that a real API server (1.36.3) answered, answered again here.
//!
//! Each line of a recording is one request against a custom resource with lists and maps of all
//! kinds: the stored object, the request, the answer. `APPLY_RECORDING` names another recording.

use std::collections::BTreeMap;
use std::sync::Arc;

use drover_schema::apply::{self, ApplyError, RESET_ALL_BUT_STATUS, RESET_STATUS, Writer};
use drover_schema::patch;
use drover_schema::types::{
    Field, ListKind, Node, PatchStrategy, Schema, Shape, Type, TypeId, Types,
};
use serde_json::{Map, Value, json};

/// Just enough of a compiler for the schema of the recording.
fn build(types: &mut Types, written: &Value) -> TypeId {
    let flag = |name: &str| written[name] == true;
    let atomic = written["x-kubernetes-map-type"] == "atomic";
    let preserve = flag("x-kubernetes-preserve-unknown-fields");
    let shape = match written["type"].as_str() {
        Some("object") if written["additionalProperties"].is_object() => {
            Shape::Map { value: build(types, &written["additionalProperties"]), atomic }
        }
        Some("object") => {
            let mut fields = BTreeMap::new();
            for (name, property) in written["properties"].as_object().into_iter().flatten() {
                let ty = build(types, property);
                let field = Field { ty, number: None, patch: PatchStrategy::default() };
                fields.insert(name.as_str().into(), field);
            }
            let embedded = flag("x-kubernetes-embedded-resource");
            Shape::Struct { fields, required: vec![], preserve_unknown: preserve, atomic, embedded }
        }
        Some("array") => {
            let keys = written["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            let kind = match written["x-kubernetes-list-type"].as_str() {
                Some("set") => ListKind::Set,
                Some("map") => ListKind::Map(keys.map(|k| k.as_str().unwrap().into()).collect()),
                _ => ListKind::Atomic,
            };
            Shape::List { item: build(types, &written["items"]), kind }
        }
        Some("string") => {
            Shape::String { format: written["format"].as_str().unwrap_or_default().into() }
        }
        Some("integer") => Shape::Integer { format: "".into() },
        Some("number") => Shape::Number,
        Some("boolean") => Shape::Boolean,
        _ if flag("x-kubernetes-int-or-string") => Shape::IntOrString,
        _ => Shape::Any,
    };
    types.push(Type {
        shape,
        nullable: flag("nullable"),
        default: written.get("default").cloned(),
        ..Type::default()
    })
}

/// What decoding does: unknown fields and nulls go, defaults come.
fn tidy(object: &mut Value, node: Node<'_>) {
    tidy_metadata(object);
    fill(node, object);
}

fn tidy_metadata(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in ["labels", "annotations", "ownerReferences", "finalizers"] {
            let empty = |value: &Value| {
                value.is_null()
                    || value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(Map::is_empty)
            };
            if metadata.get(name).is_some_and(empty) {
                metadata.remove(name);
            }
        }
    }
}

fn fill(node: Node<'_>, value: &mut Value) {
    if matches!(node.shape(), Shape::Struct { embedded: true, .. }) {
        tidy_metadata(value);
    }
    match (node.shape(), value) {
        (Shape::Struct { fields, preserve_unknown, .. }, Value::Object(object)) => {
            let root = fields.contains_key("status");
            object.retain(|name, value| match fields.get(name.as_str()) {
                Some(field) => !value.is_null() || node.at(field.ty).ty().nullable,
                None => *preserve_unknown || root,
            });
            for (name, field) in fields {
                let child = node.at(field.ty);
                let absent = match object.get(&**name) {
                    None => true,
                    Some(value) => value.is_null() && !child.ty().nullable,
                };
                if let (true, Some(default)) = (absent, &child.ty().default) {
                    object.insert(name.to_string(), default.clone());
                }
                if let Some(value) = object.get_mut(&**name) {
                    fill(child, value);
                }
            }
        }
        (Shape::Map { value, .. }, Value::Object(object)) => {
            object.values_mut().for_each(|child| fill(node.at(*value), child));
        }
        (Shape::List { item, .. }, Value::Array(items)) => {
            items.iter_mut().for_each(|child| fill(node.at(*item), child));
        }
        _ => {}
    }
}

fn schema() -> Schema {
    let written: Value = serde_json::from_str(include_str!("recorded/schema.json")).unwrap();
    let mut types = Types::default();
    let mut root = json!({"type": "object", "properties": {"extra": {"type": "string"}}});
    for name in ["spec", "status"] {
        root["properties"][name] = written[name].clone();
    }
    let root = build(&mut types, &root);
    Schema::new(Arc::new(types), root)
}

fn set(object: &mut Value, name: &str, value: Option<&Value>) {
    let object = object.as_object_mut().unwrap();
    match value {
        Some(value) => object.insert(name.to_owned(), value.clone()),
        None => object.remove(name),
    };
}

/// What the endpoint restores.
fn restore(object: &mut Value, live: Option<&Value>, subresource: &str) {
    if subresource.is_empty() {
        set(object, "status", live.and_then(|live| live.get("status")));
        return;
    }
    let mut restored = live.unwrap().clone();
    set(&mut restored, "status", object.get("status"));
    set(&mut restored["metadata"], "managedFields", object["metadata"].get("managedFields"));
    *object = restored;
}

/// What the server stamps, and what may be empty or absent.
fn without_stamps(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for name in ["uid", "creationTimestamp", "resourceVersion", "generation", "namespace"] {
            metadata.remove(name);
        }
    }
    tidy_metadata(&mut object);
    object
}

fn replay(record: &Value, node: Node<'_>) -> Result<(), String> {
    let text = |name: &str| record[name].as_str().unwrap_or_default();
    let subresource = text("subresource");
    let result = &record["result"];
    let times = result["metadata"]["managedFields"].as_array().into_iter().flatten();
    let now = times.filter_map(|entry| entry["time"].as_str()).max().unwrap_or("2026-01-01T00:00:00Z");
    let writer = Writer {
        manager: text("manager"),
        api_version: text("api_version"),
        subresource,
        now,
        reset: if subresource.is_empty() { RESET_STATUS } else { RESET_ALL_BUT_STATUS },
    };
    let live = Some(&record["live"]).filter(|live| live.is_object());
    let code = record["code"].as_u64().unwrap();
    let mut object = if record["op"] == "apply" {
        let force = record["force"] == true;
        match apply::apply(node, live, &record["config"], writer, force) {
            Ok(object) => object,
            Err(ApplyError::Conflicts(conflicts)) if code == 409 => {
                let (message, mut causes) = ApplyError::conflict_message(&conflicts);
                let mut expected: Vec<(String, String)> = result["details"]["causes"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|c| (c["message"].as_str().unwrap().into(), c["field"].as_str().unwrap().into()))
                    .collect();
                causes.sort();
                expected.sort();
                if causes != expected || result["message"] != message {
                    return Err(format!("conflict:\n{message}\n{causes:?}\n{result}"));
                }
                return Ok(());
            }
            Err(ApplyError::Untyped(message)) if code == 500 => {
                // The real server looks at fields in any order and stops at the first unknown one.
                let unknown = message.contains("field not declared");
                let expected = result["message"].as_str().unwrap();
                if expected != message && !(unknown && expected.contains("not declared")) {
                    return Err(format!("untyped:\n{message}\n{result}"));
                }
                return Ok(());
            }
            Err(error) if code == 422 || code == 400 => return Ok(drop(error)),
            Err(error) => return Err(format!("{error:?}")),
        }
    } else {
        let request = &record["request"];
        let mut after = if record["merge"] == true {
            patch::merge(live.unwrap(), request).map_err(|error| error.to_string())?
        } else {
            request.clone()
        };
        tidy(&mut after, node);
        apply::track_update(node, live, &mut after, writer);
        after
    };
    if !(200..300).contains(&code) {
        return if code == 409 || code == 500 { Err("no error".into()) } else { Ok(()) };
    }
    tidy(&mut object, node);
    restore(&mut object, live, subresource);
    if let Some(live) = live {
        apply::keep_times(live, &mut object);
    }
    let (expected, found) = (without_stamps(result), without_stamps(&object));
    if expected == found {
        return Ok(());
    }
    Err(differences("", &expected, &found))
}

fn differences(path: &str, expected: &Value, found: &Value) -> String {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let null = Value::Null;
            names
                .into_iter()
                .map(|n| differences(&format!("{path}/{n}"), a.get(n).unwrap_or(&null), b.get(n).unwrap_or(&null)))
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.map(|(i, (a, b))| differences(&format!("{path}/{i}"), a, b)).collect()
        }
        (a, b) if a == b => String::new(),
        (a, b) => format!("{path}\n  expected {a}\n  found    {b}\n"),
    }
}

#[test]
fn every_recorded_answer_is_given_again() {
    let other = std::env::var("APPLY_RECORDING").ok();
    let recording = match other {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => include_str!("recorded/apply.jsonl").to_owned(),
    };
    let schema = schema();
    let mut wrong = 0;
    let mut count = 0;
    for (line, record) in recording.lines().enumerate() {
        let record: Value = serde_json::from_str(record).unwrap();
        count += 1;
        if let Err(why) = replay(&record, schema.node()) {
            wrong += 1;
            if wrong <= 8 {
                println!("line {}: {} {}\n{why}", line + 1, record["op"], record["manager"]);
            }
        }
    }
    assert!(count > 0, "the recording is empty");
    assert_eq!(wrong, 0, "of {count} answers, {wrong} differ");
}
