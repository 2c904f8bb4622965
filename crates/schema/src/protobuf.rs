//! Built-in kinds from the Kubernetes protobuf encoding, and to it.
//!
//! Everything is driven by the table of Go types (see [`crate::builtin`]): field numbers, and what
//! Go's JSON encoder would make of the struct that the bytes fill.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// The four bytes that every encoded object starts with.
pub(crate) const MAGIC: &[u8] = b"k8s\0";

/// Why bytes are no such object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed Kubernetes protobuf: {0}")]
pub struct Malformed(pub String);

/// Decodes an envelope (`k8s\0` …) to the object as JSON, `apiVersion` and `kind` included.
/// Unknown fields are skipped.
pub fn decode(bytes: &[u8]) -> Result<Value, Malformed> {
    decode::envelope(bytes, 0)
}

/// Encodes an object of a built-in kind, a list of them, or `Status`, in an envelope; `None` where
/// the kind is not known here or the object does not fit it.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    encode::envelope(object)
}

/// Encodes one event of a watch: four bytes of length (big endian), then a `WatchEvent`.
/// `None` as in [`encode`].
pub fn encode_watch_event(kind: &str, object: &Value) -> Option<Vec<u8>> {
    encode::watch_event(kind, object)
}
