//! The source's side: works for any number of clusters.

use std::sync::Arc;

use drover_protocol::session::{Input, Owned, Session as _, SourceConfig, SourceSession};
use drover_protocol::{DataType, SourceBundleCodec, Work};
use drover_transport::{Subscription, Transport};

use crate::driver::{Driver, DriverConfig};
use crate::error::ClientError;
use crate::handle::{Shared, Stats, listed};
use crate::watch::Watch;

/// Who a source is.
#[derive(Clone)]
pub struct SourceOptions {
    /// Its id, which goes into the uid of every work.
    pub source: String,
    /// What it knows from before. Agents delete what is not among its objects.
    pub owned: Owned<Work>,
    /// The driver.
    pub driver: DriverConfig,
}

impl SourceOptions {
    /// A source that owns nothing yet.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            owned: Owned::default(),
            driver: DriverConfig::default(),
        }
    }
}

type WorkSession = SourceSession<SourceBundleCodec>;

/// The works of a source. Clones are the same client.
///
/// Generations are counted here, unless a work says its version itself in the annotation
/// `cloudevents.open-cluster-management.io/resourceversion`.
#[derive(Clone)]
pub struct SourceWorks {
    shared: Arc<Shared<WorkSession>>,
}

impl SourceWorks {
    /// A client and its driver.
    pub fn new(
        options: SourceOptions,
        transport: Arc<dyn Transport>,
    ) -> (Self, Driver<WorkSession>) {
        let SourceOptions {
            source,
            owned,
            driver: config,
        } = options;
        let session_config = SourceConfig {
            source: source.clone(),
            resync: true,
            seed: config.seed,
        };
        let session = SourceSession::new(SourceBundleCodec, session_config, owned);
        let shared = Shared::new(session, Arc::clone(&config.clock));
        let subscription = Subscription::Source {
            source,
            data_type: DataType::MANIFEST_BUNDLES,
        };
        let driver = Driver {
            shared: Arc::clone(&shared),
            transport,
            subscription,
            config,
        };
        (Self { shared }, driver)
    }

    /// Creates a work in the cluster that its namespace names.
    ///
    /// # Guarantees
    /// It is stored before it is sent, and sent until the broker has taken it.
    pub fn create(&self, work: Work) -> Result<Arc<Work>, ClientError> {
        Ok(self
            .shared
            .change(|session, now, out| session.create(now, work, out))?)
    }

    /// Replaces spec, labels and annotations. With a resourceVersion only if that is still the newest.
    pub fn update(&self, work: Work) -> Result<Arc<Work>, ClientError> {
        Ok(self
            .shared
            .change(|session, _, out| session.update(work, out))?)
    }

    /// Deletes; the work goes when its agent says so. Absent is success.
    pub fn delete(&self, cluster: &str, name: &str) {
        self.shared
            .change(|session, now, out| session.delete(now, cluster, name, out));
    }

    /// A work.
    pub fn get(&self, cluster: &str, name: &str) -> Option<Arc<Work>> {
        self.shared
            .read(|session| session.store().get_named(cluster, name).cloned())
    }

    /// The works of a cluster, by name.
    pub fn list(&self, cluster: &str) -> Vec<Arc<Work>> {
        self.shared
            .read(|session| session.store().in_namespace(cluster).cloned().collect())
    }

    /// All works.
    pub fn list_all(&self) -> Vec<Arc<Work>> {
        listed(&self.shared)
    }

    /// All works, then every change.
    pub fn watch(&self) -> Watch<Work> {
        self.shared.watch()
    }

    /// Asks the agents what differs, now.
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
}
