//! Structural schemas of custom resource definitions.

use serde_json::Value;

use crate::{field_error::FieldError, types::Schema};

/// Compiles `openAPIV3Schema`; `path` is where it stands in the definition. Checks that it is
/// structural. The root always knows `apiVersion`, `kind` and (object) `metadata`.
pub fn compile(path: &str, schema: &Value) -> Result<Schema, Vec<FieldError>> { todo!() }
