//! Add-ons behind the broker, in both versions (ocm: pkg/server/services/addon). The API keeps the older version; the newer
//! one is made of it as upstream's conversion does (api: addon/v1beta1/conversion.go).

use drover_api::addon::v1alpha1::ManagedClusterAddOn;
use drover_protocol::{CloudEvent, DataType};
use drover_transport::ServiceError;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, ResourceExt};
use serde_json::{Map, Value, json};

use crate::clusters::FIELD_MANAGER;
use crate::objects::Objects;
use crate::works::refusal;

/// The data types of add-ons.
pub(crate) const VERSIONS: [DataType; 2] = [DataType::ADDONS_V1ALPHA1, DataType::ADDONS_V1BETA1];

/// Where the newer version keeps a field of the older one.
const INSTALL_NAMESPACE: &str = "addon.open-cluster-management.io/v1alpha1-install-namespace";
const KUBE_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

impl Objects {
    /// An add-on as an event of either version.
    pub(crate) fn addon_event(
        &self,
        data_type: &DataType,
        found: &ManagedClusterAddOn,
    ) -> Result<CloudEvent, ServiceError> {
        let mut object = serde_json::to_value(found).map_err(ServiceError::internal)?;
        if *data_type == DataType::ADDONS_V1BETA1 {
            to_newer(&mut object);
        }
        self.event(data_type, &object)
    }

    /// The add-ons of a cluster.
    pub(crate) fn addons_of(
        &self,
        data_type: &DataType,
        cluster: &str,
    ) -> Result<Vec<CloudEvent>, ServiceError> {
        let all = self.addons.state();
        let own = all
            .iter()
            .filter(|found| found.namespace().as_deref() == Some(cluster));
        own.map(|found| self.addon_event(data_type, found))
            .collect()
    }

    /// An agent reports on an add-on of its cluster. A report on an older state of it is a conflict.
    pub(crate) async fn report_addon(
        &self,
        data_type: &DataType,
        cluster: &str,
        mut reported: Value,
    ) -> Result<(), ServiceError> {
        if *data_type == DataType::ADDONS_V1BETA1
            && let Some(status) = reported.get_mut("status")
        {
            status_to_older(status);
        }
        let text = |key: &str| {
            let found = reported.pointer(&format!("/metadata/{key}"));
            let found = found.and_then(Value::as_str).unwrap_or_default();
            Some(found.to_owned()).filter(|found| !found.is_empty())
        };
        let name = text("name")
            .ok_or_else(|| ServiceError::bad_request("the add-on in the event has no name"))?;
        let (version, uid) = (text("resourceVersion"), text("uid"));
        let kind = ApiResource::erase::<ManagedClusterAddOn>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), cluster, &kind);
        let mut current = api.get(&name).await.map_err(refusal)?;
        if uid.is_some_and(|uid| current.uid() != Some(uid)) {
            let why = format!("the add-on {name} is another one now");
            return Err(ServiceError::new(409, "Conflict", why));
        }
        current.data["status"] = reported["status"].take();
        if version.is_some() {
            current.metadata.resource_version = version;
        }
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        api.replace_status(&name, &params, &current)
            .await
            .map(|_| ())
            .map_err(refusal)
    }
}

/// Writes an add-on of the older version as one of the newer.
fn to_newer(object: &mut Value) {
    if let Some(Value::String(namespace)) = take(object, "/spec", "installNamespace")
        && let Some(Value::Object(metadata)) = object.get_mut("metadata")
    {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Value::Object(annotations) = annotations {
            annotations.insert(INSTALL_NAMESPACE.to_owned(), namespace.into());
        }
    }
    take(object, "/status", "addOnConfiguration");
    let driver = take(object, "/status", "kubeClientDriver");
    for reference in list(object, "/status/configReferences") {
        for field in ["name", "namespace"] {
            reference.remove(field);
        }
    }
    for registration in list(object, "/status/registrations") {
        let signer = registration.remove("signerName").unwrap_or_default();
        let mut subject = registration
            .remove("subject")
            .unwrap_or_else(|| json!({"user": ""}));
        if signer == KUBE_SIGNER {
            take(&mut subject, "", "organizationUnit");
            let mut client = json!({ "subject": subject });
            if let Some(driver) = &driver {
                client["driver"] = driver.clone();
            }
            registration.extend([
                ("type".to_owned(), "kubeClient".into()),
                ("kubeClient".to_owned(), client),
            ]);
        } else {
            if let Some(units) = take(&mut subject, "", "organizationUnit") {
                subject["organizationUnits"] = units;
            }
            let custom = json!({"signerName": signer, "subject": subject});
            registration.extend([
                ("type".to_owned(), "customSigner".into()),
                ("customSigner".to_owned(), custom),
            ]);
        }
    }
}

/// Writes a status of the newer version as one of the older.
fn status_to_older(status: &mut Value) {
    let mut driver = None;
    for registration in list(status, "/registrations") {
        let kind = registration.remove("type").unwrap_or_default();
        let client = registration.remove("kubeClient").unwrap_or_default();
        let custom = registration.remove("customSigner").unwrap_or_default();
        let (signer, mut subject) = if kind == "kubeClient" {
            let named = client.get("driver").filter(|named| **named != "");
            driver = driver.or_else(|| named.cloned());
            (KUBE_SIGNER.into(), client["subject"].clone())
        } else {
            (custom["signerName"].clone(), custom["subject"].clone())
        };
        if let Some(units) = take(&mut subject, "", "organizationUnits") {
            subject["organizationUnit"] = units;
        }
        registration.insert("signerName".to_owned(), signer);
        if !subject.is_null() {
            registration.insert("subject".to_owned(), subject);
        }
    }
    // The older version names a reference where the newer one only says what shall be applied.
    for reference in list(status, "/configReferences") {
        let name = reference
            .get("desiredConfig")
            .and_then(|config| config.get("name"))
            .cloned()
            .unwrap_or_else(|| "".into());
        reference.entry("name").or_insert(name);
    }
    if let (Some(driver), Value::Object(status)) = (driver, status) {
        status.insert("kubeClientDriver".to_owned(), driver);
    }
}

fn take(object: &mut Value, parent: &str, name: &str) -> Option<Value> {
    object.pointer_mut(parent)?.as_object_mut()?.remove(name)
}

fn list<'v>(
    object: &'v mut Value,
    pointer: &str,
) -> impl Iterator<Item = &'v mut Map<String, Value>> {
    let found = object.pointer_mut(pointer).and_then(Value::as_array_mut);
    found.into_iter().flatten().filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{status_to_older, to_newer};

    #[track_caller]
    fn check(older: Value, newer: Value) {
        let mut made = older.clone();
        to_newer(&mut made);
        assert_eq!(made, newer);
        let mut back = newer["status"].clone();
        status_to_older(&mut back);
        assert_eq!(back, older["status"]);
    }

    #[test]
    fn both_versions_say_the_same() {
        check(
            json!({"metadata": {}, "spec": {}}),
            json!({"metadata": {}, "spec": {}}),
        );
        let subject = json!({"user": "u", "groups": ["g"]});
        check(
            json!({
                "metadata": {"name": "a"},
                "spec": {"installNamespace": "ns", "configs": [{"group": "", "resource": "r", "name": "c"}]},
                "status": {
                    "kubeClientDriver": "token",
                    "configReferences": [{"resource": "r", "name": "c", "desiredConfig": {"name": "c", "specHash": "h"}}],
                    "registrations": [
                        {"signerName": "kubernetes.io/kube-apiserver-client", "subject": subject},
                        {"signerName": "example.com/signer", "subject": {"user": "u", "organizationUnit": ["o"]}},
                    ],
                },
            }),
            json!({
                "metadata": {"name": "a", "annotations": {"addon.open-cluster-management.io/v1alpha1-install-namespace": "ns"}},
                "spec": {"configs": [{"group": "", "resource": "r", "name": "c"}]},
                "status": {
                    "configReferences": [{"resource": "r", "desiredConfig": {"name": "c", "specHash": "h"}}],
                    "registrations": [
                        {"type": "kubeClient", "kubeClient": {"driver": "token", "subject": subject}},
                        {"type": "customSigner", "customSigner": {"signerName": "example.com/signer", "subject": {"user": "u", "organizationUnits": ["o"]}}},
                    ],
                },
            }),
        );
    }
}
