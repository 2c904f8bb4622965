//! Label and field selectors: the grammar and the words of Kubernetes
//! (apimachinery: pkg/labels/selector.go, pkg/fields/selector.go, pkg/apis/meta/v1/helpers.go).

mod parse;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use drover_schema::field_error::FieldError;
use serde_json::{Value, json};

/// Labels as the store keeps them.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// A selector that cannot be understood, in the words of a 400 answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: Box<str>,
    operator: Operator,
    /// Sorted, without duplicates.
    values: Vec<Box<str>>,
}

impl Requirement {
    /// Checks everything about a requirement and tells all that is wrong.
    fn new(
        key: &str,
        operator: Operator,
        mut values: Vec<Box<str>>,
    ) -> Result<Self, SelectorError> {
        let mut errors: Vec<FieldError> = Vec::new();
        errors.extend(check_key("key", key));
        let all = || json!(values);
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.push(FieldError::invalid(
                    "values",
                    all(),
                    "for 'in', 'notin' operators, values set can't be empty",
                ));
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals
                if values.len() != 1 =>
            {
                let detail = "exact-match compatibility requires one single value";
                errors.push(FieldError::invalid("values", all(), detail));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let detail = "values set must be empty for exists and does not exist";
                errors.push(FieldError::invalid("values", all(), detail));
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    let detail = "for 'Gt', 'Lt' operators, exactly one value is required";
                    errors.push(FieldError::invalid("values", all(), detail));
                }
                for (index, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                        let path = format!("values[{index}]");
                        errors.push(FieldError::invalid(path, &**value, detail));
                    }
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(detail) = label_value_problem(value) {
                let path = format!("values[{index}][{key}]");
                errors.push(FieldError::invalid(path, &**value, detail));
            }
        }
        if errors.is_empty() {
            values.sort_unstable();
            values.dedup();
            return Ok(Self {
                key: key.into(),
                operator,
                values,
            });
        }
        Err(aggregate(&errors))
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key).map(|value| &**value);
        let listed = |value: &str| self.values.iter().any(|listed| **listed == *value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self
                .compare(value)
                .is_some_and(|(have, bound)| have > bound),
            Operator::LessThan => self
                .compare(value)
                .is_some_and(|(have, bound)| have < bound),
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            operator,
            values,
        } = self;
        let list = values.join(",");
        match operator {
            Operator::Equals => write!(f, "{key}={list}"),
            Operator::DoubleEquals => write!(f, "{key}=={list}"),
            Operator::NotEquals => write!(f, "{key}!={list}"),
            Operator::In => write!(f, "{key} in ({list})"),
            Operator::NotIn => write!(f, "{key} notin ({list})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{list}"),
            Operator::LessThan => write!(f, "{key}<{list}"),
        }
    }
}

/// A label selector: all of its requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Reads the text of a `labelSelector` parameter.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = parse::requirements(text)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Reads a `metav1.LabelSelector`: `null` selects nothing, `{}` everything.
    pub fn from_json(selector: &Value) -> Result<Self, SelectorError> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().into();
            requirements.push(Requirement::new(key, Operator::Equals, vec![value])?);
        }
        for expression in selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let message = format!("{other:?} is not a valid label selector operator");
                    return Err(SelectorError(message));
                }
            };
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(Box::from).collect();
            let key = expression["key"].as_str().unwrap_or_default();
            requirements.push(Requirement::new(key, operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(labels))
    }

    /// Whether it selects every object.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The one value that it demands of a label.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let exact = [Operator::Equals, Operator::DoubleEquals, Operator::In];
        let found = self
            .requirements
            .iter()
            .find(|requirement| &*requirement.key == key)?;
        match found.values.as_slice() {
            [value] if exact.contains(&found.operator) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: Box<str>,
    value: Box<str>,
    negated: bool,
}

/// A field selector: all of its terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

impl FieldSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads the text of a `fieldSelector` parameter. Which fields there are, [`Self::expect`] asks.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = parse::terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let (field, negated, value) = parse::term(part).ok_or_else(|| {
                SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                ))
            })?;
            let value = parse::unescape(value)?;
            if !(field.is_empty() && value.is_empty()) {
                terms.push(Term {
                    field: field.into(),
                    value: value.into(),
                    negated,
                });
            }
        }
        Ok(Self { terms })
    }

    /// Refuses fields that a resource cannot be selected by.
    pub fn expect(
        &self,
        supported: impl Fn(&str) -> bool,
        words: UnknownField,
    ) -> Result<(), SelectorError> {
        let Some(Term { field, .. }) = self.terms.iter().find(|term| !supported(&term.field))
        else {
            return Ok(());
        };
        Err(SelectorError(match words {
            UnknownField::Plain => format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \
                 \"metadata.namespace\""
            ),
            UnknownField::Own => format!("field label not supported: {field}"),
        }))
    }

    /// Whether an object is selected; `value` knows its fields. An absent field is empty.
    pub fn matches<'a>(&self, value: impl Fn(&str) -> Option<Cow<'a, str>>) -> bool {
        self.terms.iter().all(|term| {
            let have = value(&term.field).unwrap_or_default();
            (*have == *term.value) != term.negated
        })
    }

    /// Whether it selects every object.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The fields that it asks for.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|term| &*term.field)
    }

    /// The one value that it demands of a field.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| &*term.field == field && !term.negated)
            .map(|term| &*term.value)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (
            index,
            Term {
                field,
                value,
                negated,
            },
        ) in self.terms.iter().enumerate()
        {
            let comma = if index == 0 { "" } else { "," };
            let operator = if *negated { "!=" } else { "=" };
            write!(f, "{comma}{field}{operator}{}", parse::escape(value))?;
        }
        Ok(())
    }
}

/// How a resource speaks of a field that it cannot be selected by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownField {
    /// Built-in resources that know only name and namespace.
    Plain,
    /// Custom resources, and built-in ones with more fields (pods, events, secrets, …).
    Own,
}

/// One error as it is, several in brackets, the same words once.
fn aggregate(errors: &[FieldError]) -> SelectorError {
    let mut texts: Vec<String> = Vec::new();
    for text in errors.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    SelectorError(if texts.len() == 1 {
        texts.concat()
    } else {
        format!("[{}]", texts.join(", "))
    })
}

fn check_key(path: &str, key: &str) -> Option<FieldError> {
    let problems = label_key_problems(key);
    (!problems.is_empty()).then(|| FieldError::invalid(path, key, problems.join("; ")))
}

const NAME_FORMAT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must \
    start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', \
    regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// What is wrong with the name of a label (apimachinery: pkg/api/validate/content/kube.go).
pub fn label_key_problems(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                let of_prefix = subdomain_problems(prefix);
                problems.extend(
                    of_prefix
                        .into_iter()
                        .map(|text| format!("prefix part {text}")),
                );
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key {NAME_FORMAT} with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name(name) {
        problems.push(format!("name part {NAME_FORMAT}"));
    }
    problems
}

/// What is wrong with the value of a label.
pub fn label_value_problem(value: &str) -> Option<String> {
    let mut problems = Vec::new();
    if value.len() > 63 {
        problems.push("must be no more than 63 bytes");
    }
    if !value.is_empty() && !is_name(value) {
        problems.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
             or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
             'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        );
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn subdomain_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 253 {
        problems.push("must be no more than 253 bytes".to_owned());
    }
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
    };
    if !text.split('.').all(is_label) {
        problems.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    problems
}

#[cfg(test)]
mod tests;
