//! Requests to the cluster for objects of any kind.

use drover_api::work::v1::{AppliedManifestResourceMeta, ManifestResourceMeta};
use kube::{
    Client,
    api::{
        DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
        PropagationPolicy,
    },
    core::Request,
};
use serde_json::Value;

use drover_api::names::work::FIELD_MANAGER;
use drover_core::work::{apply::Write, health::Pods};

/// Where an object lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The plural name of the kind.
    pub resource: String,
    /// The namespace; empty when the kind has none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl From<&AppliedManifestResourceMeta> for Place {
    fn from(meta: &AppliedManifestResourceMeta) -> Self {
        Self {
            group: meta.group.clone(),
            version: meta.version.clone(),
            resource: meta.resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        }
    }
}

impl From<&ManifestResourceMeta> for Place {
    fn from(meta: &ManifestResourceMeta) -> Self {
        Self {
            group: meta.group.clone(),
            version: meta.version.clone(),
            resource: meta.resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The object, or its kind, is not there.
    #[error("{0}")]
    NotFound(String),
    /// The object changed since it was observed, or exists already.
    #[error("{0}")]
    Conflict(String),
    /// The cluster understood and refused: the same request fails again until something changes.
    #[error("{0}")]
    Refused(String),
    /// The name cannot be part of an address.
    #[error("{0:?} cannot name an object")]
    BadName(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<kube::Error> for ClusterError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                404 => Self::NotFound(status.message),
                409 => Self::Conflict(status.message),
                400 | 403 | 405 | 413 | 415 | 422 => Self::Refused(status.message),
                _ => Self::Failed(status.message),
            },
            other => Self::Failed(other.to_string()),
        }
    }
}

/// More pods of one object are not looked at.
const MAX_PODS: u32 = 50;

#[derive(serde::Deserialize)]
struct PodList {
    #[serde(default)]
    items: Vec<Value>,
}

/// The cluster's API.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// The cluster behind this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client for typed requests.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The object; none when it is not there.
    pub async fn get(&self, place: &Place) -> Result<Option<Value>, ClusterError> {
        let request = requests(place)?
            .get(&place.name, &GetParams::default())
            .map_err(build)?;
        match self
            .client
            .request::<Value>(request)
            .await
            .map_err(ClusterError::from)
        {
            Ok(object) => Ok(Some(object)),
            Err(ClusterError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Some of the pods that tell why an object is not healthy.
    pub async fn pods(&self, wanted: &Pods) -> Result<Vec<Value>, ClusterError> {
        if !is_segment(&wanted.namespace) {
            return Err(ClusterError::BadName(wanted.namespace.clone()));
        }
        let params = ListParams::default()
            .labels(&wanted.selector)
            .limit(MAX_PODS);
        let request = Request::new(format!("/api/v1/namespaces/{}/pods", wanted.namespace))
            .list(&params)
            .map_err(build)?;
        let list = self.client.request::<PodList>(request).await?;
        Ok(list.items)
    }

    /// Writes the object; the answer is the object as it is now.
    pub async fn write(&self, place: &Place, write: &Write) -> Result<Value, ClusterError> {
        let requests = requests(place)?;
        let post = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let request = match write {
            Write::Create(object) => requests.create(&post, bytes(object)?),
            Write::Replace(object) => requests.replace(&place.name, &post, bytes(object)?),
            Write::Merge(patch) => {
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                requests.patch(&place.name, &params, &Patch::Merge(patch))
            }
            Write::Apply {
                object,
                manager,
                force,
            } => {
                let params = PatchParams {
                    field_manager: Some(manager.clone()),
                    force: *force,
                    ..PatchParams::default()
                };
                requests.patch(&place.name, &params, &Patch::Apply(object))
            }
        };
        Ok(self
            .client
            .request::<Value>(request.map_err(build)?)
            .await?)
    }

    /// Creates the object in the name of a user, without doing it.
    pub async fn rehearse(
        &self,
        place: &Place,
        object: &Value,
        user: &str,
        groups: &[String],
    ) -> Result<(), ClusterError> {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let mut request = requests(place)?
            .create(&params, bytes(object)?)
            .map_err(build)?;
        let value = |text: &str| {
            text.parse()
                .map_err(|_| ClusterError::BadName(text.to_owned()))
        };
        request
            .headers_mut()
            .insert("impersonate-user", value(user)?);
        for group in groups {
            request
                .headers_mut()
                .append("impersonate-group", value(group)?);
        }
        self.client.request::<Value>(request).await?;
        Ok(())
    }

    /// Merges a patch into the object; an object that is not there is none.
    pub async fn merge(&self, place: &Place, patch: &Value) -> Result<(), ClusterError> {
        match self.write(place, &Write::Merge(patch.clone())).await {
            Ok(_) | Err(ClusterError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the object in the background if it still has this uid. One that is not there, or has another uid, is none.
    pub async fn delete(&self, place: &Place, uid: &str) -> Result<(), ClusterError> {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let request = requests(place)?
            .delete(&place.name, &params)
            .map_err(build)?;
        match self
            .client
            .request::<Value>(request)
            .await
            .map_err(ClusterError::from)
        {
            Ok(_) | Err(ClusterError::NotFound(_) | ClusterError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn build(error: kube::core::request::Error) -> ClusterError {
    ClusterError::Failed(format!("failed to build the request: {error}"))
}

fn bytes(object: &Value) -> Result<Vec<u8>, ClusterError> {
    serde_json::to_vec(object)
        .map_err(|error| ClusterError::Failed(format!("failed to encode the object: {error}")))
}

/// Requests for the collection that holds the place. Every part comes from a manifest, so none may leave its segment of the path.
fn requests(place: &Place) -> Result<Request, ClusterError> {
    for part in [
        &place.group,
        &place.version,
        &place.resource,
        &place.namespace,
        &place.name,
    ] {
        if !is_segment(part) {
            return Err(ClusterError::BadName(part.clone()));
        }
    }
    let Place {
        group,
        version,
        resource,
        namespace,
        ..
    } = place;
    let root = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    Ok(Request::new(if namespace.is_empty() {
        format!("{root}/{resource}")
    } else {
        format!("{root}/namespaces/{namespace}/{resource}")
    }))
}

/// Whether the text stays what it is as a segment of a path; an empty one is left out of the path.
fn is_segment(text: &str) -> bool {
    text != "."
        && text != ".."
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._~:@!$&'()*+,;=".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_segment() {
        let check = |text: &str, expected: bool| assert_eq!(is_segment(text), expected, "{text:?}");
        for good in ["", "web", "web.example.com", "system:node", "a_b", "v1"] {
            check(good, true);
        }
        for bad in ["..", ".", "a/b", "a?b", "a#b", "a%2Fb", "a b", "a\nb", "ä"] {
            check(bad, false);
        }
    }
}
