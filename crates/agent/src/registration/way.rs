//! The two ways to a hub, and objects that travel on either of them.

use std::fmt::Debug;
use std::sync::Arc;

use drover_client::{AgentObjects, ClientError, Object, Watch};
use drover_core::registration::request::{GRPC_SIGNER, KUBE_SIGNER};
use drover_protocol::DataType;
use drover_runtime::supervise::Tasks;
use drover_transport::TransportError;
use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::Tuning;
use super::endpoint::{Endpoint, EndpointError};
use super::kube_link::{Follower, KubeLink, KubeObjects};
use super::link::{Credentials, HubLink};

/// Why the hub did not take a write, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// On the way of events.
    #[error(transparent)]
    Events(#[from] ClientError),
    /// The Kubernetes API.
    #[error(transparent)]
    Kube(#[from] kube::Error),
}

impl WayError {
    /// Whether somebody else wrote meanwhile.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::Events(error) => error.is_conflict(),
            Self::Kube(kube::Error::Api(status)) => status.is_conflict(),
            Self::Kube(_) => false,
        }
    }

    /// Whether it is there already.
    pub(crate) fn already_exists(&self) -> bool {
        match self {
            Self::Events(ClientError::Transport(TransportError::Refused(status))) => {
                status.reason == "AlreadyExists"
            }
            Self::Kube(kube::Error::Api(status)) => status.is_already_exists(),
            Self::Events(_) | Self::Kube(_) => false,
        }
    }

    /// Whether there is only no link yet.
    pub(crate) fn is_not_ready(&self) -> bool {
        matches!(
            self,
            Self::Events(ClientError::Transport(TransportError::NotReady))
        )
    }
}

/// The way to one hub, with whichever credentials count now. Clones are the same way.
#[derive(Clone, Debug)]
pub enum Way {
    /// Over its event service.
    Events(Arc<HubLink>),
    /// Over its Kubernetes API.
    Kube(Arc<KubeLink>),
}

impl Way {
    /// To a hub, without credentials yet.
    pub fn new(endpoint: &Endpoint, tuning: &Tuning) -> Self {
        match endpoint {
            Endpoint::Events(hub) => Self::Events(Arc::new(HubLink::new(hub, tuning))),
            Endpoint::Kube(hub) => Self::Kube(Arc::new(KubeLink::new((**hub).clone()))),
        }
    }

    /// Shows these credentials from now on.
    pub(crate) async fn show(&self, credentials: &Credentials) -> Result<(), EndpointError> {
        match self {
            Self::Events(link) => {
                link.show(credentials);
                Ok(())
            }
            Self::Kube(link) => link.show(credentials).await,
        }
    }

    /// Who signs the certificates that are good here.
    pub(crate) fn signer(&self) -> &'static str {
        match self {
            Self::Events(_) => GRPC_SIGNER,
            Self::Kube(_) => KUBE_SIGNER,
        }
    }
}

/// Which objects of a kind an agent follows.
#[derive(Clone, Debug)]
pub enum Which<'a> {
    /// The one of this name.
    Named(&'a str),
    /// All with this label.
    Labelled(&'a str),
}

/// Objects of one kind that a hub shares with its agent.
#[expect(clippy::large_enum_variant, reason = "an agent has three of them")]
pub enum HubObjects<K> {
    /// Over the event service.
    Events(AgentObjects<K>),
    /// Over the Kubernetes API.
    Kube(KubeObjects<K>),
}

impl<K> HubObjects<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    /// Follows over a way, by one of `tasks`.
    pub fn follow(
        way: &Way,
        data_type: &DataType,
        client: drover_client::AgentOptions,
        api: impl FnOnce(kube::Client) -> Api<K>,
        which: &Which<'_>,
        tasks: &mut Tasks,
    ) -> Result<Self, ClientError> {
        let stop = tasks.cancel_token();
        let name = format!("link of {}", data_type.resource());
        match way {
            Way::Events(link) => {
                let (objects, driver) = AgentObjects::new(client, data_type, link.clone())?;
                tasks.run(name, driver.run(stop));
                Ok(Self::Events(objects))
            }
            Way::Kube(link) => {
                let all = watcher::Config::default();
                let (config, one) = match which {
                    Which::Named(name) => {
                        (all.fields(&format!("metadata.name={name}")), Some(*name))
                    }
                    Which::Labelled(label) => (all.labels(label), None),
                };
                let (objects, follower): (_, Follower<K>) =
                    KubeObjects::new(link, api(link.client()), config, one);
                tasks.run(name, follower.run(stop));
                Ok(Self::Kube(objects))
            }
        }
    }

    /// One. Cluster-scoped kinds have an empty namespace.
    pub fn get(&self, namespace: &str, name: &str) -> Result<Option<K>, WayError> {
        match self {
            Self::Events(objects) => Ok(objects.get(namespace, name)?),
            Self::Kube(objects) => Ok(objects.get(name)),
        }
    }

    /// All.
    pub fn list(&self) -> Result<Vec<K>, WayError> {
        match self {
            Self::Events(objects) => Ok(objects.list()?),
            Self::Kube(objects) => Ok(objects.list()),
        }
    }

    /// Tells of changes.
    pub fn changes(&self) -> Changes {
        match self {
            Self::Events(objects) => Changes::Events(objects.watch()),
            Self::Kube(objects) => Changes::Kube(objects.changes()),
        }
    }

    /// Creates on the hub.
    pub async fn create(&self, object: &K) -> Result<(), WayError> {
        match self {
            Self::Events(objects) => Ok(objects.create(object).await?),
            Self::Kube(objects) => Ok(objects.create(object).await?),
        }
    }

    /// Updates on the hub.
    pub async fn update(&self, object: &K) -> Result<(), WayError> {
        match self {
            Self::Events(objects) => Ok(objects.update(object).await?),
            Self::Kube(objects) => Ok(objects.update(object).await?),
        }
    }

    /// Updates the status on the hub.
    pub async fn update_status(&self, object: &K) -> Result<(), WayError> {
        match self {
            Self::Events(objects) => Ok(objects.update_status(object).await?),
            Self::Kube(objects) => Ok(objects.update_status(object).await?),
        }
    }

    /// Asks the hub what differs, now.
    pub fn resync(&self) {
        match self {
            Self::Events(objects) => objects.resync(),
            Self::Kube(objects) => objects.resync(),
        }
    }

    /// Whether there is a link.
    pub fn is_connected(&self) -> bool {
        match self {
            Self::Events(objects) => objects.connected().now_or_never().is_some(),
            Self::Kube(objects) => objects.is_connected(),
        }
    }

    /// Waits until there is a link.
    pub async fn connected(&self) {
        match self {
            Self::Events(objects) => objects.connected().await,
            Self::Kube(objects) => objects.connected().await,
        }
    }
}

/// Changes of objects.
pub enum Changes {
    /// Over the event service.
    Events(Watch<Object>),
    /// Over the Kubernetes API.
    Kube(watch::Receiver<u64>),
}

impl Changes {
    /// Waits for the next one; `None` when there will be no more. Nothing is lost when it is not awaited to the end.
    pub async fn next(&mut self) -> Option<()> {
        match self {
            Self::Events(watch) => watch.next().await.map(|_| ()),
            Self::Kube(changed) => changed.changed().await.ok(),
        }
    }
}
