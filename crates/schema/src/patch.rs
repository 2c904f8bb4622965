//! JSON patch, merge patch and strategic merge patch.

use serde_json::Value;

use crate::types::Node;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// It does not fit the object (a `test` failed, a path is not there): 422.
    #[error("{0}")]
    DoesNotFit(String),
}

/// RFC 6902; at most 10,000 operations.
pub fn json(object: &Value, patch: &Value) -> Result<Value, PatchError> { todo!() }
/// RFC 7386.
pub fn merge(object: &Value, patch: &Value) -> Result<Value, PatchError> { todo!() }
/// Strategic merge patch, with its directives.
pub fn strategic(node: Node<'_>, object: &Value, patch: &Value) -> Result<Value, PatchError> { todo!() }
