//! What is wrong with objects beyond their types, in the words and paths of a real server.

mod access;
mod admission;
mod config;
mod names;
mod network;
mod pod;
mod replaced;
mod scaling;
mod schedule;
mod selector;
mod storage;
mod workload;

use serde_json::Value;

use super::Kind;
use super::edit::{items, text};
use crate::field_error::{FieldError, Kind as Wrong};

pub(super) fn name(kind: &Kind, name: &str) -> Vec<FieldError> {
    let why = match (kind.group, kind.kind) {
        ("rbac.authorization.k8s.io", _) => names::path_segment(name),
        (_, "Namespace" | "Service") => names::label(name),
        (_, "CronJob") if name.len() > 52 => Some("must be no more than 52 characters".to_owned()),
        _ => names::subdomain(name),
    };
    why.map(|why| FieldError::invalid("metadata.name", name, why))
        .into_iter()
        .collect()
}

pub(super) fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut report = Report::default();
    let spec = &object["spec"];
    match kind.kind {
        "Pod" => pod::spec(&mut report, "spec", spec),
        "PodTemplate" => pod::template(&mut report, "template", &object["template"]),
        "ReplicationController"
        | "ReplicaSet"
        | "Deployment"
        | "DaemonSet"
        | "StatefulSet"
        | "Job"
        | "CronJob" => {
            workload::create(&mut report, kind.kind, object);
        }
        "HorizontalPodAutoscaler" => scaling::autoscaler(&mut report, spec),
        "PodDisruptionBudget" => scaling::disruption_budget(&mut report, spec),
        "ControllerRevision" if number(&object["revision"]) < 0 => {
            report.not_negative("revision", &object["revision"]);
        }
        "ConfigMap" => config::map(&mut report, object),
        "Secret" => config::secret(&mut report, object),
        "Lease" => config::lease(&mut report, spec),
        "Event" => config::event(&mut report, kind, object),
        "ResourceQuota" => config::quota(&mut report, spec),
        "PriorityClass" => config::priority(&mut report, object),
        "RuntimeClass" => {
            let path = "handler";
            report.name(path, &object["handler"], names::label);
        }
        "Service" => network::service(&mut report, spec),
        "Endpoints" => network::endpoints(&mut report, object),
        "EndpointSlice" => network::endpoint_slice(&mut report, object),
        "NetworkPolicy" => network::policy(&mut report, spec),
        "Ingress" => network::ingress(&mut report, spec),
        "Role" | "ClusterRole" => access::role(&mut report, kind.namespaced, object),
        "RoleBinding" | "ClusterRoleBinding" => {
            access::binding(&mut report, kind.namespaced, object);
        }
        "CertificateSigningRequest" => access::signing_request(&mut report, spec),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            admission::webhooks(&mut report, object);
        }
        "ValidatingAdmissionPolicy" => admission::policy(&mut report, spec),
        "ValidatingAdmissionPolicyBinding" => admission::binding(&mut report, spec),
        "PersistentVolumeClaim" => storage::claim(&mut report, "spec", spec),
        "PersistentVolume" => storage::volume(&mut report, spec),
        "StorageClass" => storage::class(&mut report, object),
        "VolumeAttributesClass" => report.filled("driverName", &object["driverName"]),
        _ => {}
    }
    report.errors
}

pub(super) fn update(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut report = Report::default();
    let (spec, before) = (&new["spec"], &old["spec"]);
    match kind.kind {
        "ConfigMap" => config::map_update(&mut report, new, old),
        "Secret" => config::secret_update(&mut report, new, old),
        "Pod" => pod::update(&mut report, spec, before),
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" | "Job"
        | "ControllerRevision" => {
            replaced::update(&mut report, kind.kind, new, old);
        }
        "Service" => network::service_update(&mut report, spec, before),
        "EndpointSlice" => report.same("addressType", &new["addressType"], &old["addressType"]),
        "IngressClass" => report.same(
            "spec.controller",
            &spec["controller"],
            &before["controller"],
        ),
        "RoleBinding" | "ClusterRoleBinding" => access::binding_update(&mut report, new, old),
        "PersistentVolumeClaim" => storage::claim_update(&mut report, new, old),
        "PersistentVolume" => storage::volume_update(&mut report, spec, before),
        "StorageClass" => {
            for field in [
                "parameters",
                "provisioner",
                "reclaimPolicy",
                "volumeBindingMode",
            ] {
                report.same(field, &new[field], &old[field]);
            }
        }
        "VolumeAttributesClass" => {
            for field in ["driverName", "parameters"] {
                if new[field] != old[field] {
                    report.forbid(field, format!("updates to {field} are forbidden."));
                }
            }
        }
        "VolumeAttachment" => report.same("spec", spec, before),
        // Upstream's path has one letter more than its field.
        "CSIDriver" => report.same(
            "spec.attachedRequired",
            &spec["attachRequired"],
            &before["attachRequired"],
        ),
        "RuntimeClass" => report.same("handler", &new["handler"], &old["handler"]),
        "PriorityClass" => {
            if new["value"] != old["value"] {
                report.forbid("value", "may not be changed in an update.");
            }
            report.same(
                "preemptionPolicy",
                &new["preemptionPolicy"],
                &old["preemptionPolicy"],
            );
        }
        "Node" => {
            for (field, path) in [
                ("podCIDR", "spec.podCIDRs"),
                ("providerID", "spec.providerID"),
            ] {
                if !text(&before[field]).is_empty() && spec[field] != before[field] {
                    let why =
                        format!("node updates may not change {field} except from \"\" to valid");
                    report.forbid(path, why);
                }
            }
        }
        _ => {}
    }
    report.errors.extend(create(kind, new));
    report.errors
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const IMMUTABLE: &str = "field is immutable";

/// What was found so far.
#[derive(Default)]
struct Report {
    errors: Vec<FieldError>,
}

impl Report {
    fn invalid(
        &mut self,
        path: impl Into<String>,
        value: impl Into<Value>,
        why: impl Into<String>,
    ) {
        self.errors.push(FieldError::invalid(path, value, why));
    }

    fn require(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.errors.push(FieldError::required(path, why));
    }

    fn forbid(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.errors.push(FieldError::forbidden(path, why));
    }

    fn twice(&mut self, path: impl Into<String>, value: impl Into<Value>) {
        self.errors.push(FieldError::duplicate(path, value));
    }

    fn not_found(&mut self, path: impl Into<String>, value: impl Into<Value>) {
        self.errors.push(FieldError::with_value(
            Wrong::NotFound,
            path,
            value.into(),
            "",
        ));
    }

    /// The text must be one of `supported`, as listed.
    fn one_of(&mut self, path: impl Into<String>, value: &Value, supported: &[&str]) {
        let given = text(value);
        if !supported.contains(&given) {
            self.errors
                .push(FieldError::not_supported(path, given, supported));
        }
    }

    /// As [`Self::one_of`], unless the field is not set.
    fn maybe_one_of(&mut self, path: impl Into<String>, value: &Value, supported: &[&str]) {
        if !value.is_null() {
            self.one_of(path, value, supported);
        }
    }

    /// The text must be there.
    fn filled(&mut self, path: impl Into<String>, value: &Value) {
        if text(value).is_empty() {
            self.require(path, "");
        }
    }

    /// The text must be there and follow a rule.
    fn name(&mut self, path: impl Into<String>, value: &Value, rule: fn(&str) -> Option<String>) {
        match text(value) {
            "" => self.require(path, ""),
            given => {
                if let Some(why) = rule(given) {
                    self.invalid(path, given, why);
                }
            }
        }
    }

    fn not_negative(&mut self, path: impl Into<String>, value: &Value) {
        if number(value) < 0 {
            self.invalid(path, value.clone(), NOT_NEGATIVE);
        }
    }

    fn port(&mut self, path: impl Into<String>, value: &Value) {
        if !(1..=65_535).contains(&number(value)) {
            self.invalid(
                path,
                number(value),
                "must be between 1 and 65535, inclusive",
            );
        }
    }

    /// A number of a port or the name of one.
    fn port_or_name(&mut self, path: impl Into<String>, value: &Value) {
        match value.as_str() {
            Some(name) => {
                if let Some(why) = names::port(name) {
                    self.invalid(path, name, why);
                }
            }
            None => self.port(path, value),
        }
    }

    /// A whole number that is not negative, or a percentage.
    fn amount_or_percent(&mut self, path: &str, value: &Value) {
        match value {
            Value::String(percent) if !names::is_percent(percent) => {
                self.invalid(path, percent.as_str(), names::PERCENT);
            }
            Value::Number(_) => self.not_negative(path, value),
            _ => {}
        }
    }

    /// The field may not change.
    fn same(&mut self, path: &str, new: &Value, old: &Value) {
        if new != old {
            self.invalid(path, new.clone(), IMMUTABLE);
        }
    }

    /// Names of objects in a list must differ.
    fn unique<'v>(&mut self, path: &str, list: &'v Value, key: &str) -> Vec<&'v str> {
        let mut seen: Vec<&str> = Vec::new();
        for (index, item) in items(list).iter().enumerate() {
            let name = text(&item[key]);
            if !name.is_empty() && seen.contains(&name) {
                self.twice(format!("{path}[{index}].{key}"), name);
            }
            seen.push(name);
        }
        seen
    }
}
