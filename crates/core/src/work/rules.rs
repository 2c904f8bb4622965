//! Conditions that the rules of a work compute from its objects (ocm, pkg/work/spoke/conditions).
//!
//! A rule that says nothing of the object's kind gives nothing. A wrong rule gives a condition that says what is wrong: it keeps no
//! other rule and no object back.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use drover_api::{
    conditions::Status,
    names::work as names,
    work::v1::{ConditionRule, ConditionRuleType},
};
use drover_schema::cel::{COST_BUDGET, EvalError, Expression, Outcome, Variables};
use serde_json::Value;

use super::manifest::Gvk;

/// Conditions that are not for rules to say.
const RESERVED: [&str; 5] = [
    names::APPLIED,
    names::DELETING,
    names::REPORTED,
    names::STATUS_FEEDBACK_SYNCED,
    names::HEALTHY,
];
/// The longest type of a condition that the API takes.
const MAX_TYPE: usize = 316;

/// What a rule says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The type of the condition.
    pub type_: String,
    /// Its status.
    pub status: Status,
    /// Its reason.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
}

/// What the rules say of the object, one after the other on one budget of steps.
pub fn judge(rules: &[ConditionRule], gvk: &Gvk, live: &Value) -> Vec<Verdict> {
    if rules.is_empty() {
        return Vec::new();
    }
    let mut judge = Judge {
        object: Variables::default().with("object", live),
        live,
        budget: COST_BUDGET,
    };
    rules
        .iter()
        .filter(|rule| is_type(&rule.condition) && !RESERVED.contains(&rule.condition.as_str()))
        .filter_map(|rule| judge.rule(rule, gvk))
        .collect()
}

/// Whether the API takes this as the type of a condition.
fn is_type(text: &str) -> bool {
    let (prefix, name) = text.rsplit_once('/').unwrap_or(("a", text));
    let ends = |part: &str| {
        let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        alphanumeric(part.chars().next()) && alphanumeric(part.chars().last())
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_prefix =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    text.len() <= MAX_TYPE
        && ends(name)
        && name.chars().all(is_name)
        && prefix.split('.').all(ends)
        && prefix.chars().all(is_prefix)
}

struct Judge<'a> {
    live: &'a Value,
    object: Variables,
    budget: u64,
}

impl Judge<'_> {
    fn rule(&mut self, rule: &ConditionRule, gvk: &Gvk) -> Option<Verdict> {
        match rule.type_ {
            ConditionRuleType::WellKnownConditions => {
                let known = well_known(gvk, &rule.condition)?;
                let expressions = [known.holds.to_owned()];
                let own = [rule.message_expression.as_str(), known.message];
                let message = own
                    .into_iter()
                    .find(|text| !text.is_empty())
                    .unwrap_or_default();
                Some(self.evaluate(&rule.condition, &expressions, message, &rule.message))
            }
            ConditionRuleType::Cel => Some(self.evaluate(
                &rule.condition,
                &rule.cel_expressions,
                &rule.message_expression,
                &rule.message,
            )),
        }
    }

    fn evaluate(
        &mut self,
        type_: &str,
        expressions: &[String],
        message_expression: &str,
        message: &str,
    ) -> Verdict {
        let verdict = |status, reason, message: String| Verdict {
            type_: type_.to_owned(),
            status,
            reason,
            message,
        };
        let holds = match self.all_hold(expressions) {
            Ok(holds) => holds,
            Err(Wrong::Expression(why)) => {
                return verdict(Status::False, names::REASON_RULE_EXPRESSION_ERROR, why);
            }
            Err(Wrong::Internal(why)) => {
                return verdict(Status::Unknown, names::REASON_RULE_INTERNAL_ERROR, why);
            }
        };
        let message = self.message(type_, holds, message_expression, message);
        verdict(holds.into(), names::REASON_RULE_EVALUATED, message)
    }

    fn all_hold(&mut self, expressions: &[String]) -> Result<bool, Wrong> {
        for source in expressions {
            let expression = compiled(source, &["object"]).map_err(Wrong::Expression)?;
            match expression.evaluate(&self.object, &mut self.budget)? {
                Outcome::Bool(true) => (),
                Outcome::Bool(false) => return Ok(false),
                other => {
                    let why = format!("expected bool result, got {}", type_name(&other));
                    return Err(Wrong::Expression(why));
                }
            }
        }
        Ok(true)
    }

    fn message(&mut self, type_: &str, holds: bool, expression: &str, fixed: &str) -> String {
        if !expression.is_empty() {
            match self.made(expression, holds) {
                Ok(text) if !text.is_empty() => return text,
                Ok(_) => (),
                Err(why) => return why,
            }
        }
        match (fixed, holds) {
            ("", true) => format!("Manifest is {type_}"),
            ("", false) => format!("Manifest is not {type_}"),
            (fixed, _) => fixed.to_owned(),
        }
    }

    fn made(&mut self, source: &str, holds: bool) -> Result<String, String> {
        let expression = compiled(source, &["object", "result"])
            // The place is of no use in a message.
            .map_err(|why| why.split("\n | ").next().unwrap_or_default().to_owned())?;
        let variables = Variables::default()
            .with("object", self.live)
            .with("result", &Value::Bool(holds));
        match expression.evaluate(&variables, &mut self.budget) {
            Ok(Outcome::Text(text)) => Ok(text),
            Ok(other) => Err(format!(
                "expected message expression to have a string result, got {}",
                type_name(&other)
            )),
            Err(why) => Err(why.to_string()),
        }
    }
}

/// Why there is no verdict.
enum Wrong {
    /// The user can correct it.
    Expression(String),
    /// The user cannot.
    Internal(String),
}

impl From<EvalError> for Wrong {
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Budget | EvalError::Failed(_) => Self::Expression(error.to_string()),
            EvalError::Internal => Self::Internal(error.to_string()),
        }
    }
}

/// The type as OCM's agent calls it.
fn type_name(outcome: &Outcome) -> &'static str {
    match outcome.type_name() {
        "int" => "int64",
        "uint" => "uint64",
        "double" => "float64",
        other => other,
    }
}

/// A rule that is known without being written.
struct WellKnown {
    holds: &'static str,
    message: &'static str,
}

/// The rule of a kind for a condition (ocm, pkg/work/spoke/conditions/rules).
fn well_known(gvk: &Gvk, condition: &str) -> Option<WellKnown> {
    let kind = (gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str());
    match (kind, condition) {
        (("batch", "v1", "Job"), names::COMPLETE) => Some(WellKnown {
            holds: "hasConditions(object.status) && object.status.conditions.exists(it, it.type in ['Complete', 'Failed'] && it.status == 'True')",
            message: "'Job is ' + (result ? 'finished' : 'not finished')",
        }),
        (("", "v1", "Pod"), names::COMPLETE) => Some(WellKnown {
            holds: "object.status.phase == 'Succeeded' || object.status.phase == 'Failed'",
            message: "'Pod is in phase ' + object.status.phase",
        }),
        _ => None,
    }
}

type Compiled = Result<Arc<Expression>, String>;

/// Expressions that were compiled before: the same few are evaluated again and again.
static COMPILED: LazyLock<Mutex<HashMap<(String, usize), Compiled>>> =
    LazyLock::new(Mutex::default);
/// How many are kept.
const MAX_COMPILED: usize = 512;

fn compiled(source: &str, variables: &[&str]) -> Compiled {
    let key = (source.to_owned(), variables.len());
    // No code panics while it holds the lock, and the map is valid after every statement.
    let known = |key| {
        let compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.get(key).cloned()
    };
    if let Some(known) = known(&key) {
        return known;
    }
    let made = Expression::compile(source, variables).map(Arc::new);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if compiled.len() >= MAX_COMPILED {
        compiled.clear();
    }
    compiled.insert(key, made.clone());
    made
}

#[cfg(test)]
mod tests;
