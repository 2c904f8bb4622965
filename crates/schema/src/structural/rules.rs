//! The rules of structural schemas (apiextensions: pkg/apiserver/schema/validation.go).

use serde_json::{Value, json};

use super::{entries, flag, list, object, present, text};
use crate::field_error::FieldError;

/// Where a schema stands: what must be said there differs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that is not structural, in the order of a real API server: sorted by its text.
pub(super) fn check(path: &str, schema: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

fn invariants(schema: &Value, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    if text(schema, "type") == "array" && present(schema, "items").is_none() {
        errors.push(FieldError::required(
            format!("{path}.items"),
            "must be specified",
        ));
    }
    if let Some(items) = present(schema, "items").filter(|items| items.is_object()) {
        invariants(items, Level::Item, &format!("{path}.items"), errors);
    }
    for (name, property) in entries(schema, "properties") {
        invariants(
            property,
            Level::Field,
            &format!("{path}.properties[{name}]"),
            errors,
        );
    }
    if let Some(additional) = present(schema, "additionalProperties") {
        let at = format!("{path}.additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&at, "must not be used at the root"));
        }
        if additional.is_object() {
            invariants(additional, Level::Field, &at, errors);
        }
    }
    extensions(schema, path, errors);
    let first_all_of = list(schema, "allOf").first();
    let skip = Skip {
        any_of: int_or_string(schema),
        first_all_of: first_all_of.is_some_and(int_or_string),
    };
    values(schema, skip, path, errors);
    type_is_known(schema, level, path, errors);
    resource(schema, level, path, errors);
}

fn extensions(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for key in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ] {
        if flag(schema, key) {
            errors.push(FieldError::invalid(
                format!("{path}.{key}"),
                true,
                "must be false if x-kubernetes-int-or-string is true",
            ));
        }
    }
}

fn type_is_known(schema: &Value, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    let ty = text(schema, "type");
    let at = format!("{path}.type");
    if flag(schema, "x-kubernetes-embedded-resource") && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if ty.is_empty() {
            FieldError::required(at, detail)
        } else {
            FieldError::invalid(at, ty, detail)
        });
    } else if ty.is_empty()
        && !flag(schema, "x-kubernetes-int-or-string")
        && !flag(schema, "x-kubernetes-preserve-unknown-fields")
    {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(at, detail));
    } else if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(FieldError::invalid(at, ty, "must be object at the root"));
    }
}

/// What holds for the root and for embedded resources.
fn resource(schema: &Value, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if embedded && present(schema, "additionalProperties").is_some() {
        errors.push(FieldError::forbidden(
            format!("{path}.additionalProperties"),
            "must not be used if x-kubernetes-embedded-resource is set",
        ));
    }
    let properties = object(schema, "properties");
    if embedded
        && !flag(schema, "x-kubernetes-preserve-unknown-fields")
        && properties.is_none_or(serde_json::Map::is_empty)
    {
        errors.push(FieldError::required(
            format!("{path}.properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
    let (Some(properties), true) = (properties, level == Level::Root || embedded) else {
        return;
    };
    for name in ["kind", "apiVersion"] {
        if let Some(property) = properties
            .get(name)
            .filter(|it| text(it, "type") != "string")
        {
            errors.push(FieldError::invalid(
                format!("{path}.properties[{name}].type"),
                text(property, "type"),
                "must be string",
            ));
        }
    }
    let Some(metadata) = properties.get("metadata") else {
        return;
    };
    let at = format!("{path}.properties[metadata]");
    if text(metadata, "type") != "object" {
        let ty = text(metadata, "type");
        errors.push(FieldError::invalid(
            format!("{at}.type"),
            ty,
            "must be object",
        ));
    }
    if level == Level::Root && !says_only_names(metadata) {
        errors.push(FieldError::forbidden(
            at,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        ));
    }
}

fn says_only_names(metadata: &Value) -> bool {
    let known = |key: &str| matches!(key, "type" | "default" | "properties");
    let only_known = metadata.as_object().is_some_and(|keys| {
        keys.iter()
            .all(|(key, value)| known(key) || value.is_null())
    });
    only_known
        && entries(metadata, "properties").all(|(name, _)| name == "name" || name == "generateName")
}

/// Parts of a schema in which `type` is allowed after all.
#[derive(Clone, Copy, Default)]
struct Skip {
    any_of: bool,
    first_all_of: bool,
}

/// `anyOf: [{type: integer}, {type: string}]`, the customary way to say int-or-string.
fn int_or_string(schema: &Value) -> bool {
    schema.get("anyOf") == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

fn values(schema: &Value, skip: Skip, path: &str, errors: &mut Vec<FieldError>) {
    if !skip.any_of {
        for (i, nested) in list(schema, "anyOf").iter().enumerate() {
            nested_values(
                nested,
                Skip::default(),
                &format!("{path}.anyOf[{i}]"),
                errors,
            );
        }
    }
    for (i, nested) in list(schema, "allOf").iter().enumerate() {
        let skip = Skip {
            any_of: skip.first_all_of && i == 0,
            first_all_of: false,
        };
        nested_values(nested, skip, &format!("{path}.allOf[{i}]"), errors);
    }
    for (i, nested) in list(schema, "oneOf").iter().enumerate() {
        nested_values(
            nested,
            Skip::default(),
            &format!("{path}.oneOf[{i}]"),
            errors,
        );
    }
    if let Some(nested) = present(schema, "not") {
        nested_values(nested, Skip::default(), &format!("{path}.not"), errors);
    }
    let pattern = text(schema, "pattern");
    if let Err(why) = super::compile_pattern(pattern) {
        errors.push(FieldError::invalid(
            format!("{path}.pattern"),
            pattern,
            format!("must be a valid regular expression, but isn't: {why}"),
        ));
    }
}

/// Keywords that a schema inside of `allOf` and the like must not have, and what is said then.
const FORBIDDEN: [(&str, &str); 11] = [
    ("type", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    (
        "x-kubernetes-preserve-unknown-fields",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-embedded-resource",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-int-or-string",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-list-map-keys",
        "must be empty to be structural",
    ),
    (
        "x-kubernetes-list-type",
        "must be undefined to be structural",
    ),
    (
        "x-kubernetes-map-type",
        "must be undefined to be structural",
    ),
];

fn nested_values(schema: &Value, skip: Skip, path: &str, errors: &mut Vec<FieldError>) {
    values(schema, skip, path, errors);
    if let Some(items) = present(schema, "items") {
        nested_values(items, Skip::default(), &format!("{path}.items"), errors);
    }
    for (name, property) in entries(schema, "properties") {
        let at = format!("{path}.properties[{name}]");
        nested_values(property, Skip::default(), &at, errors);
        if name == "metadata" {
            errors.push(FieldError::forbidden(
                at,
                "must not be specified in a nested context",
            ));
        }
    }
    if present(schema, "additionalProperties").is_some() {
        errors.push(FieldError::forbidden(
            format!("{path}.additionalProperties"),
            "must be undefined to be structural",
        ));
    }
    for (key, detail) in FORBIDDEN {
        let empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if schema.get(key).is_some_and(|value| !empty(value)) {
            errors.push(FieldError::forbidden(format!("{path}.{key}"), detail));
        }
    }
    if !list(schema, "x-kubernetes-validations").is_empty() {
        errors.push(FieldError::forbidden(
            format!("{path}.x-kubernetes-validations"),
            "must be empty to be structural",
        ));
    }
}
