//! The agent's side: works, and every other kind that a hub shares with the agent of a cluster.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use drover_protocol::session::{
    AgentConfig, AgentSession, Aspect, Change, ChangeError, Input, Session as _,
};
use drover_protocol::{
    Action, AgentBundleCodec, Codec, DataType, Object, ObjectCodec, ObjectMeta, Resource as _,
    SubResource, TraceContext, Work, WorkStatus,
};
use drover_transport::{Subscription, Transport, TransportError};
use futures::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::driver::{Driver, DriverConfig};
use crate::error::ClientError;
use crate::handle::{Shared, Stats, listed};
use crate::patch::Patch;
use crate::selector::Selector;
use crate::watch::Watch;

/// Who an agent is and how its driver behaves.
#[derive(Clone)]
pub struct AgentOptions {
    /// Sender of its events, such as `cluster1-work-agent`.
    pub agent: String,
    /// Its cluster.
    pub cluster: String,
    /// Receive at all; without, the client only publishes.
    pub subscribe: bool,
    /// Ask for what was missed after each connect. Never done for events and token requests, which no hub lists.
    pub resync: bool,
    /// The driver.
    pub driver: DriverConfig,
}

impl AgentOptions {
    /// The usual.
    pub fn new(agent: impl Into<String>, cluster: impl Into<String>) -> Self {
        Self {
            agent: agent.into(),
            cluster: cluster.into(),
            subscribe: true,
            resync: true,
            driver: DriverConfig::default(),
        }
    }

    fn session(&self) -> AgentConfig {
        AgentConfig {
            agent: self.agent.clone(),
            cluster: self.cluster.clone(),
            resync: self.resync && self.subscribe,
            seed: self.driver.seed,
        }
    }

    fn subscription(&self, data_type: DataType) -> Subscription {
        if self.subscribe {
            Subscription::Agent {
                cluster: self.cluster.clone(),
                data_type,
            }
        } else {
            Subscription::PublishOnly
        }
    }
}

/// The works of one cluster.
pub type AgentWorks = AgentClient<AgentBundleCodec>;

/// What sources want of one cluster, of any kind that has a codec. Clones are the same client.
///
/// A resource that is being deleted stays until its last finalizer is removed here; then the source is told and the copy
/// goes.
pub struct AgentClient<C: Codec> {
    shared: Arc<Shared<AgentSession<C>>>,
    cluster: Arc<str>,
}

impl<C: Codec> Clone for AgentClient<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            cluster: Arc::clone(&self.cluster),
        }
    }
}

impl AgentWorks {
    /// A client and the driver that keeps it up to date.
    pub fn new(
        options: AgentOptions,
        transport: Arc<dyn Transport>,
    ) -> (Self, Driver<AgentSession<AgentBundleCodec>>) {
        Self::with_codec(AgentBundleCodec, options, transport)
    }
}

impl<C: Codec> AgentClient<C> {
    /// A client for what a codec knows, and its driver.
    pub fn with_codec(
        codec: C,
        options: AgentOptions,
        transport: Arc<dyn Transport>,
    ) -> (Self, Driver<AgentSession<C>>) {
        let subscription = options.subscription(codec.data_type().clone());
        let session = AgentSession::new(codec, options.session());
        let shared = Shared::new(session, Arc::clone(&options.driver.clock));
        let driver = Driver {
            shared: Arc::clone(&shared),
            transport,
            subscription,
            config: options.driver.clone(),
        };
        (
            Self {
                shared,
                cluster: options.cluster.into(),
            },
            driver,
        )
    }

    /// A copy by name.
    pub fn get(&self, name: &str) -> Option<Arc<C::Object>> {
        self.shared
            .read(|session| session.store().get_named(&self.cluster, name).cloned())
    }

    /// A copy by uid.
    pub fn get_uid(&self, uid: &str) -> Option<Arc<C::Object>> {
        self.shared
            .read(|session| session.store().get(uid).cloned())
    }

    /// All copies.
    pub fn list(&self) -> Vec<Arc<C::Object>> {
        listed(&self.shared)
    }

    /// All copies with certain labels.
    pub fn select(&self, selector: &Selector) -> Vec<Arc<C::Object>> {
        self.shared.read(|session| {
            let objects = session.store().iter();
            let fits = |object: &&Arc<C::Object>| selector.matches(&object.meta().labels);
            objects.filter(fits).cloned().collect()
        })
    }

    /// All copies, then every change.
    pub fn watch(&self) -> Watch<C::Object> {
        self.shared.watch()
    }

    /// Reports a status. `object` carries uid and resourceVersion that the status is based on (`0`: by force).
    ///
    /// # Guarantees
    /// The newest status reaches the source as soon as there is a link; older ones may be skipped.
    pub fn update_status(&self, object: &C::Object) -> Result<Arc<C::Object>, ClientError> {
        self.update(object, Aspect::Status)
    }

    /// Replaces finalizers, labels and annotations; nothing travels, except that the removal of the last finalizer of a copy
    /// in deletion ends it.
    pub fn update_metadata(&self, object: &C::Object) -> Result<Arc<C::Object>, ClientError> {
        self.update(object, Aspect::Metadata)
    }

    /// Changes a copy by a patch, read and written under one lock. `subresource` says which part of the patch counts:
    /// `status` is reported, without one finalizers, labels and annotations change here. There is no other.
    ///
    /// The version that a patch names must not be older than that of the copy; `0` is always new enough, an empty one never.
    pub fn patch(
        &self,
        name: &str,
        patch: &Patch,
        subresource: Option<&str>,
    ) -> Result<Arc<C::Object>, ClientError>
    where
        C::Object: Serialize + DeserializeOwned,
    {
        let aspect = match subresource {
            None | Some("") => Aspect::Metadata,
            Some("status") => Aspect::Status,
            Some(other) => {
                return Err(ClientError::NotAllowed {
                    name: name.to_owned(),
                    subresource: other.to_owned(),
                });
            }
        };
        self.shared.change(|session, _, out| {
            let stored = session.store().get_named(&self.cluster, name);
            let stored = stored.ok_or_else(|| ChangeError::NotFound(name.to_owned()))?;
            let patched = patch.apply(&**stored)?;
            Ok(session.update(&patched, aspect, out)?)
        })
    }

    /// Adds a finalizer.
    pub fn add_finalizer(&self, uid: &str, finalizer: &str) -> Result<Arc<C::Object>, ClientError> {
        self.edit(uid, |meta| {
            if !meta.finalizers.iter().any(|other| other == finalizer) {
                meta.finalizers.push(finalizer.to_owned());
            }
        })
    }

    /// Removes a finalizer.
    pub fn remove_finalizer(
        &self,
        uid: &str,
        finalizer: &str,
    ) -> Result<Arc<C::Object>, ClientError> {
        self.edit(uid, |meta| {
            meta.finalizers.retain(|other| other != finalizer);
        })
    }

    /// The trace in which a copy got its newest spec: what is done about it belongs there.
    pub fn trace(&self, uid: &str) -> Option<TraceContext> {
        self.shared.read(|session| session.trace(uid).cloned())
    }

    /// The next reports about a copy are caused by this step.
    pub fn set_trace(&self, uid: &str, context: TraceContext) {
        self.shared
            .change(|session, _, _| session.set_trace(uid, context));
    }

    /// Asks the source what differs, now.
    pub fn resync(&self) {
        self.shared.feed(Input::Resync);
    }

    /// Waits until there is a link.
    pub async fn connected(&self) {
        self.shared.connected().await;
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    fn update(&self, object: &C::Object, aspect: Aspect) -> Result<Arc<C::Object>, ClientError> {
        Ok(self
            .shared
            .change(|session, _, out| session.update(object, aspect, out))?)
    }

    /// Reads, changes and writes under one lock.
    fn edit(
        &self,
        uid: &str,
        change: impl FnOnce(&mut ObjectMeta),
    ) -> Result<Arc<C::Object>, ClientError> {
        let missing = || ChangeError::NotFound(uid.to_owned());
        Ok(self.shared.change(|session, _, out| {
            let mut object = session
                .store()
                .get(uid)
                .map(|object| C::Object::clone(object))
                .ok_or_else(missing)?;
            change(object.meta_mut());
            session.update(&object, Aspect::Metadata, out)
        })?)
    }
}

impl<C: Codec<Object = Work>> AgentClient<C> {
    /// Replaces the status of a work, by force.
    pub fn set_status(&self, uid: &str, status: WorkStatus) -> Result<Arc<Work>, ClientError> {
        let mut work = Work {
            status,
            ..Work::default()
        };
        uid.clone_into(&mut work.metadata.uid);
        "0".clone_into(&mut work.metadata.resource_version);
        self.update_status(&work)
    }

    /// Replaces the status of a work of which it was computed when the work had this generation. A conflict when the work has
    /// another one by now: a status must not claim a generation that it has not seen.
    pub fn set_status_of(
        &self,
        uid: &str,
        generation: i64,
        status: WorkStatus,
    ) -> Result<Arc<Work>, ClientError> {
        Ok(self.shared.change(|session, _, out| {
            let stored = session.store().get(uid);
            let mut work = stored
                .map(|work| Work::clone(work))
                .ok_or_else(|| ChangeError::NotFound(uid.to_owned()))?;
            let old = work.metadata.generation;
            if old != generation {
                return Err(ChangeError::Conflict {
                    new: generation,
                    old,
                });
            }
            work.status = status;
            session.update(&work, Aspect::Status, out)
        })?)
    }
}

type ObjectSession = AgentSession<ObjectCodec>;

/// Objects of one kind that a hub shares with the agent of a cluster: `K` is any type with the JSON of that kind.
///
/// Changes are sent at once and answered by the hub; the copies follow when the hub sends its own.
pub struct AgentObjects<K> {
    shared: Arc<Shared<ObjectSession>>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for AgentObjects<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            kind: PhantomData,
        }
    }
}

impl<K: Serialize + DeserializeOwned> AgentObjects<K> {
    /// A client and its driver. Works have a client of their own: for their data type, and for unknown ones, this fails.
    pub fn new(
        options: AgentOptions,
        data_type: &DataType,
        transport: Arc<dyn Transport>,
    ) -> Result<(Self, Driver<ObjectSession>), ClientError> {
        let codec = ObjectCodec::of(data_type).ok_or_else(|| {
            TransportError::Config(format!("objects of {data_type} are not known"))
        })?;
        let mut config = options.session();
        config.resync &= *data_type != DataType::TOKEN_REQUESTS && *data_type != DataType::EVENTS;
        let session = AgentSession::new(codec, config);
        let shared = Shared::new(session, Arc::clone(&options.driver.clock));
        let driver = Driver {
            shared: Arc::clone(&shared),
            transport,
            subscription: options.subscription(data_type.clone()),
            config: options.driver.clone(),
        };
        Ok((
            Self {
                shared,
                kind: PhantomData,
            },
            driver,
        ))
    }

    /// A copy. Cluster-scoped kinds have an empty namespace.
    pub fn get(&self, namespace: &str, name: &str) -> Result<Option<K>, ClientError> {
        let object = self
            .shared
            .read(|session| session.store().get_named(namespace, name).cloned());
        Ok(object.map(|object| object.to_object()).transpose()?)
    }

    /// All copies.
    pub fn list(&self) -> Result<Vec<K>, ClientError> {
        listed(&self.shared)
            .iter()
            .map(|object| Ok(object.to_object()?))
            .collect()
    }

    /// All copies, then every change; [`Object::to_object`] gives the `K`.
    pub fn watch(&self) -> Watch<Object> {
        self.shared.watch()
    }

    /// Creates on the hub.
    pub async fn create(&self, object: &K) -> Result<(), ClientError> {
        self.send(SubResource::Spec, Action::Create, object).await
    }

    /// Updates on the hub (leases, series of events).
    pub async fn update(&self, object: &K) -> Result<(), ClientError> {
        self.send(SubResource::Spec, Action::Update, object).await
    }

    /// Updates the status on the hub (clusters, add-ons).
    pub async fn update_status(&self, object: &K) -> Result<(), ClientError> {
        self.send(SubResource::Status, Action::Update, object).await
    }

    /// Creates and waits for the hub's answer with the same uid (token requests). The answer is not kept.
    pub async fn call(&self, object: &K, patience: Duration) -> Result<K, ClientError> {
        let uid = Object::from_object(object)?.metadata.uid;
        let mut watch = self.watch();
        let answer = async {
            self.connected().await;
            self.create(object).await?;
            while let Some(change) = watch.next().await {
                let object = change.object();
                if object.metadata.uid == uid && !matches!(change, Change::Deleted(_)) {
                    return Ok(object.to_object()?);
                }
            }
            Err(ClientError::Transport(TransportError::NotReady))
        };
        let answer = tokio::time::timeout(patience, answer)
            .await
            .unwrap_or(Err(ClientError::Timeout(patience)));
        self.shared
            .change(|session, _, out| session.forget(&uid, out));
        answer
    }

    /// Asks the hub what differs, now.
    pub fn resync(&self) {
        self.shared.feed(Input::Resync);
    }

    /// Waits until there is a link.
    pub async fn connected(&self) {
        self.shared.connected().await;
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    async fn send(
        &self,
        subresource: SubResource,
        action: Action,
        object: &K,
    ) -> Result<(), ClientError> {
        let object = Object::from_object(object)?;
        let event = self
            .shared
            .change(|session, now, _| session.event(now, subresource, action, &object))?;
        Ok(self.shared.publish(event).await?)
    }
}
