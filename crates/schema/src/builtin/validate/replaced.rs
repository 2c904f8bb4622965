//! What may not change in controllers of pods.

use serde_json::Value;

use super::{IMMUTABLE, Report};

pub(super) fn update(report: &mut Report, kind: &str, new: &Value, old: &Value) {
    let (spec, before) = (&new["spec"], &old["spec"]);
    match kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" => {
            report.same("spec.selector", &spec["selector"], &before["selector"]);
        }
        "ControllerRevision" => report.same("data", &new["data"], &old["data"]),
        "StatefulSet" => {
            let free = [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ];
            let fixed = |spec: &Value| {
                let mut fields = spec.as_object().cloned().unwrap_or_default();
                fields.retain(|name, value| !free.contains(&name.as_str()) && !value.is_null());
                fields
            };
            if fixed(spec) != fixed(before) {
                report.forbid(
                    "spec",
                    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                     'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                     'minReadySeconds' are forbidden",
                );
            }
        }
        _ => job_update(report, spec, before),
    }
}

/// The template of a job changes only while the job is suspended and never started, and then only
/// where its pods may run.
fn job_update(report: &mut Report, spec: &Value, before: &Value) {
    let indexed = spec["completionMode"] == "Indexed" && spec["completions"] == spec["parallelism"];
    if !indexed {
        report.same(
            "spec.completions",
            &spec["completions"],
            &before["completions"],
        );
    }
    report.same("spec.selector", &spec["selector"], &before["selector"]);
    let mut template = spec["template"].clone();
    if before["suspend"] == true {
        for field in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
            template["spec"][field] = before["template"]["spec"][field].clone();
        }
        for field in ["labels", "annotations"] {
            template["metadata"][field] = before["template"]["metadata"][field].clone();
        }
    }
    if !same_but_nulls(&template, &before["template"]) {
        report.invalid("spec.template", spec["template"].clone(), IMMUTABLE);
    }
    report.same(
        "spec.completionMode",
        &spec["completionMode"],
        &before["completionMode"],
    );
    report.same(
        "spec.podFailurePolicy",
        &spec["podFailurePolicy"],
        &before["podFailurePolicy"],
    );
    report.same(
        "spec.backoffLimitPerIndex",
        &spec["backoffLimitPerIndex"],
        &before["backoffLimitPerIndex"],
    );
}

/// Whether two templates are equal when fields that are `null` count as absent.
fn same_but_nulls(a: &Value, b: &Value) -> bool {
    let bare = |template: &Value| {
        let mut template = template.clone();
        for part in ["metadata", "spec"] {
            if let Some(fields) = template[part].as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
        }
        template
    };
    bare(a) == bare(b)
}
