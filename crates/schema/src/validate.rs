//! Values against their schema, in the words of a real API server (kube-openapi:
//! pkg/validation/validate, apiextensions: pkg/apiserver/validation).

mod number;
mod format;
mod topology;
mod misfit;
mod correlate;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::field_error::{FieldError, Kind};
use crate::types::{Checks, Node, Shape, TypeId};

pub use correlate::Correlated;
pub use misfit::misfit;
pub use topology::{embedded, lists};

/// Errors beyond this number are not collected: nobody reads them, and an object may have a million.
pub const MAX_ERRORS: usize = 1_000;

/// The path of what is wrong with the object as a whole.
const NOWHERE: &str = "<nil>";

/// Everything that is wrong with `object`, in the order and words of a real API server: its schema
/// first ([`values`]), then embedded resources ([`embedded`]), then keys of lists ([`lists`]).
pub fn validate(node: Node<'_>, object: &Value) -> Vec<FieldError> {
    let mut errors = values(node, object);
    embedded(node, object, &mut errors);
    lists(node, object, &mut errors);
    errors
}

/// What the schema itself says of `object`.
pub fn values(node: Node<'_>, object: &Value) -> Vec<FieldError> {
    values_at("", node, object, None)
}

/// The same for an update: what was there before and is as it was is not held against it, however
/// the schema changed since (apiextensions: pkg/apiserver/validation/ratcheting.go).
pub fn changed_values(node: Node<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
    values_at("", node, object, Some(old))
}

fn values_at(path: &str, node: Node<'_>, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut walk = Walk { errors: Vec::new() };
    walk.value(node, value, old, path);
    walk.errors
}

struct Walk {
    errors: Vec<FieldError>,
}

/// A type in the words of OpenAPI.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number::is_integral(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The type that a shape demands, if any.
fn wanted(shape: &Shape) -> Option<&'static str> {
    Some(match shape {
        Shape::Any => return None,
        Shape::Struct { .. } | Shape::Map { .. } => "object",
        Shape::List { .. } => "array",
        Shape::String { .. } => "string",
        Shape::Integer { .. } => "integer",
        Shape::Number => "number",
        Shape::Boolean => "boolean",
        Shape::IntOrString => "integer,string",
    })
}

fn fits(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Struct { .. } | Shape::Map { .. } => value.is_object(),
        Shape::List { .. } => value.is_array(),
        Shape::String { .. } => value.is_string(),
        Shape::Integer { .. } => type_of(value) == "integer",
        Shape::Number => value.is_number(),
        Shape::Boolean => value.is_boolean(),
        Shape::IntOrString => matches!(type_of(value), "integer" | "string"),
    }
}

impl Walk {
    fn push(&mut self, error: FieldError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    fn full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    fn invalid(&mut self, path: &str, value: Value, what: &str) {
        self.push(FieldError::invalid(
            shown(path),
            value,
            format!("{path} in body {what}"),
        ));
    }

    fn nowhere(&mut self, what: String) {
        self.push(FieldError::invalid(NOWHERE, "", what));
    }

    /// The order of checks is upstream's: type, combinations, text, format, number, list, enum,
    /// object.
    fn value(&mut self, node: Node<'_>, value: &Value, old: Option<&Value>, path: &str) {
        if self.full() || old == Some(value) {
            return;
        }
        self.type_fits(node, value, path);
        if let Some(checks) = node.checks() {
            if !value.is_null() {
                self.combinations(node, checks, value, path);
            }
            if let Value::String(text) = value {
                self.text(checks, text, path);
            }
        }
        match (node.shape(), value) {
            (Shape::String { format }, Value::String(text)) if !format::is_valid(format, text) => {
                self.push(FieldError::with_value(
                    Kind::TypeInvalid,
                    shown(path),
                    text.as_str().into(),
                    format!("{path} in body must be of type {format}: {text:?}"),
                ));
            }
            (_, Value::Number(number)) => self.number(node, number, path),
            (_, Value::Array(items)) => self.list(node, items, old, path),
            _ => (),
        }
        if let Some(values) = node
            .checks()
            .and_then(|checks| checks.one_of_values.as_ref())
        {
            self.one_of_values(values, value, path);
        }
        if let Value::Object(map) = value {
            self.object(node, map, old, path);
        }
    }

    fn type_fits(&mut self, node: Node<'_>, value: &Value, path: &str) {
        let untyped = node.checks().is_some_and(|checks| checks.untyped);
        let nullable = value.is_null() && node.ty().nullable;
        let Some(wanted) = wanted(node.shape()) else {
            return;
        };
        if untyped || nullable || fits(node.shape(), value) {
            return;
        }
        // A text with a format is checked by its format, which is named by the machine's types.
        let (wanted, found) = match node.shape() {
            Shape::String { format } if format::is_known(format) => match value {
                Value::Number(number) if number.is_f64() => (&**format, "float64"),
                Value::Number(_) => (&**format, "int64"),
                Value::Bool(_) => (&**format, ""),
                _ => (wanted, type_of(value)),
            },
            _ => (wanted, type_of(value)),
        };
        self.push(FieldError::with_value(
            Kind::TypeInvalid,
            shown(path),
            found.into(),
            format!("{path} in body must be of type {wanted}: {found:?}"),
        ));
    }

    fn combinations(&mut self, node: Node<'_>, checks: &Checks, value: &Value, path: &str) {
        let quoted = format!("{path:?}");
        if !checks.any_of.is_empty() {
            let (passed, best) = attempt(node, &checks.any_of, value, path, 1);
            if passed == 0 {
                self.nowhere(format!(
                    "{quoted} must validate at least one schema (anyOf)"
                ));
                self.extend(best);
            }
        }
        if !checks.one_of.is_empty() {
            let (passed, best) = attempt(node, &checks.one_of, value, path, usize::MAX);
            let what = format!("{quoted} must validate one and only one schema (oneOf).");
            match passed {
                0 => {
                    self.nowhere(format!("{what} Found none valid"));
                    self.extend(best);
                }
                1 => (),
                many => self.nowhere(format!("{what} Found {many} valid alternatives")),
            }
        }
        if !checks.all_of.is_empty() {
            let mut passed = 0;
            for &id in &checks.all_of {
                let errors = values_at(path, node.at(id), value, None);
                passed += usize::from(errors.is_empty());
                self.extend(errors);
            }
            if passed < checks.all_of.len() {
                let none = if passed == 0 { ". None validated" } else { "" };
                self.nowhere(format!(
                    "{quoted} must validate all the schemas (allOf){none}"
                ));
            }
        }
        if let Some(not) = checks.not
            && values_at(path, node.at(not), value, None).is_empty()
        {
            self.nowhere(format!("{quoted} must not validate the schema (not)"));
        }
    }

    fn extend(&mut self, errors: Vec<FieldError>) {
        for error in errors {
            self.push(error);
        }
    }

    /// Only the first thing that is wrong with a text is told.
    fn text(&mut self, checks: &Checks, text: &str, path: &str) {
        let length = text.chars().count() as u64;
        if let Some(max) = checks.max_length.filter(|&max| length > max) {
            self.push(FieldError {
                path: shown(path),
                kind: Kind::TooLong,
                value: None,
                detail: format!("may not be more than {max} bytes"),
            });
        } else if let Some(min) = checks.min_length.filter(|&min| length < min) {
            self.invalid(
                path,
                text.into(),
                &format!("should be at least {min} chars long"),
            );
        } else if let Some(pattern) = checks
            .pattern
            .as_ref()
            .filter(|it| !it.regex.is_match(text))
        {
            self.invalid(
                path,
                text.into(),
                &format!("should match '{}'", pattern.source),
            );
        }
    }

    fn number(&mut self, node: Node<'_>, number: &serde_json::Number, path: &str) {
        let format = match node.shape() {
            Shape::Integer { format } => Some(&**format),
            _ => None,
        };
        if let Some(what) = format.and_then(|format| number::out_of_range(number, format)) {
            self.nowhere(format!("Checked value must be of type {what} in {path}"));
        }
        if let Some(checks) = node.checks() {
            for what in number::wrong(number, checks) {
                self.invalid(path, Value::Number(number.clone()), &what);
            }
        }
    }

    fn list(&mut self, node: Node<'_>, items: &[Value], old: Option<&Value>, path: &str) {
        if let Shape::List { item, kind } = node.shape() {
            let old = Correlated::new(kind, old);
            for (i, value) in items.iter().enumerate() {
                self.value(
                    node.at(*item),
                    value,
                    old.of(value),
                    &format!("{path}[{i}]"),
                );
            }
        }
        let Some(checks) = node.checks() else { return };
        let count = items.len() as u64;
        if let Some(min) = checks.min_items.filter(|&min| count < min) {
            self.invalid(
                path,
                count.into(),
                &format!("should have at least {min} items"),
            );
        }
        if let Some(max) = checks.max_items.filter(|&max| count > max) {
            self.too_many(path, count, max);
        }
    }

    fn too_many(&mut self, path: &str, count: u64, max: u64) {
        let detail = format!("must have at most {max} items");
        self.push(FieldError::with_value(
            Kind::TooMany,
            shown(path),
            count.into(),
            detail,
        ));
    }

    fn one_of_values(&mut self, values: &[Value], value: &Value, path: &str) {
        if values.iter().any(|known| number::same(known, value)) {
            return;
        }
        let texts: Vec<String> = values
            .iter()
            .map(|known| {
                known
                    .as_str()
                    .map_or_else(|| known.to_string(), ToOwned::to_owned)
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.push(FieldError::not_supported(
            shown(path),
            value.clone(),
            &texts,
        ));
    }

    fn object(
        &mut self,
        node: Node<'_>,
        map: &Map<String, Value>,
        old: Option<&Value>,
        path: &str,
    ) {
        if let Some(checks) = node.checks() {
            let count = map.len() as u64;
            if let Some(min) = checks.min_properties.filter(|&min| count < min) {
                self.invalid(
                    path,
                    count.into(),
                    &format!("should have at least {min} properties"),
                );
            }
            if let Some(max) = checks.max_properties.filter(|&max| count > max) {
                self.too_many(path, count, max);
            }
        }
        for (key, value) in map {
            if let Some(field) = node.field(key) {
                let old = old.and_then(|old| old.get(key));
                self.value(field, value, old, &child(path, key));
            }
        }
        // Metadata is decoded and checked for all kinds alike.
        if let Shape::Struct { required, .. } = node.shape() {
            for name in required.iter().filter(|name| !map.contains_key(&***name)) {
                self.push(FieldError::required(child(path, name), ""));
            }
        }
    }
}

/// Tries every alternative, at most until `enough` of them fit: how many do, and what is wrong
/// with the one that fits best.
fn attempt(
    node: Node<'_>,
    alternatives: &[TypeId],
    value: &Value,
    path: &str,
    enough: usize,
) -> (usize, Vec<FieldError>) {
    let mut passed = 0;
    let mut best: Option<Vec<FieldError>> = None;
    for &id in alternatives {
        let errors = values_at(path, node.at(id), value, None);
        if errors.is_empty() {
            passed += 1;
            if passed >= enough {
                break;
            }
        } else if best.as_ref().is_none_or(|best| errors.len() < best.len()) {
            best = Some(errors);
        }
    }
    (passed, best.unwrap_or_default())
}

/// The path of a field of an object.
fn child(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The path as it stands before the colon.
fn shown(path: &str) -> String {
    if path.is_empty() {
        NOWHERE.to_owned()
    } else {
        path.to_owned()
    }
}
