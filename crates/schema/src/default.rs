//! Absent fields get their defaults.

use serde_json::Value;

use crate::types::Node;

/// Fills in defaults; `null` where the type is not nullable counts as absent.
pub fn fill(node: Node<'_>, object: &mut Value) { todo!() }
