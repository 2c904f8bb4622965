//! A hub's Kubernetes API with whichever credentials count now, and objects of it that are followed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_runtime::backoff::Backoff;
use futures::StreamExt as _;
use kube::api::PostParams;
use kube::client::Body;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::endpoint::{EndpointError, KubeEndpoint};
use super::link::Credentials;

/// Waits after a failed watch.
const MIN_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(10);

/// No credentials were given yet.
#[derive(Debug, thiserror::Error)]
#[error("there are no credentials for the hub yet")]
struct NoCredentials;

/// The way to a hub's API. All clients of it change their credentials together.
pub struct KubeLink {
    endpoint: KubeEndpoint,
    current: watch::Sender<Option<Client>>,
    client: Client,
}

impl Debug for KubeLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeLink")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl KubeLink {
    /// To this hub, without credentials yet.
    pub fn new(endpoint: KubeEndpoint) -> Self {
        let current = watch::Sender::new(None::<Client>);
        let latest = current.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let client = latest.borrow().clone();
            async move {
                let client = client.ok_or(NoCredentials)?;
                client.send(request).await.map_err(tower::BoxError::from)
            }
        });
        Self {
            endpoint,
            client: Client::new(service, "default"),
            current,
        }
    }

    /// A client that shows whatever credentials count when it asks.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// From now on requests show these credentials, and watches begin anew with them.
    pub async fn show(&self, credentials: &Credentials) -> Result<(), EndpointError> {
        let client = match credentials {
            Credentials::Bootstrap(_) => self.endpoint.bootstrap().await?,
            Credentials::Own(identity) => self.endpoint.own(identity).await?,
        };
        self.current.send_replace(Some(client));
        Ok(())
    }
}

/// Objects of one kind of a hub's API, as they were last seen. Clones are the same objects.
pub struct KubeObjects<K> {
    api: Api<K>,
    seen: Arc<Seen<K>>,
}

impl<K: Clone> Clone for KubeObjects<K> {
    fn clone(&self) -> Self {
        Self {
            api: self.api.clone(),
            seen: self.seen.clone(),
        }
    }
}

struct Seen<K> {
    objects: Mutex<BTreeMap<String, K>>,
    changed: watch::Sender<u64>,
    connected: watch::Sender<bool>,
    again: Notify,
}

/// Keeps [`KubeObjects`] up to date.
pub struct Follower<K> {
    objects: KubeObjects<K>,
    config: watcher::Config,
    /// The one object that is asked for by name where listing is not allowed.
    name: Option<String>,
    credentials: watch::Receiver<Option<Client>>,
}

impl<K> KubeObjects<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    /// Follows what `config` selects; when that is the one object called `name`, it is found even without the right to list.
    pub fn new(
        link: &KubeLink,
        api: Api<K>,
        config: watcher::Config,
        name: Option<&str>,
    ) -> (Self, Follower<K>) {
        let objects = Self {
            api,
            seen: Arc::new(Seen {
                objects: Mutex::default(),
                changed: watch::Sender::new(0),
                connected: watch::Sender::new(false),
                again: Notify::new(),
            }),
        };
        let follower = Follower {
            objects: objects.clone(),
            config,
            name: name.map(ToOwned::to_owned),
            credentials: link.current.subscribe(),
        };
        (objects, follower)
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, K>> {
        self.seen
            .objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// One by name.
    pub fn get(&self, name: &str) -> Option<K> {
        self.objects().get(name).cloned()
    }

    /// All.
    pub fn list(&self) -> Vec<K> {
        self.objects().values().cloned().collect()
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.seen.changed.subscribe()
    }

    /// Whether the hub answers.
    pub fn is_connected(&self) -> bool {
        *self.seen.connected.borrow()
    }

    /// Waits until the hub answers.
    pub async fn connected(&self) {
        let mut connected = self.seen.connected.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        if connected.wait_for(|connected| *connected).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads everything anew.
    pub fn resync(&self) {
        self.seen.again.notify_one();
    }

    /// Creates on the hub.
    pub async fn create(&self, object: &K) -> Result<(), kube::Error> {
        let made = self.api.create(&PostParams::default(), object).await?;
        self.put(made);
        Ok(())
    }

    /// Replaces on the hub what is still as it was seen.
    pub async fn update(&self, object: &K) -> Result<(), kube::Error> {
        let params = PostParams::default();
        let written = self
            .api
            .replace(&object.name_any(), &params, object)
            .await?;
        self.put(written);
        Ok(())
    }

    /// Replaces the status on the hub of what is still as it was seen.
    pub async fn update_status(&self, object: &K) -> Result<(), kube::Error> {
        let params = PostParams::default();
        let written = self
            .api
            .replace_status(&object.name_any(), &params, object)
            .await?;
        self.put(written);
        Ok(())
    }

    fn put(&self, object: K) {
        self.objects().insert(object.name_any(), object);
        self.tell();
    }

    fn tell(&self) {
        self.seen.changed.send_modify(|count| *count += 1);
    }
}

impl<K> Follower<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    /// Follows until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            self.credentials.mark_unchanged();
            let has = self.credentials.borrow().is_some();
            let objects = self.objects.clone();
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = self.credentials.changed() => if changed.is_err() { return },
                () = objects.seen.again.notified() => {}
                () = Self::follow(&objects, self.config.clone(), self.name.as_deref()), if has => {}
            }
        }
    }

    async fn follow(objects: &KubeObjects<K>, config: watcher::Config, name: Option<&str>) {
        let stream = watcher::watcher(objects.api.clone(), config);
        futures::pin_mut!(stream);
        let mut listed = BTreeMap::new();
        let mut backoff = Backoff::new(MIN_WAIT, MAX_WAIT);
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.insert(object.name_any(), object);
                }
                Ok(Event::InitDone) => {
                    *objects.objects() = std::mem::take(&mut listed);
                    backoff.reset();
                    objects.seen.connected.send_replace(true);
                    objects.tell();
                }
                Ok(Event::Apply(object)) => {
                    backoff.reset();
                    objects.seen.connected.send_replace(true);
                    objects.put(object);
                }
                Ok(Event::Delete(object)) => {
                    objects.objects().remove(&object.name_any());
                    objects.tell();
                }
                Err(error) => {
                    let answered = Self::ask(objects, &error, name).await;
                    objects.seen.connected.send_replace(answered);
                    objects.tell();
                    tracing::debug!(%error, answered, "a watch of the hub was interrupted");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Asks for the one object where listing is not allowed; whether the hub answers at all.
    async fn ask(objects: &KubeObjects<K>, error: &watcher::Error, name: Option<&str>) -> bool {
        let refused = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => Some(status.code),
            _ => None,
        };
        let (Some(403), Some(name)) = (refused, name) else {
            return refused.is_some_and(|code| code != 401 && code < 500);
        };
        match objects.api.get_opt(name).await {
            Ok(Some(found)) => {
                objects.objects().insert(name.to_owned(), found);
                true
            }
            Ok(None) => {
                objects.objects().remove(name);
                true
            }
            Err(kube::Error::Api(status)) => status.code != 401 && status.code < 500,
            Err(_) => false,
        }
    }
}
