//! The source's side: works, or any other kind of resource, for any number of clusters.

use std::marker::PhantomData;
use std::sync::Arc;

use drover_protocol::session::{
    ChangeError, Input, Output, Owned, Session as _, SourceConfig, SourceSession,
};
use drover_protocol::{
    Codec, DataType, Object, ObjectCodec, Resource, SourceBundleCodec, TraceContext, Work,
};
use drover_transport::{Subscription, Transport, TransportError};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::driver::{Driver, DriverConfig, TraceSource};
use crate::error::ClientError;
use crate::handle::{Shared, Stats, listed};
use crate::journal::{Disk, Journal};
use crate::patch::Patch;
use crate::selector::Selector;
use crate::watch::Watch;

/// Who a source is.
#[derive(Clone)]
pub struct SourceOptions<R = Work> {
    /// Its id, which goes into the uid of every work.
    pub source: String,
    /// What it knows from before. Agents delete what is not among its objects. A source with a [`Disk`] finds there what it
    /// knows, not here.
    pub owned: Owned<R>,
    /// The driver.
    pub driver: DriverConfig,
}

impl<R> SourceOptions<R> {
    /// A source that owns nothing yet.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            owned: Owned::default(),
            driver: DriverConfig::default(),
        }
    }

    fn session(&self) -> SourceConfig {
        SourceConfig {
            source: self.source.clone(),
            resync: true,
            seed: self.driver.seed,
        }
    }
}

/// The works of a source.
pub type SourceWorks = SourceClient<SourceBundleCodec>;

/// The resources of a source, of any kind that has a codec. Clones are the same client.
///
/// Generations of works are counted here, unless a work says its version itself in the annotation
/// `cloudevents.open-cluster-management.io/resourceversion`.
pub struct SourceClient<C: Codec> {
    shared: Arc<Shared<SourceSession<C>>>,
    trace: TraceSource,
}

impl<C: Codec> Clone for SourceClient<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            trace: Arc::clone(&self.trace),
        }
    }
}

/// A client and the driver that keeps it and the agents equal.
type WithDriver<C> = (SourceClient<C>, Driver<SourceSession<C>>);

impl SourceWorks {
    /// A client and its driver. What it owns is gone when the process ends, see [`persistent`](Self::persistent).
    pub fn new(
        options: SourceOptions,
        transport: Arc<dyn Transport>,
    ) -> (Self, Driver<SourceSession<SourceBundleCodec>>) {
        Self::with_codec(SourceBundleCodec, options, transport)
    }

    /// A client that keeps its works in a SQLite file, and finds them there when it starts again.
    ///
    /// # Guarantees
    /// A change is stored before it is sent. Whatever the instruction at which the process dies: of the changes before a
    /// [`flush`](Self::flush) that returned none is lost, what was not sent is sent later, and nothing deleted comes back.
    #[cfg(feature = "sqlite")]
    pub fn persistent(
        options: SourceOptions,
        path: &std::path::Path,
        transport: Arc<dyn Transport>,
    ) -> Result<(Self, Driver<SourceSession<SourceBundleCodec>>), ClientError> {
        let data_type = SourceBundleCodec.data_type();
        let disk = crate::sqlite::SqliteDisk::open(path, &options.source, data_type)?;
        Self::with_disk(SourceBundleCodec, options, Box::new(disk), transport)
    }
}

impl<C: Codec> SourceClient<C> {
    /// A client for what a codec knows, and its driver.
    pub fn with_codec(
        codec: C,
        options: SourceOptions<C::Object>,
        transport: Arc<dyn Transport>,
    ) -> WithDriver<C> {
        let data_type = codec.data_type().clone();
        let session = SourceSession::new(codec, options.session(), options.owned);
        let shared = Shared::new(session, Arc::clone(&options.driver.clock));
        Self::driven(shared, options.source, data_type, options.driver, transport)
    }

    /// A client that keeps its state on a disk, and finds it there when it starts again; see
    /// [`persistent`](SourceWorks::persistent).
    pub fn with_disk(
        codec: C,
        options: SourceOptions<C::Object>,
        mut disk: Box<dyn Disk<C::Object>>,
        transport: Arc<dyn Transport>,
    ) -> Result<WithDriver<C>, ClientError> {
        let data_type = codec.data_type().clone();
        let session = SourceSession::restored(codec, options.session(), disk.load()?);
        let journal = Journal::start(disk)?;
        let clock = Arc::clone(&options.driver.clock);
        let shared = Shared::journaled(session, Some(journal), clock);
        Ok(Self::driven(
            shared,
            options.source,
            data_type,
            options.driver,
            transport,
        ))
    }

    fn driven(
        shared: Arc<Shared<SourceSession<C>>>,
        source: String,
        data_type: DataType,
        config: DriverConfig,
        transport: Arc<dyn Transport>,
    ) -> WithDriver<C> {
        let trace = Arc::clone(&config.trace);
        let driver = Driver {
            shared: Arc::clone(&shared),
            transport,
            subscription: Subscription::Source { source, data_type },
            config,
        };
        (Self { shared, trace }, driver)
    }

    /// Creates a resource in the cluster that it names: a work by its namespace. The uid of a work follows from source,
    /// cluster and name.
    ///
    /// # Guarantees
    /// It is kept before it is sent, and sent until the broker has taken it.
    pub fn create(&self, object: C::Object) -> Result<Arc<C::Object>, ClientError> {
        Ok(self.change(|session, now, out| session.create(now, object, out))?)
    }

    /// Replaces spec, labels and annotations. With a resourceVersion only if that is still the newest.
    pub fn update(&self, object: C::Object) -> Result<Arc<C::Object>, ClientError> {
        Ok(self.change(|session, _, out| session.update(object, out))?)
    }

    /// Changes spec, labels and annotations by a patch, read and written under one lock. A resourceVersion in the patch must
    /// still be the newest.
    pub fn patch(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch,
    ) -> Result<Arc<C::Object>, ClientError>
    where
        C::Object: Serialize + DeserializeOwned,
    {
        self.change(|session, _, out| {
            let stored = session.store().get_named(namespace, name);
            let stored = stored.ok_or_else(|| ChangeError::NotFound(name.to_owned()))?;
            let patched = patch.apply(&**stored)?;
            Ok(session.update(patched, out)?)
        })
    }

    /// Deletes; a resource goes when its agent says so. Absent is success.
    pub fn delete(&self, namespace: &str, name: &str) {
        let context = (self.trace)();
        self.shared.change(|session, now, out| {
            let stored = session.store().get_named(namespace, name);
            let uid = stored.map(|object| object.meta().uid.clone());
            session.delete(now, namespace, name, out);
            if let (Some(uid), Some(context)) = (uid, context) {
                session.set_trace(&uid, context);
            }
        });
    }

    /// A resource.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<C::Object>> {
        self.shared
            .read(|session| session.store().get_named(namespace, name).cloned())
    }

    /// A resource by its uid.
    pub fn get_uid(&self, uid: &str) -> Option<Arc<C::Object>> {
        self.shared
            .read(|session| session.store().get(uid).cloned())
    }

    /// The resources of a namespace, which for works is a cluster, by name.
    pub fn list(&self, namespace: &str) -> Vec<Arc<C::Object>> {
        self.shared.read(|session| {
            let objects = session.store().in_namespace(namespace);
            objects.cloned().collect()
        })
    }

    /// All resources.
    pub fn list_all(&self) -> Vec<Arc<C::Object>> {
        listed(&self.shared)
    }

    /// All resources with certain labels.
    pub fn select(&self, selector: &Selector) -> Vec<Arc<C::Object>> {
        self.shared.read(|session| {
            let objects = session.store().iter();
            let fits = |object: &&Arc<C::Object>| selector.matches(&object.meta().labels);
            objects.filter(fits).cloned().collect()
        })
    }

    /// All resources, then every change.
    pub fn watch(&self) -> Watch<C::Object> {
        self.shared.watch()
    }

    /// The trace of the last change of a resource: its newest step, which is the agent's report once there is one.
    pub fn trace(&self, uid: &str) -> Option<TraceContext> {
        self.shared.read(|session| session.trace(uid).cloned())
    }

    /// Makes a change, as part of the trace that its maker is in.
    fn change<E>(
        &self,
        act: impl FnOnce(
            &mut SourceSession<C>,
            Timestamp,
            &mut Vec<Output<C::Object>>,
        ) -> Result<Arc<C::Object>, E>,
    ) -> Result<Arc<C::Object>, E> {
        let context = (self.trace)();
        self.shared.change(|session, now, out| {
            let object = act(session, now, out)?;
            if let Some(context) = context {
                session.set_trace(&object.meta().uid, context);
            }
            Ok(object)
        })
    }

    /// Asks the agents what differs, now.
    pub fn resync(&self) {
        self.shared.feed(Input::Resync);
    }

    /// Waits until every change so far is on disk, if there is one. An error says why it is not; it is tried again all the
    /// same.
    pub async fn flush(&self) -> Result<(), ClientError> {
        Ok(self.shared.flush().await?)
    }

    /// Waits until there is a link.
    pub async fn connected(&self) {
        self.shared.connected().await;
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

/// Whole Kubernetes objects of one kind: `K` is any type with the JSON of that kind. Clones are the same client.
pub struct SourceObjects<K> {
    client: SourceClient<ObjectCodec>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for SourceObjects<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            kind: PhantomData,
        }
    }
}

impl<K: Serialize + DeserializeOwned> SourceObjects<K> {
    /// A client and its driver. Works have a client of their own: for their data type, and for unknown ones, this fails.
    pub fn new(
        options: SourceOptions<Object>,
        data_type: &DataType,
        transport: Arc<dyn Transport>,
    ) -> Result<(Self, Driver<SourceSession<ObjectCodec>>), ClientError> {
        let codec = ObjectCodec::of(data_type).ok_or_else(|| {
            TransportError::Config(format!("objects of {data_type} are not known"))
        })?;
        let (client, driver) = SourceClient::with_codec(codec, options, transport);
        let kind = PhantomData;
        Ok((Self { client, kind }, driver))
    }

    /// The same without types: for watching, resync and counters.
    pub fn untyped(&self) -> &SourceClient<ObjectCodec> {
        &self.client
    }

    /// Creates an object; one without uid gets one.
    pub fn create(&self, object: &K) -> Result<K, ClientError> {
        typed(&*self.client.create(Object::from_object(object)?)?)
    }

    /// Replaces an object, but for its status. With a resourceVersion only if that is still the newest.
    pub fn update(&self, object: &K) -> Result<K, ClientError> {
        typed(&*self.client.update(Object::from_object(object)?)?)
    }

    /// Changes an object by a patch.
    pub fn patch(&self, namespace: &str, name: &str, patch: &Patch) -> Result<K, ClientError> {
        typed(&*self.client.patch(namespace, name, patch)?)
    }

    /// Deletes. Absent is success.
    pub fn delete(&self, namespace: &str, name: &str) {
        self.client.delete(namespace, name);
    }

    /// An object, with the newest status. Cluster-scoped kinds have an empty namespace.
    pub fn get(&self, namespace: &str, name: &str) -> Result<Option<K>, ClientError> {
        let object = self.client.get(namespace, name);
        object.map(|object| typed(&object)).transpose()
    }

    /// All objects.
    pub fn list(&self) -> Result<Vec<K>, ClientError> {
        let objects = self.client.list_all();
        objects.iter().map(|object| typed(object)).collect()
    }
}

fn typed<K: DeserializeOwned>(object: &Object) -> Result<K, ClientError> {
    Ok(object.to_object()?)
}
