//! What an update of a CertificateSigningRequest may change, by subresource (kubernetes:
//! pkg/registry/certificates/certificates/strategy.go, pkg/apis/certificates/validation).

use crate::auth::fields;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drover_schema::field_error::FieldError;
use jiff::Timestamp;
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Conditions that only `approval` may set.
const VERDICTS: [&str; 2] = ["Approved", "Denied"];
const CONDITIONS: &str = "status.conditions";

/// Undoes what the subresource may not change: nothing may change `spec`, the object itself not
/// `status`, `approval` only the conditions. Fills the times of new conditions.
pub fn prepare(subresource: &str, new: &mut Value, old: &Value, now: Timestamp) {
    let set = |object: &mut Value, key: &str, value: Option<&Value>| {
        if let Some(fields) = object.as_object_mut() {
            match value {
                Some(value) => fields.insert(key.to_owned(), value.clone()),
                None => fields.remove(key),
            };
        }
    };
    set(new, "spec", old.get("spec"));
    match subresource {
        "approval" => {
            fill_times(new, old, now);
            let conditions = new["status"].get("conditions").cloned();
            set(new, "status", old.get("status"));
            if let Some(conditions) = conditions {
                if let Some(status) = fields(new, "status") {
                    status.insert("conditions".to_owned(), conditions);
                }
            } else if let Some(status) = new.get_mut("status") {
                set(status, "conditions", None);
            }
        }
        "status" => {
            keep_verdicts(new, old);
            fill_times(new, old, now);
        }
        _ => set(new, "status", old.get("status")),
    }
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
}

fn of_kind<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    conditions(object)
        .filter(|condition| condition["type"] == kind)
        .collect()
}

/// A verdict that is still there is still the same.
fn keep_verdicts(new: &mut Value, old: &Value) {
    for kind in VERDICTS {
        let before = of_kind(old, kind);
        if before.len() != of_kind(new, kind).len() {
            continue;
        }
        let list = new
            .pointer_mut("/status/conditions")
            .and_then(Value::as_array_mut);
        let after = list
            .into_iter()
            .flatten()
            .filter(|condition| condition["type"] == kind);
        for (after, before) in after.zip(before) {
            *after = before.clone();
        }
    }
}

fn fill_times(new: &mut Value, old: &Value, now: Timestamp) {
    let now = crate::auth::seconds(now);
    let Some(list) = new
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    for condition in list.iter_mut().filter(|condition| condition.is_object()) {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.as_str().into();
        }
        if condition["lastTransitionTime"].is_null() {
            let same = conditions(old).find(|before| {
                before["type"] == condition["type"]
                    && before["status"] == condition["status"]
                    && !before["lastTransitionTime"].is_null()
            });
            condition["lastTransitionTime"] = same.map_or_else(
                || now.as_str().into(),
                |before| before["lastTransitionTime"].clone(),
            );
        }
    }
}

/// What is wrong with an update that [`prepare`] has prepared.
pub fn validate(subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_conditions(new, old, &mut errors);
    for kind in ["Approved", "Denied", "Failed"] {
        let (before, after) = (of_kind(old, kind), of_kind(new, kind));
        let verdict = VERDICTS.contains(&kind) && subresource != "approval";
        let why = if after.len() < before.len() {
            "remove"
        } else if verdict && after.len() > before.len() {
            "add"
        } else if verdict && after != before {
            "modify"
        } else {
            continue;
        };
        let detail = format!("updates may not {why} a condition of type {kind:?}");
        errors.push(FieldError::forbidden(CONDITIONS, detail));
    }
    let (before, after) = (&old["status"]["certificate"], &new["status"]["certificate"]);
    if before != after {
        let path = "status.certificate";
        if subresource != "status" {
            errors.push(FieldError::forbidden(
                path,
                "updates may not set certificate content",
            ));
        } else if before.as_str().is_some_and(|text| !text.is_empty()) {
            let detail = "updates may not modify existing certificate content";
            errors.push(FieldError::forbidden(path, detail));
        }
        if let Err(why) = check_certificate(after) {
            errors.push(FieldError::invalid(path, "<certificate data>", why));
        }
    }
    errors
}

fn validate_conditions(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let both = |object: &Value| {
        VERDICTS
            .iter()
            .all(|kind| !of_kind(object, kind).is_empty())
    };
    if both(new) && !both(old) {
        let last = conditions(new)
            .filter(|c| VERDICTS.iter().any(|kind| c["type"] == *kind))
            .last();
        let kind = last.map_or(Value::Null, |condition| condition["type"].clone());
        let detail = "Approved and Denied conditions are mutually exclusive";
        errors.push(FieldError::invalid(CONDITIONS, kind, detail));
    }
    for (position, condition) in conditions(new).enumerate() {
        let path = |field: &str| format!("{CONDITIONS}[{position}].{field}");
        let kind = condition["type"].as_str().unwrap_or_default();
        if kind.is_empty() {
            errors.push(FieldError::required(path("type"), ""));
        }
        let allowed: &[&str] = match kind {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        match condition["status"].as_str().unwrap_or_default() {
            "" => errors.push(FieldError::required(path("status"), "")),
            status if !allowed.contains(&status) => {
                errors.push(FieldError::not_supported(path("status"), status, allowed));
            }
            _ => {}
        }
        if conditions(new)
            .take(position)
            .any(|earlier| earlier["type"] == condition["type"])
        {
            errors.push(FieldError::duplicate(path("type"), kind));
        }
    }
}

/// Nothing, or certificates as PEM without headers.
fn check_certificate(value: &Value) -> Result<(), String> {
    let text = value.as_str().unwrap_or_default();
    if text.is_empty() {
        return Ok(());
    }
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| format!("illegal base64 data: {error}"))?;
    let blocks = pem::parse_many(bytes).map_err(|error| error.to_string())?;
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    for block in blocks {
        if block.tag() != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.tag()
            ));
        }
        if block.headers().iter().next().is_some() {
            return Err("no PEM block headers are permitted".to_owned());
        }
        X509Certificate::from_der(block.contents()).map_err(|error| error.to_string())?;
    }
    Ok(())
}
