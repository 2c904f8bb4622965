//! How single manifests of a work are applied, watched and judged.

use crate::null_as_default;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the manifests that an identifier names are applied and watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestConfigOption {
    /// The manifests that this is about; name and namespace may hold `*`.
    pub resource_identifier: ResourceIdentifier,
    /// What is reported of their status.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub feedback_rules: Vec<FeedbackRule>,
    /// How they are written; absent means Update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
    /// Conditions that are computed from them.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["condition"]))]
    pub condition_rules: Vec<ConditionRule>,
    /// Whether their status is polled or watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "Poll"))]
    pub feedback_scrape_type: Option<FeedbackScrapeType>,
}

/// Names one object of a cluster, or with `*` in name or namespace several.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct ResourceIdentifier {
    /// The API group; empty for the core group.
    #[serde(default, deserialize_with = "null_as_default")]
    pub group: String,
    /// The plural name of the kind.
    pub resource: String,
    /// The name of the object.
    pub name: String,
    /// The namespace of the object; empty when it has none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub namespace: String,
}

/// What is reported of an object's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedbackRule {
    /// Where the values come from.
    #[serde(rename = "type")]
    pub type_: FeedbackType,
    /// The paths when they come from JSONPaths.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub json_paths: Vec<JsonPathRule>,
}

/// Where feedback values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FeedbackType {
    /// A fixed list for each of a few kinds.
    WellKnownStatus,
    /// Paths given in the rule.
    JSONPaths,
}

/// One value to report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JsonPathRule {
    /// The name of the value.
    pub name: String,
    /// The version of the object for which the path is written; any when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// A Kubernetes JSONPath without the outer braces.
    pub path: String,
}

/// How an object is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// The way of writing.
    #[serde(default, rename = "type", deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = "Update", "x-required" = true))]
    pub type_: UpdateStrategyType,
    /// Details when the way is ServerSideApply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_apply: Option<ServerSideApplyConfig>,
}

/// The ways of writing an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum UpdateStrategyType {
    /// Created, then updated whenever it differs from the manifest.
    #[default]
    Update,
    /// Created, then left alone.
    CreateOnly,
    /// Applied server-side.
    ServerSideApply,
    /// Never written, only looked at.
    ReadOnly,
}

/// Details of a server-side apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerSideApplyConfig {
    /// Whether fields are taken from other managers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub force: bool,
    /// The field manager; begins with `work-agent`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("x-default" = "work-agent", "pattern" = "^work-agent"))]
    pub field_manager: String,
    /// Fields that are left to the cluster.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["condition"]))]
    pub ignore_fields: Vec<IgnoreField>,
}

/// Fields that are left to the cluster, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IgnoreField {
    /// When the fields are ignored.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = "OnSpokePresent", "x-required" = true))]
    pub condition: IgnoreFieldsCondition,
    /// The fields as Kubernetes JSONPaths.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(min = 1))]
    pub json_paths: Vec<String>,
    /// The fields as JSON pointers.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(min = 1))]
    pub json_pointers: Vec<String>,
    /// The fields as path expressions of jq.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty",
        rename = "jqPathExpressions"
    )]
    #[schemars(length(min = 1))]
    pub jq_path_expressions: Vec<String>,
}

/// When fields are left to the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IgnoreFieldsCondition {
    /// As soon as the object exists.
    #[default]
    OnSpokePresent,
    /// When the cluster changed them.
    OnSpokeChange,
}

/// How a condition of a manifest is computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{ "message": "Condition is required for CEL rules", "rule": "self.type != 'CEL' || self.condition != \"\"" }]))]
pub struct ConditionRule {
    /// The type of the condition; `Complete` ends the updates of the manifest.
    pub condition: String,
    /// Where the verdict comes from.
    #[serde(rename = "type")]
    pub type_: ConditionRuleType,
    /// Expressions over `object`; all must hold.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cel_expressions: Vec<String>,
    /// The message of the condition.
    #[serde(default, deserialize_with = "null_as_default")]
    pub message: String,
    /// An expression over `object` and `result` that gives the message.
    #[serde(default, deserialize_with = "null_as_default")]
    pub message_expression: String,
}

/// Where the verdict of a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConditionRuleType {
    /// Fixed rules for a few kinds.
    WellKnownConditions,
    /// Expressions given in the rule.
    #[serde(rename = "CEL")]
    Cel,
}

/// How the status of an object reaches the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FeedbackScrapeType {
    /// The agent asks from time to time.
    #[default]
    Poll,
    /// The agent watches.
    Watch,
}
