//! JSONPath as Kubernetes writes it: `.spec.a[0].b`, `.status.conditions[?(@.type=="Ready")].status`,
//! with or without braces and `$` (client-go: util/jsonpath).

mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// A path leads to at most this many values; what lies beyond is not looked at.
pub const MAX_MATCHES: usize = 10_000;

/// A compiled path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// Why a path cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("JSONPath {path:?} is malformed: {why}")]
pub struct Malformed {
    /// The path as written.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(Box<str>),
    /// `*` and `[*]`.
    All,
    /// `..`: the value itself and everything below it.
    Deep,
    Index(i64),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    /// `[0,2]`, `['a','b']`.
    Union(Vec<Step>),
    Filter(Box<Filter>),
}

/// `[?(left op right)]`; without operator: `left` leads somewhere.
#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    test: Option<(Operator, Operand)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
}

impl JsonPath {
    /// Compiles a path.
    pub fn compile(path: &str) -> Result<Self, Malformed> {
        let malformed = |why| Malformed {
            path: path.to_owned(),
            why,
        };
        Ok(Self {
            steps: parse::steps(path).map_err(malformed)?,
        })
    }

    /// Every value that the path leads to, at most [`MAX_MATCHES`].
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        find(&self.steps, value)
    }
}

fn find<'v>(steps: &[Step], value: &'v Value) -> Vec<&'v Value> {
    let mut found = vec![value];
    for step in steps {
        let mut next = Vec::new();
        for value in found {
            apply(step, value, &mut next);
            if next.len() >= MAX_MATCHES {
                next.truncate(MAX_MATCHES);
                break;
            }
        }
        found = next;
    }
    found
}

fn apply<'v>(step: &Step, value: &'v Value, out: &mut Vec<&'v Value>) {
    match step {
        Step::Field(name) => out.extend(value.get(&**name)),
        Step::All => out.extend(children(value)),
        Step::Deep => deep(value, out),
        Step::Index(index) => out.extend(
            value
                .as_array()
                .and_then(|items| items.get(usize::try_from(place(*index, items.len())).ok()?)),
        ),
        Step::Slice { start, end, step } => slice(value, *start, *end, *step, out),
        Step::Union(steps) => steps.iter().for_each(|step| apply(step, value, out)),
        Step::Filter(filter) => {
            // Kubernetes filters the items of lists; a map is filtered by its values.
            out.extend(children(value).filter(|item| filter.passes(item)));
        }
    }
}

fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let items = value.as_array().into_iter().flatten();
    items.chain(
        value
            .as_object()
            .into_iter()
            .flat_map(serde_json::Map::values),
    )
}

fn deep<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    if out.len() >= MAX_MATCHES {
        return;
    }
    out.push(value);
    children(value).for_each(|child| deep(child, out));
}

/// Counts from the end when negative.
fn place(index: i64, length: usize) -> i64 {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    if index < 0 {
        index.saturating_add(length)
    } else {
        index
    }
}

fn slice<'v>(
    value: &'v Value,
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
    out: &mut Vec<&'v Value>,
) {
    let Some(items) = value.as_array() else {
        return;
    };
    let bound = |at: i64| {
        usize::try_from(place(at, items.len()))
            .unwrap_or(0)
            .min(items.len())
    };
    let (start, end) = (start.map_or(0, bound), end.map_or(items.len(), bound));
    let step = usize::try_from(step).unwrap_or(1).max(1);
    out.extend(
        items
            .get(start..end)
            .unwrap_or_default()
            .iter()
            .step_by(step),
    );
}

impl Filter {
    fn passes(&self, item: &Value) -> bool {
        let left = self.left.values(item);
        let Some((operator, right)) = &self.test else {
            return !left.is_empty();
        };
        let right = right.values(item);
        match (left.first(), right.first()) {
            (Some(left), Some(right)) => operator.holds(left, right),
            // What is not there passes no test, not even `!=`.
            _ => false,
        }
    }
}

impl Operand {
    fn values<'v>(&'v self, item: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Path(steps) => find(steps, item),
            Self::Literal(value) => vec![value],
        }
    }
}

impl Operator {
    fn holds(self, left: &Value, right: &Value) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match (left, right) {
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => a.as_f64().partial_cmp(&b.as_f64()),
            },
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (a, b) if a == b => Some(Equal),
            _ => None,
        };
        match self {
            Self::Equal => order == Some(Equal),
            Self::Unequal => order != Some(Equal),
            Self::Less => order == Some(Less),
            Self::Greater => order == Some(Greater),
            Self::LessOrEqual => matches!(order, Some(Less | Equal)),
            Self::GreaterOrEqual => matches!(order, Some(Greater | Equal)),
        }
    }
}
