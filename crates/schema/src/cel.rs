//! Validation rules in CEL (`x-kubernetes-validations`).

use serde_json::Value;

use crate::{field_error::FieldError, types::Schema};

/// The compiled rules of one schema.
#[derive(Debug)]
pub struct Rules {}

impl Rules {
    /// Compiles every rule below the root of the schema as written (`openAPIV3Schema`).
    pub fn compile(path: &str, written: &Value, schema: &Schema) -> Result<Self, Vec<FieldError>> { todo!() }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool { todo!() }
    /// What the rules say of a new object, and (transition rules) of the change from `old`.
    pub fn check(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> { todo!() }
}
