//! Server-side apply and managed fields.

use serde_json::Value;

use crate::types::Node;

/// Who writes, through what.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Field manager, at most 128 bytes.
    pub manager: &'a str,
    /// `group/version` of the request.
    pub api_version: &'a str,
    /// Empty for the main endpoint, else `status`, `scale`, …
    pub subresource: &'a str,
    /// RFC 3339, seconds.
    pub now: &'a str,
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub manager: String,
    pub api_version: String,
    /// When the other manager's entry was a subresource write.
    pub subresource: String,
    /// Operation of the other manager: `Apply` or `Update`.
    pub operation: String,
    /// As Kubernetes prints it: `.spec.m[name="x"].v`.
    pub field: String,
    pub time: Option<String>,
}

/// Why an apply did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("conflicts")]
    Conflicts(Vec<Conflict>),
    /// 400: `metadata.managedFields` in the configuration, duplicate list keys, values that do not fit the schema.
    #[error("{0}")]
    Malformed(String),
}

impl ApplyError {
    /// The `message` of the 409 Status, and its causes as (message, field).
    pub fn conflict_message(conflicts: &[Conflict]) -> (String, Vec<(String, String)>) { todo!() }
}

/// Applies `config` to `live` (`None`: the object does not exist). The answer is the whole new object
/// with its managed fields. Only fields of `reset` paths (`status`, or everything but it) are not owned.
pub fn apply(
    node: Node<'_>,
    live: Option<&Value>,
    config: &Value,
    writer: Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> { todo!() }

/// After a create, update or other patch: gives what changed between `before` and `after` to the
/// writer, in `after.metadata.managedFields`. A malformed or emptied list starts anew.
pub fn track_update(node: Node<'_>, before: Option<&Value>, after: &mut Value, writer: Writer<'_>) { todo!() }

/// Whether two objects are equal but for managed fields and resource version (a write that changes nothing).
pub fn same_but_bookkeeping(a: &Value, b: &Value) -> bool { todo!() }
