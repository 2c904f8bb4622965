//! Values against their schema.

use serde_json::Value;

use crate::{field_error::FieldError, types::Node};

/// Everything that is wrong with `object`, in the order and words of a real API server.
pub fn validate(node: Node<'_>, object: &Value) -> Vec<FieldError> { todo!() }
