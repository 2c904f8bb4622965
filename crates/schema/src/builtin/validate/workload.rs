//! Controllers of pods.

use serde_json::{Map, Value, json};

use super::{Report, names, number, pod, selector};
use crate::builtin::edit::{items, text};
use crate::field_error::FieldError;

const MISMATCH: &str = "`selector` does not match template `labels`";

/// A value as an error shows it: `null` where there is none.
fn shown(value: &Value) -> Value {
    value.clone()
}

pub(super) fn create(report: &mut Report, kind: &str, object: &Value) {
    let spec = &object["spec"];
    match kind {
        "Deployment" => deployment(report, spec),
        "ReplicaSet" => {
            report.not_negative("spec.replicas", &spec["replicas"]);
            report.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
            checked_selector(
                report,
                &spec["selector"],
                "empty selector is invalid for deployment",
            );
            template(report, spec, &["Always"]);
        }
        "ReplicationController" => replication_controller(report, spec),
        "DaemonSet" => daemon_set(report, spec),
        "StatefulSet" => stateful_set(report, spec),
        "Job" => {
            generated_selector(report, object);
            job(report, "spec", spec);
            if !selector::matches(&spec["selector"], &spec["template"]["metadata"]["labels"]) {
                let labels = shown(&spec["template"]["metadata"]["labels"]);
                report.invalid("spec.template.metadata.labels", labels, MISMATCH);
            }
        }
        _ => cron_job(report, spec),
    }
}

/// Checks the selector; whether the template can be compared with it.
fn checked_selector(report: &mut Report, selector: &Value, empty: &str) -> bool {
    if !selector.is_object() {
        report.require("spec.selector", "");
        return true;
    }
    let before = report.errors.len();
    selector::check(report, "spec.selector", selector);
    if selector::is_empty(selector) {
        report.invalid("spec.selector", json!({}), empty);
    }
    report.errors.len() == before || selector::is_empty(selector)
}

/// A template that must match the selector and restart as its controller wants.
fn template(report: &mut Report, spec: &Value, restart: &[&str]) {
    let (selector, labels) = (&spec["selector"], &spec["template"]["metadata"]["labels"]);
    if !selector::is_empty(selector) && !selector::matches(selector, labels) {
        report.invalid("spec.template.metadata.labels", shown(labels), MISMATCH);
    }
    pod::template(report, "spec.template", &spec["template"]);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    // An unknown policy was spoken of already.
    if ["Always", "OnFailure", "Never"].contains(&text(policy)) {
        report.one_of("spec.template.spec.restartPolicy", policy, restart);
    }
    if !spec["template"]["spec"]["activeDeadlineSeconds"].is_null() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        report.forbid("spec.template.spec.activeDeadlineSeconds", why);
    }
}

fn deployment(report: &mut Report, spec: &Value) {
    report.not_negative("spec.replicas", &spec["replicas"]);
    let before = report.errors.len();
    let sound = checked_selector(
        report,
        &spec["selector"],
        "empty selector is invalid for deployment",
    );
    if sound {
        template(report, spec, &["Always"]);
    } else if report.errors.len() > before {
        report.invalid(
            "spec.selector",
            spec["selector"].clone(),
            "invalid label selector",
        );
    }
    let strategy = &spec["strategy"];
    let rolling = &strategy["rollingUpdate"];
    match text(&strategy["type"]) {
        "Recreate" if !rolling.is_null() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            report.forbid("spec.strategy.rollingUpdate", why);
        }
        "Recreate" => {}
        "RollingUpdate" if rolling.is_null() => {
            report.require(
                "spec.strategy.rollingUpdate",
                "this should be defaulted and never be nil",
            );
        }
        "RollingUpdate" => self::rolling(report, "spec.strategy.rollingUpdate", rolling),
        other => {
            let value = json!({"Type": other, "RollingUpdate": null});
            report.errors.push(FieldError::not_supported(
                "spec.strategy",
                value,
                &["Recreate", "RollingUpdate"],
            ));
        }
    }
    report.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
    report.not_negative("spec.revisionHistoryLimit", &spec["revisionHistoryLimit"]);
    if let Some(deadline) = spec["progressDeadlineSeconds"].as_i64() {
        report.not_negative(
            "spec.progressDeadlineSeconds",
            &spec["progressDeadlineSeconds"],
        );
        if deadline <= number(&spec["minReadySeconds"]) {
            report.invalid(
                "spec.progressDeadlineSeconds",
                deadline,
                "must be greater than minReadySeconds",
            );
        }
    }
}

fn is_zero(amount: &Value) -> bool {
    match amount {
        Value::String(percent) => percent
            .trim_end_matches('%')
            .bytes()
            .all(|digit| digit == b'0'),
        other => number(other) == 0,
    }
}

fn rolling(report: &mut Report, path: &str, rolling: &Value) {
    let (down, up) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
    report.amount_or_percent(&format!("{path}.maxUnavailable"), down);
    report.amount_or_percent(&format!("{path}.maxSurge"), up);
    if is_zero(down) && is_zero(up) {
        report.invalid(
            format!("{path}.maxUnavailable"),
            down.clone(),
            "may not be 0 when `maxSurge` is 0",
        );
    }
    if let Some(percent) = down
        .as_str()
        .and_then(|text| text.strip_suffix('%')?.parse::<u64>().ok())
        && percent > 100
    {
        report.invalid(
            format!("{path}.maxUnavailable"),
            down.clone(),
            "must not be greater than 100%",
        );
    }
}

fn replication_controller(report: &mut Report, spec: &Value) {
    report.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
    let selector = &spec["selector"];
    if selector.as_object().is_none_or(Map::is_empty) {
        report.require("spec.selector", "");
    }
    report.not_negative("spec.replicas", &spec["replicas"]);
    if !spec["template"].is_object() {
        report.require("spec.template", "");
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let matches = selector
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    if !matches {
        report.invalid("spec.template.metadata.labels", shown(labels), MISMATCH);
    }
    pod::template(report, "spec.template", &spec["template"]);
    report.one_of(
        "spec.template.spec.restartPolicy",
        &spec["template"]["spec"]["restartPolicy"],
        &["Always"],
    );
}

fn daemon_set(report: &mut Report, spec: &Value) {
    let selector = &spec["selector"];
    selector::check(report, "spec.selector", selector);
    let labels = &spec["template"]["metadata"]["labels"];
    if !selector::is_empty(selector) && !selector::matches(selector, labels) {
        report.invalid("spec.template.metadata.labels", shown(labels), MISMATCH);
    }
    if selector::is_empty(selector) {
        report.invalid(
            "spec.selector",
            selector.clone(),
            "empty selector is invalid for daemonset",
        );
    }
    pod::template(report, "spec.template", &spec["template"]);
    report.one_of(
        "spec.template.spec.restartPolicy",
        &spec["template"]["spec"]["restartPolicy"],
        &["Always"],
    );
    report.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
    let strategy = &spec["updateStrategy"];
    match text(&strategy["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = "spec.updateStrategy.rollingUpdate";
            let (down, up) = (
                &strategy["rollingUpdate"]["maxUnavailable"],
                &strategy["rollingUpdate"]["maxSurge"],
            );
            report.amount_or_percent(&format!("{path}.maxUnavailable"), down);
            report.amount_or_percent(&format!("{path}.maxSurge"), up);
            match (is_zero(down), is_zero(up)) {
                (false, false) => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    report.invalid(format!("{path}.maxSurge"), up.clone(), why);
                }
                (true, true) => {
                    let why = "cannot be 0 when maxSurge is 0";
                    report.invalid(format!("{path}.maxUnavailable"), down.clone(), why);
                }
                _ => {}
            }
        }
        other => {
            let value = json!({"Type": other, "RollingUpdate": null});
            let supported = ["RollingUpdate", "OnDelete"];
            report.errors.push(FieldError::not_supported(
                "spec.updateStrategy",
                value,
                &supported,
            ));
        }
    }
    report.not_negative("spec.revisionHistoryLimit", &spec["revisionHistoryLimit"]);
}

fn stateful_set(report: &mut Report, spec: &Value) {
    let policy = text(&spec["podManagementPolicy"]);
    if !matches!(policy, "OrderedReady" | "Parallel") {
        report.invalid(
            "spec.podManagementPolicy",
            policy,
            "must be 'OrderedReady' or 'Parallel'",
        );
    }
    let strategy = &spec["updateStrategy"];
    match text(&strategy["type"]) {
        "OnDelete" if !strategy["rollingUpdate"].is_null() => {
            let value = strategy["rollingUpdate"].clone();
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            report.invalid("spec.updateStrategy.rollingUpdate", value, why);
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let partition = &strategy["rollingUpdate"]["partition"];
            report.not_negative("spec.updateStrategy.rollingUpdate.partition", partition);
        }
        other => {
            let value = json!({"Type": other, "RollingUpdate": null});
            report.invalid(
                "spec.updateStrategy",
                value,
                "must be 'RollingUpdate' or 'OnDelete'",
            );
        }
    }
    for when in ["whenDeleted", "whenScaled"] {
        let policy = &spec["persistentVolumeClaimRetentionPolicy"][when];
        let path = format!("spec.persistentVolumeClaimRetentionPolicy.{when}");
        report.maybe_one_of(path, policy, &["Retain", "Delete"]);
    }
    report.not_negative("spec.replicas", &spec["replicas"]);
    report.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
    let service = text(&spec["serviceName"]);
    if let Some(why) = names::label(service).filter(|_| !service.is_empty()) {
        report.invalid("spec.serviceName", service, why);
    }
    if checked_selector(
        report,
        &spec["selector"],
        "empty selector is invalid for statefulset",
    ) {
        template_of_set(report, spec);
    }
    report.not_negative("spec.revisionHistoryLimit", &spec["revisionHistoryLimit"]);
}

fn template_of_set(report: &mut Report, spec: &Value) {
    let (selector, labels) = (&spec["selector"], &spec["template"]["metadata"]["labels"]);
    if !selector::is_empty(selector) && !selector::matches(selector, labels) {
        report.invalid("spec.template.metadata.labels", shown(labels), MISMATCH);
    }
    // Claims of the set are volumes of its pods.
    let mut template = spec["template"].clone();
    let claims = items(&spec["volumeClaimTemplates"]);
    if let Some(pod) = template["spec"]
        .as_object_mut()
        .filter(|_| !claims.is_empty())
    {
        let volumes = pod.entry("volumes").or_insert(Value::Null);
        if volumes.is_null() {
            *volumes = json!([]);
        }
        if let Some(volumes) = volumes.as_array_mut() {
            for claim in claims {
                let name = &claim["metadata"]["name"];
                volumes.retain(|volume| volume["name"] != *name);
                volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
            }
        }
    }
    pod::template(report, "spec.template", &template);
    report.one_of(
        "spec.template.spec.restartPolicy",
        &spec["template"]["spec"]["restartPolicy"],
        &["Always"],
    );
}

/// A selector that the server makes must be as the server makes it.
fn generated_selector(report: &mut Report, object: &Value) {
    let spec = &object["spec"];
    if !spec["selector"].is_object() {
        report.require("spec.selector", "");
        return;
    }
    if spec["manualSelector"] == true {
        return;
    }
    let uid = &object["metadata"]["uid"];
    let expected = ["batch.kubernetes.io/controller-uid", "controller-uid"]
        .map(|label| json!({"matchLabels": {label: uid}}));
    if !expected.contains(&spec["selector"]) {
        report.invalid(
            "spec.selector",
            spec["selector"].clone(),
            "`selector` not auto-generated",
        );
    }
}

fn job(report: &mut Report, path: &str, spec: &Value) {
    let fields = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for field in fields {
        report.not_negative(format!("{path}.{field}"), &spec[field]);
    }
    match text(&spec["completionMode"]) {
        "Indexed" if spec["completions"].is_null() => {
            report.require(
                format!("{path}.completions"),
                "when completion mode is Indexed",
            );
        }
        "" | "Indexed" | "NonIndexed" => {}
        _ => report.one_of(
            format!("{path}.completionMode"),
            &spec["completionMode"],
            &["Indexed", "NonIndexed"],
        ),
    }
    let replacement = ["Failed", "TerminatingOrFailed"];
    report.maybe_one_of(
        format!("{path}.podReplacementPolicy"),
        &spec["podReplacementPolicy"],
        &replacement,
    );
    pod::template(report, &format!("{path}.template"), &spec["template"]);
    let restart = &spec["template"]["spec"]["restartPolicy"];
    let at = format!("{path}.template.spec.restartPolicy");
    match text(restart) {
        "OnFailure" | "Never" => {}
        // Upstream takes the default for what nobody said.
        "" | "Always" => report.require(at, "valid values: \"OnFailure\", \"Never\""),
        _ => report.one_of(at, restart, &["OnFailure", "Never"]),
    }
}

fn cron_job(report: &mut Report, spec: &Value) {
    let schedule = text(&spec["schedule"]);
    if schedule.is_empty() {
        report.require("spec.schedule", "");
    } else {
        if let Some(why) = super::schedule::wrong(schedule) {
            report.invalid("spec.schedule", schedule, why);
        }
        if schedule.contains("TZ") {
            let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            report.invalid("spec.schedule", schedule, why);
        }
    }
    report.not_negative(
        "spec.startingDeadlineSeconds",
        &spec["startingDeadlineSeconds"],
    );
    if let Some(zone) = spec["timeZone"].as_str() {
        if zone.is_empty() {
            report.invalid(
                "spec.timeZone",
                zone,
                "timeZone must be nil or non-empty string",
            );
        } else if zone.eq_ignore_ascii_case("local") {
            let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
            report.invalid("spec.timeZone", zone, why);
        } else if jiff::tz::TimeZone::get(zone).is_err() {
            report.invalid("spec.timeZone", zone, format!("unknown time zone {zone}"));
        }
    }
    report.one_of(
        "spec.concurrencyPolicy",
        &spec["concurrencyPolicy"],
        &["Allow", "Forbid", "Replace"],
    );
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        report.not_negative(format!("spec.{field}"), &spec[field]);
    }
    let template = &spec["jobTemplate"]["spec"];
    if template["manualSelector"] == true {
        let supported = ["nil", "false"];
        let value = Value::from(true);
        report.errors.push(FieldError::not_supported(
            "spec.jobTemplate.spec.manualSelector",
            value,
            &supported,
        ));
    }
    job(report, "spec.jobTemplate.spec", template);
}
