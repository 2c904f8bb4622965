//! Validation rules in CEL (`x-kubernetes-validations`; apiextensions: pkg/apiserver/schema/cel).
//!
//! Rules are compiled once per version of a definition and run against every write. The walk
//! correlates old and new values as upstream does: fields and map keys by name, items of lists by
//! the keys of the list when it is a map, other items not at all.

mod convert;
mod compile;
mod cost;
mod eval;
mod expression;
mod library;
mod path;
mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use kube_cel::cel::Program;
use serde_json::Value;

use crate::field_error::{FieldError, Kind};
use crate::types::{Node, Schema, Shape, TypeId};
use crate::validate::Correlated;

pub use expression::{EvalError, Expression, Outcome, Variables};
pub use library::SCORES;
pub use path::field_path;

/// Steps that the rules may take for one object, in iterations of their innermost loops
/// (apiserver: pkg/apis/cel RuntimeCELCostBudget).
pub const COST_BUDGET: u64 = 10_000_000;

/// The compiled rules of one schema.
#[derive(Debug)]
pub struct Rules {
    schema: Schema,
    nodes: HashMap<TypeId, Vec<Rule>>,
    /// Types that have rules or have types below them that do.
    above: BTreeSet<TypeId>,
}

#[derive(Debug)]
struct Rule {
    source: String,
    message: Option<String>,
    reason: Option<String>,
    /// Where the error is shown, below the value.
    field_path: Option<String>,
    program: Program,
    message_program: Option<Program>,
    /// Names `oldSelf`: only runs when there is one, or [`Self::optional_old_self`].
    transition: bool,
    optional_old_self: bool,
    /// How deep loops nest.
    loops: u32,
    /// How deep the expressions nest.
    depth: usize,
}

/// Whether errors of the schema keep rules from being checked: what they speak of is not there,
/// or too large to look at.
pub fn blocked_by(errors: &[FieldError]) -> bool {
    errors.iter().any(|error| {
        matches!(
            error.kind,
            Kind::Required | Kind::TypeInvalid | Kind::NotSupported | Kind::TooLong | Kind::TooMany
        )
    })
}

/// The error that stands for the rules that were not checked (see [`blocked_by`]).
pub fn unchecked() -> FieldError {
    FieldError::invalid(
        "<nil>",
        Value::Null,
        "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
    )
}

impl Rules {
    /// Compiles every rule below the root; `path` is where the schema stands in the definition.
    pub fn compile(path: &str, schema: &Schema) -> Result<Self, Vec<FieldError>> {
        let mut compiler = compile::Compiler::default();
        compiler.visit(path, schema.node(), None);
        if compiler.errors.is_empty() {
            let (nodes, above) = (compiler.nodes, compiler.above);
            Ok(Self {
                schema: schema.clone(),
                nodes,
                above,
            })
        } else {
            Err(compiler.errors)
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What the rules say of a new object, and (transition rules) of the change from `old`. What
    /// an update leaves as it was is not held against it.
    pub fn check(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut walk = Walk {
            rules: self,
            budget: Some(COST_BUDGET),
            errors: Vec::new(),
        };
        if !self.is_empty() {
            walk.value(self.schema.node(), new, old, false, "");
        }
        walk.errors
    }
}

struct Walk<'a> {
    rules: &'a Rules,
    /// What is left; `None` once it is used up.
    budget: Option<u64>,
    errors: Vec<FieldError>,
}

impl Walk<'_> {
    /// `unchanged`: the nearest value above that has an old one is equal to it.
    fn value(
        &mut self,
        node: Node<'_>,
        new: &Value,
        old: Option<&Value>,
        unchanged: bool,
        path: &str,
    ) {
        let done = self.budget.is_none() || self.errors.len() >= crate::validate::MAX_ERRORS;
        if done || new.is_null() || !self.rules.above.contains(&node.id()) {
            return;
        }
        let unchanged = old.map_or(unchanged, |old| old == new);
        let old = old.filter(|old| !old.is_null());
        if let Some(rules) = self.rules.nodes.get(&node.id()) {
            self.run(rules, node, new, old, unchanged, path);
        }
        match (node.shape(), new) {
            (shape @ (Shape::Struct { .. } | Shape::Map { .. }), Value::Object(fields)) => {
                let atomic = matches!(
                    shape,
                    Shape::Struct { atomic: true, .. } | Shape::Map { atomic: true, .. }
                );
                let key_in_brackets = matches!(shape, Shape::Map { .. });
                for (key, value) in fields {
                    let Some(field) = node.field(key) else {
                        continue;
                    };
                    let old = old.filter(|_| !atomic).and_then(|old| old.get(key));
                    let at = match (key_in_brackets, path) {
                        (true, path) => format!("{path}[{key}]"),
                        (false, "") => key.clone(),
                        (false, path) => format!("{path}.{key}"),
                    };
                    self.value(field, value, old, unchanged, &at);
                }
            }
            (Shape::List { item, kind }, Value::Array(items)) => {
                let old = Correlated::new(kind, old);
                for (i, value) in items.iter().enumerate() {
                    let old = old.of(value);
                    self.value(
                        node.at(*item),
                        value,
                        old,
                        unchanged,
                        &format!("{path}[{i}]"),
                    );
                }
            }
            _ => (),
        }
    }

    fn run(
        &mut self,
        rules: &[Rule],
        node: Node<'_>,
        new: &Value,
        old: Option<&Value>,
        unchanged: bool,
        path: &str,
    ) {
        let shown = if path.is_empty() { "<nil>" } else { path };
        let mut subject = eval::Subject::new(node, new, old);
        for rule in rules {
            let waits = rule.transition && old.is_none() && !rule.optional_old_self;
            // What an update did not touch is only warned of upstream.
            if waits || (unchanged && !rule.transition) {
                continue;
            }
            self.budget = self
                .budget
                .and_then(|left| left.checked_sub(subject.cost(rule)));
            if self.budget.is_none() {
                self.errors.push(FieldError::invalid(
                    shown,
                    eval::type_name(node),
                    "validation failed due to running out of cost budget, no further validation rules will be run",
                ));
                return;
            }
            self.errors.extend(subject.check(rule, shown));
        }
    }
}
