//! What a manifest names, in which order manifests are applied, and which options are theirs.

use drover_api::work::v1::{
    ConditionRule, FeedbackRule, FeedbackScrapeType, ManifestConfigOption, ManifestResourceMeta,
    ManifestWork, ManifestWorkSpec, ResourceIdentifier, UpdateStrategy,
};
use serde_json::Value;
use std::fmt;

/// Group, version and kind of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvk {
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The kind.
    pub kind: String,
}

impl Gvk {
    /// As `apiVersion` writes it: `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}

/// How the cluster serves a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Served {
    /// The plural name.
    pub resource: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// Why a manifest names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not a JSON object.
    #[error("manifest is not an object")]
    NotAnObject,
    /// A member is missing.
    #[error("manifest has no {0}")]
    Missing(&'static str),
    /// `apiVersion` has more than one slash.
    #[error("unexpected apiVersion {0:?}: use VERSION or GROUP/VERSION")]
    ApiVersion(String),
}

/// A manifest that names an object. It is stripped of what only the API server may set.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Which kind.
    pub gvk: Gvk,
    /// The name of the object.
    pub name: String,
    /// The namespace that the manifest gives; empty when it gives none.
    pub namespace: String,
    /// The object as it is wanted.
    pub object: Value,
}

/// What only the API server may set in `metadata`.
const SERVER_OWNED: [&str; 8] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// Reads a manifest.
pub fn parse(manifest: &Value) -> Result<Desired, ManifestError> {
    let object = manifest.as_object().ok_or(ManifestError::NotAnObject)?;
    let text = |name: &'static str| {
        object
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .ok_or(ManifestError::Missing(name))
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let (group, version) = match api_version.split('/').collect::<Vec<_>>().as_slice() {
        [version] => (String::new(), (*version).to_owned()),
        [group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return Err(ManifestError::ApiVersion(api_version.to_owned())),
    };
    let metadata = |name: &str| {
        object
            .get("metadata")
            .and_then(|metadata| metadata.get(name))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let name = metadata("name");
    if name.is_empty() {
        return Err(ManifestError::Missing("metadata.name"));
    }
    let mut stripped = object.clone();
    stripped.remove("status");
    if let Some(Value::Object(metadata)) = stripped.get_mut("metadata") {
        for member in SERVER_OWNED {
            metadata.remove(member);
        }
    }
    Ok(Desired {
        gvk: Gvk {
            group,
            version,
            kind: kind.to_owned(),
        },
        name: name.to_owned(),
        namespace: metadata("namespace").to_owned(),
        object: Value::Object(stripped),
    })
}

/// The entry of a manifest in the status of its work. `served` is absent while the cluster does not serve the kind.
pub fn meta(
    ordinal: usize,
    parsed: Result<&Desired, &ManifestError>,
    served: Option<&Served>,
) -> ManifestResourceMeta {
    // A work is at most 500 KiB, far fewer manifests than an i32 counts.
    let ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
    let Ok(desired) = parsed else {
        return ManifestResourceMeta {
            ordinal,
            ..ManifestResourceMeta::default()
        };
    };
    ManifestResourceMeta {
        ordinal,
        group: desired.gvk.group.clone(),
        version: desired.gvk.version.clone(),
        kind: desired.gvk.kind.clone(),
        resource: served
            .map(|served| served.resource.clone())
            .unwrap_or_default(),
        name: desired.name.clone(),
        namespace: if served.is_some_and(|served| !served.namespaced) {
            String::new()
        } else {
            desired.namespace.clone()
        },
    }
}

/// The rank of a kind: lower ones are applied first (ocm, pkg/work/spoke/controllers/manifestcontroller).
pub fn rank(parsed: Result<&Desired, &ManifestError>) -> u16 {
    let Ok(desired) = parsed else { return 1001 };
    match (desired.gvk.group.as_str(), desired.gvk.kind.as_str()) {
        ("scheduling.k8s.io", "PriorityClass")
        | ("", "Namespace" | "PersistentVolume")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("storage.k8s.io", "StorageClass")
        | ("policy", "PodSecurityPolicy") => 0,
        (
            "rbac.authorization.k8s.io",
            "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding",
        ) => 1,
        ("networking.k8s.io", "NetworkPolicy")
        | ("", "ResourceQuota" | "LimitRange" | "ServiceAccount")
        | ("policy", "PodDisruptionBudget") => 2,
        ("", "Secret" | "ConfigMap" | "PersistentVolumeClaim") => 3,
        ("", "Service") => 4,
        ("apps", "DaemonSet" | "ReplicaSet" | "Deployment" | "StatefulSet")
        | ("", "Pod" | "ReplicationController")
        | ("autoscaling", "HorizontalPodAutoscaler")
        | ("batch", "Job" | "CronJob") => 5,
        ("apiregistration.k8s.io", "APIService")
        | (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration"
            | "ValidatingWebhookConfiguration"
            | "ValidatingAdmissionPolicy"
            | "ValidatingAdmissionPolicyBinding",
        ) => 6,
        _ => 1000,
    }
}

/// The manifests of a work, in the order of the spec.
pub fn parse_all(work: &ManifestWork) -> Vec<Result<Desired, ManifestError>> {
    work.spec
        .workload
        .manifests
        .iter()
        .map(|manifest| parse(&manifest.0))
        .collect()
}

/// The indexes of manifests in the order in which they are applied: by rank, then as in the spec.
pub fn order(parsed: &[Result<Desired, ManifestError>]) -> Vec<usize> {
    let mut indexes: Vec<usize> = (0..parsed.len()).collect();
    indexes.sort_by_key(|&index| rank(parsed[index].as_ref()));
    indexes
}

/// The options of one manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options<'s> {
    /// How it is written; absent means Update.
    pub strategy: Option<&'s UpdateStrategy>,
    /// What is reported of its status.
    pub feedback: &'s [FeedbackRule],
    /// The conditions to compute.
    pub conditions: &'s [ConditionRule],
    /// Whether its status is to be watched.
    pub scrape: FeedbackScrapeType,
}

/// Finds the options of a manifest: the first entry that sets an option wins, except the scrape type, where the last match wins.
pub fn options<'s>(spec: &'s ManifestWorkSpec, meta: &ManifestResourceMeta) -> Options<'s> {
    let mut options = Options::default();
    for config in spec
        .manifest_configs
        .iter()
        .filter(|config| config_names(config, meta))
    {
        options.strategy = options.strategy.or(config.update_strategy.as_ref());
        if options.feedback.is_empty() {
            options.feedback = &config.feedback_rules;
        }
        if options.conditions.is_empty() {
            options.conditions = &config.condition_rules;
        }
        options.scrape = config.feedback_scrape_type.unwrap_or_default();
    }
    options
}

fn config_names(config: &ManifestConfigOption, meta: &ManifestResourceMeta) -> bool {
    identifies(
        &config.resource_identifier,
        &meta.group,
        &meta.resource,
        &meta.namespace,
        &meta.name,
    )
}

/// Whether the identifier names this object: group and resource as they are, name and namespace with `*` for any run of characters.
pub fn identifies(
    identifier: &ResourceIdentifier,
    group: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> bool {
    identifier.group == group
        && identifier.resource == resource
        && glob(&identifier.namespace, namespace)
        && glob(&identifier.name, name)
}

/// Whether the whole text matches; `*` stands for any run of characters, even none.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    // `split` gives at least one part.
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests;
