//! The built-in kinds: what they are called, how they are shaped, defaulted, validated and printed.

mod kinds;
pub(crate) mod registry;
pub(crate) mod go;
pub(crate) mod time;
pub mod quantity;
mod edit;
mod convert;
mod defaults;
mod prepare;
mod validate;
mod print;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use convert::Storage;
pub use defaults::{AddressPool, assign_cluster_ips};
pub use go::Normal;

use crate::{field_error::FieldError, table::Column, types::Schema};
use registry::{DefId, Registry};

/// A built-in kind in one version.
#[expect(
    clippy::struct_field_names,
    reason = "the API calls it the kind of a kind"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Version in the group.
    pub version: &'static str,
    /// Name of the kind.
    pub kind: &'static str,
    /// Resource name in paths.
    pub plural: &'static str,
    /// Resource name of one object.
    pub singular: &'static str,
    /// Short resource names.
    pub short_names: &'static [&'static str],
    /// Groups of resources that it belongs to.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether objects are stored (reviews are not).
    pub stored: bool,
    /// `status` subresource.
    pub status: bool,
    /// `scale` subresource.
    pub scale: bool,
    /// Other subresources (`approval`, `token`, `binding`, `eviction`, `finalize`, …).
    pub subresources: &'static [&'static str],
    /// Upstream's definition name (`io.k8s.api.apps.v1.Deployment`).
    pub definition: &'static str,
    /// Whether `metadata.generation` counts changes of anything but metadata and status.
    pub generation: bool,
}

/// All of them, in the order of a real server's discovery.
pub fn kinds() -> &'static [Kind] {
    kinds::KINDS
}

/// The kind of a resource.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    kinds()
        .iter()
        .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// The shape of a type that is no kind of its own (`Scale`, `Eviction`, `TokenRequest`,
/// `DeleteOptions`, `Status`).
pub fn schema_of(api_version: &str, kind: &str) -> Option<Schema> {
    let registry = Registry::get();
    let id = definition_of(api_version, kind)?;
    Some(registry.schema(registry.definition(id).name))
}

/// Reads an object as Go reads it (see [`Kind::normalize`]) for types that are no kind of their own.
pub fn normalize_as(
    api_version: &str,
    kind: &str,
    object: &Value,
) -> Option<Result<Normal, String>> {
    Some(go::normalize(definition_of(api_version, kind)?, object))
}

/// Whether a built-in object has values of the wrong JSON type: the text of a real server
/// (`json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`).
pub fn check_types(kind: &Kind, object: &Value) -> Result<(), String> {
    kind.normalize(object).map(drop)
}

/// An amount (`500m`, `1Gi`) in billionths of one.
pub fn quantity_nanos(text: &str) -> Option<i128> {
    quantity::nanos(text)
}

/// The struct of a group, version and kind; `DeleteOptions` and `Status` are in every group.
pub(crate) fn definition_of(api_version: &str, kind: &str) -> Option<DefId> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let registry = Registry::get();
    if kind == "DeleteOptions" || (kind == "Status" && api_version == "v1") {
        return registry.find(&format!("{META}.{kind}"));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let package = match group {
        "apiextensions.k8s.io" => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned()
        }
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
        "" => "io.k8s.api.core".to_owned(),
        "apps" | "autoscaling" | "batch" | "policy" => format!("io.k8s.api.{group}"),
        _ => format!(
            "io.k8s.api.{}",
            group.strip_suffix(".k8s.io")?.split('.').next()?
        ),
    };
    let id = registry.find(&format!("{package}.{version}.{kind}"))?;
    // Parts of objects share the package with the objects; only these have a kind.
    registry
        .definition(id)
        .field("kind")
        .filter(|field| field.embedded == "TypeMeta")
        .map(|_| id)
}

impl Kind {
    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The kind of a list of them.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Its shape; all kinds share one arena.
    pub fn schema(&self) -> Schema {
        Registry::get().schema(self.definition)
    }

    /// Reads an object as a real server reads it: wrong types are refused in its words, unknown
    /// fields are dropped and named, amounts and times get their usual form, empty fields are left
    /// out or written as the server writes them.
    pub fn normalize(&self, object: &Value) -> Result<Normal, String> {
        match Registry::get().find(self.definition) {
            Some(id) => go::normalize(id, object),
            None => Ok(Normal {
                object: object.clone(),
                unknown: Vec::new(),
            }),
        }
    }

    /// Where objects are stored, which differs for kinds that are served in two shapes.
    pub fn storage(&self) -> Storage {
        convert::storage(self)
    }

    /// The object in the shape that is stored.
    #[expect(
        clippy::wrong_self_convention,
        reason = "the object is converted, not the kind"
    )]
    pub fn to_storage(&self, object: Value) -> Value {
        convert::to_storage(self, object)
    }

    /// A stored object in the shape of this kind.
    #[expect(
        clippy::wrong_self_convention,
        reason = "the object is converted, not the kind"
    )]
    pub fn from_storage(&self, object: Value) -> Value {
        convert::from_storage(self, object)
    }

    /// Fills in what the API server defaults.
    pub fn fill_defaults(&self, object: &mut Value) {
        defaults::fill(self, object);
    }

    /// What the API server does to a new object before it validates (drops status, counts
    /// generation, …); `metadata.uid` must be set already.
    pub fn prepare_create(&self, object: &mut Value) {
        prepare::create(self, object);
    }

    /// The same for an update of the main endpoint: what it may not change is restored from `old`.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        prepare::update(self, new, old);
    }

    /// The same for an update of the `status` subresource: everything else is restored from `old`.
    pub fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        prepare::update_status(self, new, old);
    }

    /// What is wrong with a new object (names and metadata are checked by the server).
    pub fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        validate::create(self, object)
    }

    /// What is wrong with a change, immutable fields above all.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate::update(self, new, old)
    }

    /// Whether a delete answers the object that went, not a Status.
    pub fn answers_deleted(&self) -> bool {
        matches!(
            self.kind,
            "PersistentVolume"
                | "PersistentVolumeClaim"
                | "Pod"
                | "PodTemplate"
                | "ResourceQuota"
                | "Service"
                | "ServiceAccount"
                | "CSIDriver"
                | "CSINode"
                | "StorageClass"
                | "VolumeAttachment"
                | "VolumeAttributesClass"
        )
    }

    /// How a name must look: an RFC 1123 label, subdomain, RFC 1035 label, or a path segment.
    pub fn validate_name(&self, name: &str) -> Vec<FieldError> {
        validate::name(self, name)
    }

    /// Fields that selectors may name beside `metadata.name` and `metadata.namespace`.
    pub fn selectable_fields(&self) -> &'static [&'static str] {
        match (self.group, self.kind) {
            ("", "Pod") => &[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.podIPs",
                "status.nominatedNodeName",
            ],
            ("", "Node") => &["spec.unschedulable"],
            ("", "ReplicationController") => &["status.replicas"],
            ("", "Namespace") => &["status.phase"],
            ("", "Secret") => &["type"],
            ("", "Service") => &["spec.clusterIP", "spec.type"],
            ("", "Event") => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "source",
                "type",
            ],
            ("events.k8s.io", "Event") => &[
                "regarding.kind",
                "regarding.namespace",
                "regarding.name",
                "regarding.uid",
                "regarding.apiVersion",
                "regarding.resourceVersion",
                "regarding.fieldPath",
                "reason",
                "reportingController",
                "type",
            ],
            ("batch", "Job") => &["status.successful"],
            ("certificates.k8s.io", "CertificateSigningRequest") => &["spec.signerName"],
            _ => &[],
        }
    }

    /// What a selectable field is in an object, as selectors compare it (absent is empty, or
    /// `false` and `0` where the field is no text).
    pub fn selectable_value(&self, object: &Value, field: &str) -> String {
        let path = match (self.group, field) {
            ("", "source") => "source.component",
            ("batch", "status.successful") => "status.succeeded",
            _ => field,
        };
        let found = path
            .split('.')
            .try_fold(object, |value, name| value.get(name));
        match found {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => {
                let texts: Vec<_> = items
                    .iter()
                    .filter_map(|item| item.get("ip")?.as_str())
                    .collect();
                texts.join(",")
            }
            Some(Value::Null) | None => match field {
                "spec.unschedulable" | "spec.hostNetwork" => "false".to_owned(),
                "status.replicas" | "status.successful" => "0".to_owned(),
                _ => String::new(),
            },
            Some(other) => other.to_string(),
        }
    }

    /// Columns for people.
    pub fn columns(&self) -> Vec<Column> {
        print::columns(self)
    }

    /// One row; `now` is seconds since the epoch.
    pub fn cells(&self, object: &Value, now: i64) -> Vec<Value> {
        print::cells(self, object, now)
    }
}
