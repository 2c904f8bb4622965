//! Unknown fields are dropped, and named.

use serde_json::Value;

use crate::types::Node;

/// Drops what the schema does not know; the answer is the dropped paths (`spec.a.b[0].c`), in order.
pub fn prune(node: Node<'_>, object: &mut Value) -> Vec<String> { todo!() }
