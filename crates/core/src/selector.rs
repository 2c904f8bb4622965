//! Label selectors, checked and matched as apimachinery does (apimachinery: pkg/labels, pkg/apis/meta/v1 `LabelSelectorAsSelector`).

use std::collections::{BTreeMap, BTreeSet};

use drover_api::{LabelSelector, LabelSelectorRequirement};

/// The longest name part of a key, and the longest value.
const MAX_NAME: usize = 63;
/// The longest prefix of a key.
const MAX_PREFIX: usize = 253;

/// Why a selector cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// None of In, NotIn, Exists and DoesNotExist.
    #[error("\"{0}\" is not a valid label selector operator")]
    Operator(String),
    /// In or NotIn without values.
    #[error("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")]
    NoValues,
    /// Exists or DoesNotExist with values.
    #[error("values: Invalid value: [{0}]: values set must be empty for exists and does not exist")]
    Values(String),
    /// The key is no label key.
    #[error(
        "key: Invalid value: \"{0}\": must be a label key: an optional DNS name and '/', then up to 63 of letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    )]
    Key(String),
    /// A value is no label value.
    #[error(
        "values[{index}][{key}]: Invalid value: \"{value}\": must be empty or up to 63 of letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    )]
    Value {
        /// Of which key.
        key: String,
        /// Which of the values.
        index: usize,
        /// The value.
        value: String,
    },
}

/// Requirements, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<(String, Test)>,
    nothing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Holds for nothing: what an absent selector means.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Holds where this label has this value; nothing is checked.
    pub fn equal(key: &str, value: &str) -> Self {
        Self {
            requirements: vec![(key.to_owned(), Test::In(BTreeSet::from([value.to_owned()])))],
            nothing: false,
        }
    }

    /// A selector of labels; an empty one holds for everything.
    pub fn labels(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let values = std::slice::from_ref(value);
            requirements.push(requirement(key, "In", values)?);
        }
        let expressions = selector.match_expressions.as_deref().unwrap_or_default();
        let more = Self::expressions(expressions)?;
        requirements.extend(more.requirements);
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// A selector of these requirements alone.
    pub fn expressions(expressions: &[LabelSelectorRequirement]) -> Result<Self, SelectorError> {
        let requirements = expressions.iter().map(|wanted| {
            let values = wanted.values.as_deref().unwrap_or_default();
            requirement(&wanted.key, &wanted.operator, values)
        });
        Ok(Self {
            requirements: requirements.collect::<Result<_, _>>()?,
            nothing: false,
        })
    }

    /// Whether there is nothing to fulfil.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether it holds for names and values; `find` gives the value of a name.
    pub fn matches<'v>(&self, find: impl Fn(&str) -> Option<&'v str>) -> bool {
        !self.nothing
            && self.requirements.iter().all(|(key, test)| {
                let value = find(key);
                match test {
                    Test::In(values) => value.is_some_and(|value| values.contains(value)),
                    Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                    Test::Exists => value.is_some(),
                    Test::DoesNotExist => value.is_none(),
                }
            })
    }

    /// Whether it holds for labels.
    pub fn matches_labels(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches(|key| {
            labels
                .and_then(|labels| labels.get(key))
                .map(String::as_str)
        })
    }
}

fn requirement(
    key: &str,
    operator: &str,
    values: &[String],
) -> Result<(String, Test), SelectorError> {
    let set = || values.iter().cloned().collect();
    let test = match (operator, values) {
        ("In" | "NotIn", []) => return Err(SelectorError::NoValues),
        ("In", _) => Test::In(set()),
        ("NotIn", _) => Test::NotIn(set()),
        ("Exists", []) => Test::Exists,
        ("DoesNotExist", []) => Test::DoesNotExist,
        ("Exists" | "DoesNotExist", values) => {
            let shown: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            return Err(SelectorError::Values(shown.join(",")));
        }
        (other, _) => return Err(SelectorError::Operator(other.to_owned())),
    };
    if !is_key(key) {
        return Err(SelectorError::Key(key.to_owned()));
    }
    if let Some((index, value)) = values
        .iter()
        .enumerate()
        .find(|(_, value)| !is_value(value))
    {
        return Err(SelectorError::Value {
            key: key.to_owned(),
            index,
            value: value.clone(),
        });
    }
    Ok((key.to_owned(), test))
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    }
}

fn is_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= MAX_NAME && is_framed(name, |byte| byte.is_ascii_alphanumeric(), inner)
}

fn is_subdomain(name: &str) -> bool {
    let end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| is_framed(label, end, |byte| end(byte) || byte == b'-');
    name.len() <= MAX_PREFIX && name.split('.').all(label)
}

fn is_framed(text: &str, end: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => end(*first) && end(*last) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(selector: Value, labels: &[(&str, &str)], expected: Result<bool, &str>) {
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        let owned = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let labels: BTreeMap<String, String> = owned.collect();
        let found = Selector::labels(&selector).map(|it| it.matches_labels(Some(&labels)));
        match expected {
            Ok(expected) => assert_eq!(found, Ok(expected)),
            Err(part) => {
                let said = found.unwrap_err().to_string();
                assert!(said.contains(part), "{said}");
            }
        }
    }

    fn one(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    #[test]
    fn selectors_hold_as_upstream_holds_them() {
        let east = [("region", "east"), ("empty", "")];
        check(json!({}), &east, Ok(true));
        check(json!({"matchLabels": {"region": "east"}}), &east, Ok(true));
        check(json!({"matchLabels": {"region": "west"}}), &east, Ok(false));
        check(json!({"matchLabels": {"empty": ""}}), &east, Ok(true));
        check(one("region", "In", &["a", "east"]), &east, Ok(true));
        check(one("zone", "In", &["a"]), &east, Ok(false));
        check(one("region", "NotIn", &["east"]), &east, Ok(false));
        check(one("zone", "NotIn", &["east"]), &east, Ok(true));
        check(one("region", "Exists", &[]), &east, Ok(true));
        check(one("region", "DoesNotExist", &[]), &east, Ok(false));
        check(
            one("example.com/Zone_1", "DoesNotExist", &[]),
            &east,
            Ok(true),
        );
    }

    #[test]
    fn what_cannot_be_followed_is_an_error() {
        check(
            one("a", "Near", &[]),
            &[],
            Err("\"Near\" is not a valid label selector operator"),
        );
        check(one("a", "In", &[]), &[], Err("can't be empty"));
        check(one("a", "Exists", &["b"]), &[], Err("must be empty"));
        check(
            one("a b", "Exists", &[]),
            &[],
            Err("key: Invalid value: \"a b\""),
        );
        check(one("a/b/c", "Exists", &[]), &[], Err("key: Invalid value"));
        check(one("A.b/c", "Exists", &[]), &[], Err("key: Invalid value"));
        check(one("", "Exists", &[]), &[], Err("key: Invalid value"));
        check(
            one("a", "In", &["x", "-y"]),
            &[],
            Err("values[1][a]: Invalid value: \"-y\""),
        );
        let long = "x".repeat(64);
        check(one("a", "NotIn", &[&long]), &[], Err("values[0][a]"));
    }

    #[test]
    fn an_absent_selector_holds_for_nothing() {
        assert!(!Selector::nothing().matches_labels(None));
        assert!(Selector::default().is_empty() && !Selector::nothing().is_empty());
    }
}
