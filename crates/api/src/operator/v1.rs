//! `operator.open-cluster-management.io/v1` (upstream: api, operator/v1/types_klusterlet.go): as much of a Klusterlet as
//! concerns its agent. Drover installs no such definition; it honours the object where another product serves it.

use std::collections::BTreeMap;

use crate::null_as_default;
use crate::object::{NoStatus, resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

resource! {
    /// The agents of the cluster that it lives in.
    Klusterlet {
        group: "operator.open-cluster-management.io", version: "v1", plural: "klusterlets", scope: ClusterResourceScope,
        spec: KlusterletSpec, status: NoStatus,
    }
}

/// What is wanted of the agents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KlusterletSpec {
    /// Name of the cluster on its hub.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_name: String,
    /// Addresses of the cluster that are told to the hub.
    #[serde(
        default,
        rename = "externalServerURLs",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub external_server_urls: Vec<ServerUrl>,
    /// Of the part that joins hubs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_configuration: Option<RegistrationConfiguration>,
    /// Of the part that applies works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_configuration: Option<WorkAgentConfiguration>,
}

/// An address of a cluster's API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerUrl {
    /// The address.
    pub url: String,
    /// Its authorities, base64 of PEM.
    #[serde(default, rename = "caBundle", skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// How the agent joins hubs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationConfiguration {
    /// Seconds that a certificate shall be good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_expiration_seconds: Option<i32>,
    /// Gates of features.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub feature_gates: Vec<FeatureGate>,
    /// Annotations of the cluster on its hub; only those with upstream's prefix for agents count.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub cluster_annotations: BTreeMap<String, String>,
    /// Labels of the cluster on its hub.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub cluster_labels: BTreeMap<String, String>,
    /// The hubs to join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_kube_configs: Option<BootstrapKubeConfigs>,
    /// Which claims are reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_claim_configuration: Option<ClusterClaimConfiguration>,
}

/// A feature, turned on or off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureGate {
    /// Its name.
    pub feature: String,
    /// `Enable` or `Disable`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("x-default" = "Disable"))]
    pub mode: String,
}

/// Several hubs to join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapKubeConfigs {
    /// `None`, or `LocalSecrets`: secrets in the agent's namespace.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    #[schemars(extend("x-default" = "None"))]
    pub type_: String,
    /// The secrets.
    #[serde(
        default,
        rename = "localSecretsConfig",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_secrets: Option<LocalSecrets>,
}

/// Secrets that let an agent join hubs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalSecrets {
    /// Their names, in order.
    #[serde(default, deserialize_with = "null_as_default")]
    pub kube_config_secrets: Vec<SecretName>,
    /// How long a hub may be silent before the agent goes to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 180))]
    pub hub_connection_timeout_seconds: Option<i32>,
}

/// A secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretName {
    /// Its name.
    pub name: String,
}

/// Which claims are reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterClaimConfiguration {
    /// How many beside the reserved ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_custom_cluster_claims: Option<i32>,
    /// Ends of names that are reserved as well.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 10))]
    pub reserved_cluster_claim_suffixes: Vec<String>,
}

/// How the agent applies works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkAgentConfiguration {
    /// Gates of features.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub feature_gates: Vec<FeatureGate>,
    /// How long objects stay after their work vanished: a Go duration of s, m and h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_manifest_work_eviction_grace_period: Option<String>,
    /// How often works are looked at: a Go duration of s, m and h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_sync_interval: Option<String>,
}
