//! Controllers of pods.

use serde_json::{Value, json};

use super::{Fields, pod};
use crate::builtin::edit::{absent, default, items_mut, object_in, sub};

pub(super) fn deployment(fields: &mut Fields) {
    let spec = object_in(fields, "spec");
    pod::template(object_in(spec, "template"));
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    let strategy = object_in(spec, "strategy");
    default(strategy, "type", "RollingUpdate");
    if strategy
        .get("type")
        .is_some_and(|kind| kind == "RollingUpdate")
    {
        let rolling = object_in(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", "25%");
        default(rolling, "maxSurge", "25%");
    }
}

pub(super) fn replica_set(fields: &mut Fields) {
    let spec = object_in(fields, "spec");
    pod::template(object_in(spec, "template"));
    default(spec, "replicas", 1);
}

pub(super) fn replication_controller(fields: &mut Fields) {
    let spec = object_in(fields, "spec");
    // Without a template there is nothing to default.
    let labels = sub(spec, "template").and_then(|template| {
        pod::template(template);
        template.get("metadata")?.get("labels").cloned()
    });
    default(spec, "replicas", 1);
    if let Some(labels) = labels {
        default(spec, "selector", labels.clone());
        default(object_in(fields, "metadata"), "labels", labels);
    }
}

pub(super) fn stateful_set(fields: &mut Fields) {
    let spec = object_in(fields, "spec");
    pod::template(object_in(spec, "template"));
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    let strategy = object_in(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if strategy
        .get("type")
        .is_some_and(|kind| kind == "RollingUpdate")
    {
        let rolling = object_in(strategy, "rollingUpdate");
        default(rolling, "partition", 0);
    }
    let retention = object_in(spec, "persistentVolumeClaimRetentionPolicy");
    default(retention, "whenDeleted", "Retain");
    default(retention, "whenScaled", "Retain");
    for claim in items_mut(spec, "volumeClaimTemplates") {
        // The server names the type of embedded objects.
        default(claim, "apiVersion", "v1");
        default(claim, "kind", "PersistentVolumeClaim");
        pod::claim(object_in(claim, "spec"));
        default(object_in(claim, "status"), "phase", "Pending");
    }
}

pub(super) fn daemon_set(fields: &mut Fields) {
    let annotations = object_in(object_in(fields, "metadata"), "annotations");
    default(annotations, "deprecated.daemonset.template.generation", "0");
    let spec = object_in(fields, "spec");
    pod::template(object_in(spec, "template"));
    default(spec, "revisionHistoryLimit", 10);
    let strategy = object_in(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if strategy
        .get("type")
        .is_some_and(|kind| kind == "RollingUpdate")
    {
        let rolling = object_in(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", 1);
        default(rolling, "maxSurge", 0);
    }
}

pub(super) fn job(fields: &mut Fields) {
    let spec = object_in(fields, "spec");
    pod::template(object_in(spec, "template"));
    if absent(spec.get("completions")) && absent(spec.get("parallelism")) {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let per_index = !absent(spec.get("backoffLimitPerIndex"));
    default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let policy = spec.get("podFailurePolicy").is_some_and(Value::is_object);
    default(
        spec,
        "podReplacementPolicy",
        if policy {
            "Failed"
        } else {
            "TerminatingOrFailed"
        },
    );
    if let Some(policy) = sub(spec, "podFailurePolicy") {
        for rule in items_mut(policy, "rules") {
            for condition in items_mut(rule, "onPodConditions") {
                default(condition, "status", "True");
            }
        }
    }
    let labels = spec
        .get("template")
        .and_then(|template| template.get("metadata")?.get("labels"))
        .cloned();
    if let Some(labels) = labels {
        default(object_in(fields, "metadata"), "labels", labels);
    }
}

pub(super) fn cron_job(fields: &mut Fields) {
    let spec = object_in(fields, "spec");
    default(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    let job = object_in(spec, "jobTemplate");
    object_in(job, "metadata");
    pod::template(object_in(object_in(job, "spec"), "template"));
}

pub(super) fn autoscaler(version: &str, fields: &mut Fields) {
    let spec = object_in(fields, "spec");
    default(spec, "minReplicas", 1);
    if version == "v1" {
        return;
    }
    if spec
        .get("metrics")
        .is_none_or(|metrics| metrics.as_array().is_none_or(Vec::is_empty))
    {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec.insert(
            "metrics".to_owned(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
        );
    }
    let Some(behavior) = sub(spec, "behavior") else {
        return;
    };
    let all = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let up = object_in(behavior, "scaleUp");
    default(up, "stabilizationWindowSeconds", 0);
    default(up, "selectPolicy", "Max");
    default(
        up,
        "policies",
        json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, all]),
    );
    let down = object_in(behavior, "scaleDown");
    default(down, "selectPolicy", "Max");
    default(down, "policies", json!([all]));
}
