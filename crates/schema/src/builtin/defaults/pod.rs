//! Pods, templates of pods, and what is in them.

use serde_json::{Value, json};

use super::Fields;
use crate::builtin::edit::{absent, default, items_mut, object_in, sub};

/// Permission bits of files from secrets and maps: 0644.
const FILE_MODE: i64 = 0o644;

pub(super) fn pod(fields: &mut Fields) {
    let spec = object_in(fields, "spec");
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list) {
            requests_from_limits(container);
        }
    }
    default(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        host_ports(spec);
    }
    pod_spec(spec);
}

pub(super) fn template(template: &mut Fields) {
    object_in(template, "metadata");
    pod_spec(object_in(template, "spec"));
}

/// On the network of the host, ports of containers are ports of the host. Templates are left
/// alone, so that what controllers compare does not change.
fn host_ports(spec: &mut Fields) {
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            for port in items_mut(container, "ports") {
                if absent(port.get("hostPort")) {
                    let number = port.get("containerPort").cloned().unwrap_or_default();
                    port.insert("hostPort".to_owned(), number);
                }
            }
        }
    }
}

/// What is limited and not requested is requested up to its limit.
fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = sub(container, "resources") else {
        return;
    };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else {
        return;
    };
    let requests = object_in(resources, "requests");
    for (name, amount) in limits {
        requests.entry(name).or_insert(amount);
    }
}

fn pod_spec(spec: &mut Fields) {
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    // The older name of the field follows the newer one.
    let account = [spec.get("serviceAccountName"), spec.get("serviceAccount")]
        .into_iter()
        .find(|name| !absent(*name))
        .flatten()
        .cloned();
    if let Some(account) = account {
        spec.insert("serviceAccountName".to_owned(), account.clone());
        spec.insert("serviceAccount".to_owned(), account);
    }
    items_mut(spec, "volumes").for_each(volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        items_mut(spec, list).for_each(container);
    }
}

fn container(container: &mut Fields) {
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let policy = pull_policy(image);
    default(container, "imagePullPolicy", policy);
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    object_in(container, "resources");
    for port in items_mut(container, "ports") {
        default(port, "protocol", "TCP");
    }
    for variable in items_mut(container, "env") {
        if let Some(source) = sub(variable, "valueFrom") {
            if let Some(field) = sub(source, "fieldRef") {
                default(field, "apiVersion", "v1");
            }
            if let Some(resource) = sub(source, "resourceFieldRef") {
                default(resource, "divisor", "0");
            }
            if let Some(file) = sub(source, "fileKeyRef") {
                default(file, "optional", false);
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = sub(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = sub(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(handler) = sub(lifecycle, name) {
                http_get(handler);
            }
        }
    }
}

fn probe(probe: &mut Fields) {
    for (name, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe
            .get(name)
            .is_none_or(|seen| seen.is_null() || *seen == 0)
        {
            probe.insert(name.to_owned(), Value::from(value));
        }
    }
    http_get(probe);
    if let Some(grpc) = sub(probe, "grpc") {
        grpc.entry("service").or_insert_with(|| Value::from(""));
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(get) = sub(handler, "httpGet") {
        default(get, "path", "/");
        default(get, "scheme", "HTTP");
    }
}

/// Images without a tag, or with the tag `latest`, are always pulled.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    match name.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn volume(volume: &mut Fields) {
    let named_only = volume
        .iter()
        .all(|(name, value)| name == "name" || value.is_null());
    if named_only {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    volume_source(volume);
}

/// Sources of volumes; those of persistent volumes have the same names.
pub(super) fn volume_source(volume: &mut Fields) {
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = sub(volume, name) {
            default(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = sub(volume, "downwardAPI") {
        items_mut(source, "items").for_each(downward_item);
    }
    if let Some(projected) = sub(volume, "projected") {
        for source in items_mut(projected, "sources") {
            if let Some(token) = sub(source, "serviceAccountToken") {
                default(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = sub(source, "downwardAPI") {
                items_mut(downward, "items").for_each(downward_item);
            }
        }
    }
    if let Some(path) = sub(volume, "hostPath") {
        path.entry("type").or_insert_with(|| Value::from(""));
    }
    if let Some(claim) = sub(volume, "ephemeral")
        && let Some(template) = sub(claim, "volumeClaimTemplate")
    {
        self::claim(object_in(template, "spec"));
        object_in(template, "metadata");
    }
    if let Some(image) = sub(volume, "image") {
        let policy = pull_policy(
            image
                .get("reference")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        );
        default(image, "pullPolicy", policy);
    }
    if let Some(iscsi) = sub(volume, "iscsi") {
        default(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = sub(volume, "rbd") {
        default(rbd, "pool", "rbd");
        default(rbd, "user", "admin");
        default(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = sub(volume, "azureDisk") {
        default(disk, "cachingMode", "ReadWrite");
        default(disk, "kind", "Shared");
        default(disk, "fsType", "ext4");
        default(disk, "readOnly", false);
    }
    if let Some(scale_io) = sub(volume, "scaleIO") {
        default(scale_io, "storageMode", "ThinProvisioned");
        default(scale_io, "fsType", "xfs");
    }
}

fn downward_item(item: &mut Fields) {
    if let Some(field) = sub(item, "fieldRef") {
        default(field, "apiVersion", "v1");
    }
    if let Some(resource) = sub(item, "resourceFieldRef") {
        default(resource, "divisor", "0");
    }
}

/// The spec of a claim for a volume.
pub(super) fn claim(spec: &mut Fields) {
    object_in(spec, "resources");
    default(spec, "volumeMode", "Filesystem");
}
