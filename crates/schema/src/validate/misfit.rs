//! Metadata is decoded before anything else looks at it: what does not fit its types is told in
//! the words of that decoder (Go: encoding/json).

use serde_json::Value;

use crate::types::{Node, Shape};

/// The first value that does not fit the types of `node`, which is called `name`
/// (`json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string`).
pub fn misfit(node: Node<'_>, name: &str, value: &Value) -> Option<String> {
    find(node, name, "", value)
}

fn find(node: Node<'_>, name: &str, path: &str, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    if !super::fits(node.shape(), value) {
        let found = match super::type_of(value) {
            "integer" => "number",
            "boolean" => "bool",
            other => other,
        };
        let field = if path.is_empty() {
            String::new()
        } else {
            format!("struct field {name}.{path} of type ")
        };
        let into = if field.is_empty() {
            "value of type "
        } else {
            &field
        };
        return Some(format!(
            "json: cannot unmarshal {found} into Go {into}{}",
            go_type(node)
        ));
    }
    match value {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let field = node.field(key)?;
            let at = match (node.shape(), path) {
                (Shape::Map { .. }, path) => path.to_owned(),
                (_, "") => key.clone(),
                (_, path) => format!("{path}.{key}"),
            };
            find(field, name, &at, value)
        }),
        Value::Array(items) => {
            let item = node.item()?;
            items.iter().find_map(|value| find(item, name, path, value))
        }
        _ => None,
    }
}

fn go_type(node: Node<'_>) -> String {
    let named = node
        .ty()
        .name
        .as_deref()
        .and_then(|name| name.rsplit('.').next());
    match node.shape() {
        Shape::String { .. } => "string".to_owned(),
        Shape::Integer { .. } => "int64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::Map { value, .. } => format!("map[string]{}", go_type(node.at(*value))),
        Shape::List { item, .. } => format!("[]{}", go_type(node.at(*item))),
        _ => format!("v1.{}", named.unwrap_or("ObjectMeta")),
    }
}
