//! Label selectors, in the words of `kubectl get -l`.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What labels must be like. The default fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    /// Values, one of which it must have; `None` = any value will do.
    values: Option<Vec<String>>,
    /// Must not be so: a label that is absent fits.
    not: bool,
}

/// A text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to read the selector {0:?}: write requirements such as `a=b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, separated by commas"
)]
pub struct SelectorError(String);

impl Selector {
    /// Whether labels fit.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let fits = match &requirement.values {
                None => value.is_some(),
                Some(values) => value.is_some_and(|value| values.contains(value)),
            };
            fits != requirement.not
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let wrong = || SelectorError(text.to_owned());
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = end(rest).ok_or_else(wrong)?;
            requirements.push(requirement(rest[..end].trim()).ok_or_else(wrong)?);
            rest = match rest[end..].strip_prefix(',') {
                None => "",
                Some(more) if more.trim().is_empty() => return Err(wrong()),
                Some(more) => more.trim_start(),
            };
        }
        Ok(Self(requirements))
    }
}

/// Where the first requirement ends: at a comma that is not between parentheses.
fn end(text: &str) -> Option<usize> {
    let mut open = false;
    for (at, letter) in text.char_indices() {
        match letter {
            ',' if !open => return Some(at),
            '(' if !open => open = true,
            ')' if open => open = false,
            '(' | ')' => return None,
            _ => (),
        }
    }
    (!open).then_some(text.len())
}

fn requirement(text: &str) -> Option<Requirement> {
    let plain = |text: &str| {
        let text = text.trim();
        let good = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
        text.chars().all(good).then(|| text.to_owned())
    };
    let key = |text: &str| plain(text).filter(|key| !key.is_empty());
    let one_of = |text: &str, values: Option<Vec<String>>, not| {
        Some(Requirement {
            key: key(text)?,
            values,
            not,
        })
    };
    if let Some((list, before)) = text.strip_suffix(')').and_then(|text| {
        let (before, list) = text.split_once('(')?;
        Some((list, before.trim_end()))
    }) {
        let values = list.split(',').map(plain).collect::<Option<Vec<_>>>()?;
        let (name, word) = before.rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => one_of(name, Some(values), false),
            "notin" => one_of(name, Some(values), true),
            _ => None,
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return one_of(name, Some(vec![plain(value)?]), true);
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return one_of(name, Some(vec![plain(value)?]), false);
    }
    match text.strip_prefix('!') {
        Some(name) => one_of(name, None, true),
        None => one_of(text, None, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &[(&str, &str)], fits: bool) {
        let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let selector: Selector = selector.parse().unwrap();
        assert_eq!(selector.matches(&labels.collect()), fits, "{selector:?}");
    }

    #[test]
    fn labels_fit() {
        let blue = [("team", "blue"), ("example.com/tier", "")];
        check("", &blue, true);
        check("team=blue", &blue, true);
        check("team == blue, example.com/tier", &blue, true);
        check("team!=blue", &blue, false);
        check("other!=blue", &blue, true);
        check("team in (red, blue)", &blue, true);
        check("team notin (red,blue),team", &blue, false);
        check("team notin (red)", &[], true);
        check("!team", &blue, false);
        check("!other", &blue, true);
        check("example.com/tier=", &blue, true);
        check("other", &blue, false);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "=a", "a in b", "a in (b", "a,", ",", "a b", "a=(b)", "a is (b)", "a=b=c",
        ] {
            let error = text.parse::<Selector>().expect_err(text).to_string();
            assert!(error.contains("write requirements"), "{error}");
        }
    }
}
