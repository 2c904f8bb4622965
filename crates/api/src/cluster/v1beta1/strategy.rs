//! Which clusters are preferred, how they are spread, and how the decisions are grouped.

use super::ClusterClaimSelector;
use crate::{
    IntOrString, LabelSelector, null_as_default,
    schema::{int_or_string, label_selector},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// Which clusters are preferred.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrioritizerPolicy {
    /// Additive (also when empty): Balance and Steady count 1 unless configured otherwise. Exact: only what is configured counts.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(extend("x-default" = "Additive"))]
    pub mode: String,
    /// The prioritizers and their weights.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub configurations: Vec<PrioritizerConfig>,
}

impl PrioritizerPolicy {
    /// The mode that adds to the defaults.
    pub const ADDITIVE: &str = "Additive";
    /// The mode that has no defaults.
    pub const EXACT: &str = "Exact";
}

/// One prioritizer and its weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrioritizerConfig {
    /// Where the score comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-required" = true))]
    pub score_coordinate: Option<ScoreCoordinate>,
    /// What the score is multiplied with; 0 turns the prioritizer off.
    #[serde(default = "one")]
    #[schemars(range(min = -10, max = 10), extend("x-default" = 1))]
    pub weight: i32,
}

fn one() -> i32 {
    1
}

/// Where a score comes from.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct ScoreCoordinate {
    /// Whether it is built in or comes from an AddOnPlacementScore.
    #[serde(default, rename = "type", deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = "BuiltIn", "x-required" = true))]
    pub type_: ScoreCoordinateType,
    /// Balance, Steady, ResourceAllocatableCPU or ResourceAllocatableMemory.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub built_in: String,
    /// The score to read when it is not built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_on: Option<AddOnScore>,
}

/// The sources of scores.
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
pub enum ScoreCoordinateType {
    /// Computed here.
    #[default]
    BuiltIn,
    /// Read from AddOnPlacementScores.
    AddOn,
}

/// Names one score of every cluster.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct AddOnScore {
    /// The name of the AddOnPlacementScore in the cluster's namespace.
    pub resource_name: String,
    /// The name of the score in it.
    pub score_name: String,
}

/// How evenly the chosen clusters are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpreadPolicy {
    /// The constraints; earlier ones matter more.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 8))]
    pub spread_constraints: Vec<SpreadConstraintsTerm>,
}

/// Spreads over the values of one label or claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpreadConstraintsTerm {
    /// The label's or the claim's name.
    #[schemars(length(max = 316), extend("pattern" = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$"))]
    pub topology_key: String,
    /// Whether it is a label or a claim.
    pub topology_key_type: TopologyKeyType,
    /// By how many clusters the fullest and the emptiest value may differ.
    #[serde(default = "one")]
    #[schemars(range(min = 1), extend("x-default" = 1))]
    pub max_skew: i32,
    /// What happens when that is not possible.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = "ScheduleAnyway"))]
    pub when_unsatisfiable: UnsatisfiableMaxSkewAction,
}

/// What a topology key names.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TopologyKeyType {
    /// A label of the cluster.
    Label,
    /// A claim in the cluster's status.
    Claim,
}

/// What happens to clusters that would make the spread too uneven.
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
pub enum UnsatisfiableMaxSkewAction {
    /// They are not chosen.
    DoNotSchedule,
    /// They are chosen when there are no others.
    #[default]
    ScheduleAnyway,
}

/// How the decisions are divided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStrategy {
    /// Into groups.
    #[serde(default, deserialize_with = "null_as_default")]
    pub group_strategy: GroupStrategy,
}

/// How the decisions are divided into groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupStrategy {
    /// Named groups, which choose first, in this order.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub decision_groups: Vec<DecisionGroup>,
    /// The most clusters in one group: a number, or a share of all chosen clusters; a larger group becomes several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "clusters_per_group")]
    pub clusters_per_decision_group: Option<IntOrString>,
}

fn clusters_per_group(_: &mut SchemaGenerator) -> Schema {
    int_or_string("^((100|[1-9][0-9]{0,1})%|[1-9][0-9]*)$", Some("100%"))
}

/// A named group of decisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionGroup {
    /// The value of the decisions' label `cluster.open-cluster-management.io/decision-group-name`.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-required" = true, "pattern" = "^[a-zA-Z0-9][-A-Za-z0-9_.]{0,61}[a-zA-Z0-9]$"))]
    pub group_name: String,
    /// Which of the chosen clusters belong to it.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-required" = true))]
    pub group_cluster_selector: GroupClusterSelector,
}

/// Labels and claims, all of which must hold. An empty one holds for every cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupClusterSelector {
    /// By labels of the cluster.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(schema_with = "label_selector")]
    pub label_selector: LabelSelector,
    /// By claims in the cluster's status.
    #[serde(default, deserialize_with = "null_as_default")]
    pub claim_selector: ClusterClaimSelector,
}

/// The order of decisions.
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
pub enum PlacementSortByType {
    /// By name.
    #[default]
    ClusterName,
    /// The best first, then by name.
    Score,
}
