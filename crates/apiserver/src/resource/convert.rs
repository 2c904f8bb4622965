//! Versions of built-in kinds that share one storage: events of two groups, autoscalers of two
//! versions. Custom kinds convert by name only (strategy `None`).

use drover_schema::{default, prune};
use serde_json::{Map, Value, json};

use super::{Resource, Source};

/// Fields of an event in the core group and in `events.k8s.io`.
const EVENT: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Turns an object of any version of a resource into the version of `resource`.
pub fn to(resource: &Resource, object: &mut Value) {
    into(resource, &resource.api_version, object);
}

/// Turns an object of this version into what is stored.
pub fn to_stored(resource: &Resource, object: &mut Value) {
    if object["apiVersion"] != *resource.stored_as {
        into(resource, &resource.stored_as, object);
        // The stored version may know less, and default more.
        if let Source::Custom { kind, .. } = &resource.source
            && let Some(stored) = kind.versions.iter().find(|version| version.storage)
        {
            prune::prune(stored.schema.node(), object);
            default::fill(stored.schema.node(), object);
        }
    }
}

fn into(resource: &Resource, version: &str, object: &mut Value) {
    if let (Source::Builtin(kind), Some(map)) = (&resource.source, object.as_object_mut()) {
        match (kind.plural, version) {
            ("events", "v1") => rename(map, EVENT.iter().map(|&(core, new)| (new, core))),
            ("events", _) => rename(map, EVENT.iter().copied()),
            ("horizontalpodautoscalers", "autoscaling/v1") => autoscaler_to_v1(map),
            ("horizontalpodautoscalers", _) => autoscaler_to_v2(map),
            _ => {}
        }
    }
    object["apiVersion"] = version.into();
}

fn rename<'a>(map: &mut Map<String, Value>, names: impl Iterator<Item = (&'a str, &'a str)>) {
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

fn is_cpu_utilization(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"]["target"]["averageUtilization"].is_number()
}

fn autoscaler_to_v1(map: &mut Map<String, Value>) {
    let mut notes = Vec::new();
    if let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some(Value::Array(mut metrics)) = spec.remove("metrics") {
            if let Some(at) = metrics.iter().position(is_cpu_utilization) {
                let cpu = metrics.remove(at);
                let target = cpu["resource"]["target"]["averageUtilization"].clone();
                spec.insert("targetCPUUtilizationPercentage".to_owned(), target);
            }
            if !metrics.is_empty() {
                notes.push((METRICS, Value::Array(metrics)));
            }
        }
        if let Some(behavior) = spec.remove("behavior") {
            notes.push((BEHAVIOR, behavior));
        }
    }
    if let Some(status) = map.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("conditions");
        if let Some(Value::Array(current)) = status.remove("currentMetrics") {
            let cpu = current.iter().find(|m| m["resource"]["name"] == "cpu");
            if let Some(used) = cpu.map(|m| &m["resource"]["current"]["averageUtilization"])
                && used.is_number()
            {
                status.insert("currentCPUUtilizationPercentage".to_owned(), used.clone());
            }
        }
    }
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        for (name, value) in notes {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            annotations[name] = value.to_string().into();
        }
    }
}

fn autoscaler_to_v2(map: &mut Map<String, Value>) {
    let mut note = |name: &str| -> Option<Value> {
        let annotations = map
            .get_mut("metadata")?
            .get_mut("annotations")?
            .as_object_mut()?;
        let value = serde_json::from_str(annotations.get(name)?.as_str()?).ok()?;
        annotations.remove(name);
        Some(value)
    };
    let (metrics, behavior) = (note(METRICS), note(BEHAVIOR));
    if let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) {
        let mut all = Vec::new();
        if let Some(target) = spec.remove("targetCPUUtilizationPercentage") {
            all.push(cpu(
                "target",
                json!({"type": "Utilization", "averageUtilization": target}),
            ));
        }
        if let Some(Value::Array(others)) = metrics {
            all.extend(others);
        }
        if !all.is_empty() {
            spec.insert("metrics".to_owned(), Value::Array(all));
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = map.get_mut("status").and_then(Value::as_object_mut)
        && let Some(used) = status.remove("currentCPUUtilizationPercentage")
    {
        let metric = cpu("current", json!({"averageUtilization": used}));
        status.insert("currentMetrics".to_owned(), Value::Array(vec![metric]));
    }
}

fn cpu(place: &str, value: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", place: value}})
}
