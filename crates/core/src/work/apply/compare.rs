//! Whether an object already is what a manifest says.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt::Write as _};

/// Members that are not content.
const NOT_CONTENT: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// Members that the API server never fills in: what the manifest does not say must not be there.
fn exact(object: &Value, member: &str) -> bool {
    let group = object
        .get("apiVersion")
        .and_then(Value::as_str)
        .map_or("", |version| {
            version.split_once('/').map_or("", |(group, _)| group)
        });
    match (
        group,
        object
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    ) {
        ("", "ConfigMap" | "Secret") => matches!(member, "data" | "binaryData"),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => member == "rules",
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => member == "subjects",
        _ => false,
    }
}

/// The manifest in the form in which the API server gives it back: the `stringData` of a Secret becomes `data`.
pub(super) fn normal(object: &Value) -> Value {
    let mut object = object.clone();
    if object.get("apiVersion").and_then(Value::as_str) == Some("v1")
        && object.get("kind").and_then(Value::as_str) == Some("Secret")
        && let Value::Object(secret) = &mut object
        && let Some(Value::Object(texts)) = secret.get("stringData").cloned()
        && texts.values().all(Value::is_string)
    {
        secret.remove("stringData");
        let data = secret.entry("data").or_insert(Value::Null);
        if !data.is_object() {
            *data = Value::Object(Map::new());
        }
        if let Value::Object(data) = data {
            data.extend(texts.iter().map(|(key, text)| {
                (
                    key.clone(),
                    Value::String(STANDARD.encode(text.as_str().unwrap_or_default())),
                )
            }));
        }
    }
    object
}

/// Lowercase hex SHA-256 of the content of an object: everything but `apiVersion`, `kind`, `metadata` and `status`.
pub fn content_hash(object: &Value) -> String {
    let content: Map<String, Value> = content(object)
        .map(|(member, value)| (member.clone(), value.clone()))
        .collect();
    hex_digest(sorted(&Value::Object(content)).to_string().as_bytes())
}

/// Lowercase hex SHA-256.
pub fn hex_digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing into a String cannot fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// The value with the members of every object in the order of their names, so that equal values give equal texts.
pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<&String, Value> = members
                .iter()
                .map(|(name, value)| (name, sorted(value)))
                .collect();
            Value::Object(
                members
                    .into_iter()
                    .map(|(name, value)| (name.clone(), value))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        simple => simple.clone(),
    }
}

/// Whether all content that `required` gives is so in `live`. What other field managers own may be there as well.
pub(super) fn content_is_covered(required: &Value, live: &Value) -> bool {
    content(required).all(|(member, value)| covers(value, live.get(member)))
}

fn content(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(member, _)| !NOT_CONTENT.contains(&member.as_str()))
}

/// Whether all content that `required` gives is so in `live`, and where nothing is filled in, nothing else is there.
pub(super) fn content_is_so(required: &Value, live: &Value) -> bool {
    let said = content(required);
    let mut all = said.map(|(member, value)| (value, live.get(member), exact(required, member)));
    let so = all.all(|(value, found, exact)| {
        if exact {
            same(value, found)
        } else {
            covers(value, found)
        }
    });
    // A member that the manifest does not give at all must be empty where nothing is filled in.
    so && live
        .as_object()
        .into_iter()
        .flatten()
        .all(|(member, value)| {
            required.get(member).is_some() || !exact(required, member) || is_zero(value)
        })
}

fn same(required: &Value, live: Option<&Value>) -> bool {
    match live {
        Some(live) => {
            required == live
                || (is_zero(required) && is_zero(live))
                || (required.is_array() && covers(required, Some(live)))
        }
        None => is_zero(required),
    }
}

/// Whether `live` says all that `required` says. Members that only `live` has are taken for filled in; in a list, whose length must be
/// equal, this goes for each item. A zero value equals an absent one, as Go writes them.
pub fn covers(required: &Value, live: Option<&Value>) -> bool {
    match (required, live) {
        (required, None) => is_zero(required),
        (Value::Null, Some(_)) => true,
        (Value::Object(required), Some(Value::Object(live))) => required
            .iter()
            .all(|(member, value)| covers(value, live.get(member))),
        (Value::Array(required), Some(Value::Array(live))) => {
            required.len() == live.len()
                && required
                    .iter()
                    .zip(live)
                    .all(|(required, live)| covers(required, Some(live)))
        }
        (Value::Number(required), Some(Value::Number(live))) => {
            required == live || required.as_f64() == live.as_f64()
        }
        (required, Some(live)) => required == live || (is_zero(required) && is_zero(live)),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_zero),
    }
}
