//! `work.open-cluster-management.io/v1` (upstream: api, work/v1/types.go).

mod config;
mod status;

pub use config::*;
pub use status::*;

use crate::{null_as_default, object::resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

resource! {
    /// A set of Kubernetes objects that the hub wants in one cluster. It lives in the namespace of that cluster on the hub.
    ManifestWork {
        group: "work.open-cluster-management.io", version: "v1", plural: "manifestworks", scope: NamespaceResourceScope,
        spec: ManifestWorkSpec, status: ManifestWorkStatus,
    }
}

resource! {
    /// The trace of a ManifestWork in the managed cluster: it owns the objects that were applied. Its name is the hash of the hub, a
    /// dash, and the name of the work.
    AppliedManifestWork {
        group: "work.open-cluster-management.io", version: "v1", plural: "appliedmanifestworks", scope: ClusterResourceScope,
        spec: AppliedManifestWorkSpec, status: AppliedManifestWorkStatus,
    }
}

/// What the hub wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestWorkSpec {
    /// The objects.
    #[serde(default, deserialize_with = "null_as_default")]
    pub workload: ManifestsTemplate,
    /// What happens to the objects when the work is deleted; absent means Foreground.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_option: Option<DeleteOption>,
    /// How single objects are applied and watched.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub manifest_configs: Vec<ManifestConfigOption>,
    /// In whose name the objects are applied; absent means the agent's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ManifestWorkExecutor>,
}

/// The objects of a work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestsTemplate {
    /// Complete objects, each with `apiVersion`, `kind` and `metadata.name`.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub manifests: Vec<Manifest>,
}

/// One object, kept as it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Manifest(
    #[schemars(extend("type" = "object", "x-kubernetes-embedded-resource" = true, "x-kubernetes-preserve-unknown-fields" = true))]
    pub serde_json::Value,
);

/// What happens to the objects of a work that is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOption {
    /// Whether the objects go with the work.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-default" = "Foreground"))]
    pub propagation_policy: DeletePropagationPolicy,
    /// The objects that stay when the policy is SelectivelyOrphan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selectively_orphans: Option<SelectivelyOrphan>,
    /// Seconds after which a work that is Complete is deleted; absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// Whether objects go with their work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletePropagationPolicy {
    /// All go; the work waits for them.
    #[default]
    Foreground,
    /// All stay.
    Orphan,
    /// Those that are listed stay.
    SelectivelyOrphan,
}

/// The objects that stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectivelyOrphan {
    /// One rule for each object; name and namespace may hold `*`.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub orphaning_rules: Vec<ResourceIdentifier>,
}

/// In whose name objects are applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestWorkExecutor {
    /// The identity.
    #[serde(default, deserialize_with = "null_as_default")]
    pub subject: ManifestWorkExecutorSubject,
}

/// An identity of the managed cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestWorkExecutorSubject {
    /// What kind of identity.
    #[serde(rename = "type")]
    pub type_: ExecutorSubjectType,
    /// The service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ExecutorServiceAccount>,
}

/// The kinds of identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExecutorSubjectType {
    /// A service account of the managed cluster.
    #[default]
    ServiceAccount,
}

/// A service account of the managed cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorServiceAccount {
    /// Its namespace.
    #[schemars(length(min = 1, max = 253), extend("pattern" = crate::schema::subdomain_pattern()))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253), extend("pattern" = crate::schema::subdomain_pattern()))]
    pub name: String,
}

/// Which work of which hub an AppliedManifestWork stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedManifestWorkSpec {
    /// Lowercase hex SHA-256 of the address of the hub's API server.
    pub hub_hash: String,
    /// The agent that looks after it.
    #[serde(default, rename = "agentID")]
    pub agent_id: String,
    /// The name of the work on the hub.
    pub manifest_work_name: String,
}
