//! JSONPath as Kubernetes writes it: `.spec.a[0].b`, `.status.conditions[?(@.type=="Ready")].status`,
//! with or without braces and `$`.

use serde_json::Value;

/// A compiled path.
#[derive(Debug, Clone)]
pub struct JsonPath {}

/// Why a path cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("JSONPath {path:?} is malformed: {why}")]
pub struct Malformed { pub path: String, pub why: String }

impl JsonPath {
    pub fn compile(path: &str) -> Result<Self, Malformed> { todo!() }
    /// Every value that the path leads to.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> { todo!() }
}
