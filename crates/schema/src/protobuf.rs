//! Built-in kinds from the Kubernetes protobuf encoding.

use serde_json::Value;

/// Why bytes are no such object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed Kubernetes protobuf: {0}")]
pub struct Malformed(pub String);

/// Decodes an envelope (`k8s\0` …) to the object as JSON, `apiVersion` and `kind` included.
/// Unknown fields are skipped.
pub fn decode(bytes: &[u8]) -> Result<Value, Malformed> { todo!() }

/// Encodes an object of a built-in kind (or `Status`) in an envelope; `None` where the kind is not known here.
pub fn encode(object: &Value) -> Option<Vec<u8>> { todo!() }
