//! Structural schemas of custom resource definitions: checked with the words of a real API server
//! and compiled into an arena of types.
//!
//! Three passes over the schema as written: the rules of structural schemas (`rules`), the
//! arena and its defaults (`build`), the rules of definitions (`props`).

mod rules;
mod props;
mod build;
mod meta;
mod defaults;
mod pattern;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::field_error::FieldError;
use crate::types::{Schema, Types};

pub use meta::object_meta;
pub use pattern::compile as compile_pattern;

/// Compiles `openAPIV3Schema`; `path` is where it stands in the definition. Checks that it is
/// structural and that its defaults are valid. The root always knows `apiVersion`, `kind` and
/// (object) `metadata`.
pub fn compile(path: &str, schema: &Value) -> Result<Schema, Vec<FieldError>> {
    let mut errors = Vec::new();
    if flag(schema, "nullable") {
        errors.push(FieldError::forbidden(
            format!("{path}.nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let mut compiled = None;
    let broken = rules::check(path, schema);
    if broken.is_empty() {
        let mut types = Types::default();
        let (root, malformed) = build::root(&mut types, path, schema);
        let schema_of_root = Schema::new(Arc::new(types), root);
        if malformed.is_empty() {
            errors.extend(defaults::check(path, schema, schema_of_root.node()));
        }
        errors.extend(malformed);
        compiled = Some(schema_of_root);
    }
    errors.extend(broken);
    errors.extend(props::check(path, schema));
    match compiled {
        Some(compiled) if errors.is_empty() => Ok(compiled),
        _ => Err(errors),
    }
}

/// The text of a keyword; empty when it is not there.
fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a keyword is `true`.
fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of a keyword that is a list.
fn list<'a>(schema: &'a Value, key: &str) -> &'a [Value] {
    schema
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The entries of a keyword that is an object, in order.
fn entries<'a>(schema: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object(schema, key).into_iter().flatten()
}

/// A keyword that is an object.
fn object<'a>(schema: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    schema.get(key).and_then(Value::as_object)
}

/// A keyword that is there and not `null`.
fn present<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get(key).filter(|value| !value.is_null())
}
