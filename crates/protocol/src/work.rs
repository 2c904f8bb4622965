//! A ManifestWork as the protocol holds it: metadata and status parsed, manifests left as the JSON they came as.
//!
//! [`Work`] reads and writes the whole ManifestWork JSON object, so it converts to and from any type that does.

use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::gojson::StatusText;
use crate::meta::{ObjectMeta, is_zero, nullable, seconds};
use crate::names;
use crate::raw::Raw;

/// A ManifestWork. Clones share the spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What shall be applied.
    pub spec: Arc<WorkSpec>,
    /// What was observed.
    pub status: WorkStatus,
}

/// The spec of a work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkSpec {
    /// Manifests in order, as raw JSON objects.
    pub manifests: Vec<Raw>,
    /// `deleteOption`.
    pub delete_option: Option<Raw>,
    /// `manifestConfigs`, the whole array.
    pub manifest_configs: Option<Raw>,
    /// `executor`.
    pub executor: Option<Raw>,
}

/// The status of a work. Fields of these types are declared in the order of their JSON keys: written out, they are canonical.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkStatus {
    /// Conditions of the whole work.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
    /// Per manifest.
    #[serde(deserialize_with = "nullable")]
    pub resource_status: ResourceStatus,
}

/// Wrapper of the per-manifest list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceStatus {
    /// Per manifest.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub manifests: Vec<ManifestCondition>,
}

/// A Kubernetes condition.
#[expect(clippy::struct_field_names, reason = "`type` is a keyword")]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Last change of `status`; `null` when unknown.
    #[serde(with = "seconds")]
    pub last_transition_time: Option<Timestamp>,
    /// For people.
    #[serde(deserialize_with = "nullable")]
    pub message: String,
    /// Generation that was observed; 0 is left out.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    pub observed_generation: i64,
    /// For programs.
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
    /// `True`, `False` or `Unknown`.
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// Name of the condition.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub condition_type: String,
}

/// Status of one manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestCondition {
    /// `null` when nobody set any.
    pub conditions: Option<Vec<Condition>>,
    /// Which object.
    #[serde(deserialize_with = "nullable")]
    pub resource_meta: ManifestResourceMeta,
    /// Values read back.
    #[serde(deserialize_with = "nullable")]
    pub status_feedback: StatusFeedback,
}

/// Which object a [`ManifestCondition`] speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ManifestResourceMeta {
    #[serde(deserialize_with = "nullable")]
    pub group: String,
    #[serde(deserialize_with = "nullable")]
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
    /// Index in the list of manifests.
    #[serde(deserialize_with = "nullable")]
    pub ordinal: i32,
    #[serde(deserialize_with = "nullable")]
    pub resource: String,
    #[serde(deserialize_with = "nullable")]
    pub version: String,
}

/// Wrapper of the list of values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusFeedback {
    /// Values by name.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub values: Vec<FeedbackValue>,
}

/// One value read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FeedbackValue {
    /// Typed value.
    pub field_value: FieldValue,
    /// Name given by the rule.
    pub name: String,
}

/// A typed value: `type` says which of the others is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct FieldValue {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boolean: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integer: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_raw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string: Option<String>,
    #[serde(rename = "type")]
    pub value_type: String,
}

impl WorkStatus {
    /// Lower-case hex SHA-256 of the canonical JSON, equal to what peers compute for the same status.
    pub fn hash(&self) -> String {
        StatusText::of(self)
            .expect("a status of strings and numbers is always JSON")
            .hash()
    }

    /// Whether a condition is `True`.
    pub fn is_true(&self, condition: &str) -> bool {
        self.conditions
            .iter()
            .any(|c| c.condition_type == condition && c.status == "True")
    }

    /// Whether the agent said its last word.
    pub fn is_deleted(&self) -> bool {
        self.is_true(names::CONDITION_DELETED)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 0xf));
    }
    out
}

impl Condition {
    /// A condition that came true, false or unknown now.
    pub fn at(
        time: Timestamp,
        (condition_type, status, reason): (&str, &str, &str),
        generation: i64,
    ) -> Self {
        Self {
            last_transition_time: Some(time),
            observed_generation: generation,
            reason: reason.to_owned(),
            status: status.to_owned(),
            condition_type: condition_type.to_owned(),
            message: String::new(),
        }
    }
}

impl Work {
    /// A work for a cluster, of anything that serialises as a Kubernetes object.
    pub fn new(
        cluster: &str,
        name: &str,
        manifests: impl IntoIterator<Item = impl Serialize>,
    ) -> Result<Self, serde_json::Error> {
        let manifests = manifests.into_iter().map(|object| Raw::of(&object));
        let mut work = Self {
            spec: Arc::new(WorkSpec {
                manifests: manifests.collect::<Result<_, _>>()?,
                ..WorkSpec::default()
            }),
            ..Self::default()
        };
        cluster.clone_into(&mut work.metadata.namespace);
        name.clone_into(&mut work.metadata.name);
        Ok(work)
    }

    /// Reads any value that serialises as a ManifestWork (JSON value, kube type).
    pub fn from_object(object: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(&serde_json::to_vec(object)?)
    }

    /// Builds any type that deserialises from a ManifestWork (JSON value, kube type).
    pub fn to_object<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&serde_json::to_vec(self)?)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Whole<M, S, T> {
    api_version: String,
    kind: String,
    metadata: M,
    spec: S,
    status: T,
}

impl<M: Default, S: Default, T: Default> Default for Whole<M, S, T> {
    fn default() -> Self {
        Self {
            api_version: "work.open-cluster-management.io/v1".to_owned(),
            kind: "ManifestWork".to_owned(),
            metadata: M::default(),
            spec: S::default(),
            status: T::default(),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WholeSpec {
    #[serde(deserialize_with = "nullable")]
    workload: Workload,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_option: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_configs: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executor: Option<Raw>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Workload {
    #[serde(deserialize_with = "nullable")]
    manifests: Vec<Raw>,
}

impl Serialize for WorkSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WholeSpec {
            workload: Workload {
                manifests: self.manifests.clone(),
            },
            delete_option: self.delete_option.clone(),
            manifest_configs: self.manifest_configs.clone(),
            executor: self.executor.clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WorkSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = WholeSpec::deserialize(deserializer)?;
        Ok(Self {
            manifests: whole.workload.manifests,
            delete_option: whole.delete_option,
            manifest_configs: whole.manifest_configs,
            executor: whole.executor,
        })
    }
}

impl Serialize for Work {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Whole {
            api_version: "work.open-cluster-management.io/v1".to_owned(),
            kind: "ManifestWork".to_owned(),
            metadata: &self.metadata,
            spec: &*self.spec,
            status: &self.status,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Work {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole =
            Whole::<ObjectMeta, Option<WorkSpec>, Option<WorkStatus>>::deserialize(deserializer)?;
        Ok(Self {
            metadata: whole.metadata,
            spec: Arc::new(whole.spec.unwrap_or_default()),
            status: whole.status.unwrap_or_default(),
        })
    }
}
