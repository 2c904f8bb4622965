//! `work.open-cluster-management.io/v1alpha1` (upstream: api, work/v1alpha1/types_manifestworkreplicaset.go).

use super::v1::ManifestWorkSpec;
use crate::{
    Condition, cluster::v1alpha1::RolloutStrategy, null_as_default, object::resource,
    schema::conditions_map,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

resource! {
    /// The same work for every cluster that placements of its namespace choose.
    ManifestWorkReplicaSet {
        group: "work.open-cluster-management.io", version: "v1alpha1", plural: "manifestworkreplicasets", scope: NamespaceResourceScope,
        spec: ManifestWorkReplicaSetSpec, status: ManifestWorkReplicaSetStatus,
    }
}

/// The work, and who gets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestWorkReplicaSetSpec {
    /// The spec of the work of each cluster.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifest_work_template: ManifestWorkSpec,
    /// The placements; a cluster that several of them choose belongs to the first.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(length(min = 1), extend("x-required" = true))]
    pub placement_refs: Vec<LocalPlacementReference>,
    /// Whether the set goes before its works or after them.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = "Background", "x-required" = true))]
    pub cascade_deletion_policy: CascadeDeletionPolicy,
}

/// Whether a set goes before its works or after them.
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
pub enum CascadeDeletionPolicy {
    /// It does not wait for them.
    #[default]
    Background,
    /// It stays until they are gone.
    Foreground,
}

/// A placement of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalPlacementReference {
    /// The name of the placement.
    #[schemars(length(min = 1))]
    pub name: String,
    /// How a change reaches its clusters.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = { "type": "All", "all": { "progressDeadline": "None" } }))]
    pub rollout_strategy: RolloutStrategy,
}

/// What became of the works.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestWorkReplicaSetStatus {
    /// The conditions of the set: PlacementVerified, PlacementRolledOut, ManifestworkApplied.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_map")]
    pub conditions: Vec<Condition>,
    /// The works of all placements.
    #[serde(default, deserialize_with = "null_as_default")]
    pub summary: ManifestWorkReplicaSetSummary,
    /// The works of each placement.
    #[serde(
        default,
        rename = "placementSummary",
        deserialize_with = "null_as_default"
    )]
    pub placements_summary: Vec<PlacementSummary>,
}

/// The works of one placement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSummary {
    /// The name of the placement.
    #[serde(default)]
    pub name: String,
    /// How many decision groups there are, and how many of their clusters have the work, as `2 (3 / 7 clusters applied)`.
    #[serde(default)]
    pub available_decision_groups: String,
    /// The works in numbers.
    #[serde(default)]
    pub summary: ManifestWorkReplicaSetSummary,
}

/// Works in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestWorkReplicaSetSummary {
    /// The clusters that have the work as it is now.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub total: i64,
    /// Works of which Progressing is True.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub progressing: i64,
    /// Works of which Available is True.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub available: i64,
    /// Works of which Degraded is True.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub degraded: i64,
    /// Works of which Applied is True.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub applied: i64,
    /// The clusters that are to have the work.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub desired_total: i64,
    /// The clusters in which the work as it is now was applied.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub updated: i64,
}

/// A Go `int`: upstream says no more of its size.
fn number(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer" })
}
