//! Defaults must be valid values, and complete ones: nothing of them is pruned.

use serde_json::Value;

use super::{object, present};
use crate::field_error::FieldError;
use crate::types::Node;
use crate::{prune, validate};

/// Everything that is wrong with the defaults below a schema.
pub(super) fn check(path: &str, schema: &Value, node: Node<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(path, schema, node, &mut errors);
    errors
}

/// An error of a default, shown at the default.
fn below(path: &str, mut error: FieldError) -> FieldError {
    error.path = match error.path.as_str() {
        "<nil>" => path.to_owned(),
        inner => format!("{path}.{inner}"),
    };
    error
}

fn visit(path: &str, schema: &Value, node: Node<'_>, errors: &mut Vec<FieldError>) {
    if let Some(default) = &node.ty().default {
        let at = format!("{path}.default");
        let mut pruned = default.clone();
        if !prune::prune(node, &mut pruned).is_empty() {
            errors.push(FieldError::invalid(
                &at,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        errors.extend(
            validate::validate(node, default)
                .into_iter()
                .map(|error| below(&at, error)),
        );
    }
    for (name, property) in object(schema, "properties").into_iter().flatten() {
        if let Some(field) = node.field(name) {
            visit(
                &format!("{path}.properties[{name}]"),
                property,
                field,
                errors,
            );
        }
    }
    if let (Some(items), Some(item)) = (present(schema, "items"), node.item()) {
        visit(&format!("{path}.items"), items, item, errors);
    }
    if let Some(additional) = schema
        .get("additionalProperties")
        .filter(|it| it.is_object())
        && let Some(value) = node.field("")
    {
        let at = format!("{path}.additionalProperties");
        visit(&at, additional, value, errors);
    }
}
