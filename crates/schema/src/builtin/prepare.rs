//! What the API server does to objects between defaulting and validation.

use serde_json::{Map, Value, json};

use super::Kind;
use super::edit::{as_object, object_in, sub};

pub(super) fn create(kind: &Kind, object: &mut Value) {
    let fields = as_object(object);
    if kind.status {
        fields.remove("status");
        reset_status(kind, fields);
    }
    if kind.generation {
        object_in(fields, "metadata").insert("generation".to_owned(), Value::from(1));
    }
    match kind.kind {
        "Namespace" => {
            let name = fields
                .get("metadata")
                .and_then(|metadata| metadata.get("name"))
                .cloned();
            if let Some(name) = name {
                let labels = object_in(object_in(fields, "metadata"), "labels");
                labels.insert("kubernetes.io/metadata.name".to_owned(), name);
            }
            fields.insert("status".to_owned(), json!({"phase": "Active"}));
            let finalizers = object_in(fields, "spec")
                .entry("finalizers")
                .or_insert_with(|| json!([]));
            if let Value::Array(finalizers) = finalizers
                && !finalizers.iter().any(|finalizer| finalizer == "kubernetes")
            {
                finalizers.push(Value::from("kubernetes"));
            }
        }
        "Pod" => {
            admit_pod(object_in(fields, "spec"));
            let class = qos_class(fields);
            fields.insert(
                "status".to_owned(),
                json!({"phase": "Pending", "qosClass": class}),
            );
        }
        "PersistentVolume" | "PersistentVolumeClaim" => {
            fields.insert("status".to_owned(), json!({"phase": "Pending"}));
        }
        "DaemonSet" => {
            object_in(object_in(fields, "metadata"), "annotations").insert(
                "deprecated.daemonset.template.generation".to_owned(),
                Value::from("1"),
            );
        }
        "Job" => job_selector(fields),
        "CustomResourceDefinition" => stored_versions(fields),
        "CertificateSigningRequest" => {
            fields.insert("status".to_owned(), json!({}));
        }
        _ => {}
    }
}

/// What an empty status looks like for kinds that never leave it out.
fn reset_status(kind: &Kind, fields: &mut Map<String, Value>) {
    let empty = super::registry::Registry::get()
        .find(kind.definition)
        .and_then(|id| super::go::normalize(id, &json!({})).ok())
        .and_then(|normal| normal.object.get("status").cloned());
    if let Some(empty) = empty {
        fields.insert("status".to_owned(), empty);
    }
}

/// A definition remembers every version that objects were ever stored in.
fn stored_versions(fields: &mut Map<String, Value>) {
    let spec = fields.get("spec").unwrap_or(&Value::Null);
    let versions = super::edit::items(&spec["versions"]);
    let storage = versions.iter().find(|version| version["storage"] == true);
    let Some(name) = storage.map(|version| version["name"].clone()) else {
        return;
    };
    let stored = object_in(fields, "status")
        .entry("storedVersions")
        .or_insert(Value::Null);
    match stored {
        Value::Array(known) if known.contains(&name) => {}
        Value::Array(known) => known.push(name),
        other => *other = json!([name]),
    }
}

/// Labels that tie pods to their job, and the selector for them, unless the selector is manual.
fn job_selector(fields: &mut Map<String, Value>) {
    let metadata = fields.get("metadata").cloned().unwrap_or_default();
    let (name, uid) = (metadata["name"].clone(), metadata["uid"].clone());
    let Some(spec) = sub(fields, "spec") else {
        return;
    };
    if spec.get("manualSelector") == Some(&Value::Bool(true)) || !uid.is_string() {
        return;
    }
    let template = object_in(object_in(object_in(spec, "template"), "metadata"), "labels");
    for (label, value) in [
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        template.insert(label.to_owned(), value.clone());
    }
    let labels = template.clone();
    let selector = object_in(object_in(spec, "selector"), "matchLabels");
    selector
        .entry("batch.kubernetes.io/controller-uid")
        .or_insert(uid);
    // A job without labels of its own has those of its pods.
    super::edit::default(object_in(fields, "metadata"), "labels", labels);
}

/// What the admission of a usual server gives a pod: a priority, and patience with nodes that fail.
fn admit_pod(spec: &mut Map<String, Value>) {
    if super::edit::absent(spec.get("priorityClassName")) {
        super::edit::default(spec, "priority", 0);
        super::edit::default(spec, "preemptionPolicy", "PreemptLowerPriority");
    }
    let known = super::edit::items(spec.get("tolerations").unwrap_or(&Value::Null)).to_vec();
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = known.iter().any(|toleration| {
            let fits = |name: &str, wanted: &str| {
                toleration[name]
                    .as_str()
                    .is_none_or(|text| text.is_empty() || text == wanted)
            };
            fits("key", key) && fits("effect", "NoExecute")
        });
        if !tolerated {
            let list = spec.entry("tolerations").or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
                }));
            }
        }
    }
}

/// How much of its resources a pod is promised.
fn qos_class(pod: &Map<String, Value>) -> &'static str {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let containers = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| super::edit::items(&spec[*list]))
        .collect::<Vec<_>>();
    let amounts = |side: &str, container: &Value, name: &str| {
        let amount = container["resources"][side][name].as_str()?;
        super::quantity::nanos(amount).filter(|amount| *amount > 0)
    };
    let compute = ["cpu", "memory"];
    let any = containers.iter().any(|container| {
        compute.iter().any(|name| {
            amounts("requests", container, name).is_some()
                || amounts("limits", container, name).is_some()
        })
    });
    if !any {
        return "BestEffort";
    }
    let all = containers.iter().all(|container| {
        compute.iter().all(|name| {
            let limit = amounts("limits", container, name);
            let request = amounts("requests", container, name);
            limit.is_some() && (request.is_none() || request == limit)
        })
    });
    if all { "Guaranteed" } else { "Burstable" }
}

pub(super) fn update(kind: &Kind, new: &mut Value, old: &Value) {
    let fields = as_object(new);
    if kind.status {
        restore(fields, old, "status");
    }
    match kind.kind {
        "Namespace" => {
            let name = old["metadata"]["name"].clone();
            object_in(object_in(fields, "metadata"), "labels")
                .insert("kubernetes.io/metadata.name".to_owned(), name);
            let finalizers = &old["spec"]["finalizers"];
            if !finalizers.is_null() {
                object_in(fields, "spec").insert("finalizers".to_owned(), finalizers.clone());
            }
        }
        // What was requested never changes.
        "CertificateSigningRequest" => restore(fields, old, "spec"),
        "Job" => {
            let spec = object_in(fields, "spec");
            if spec.get("manualSelector") != Some(&Value::Bool(true))
                && !spec.contains_key("selector")
            {
                let selector = old["spec"]["selector"].clone();
                if !selector.is_null() {
                    spec.insert("selector".to_owned(), selector);
                }
            }
        }
        "CustomResourceDefinition" => stored_versions(fields),
        "Service" => keep_addresses(object_in(fields, "spec"), &old["spec"]),
        _ => {}
    }
    count(kind, fields, old);
}

/// A service keeps what was allocated when an update names nothing.
fn keep_addresses(spec: &mut Map<String, Value>, old: &Value) {
    if spec.get("type").is_some_and(|kind| kind == "ExternalName") || old["type"] == "ExternalName"
    {
        return;
    }
    for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if super::edit::absent(spec.get(name)) && !old[name].is_null() {
            spec.insert(name.to_owned(), old[name].clone());
        }
    }
    let exposed = matches!(
        spec.get("type").and_then(Value::as_str),
        Some("NodePort" | "LoadBalancer")
    );
    if !exposed {
        return;
    }
    let known = super::edit::items(&old["ports"]).to_vec();
    for port in super::edit::items_mut(spec, "ports") {
        if super::edit::absent(port.get("nodePort"))
            && let Some(same) = known.iter().find(|old| {
                Some(&old["port"]) == port.get("port")
                    && Some(&old["protocol"]) == port.get("protocol")
            })
            && same["nodePort"].is_number()
        {
            port.insert("nodePort".to_owned(), same["nodePort"].clone());
        }
    }
}

pub(super) fn update_status(kind: &Kind, new: &mut Value, old: &Value) {
    let status = new.get("status").cloned();
    let mut object = old.clone();
    let fields = as_object(&mut object);
    // The server compares versions and tracks managers: that metadata is the request's.
    for name in ["resourceVersion", "managedFields"] {
        if let Some(value) = new["metadata"].get(name) {
            object_in(fields, "metadata").insert(name.to_owned(), value.clone());
        }
    }
    // Metadata but for labels and annotations of a namespace or node may be written along.
    if matches!(kind.kind, "Node") {
        for name in ["labels", "annotations"] {
            if let Some(value) = new["metadata"].get(name) {
                object_in(fields, "metadata").insert(name.to_owned(), value.clone());
            }
        }
    }
    match status {
        Some(status) => {
            fields.insert("status".to_owned(), status);
        }
        None => {
            fields.remove("status");
        }
    }
    *new = object;
}

fn restore(fields: &mut Map<String, Value>, old: &Value, name: &str) {
    match old.get(name) {
        Some(value) => {
            fields.insert(name.to_owned(), value.clone());
        }
        None => {
            fields.remove(name);
        }
    }
}

/// Raises the generation when anything but metadata and status changed.
fn count(kind: &Kind, fields: &mut Map<String, Value>, old: &Value) {
    let Some(generation) = old["metadata"]["generation"]
        .as_i64()
        .filter(|_| kind.generation)
    else {
        return;
    };
    let ignored = |name: &str| matches!(name, "metadata" | "status" | "apiVersion" | "kind");
    let empty = Map::new();
    let before = old.as_object().unwrap_or(&empty);
    let changed = fields
        .iter()
        .any(|(name, value)| !ignored(name) && before.get(name) != Some(value))
        || before
            .keys()
            .any(|name| !ignored(name) && !fields.contains_key(name));
    let next = generation + i64::from(changed);
    object_in(fields, "metadata").insert("generation".to_owned(), Value::from(next));
    if kind.kind == "DaemonSet" {
        let template = &old["spec"]["template"]
            != fields
                .get("spec")
                .map_or(&Value::Null, |spec| &spec["template"]);
        let annotation = "deprecated.daemonset.template.generation";
        let counted = old["metadata"]["annotations"][annotation]
            .as_str()
            .and_then(|text| text.parse::<i64>().ok());
        let counted = counted.unwrap_or(1) + i64::from(template);
        object_in(object_in(fields, "metadata"), "annotations")
            .insert(annotation.to_owned(), Value::from(counted.to_string()));
    }
}
