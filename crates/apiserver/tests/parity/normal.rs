//! Takes out of an answer what no two servers have in common, and says what differs in the rest.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// Values that a server gave in earlier steps, by the name under which they were kept.
pub(crate) type Kept = BTreeMap<String, Value>;

struct Rule {
    pattern: Regex,
    with: &'static str,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "<microtime>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "<uid>",
        ),
        (r"127\.0\.0\.1:\d+", "<server>"),
        // Of services: an address and a port by chance.
        (r"\b10\.96\.\d+\.\d+\b", "<address>"),
        (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "<jwt>"),
        (
            r"(?s)-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\n?",
            "<certificate>",
        ),
        (r"LS0tLS1CRUdJTiBDRVJU[A-Za-z0-9+/=]+", "<certificate>"),
        (r"hash=[0-9A-Fa-f]+", "hash=<hash>"),
        (
            r"too old resource version: \d+ \(\d+\)",
            "too old resource version: <rv> (<rv>)",
        ),
        (
            r"Too large resource version: (\d+), current: \d+",
            "Too large resource version: $1, current: <rv>",
        ),
    ]
    .into_iter()
    .filter_map(|(pattern, with)| {
        Some(Rule {
            pattern: Regex::new(pattern).ok()?,
            with,
        })
    })
    .collect()
});

/// A text with its accidents replaced.
pub(crate) fn text(text: &str) -> String {
    RULES.iter().fold(text.to_owned(), |text, rule| {
        if rule.pattern.is_match(&text) {
            rule.pattern.replace_all(&text, rule.with).into_owned()
        } else {
            text
        }
    })
}

/// What a program printed: as [`text`], and without ages, versions of objects and the width of columns.
pub(crate) fn output(printed: &str) -> String {
    static MORE: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        [
            (r#"(?m)("?resourceVersion"?: )"?\d+"?"#, "$1<rv>"),
            (r"\b(\d+(ms|s|m)){1,2}( ago)?\b", "<age>"),
            (r"<invalid>|\binvalid ago\b", "<age>"),
            (r"(?m)^([a-z]+-)[a-z0-9]{5}\b", "$1<generated>"),
            (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000", "<time>"),
            (r"(?m) +", " "),
            (r"(?m) +$", ""),
            (r"nodePort: \d+", "nodePort: <port>"),
        ]
        .into_iter()
        .filter_map(|(pattern, with)| {
            Some(Rule {
                pattern: Regex::new(pattern).ok()?,
                with,
            })
        })
        .collect()
    });
    MORE.iter().fold(text(printed), |text, rule| {
        rule.pattern.replace_all(&text, rule.with).into_owned()
    })
}

/// A document with its accidents replaced.
pub(crate) fn json(value: &mut Value, kept: &Kept) {
    match value {
        Value::Object(fields) => object(fields, kept),
        Value::Array(items) => items.iter_mut().for_each(|item| json(item, kept)),
        Value::String(string) => *string = text(string),
        _ => {}
    }
}

fn object(fields: &mut Map<String, Value>, kept: &Kept) {
    generated_name(fields);
    // Owners are keys of managed fields.
    let keys: Vec<String> = fields
        .keys()
        .filter(|key| text(key) != **key)
        .cloned()
        .collect();
    for key in keys {
        if let Some(value) = fields.remove(&key) {
            fields.insert(text(&key), value);
        }
    }
    causes(fields);
    // Lists of custom resources say that there is no more, and the hash of a version is for nobody else.
    fields.retain(|key, value| !(key == "continue" && value == "") && key != "storageVersionHash");
    // The version of a list is the server's, and servers write things of their own.
    let one = fields.contains_key("name") || fields.contains_key("uid");
    for (key, value) in fields.iter_mut() {
        match (key.as_str(), &mut *value) {
            ("resourceVersion" | "uid", Value::String(string)) if !string.is_empty() => {
                let known = kept
                    .iter()
                    .find(|(_, kept)| one && kept.as_str() == Some(string));
                *string =
                    known.map_or_else(|| format!("<{key}>"), |(name, _)| format!("${{{name}}}"));
            }
            ("continue", Value::String(string)) if !string.is_empty() => {
                "<continue>".clone_into(string);
            }
            ("managedFields", Value::Array(entries)) => {
                for entry in entries.iter_mut() {
                    json(entry, kept);
                }
                // The server sorts by time as well, and the clock may tick between two writes.
                entries.sort_by_key(|entry| {
                    ["operation", "manager", "apiVersion", "subresource"]
                        .map(|key| entry[key].to_string())
                });
            }
            // Servers and their controllers have names of their own.
            ("manager", Value::String(manager))
                if matches!(
                    &**manager,
                    "kube-apiserver" | "kube-controller-manager" | "drover-apiserver"
                ) =>
            {
                "<server>".clone_into(manager);
            }
            ("nodePort", Value::Number(_)) => *value = Value::from("<port>"),
            // Prose is the server's own.
            ("columnDefinitions", Value::Array(columns)) => {
                for column in columns.iter_mut().filter_map(Value::as_object_mut) {
                    column.remove("description");
                }
            }
            // Lists of the embedded server say it of each item also where it is known.
            ("items", Value::Array(items)) => {
                for item in items.iter_mut().filter_map(Value::as_object_mut) {
                    item.remove("apiVersion");
                    item.remove("kind");
                }
                for item in items.iter_mut() {
                    json(item, kept);
                }
            }
            ("cells", Value::Array(cells)) => cells.iter_mut().for_each(cell),
            _ => json(value, kept),
        }
    }
}

/// Properties of custom resources are checked in the order of Go's maps, which is none.
fn causes(fields: &mut Map<String, Value>) {
    let custom = fields
        .get("group")
        .and_then(Value::as_str)
        .is_some_and(is_custom);
    if let Some(Value::Array(causes)) = fields.get_mut("causes").filter(|_| custom) {
        causes.sort_by_key(Value::to_string);
    }
    let custom = fields.get("details").is_some_and(|details| {
        let many = details["causes"]
            .as_array()
            .is_some_and(|causes| causes.len() > 1);
        many && details["group"].as_str().is_some_and(is_custom)
    });
    if let Some(Value::String(message)) = fields.get_mut("message").filter(|_| custom) {
        let end = message.find(" is invalid: ").unwrap_or(message.len());
        message.truncate(end);
    }
}

fn is_custom(group: &str) -> bool {
    group.ends_with(".example.com") || group.ends_with(".open-cluster-management.io")
}

fn generated_name(fields: &mut Map<String, Value>) {
    let prefix = fields
        .get("generateName")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some(Value::String(name)) = fields.get_mut("name") else {
        return;
    };
    let alphabet = |c: char| "bcdfghjklmnpqrstvwxz2456789".contains(c);
    if !prefix.is_empty()
        && name
            .strip_prefix(&prefix)
            .is_some_and(|end| end.len() == 5 && end.chars().all(alphabet))
    {
        *name = format!("{prefix}<generated>");
    }
}

fn cell(cell: &mut Value) {
    static AGE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^\d+(ms|s|m\d*s?)( ago)?$").ok());
    if let Value::String(string) = cell {
        let age = AGE.as_ref().is_some_and(|age| age.is_match(string));
        *string = if age {
            "<age>".to_owned()
        } else {
            text(string)
        };
    }
}

/// Every place at which two documents differ, as `path: kube … drover …`.
pub(crate) fn differences(
    path: &str,
    kube: &Value,
    drover: &Value,
    found: &mut Vec<(String, String)>,
) {
    match (kube, drover) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: std::collections::BTreeSet<&String> =
                left.keys().chain(right.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                match (left.get(key), right.get(key)) {
                    (Some(left), Some(right)) => differences(&path, left, right, found),
                    (Some(left), None) => {
                        found.push((path, format!("kube has {}, drover nothing", short(left))));
                    }
                    (None, Some(right)) => {
                        found.push((path, format!("drover has {}, kube nothing", short(right))));
                    }
                    (None, None) => {}
                }
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (place, (left, right)) in left.iter().zip(right).enumerate() {
                differences(&format!("{path}[{place}]"), left, right, found);
            }
        }
        _ if kube == drover => {}
        _ => found.push((
            path.to_owned(),
            format!(
                "\n      kube   {}\n      drover {}",
                short(kube),
                short(drover)
            ),
        )),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 1500 {
        return text;
    }
    let head: String = text.chars().take(1500).collect();
    format!("{head}…")
}
