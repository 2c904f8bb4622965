//! What may not change between two states of a definition.

use serde_json::Value;

use super::text;
use crate::field_error::FieldError;

/// What may not change between two states of a definition (`old` is stored), as causes. What is
/// wrong with `new` by itself is told by [`super::CustomKind::compile`].
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if established(old) {
        immutable(new, old, &["scope"], &mut errors);
        immutable(new, old, &["names", "kind"], &mut errors);
    }
    immutable(new, old, &["group"], &mut errors);
    immutable(new, old, &["names", "plural"], &mut errors);
    stored_versions(new, &mut errors);
    errors
}

fn established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|it| it["type"] == "Established" && it["status"] == "True")
}

fn immutable(new: &Value, old: &Value, path: &[&str], errors: &mut Vec<FieldError>) {
    let value = |definition: &Value| {
        path.iter()
            .fold(definition["spec"].clone(), |value, key| value[*key].clone())
    };
    let (new, old) = (value(new), value(old));
    if new != old {
        let at = format!("spec.{}", path.join("."));
        errors.push(FieldError::invalid(at, new, "field is immutable"));
    }
}

/// Versions in which objects may still be stored must not go away.
fn stored_versions(new: &Value, errors: &mut Vec<FieldError>) {
    let stored = new["status"]["storedVersions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let versions = new["spec"]["versions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let at = "status.storedVersions";
    if stored.is_empty() {
        let detail = "must have at least one stored version";
        errors.push(FieldError::invalid(at, Value::Array(Vec::new()), detail));
        return;
    }
    for version in versions.iter().filter(|version| version["storage"] == true) {
        if !stored.contains(&version["name"]) {
            let detail = format!("must have the storage version {}", text(version, "name"));
            errors.push(FieldError::invalid(
                at,
                Value::Array(stored.to_vec()),
                detail,
            ));
        }
    }
    for (i, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *name) {
            let version = name.as_str().unwrap_or_default();
            errors.push(FieldError::invalid(format!("{at}[{i}]"), name.clone(), format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
            )));
        }
    }
}
