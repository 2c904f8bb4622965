//! JSON patch, merge patch and strategic merge patch.

mod json;
mod merge;
mod strategic;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::types::Node;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// Too many operations: 413.
    #[error("{0}")]
    TooLarge(String),
    /// It does not fit the object (a `test` failed, a path is not there): 422. A real API server
    /// keeps this text to itself and answers "the server rejected our request due to an error in
    /// our request".
    #[error("{0}")]
    DoesNotFit(String),
    /// It cannot be merged (an item without its merge key, unlike items): 500, as a real API server
    /// has it.
    #[error("{0}")]
    CannotMerge(String),
}

/// RFC 6902; at most 10,000 operations.
pub fn json(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    json::apply(object, patch)
}

/// RFC 7386.
pub fn merge(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    merge::apply(object, patch)
}

/// Strategic merge patch, with its directives.
pub fn strategic(node: Node<'_>, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    strategic::apply(node, object, patch)
}
