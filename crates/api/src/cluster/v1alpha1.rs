//! `cluster.open-cluster-management.io/v1alpha1` (upstream: api, cluster/v1alpha1/types.go and
//! types_addonplacementscore.go).

mod rollout;

pub use rollout::*;

use crate::{
    Condition, Time, null_as_default,
    object::{NoStatus, resource},
    schema::conditions_map,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

resource! {
    /// Something that a managed cluster says of itself; lives in that cluster and is copied into the status of its ManagedCluster.
    ClusterClaim {
        group: "cluster.open-cluster-management.io", version: "v1alpha1", plural: "clusterclaims", scope: ClusterResourceScope,
        spec: ClusterClaimSpec, status: NoStatus,
    }
}

resource! {
    /// Scores of one cluster, for placements to prefer clusters by. It lives in the cluster's namespace on the hub.
    AddOnPlacementScore {
        group: "cluster.open-cluster-management.io", version: "v1alpha1", plural: "addonplacementscores", scope: NamespaceResourceScope,
        status: AddOnPlacementScoreStatus,
    }
}

/// The value of a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterClaimSpec {
    /// What is claimed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// Scores, and until when they hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddOnPlacementScoreStatus {
    /// The conditions of the scores.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_map")]
    pub conditions: Vec<Condition>,
    /// The scores by name.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub scores: Vec<AddOnPlacementScoreItem>,
    /// When the scores stop to hold; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

/// One score.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddOnPlacementScoreItem {
    /// What is scored.
    pub name: String,
    /// From -100 to 100; higher is better.
    #[schemars(range(min = -100, max = 100))]
    pub value: i32,
}
