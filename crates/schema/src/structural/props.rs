//! The rules of definitions that go beyond structural schemas (apiextensions:
//! pkg/apis/apiextensions/validation/validation.go).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{entries, flag, list, object, present, text};
use crate::field_error::FieldError;

/// The types of OpenAPI.
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What the surroundings of a schema say.
#[derive(Clone, Copy, Default)]
struct Around<'a> {
    root: bool,
    /// Inside of `metadata`, `kind` or `apiVersion` of a resource.
    inside_meta: bool,
    /// Why there must be no defaults here.
    no_defaults: Option<&'a str>,
}

/// Everything that a definition must not say.
pub(super) fn check(path: &str, schema: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(
        path,
        schema,
        Around {
            root: true,
            ..Around::default()
        },
        &mut errors,
    );
    errors
}

fn visit(path: &str, schema: &Value, around: Around<'_>, errors: &mut Vec<FieldError>) {
    keywords(path, schema, around, errors);
    let inner = Around {
        root: false,
        ..around
    };
    if let Some(additional) = present(schema, "additionalProperties") {
        additional_properties(path, schema, additional, inner, errors);
    }
    let resource = around.root || flag(schema, "x-kubernetes-embedded-resource");
    for (name, property) in entries(schema, "properties") {
        let meta = resource && matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
        let reason = format!("in top-level {name}");
        let inner = Around {
            root: false,
            inside_meta: around.inside_meta || meta,
            no_defaults: if meta && around.root {
                Some(&reason)
            } else {
                around.no_defaults
            },
        };
        visit(
            &format!("{path}.properties[{name}]"),
            property,
            inner,
            errors,
        );
    }
    if let Some(not) = present(schema, "not") {
        visit(&format!("{path}.not"), not, inner, errors);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (i, nested) in list(schema, key).iter().enumerate() {
            visit(&format!("{path}.{key}[{i}]"), nested, inner, errors);
        }
    }
    if let Some(items) = present(schema, "items").filter(|items| items.is_object()) {
        visit(&format!("{path}.items"), items, inner, errors);
    }
    lists_and_maps(path, schema, errors);
    list_map(path, schema, errors);
    list_items(path, schema, errors);
    for (i, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
        rule_text(
            &format!("{path}.x-kubernetes-validations[{i}]"),
            schema,
            rule,
            errors,
        );
    }
}

fn keywords(path: &str, schema: &Value, around: Around<'_>, errors: &mut Vec<FieldError>) {
    let ty = text(schema, "type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.push(FieldError::not_supported(
            format!("{path}.type"),
            ty,
            &TYPES,
        ));
    }
    if let (Some(_), Some(reason)) = (schema.get("default"), around.no_defaults) {
        errors.push(FieldError::forbidden(
            format!("{path}.default"),
            format!("must not be set {reason}"),
        ));
    }
    for key in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        if present(schema, key).is_some() {
            let detail = format!("{key} is not supported");
            errors.push(FieldError::forbidden(format!("{path}.{key}"), detail));
        }
    }
    if ty == "null" {
        errors.push(FieldError::forbidden(
            format!("{path}.type"),
            "type cannot be set to null, use nullable as an alternative",
        ));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        errors.push(FieldError::forbidden(
            format!("{path}.items"),
            "items must be a schema object and not an array",
        ));
    }
    if around.inside_meta && flag(schema, "x-kubernetes-embedded-resource") {
        errors.push(FieldError::forbidden(
            format!("{path}.x-kubernetes-embedded-resource"),
            "must not be used inside of resource meta",
        ));
    }
    if flag(schema, "uniqueItems") {
        errors.push(FieldError::forbidden(
            format!("{path}.uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ));
    }
}

fn additional_properties(
    path: &str,
    schema: &Value,
    additional: &Value,
    around: Around<'_>,
    errors: &mut Vec<FieldError>,
) {
    let at = format!("{path}.additionalProperties");
    let properties = object(schema, "properties").is_some_and(|it| !it.is_empty());
    if properties && additional != &Value::Bool(true) {
        errors.push(FieldError::forbidden(
            &at,
            "additionalProperties and properties are mutual exclusive",
        ));
    }
    if additional.is_object() {
        let reason = "inside additionalProperties applying to object metadata";
        let no_defaults = if around.inside_meta {
            Some(reason)
        } else {
            around.no_defaults
        };
        visit(
            &at,
            additional,
            Around {
                no_defaults,
                ..around
            },
            errors,
        );
    }
}

/// `x-kubernetes-preserve-unknown-fields`, `-map-type` and `-list-type`, each by itself.
fn lists_and_maps(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if schema.get(preserve) == Some(&Value::Bool(false)) {
        let at = format!("{path}.{preserve}");
        errors.push(FieldError::invalid(at, false, "must be true or undefined"));
    }
    let kinds: [(&str, &str, &[&str]); 2] = [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"]),
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"]),
    ];
    for (key, needs, known) in kinds {
        let Some(value) = present(schema, key) else {
            continue;
        };
        let (kind, ty) = (value.as_str().unwrap_or_default(), text(schema, "type"));
        if ty != needs {
            let (at, detail) = (
                format!("{path}.type"),
                format!("must be {needs} if {key} is specified"),
            );
            errors.push(if ty.is_empty() {
                FieldError::required(at, detail)
            } else {
                FieldError::invalid(at, ty, detail)
            });
        } else if kind == "set" {
            set_items(path, schema, errors);
        }
        if !known.contains(&kind) {
            errors.push(FieldError::not_supported(
                format!("{path}.{key}"),
                kind,
                known,
            ));
        }
    }
}

fn set_items(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let Some(items) = present(schema, "items") else {
        return;
    };
    let key = match text(items, "type") {
        "array" if !matches!(text(items, "x-kubernetes-list-type"), "" | "atomic") => {
            "x-kubernetes-list-type"
        }
        "object" if text(items, "x-kubernetes-map-type") != "atomic" => "x-kubernetes-map-type",
        _ => return,
    };
    errors.push(FieldError::invalid(
        format!("{path}.items.{key}"),
        items
            .get("x-kubernetes-list-type")
            .cloned()
            .unwrap_or_default(),
        "must be atomic as item of a list with x-kubernetes-list-type=set",
    ));
}

/// `x-kubernetes-list-map-keys` and what a list of type `map` needs.
fn list_map(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let kind = text(schema, "x-kubernetes-list-type");
    if !keys.is_empty() && kind != "map" {
        let at = format!("{path}.x-kubernetes-list-type");
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(if kind.is_empty() {
            FieldError::required(at, detail)
        } else {
            FieldError::invalid(at, kind, detail)
        });
    }
    if kind != "map" {
        return;
    }
    let at_keys = format!("{path}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(FieldError::required(
            &at_keys,
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    let Some(items) = present(schema, "items") else {
        errors.push(FieldError::required(
            format!("{path}.items"),
            "must have a schema if x-kubernetes-list-type is map",
        ));
        return;
    };
    if text(items, "type") != "object" {
        errors.push(FieldError::invalid(
            format!("{path}.items.type"),
            text(items, "type"),
            "must be object if parent array's x-kubernetes-list-type is map",
        ));
        return;
    }
    let mut seen = BTreeSet::new();
    let all_keys = || Value::Array(keys.to_vec());
    for key in keys.iter().map(|key| key.as_str().unwrap_or_default()) {
        match object(items, "properties").and_then(|properties| properties.get(key)) {
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                errors.push(FieldError::invalid(
                    format!("{path}.items.properties[{key}].type"),
                    text(items, "type"),
                    "must be a scalar type if parent array's x-kubernetes-list-type is map",
                ));
            }
            Some(_) => (),
            None => errors.push(FieldError::invalid(
                &at_keys,
                all_keys(),
                "entries must all be names of item properties",
            )),
        }
        if !seen.insert(key) {
            let detail = "must not contain duplicate entries";
            errors.push(FieldError::invalid(&at_keys, all_keys(), detail));
        }
    }
}

/// Items of sets and maps are never null, and always have their keys.
fn list_items(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "x-kubernetes-list-type");
    let Some(items) = present(schema, "items").filter(|_| matches!(kind, "set" | "map")) else {
        return;
    };
    if flag(items, "nullable") {
        errors.push(FieldError::forbidden(
            format!("{path}.items.nullable"),
            format!("cannot be nullable when x-kubernetes-list-type is {kind}"),
        ));
    }
    if kind != "map" {
        return;
    }
    for key in list(schema, "x-kubernetes-list-map-keys")
        .iter()
        .filter_map(Value::as_str)
    {
        let Some(property) = object(items, "properties").and_then(|it| it.get(key)) else {
            continue;
        };
        let at = format!("{path}.items.properties[{key}]");
        let required = list(items, "required").iter().any(|name| name == key);
        if !required && present(property, "default").is_none() {
            errors.push(FieldError::required(
                format!("{at}.default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ));
        }
        if flag(property, "nullable") {
            errors.push(FieldError::forbidden(
                format!("{at}.nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ));
        }
    }
}

/// Reasons that a rule may give.
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

fn rule_text(path: &str, schema: &Value, rule: &Value, errors: &mut Vec<FieldError>) {
    let (message, expression) = (text(rule, "message"), text(rule, "messageExpression"));
    let written = text(rule, "rule").trim();
    if written.is_empty() {
        errors.push(FieldError::required(
            format!("{path}.rule"),
            "rule is not specified",
        ));
    } else if !message.is_empty() && message.trim().is_empty() {
        let detail = "must be non-empty if specified";
        errors.push(FieldError::invalid(
            format!("{path}.message"),
            message,
            detail,
        ));
    } else if message.trim().contains('\n') {
        let detail = "must not contain line breaks";
        errors.push(FieldError::invalid(
            format!("{path}.message"),
            message,
            detail,
        ));
    } else if written.contains('\n') && message.trim().is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required(format!("{path}.message"), detail));
    }
    if !expression.is_empty() && expression.trim().is_empty() {
        errors.push(FieldError::required(
            format!("{path}.messageExpression"),
            "messageExpression must be non-empty if specified",
        ));
    }
    if let Some(reason) = present(rule, "reason").and_then(Value::as_str)
        && !REASONS.contains(&reason)
    {
        errors.push(FieldError::not_supported(
            format!("{path}.reason"),
            reason,
            &REASONS,
        ));
    }
    let field_path = text(rule, "fieldPath");
    let at = format!("{path}.fieldPath");
    if !field_path.is_empty() && field_path.trim().is_empty() {
        errors.push(FieldError::invalid(
            &at,
            field_path,
            "must be non-empty if specified",
        ));
    }
    if field_path.contains('\n') {
        errors.push(FieldError::invalid(
            &at,
            field_path,
            "must not contain line breaks",
        ));
    }
    if !field_path.is_empty() && crate::cel::field_path(schema, field_path).is_err() {
        errors.push(FieldError::invalid(at, field_path, "must be a valid path"));
    }
}
