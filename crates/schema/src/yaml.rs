//! YAML request bodies.

use serde_json::Value;

/// Decodes one YAML (or JSON) document; duplicate keys are listed in the second answer.
pub fn decode(bytes: &[u8]) -> Result<(Value, Vec<String>), String> { todo!() }
