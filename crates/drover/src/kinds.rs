//! The kinds that an API serves, by every name that people use.

use anyhow::{Result, anyhow};
use kube::Client;
use kube::discovery::ApiResource;
use serde::Deserialize;

use crate::connect;

/// Aggregated discovery (Kubernetes API, apidiscovery.k8s.io/v2).
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What an API serves.
#[derive(Debug)]
pub struct Kinds(Vec<Kind>);

/// One kind in one version.
#[derive(Debug)]
pub struct Kind {
    /// Its place in the API.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    names: Vec<String>,
    /// Of several versions of a group the first is the preferred one.
    preferred: bool,
}

#[derive(Deserialize)]
struct Groups {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Metadata,
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource: String,
    response_kind: ResponseKind,
    scope: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    short_names: Vec<String>,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

impl Kinds {
    /// Asks the API.
    pub async fn discover(client: &Client) -> Result<Self> {
        let mut kinds = Vec::new();
        for path in ["/api", "/apis"] {
            let request = http::Request::get(path)
                .header("accept", ACCEPT)
                .body(Vec::new())?;
            let groups: Groups = client
                .request(request)
                .await
                .map_err(|error| anyhow!(connect::explain(&error)))?;
            kinds.extend(groups.items.into_iter().flat_map(of_group));
        }
        Ok(Self(kinds))
    }

    /// By `apiVersion` and `kind`.
    pub fn of(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        self.0
            .iter()
            .find(|known| known.resource.api_version == api_version && known.resource.kind == kind)
    }

    /// By plural, singular, short name or kind, with or without the group behind a dot.
    pub fn named(&self, asked: &str) -> Option<&Kind> {
        let asked = asked.to_lowercase();
        let (name, group) = asked
            .split_once('.')
            .map_or((asked.as_str(), None), |(name, group)| (name, Some(group)));
        let fits = |kind: &&Kind| {
            kind.preferred
                && group.is_none_or(|group| group == kind.resource.group)
                && kind.names.iter().any(|n| n == name)
        };
        // Core comes first, so `events` are those that everybody means.
        self.0.iter().find(fits)
    }
}

fn of_group(group: Group) -> impl Iterator<Item = Kind> {
    let name = group.metadata.name;
    group
        .versions
        .into_iter()
        .enumerate()
        .flat_map(move |(place, version)| {
            let group = name.clone();
            let api_version = if group.is_empty() {
                version.version.clone()
            } else {
                format!("{group}/{}", version.version)
            };
            let number = version.version;
            version.resources.into_iter().map(move |resource| {
                let kind = resource.response_kind.kind;
                let mut names = resource.short_names;
                names.extend([
                    resource.resource.clone(),
                    resource.singular_resource,
                    kind.to_lowercase(),
                ]);
                if resource.resource == "manifestworks" {
                    // What everybody calls them.
                    names.extend(["work", "works"].map(ToOwned::to_owned));
                }
                Kind {
                    resource: ApiResource {
                        group: group.clone(),
                        version: number.clone(),
                        api_version: api_version.clone(),
                        kind,
                        plural: resource.resource,
                    },
                    namespaced: resource.scope == "Namespaced",
                    names,
                    preferred: place == 0,
                }
            })
        })
}
