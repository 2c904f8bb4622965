//! `config.open-cluster-management.io/v1alpha1` (upstream: stolostron cluster-lifecycle-api, klusterletconfig/v1alpha1).

use crate::null_as_default;
use crate::object::{NoStatus, resource};
use crate::operator::v1::{BootstrapKubeConfigs, ClusterClaimConfiguration, FeatureGate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

resource! {
    /// How the agents of clusters are configured that name it in an annotation; one called `global` counts for all.
    KlusterletConfig {
        group: "config.open-cluster-management.io", version: "v1alpha1", plural: "klusterletconfigs", scope: ClusterResourceScope,
        spec: KlusterletConfigSpec, status: NoStatus,
    }
}

/// The annotation of a cluster that names its configuration.
pub const ANNOTATION: &str = "agent.open-cluster-management.io/klusterlet-config";
/// The configuration that counts for all clusters.
pub const GLOBAL: &str = "global";
/// The grace period that never ends.
pub const INFINITE: &str = "INFINITE";

fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// How an agent is configured. What concerns only its installation is carried, not interpreted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KlusterletConfigSpec {
    /// Registries to take images from.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub registries: Vec<Registry>,
    /// A reference to the secret with which images are pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub pull_secret: Option<Value>,
    /// Node selector and tolerations of the agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub node_placement: Option<Value>,
    /// How the hub's API is reached.
    #[serde(
        default,
        rename = "hubKubeAPIServerConfig",
        skip_serializing_if = "Option::is_none"
    )]
    pub hub_server: Option<HubServerConfig>,
    /// Deprecated: proxies to the hub.
    #[serde(
        default,
        rename = "hubKubeAPIServerProxyConfig",
        skip_serializing_if = "Option::is_none"
    )]
    pub hub_proxy: Option<HubProxyConfig>,
    /// Deprecated: address of the hub.
    #[serde(
        default,
        rename = "hubKubeAPIServerURL",
        skip_serializing_if = "String::is_empty"
    )]
    pub hub_url: String,
    /// Deprecated: name of the ConfigMap with the authorities of the hub.
    #[serde(
        default,
        rename = "hubKubeAPIServerCABundle",
        skip_serializing_if = "String::is_empty"
    )]
    pub hub_ca_bundle: String,
    /// How long objects stay after their work vanished.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))+$|^INFINITE$"))]
    pub applied_manifest_work_eviction_grace_period: String,
    /// How the agents are installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub install_mode: Option<Value>,
    /// Several hubs to join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiple_hubs_config: Option<MultipleHubsConfig>,
    /// Gates of features.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub feature_gates: Vec<FeatureGate>,
    /// Which claims are reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_claim_configuration: Option<ClusterClaimConfiguration>,
    /// How often works are looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_status_sync_interval: Option<String>,
}

/// A registry and what replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registry {
    /// What replaces it.
    pub mirror: String,
    /// The registry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// How the hub's API is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubServerConfig {
    /// Its address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// What its certificate is verified with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_verification_strategy: Option<VerificationStrategy>,
    /// ConfigMaps with its authorities.
    #[serde(
        default,
        rename = "trustedCABundles",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub trusted_ca_bundles: Vec<CaBundle>,
    /// The proxy on the way.
    #[serde(default, rename = "proxyURL", skip_serializing_if = "String::is_empty")]
    pub proxy_url: String,
}

/// What a hub's certificate is verified with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::enum_variant_names, reason = "the names of upstream")]
pub enum VerificationStrategy {
    /// The authorities that the cluster's systems trust.
    UseSystemTruststore,
    /// Those that the hub shows.
    UseAutoDetectedCABundle,
    /// Those of the ConfigMaps.
    UseCustomCABundles,
}

/// Authorities in a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    /// Name of this entry.
    pub name: String,
    /// The ConfigMap.
    pub ca_bundle: ConfigMapReference,
}

/// A ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapReference {
    /// Its name.
    pub name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// Proxies to the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubProxyConfig {
    /// Without TLS.
    #[serde(
        default,
        rename = "httpProxy",
        skip_serializing_if = "String::is_empty"
    )]
    pub http: String,
    /// With TLS.
    #[serde(
        default,
        rename = "httpsProxy",
        skip_serializing_if = "String::is_empty"
    )]
    pub https: String,
    /// Authorities of the proxy, base64 of PEM.
    #[serde(default, rename = "caBundle", skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// Several hubs to join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultipleHubsConfig {
    /// Whether the hub that renders it belongs to the list.
    #[serde(
        default,
        rename = "genBootstrapKubeConfigStrategy",
        skip_serializing_if = "Option::is_none"
    )]
    pub strategy: Option<BootstrapStrategy>,
    /// The hubs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_kube_configs: Option<BootstrapKubeConfigs>,
}

/// Which hubs are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BootstrapStrategy {
    /// Those of the configuration.
    #[default]
    Default,
    /// The hub that renders it first, then those of the configuration.
    IncludeCurrentHub,
}
