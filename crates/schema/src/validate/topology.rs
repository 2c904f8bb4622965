//! What a schema says beyond values: keys of lists are unique (apiextensions:
//! pkg/apiserver/schema/listtype), embedded resources say what they are (…/schema/objectmeta).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{MAX_ERRORS, child};
use crate::field_error::FieldError;
use crate::types::{ListKind, Node, Shape};

/// Embedded resources that do not say what they are.
pub fn embedded(node: Node<'_>, object: &Value, errors: &mut Vec<FieldError>) {
    let inside = |node: Node<'_>, value: &Value, path: &str, errors: &mut Vec<FieldError>| {
        if let (Shape::Struct { embedded: true, .. }, Value::Object(map)) = (node.shape(), value) {
            // The root is a resource, too, but others look after it.
            if !path.is_empty() {
                type_meta(path, map, errors);
                metadata(path, node, map, errors);
            }
        }
    };
    walk(node, object, "", &inside, errors);
}

fn type_meta(path: &str, map: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let missing = ["apiVersion", "kind"]
        .into_iter()
        .filter(|key| !map.contains_key(*key));
    errors.extend(missing.map(|key| FieldError::required(child(path, key), "")));
    for key in ["apiVersion", "kind"] {
        let Some(value) = map.get(key) else { continue };
        let wrong = match value.as_str() {
            None => "must be a string".to_owned(),
            Some("") => "must not be empty".to_owned(),
            Some(text) if key == "apiVersion" && text.matches('/').count() > 1 => {
                format!("unexpected GroupVersion string: {text}")
            }
            Some(text) if key == "kind" => match crate::crd::dns_1035_label(&text.to_lowercase()) {
                Some(why) => format!("may have mixed case, but should otherwise match: {why}"),
                None => continue,
            },
            Some(_) => continue,
        };
        errors.push(FieldError::invalid(child(path, key), value.clone(), wrong));
    }
}

fn metadata(path: &str, node: Node<'_>, map: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let Some((value, node)) = map.get("metadata").zip(node.field("metadata")) else {
        return;
    };
    if let Some(why) = super::misfit(node, "ObjectMeta", value) {
        errors.push(FieldError::invalid(
            child(path, "metadata"),
            value.clone(),
            why,
        ));
    }
}

/// Items of sets and maps that are there twice.
pub fn lists(node: Node<'_>, object: &Value, errors: &mut Vec<FieldError>) {
    let inside = |node: Node<'_>, value: &Value, path: &str, errors: &mut Vec<FieldError>| {
        if let (Shape::List { kind, .. }, Value::Array(items)) = (node.shape(), value) {
            match kind {
                ListKind::Atomic => (),
                ListKind::Set => set(path, items, errors),
                ListKind::Map(keys) => map(path, keys, items, errors),
            }
        }
    };
    walk(node, object, "", &inside, errors);
}

fn set(path: &str, items: &[Value], errors: &mut Vec<FieldError>) {
    for i in second_times(items.iter()) {
        errors.push(FieldError::duplicate(
            format!("{path}[{i}]"),
            items[i].clone(),
        ));
    }
}

fn map(path: &str, keys: &[Box<str>], items: &[Value], errors: &mut Vec<FieldError>) {
    let strange = items
        .iter()
        .position(|item| !item.is_object() && !item.is_null());
    if let Some(i) = strange {
        errors.push(FieldError::invalid(
            format!("{path}[{i}]"),
            items[i].clone(),
            "must be an object for an array of list-type map",
        ));
        return;
    }
    let key_of = |item: &Value| {
        let named = keys
            .iter()
            .filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())));
        Value::Object(named.collect())
    };
    let found: Vec<Value> = items.iter().map(key_of).collect();
    for i in second_times(found.iter()) {
        errors.push(FieldError::duplicate(
            format!("{path}[{i}]"),
            found[i].clone(),
        ));
    }
}

/// The places at which a value stands for the second time.
fn second_times<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut places = Vec::new();
    for (i, value) in values.enumerate() {
        let times = seen
            .entry(super::number::plain(value).to_string())
            .or_default();
        *times += 1;
        if *times == 2 {
            places.push(i);
        }
    }
    places
}

/// Looks at one value of a known type at a path.
type Visitor<'a> = &'a dyn Fn(Node<'_>, &Value, &str, &mut Vec<FieldError>);

/// Visits every value that the schema knows, parents first.
fn walk(
    node: Node<'_>,
    value: &Value,
    path: &str,
    inside: Visitor<'_>,
    errors: &mut Vec<FieldError>,
) {
    if errors.len() >= MAX_ERRORS {
        return;
    }
    inside(node, value, path, errors);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let Some(field) = node
                    .field(key)
                    .filter(|_| value.is_object() || value.is_array())
                else {
                    continue;
                };
                let at = match node.shape() {
                    Shape::Map { .. } => format!("{path}[{key}]"),
                    _ => child(path, key),
                };
                walk(field, value, &at, inside, errors);
            }
        }
        Value::Array(items) => {
            let Some(item) = node.item() else { return };
            for (i, value) in items.iter().enumerate() {
                walk(item, value, &format!("{path}[{i}]"), inside, errors);
            }
        }
        _ => (),
    }
}
