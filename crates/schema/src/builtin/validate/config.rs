//! Config maps, secrets, leases, events and other small things.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Report, names, number};
use crate::builtin::Kind;
use crate::builtin::edit::text;
use crate::builtin::quantity;
use crate::field_error::{FieldError, Kind as Wrong};

/// What a config map or a secret may hold: 1 MiB (core: MaxSecretSize).
const MAX_BYTES: usize = 1024 * 1024;

const FROZEN: &str = "field is immutable when `immutable` is set";

fn too_long(path: &str, most: usize) -> FieldError {
    let detail = format!("may not be more than {most} bytes");
    FieldError {
        path: path.to_owned(),
        kind: Wrong::TooLong,
        value: None,
        detail,
    }
}

/// Bytes of base64 text.
fn decoded_size(value: &Value) -> usize {
    let text = text(value).trim_end_matches('=');
    text.len() * 3 / 4
}

pub(super) fn map(report: &mut Report, object: &Value) {
    let mut size = 0;
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        let path = format!("data[{key}]");
        if let Some(why) = names::config_key(key) {
            report.invalid(path.as_str(), key.as_str(), why);
        }
        if object["binaryData"].get(key).is_some() {
            report.invalid(path, key.as_str(), "duplicate of key present in binaryData");
        }
        size += text(value).len();
    }
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        if let Some(why) = names::config_key(key) {
            report.invalid(format!("binaryData[{key}]"), key.as_str(), why);
        }
        size += decoded_size(value);
    }
    if size > MAX_BYTES {
        report.errors.push(too_long("", MAX_BYTES));
    }
}

pub(super) fn map_update(report: &mut Report, new: &Value, old: &Value) {
    frozen(report, new, old, &["data", "binaryData"]);
}

/// What is immutable stays so, with all that it holds.
fn frozen(report: &mut Report, new: &Value, old: &Value, fields: &[&str]) {
    if old["immutable"] != true {
        return;
    }
    if new["immutable"] != true {
        report.forbid("immutable", FROZEN);
    }
    for field in fields {
        if new[*field] != old[*field] {
            report.forbid(*field, FROZEN);
        }
    }
}

pub(super) fn secret(report: &mut Report, object: &Value) {
    let data = &object["data"];
    let mut size = 0;
    for (key, value) in data.as_object().into_iter().flatten() {
        if let Some(why) = names::config_key(key) {
            report.invalid(format!("data[{key}]"), key.as_str(), why);
        }
        size += decoded_size(value);
    }
    if size > MAX_BYTES {
        report.errors.push(too_long("data", MAX_BYTES));
    }
    let has = |key: &str| data.get(key).is_some();
    match text(&object["type"]) {
        "kubernetes.io/service-account-token" => {
            let name = &object["metadata"]["annotations"]["kubernetes.io/service-account.name"];
            report.filled(
                "metadata.annotations[kubernetes.io/service-account.name]",
                name,
            );
        }
        "kubernetes.io/dockercfg" => json_key(report, data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json_key(report, data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            report.require("data[username]", "");
            report.require("data[password]", "");
        }
        "kubernetes.io/ssh-auth" if text(&data["ssh-privatekey"]).is_empty() => {
            report.require("data[ssh-privatekey]", "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !has(key) {
                    report.require(format!("data[{key}]"), "");
                }
            }
        }
        _ => {}
    }
}

fn json_key(report: &mut Report, data: &Value, key: &str) {
    let path = format!("data[{key}]");
    let Some(encoded) = data[key].as_str() else {
        report.require(path, "");
        return;
    };
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    if serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes).is_err() {
        let why = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(byte) if !b"{[\"-0123456789tfn".contains(byte) => {
                format!(
                    "invalid character '{}' looking for beginning of value",
                    char::from(*byte)
                )
            }
            _ => "unexpected end of JSON input".to_owned(),
        };
        report.invalid(path, "<secret contents redacted>", why);
    }
}

pub(super) fn secret_update(report: &mut Report, new: &Value, old: &Value) {
    report.same("type", &new["type"], &old["type"]);
    frozen(report, new, old, &["data"]);
}

pub(super) fn lease(report: &mut Report, spec: &Value) {
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64()
        && seconds <= 0
    {
        report.invalid(
            "spec.leaseDurationSeconds",
            seconds,
            "must be greater than 0",
        );
    }
    report.not_negative("spec.leaseTransitions", &spec["leaseTransitions"]);
}

/// Events of the core group are hardly checked; those of `events.k8s.io` are.
pub(super) fn event(report: &mut Report, kind: &Kind, object: &Value) {
    let core = kind.group.is_empty();
    let namespace = text(&object["metadata"]["namespace"]);
    let target = &object[if core { "involvedObject" } else { "regarding" }];
    let of = text(&target["namespace"]);
    let fits = if of.is_empty() {
        matches!(namespace, "" | "default" | "kube-system")
    } else {
        of == namespace
    };
    if !fits {
        report.invalid(
            "involvedObject.namespace",
            of,
            "does not match event.namespace",
        );
    }
    if core {
        return;
    }
    if object["eventTime"].is_null() {
        report.require("eventTime", "");
        let kind = text(&object["type"]);
        if !matches!(kind, "Normal" | "Warning") {
            report.invalid("type", kind, format!("has invalid value: {kind}"));
        }
        return;
    }
    let controller = text(&object["reportingController"]);
    if let Some(why) = names::qualified(controller) {
        report.invalid("reportingController", controller, why);
        if controller.is_empty() {
            // Upstream says so three times.
            let at = report.errors.len() - 1;
            report
                .errors
                .insert(at, FieldError::required("reportingController", ""));
            report.invalid("reportingController", controller, names::NAME_PART);
        }
    }
    report.filled("reportingInstance", &object["reportingInstance"]);
    report.filled("action", &object["action"]);
    report.filled("reason", &object["reason"]);
    let kind = text(&object["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        report.invalid("type", kind, format!("has invalid value: {kind}"));
    }
    for (field, most) in [
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
        ("note", 1024),
    ] {
        if text(&object[field]).len() > most {
            let path = if field == "note" { "message" } else { field };
            report.invalid(path, "", format!("can have at most {most} characters"));
        }
    }
}

/// Quotas that have no group of their own.
const QUOTAS: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

/// Quotas that count objects.
const COUNTS: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

pub(super) fn quota(report: &mut Report, spec: &Value) {
    for (name, amount) in spec["hard"].as_object().into_iter().flatten() {
        let path = format!("spec.hard[{name}]");
        if let Some(why) = names::qualified(name) {
            report.invalid(path.as_str(), name.as_str(), why);
        }
        let own = name.contains('/')
            || name.starts_with("hugepages-")
            || name.starts_with("requests.hugepages-");
        if !own && !QUOTAS.contains(&name.as_str()) {
            report.invalid(
                path.as_str(),
                name.as_str(),
                "must be a standard resource for quota",
            );
        }
        let nanos = quantity::nanos(text(amount)).unwrap_or(0);
        if nanos < 0 {
            report.invalid(path.as_str(), amount.clone(), super::NOT_NEGATIVE);
        }
        if COUNTS.contains(&name.as_str()) && nanos % 1_000_000_000 != 0 {
            report.invalid(path, amount.clone(), "must be an integer");
        }
    }
}

/// Priorities above belong to the system.
const MAX_PRIORITY: i64 = 1_000_000_000;

pub(super) fn priority(report: &mut Report, object: &Value) {
    let name = text(&object["metadata"]["name"]);
    if name.starts_with("system-") {
        let known = matches!(
            (name, number(&object["value"])),
            ("system-node-critical", 2_000_001_000) | ("system-cluster-critical", 2_000_000_000)
        );
        if !known {
            let why = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            report.forbid(
                "metadata.name",
                format!("{why}{name} is not a known system priority class"),
            );
        }
    } else if number(&object["value"]) > MAX_PRIORITY {
        let why = format!("maximum allowed value of a user defined priority is {MAX_PRIORITY}");
        report.forbid("value", why);
    }
    let policies = ["Never", "PreemptLowerPriority"];
    report.maybe_one_of("preemptionPolicy", &object["preemptionPolicy"], &policies);
}
