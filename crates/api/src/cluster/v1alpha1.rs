//! `cluster.open-cluster-management.io/v1alpha1` (upstream: api, cluster/v1alpha1/types.go).

use crate::object::{NoStatus, resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

resource! {
    /// Something that a managed cluster says of itself; lives in that cluster and is copied into the status of its ManagedCluster.
    ClusterClaim {
        group: "cluster.open-cluster-management.io", version: "v1alpha1", plural: "clusterclaims", scope: ClusterResourceScope,
        spec: ClusterClaimSpec, status: NoStatus,
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
