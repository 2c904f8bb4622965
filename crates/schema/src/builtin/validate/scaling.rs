//! What keeps the number of pods between bounds.

use serde_json::{Value, json};

use super::{Report, names, number, selector};
use crate::builtin::edit::{items, text};

pub(super) fn autoscaler(report: &mut Report, spec: &Value) {
    let (least, most) = (spec["minReplicas"].as_i64(), number(&spec["maxReplicas"]));
    // Zero needs metrics that do not come from pods.
    let outside = |metric: &Value| matches!(text(&metric["type"]), "Object" | "External");
    let to_zero = least == Some(0) && items(&spec["metrics"]).iter().any(outside);
    if let Some(least) = least
        && least < 1
        && !to_zero
    {
        report.invalid(
            "spec.minReplicas",
            least,
            "must be greater than or equal to 1",
        );
    }
    if most < 1 {
        report.require("spec.maxReplicas", "must be set and greater than 0");
    }
    if let Some(least) = least
        && most < least
    {
        report.invalid(
            "spec.maxReplicas",
            most,
            "must be greater than or equal to `minReplicas`",
        );
    }
    let target = &spec["scaleTargetRef"];
    report.name(
        "spec.scaleTargetRef.kind",
        &target["kind"],
        names::path_segment,
    );
    report.name(
        "spec.scaleTargetRef.name",
        &target["name"],
        names::path_segment,
    );
    if !text(&target["apiVersion"]).contains('/')
        && text(&target["kind"]) != "ReplicationController"
    {
        let version = text(&target["apiVersion"]);
        report.invalid(
            "spec.scaleTargetRef.apiVersion",
            version,
            "apiVersion must specify API group",
        );
    }
    let types = [
        "ContainerResource",
        "External",
        "Object",
        "Pods",
        "Resource",
    ];
    for (index, metric) in items(&spec["metrics"]).iter().enumerate() {
        let path = format!("spec.metrics[{index}]");
        if text(&metric["type"]).is_empty() {
            report.require(format!("{path}.type"), "must specify a metric source type");
        } else {
            report.one_of(format!("{path}.type"), &metric["type"], &types);
        }
    }
    if least == Some(0) && !to_zero {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        report.forbid("spec.metrics", why);
    }
}

pub(super) fn disruption_budget(report: &mut Report, spec: &Value) {
    let (least, most) = (&spec["minAvailable"], &spec["maxUnavailable"]);
    if !least.is_null() && !most.is_null() {
        let value = json!({
            "MinAvailable": least,
            "Selector": spec["selector"],
            "MaxUnavailable": most,
            "UnhealthyPodEvictionPolicy": spec["unhealthyPodEvictionPolicy"],
        });
        report.invalid(
            "spec",
            value,
            "minAvailable and maxUnavailable cannot be both set",
        );
    }
    report.amount_or_percent("spec.minAvailable", least);
    report.amount_or_percent("spec.maxUnavailable", most);
    selector::check(report, "spec.selector", &spec["selector"]);
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    report.maybe_one_of(
        "spec.unhealthyPodEvictionPolicy",
        &spec["unhealthyPodEvictionPolicy"],
        &policies,
    );
}
