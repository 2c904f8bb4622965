//! One expression over JSON values, as the rules of works and placements have them (sdk-go: pkg/cel).

use std::sync::{Arc, LazyLock};

use kube_cel::cel::objects::Key;
use kube_cel::cel::{Context, ExecutionError, Program, Value as Cel};
use serde_json::Value;

use super::cost::{Bound, estimate};
use super::{compile, convert, eval, library, room};

/// All functions: those of rules, and those that OCM adds.
static FUNCTIONS: LazyLock<Context<'static>> = LazyLock::new(|| {
    let mut context = eval::functions();
    context.add_function(
        "hasConditions",
        |status: Cel| -> Result<Cel, ExecutionError> { Ok(Cel::Bool(has_conditions(&status))) },
    );
    library::add(&mut context);
    context
});

/// Whether a status has any conditions (sdk-go: pkg/cel/library/conditions.go).
fn has_conditions(status: &Cel) -> bool {
    let Cel::Map(status) = status else {
        return false;
    };
    let key = Key::String(Arc::new("conditions".to_owned()));
    matches!(status.map.get(&key), Some(Cel::List(list)) if !list.is_empty())
}

/// Values that expressions name.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    values: Vec<(String, Cel)>,
    bounds: Vec<(String, Bound)>,
}

impl Variables {
    /// Adds a value; it is converted once for all expressions.
    #[must_use]
    pub fn with(mut self, name: &str, value: &Value) -> Self {
        self.bounds.push((name.to_owned(), Bound::of(value)));
        self.values
            .push((name.to_owned(), convert::value(None, value)));
        self
    }
}

/// What an expression gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
    /// A value of another type, by the name of the type.
    Other(&'static str),
}

impl Outcome {
    /// The name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Text(_) => "string",
            Self::Other(name) => name,
        }
    }
}

/// Why an expression gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// It may take more steps than are left.
    #[error("CEL evaluation budget exceeded")]
    Budget,
    /// The values are not what it expects.
    #[error("{0}")]
    Failed(String),
    /// The evaluation itself broke off.
    #[error("internal error evaluating the expression")]
    Internal,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    program: Program,
    depth: usize,
}

impl Expression {
    /// Compiles an expression that may name these variables. The error shows the place.
    pub fn compile(source: &str, variables: &[&str]) -> Result<Self, String> {
        let program = compile::expression(source, variables, None)?;
        let depth = compile::depth(program.expression());
        Ok(Self { program, depth })
    }

    /// Evaluates it, unless it may take more steps than `budget` has; those are taken off.
    pub fn evaluate(&self, variables: &Variables, budget: &mut u64) -> Result<Outcome, EvalError> {
        let cost = estimate(self.program.expression(), &variables.bounds);
        *budget = budget.checked_sub(cost).ok_or(EvalError::Budget)?;
        let run = || {
            let mut context = FUNCTIONS.new_inner_scope();
            for (name, value) in &variables.values {
                context.add_variable_from_value(name.as_str(), value.clone());
            }
            match self.program.execute(&context) {
                Ok(Cel::Bool(truth)) => Ok(Outcome::Bool(truth)),
                Ok(Cel::String(text)) => Ok(Outcome::Text(text.to_string())),
                Ok(other) => Ok(Outcome::Other(eval::type_value(&other))),
                Err(error) => Err(EvalError::Failed(eval::reason(&error))),
            }
        };
        let done = if self.depth > eval::SHALLOW {
            room::with_room(run)
        } else {
            room::here(run)
        };
        done.unwrap_or(Err(EvalError::Internal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const BUDGET: u64 = super::super::COST_BUDGET;

    fn run(source: &str, object: &Value) -> Result<Outcome, String> {
        let expression = Expression::compile(source, &["object"])?;
        let variables = Variables::default().with("object", object);
        let mut budget = BUDGET;
        expression
            .evaluate(&variables, &mut budget)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn expressions_over_an_object() {
        let object = json!({"status": {"replicas": 2, "text": "ab,cd", "conditions": [{"type": "Ready", "status": "True"}]}});
        let check = |source: &str, expected: Result<Outcome, &str>| {
            let found = run(source, &object);
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected), "{source}"),
                Err(part) => assert!(
                    found.as_ref().is_err_and(|it| it.contains(part)),
                    "{source}: {found:?}"
                ),
            }
        };
        for good in [
            "object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
            "hasConditions(object.status)",
            "!hasConditions({}) && !hasConditions('x') && !hasConditions({'conditions': []})",
            "has(object.status) && !has(object.spec)",
            "object.status.text.split(',').size() == 2",
            "object.status.text.matches('^a') && semver('1.2.3').isGreaterThan(semver('1.2.2'))",
            "quantity('1Gi').isGreaterThan(quantity('1Mi')) && ip('10.0.0.1').family() == 4",
            "optional.of(object).hasValue()",
        ] {
            check(good, Ok(Outcome::Bool(true)));
        }
        check(
            "'n: ' + string(object.status.replicas)",
            Ok(Outcome::Text("n: 2".to_owned())),
        );
        check("object.status.replicas", Ok(Outcome::Other("int")));
        check("object.missing", Err("no such key: missing"));
        check("subject.a", Err("undeclared reference to 'subject'"));
        check("object.", Err("Syntax error"));
    }

    #[test]
    fn functions_on_clusters() {
        let cluster = json!({"metadata": {"name": "c", "labels": {"json": "[1, {\"a\": \"b\"}]"}}, "@scores": {"demo": [{"name": "cpu", "value": 81}]}});
        let check =
            |source: &str, expected: Result<bool, &str>| match (run(source, &cluster), expected) {
                (found, Ok(expected)) => assert_eq!(found, Ok(Outcome::Bool(expected)), "{source}"),
                (Err(said), Err(part)) => assert!(said.contains(part), "{source}: {said}"),
                (found, expected) => panic!("{source}: {found:?} instead of {expected:?}"),
            };
        let above = "object.scores('demo').filter(s, s.name == 'cpu').all(s, s.value > 80)";
        check(above, Ok(true));
        check("object.scores('demo').exists(s, s.value > 81)", Ok(false));
        check(
            "object.scores('other').size() == 0",
            Err("failed to get score"),
        );
        check(
            "object.metadata.scores('demo').size() == 0",
            Err("failed to get score"),
        );
        check(
            "object.metadata.labels['json'].parseJSON()[0] == 1",
            Ok(true),
        );
        check(
            "object.metadata.labels['json'].parseJSON()[1].a == 'b'",
            Ok(true),
        );
        check("'{'.parseJSON() == 1", Err("failed to parse json"));
    }

    #[test]
    fn what_may_take_too_long_does_not_run() {
        let items: Vec<Value> = (0..200)
            .map(|i| json!({"type": format!("t{i}"), "list": [1, 2, 3]}))
            .collect();
        let object = json!({"items": items, "text": "x".repeat(1000)});
        let check = |source: &str, runs: bool| {
            let found = run(source, &object);
            assert_eq!(found.is_ok(), runs, "{source}: {found:?}");
        };
        check(
            "object.items.all(a, object.items.exists(b, a.type == b.type))",
            true,
        );
        check(
            "object.items.all(a, object.items.all(b, object.items.all(c, a == b || b == c || true)))",
            false,
        );
        check("object.text + object.text != ''", true);
        let doubled = format!("[object.text]{}.size() == 1", ".map(x, x + x)".repeat(25));
        check(&doubled, false);
        check("lists.range(1000000000).size() > 0", false);
        check(
            "object.text.replace('x', object.text).replace('x', object.text).size() > 0",
            false,
        );
    }
}
