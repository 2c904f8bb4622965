//! Pods, and templates of them.

use serde_json::{Value, json};

use super::{Report, names, number, selector, storage};
use crate::builtin::edit::{items, text};
use crate::builtin::quantity;

/// A template: labels and the pod.
pub(super) fn template(report: &mut Report, path: &str, template: &Value) {
    selector::labels(
        report,
        &format!("{path}.labels"),
        &template["metadata"]["labels"],
    );
    spec(report, &format!("{path}.spec"), &template["spec"]);
}

/// The spec of a pod.
pub(super) fn spec(report: &mut Report, path: &str, spec: &Value) {
    let volumes = self::volumes(report, &format!("{path}.volumes"), &spec["volumes"]);
    let list = format!("{path}.containers");
    if items(&spec["containers"]).is_empty() {
        report.require(list.as_str(), "");
    }
    let mut seen = Vec::new();
    for (kind, init) in [("containers", false), ("initContainers", true)] {
        for (index, one) in items(&spec[kind]).iter().enumerate() {
            let path = format!("{path}.{kind}[{index}]");
            container(report, &path, one, &volumes);
            let name = text(&one["name"]);
            if !name.is_empty() && seen.contains(&name) {
                report.twice(format!("{path}.name"), name);
            }
            seen.push(name);
            probes(report, &path, one, init);
        }
    }
    report.one_of(
        format!("{path}.restartPolicy"),
        &spec["restartPolicy"],
        &["Always", "OnFailure", "Never"],
    );
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    report.one_of(format!("{path}.dnsPolicy"), &spec["dnsPolicy"], &dns);
    selector::labels(
        report,
        &format!("{path}.nodeSelector"),
        &spec["nodeSelector"],
    );
    let account = text(&spec["serviceAccountName"]);
    if let Some(why) = names::subdomain(account).filter(|_| !account.is_empty()) {
        report.invalid(format!("{path}.serviceAccountName"), account, why);
    }
    for field in ["hostname", "subdomain"] {
        let name = text(&spec[field]);
        if let Some(why) = names::label(name).filter(|_| !name.is_empty()) {
            report.invalid(format!("{path}.{field}"), name, why);
        }
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64()
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let why = "must be between 1 and 2147483647, inclusive";
        report.invalid(format!("{path}.activeDeadlineSeconds"), seconds, why);
    }
    for (index, toleration) in items(&spec["tolerations"]).iter().enumerate() {
        self::toleration(report, &format!("{path}.tolerations[{index}]"), toleration);
    }
}

fn toleration(report: &mut Report, path: &str, toleration: &Value) {
    let (key, operator) = (text(&toleration["key"]), text(&toleration["operator"]));
    let at = format!("{path}.operator");
    if key.is_empty() {
        if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            report.invalid(at.as_str(), operator, why);
        }
    } else if let Some(why) = names::qualified(key) {
        report.invalid(format!("{path}.key"), key, why);
    }
    match operator {
        "" | "Equal" => {}
        "Exists" => {
            let value = text(&toleration["value"]);
            if !value.is_empty() {
                report.invalid(at, value, "value must be empty when `operator` is 'Exists'");
            }
        }
        _ => report.one_of(at, &toleration["operator"], &["Equal", "Exists"]),
    }
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !text(&toleration["effect"]).is_empty() {
        report.one_of(format!("{path}.effect"), &toleration["effect"], &effects);
    }
}

/// Checks volumes; the answer is the names of those that containers may mount.
fn volumes<'v>(report: &mut Report, path: &str, volumes: &'v Value) -> Vec<&'v str> {
    let mut seen: Vec<&str> = Vec::new();
    let mut sound: Vec<&str> = Vec::new();
    for (index, volume) in items(volumes).iter().enumerate() {
        let path = format!("{path}[{index}]");
        let before = report.errors.len();
        storage::volume_source(report, &path, volume, "volume type");
        let name = text(&volume["name"]);
        report.name(format!("{path}.name"), &volume["name"], names::label);
        if seen.contains(&name) && !name.is_empty() {
            report.twice(format!("{path}.name"), name);
        }
        seen.push(name);
        if report.errors.len() == before {
            sound.push(name);
        }
    }
    sound
}

fn container(report: &mut Report, path: &str, container: &Value, volumes: &[&str]) {
    report.name(format!("{path}.name"), &container["name"], names::label);
    report.filled(format!("{path}.image"), &container["image"]);
    ports(report, &format!("{path}.ports"), &container["ports"]);
    for (index, variable) in items(&container["env"]).iter().enumerate() {
        self::variable(report, &format!("{path}.env[{index}]"), variable);
    }
    for (index, source) in items(&container["envFrom"]).iter().enumerate() {
        env_from(report, &format!("{path}.envFrom"), index, source);
    }
    mounts(
        report,
        &format!("{path}.volumeMounts"),
        &container["volumeMounts"],
        volumes,
    );
    let policies = ["Always", "IfNotPresent", "Never"];
    report.one_of(
        format!("{path}.imagePullPolicy"),
        &container["imagePullPolicy"],
        &policies,
    );
    resources(
        report,
        &format!("{path}.resources"),
        &container["resources"],
    );
    let messages = ["FallbackToLogsOnError", "File"];
    report.maybe_one_of(
        format!("{path}.terminationMessagePolicy"),
        &container["terminationMessagePolicy"],
        &messages,
    );
}

fn ports(report: &mut Report, path: &str, ports: &Value) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in items(ports).iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = text(&port["name"]);
        if !name.is_empty() {
            match names::port(name) {
                Some(why) => report.invalid(format!("{path}.name"), name, why),
                None if seen.contains(&name) => report.twice(format!("{path}.name"), name),
                None => seen.push(name),
            }
        }
        match number(&port["containerPort"]) {
            0 => report.require(format!("{path}.containerPort"), ""),
            _ => report.port(format!("{path}.containerPort"), &port["containerPort"]),
        }
        if number(&port["hostPort"]) != 0 {
            report.port(format!("{path}.hostPort"), &port["hostPort"]);
        }
        report.one_of(
            format!("{path}.protocol"),
            &port["protocol"],
            &["SCTP", "TCP", "UDP"],
        );
    }
}

fn variable(report: &mut Report, path: &str, variable: &Value) {
    report.name(format!("{path}.name"), &variable["name"], names::variable);
    let source = &variable["valueFrom"];
    let Value::Object(sources) = source else {
        return;
    };
    let path = format!("{path}.valueFrom");
    if sources.is_empty() {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        report.invalid(path.as_str(), "", why);
    }
    if let Value::Object(_) = &source["fieldRef"] {
        report.filled(
            format!("{path}.fieldRef.fieldPath"),
            &source["fieldRef"]["fieldPath"],
        );
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        if source[name].is_object() {
            let key = format!("{path}.{name}.key");
            report.name(key, &source[name]["key"], names::config_key);
        }
    }
    if !text(&variable["value"]).is_empty() {
        report.invalid(
            path.as_str(),
            "",
            "may not be specified when `value` is not empty",
        );
    }
    if sources.len() > 1 {
        report.invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        );
    }
}

fn env_from(report: &mut Report, list: &str, index: usize, source: &Value) {
    let refs = ["configMapRef", "secretRef"];
    match refs
        .iter()
        .filter(|name| source[**name].is_object())
        .count()
    {
        0 => report.invalid(
            list,
            "",
            "must specify one of: `configMapRef` or `secretRef`",
        ),
        1 => {}
        _ => report.invalid(
            list,
            "",
            "may not have more than one field specified at a time",
        ),
    }
    for name in refs {
        if source[name].is_object() {
            report.filled(
                format!("{list}[{index}].{name}.name"),
                &source[name]["name"],
            );
        }
    }
}

fn mounts(report: &mut Report, list: &str, mounts: &Value, volumes: &[&str]) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, mount) in items(mounts).iter().enumerate() {
        let path = format!("{list}[{index}]");
        let name = text(&mount["name"]);
        if name.is_empty() {
            report.require(format!("{path}.name"), "");
        } else if !volumes.contains(&name) {
            report.not_found(format!("{path}.name"), name);
        }
        let at = text(&mount["mountPath"]);
        if at.is_empty() {
            report.require(format!("{path}.mountPath"), "");
        }
        if seen.contains(&at) {
            report.invalid(format!("{path}.mountPath"), at, "must be unique");
        }
        seen.push(at);
        let below = text(&mount["subPath"]);
        // Upstream leaves out the index here.
        if below.starts_with('/') {
            report.invalid(format!("{list}.subPath"), below, "must be a relative path");
        }
        if below.split('/').any(|part| part == "..") {
            report.invalid(format!("{list}.subPath"), below, "must not contain '..'");
        }
    }
}

fn resources(report: &mut Report, path: &str, resources: &Value) {
    for side in ["limits", "requests"] {
        for (name, amount) in resources[side].as_object().into_iter().flatten() {
            let at = format!("{path}.{side}[{name}]");
            if let Some(why) = names::qualified(name) {
                report.invalid(at.as_str(), name.as_str(), why);
            }
            if quantity::nanos(text(amount)).is_some_and(|amount| amount < 0) {
                report.invalid(at, amount.clone(), super::NOT_NEGATIVE);
            }
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = &resources["limits"][name.as_str()];
        if let (Some(asked), Some(most)) =
            (quantity::nanos(text(request)), quantity::nanos(text(limit)))
            && asked > most
        {
            let why = format!(
                "must be less than or equal to {name} limit of {}",
                text(limit)
            );
            report.invalid(format!("{path}.requests"), request.clone(), why);
        }
    }
}

fn probes(report: &mut Report, path: &str, container: &Value, init: bool) {
    let sidecar = container["restartPolicy"] == "Always";
    if let Value::Object(lifecycle) = &container["lifecycle"] {
        for (name, handler) in lifecycle {
            if handler.is_object() {
                self::handler(
                    report,
                    &format!("{path}.lifecycle.{name}"),
                    handler,
                    &["exec", "httpGet", "tcpSocket", "sleep"],
                );
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &container[name];
        if !probe.is_object() {
            continue;
        }
        let path = format!("{path}.{name}");
        if init && !sidecar {
            report.forbid(
                path,
                "may not be set for init containers without restartPolicy=Always",
            );
            continue;
        }
        self::handler(
            report,
            &path,
            probe,
            &["exec", "httpGet", "tcpSocket", "grpc"],
        );
        let fields = [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ];
        for field in fields {
            report.not_negative(format!("{path}.{field}"), &probe[field]);
        }
        if name != "readinessProbe" && number(&probe["successThreshold"]) != 1 {
            report.invalid(
                format!("{path}.successThreshold"),
                number(&probe["successThreshold"]),
                "must be 1",
            );
        }
    }
}

fn handler(report: &mut Report, path: &str, handler: &Value, kinds: &[&str]) {
    let mut seen = 0;
    for kind in kinds
        .iter()
        .copied()
        .filter(|kind| handler[*kind].is_object())
    {
        let path = format!("{path}.{kind}");
        seen += 1;
        if seen > 1 {
            report.forbid(path, "may not specify more than 1 handler type");
            continue;
        }
        let action = &handler[kind];
        match kind {
            "exec" if items(&action["command"]).is_empty() => {
                report.require(format!("{path}.command"), "");
            }
            "httpGet" => {
                report.filled(format!("{path}.path"), &action["path"]);
                report.port_or_name(format!("{path}.port"), &action["port"]);
                report.one_of(
                    format!("{path}.scheme"),
                    &action["scheme"],
                    &["HTTP", "HTTPS"],
                );
            }
            "tcpSocket" => report.port_or_name(format!("{path}.port"), &action["port"]),
            "grpc" => report.port(format!("{path}.port"), &action["port"]),
            _ => {}
        }
    }
    if seen == 0 {
        report.require(path, "must specify a handler type");
    }
}

/// What may change in a pod: images, a deadline, and more tolerations.
pub(super) fn update(report: &mut Report, new: &Value, old: &Value) {
    for list in ["containers", "initContainers"] {
        if items(&new[list]).len() != items(&old[list]).len() {
            report.forbid(
                format!("spec.{list}"),
                "pod updates may not add or remove containers",
            );
            return;
        }
    }
    let mut munged = new.clone();
    for list in ["containers", "initContainers"] {
        for (index, container) in items(&old[list]).iter().enumerate() {
            munged[list][index]["image"] = container["image"].clone();
        }
    }
    let (before, after) = (items(&old["tolerations"]), items(&new["tolerations"]));
    let kept = before.iter().all(|toleration| after.contains(toleration));
    let mut free = vec!["activeDeadlineSeconds"];
    if kept {
        free.push("tolerations");
    }
    if number(&old["terminationGracePeriodSeconds"]) < 0
        && new["terminationGracePeriodSeconds"] == 1
    {
        free.push("terminationGracePeriodSeconds");
    }
    if !items(&old["schedulingGates"]).is_empty() {
        // A gated pod may still be told where to go.
        free.extend(["schedulingGates", "nodeSelector", "affinity"]);
    }
    for field in free {
        munged[field] = old[field].clone();
    }
    // Absent and null are one.
    let bare = |value: &Value| {
        let mut fields = value.as_object().cloned().unwrap_or_default();
        fields.retain(|_, value| !value.is_null());
        json!(fields)
    };
    if bare(&munged) != bare(old) {
        report.forbid(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        );
    }
}
