//! The event service of a hub: agents publish to it and subscribe, services stand behind it.
//!
//! A data type can also be relayed: then sources and agents meet at the broker.
//!
//! A resync is answered on the subscription, never within the request that asks, so a large answer cannot block the asker.
//! Each subscriber has a bounded queue in which only the newest event of a resource is kept; a subscriber that does not
//! keep up is cut off, comes back and resyncs. Others never wait for it.

mod metrics;
mod options;
mod queue;
mod relay;
mod resync;
mod rpc;
mod serve;
mod topics;

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use drover_protocol::ids::Ids;
use drover_protocol::{CloudEvent, DataType, EventType};
use futures::future::join_all;
use tokio_util::task::TaskTracker;

use self::metrics::{Series, count};
use self::queue::{Limits, Outgoing, Subscriber};
use self::topics::{Audience, Party, Topics};
use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::service::Service;

pub use metrics::Metrics;
pub use options::{OptionsError, ServerOptions};
pub use rpc::EventService;
pub use serve::{ServeError, Serving};

/// How a broker behaves.
#[derive(Clone)]
pub struct BrokerConfig {
    /// Sender of the deletions that a resync orders.
    pub source: String,
    /// Time between signs of life on a subscription.
    pub heartbeat: Duration,
    /// Events that may wait for one subscriber.
    pub queue: usize,
    /// Bytes that may wait for one subscriber; one event may be larger.
    pub queue_bytes: usize,
    /// How long a sender of an event may wait for a subscriber that has no space before the subscriber is cut off.
    pub max_wait: Duration,
    /// How long a subscriber may take nothing while its resync waits.
    pub patience: Duration,
    /// Largest message taken, in bytes.
    pub max_message: usize,
    /// How connections are treated.
    pub serving: Serving,
    /// How callers are recognised and what they may do; `None` = everybody may everything.
    pub access: Option<AccessControl>,
}

/// Authentication and authorization, both in order.
#[derive(Clone)]
pub struct AccessControl {
    /// The first that recognises the caller wins. None configured: nobody is let in.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// The first that has an opinion decides. None configured: nothing is allowed.
    pub authorizers: Vec<Arc<dyn Authorizer>>,
}

impl BrokerConfig {
    /// Lets everybody do everything: for tests and for sockets that only friends reach.
    pub fn open(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            heartbeat: Duration::from_secs(10),
            queue: 1000,
            queue_bytes: 32 * 1024 * 1024,
            max_wait: Duration::from_secs(2),
            patience: Duration::from_mins(1),
            max_message: 16 * 1024 * 1024,
            serving: Serving::default(),
            access: None,
        }
    }

    /// With access control.
    pub fn secured(source: impl Into<String>, access: AccessControl) -> Self {
        Self {
            access: Some(access),
            ..Self::open(source)
        }
    }
}

/// What a service tells a resync.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Resources as spec events.
    pub events: Vec<CloudEvent>,
    /// Uids of resources that exist and that the agent holds as they are.
    pub unchanged: Vec<String>,
}

/// The broker. Clones are the same broker.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

/// What stands behind a data type.
#[derive(Clone)]
enum Route {
    Service(Arc<dyn Service>),
    Relay,
}

struct Inner {
    config: BrokerConfig,
    routes: RwLock<BTreeMap<DataType, Route>>,
    topics: Topics,
    resyncs: Mutex<HashMap<(String, DataType), usize>>,
    ids: Mutex<Ids>,
    metrics: Metrics,
    series: OnceLock<Series>,
    tasks: TaskTracker,
}

impl Broker {
    /// A broker without services.
    pub fn new(config: BrokerConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            routes: RwLock::default(),
            topics: Topics::default(),
            resyncs: Mutex::default(),
            ids: Mutex::new(Ids::new(rand::random())),
            metrics: Metrics::default(),
            series: OnceLock::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Puts a service behind a data type, in place of what was there.
    pub fn register(&self, data_type: DataType, service: Arc<dyn Service>) {
        self.route(data_type, Route::Service(service));
    }

    /// Lets sources and agents of a data type meet here, in place of what was behind it.
    ///
    /// What sources specify goes to the agents of the cluster it names, what agents report to the source it names. Agents ask
    /// sources for specs and sources ask agents for statuses, one or all. Nothing is kept for who is not there: each side
    /// resyncs when it comes. With access control a sender must be allowed to act as the source
    /// ([`Authorizer::authorize_source`]), and to do in the cluster what the event does.
    pub fn relay(&self, data_type: DataType) {
        self.route(data_type, Route::Relay);
    }

    fn route(&self, data_type: DataType, route: Route) {
        self.0
            .routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(data_type, route);
    }

    /// Gives an event to every agent of its cluster and data type, without waiting, and says to how many. A subscriber that
    /// has no space is cut off. An event without a parseable type or a cluster is for nobody.
    pub fn publish(&self, event: impl Borrow<CloudEvent>) -> usize {
        let event = event.borrow();
        self.push(&self.agents_of(event), event)
    }

    /// The same, but waits for subscribers that have no space, each for as long as [`BrokerConfig::max_wait`]: for those who
    /// publish faster than agents can take.
    pub async fn publish_paced(&self, event: impl Borrow<CloudEvent>) -> usize {
        let event = event.borrow();
        let subscribers = self.agents_of(event);
        if !subscribers.is_empty() {
            self.hand_out(&subscribers, &Outgoing::of(event)).await;
        }
        subscribers.len()
    }

    /// The same as [`Self::publish`], only to what this user subscribed: for answers that are nobody else's business.
    pub fn publish_to(&self, user: &str, event: impl Borrow<CloudEvent>) -> usize {
        let event = event.borrow();
        let mut subscribers = self.agents_of(event);
        subscribers.retain(|subscriber| subscriber.user == user);
        self.push(&subscribers, event)
    }

    fn push(&self, subscribers: &[Arc<Subscriber>], event: &CloudEvent) -> usize {
        if !subscribers.is_empty() {
            let event = Outgoing::of(event);
            let pushed: Vec<_> = subscribers.iter().map(|s| s.push(&event)).collect();
            self.count_pushed(&pushed);
        }
        subscribers.len()
    }

    fn agents_of(&self, event: &CloudEvent) -> Vec<Arc<Subscriber>> {
        let event_type = event.event_type.parse::<EventType>();
        match (event_type, event.cluster()) {
            (Ok(event_type), Some(cluster)) => self
                .0
                .topics
                .of(&event_type.data_type, Audience::Cluster(cluster)),
            _ => Vec::new(),
        }
    }

    async fn hand_out(&self, subscribers: &[Arc<Subscriber>], event: &Outgoing) {
        let patience = self.0.config.max_wait;
        let pushed = match subscribers {
            [only] => vec![only.push_patiently(event, patience).await],
            all => join_all(all.iter().map(|s| s.push_patiently(event, patience))).await,
        };
        self.count_pushed(&pushed);
    }

    fn count_pushed(&self, pushed: &[bool]) {
        let metrics = &self.0.metrics;
        metrics
            .fanned_out
            .fetch_add(pushed.len() as u64, Ordering::Relaxed);
        let cut_off = pushed.iter().filter(|pushed| !**pushed).count();
        if cut_off > 0 {
            metrics.cut_off.fetch_add(cut_off as u64, Ordering::Relaxed);
            tracing::warn!(cut_off, "cut off subscribers that are too slow");
        }
    }

    /// Clusters that have an agent that listens to a data type now.
    pub fn clusters(&self, data_type: &DataType) -> Vec<String> {
        self.0.topics.clusters(data_type)
    }

    /// Sources that listen to a data type now.
    pub fn sources(&self, data_type: &DataType) -> Vec<String> {
        self.0.topics.sources(data_type)
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Ends every subscription; clients come back when somebody serves again.
    pub fn disconnect_all(&self) {
        for subscriber in self.0.topics.drain() {
            subscriber.close();
        }
    }

    fn route_of(&self, data_type: &DataType) -> Option<Route> {
        self.0
            .routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(data_type)
            .cloned()
    }

    fn next_id(&self) -> String {
        self.0
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_id()
    }

    /// `None` when there are too many of the same already.
    fn subscribe(&self, party: Party, data_type: &DataType, user: String) -> Option<Subscribed> {
        let limits = Limits {
            events: self.0.config.queue,
            bytes: self.0.config.queue_bytes,
        };
        let subscriber = Arc::new(Subscriber::new(user, limits));
        if !self
            .0
            .topics
            .add(data_type, &party, Arc::clone(&subscriber))
        {
            return None;
        }
        count(&self.0.metrics.subscriptions);
        count(&self.0.metrics.subscribers);
        let (Party::Cluster(consumer) | Party::Source(consumer)) = &party;
        let series = self.0.series.get();
        Some(Subscribed {
            broker: self.clone(),
            series: series.map(|series| series.subscribed(data_type, consumer)),
            data_type: data_type.clone(),
            party,
            subscriber,
        })
    }
}

/// A registered subscriber; dropping it unregisters.
struct Subscribed {
    broker: Broker,
    series: Option<metrics::Subscription>,
    data_type: DataType,
    party: Party,
    subscriber: Arc<Subscriber>,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.subscriber.close();
        let inner = &self.broker.0;
        inner.metrics.subscribers.fetch_sub(1, Ordering::Relaxed);
        inner
            .topics
            .remove(&self.data_type, &self.party, &self.subscriber);
    }
}

#[cfg(test)]
mod tests;
