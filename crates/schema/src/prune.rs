//! Unknown fields are dropped, and named (apiextensions: pkg/apiserver/schema/pruning).

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::types::{Node, Shape};

/// Drops what the schema does not know; the answer is the dropped paths (`spec.a.b[0].c`), sorted.
pub fn prune(node: Node<'_>, object: &mut Value) -> Vec<String> {
    let mut pruning = Pruning {
        path: String::new(),
        dropped: Vec::new(),
    };
    pruning.value(Some(node), object);
    pruning.dropped.sort_unstable();
    pruning.dropped
}

struct Pruning {
    path: String,
    dropped: Vec<String>,
}

impl Pruning {
    /// `None`: nothing is known of the value, so objects in it keep no field.
    fn value(&mut self, node: Option<Node<'_>>, value: &mut Value) {
        match value {
            Value::Object(map) => match node.map(Node::shape) {
                Some(Shape::Any) => (),
                Some(Shape::Map { .. } | Shape::Struct { .. }) => self.object(node, map),
                _ => self.object(None, map),
            },
            Value::Array(items) => {
                let item = match node.map(Node::shape) {
                    Some(
                        Shape::Any
                        | Shape::Struct {
                            preserve_unknown: true,
                            ..
                        },
                    ) => return,
                    _ => node.and_then(Node::item),
                };
                for (i, value) in items.iter_mut().enumerate() {
                    self.inside(&format!("[{i}]"), item, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }

    fn object(&mut self, node: Option<Node<'_>>, map: &mut serde_json::Map<String, Value>) {
        let keep = matches!(
            node.map(Node::shape),
            Some(Shape::Struct {
                preserve_unknown: true,
                ..
            })
        );
        map.retain(|key, value| {
            let separator = if self.path.is_empty() { "" } else { "." };
            match node.and_then(|node| node.field(key)) {
                Some(field) => self.inside(&format!("{separator}{key}"), Some(field), value),
                None if keep => (),
                None => {
                    self.dropped.push(format!("{}{separator}{key}", self.path));
                    return false;
                }
            }
            true
        });
    }

    fn inside(&mut self, segment: &str, node: Option<Node<'_>>, value: &mut Value) {
        if !matches!(value, Value::Object(_) | Value::Array(_)) {
            return;
        }
        let length = self.path.len();
        self.path.push_str(segment);
        self.value(node, value);
        self.path.truncate(length);
    }
}
