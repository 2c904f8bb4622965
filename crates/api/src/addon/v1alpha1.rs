//! `addon.open-cluster-management.io/v1alpha1` (upstream: api, addon/v1alpha1/types_managedclusteraddon.go).

use crate::{
    Condition, null_as_default,
    object::resource,
    schema::{conditions_map, subdomain_label_pattern},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

resource! {
    /// An add-on of the cluster whose namespace it is in.
    ManagedClusterAddOn {
        group: "addon.open-cluster-management.io", version: "v1alpha1", plural: "managedclusteraddons", scope: NamespaceResourceScope,
        spec: ManagedClusterAddOnSpec, status: ManagedClusterAddOnStatus,
    }
}

/// How the add-on is installed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterAddOnSpec {
    /// The namespace of the add-on's agent on the cluster. An AddOnDeploymentConfig is the newer way to say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), extend("pattern" = subdomain_label_pattern(), "x-default" = "open-cluster-management-agent-addon"))]
    pub install_namespace: String,
    /// Configurations for this cluster alone.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub configs: Vec<AddOnConfig>,
}

/// A configuration: an object of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddOnConfig {
    /// The group of its kind.
    #[serde(default)]
    #[schemars(extend("x-default" = ""))]
    pub group: String,
    /// The resource of its kind.
    #[schemars(length(min = 1))]
    pub resource: String,
    /// Its namespace; none for a kind without namespaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// What is known of the add-on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedClusterAddOnStatus {
    /// The conditions of the add-on.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_map")]
    pub conditions: Vec<Condition>,
    /// Objects that tell more.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub related_objects: Vec<ObjectReference>,
    /// What people read of the add-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_on_meta: Option<AddOnMeta>,
    /// Where its configuration is; the newer way is `configReferences`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_on_configuration: Option<ConfigCoordinates>,
    /// The kinds of configuration that the add-on takes.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["group", "resource"]))]
    pub supported_configs: Vec<ConfigGroupResource>,
    /// The configurations in use.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub config_references: Vec<ConfigReference>,
    /// The namespace on the cluster of the add-on's credentials and lease.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// How the add-on's agent gets access to the hub.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub registrations: Vec<RegistrationConfig>,
    /// The credentials that the agent of the cluster gets for the add-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_client_driver: Option<KubeClientDriver>,
    /// How its health is found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
}

/// An object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectReference {
    /// The group of its kind.
    pub group: String,
    /// The resource of its kind.
    pub resource: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What people read of an add-on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddOnMeta {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Where a configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigCoordinates {
    /// The definition of its kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub crd_name: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cr_name: String,
    /// The generation that was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_observed_generation: Option<i64>,
}

/// A kind of configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigGroupResource {
    /// Its group.
    #[serde(default)]
    #[schemars(extend("x-default" = ""))]
    pub group: String,
    /// Its resource.
    #[schemars(length(min = 1))]
    pub resource: String,
}

/// A configuration in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigReference {
    /// The group of its kind.
    #[serde(default)]
    #[schemars(extend("x-default" = ""))]
    pub group: String,
    /// The resource of its kind.
    #[schemars(length(min = 1))]
    pub resource: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The generation that was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_observed_generation: Option<i64>,
    /// What shall be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_config: Option<ConfigSpecHash>,
    /// What was applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_applied_config: Option<ConfigSpecHash>,
}

/// A version of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSpecHash {
    /// The namespace of the configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name of the configuration.
    #[schemars(length(min = 1))]
    pub name: String,
    /// A hash of its spec.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub spec_hash: String,
}

/// How an agent gets access to the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationConfig {
    /// Who signs its certificate.
    #[schemars(length(min = 5, max = 571), extend("pattern" = r"^([a-z0-9][a-z0-9-]*[a-z0-9]\.)+[a-z]+\/[a-z0-9-\.]+$"))]
    pub signer_name: String,
    /// What is in the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

/// Who an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// User name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Groups.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub groups: Vec<String>,
    /// Organisation units.
    #[serde(
        default,
        rename = "organizationUnit",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub organization_units: Vec<String>,
}

/// Credentials for the hub's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KubeClientDriver {
    /// A certificate.
    Csr,
    /// A token of a service account.
    Token,
}

/// How the health of an add-on is found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthCheck {
    /// The way.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = "Lease"))]
    pub mode: HealthCheckMode,
}

/// The ways to find out about health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HealthCheckMode {
    /// By the lease that the add-on's agent renews.
    #[default]
    Lease,
    /// In the add-on's own way.
    Customized,
}
