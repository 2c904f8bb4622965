//! The data of events of v0.13, of both data types.

use serde::{Deserialize, Serialize};

use super::V013;
use crate::bundle::payload;
use crate::cloudevent::CloudEvent;
use crate::codec::{DecodeError, EncodeError};
use crate::meta::nullable;
use crate::raw::{Raw, go_json};
use crate::work::{Condition, ManifestCondition, ResourceStatus, Work, WorkSpec, WorkStatus};

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bundle {
    #[serde(deserialize_with = "nullable")]
    manifests: Vec<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_option: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_configs: Option<Raw>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Manifest {
    manifest: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_option: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_option: Option<Config>,
}

/// What of a manifest's configuration travels.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback_rules: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_strategy: Option<Raw>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WholeConfig {
    resource_identifier: Identifier,
    #[serde(flatten)]
    config: Config,
}

#[derive(Serialize)]
struct Identifier {
    group: String,
    resource: String,
    name: String,
    namespace: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BundleStatus {
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    resource_status: Vec<ManifestCondition>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ManifestStatus {
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ManifestCondition>,
}

pub(super) fn encode_spec(format: V013, work: &Work) -> Result<Vec<u8>, EncodeError> {
    let spec = &*work.spec;
    let delete_option = spec.delete_option.clone();
    Ok(match format {
        V013::Bundles => serde_json::to_vec(&Bundle {
            manifests: spec.manifests.clone(),
            delete_option,
            manifest_configs: spec.manifest_configs.clone(),
        })?,
        V013::Manifests => {
            let [manifest] = &spec.manifests[..] else {
                let uid = work.metadata.uid.clone();
                return Err(EncodeError::OneManifest(uid, spec.manifests.len()));
            };
            let configs = spec.manifest_configs.as_ref();
            let configs: Vec<Config> = configs.map_or(Ok(Vec::new()), Raw::parse)?;
            serde_json::to_vec(&Manifest {
                manifest: Some(manifest.clone()),
                delete_option,
                config_option: configs.into_iter().next(),
            })?
        }
    })
}

pub(super) fn decode_spec(format: V013, event: &CloudEvent) -> Result<WorkSpec, DecodeError> {
    if format == V013::Bundles {
        let bundle: Bundle = payload(event)?;
        return Ok(WorkSpec {
            manifests: bundle.manifests,
            delete_option: bundle.delete_option,
            manifest_configs: bundle.manifest_configs,
            executor: None,
        });
    }
    let Manifest {
        manifest,
        delete_option,
        config_option,
    } = payload(event)?;
    let manifest_configs = match (&manifest, config_option) {
        (Some(manifest), Some(config)) => {
            let whole = WholeConfig {
                resource_identifier: identify(manifest)?,
                config,
            };
            Some(Raw::of(&[whole])?)
        }
        _ => None,
    };
    Ok(WorkSpec {
        manifests: manifest.into_iter().collect(),
        delete_option,
        manifest_configs,
        executor: None,
    })
}

pub(super) fn encode_status(
    format: V013,
    status: &WorkStatus,
) -> Result<Vec<u8>, serde_json::Error> {
    let conditions = status.conditions.clone();
    let manifests = &status.resource_status.manifests;
    match format {
        V013::Bundles => go_json(&BundleStatus {
            conditions,
            resource_status: manifests.clone(),
        }),
        V013::Manifests => go_json(&ManifestStatus {
            conditions,
            status: manifests.first().cloned(),
        }),
    }
}

pub(super) fn decode_status(format: V013, event: &CloudEvent) -> Result<WorkStatus, DecodeError> {
    let (conditions, manifests) = match format {
        V013::Bundles => {
            let status: BundleStatus = payload(event)?;
            (status.conditions, status.resource_status)
        }
        V013::Manifests => {
            let status: ManifestStatus = payload(event)?;
            (status.conditions, status.status.into_iter().collect())
        }
    };
    Ok(WorkStatus {
        conditions,
        resource_status: ResourceStatus { manifests },
    })
}

/// Which object a manifest is.
fn identify(manifest: &Raw) -> Result<Identifier, serde_json::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Head {
        api_version: String,
        kind: String,
        metadata: Meta,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Meta {
        name: String,
        namespace: String,
    }
    let head: Head = manifest.parse()?;
    let group = head.api_version.rsplit_once('/').map(|(group, _)| group);
    Ok(Identifier {
        group: group.unwrap_or_default().to_owned(),
        resource: plural(&head.kind),
        name: head.metadata.name,
        namespace: head.metadata.namespace,
    })
}

/// The resource of a kind by the rule that Kubernetes follows when it cannot ask; definitions may say otherwise.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    if kind == "endpoints" {
        return kind;
    }
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        None => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::plural;

    #[test]
    fn resources_of_kinds() {
        let check = |kind: &str, expected: &str| assert_eq!(plural(kind), expected);
        check("ConfigMap", "configmaps");
        check("Ingress", "ingresses");
        check("NetworkPolicy", "networkpolicies");
        check("Endpoints", "endpoints");
        check("", "s");
    }
}
