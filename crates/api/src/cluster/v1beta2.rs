//! `cluster.open-cluster-management.io/v1beta2` (upstream: api, cluster/v1beta2/types_managedclusterset.go and
//! types_managedclustersetbinding.go).

use crate::{
    Condition, LabelSelector, null_as_default,
    object::resource,
    schema::{conditions_list, label_selector, subdomain_label_pattern},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

resource! {
    /// A named set of clusters.
    ManagedClusterSet {
        group: "cluster.open-cluster-management.io", version: "v1beta2", plural: "managedclustersets", scope: ClusterResourceScope,
        spec: ManagedClusterSetSpec, status: ManagedClusterSetStatus,
    }
}

resource! {
    /// Lets placements of its namespace choose among the clusters of a set.
    ManagedClusterSetBinding {
        group: "cluster.open-cluster-management.io", version: "v1beta2", plural: "managedclustersetbindings", scope: NamespaceResourceScope,
        spec: ManagedClusterSetBindingSpec, status: ManagedClusterSetBindingStatus,
    }
}

/// Which clusters belong to the set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterSetSpec {
    /// How clusters are chosen.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = { "selectorType": "ExclusiveClusterSetLabel" }))]
    pub cluster_selector: ManagedClusterSelector,
    /// Namespaces to manage in every cluster of the set.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub managed_namespaces: Vec<ManagedNamespaceConfig>,
}

/// How a set chooses its clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterSelector {
    /// The way of choosing.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = "ExclusiveClusterSetLabel", "x-required" = true))]
    pub selector_type: SelectorType,
    /// The labels to look for when the way is `LabelSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub label_selector: Option<LabelSelector>,
}

/// The ways of choosing clusters.
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
pub enum SelectorType {
    /// By the label `cluster.open-cluster-management.io/clusterset`: a cluster is in one such set at most.
    #[default]
    ExclusiveClusterSetLabel,
    /// By any labels: a cluster can be in many such sets.
    LabelSelector,
}

/// A namespace to manage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedNamespaceConfig {
    /// The name of the namespace.
    #[schemars(length(max = 63), extend("pattern" = subdomain_label_pattern()))]
    pub name: String,
}

/// What is known of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterSetStatus {
    /// The conditions of the set.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_list")]
    pub conditions: Vec<Condition>,
}

/// The set that is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterSetBindingSpec {
    /// The name of the set; the same as the name of the binding.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1))]
    pub cluster_set: String,
}

/// What is known of a binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterSetBindingStatus {
    /// The conditions of the binding.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_list")]
    pub conditions: Vec<Condition>,
}
