//! `cluster.open-cluster-management.io/v1beta1` (upstream: api, cluster/v1beta1/types_placement.go and types_placementdecision.go).

mod strategy;

pub use strategy::*;

use super::v1::TaintEffect;
use crate::{
    Condition, LabelSelector, LabelSelectorRequirement, Time, null_as_default,
    object::resource,
    schema::{conditions_map, label_key_pattern, label_selector, requirements},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

resource! {
    /// Chooses clusters from the sets that are bound to its namespace. What was chosen stands in PlacementDecisions.
    Placement {
        group: "cluster.open-cluster-management.io", version: "v1beta1", plural: "placements", scope: NamespaceResourceScope,
        spec: PlacementSpec, status: PlacementStatus,
    }
}

resource! {
    /// Up to 100 of the clusters that a placement chose; the label `cluster.open-cluster-management.io/placement` names the placement.
    PlacementDecision {
        group: "cluster.open-cluster-management.io", version: "v1beta1", plural: "placementdecisions", scope: NamespaceResourceScope,
        status: PlacementDecisionStatus,
    }
}

/// Which clusters to choose, and how many. An empty one chooses all clusters of the bound sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSpec {
    /// The sets to choose from; empty: all that are bound to the namespace.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cluster_sets: Vec<String>,
    /// How many clusters; absent: all that pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_of_clusters: Option<i32>,
    /// What a cluster must fulfil: one of these at least.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub predicates: Vec<ClusterPredicate>,
    /// Which clusters are preferred.
    #[serde(default, deserialize_with = "null_as_default")]
    pub prioritizer_policy: PrioritizerPolicy,
    /// How evenly the chosen clusters are spread.
    #[serde(default, deserialize_with = "null_as_default")]
    pub spread_policy: SpreadPolicy,
    /// Taints that do not keep clusters away.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub tolerations: Vec<Toleration>,
    /// How the decisions are divided into groups.
    #[serde(default, deserialize_with = "null_as_default")]
    pub decision_strategy: DecisionStrategy,
    /// The order of the decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "ClusterName"))]
    pub sort_by: Option<PlacementSortByType>,
    /// How long scores stand in decisions before new ones may replace them: a number and `h`, `m` or `s`.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(extend("x-default" = "1m", "pattern" = "^[0-9]+[hms]$"))]
    pub score_rate_limit: String,
}

/// One way to be chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPredicate {
    /// What the cluster must fulfil.
    #[serde(default, deserialize_with = "null_as_default")]
    pub required_cluster_selector: ClusterSelector,
}

/// Labels, claims and expressions, all of which must hold. An empty one holds for every cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSelector {
    /// By labels of the cluster.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(schema_with = "label_selector")]
    pub label_selector: LabelSelector,
    /// By claims in the cluster's status.
    #[serde(default, deserialize_with = "null_as_default")]
    pub claim_selector: ClusterClaimSelector,
    /// By expressions on the cluster.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cel_selector: ClusterCelSelector,
}

/// Requirements on claims, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterClaimSelector {
    /// The requirements.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "requirements")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// CEL expressions on the variable `managedCluster`, all of which must be true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterCelSelector {
    /// The expressions.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cel_expressions: Vec<String>,
}

/// Lets clusters with certain taints be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The key of the taint; empty, with the operator Exists, stands for every key.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(length(max = 316), extend("pattern" = label_key_pattern()))]
    pub key: String,
    /// Equal (also when empty) or Exists.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(extend("x-default" = "Equal"))]
    pub operator: String,
    /// The value of the taint, for Equal.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(length(max = 1024))]
    pub value: String,
    /// The effect of the taint; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// Seconds from the time when the taint was put on; absent: forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    /// The operator that compares values.
    pub const EQUAL: &str = "Equal";
    /// The operator that takes any value.
    pub const EXISTS: &str = "Exists";
}

/// What was chosen, in short.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementStatus {
    /// How many clusters are chosen.
    #[serde(default, deserialize_with = "null_as_default")]
    pub number_of_selected_clusters: i32,
    /// The groups of decisions.
    #[serde(default, deserialize_with = "null_as_default")]
    pub decision_groups: Vec<DecisionGroupStatus>,
    /// The conditions of the placement.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_map")]
    pub conditions: Vec<Condition>,
    /// When the scores in the decisions were last updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_score_update_time: Option<Time>,
}

/// One group of decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionGroupStatus {
    /// The index of the group, from 0.
    #[serde(default, deserialize_with = "null_as_default")]
    pub decision_group_index: i32,
    /// The name from the strategy; empty for the clusters that no named group took.
    #[serde(default, deserialize_with = "null_as_default")]
    pub decision_group_name: String,
    /// The names of the group's PlacementDecisions.
    #[serde(default, deserialize_with = "null_as_default")]
    pub decisions: Vec<String>,
    /// How many clusters the group has.
    #[serde(default, rename = "clusterCount", deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = 0))]
    pub clusters_count: i32,
}

/// The clusters of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementDecisionStatus {
    /// At most 100.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-required" = true))]
    pub decisions: Vec<ClusterDecision>,
}

/// A cluster that was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDecision {
    /// The name of the ManagedCluster.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-required" = true))]
    pub cluster_name: String,
    /// Why; always empty so far.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-required" = true))]
    pub reason: String,
    /// The sum of the weighted scores, where the placement sorts by score; 0 is left out.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_zero"
    )]
    pub score: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(score: &i64) -> bool {
    *score == 0
}
