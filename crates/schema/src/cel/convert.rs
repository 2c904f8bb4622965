//! Values of objects as values of CEL.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_cel::cel::Value as Cel;
use kube_cel::cel::objects::{Key, Map};
use serde_json::Value;

use crate::types::{Node, Shape};

/// Names that mean something in CEL itself.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether rules know a field by another name.
fn is_escaped(name: &str) -> bool {
    RESERVED.contains(&name) || name.contains("__") || name.contains(['.', '-', '/'])
}

/// Whether `written` in a rule means the field `name`.
pub(super) fn means(written: &str, name: &str) -> bool {
    written == name || (is_escaped(name) && written == escape(name))
}

/// The name of a field in rules (apiserver: pkg/cel Escape).
fn escape(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let width = if rest.starts_with("__") {
            2
        } else {
            c.len_utf8()
        };
        out.push_str(match &rest[..width] {
            "__" => "__underscores__",
            "." => "__dot__",
            "-" => "__dash__",
            "/" => "__slash__",
            other => other,
        });
        rest = &rest[width..];
    }
    out
}

/// Converts a value of a known type; `None`: nothing is known of it.
pub(super) fn value(node: Option<Node<'_>>, value: &Value) -> Cel {
    let shape = node.map(Node::shape);
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => self::number(shape, number),
        Value::String(text) => self::text(shape, text),
        Value::Array(items) => {
            let item = node.and_then(Node::item);
            Cel::List(Arc::new(
                items.iter().map(|value| self::value(item, value)).collect(),
            ))
        }
        Value::Object(fields) => {
            let escaped = matches!(shape, Some(Shape::Struct { .. }));
            let mut map = HashMap::with_capacity(fields.len());
            for (name, value) in fields {
                let field = node.and_then(|node| node.field(name));
                let converted = self::value(field, value);
                // Rules may name a field as it is, too, where the grammar lets them.
                if escaped && is_escaped(name) {
                    map.insert(Key::String(Arc::new(escape(name))), converted.clone());
                }
                map.insert(Key::String(Arc::new(name.clone())), converted);
            }
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

fn number(shape: Option<&Shape>, number: &serde_json::Number) -> Cel {
    let float = number.as_f64().unwrap_or(f64::NAN);
    match (shape, number.as_i64(), number.as_u64()) {
        (Some(Shape::Number), _, _) => Cel::Float(float),
        (_, Some(int), _) => Cel::Int(int),
        (_, None, Some(uint)) => Cel::UInt(uint),
        // `2.0` is a whole number in JSON; the schema was checked before.
        (Some(Shape::Integer { .. } | Shape::IntOrString), None, None)
            if float.fract() == 0.0 && float.abs() < 9e15 =>
        {
            Cel::Int(float as i64)
        }
        _ => Cel::Float(float),
    }
}

fn text(shape: Option<&Shape>, text: &str) -> Cel {
    let format = match shape {
        Some(Shape::String { format }) => &**format,
        _ => "",
    };
    let converted = match format {
        "date-time" => chrono::DateTime::parse_from_rfc3339(text)
            .ok()
            .map(Cel::Timestamp),
        "date" => chrono::DateTime::parse_from_rfc3339(&format!("{text}T00:00:00Z"))
            .ok()
            .map(Cel::Timestamp),
        "duration" => duration(text).map(Cel::Duration),
        "byte" => STANDARD
            .decode(text)
            .ok()
            .map(|bytes| Cel::Bytes(Arc::new(bytes))),
        _ => None,
    };
    converted.unwrap_or_else(|| Cel::String(Arc::new(text.to_owned())))
}

/// A duration as Go writes it (`-1h30m`, `1.5s`).
fn duration(text: &str) -> Option<chrono::Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(chrono::Duration::zero());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let count: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        nanos += count
            * match &rest[..letters] {
                "h" => 3.6e12,
                "m" => 6e10,
                "s" => 1e9,
                "ms" => 1e6,
                "us" | "µs" | "μs" => 1e3,
                "ns" => 1.0,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    let fits = !text.is_empty() && nanos < 9.2e18;
    fits.then(|| chrono::Duration::nanoseconds(if negative { -nanos } else { nanos } as i64))
}
