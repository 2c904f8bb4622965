//! RFC 7386.

use serde_json::{Map, Value};

use super::PatchError;

/// The object after the patch. A patch that is no object is refused, as no Kubernetes object is
/// anything else.
pub(super) fn apply(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed(
            "error decoding patch: json: cannot unmarshal into a map of fields".to_owned(),
        ));
    };
    let mut fields = object.as_object().cloned().unwrap_or_default();
    merge(&mut fields, patch);
    Ok(Value::Object(fields))
}

fn merge(fields: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match (fields.get_mut(name), value) {
            (_, Value::Null) => {
                fields.remove(name);
            }
            (Some(Value::Object(fields)), Value::Object(patch)) => merge(fields, patch),
            // As upstream has it: a list in the place of an object is taken as it is.
            (Some(Value::Object(_)), value) => {
                fields.insert(name.clone(), value.clone());
            }
            (_, value) => {
                fields.insert(name.clone(), without_nulls(value));
            }
        }
    }
}

/// What a patch sets where nothing was: its nulls delete nothing, so they go. Items of lists are
/// patched like objects of their own, but a list keeps its own nulls.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.clone(), without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}
