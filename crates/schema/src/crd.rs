//! A custom resource definition, checked and compiled (apiextensions:
//! pkg/apis/apiextensions/validation).

mod names;
mod spec;
mod update;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::field_error::FieldError;
use crate::{cel, cel::Rules, table::Column, types::Schema, validate};

pub use names::dns_1035_label;
pub use update::validate_update;

/// A definition that can be served.
#[derive(Debug)]
pub struct CustomKind {
    /// `spec.group`.
    pub group: String,
    /// `spec.names.kind`.
    pub kind: String,
    /// `spec.names.listKind`.
    pub list_kind: String,
    /// `spec.names.plural`.
    pub plural: String,
    /// `spec.names.singular`.
    pub singular: String,
    /// `spec.names.shortNames`.
    pub short_names: Vec<String>,
    /// `spec.names.categories`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// All versions, in the order of the definition; exactly one is the storage version.
    pub versions: Vec<Arc<Version>>,
}

/// One version of it.
#[derive(Debug)]
pub struct Version {
    /// Such as `v1alpha1`.
    pub name: String,
    /// Whether requests may name it.
    pub served: bool,
    /// Whether objects are stored in it.
    pub storage: bool,
    /// Whether requests are answered with a warning.
    pub deprecated: bool,
    /// The text of the warning, where it is not the usual one.
    pub deprecation_warning: Option<String>,
    /// The shape of objects.
    pub schema: Schema,
    /// The CEL rules of the schema.
    pub rules: Rules,
    /// `status` subresource.
    pub status: bool,
    /// `scale` subresource.
    pub scale: Option<Scale>,
    /// `additionalPrinterColumns`.
    pub columns: Vec<Column>,
    /// `selectableFields`, as JSONPath (`.spec.color`).
    pub selectable: Vec<String>,
    /// `preserveUnknownFields` at the root.
    pub preserve_unknown: bool,
}

/// Where the `scale` subresource finds its numbers (dotted JSONPath).
#[derive(Debug, Clone)]
pub struct Scale {
    /// `specReplicasPath`.
    pub spec_replicas: String,
    /// `statusReplicasPath`.
    pub status_replicas: String,
    /// `labelSelectorPath`.
    pub label_selector: Option<String>,
}

impl CustomKind {
    /// Checks and compiles a `CustomResourceDefinition` (after [`fill_defaults`]). A conversion
    /// webhook is accepted but not called: versions differ in nothing but `apiVersion`.
    pub fn compile(definition: &Value) -> Result<Self, Vec<FieldError>> {
        let mut errors = names::check_definition(definition);
        let (versions, wrong) = spec::check(&definition["spec"]);
        errors.extend(wrong);
        if texts(&definition["status"], "storedVersions").is_empty() {
            let detail = "must have at least one stored version";
            errors.push(FieldError::invalid(
                "status.storedVersions",
                Value::Null,
                detail,
            ));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let names = &definition["spec"]["names"];
        Ok(Self {
            group: text(&definition["spec"], "group"),
            kind: text(names, "kind"),
            list_kind: text(names, "listKind"),
            plural: text(names, "plural"),
            singular: text(names, "singular"),
            short_names: texts(names, "shortNames"),
            categories: texts(names, "categories"),
            namespaced: text(&definition["spec"], "scope") == "Namespaced",
            versions,
        })
    }

    /// The version of a name.
    pub fn version(&self, name: &str) -> Option<&Arc<Version>> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The version that objects are stored in.
    pub fn storage(&self) -> Option<&Arc<Version>> {
        self.versions.iter().find(|version| version.storage)
    }
}

impl Version {
    /// Everything that is wrong with an object but its metadata; with `old` (in the same version)
    /// also what is wrong with the change.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let node = self.schema.node();
        let mut errors = match old {
            Some(old) => validate::changed_values(node, new, old),
            None => validate::values(node, new),
        };
        if let Some(scale) = &self.scale {
            errors.extend(scale.validate(new));
        }
        validate::embedded(node, new, &mut errors);
        let mut stale = Vec::new();
        if let Some(old) = old {
            validate::lists(node, old, &mut stale);
        }
        if stale.is_empty() {
            validate::lists(node, new, &mut errors);
        }
        if !self.rules.is_empty() {
            if cel::blocked_by(&errors) {
                errors.push(cel::unchecked());
            } else {
                errors.extend(self.rules.check(new, old));
            }
        }
        errors
    }
}

impl Scale {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let paths = [&self.spec_replicas, &self.status_replicas];
        paths
            .into_iter()
            .filter_map(|path| replicas(object, path))
            .collect()
    }
}

/// What is wrong with a number of replicas (apiextensions: pkg/registry/customresource/validator.go).
fn replicas(object: &Value, path: &str) -> Option<FieldError> {
    let mut value = object;
    for name in path.trim_start_matches('.').split('.') {
        let strange = !value.is_object();
        if strange {
            return Some(accessor(path, value, "map[string]interface{}"));
        }
        value = value.get(name)?;
    }
    match value.as_i64() {
        None => Some(accessor(path, value, "int64")),
        Some(count) if count < 0 => Some(FieldError::invalid(
            path,
            count,
            "should be a non-negative integer",
        )),
        Some(count) if count > i64::from(i32::MAX) => Some(FieldError::invalid(
            path,
            count,
            format!("should be less than or equal to {}", i32::MAX),
        )),
        Some(_) => None,
    }
}

fn accessor(path: &str, value: &Value, wanted: &str) -> FieldError {
    let shown = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .map_or_else(|| number.to_string(), |float| float.to_string()),
        other => other.to_string(),
    };
    let found = match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.as_i64().is_none() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    let detail =
        format!("{path} accessor error: {shown} is of the type {found}, expected {wanted}");
    FieldError::invalid(path, 0, detail)
}

/// Fills in what the API server defaults in a definition: `singular`, `listKind`, `conversion`, and
/// the storage version among `status.storedVersions`.
pub fn fill_defaults(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let absent =
            |value: Option<&Value>| value.and_then(Value::as_str).is_none_or(str::is_empty);
        let kind = names
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if absent(names.get("singular")) && !kind.is_empty() {
            names.insert("singular".to_owned(), kind.to_lowercase().into());
        }
        if absent(names.get("listKind")) && !kind.is_empty() {
            names.insert("listKind".to_owned(), format!("{kind}List").into());
        }
    }
    if spec.get("conversion").is_none_or(Value::is_null) {
        spec.insert("conversion".to_owned(), json!({"strategy": "None"}));
    }
    if let Some(service) = spec
        .get_mut("conversion")
        .and_then(|it| it.pointer_mut("/webhook/clientConfig/service"))
        .and_then(Value::as_object_mut)
    {
        service.entry("port").or_insert_with(|| 443.into());
    }
    let versions = spec.get("versions").and_then(Value::as_array);
    let storage = versions
        .and_then(|versions| versions.iter().find(|version| version["storage"] == true))
        .and_then(|version| version["name"].as_str())
        .map(ToOwned::to_owned);
    let Some(storage) = storage else { return };
    let Some(definition) = definition.as_object_mut() else {
        return;
    };
    let status = definition.entry("status").or_insert_with(|| json!({}));
    let Some(status) = status.as_object_mut() else {
        return;
    };
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if stored.is_null() {
        *stored = json!([]);
    }
    if let Some(stored) = stored.as_array_mut()
        && !stored.iter().any(|version| *version == storage.as_str())
    {
        stored.push(storage.into());
    }
}

/// The text of a field; empty when it is not there.
fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The texts of a list.
fn texts(value: &Value, key: &str) -> Vec<String> {
    let items = value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    items
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect()
}
