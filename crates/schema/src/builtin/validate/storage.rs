//! Volumes, claims for them, and classes of them.

use serde_json::Value;

use super::{IMMUTABLE, Report};
use crate::builtin::edit::{items, text};
use crate::builtin::quantity;

const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// Fields of volumes and persistent volumes that are no sources.
const NO_SOURCES: [&str; 11] = [
    "name",
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
    "nodeAffinity",
    "volumeAttributesClassName",
    "status",
];

/// Sources in the order that a real server looks at them, as far as it matters.
fn sources(volume: &Value) -> Vec<(&String, &Value)> {
    let order = |name: &str| {
        [
            "emptyDir",
            "hostPath",
            "gitRepo",
            "gcePersistentDisk",
            "awsElasticBlockStore",
            "secret",
            "nfs",
        ]
        .iter()
        .position(|first| *first == name)
        .unwrap_or(usize::MAX)
    };
    let mut found: Vec<_> = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| value.is_object() && !NO_SOURCES.contains(&name.as_str()))
        .collect();
    found.sort_by_key(|(name, _)| order(name));
    found
}

/// The source of a volume: one, and complete.
pub(super) fn volume_source(report: &mut Report, path: &str, volume: &Value, what: &str) {
    let sources = sources(volume);
    for (index, (name, source)) in sources.iter().enumerate() {
        let path = format!("{path}.{name}");
        if index > 0 {
            report.forbid(path, format!("may not specify more than 1 {what}"));
            continue;
        }
        match name.as_str() {
            "hostPath" => host_path(report, &path, source),
            "secret" => {
                report.filled(format!("{path}.secretName"), &source["secretName"]);
                files(report, &path, source);
            }
            "configMap" => {
                report.filled(format!("{path}.name"), &source["name"]);
                files(report, &path, source);
            }
            "projected" | "downwardAPI" => mode(report, &path, source),
            "persistentVolumeClaim" => {
                report.filled(format!("{path}.claimName"), &source["claimName"]);
            }
            "nfs" => {
                report.filled(format!("{path}.server"), &source["server"]);
                report.filled(format!("{path}.path"), &source["path"]);
                if !text(&source["path"]).starts_with('/') {
                    report.invalid(
                        format!("{path}.path"),
                        text(&source["path"]),
                        "must be an absolute path",
                    );
                }
            }
            "emptyDir"
                if quantity::nanos(text(&source["sizeLimit"])).is_some_and(|size| size < 0) =>
            {
                report.forbid(
                    format!("{path}.sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                );
            }
            "csi" => report.filled(format!("{path}.driver"), &source["driver"]),
            _ => {}
        }
    }
    if sources.is_empty() {
        report.require(path, format!("must specify a {what}"));
    }
}

fn host_path(report: &mut Report, path: &str, source: &Value) {
    let at = text(&source["path"]);
    report.filled(format!("{path}.path"), &source["path"]);
    if at.split('/').any(|part| part == "..") {
        report.invalid(format!("{path}.path"), at, "must not contain '..'");
    }
}

fn mode(report: &mut Report, path: &str, source: &Value) {
    if let Some(mode) = source["defaultMode"].as_i64()
        && !(0..=0o777).contains(&mode)
    {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        report.invalid(format!("{path}.defaultMode"), mode, why);
    }
}

fn files(report: &mut Report, path: &str, source: &Value) {
    mode(report, path, source);
    for (index, item) in items(&source["items"]).iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        report.filled(format!("{path}.key"), &item["key"]);
        let at = text(&item["path"]);
        report.filled(format!("{path}.path"), &item["path"]);
        if at.starts_with('/') {
            report.invalid(format!("{path}.path"), at, "must be a relative path");
        }
        if at.split('/').any(|part| part == "..") {
            report.invalid(format!("{path}.path"), at, "must not contain '..'");
        }
    }
}

pub(super) fn claim(report: &mut Report, path: &str, spec: &Value) {
    let modes = items(&spec["accessModes"]);
    if modes.is_empty() {
        report.require(
            format!("{path}.accessModes"),
            "at least 1 access mode is required",
        );
    }
    for mode in modes {
        report.one_of(format!("{path}.accessModes"), mode, &ACCESS_MODES);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        report.forbid(
            format!("{path}.accessModes"),
            "may not use ReadWriteOncePod with other access modes",
        );
    }
    let at = format!("{path}.resources[storage]");
    match spec["resources"]["requests"]["storage"].as_str() {
        None => report.require(at, ""),
        Some(size) if quantity::nanos(size).is_some_and(|size| size <= 0) => {
            report.invalid(at, size, "must be greater than zero");
        }
        Some(_) => {}
    }
    report.maybe_one_of(
        format!("{path}.volumeMode"),
        &spec["volumeMode"],
        &VOLUME_MODES,
    );
}

pub(super) fn claim_update(report: &mut Report, new: &Value, old: &Value) {
    let (mut spec, before) = (new["spec"].clone(), &old["spec"]);
    if text(&before["volumeName"]).is_empty() {
        // Binding names the volume.
        spec["volumeName"] = before["volumeName"].clone();
    } else if old["status"]["phase"] == "Bound" {
        spec["resources"]["requests"] = before["resources"]["requests"].clone();
        spec["volumeAttributesClassName"] = before["volumeAttributesClassName"].clone();
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    if spec != *before {
        report.forbid(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
}

pub(super) fn volume(report: &mut Report, spec: &Value) {
    let modes = items(&spec["accessModes"]);
    if modes.is_empty() {
        report.require("spec.accessModes", "");
    }
    for mode in modes {
        report.one_of("spec.accessModes", mode, &ACCESS_MODES);
    }
    let capacity = spec["capacity"].as_object();
    if capacity.is_none_or(serde_json::Map::is_empty) {
        report.require("spec.capacity", "");
    }
    if capacity.is_none_or(|capacity| capacity.len() != 1 || !capacity.contains_key("storage")) {
        let value = spec["capacity"].clone();
        report
            .errors
            .push(crate::field_error::FieldError::not_supported(
                "spec.capacity",
                value,
                &["storage"],
            ));
    }
    if let Some(size) = spec["capacity"]["storage"].as_str()
        && quantity::nanos(size).is_some_and(|size| size <= 0)
    {
        report.invalid("spec.capacity[storage]", size, "must be greater than zero");
    }
    volume_source(report, "spec", spec, "volume type");
    let policies = ["Delete", "Recycle", "Retain"];
    report.maybe_one_of(
        "spec.persistentVolumeReclaimPolicy",
        &spec["persistentVolumeReclaimPolicy"],
        &policies,
    );
    report.maybe_one_of("spec.volumeMode", &spec["volumeMode"], &VOLUME_MODES);
}

pub(super) fn volume_update(report: &mut Report, new: &Value, old: &Value) {
    if sources(new) != sources(old) {
        let why = "spec.persistentvolumesource is immutable after creation";
        report.forbid("spec.persistentvolumesource", why);
    }
    if new["volumeMode"] != old["volumeMode"] {
        report.invalid("volumeMode", new["volumeMode"].clone(), IMMUTABLE);
    }
}

pub(super) fn class(report: &mut Report, object: &Value) {
    report.filled("provisioner", &object["provisioner"]);
    report.one_of(
        "reclaimPolicy",
        &object["reclaimPolicy"],
        &["Delete", "Retain"],
    );
    report.one_of(
        "volumeBindingMode",
        &object["volumeBindingMode"],
        &["Immediate", "WaitForFirstConsumer"],
    );
    let sizes = object["parameters"].as_object().into_iter().flatten();
    if sizes
        .map(|(key, value)| key.len() + text(value).len())
        .sum::<usize>()
        > 256 * 1024
    {
        report.errors.push(crate::field_error::FieldError {
            path: "parameters".to_owned(),
            kind: crate::field_error::Kind::TooLong,
            value: None,
            detail: String::new(),
        });
    }
}
