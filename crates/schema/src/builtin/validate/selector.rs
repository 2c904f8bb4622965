//! Label selectors, and labels that must match them.

use serde_json::Value;

use super::{Report, names};
use crate::builtin::edit::{items, text};

/// Labels as such: keys and values.
pub(super) fn labels(report: &mut Report, path: &str, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(why) = names::qualified(key) {
            report.invalid(path, key.as_str(), why);
        }
        if let Some(why) = names::label_value(text(value)) {
            report.invalid(path, text(value), why);
        }
    }
}

/// A label selector.
pub(super) fn check(report: &mut Report, path: &str, selector: &Value) {
    labels(
        report,
        &format!("{path}.matchLabels"),
        &selector["matchLabels"],
    );
    for (index, expression) in items(&selector["matchExpressions"]).iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = items(&expression["values"]);
        match text(&expression["operator"]) {
            "In" | "NotIn" if values.is_empty() => {
                report.require(
                    format!("{path}.values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                report.forbid(format!("{path}.values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => report.invalid(
                format!("{path}.operator"),
                other,
                "not a valid selector operator",
            ),
        }
        let key = text(&expression["key"]);
        if let Some(why) = names::qualified(key) {
            report.invalid(format!("{path}.key"), key, why);
        }
        for (at, value) in values.iter().map(text).enumerate() {
            if let Some(why) = names::label_value(value) {
                report.invalid(format!("{path}.values[{at}]"), value, why);
            }
        }
    }
}

/// Whether it selects everything.
pub(super) fn is_empty(selector: &Value) -> bool {
    let labels = selector["matchLabels"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty);
    selector.is_object() && labels && items(&selector["matchExpressions"]).is_empty()
}

/// Whether labels match; a selector that is not there matches nothing.
pub(super) fn matches(selector: &Value, labels: &Value) -> bool {
    if !selector.is_object() {
        return false;
    }
    let mut wanted = selector["matchLabels"].as_object().into_iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
        && items(&selector["matchExpressions"])
            .iter()
            .all(|expression| {
                let held = labels.get(text(&expression["key"]));
                let listed = held.is_some_and(|held| items(&expression["values"]).contains(held));
                match text(&expression["operator"]) {
                    "In" => listed,
                    "NotIn" => !listed,
                    "Exists" => held.is_some(),
                    "DoesNotExist" => held.is_none(),
                    _ => false,
                }
            })
}
