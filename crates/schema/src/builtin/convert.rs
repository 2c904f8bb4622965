//! Kinds that are served in two shapes and stored in one: events and autoscalers.

use serde_json::{Map, Value, json};

use super::Kind;

/// Where and in which shape objects of a kind are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Group of the stored shape.
    pub group: &'static str,
    /// Version of the stored shape.
    pub version: &'static str,
    /// Resource name.
    pub plural: &'static str,
}

pub(super) fn storage(kind: &Kind) -> Storage {
    match (kind.group, kind.kind) {
        ("events.k8s.io", "Event") => Storage {
            group: "",
            version: "v1",
            plural: "events",
        },
        ("autoscaling", "HorizontalPodAutoscaler") => Storage {
            group: "autoscaling",
            version: "v2",
            plural: "horizontalpodautoscalers",
        },
        _ => Storage {
            group: kind.group,
            version: kind.version,
            plural: kind.plural,
        },
    }
}

/// Field names of an event: in `events.k8s.io`, in the core group.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

pub(super) fn to_storage(kind: &Kind, object: Value) -> Value {
    let Value::Object(mut fields) = object else {
        return object;
    };
    match (kind.group, kind.version, kind.kind) {
        ("events.k8s.io", _, "Event") => {
            for (new, core) in EVENT_FIELDS {
                rename(&mut fields, new, core);
            }
            fields.insert("apiVersion".to_owned(), Value::from("v1"));
        }
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => hpa_to_v2(&mut fields),
        _ => {}
    }
    settled(&storage(kind), kind, fields)
}

pub(super) fn from_storage(kind: &Kind, object: Value) -> Value {
    let Value::Object(mut fields) = object else {
        return object;
    };
    match (kind.group, kind.version, kind.kind) {
        ("events.k8s.io", _, "Event") => {
            for (new, core) in EVENT_FIELDS {
                rename(&mut fields, core, new);
            }
            fields.insert("apiVersion".to_owned(), Value::from("events.k8s.io/v1"));
            return shaped(kind.definition, fields);
        }
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => {
            hpa_to_v1(&mut fields);
            return shaped(kind.definition, fields);
        }
        _ => {}
    }
    Value::Object(fields)
}

fn settled(storage: &Storage, kind: &Kind, fields: Map<String, Value>) -> Value {
    if storage.group == kind.group && storage.version == kind.version {
        return Value::Object(fields);
    }
    match super::find(storage.group, storage.version, storage.plural) {
        Some(stored) => shaped(stored.definition, fields),
        None => Value::Object(fields),
    }
}

/// Drops and adds empty fields as the target shape demands.
fn shaped(definition: &str, fields: Map<String, Value>) -> Value {
    let object = Value::Object(fields);
    let registry = super::registry::Registry::get();
    match registry
        .find(definition)
        .map(|id| super::go::normalize(id, &object))
    {
        Some(Ok(normal)) => normal.object,
        _ => object,
    }
}

fn rename(fields: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The CPU target that version 1 has when it names none.
const DEFAULT_CPU: i64 = 80;

fn object<'v>(fields: &'v mut Map<String, Value>, name: &str) -> &'v mut Map<String, Value> {
    super::edit::object_in(fields, name)
}

fn take_annotation(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    let metadata = fields.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.remove(name)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn annotate(fields: &mut Map<String, Value>, name: &str, value: &Value) {
    let annotations = object(object(fields, "metadata"), "annotations");
    annotations.insert(name.to_owned(), Value::from(value.to_string()));
}

fn hpa_to_v2(fields: &mut Map<String, Value>) {
    fields.insert("apiVersion".to_owned(), Value::from("autoscaling/v2"));
    let others = take_annotation(fields, METRICS);
    let current = take_annotation(fields, CURRENT_METRICS);
    let conditions = take_annotation(fields, CONDITIONS);
    let behavior = take_annotation(fields, BEHAVIOR);
    let spec = object(fields, "spec");
    let cpu = spec
        .remove("targetCPUUtilizationPercentage")
        .filter(|value| !value.is_null());
    let mut metrics = Vec::new();
    for metric in others
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        metrics.push(metric_to_v2(metric, "target"));
    }
    if cpu.is_some() || metrics.is_empty() {
        let utilization = cpu.unwrap_or_else(|| Value::from(DEFAULT_CPU));
        metrics.push(cpu_metric(
            "target",
            json!({"type": "Utilization", "averageUtilization": utilization}),
        ));
    }
    spec.insert("metrics".to_owned(), Value::Array(metrics));
    if let Some(behavior) = behavior.filter(Value::is_object) {
        spec.insert("behavior".to_owned(), lower_keys(behavior));
    }
    let status = object(fields, "status");
    let cpu = status
        .remove("currentCPUUtilizationPercentage")
        .filter(|value| !value.is_null());
    if let Some(current) = current.as_ref().and_then(Value::as_array) {
        let metrics = current
            .iter()
            .map(|metric| metric_to_v2(metric, "current"))
            .collect();
        status.insert("currentMetrics".to_owned(), Value::Array(metrics));
    } else if let Some(cpu) = cpu {
        let metric = cpu_metric("current", json!({"averageUtilization": cpu}));
        status.insert("currentMetrics".to_owned(), json!([metric]));
    }
    if let Some(conditions) = conditions.filter(Value::is_array) {
        status.insert("conditions".to_owned(), conditions);
    }
}

fn cpu_metric(side: &str, value: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", side: value}})
}

/// Upstream marshals an internal struct without tags here: `ScaleUp` instead of `scaleUp`.
fn lower_keys(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| {
                let mut letters = key.chars();
                let key = letters.next().map_or_else(String::new, |first| {
                    first.to_lowercase().chain(letters).collect()
                });
                (key, lower_keys(value))
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(lower_keys).collect(),
        other => other,
    }
}

fn raise_keys(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                let mut letters = key.chars();
                let key: String = letters.next().map_or_else(String::new, |first| {
                    first.to_uppercase().chain(letters).collect()
                });
                (key, raise_keys(value))
            })
            .collect(),
        Value::Array(items) => items.iter().map(raise_keys).collect(),
        other => other.clone(),
    }
}

fn hpa_to_v1(fields: &mut Map<String, Value>) {
    fields.insert("apiVersion".to_owned(), Value::from("autoscaling/v1"));
    let spec = object(fields, "spec");
    let metrics = spec.remove("metrics").unwrap_or_default();
    let behavior = spec.remove("behavior").filter(Value::is_object);
    let mut others = Vec::new();
    for metric in metrics.as_array().into_iter().flatten() {
        let utilization = &metric["resource"]["target"]["averageUtilization"];
        if metric["type"] == "Resource"
            && metric["resource"]["name"] == "cpu"
            && utilization.is_number()
        {
            spec.insert(
                "targetCPUUtilizationPercentage".to_owned(),
                utilization.clone(),
            );
        } else {
            others.push(metric_to_v1(metric, "target"));
        }
    }
    let status = object(fields, "status");
    let conditions = status
        .remove("conditions")
        .filter(|value| value.as_array().is_some_and(|all| !all.is_empty()));
    let mut currents = Vec::new();
    for metric in status
        .remove("currentMetrics")
        .unwrap_or_default()
        .as_array()
        .into_iter()
        .flatten()
    {
        let utilization = &metric["resource"]["current"]["averageUtilization"];
        if metric["type"] == "Resource"
            && metric["resource"]["name"] == "cpu"
            && utilization.is_number()
        {
            status.insert(
                "currentCPUUtilizationPercentage".to_owned(),
                utilization.clone(),
            );
        }
        currents.push(metric_to_v1(metric, "current"));
    }
    if !others.is_empty() {
        annotate(fields, METRICS, &Value::Array(others));
    }
    if !currents.is_empty() {
        annotate(fields, CURRENT_METRICS, &Value::Array(currents));
    }
    if let Some(behavior) = behavior {
        annotate(fields, BEHAVIOR, &raise_keys(&behavior));
    }
    if let Some(conditions) = conditions {
        annotate(fields, CONDITIONS, &conditions);
    }
}

/// How the metric sources call the amounts of the two versions: (source, v1 value, v1 average).
fn amounts(source: &str, side: &str) -> [(&'static str, &'static str); 3] {
    match (source, side) {
        ("resource" | "containerResource", "target") => [
            ("averageUtilization", "targetAverageUtilization"),
            ("averageValue", "targetAverageValue"),
            ("", ""),
        ],
        ("resource" | "containerResource", _) => [
            ("averageUtilization", "currentAverageUtilization"),
            ("averageValue", "currentAverageValue"),
            ("", ""),
        ],
        ("pods", "target") => [("averageValue", "targetAverageValue"), ("", ""), ("", "")],
        ("pods", _) => [("averageValue", "currentAverageValue"), ("", ""), ("", "")],
        ("external", "target") => [
            ("value", "targetValue"),
            ("averageValue", "targetAverageValue"),
            ("", ""),
        ],
        ("external", _) => [
            ("value", "currentValue"),
            ("averageValue", "currentAverageValue"),
            ("", ""),
        ],
        (_, "target") => [
            ("value", "targetValue"),
            ("averageValue", "averageValue"),
            ("", ""),
        ],
        _ => [
            ("value", "currentValue"),
            ("averageValue", "averageValue"),
            ("", ""),
        ],
    }
}

const SOURCES: [&str; 5] = [
    "resource",
    "containerResource",
    "pods",
    "object",
    "external",
];

fn metric_to_v1(metric: &Value, side: &str) -> Value {
    let mut out = json!({"type": metric["type"]});
    for source in SOURCES {
        let Value::Object(from) = &metric[source] else {
            continue;
        };
        let mut to = Map::new();
        for name in ["name", "container"] {
            if let Some(value) = from.get(name) {
                to.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(object) = from.get("describedObject") {
            to.insert("target".to_owned(), object.clone());
        }
        if let Some(identifier) = from.get("metric") {
            to.insert("metricName".to_owned(), identifier["name"].clone());
            if identifier["selector"].is_object() {
                let name = if source == "external" {
                    "metricSelector"
                } else {
                    "selector"
                };
                to.insert(name.to_owned(), identifier["selector"].clone());
            }
        }
        for (new, old) in amounts(source, side) {
            if let Some(value) = from
                .get(side)
                .and_then(|amounts| amounts.get(new))
                .filter(|_| !new.is_empty())
            {
                to.insert(old.to_owned(), value.clone());
            }
        }
        out[source] = Value::Object(to);
    }
    out
}

fn metric_to_v2(metric: &Value, side: &str) -> Value {
    let mut out = json!({"type": metric["type"]});
    for source in SOURCES {
        let Value::Object(from) = &metric[source] else {
            continue;
        };
        let mut to = Map::new();
        for name in ["name", "container"] {
            if let Some(value) = from.get(name) {
                to.insert(name.to_owned(), value.clone());
            }
        }
        if source == "object"
            && let Some(object) = from.get("target")
        {
            to.insert("describedObject".to_owned(), object.clone());
        }
        if let Some(name) = from.get("metricName") {
            let selector = from.get("metricSelector").or_else(|| from.get("selector"));
            let mut identifier = json!({"name": name});
            if let Some(selector) = selector {
                identifier["selector"] = selector.clone();
            }
            to.insert("metric".to_owned(), identifier);
        }
        let mut values = Map::new();
        let mut kind = "";
        for (new, old) in amounts(source, side) {
            if let Some(value) = from.get(old).filter(|_| !new.is_empty()) {
                values.insert(new.to_owned(), value.clone());
                kind = match new {
                    "averageUtilization" => "Utilization",
                    "averageValue" => "AverageValue",
                    _ => "Value",
                };
            }
        }
        if side == "target" {
            values.insert("type".to_owned(), Value::from(kind));
        }
        to.insert(side.to_owned(), Value::Object(values));
        out[source] = Value::Object(to);
    }
    out
}
