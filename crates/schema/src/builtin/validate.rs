//! Placeholder.
use serde_json::Value;
use super::Kind;
use crate::field_error::FieldError;
pub(super) fn create(_kind: &Kind, _object: &Value) -> Vec<FieldError> { Vec::new() }
pub(super) fn update(_kind: &Kind, _new: &Value, _old: &Value) -> Vec<FieldError> { Vec::new() }
pub(super) fn name(_kind: &Kind, _name: &str) -> Vec<FieldError> { Vec::new() }
