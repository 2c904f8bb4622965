//! What became of a work.

use crate::{
    Condition, Time, null_as_default,
    schema::{conditions_map, conditions_map_required},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of a work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestWorkStatus {
    /// The conditions of the work: Applied, Available, Progressing, Degraded, Complete, Deleting.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_map")]
    pub conditions: Vec<Condition>,
    /// What became of each manifest.
    #[serde(default, deserialize_with = "null_as_default")]
    pub resource_status: ManifestResourceStatus,
}

/// What became of each manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestResourceStatus {
    /// One entry for each manifest.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub manifests: Vec<ManifestCondition>,
}

/// What became of one manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestCondition {
    /// Which manifest.
    pub resource_meta: ManifestResourceMeta,
    /// The values that the feedback rules asked for.
    #[serde(default, deserialize_with = "null_as_default")]
    pub status_feedback: StatusFeedbackResult,
    /// The conditions of the manifest: Applied, Available, StatusFeedbackSynced and those of its rules.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(schema_with = "conditions_map_required")]
    pub conditions: Vec<Condition>,
}

/// Names the object of a manifest.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct ManifestResourceMeta {
    /// The index of the manifest in the spec.
    pub ordinal: i32,
    /// The API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// The API version.
    #[serde(default)]
    pub version: String,
    /// The kind.
    #[serde(default)]
    pub kind: String,
    /// The plural name of the kind; empty while the cluster does not serve it.
    #[serde(default)]
    pub resource: String,
    /// The name of the object.
    #[serde(default)]
    pub name: String,
    /// The namespace of the object; empty when it has none.
    #[serde(default)]
    pub namespace: String,
}

/// The values that feedback rules asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusFeedbackResult {
    /// One entry for each value that was there.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub values: Vec<FeedbackValue>,
}

/// One value of a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedbackValue {
    /// The name that the rule gave it.
    pub name: String,
    /// The value.
    #[serde(rename = "fieldValue")]
    pub value: FieldValue,
}

/// A value and its type; exactly the member that the type names is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldValue {
    /// Which member is set.
    #[serde(rename = "type")]
    pub type_: ValueType,
    /// An integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integer: Option<i64>,
    /// A text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string: Option<String>,
    /// A truth value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boolean: Option<bool>,
    /// Anything else as JSON text of at most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub json_raw: Option<String>,
}

/// The types of a feedback value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ValueType {
    /// 64 bits.
    Integer,
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// JSON text.
    JsonRaw,
}

/// What was applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedManifestWorkStatus {
    /// The objects that are in the cluster for the work.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub applied_resources: Vec<AppliedManifestResourceMeta>,
    /// Since when the work is missing on the hub; the objects go after a grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_start_time: Option<Time>,
}

/// Names an object that was applied.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct AppliedManifestResourceMeta {
    /// The API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// The API version.
    pub version: String,
    /// The plural name of the kind.
    pub resource: String,
    /// The name of the object.
    pub name: String,
    /// The namespace of the object; empty when it has none.
    #[serde(default)]
    pub namespace: String,
    /// The uid of the object that was applied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}
