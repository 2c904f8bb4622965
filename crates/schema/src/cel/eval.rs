//! One value under its rules.

use std::sync::{Arc, LazyLock};

use kube_cel::KubeCelExt as _;
use kube_cel::cel::objects::OptionalValue;
use kube_cel::cel::{Context, ExecutionError, Value as Cel};
use serde_json::Value;

use super::{Rule, convert, room};
use crate::field_error::{FieldError, Kind};
use crate::types::{Node, Shape};

/// A message that an expression makes is at most this long (apiserver: pkg/apis/cel).
const MAX_MESSAGE_BYTES: usize = 5 * 1024;

/// Rules that nest deeper than this are evaluated where there is room.
pub(super) const SHALLOW: usize = 16;

/// All functions of CEL and of Kubernetes; making them is dear.
static FUNCTIONS: LazyLock<Context<'static>> = LazyLock::new(functions);

/// A scope with all functions of CEL and of Kubernetes.
pub(super) fn functions() -> Context<'static> {
    let mut context = Context::default().with_all();
    // `type(x) == int`: types are values, here their names.
    context.add_function("type", |value: Cel| -> Result<Cel, ExecutionError> {
        Ok(Cel::String(Arc::new(type_value(&value).to_owned())))
    });
    for name in TYPES {
        context.add_variable_from_value(name, Cel::String(Arc::new(name.to_owned())));
    }
    context
}

/// The types of CEL that rules can name.
const TYPES: [&str; 9] = [
    "int",
    "uint",
    "double",
    "bool",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
];

pub(super) fn type_value(value: &Cel) -> &'static str {
    match value {
        Cel::Int(_) => "int",
        Cel::UInt(_) => "uint",
        Cel::Float(_) => "double",
        Cel::Bool(_) => "bool",
        Cel::String(_) => "string",
        Cel::Bytes(_) => "bytes",
        Cel::List(_) => "list",
        Cel::Map(_) => "map",
        Cel::Null => "null_type",
        Cel::Duration(_) => "google.protobuf.Duration",
        Cel::Timestamp(_) => "google.protobuf.Timestamp",
        Cel::Function(..) | Cel::Opaque(_) => "dyn",
    }
}

/// A value, converted once for all its rules.
pub(super) struct Subject<'a> {
    node: Node<'a>,
    value: &'a Value,
    new: Cel,
    old: Option<Cel>,
    /// The longest list, map or text in it.
    longest: Option<u64>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(node: Node<'a>, value: &'a Value, old: Option<&Value>) -> Self {
        Self {
            node,
            value,
            new: convert::value(Some(node), value),
            old: old.map(|old| convert::value(Some(node), old)),
            longest: None,
        }
    }

    /// The most iterations that a rule can take.
    pub(super) fn cost(&mut self, rule: &Rule) -> u64 {
        let longest = *self
            .longest
            .get_or_insert_with(|| longest(self.value).max(1));
        longest.saturating_pow(rule.loops)
    }

    /// What a rule says of it.
    pub(super) fn check(&self, rule: &Rule, path: &str) -> Option<FieldError> {
        let checked = if rule.depth > SHALLOW {
            room::with_room(|| self.run(rule, path))
        } else {
            room::here(|| self.run(rule, path))
        };
        checked.unwrap_or_else(|| {
            let shown = rule.message.as_deref().unwrap_or(&rule.source);
            let what = format!("internal error evaluating rule: {shown}");
            Some(FieldError::invalid(path, type_name(self.node), what))
        })
    }

    fn run(&self, rule: &Rule, path: &str) -> Option<FieldError> {
        let mut context = FUNCTIONS.new_inner_scope();
        context.add_variable_from_value("self", self.new.clone());
        let old = match (&self.old, rule.optional_old_self) {
            (Some(old), true) => Some(Cel::Opaque(Arc::new(OptionalValue::of(old.clone())))),
            (None, true) => Some(Cel::Opaque(Arc::new(OptionalValue::none()))),
            (old, false) => old.clone(),
        };
        if let Some(old) = old {
            context.add_variable_from_value("oldSelf", old);
        }
        match rule.program.execute(&context) {
            Ok(Cel::Bool(true)) => None,
            Ok(_) => Some(self.failed(rule, &context, path)),
            Err(error) => Some(FieldError::invalid(
                path,
                type_name(self.node),
                said(&error, rule),
            )),
        }
    }

    fn failed(&self, rule: &Rule, context: &Context<'_>, path: &str) -> FieldError {
        let detail = made(rule, context)
            .or_else(|| rule.message.clone())
            .unwrap_or_else(|| format!("failed rule: {}", rule.source));
        let path = match &rule.field_path {
            Some(below) if path == "<nil>" => below.clone(),
            Some(below) => format!("{path}.{below}"),
            None => path.to_owned(),
        };
        let compound = matches!(type_name(self.node), "object" | "array");
        let value = (!compound).then(|| self.value.clone());
        let (kind, detail) = match rule.reason.as_deref() {
            Some("FieldValueForbidden") => (Kind::Forbidden, detail),
            Some("FieldValueRequired") => (Kind::Required, detail),
            Some("FieldValueDuplicate") => (Kind::Duplicate, String::new()),
            _ => (Kind::Invalid, detail),
        };
        FieldError {
            path,
            kind,
            value,
            detail,
        }
    }
}

/// The message that the rule's expression makes, if it makes a good one.
fn made(rule: &Rule, context: &Context<'_>) -> Option<String> {
    let Ok(Cel::String(text)) = rule.message_program.as_ref()?.execute(context) else {
        return None;
    };
    let text = text.trim();
    let good = !text.is_empty() && text.len() <= MAX_MESSAGE_BYTES && !text.contains('\n');
    good.then(|| text.to_owned())
}

/// An error of the evaluation, in upstream's words where they are known.
fn said(error: &ExecutionError, rule: &Rule) -> String {
    let shown = rule.message.as_deref().unwrap_or(&rule.source);
    match reason(error).as_str() {
        NO_OVERLOAD => format!(
            "'no such overload': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
        ),
        reason => format!("{reason} evaluating rule: {shown}"),
    }
}

const NO_OVERLOAD: &str = "no such overload";

/// An error of the evaluation, in upstream's words where they are known.
pub(super) fn reason(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchOverload
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnsupportedUnaryOperator(..)
        | ExecutionError::ValuesNotComparable(..) => NO_OVERLOAD.to_owned(),
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::IndexOutOfBounds(Cel::Int(index)) => {
            format!("index out of bounds: {index}")
        }
        ExecutionError::FunctionError { message, .. } => message.clone(),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        other => other.to_string(),
    }
}

/// The `type` of a schema, empty when it has none.
pub(super) fn type_name(node: Node<'_>) -> &'static str {
    match node.shape() {
        Shape::Any | Shape::IntOrString => "",
        Shape::Struct { .. } | Shape::Map { .. } => "object",
        Shape::List { .. } => "array",
        Shape::String { .. } => "string",
        Shape::Integer { .. } => "integer",
        Shape::Number => "number",
        Shape::Boolean => "boolean",
    }
}

fn longest(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items
            .iter()
            .map(longest)
            .max()
            .unwrap_or_default()
            .max(items.len() as u64),
        Value::Object(map) => map
            .values()
            .map(longest)
            .max()
            .unwrap_or_default()
            .max(map.len() as u64),
        // Loops over a text split it first; a tenth is upstream's factor, too.
        Value::String(text) => text.len() as u64 / 10,
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}
