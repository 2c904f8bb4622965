//! Autoscalers: what they measure, and what they want.

use serde_json::Value;

use super::{NONE, Row, UNSET, int};
use crate::builtin::edit::{items, text};

/// Metrics that are listed before the rest is only counted.
const SHOWN: usize = 2;

pub(super) fn cells(row: Row<'_>) -> Vec<Value> {
    let (spec, status) = (&row.object["spec"], &row.object["status"]);
    let target = &spec["scaleTargetRef"];
    let metrics: Vec<String> = items(&spec["metrics"])
        .iter()
        .enumerate()
        .map(|(index, metric)| self::metric(metric, &status["currentMetrics"][index]))
        .collect();
    let shown = metrics
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let metrics = match metrics.len() {
        0 => NONE.to_owned(),
        count if count > SHOWN => format!("{shown} + {} more...", count - SHOWN),
        _ => shown,
    };
    let least = spec["minReplicas"]
        .as_i64()
        .map_or(UNSET.to_owned(), |least| least.to_string());
    vec![
        row.object["metadata"]["name"].clone(),
        Value::from(format!(
            "{}/{}",
            text(&target["kind"]),
            text(&target["name"])
        )),
        Value::from(metrics),
        Value::from(least),
        int(&spec["maxReplicas"]),
        int(&status["currentReplicas"]),
        row.age(),
    ]
}

fn metric(spec: &Value, status: &Value) -> String {
    let source = match text(&spec["type"]) {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&spec[source]["target"], &status[source]["current"]);
    let amount = |value: &Value| value.as_str().unwrap_or("0").to_owned();
    let measured = |name: &str| match &current[name] {
        Value::String(text) => text.clone(),
        Value::Number(percent) => format!("{percent}%"),
        _ => "<unknown>".to_owned(),
    };
    let average = target["averageValue"].is_string();
    match source {
        "external" | "object" if average => {
            format!(
                "{}/{} (avg)",
                measured("averageValue"),
                amount(&target["averageValue"])
            )
        }
        "external" | "object" => format!("{}/{}", measured("value"), amount(&target["value"])),
        "pods" => format!(
            "{}/{}",
            measured("averageValue"),
            amount(&target["averageValue"])
        ),
        _ => {
            let name = text(&spec[source]["name"]);
            if average {
                format!(
                    "{name}: {}/{}",
                    measured("averageValue"),
                    amount(&target["averageValue"])
                )
            } else {
                let wanted = target["averageUtilization"].as_i64();
                let wanted = wanted.map_or("<auto>".to_owned(), |percent| format!("{percent}%"));
                format!("{name}: {}/{wanted}", measured("averageUtilization"))
            }
        }
    }
}
