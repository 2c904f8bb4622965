//! `cluster.open-cluster-management.io/v1` (upstream: api, cluster/v1/types.go).

use crate::{
    Condition, Quantity, Time, null_as_default,
    object::resource,
    schema::{conditions_map, label_key_pattern, subdomain_label_pattern},
};
use k8s_openapi::ByteString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

resource! {
    /// A cluster of the fleet, as the hub sees it. Its works live in the namespace of the same name.
    ManagedCluster {
        group: "cluster.open-cluster-management.io", version: "v1", plural: "managedclusters", scope: ClusterResourceScope,
        spec: ManagedClusterSpec, status: ManagedClusterStatus,
    }
}

/// What the hub's administrator and the cluster agree on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterSpec {
    /// Addresses of the cluster's API server; empty when the hub cannot reach it.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub managed_cluster_client_configs: Vec<ClientConfig>,
    /// Whether the hub lets the cluster's agent in.
    #[serde(default, deserialize_with = "null_as_default")]
    pub hub_accepts_client: bool,
    /// Seconds between two renewals of the cluster's lease; 0 and absent mean 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = 60))]
    pub lease_duration_seconds: Option<i32>,
    /// What keeps placements away from the cluster.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub taints: Vec<Taint>,
}

/// One address of a cluster's API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientConfig {
    /// The https address.
    pub url: String,
    /// The certificate authorities to trust, PEM; the system's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "byte"))]
    pub ca_bundle: Option<ByteString>,
}

/// A taint repels every placement that does not tolerate it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// A label key.
    #[schemars(length(max = 316), extend("pattern" = label_key_pattern()))]
    pub key: String,
    /// A free value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub value: String,
    /// What happens to placements.
    pub effect: TaintEffect,
    /// When the taint was put on; filled by admission.
    #[serde(default)]
    #[schemars(extend("x-nullable" = true))]
    pub time_added: Option<Time>,
}

/// What a taint does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TaintEffect {
    /// Never selected, and removed where it is selected.
    NoSelect,
    /// Selected only when there is no other.
    PreferNoSelect,
    /// Not selected anew, kept where it is selected.
    NoSelectIfNew,
}

/// What is known of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterStatus {
    /// The conditions of the cluster.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_map")]
    pub conditions: Vec<Condition>,
    /// The sum over all nodes.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub capacity: BTreeMap<String, Quantity>,
    /// The sum over all nodes that take pods.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub allocatable: BTreeMap<String, Quantity>,
    /// The versions that run there.
    #[serde(default, deserialize_with = "null_as_default")]
    pub version: ManagedClusterVersion,
    /// What the cluster says of itself.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cluster_claims: Vec<ManagedClusterClaim>,
    /// The namespaces that cluster sets manage in the cluster.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["clusterSet", "name"]))]
    pub managed_namespaces: Vec<ClusterSetManagedNamespaceConfig>,
}

/// The versions that a cluster runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterVersion {
    /// The version of Kubernetes, such as `v1.36.3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kubernetes: String,
}

/// A claim of a cluster, copied to the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterClaim {
    /// The claim's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The claim's value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// A namespace that a cluster set manages in a cluster, and how it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSetManagedNamespaceConfig {
    /// The name of the cluster set.
    pub cluster_set: String,
    /// The name of the namespace.
    #[schemars(length(max = 63), extend("pattern" = subdomain_label_pattern()))]
    pub name: String,
    /// The conditions of the namespace.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_map")]
    pub conditions: Vec<Condition>,
}
