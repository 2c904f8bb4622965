//! Volumes and claims.

use serde_json::Value;

use super::{Row, UNSET, access_modes, or};
use crate::builtin::edit::text;

impl Row<'_> {
    pub(super) fn phase(self) -> Value {
        if self.object["metadata"]["deletionTimestamp"].is_null() {
            Value::from(text(&self.object["status"]["phase"]))
        } else {
            Value::from("Terminating")
        }
    }

    pub(super) fn storage_class(self) -> Value {
        let annotated =
            &self.object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
        Value::from(if annotated.is_string() {
            text(annotated)
        } else {
            text(&self.object["spec"]["storageClassName"])
        })
    }

    pub(super) fn volume(self) -> Vec<Value> {
        let spec = &self.object["spec"];
        let claim = &spec["claimRef"];
        let claim = if claim.is_object() {
            format!("{}/{}", text(&claim["namespace"]), text(&claim["name"]))
        } else {
            String::new()
        };
        vec![
            self.object["metadata"]["name"].clone(),
            or(&spec["capacity"]["storage"], "0"),
            access_modes(&spec["accessModes"]),
            Value::from(text(&spec["persistentVolumeReclaimPolicy"])),
            self.phase(),
            Value::from(claim),
            self.storage_class(),
            or(&spec["volumeAttributesClassName"], UNSET),
            Value::from(text(&self.object["status"]["reason"])),
            self.age(),
            or(&spec["volumeMode"], UNSET),
        ]
    }

    pub(super) fn claim(self) -> Vec<Value> {
        let (spec, status) = (&self.object["spec"], &self.object["status"]);
        let bound = !text(&spec["volumeName"]).is_empty();
        let (capacity, modes) = if bound {
            (
                or(&status["capacity"]["storage"], "0"),
                access_modes(&status["accessModes"]),
            )
        } else {
            (Value::from(""), Value::from(""))
        };
        vec![
            self.object["metadata"]["name"].clone(),
            self.phase(),
            Value::from(text(&spec["volumeName"])),
            capacity,
            modes,
            self.storage_class(),
            or(&spec["volumeAttributesClassName"], UNSET),
            self.age(),
            or(&spec["volumeMode"], UNSET),
        ]
    }
}
