//! Absent fields get their defaults (apiextensions: pkg/apiserver/schema/defaulting).

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::types::{Node, Shape};

/// Fills in defaults, also those of objects that a default created; `null` where the type is not
/// nullable counts as absent.
pub fn fill(node: Node<'_>, object: &mut Value) {
    match (node.shape(), object) {
        (Shape::Struct { fields, .. }, Value::Object(map)) => {
            for (name, field) in fields {
                let field = node.at(field.ty);
                let absent = map.get(&**name).is_none_or(|value| refused(field, value));
                match &field.ty().default {
                    Some(default) if absent => {
                        map.insert(name.to_string(), default.clone());
                    }
                    None if absent => {
                        map.remove(&**name);
                    }
                    _ => (),
                }
                if let Some(value) = map.get_mut(&**name) {
                    fill(field, value);
                }
            }
        }
        (Shape::Map { value, .. }, Value::Object(map)) => {
            let field = node.at(*value);
            map.retain(|_, value| item(field, value));
        }
        (Shape::List { item: ty, .. }, Value::Array(items)) => {
            for value in items {
                item(node.at(*ty), value);
            }
        }
        _ => (),
    }
}

/// Whether a value is a `null` that its type does not allow.
fn refused(node: Node<'_>, value: &Value) -> bool {
    value.is_null() && !node.ty().nullable
}

/// Fills in a value of a map or an item of a list; `false` if it is a `null` that cannot be.
fn item(node: Node<'_>, value: &mut Value) -> bool {
    if refused(node, value) {
        match &node.ty().default {
            Some(default) => *value = default.clone(),
            None => return false,
        }
    }
    fill(node, value);
    true
}
