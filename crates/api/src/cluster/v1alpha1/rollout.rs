//! How a change reaches the clusters of a placement (upstream: api, cluster/v1alpha1/types_rolloutstrategy.go).

use crate::{IntOrString, null_as_default, schema::int_or_string};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How a change reaches the clusters of a placement. Only the member that the type names counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// The way.
    #[serde(default, rename = "type", deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = "All"))]
    pub type_: RolloutType,
    /// For All.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<RolloutAll>,
    /// For Progressive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressive: Option<RolloutProgressive>,
    /// For ProgressivePerGroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressive_per_group: Option<RolloutProgressivePerGroup>,
}

/// The ways in which a change reaches clusters.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum RolloutType {
    /// All clusters at once.
    #[default]
    All,
    /// Cluster by cluster, a few at the same time.
    Progressive,
    /// Decision group by decision group.
    ProgressivePerGroup,
}

/// What all ways have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutConfig {
    /// How long a cluster must have succeeded before others follow: a duration like `90m`. All does not look at it.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(extend("x-default" = "0"))]
    pub min_success_time: String,
    /// After which time a cluster that did not succeed has failed: a duration like `1h30m`, or `None` (also when empty).
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(extend("x-default" = "None", "pattern" = "^(([0-9])+[h|m|s])|None$"))]
    pub progress_deadline: String,
    /// How many clusters may fail before no more follow: a number, or a share of all clusters (Progressive) or of those of the
    /// group (ProgressivePerGroup). All does not look at it; mandatory groups tolerate none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "max_failures")]
    pub max_failures: Option<IntOrString>,
}

/// The pattern of numbers and shares.
const AMOUNT: &str = "^((100|[0-9]{1,2})%|[0-9]+)$";

fn max_failures(_: &mut SchemaGenerator) -> Schema {
    let mut schema = int_or_string(AMOUNT, None);
    schema.insert("x-default".to_owned(), json!(0));
    schema
}

fn max_concurrency(_: &mut SchemaGenerator) -> Schema {
    int_or_string(AMOUNT, None)
}

/// All clusters at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutAll {
    /// What all ways have in common.
    #[serde(flatten)]
    pub config: RolloutConfig,
}

/// Cluster by cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutProgressive {
    /// What all ways have in common.
    #[serde(flatten)]
    pub config: RolloutConfig,
    /// The decision groups that come first and in which nothing may fail.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub mandatory_decision_groups: Vec<MandatoryDecisionGroup>,
    /// How many clusters change at the same time: a number, or a share of the clusters outside of mandatory groups; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "max_concurrency")]
    pub max_concurrency: Option<IntOrString>,
}

/// Decision group by decision group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutProgressivePerGroup {
    /// What all ways have in common.
    #[serde(flatten)]
    pub config: RolloutConfig,
    /// The decision groups that come first and in which nothing may fail.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub mandatory_decision_groups: Vec<MandatoryDecisionGroup>,
}

/// Names decision groups: all of this name, or when the name is empty the one of this index. An empty entry is group 0.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct MandatoryDecisionGroup {
    /// The name.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub group_name: String,
    /// The index, from 0.
    #[serde(default, deserialize_with = "null_as_default")]
    pub group_index: i32,
}
