//! What the API server fills in when an object leaves it out.

mod network;
mod pod;
mod workload;

use serde_json::{Map, Value, json};

use super::Kind;
use super::edit::{absent, as_object, default, items_mut, object_in, sub};

pub use network::{AddressPool, assign_cluster_ips};

type Fields = Map<String, Value>;

pub(super) fn fill(kind: &Kind, object: &mut Value) {
    if kind.group == "apiextensions.k8s.io" {
        crate::crd::fill_defaults(object);
        return;
    }
    let fields = as_object(object);
    match kind.kind {
        "Pod" => pod::pod(fields),
        "PodTemplate" => pod::template(object_in(fields, "template")),
        "Deployment" => workload::deployment(fields),
        "ReplicaSet" => workload::replica_set(fields),
        "ReplicationController" => workload::replication_controller(fields),
        "StatefulSet" => workload::stateful_set(fields),
        "DaemonSet" => workload::daemon_set(fields),
        "Job" => workload::job(fields),
        "CronJob" => workload::cron_job(fields),
        "HorizontalPodAutoscaler" => workload::autoscaler(kind.version, fields),
        "Namespace" => {
            let metadata = object_in(fields, "metadata");
            let name = metadata
                .get("name")
                .filter(|name| name.as_str().is_some_and(|n| !n.is_empty()));
            if let Some(name) = name.cloned() {
                object_in(metadata, "labels")
                    .insert("kubernetes.io/metadata.name".to_owned(), name);
            }
        }
        "Service" => network::service(object_in(fields, "spec")),
        "Endpoints" => network::endpoints(fields),
        "EndpointSlice" => network::endpoint_slice(fields),
        "NetworkPolicy" => network::policy(object_in(fields, "spec")),
        "IngressClass" => {
            if let Some(parameters) = sub(object_in(fields, "spec"), "parameters") {
                default(parameters, "scope", "Cluster");
            }
        }
        "Secret" => secret(fields),
        "PersistentVolumeClaim" => {
            pod::claim(object_in(fields, "spec"));
            default(object_in(fields, "status"), "phase", "Pending");
        }
        "PersistentVolume" => volume(fields),
        "RoleBinding" | "ClusterRoleBinding" => binding(fields),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            let mutating = kind.kind == "MutatingWebhookConfiguration";
            items_mut(fields, "webhooks").for_each(|webhook| self::webhook(webhook, mutating));
        }
        "ValidatingAdmissionPolicy" => {
            let spec = object_in(fields, "spec");
            default(spec, "failurePolicy", "Fail");
            if let Some(resources) = sub(spec, "matchConstraints") {
                match_resources(resources);
            }
        }
        "ValidatingAdmissionPolicyBinding" => {
            if let Some(resources) = sub(object_in(fields, "spec"), "matchResources") {
                match_resources(resources);
            }
        }
        "StorageClass" => {
            default(fields, "reclaimPolicy", "Delete");
            default(fields, "volumeBindingMode", "Immediate");
        }
        "CSIDriver" => csi_driver(object_in(fields, "spec")),
        "PriorityClass" => default(fields, "preemptionPolicy", "PreemptLowerPriority"),
        "LimitRange" => items_mut(object_in(fields, "spec"), "limits").for_each(limit),
        "APIService" => {
            if let Some(service) = sub(object_in(fields, "spec"), "service") {
                default(service, "port", 443);
            }
        }
        _ => {}
    }
}

/// Text becomes data, which is all that is stored.
fn secret(fields: &mut Fields) {
    use base64::Engine as _;
    default(fields, "type", "Opaque");
    if let Some(Value::Object(texts)) = fields.remove("stringData") {
        let data = object_in(fields, "data");
        for (key, text) in texts {
            let bytes = text.as_str().unwrap_or_default();
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            data.insert(key, Value::from(encoded));
        }
    }
}

fn volume(fields: &mut Fields) {
    default(object_in(fields, "status"), "phase", "Pending");
    let spec = object_in(fields, "spec");
    default(spec, "persistentVolumeReclaimPolicy", "Retain");
    default(spec, "volumeMode", "Filesystem");
    pod::volume_source(spec);
    if let Some(source) = sub(spec, "azureFile")
        && absent(source.get("secretNamespace"))
    {
        source.entry("secretNamespace").or_insert(Value::Null);
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn binding(fields: &mut Fields) {
    default(object_in(fields, "roleRef"), "apiGroup", RBAC);
    for subject in items_mut(fields, "subjects") {
        if matches!(
            subject.get("kind").and_then(Value::as_str),
            Some("User" | "Group")
        ) {
            default(subject, "apiGroup", RBAC);
        }
    }
}

fn webhook(webhook: &mut Fields, mutating: bool) {
    default(webhook, "failurePolicy", "Fail");
    default(webhook, "matchPolicy", "Equivalent");
    default(webhook, "namespaceSelector", json!({}));
    default(webhook, "objectSelector", json!({}));
    default(webhook, "timeoutSeconds", 10);
    if mutating {
        default(webhook, "reinvocationPolicy", "Never");
    }
    items_mut(webhook, "rules").for_each(|rule| default(rule, "scope", "*"));
    if let Some(service) = sub(object_in(webhook, "clientConfig"), "service") {
        default(service, "port", 443);
    }
}

fn match_resources(resources: &mut Fields) {
    default(resources, "matchPolicy", "Equivalent");
    default(resources, "namespaceSelector", json!({}));
    default(resources, "objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        items_mut(resources, list).for_each(|rule| default(rule, "scope", "*"));
    }
}

fn csi_driver(spec: &mut Fields) {
    default(spec, "attachRequired", true);
    default(spec, "podInfoOnMount", false);
    default(spec, "storageCapacity", false);
    default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    default(spec, "requiresRepublish", false);
    default(spec, "seLinuxMount", false);
    if spec
        .get("volumeLifecycleModes")
        .is_none_or(|modes| super::edit::items(modes).is_empty())
    {
        spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
    }
}

/// A container without limits gets the maximum, without requests its limits or the minimum.
fn limit(limit: &mut Fields) {
    if limit.get("type").is_none_or(|kind| kind != "Container") {
        return;
    }
    for (target, source) in [
        ("default", "max"),
        ("defaultRequest", "default"),
        ("defaultRequest", "min"),
    ] {
        let Some(Value::Object(amounts)) = limit.get(source).cloned() else {
            continue;
        };
        let target = object_in(limit, target);
        for (name, amount) in amounts {
            target.entry(name).or_insert(amount);
        }
    }
}
