//! The event service of a hub: agents publish to it and subscribe, services stand behind it.
//!
//! A resync is answered on the subscription, never within the request that asks, so a large answer cannot block the asker.
//! Each subscriber has a bounded queue in which only the newest event of a resource is kept; a subscriber that does not
//! keep up is cut off, comes back and resyncs. Others never wait for it.

mod queue;
mod rpc;
mod serve;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use drover_protocol::ids::Ids;
use drover_protocol::resync::{Answering, Versions, answer};
use drover_protocol::{CloudEvent, DataType, EventType};
use futures::future::join_all;
use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use self::queue::Subscriber;
use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::service::{Service, ServiceError};

pub use rpc::EventService;
pub use serve::ServeError;

/// Resyncs of one cluster and data type that may be in progress at once.
const MAX_RESYNCS: usize = 4;
/// Subscribers of one cluster and data type.
const MAX_SUBSCRIBERS: usize = 64;

/// How a broker behaves.
#[derive(Clone)]
pub struct BrokerConfig {
    /// Sender of the deletions that a resync orders.
    pub source: String,
    /// Time between signs of life on a subscription.
    pub heartbeat: Duration,
    /// Events that may wait for one subscriber.
    pub queue: usize,
    /// How long a subscriber may take nothing while its resync waits.
    pub patience: Duration,
    /// Largest message taken, in bytes.
    pub max_message: usize,
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
            patience: Duration::from_mins(1),
            max_message: 16 * 1024 * 1024,
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

/// Counters of a broker; they only grow, except `subscribers`.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Metrics {
    pub subscribers: AtomicU64,
    pub subscriptions: AtomicU64,
    pub published: AtomicU64,
    pub publish_refused: AtomicU64,
    pub unauthenticated: AtomicU64,
    pub denied: AtomicU64,
    pub fanned_out: AtomicU64,
    pub sent: AtomicU64,
    pub heartbeats: AtomicU64,
    pub cut_off: AtomicU64,
    pub resyncs: AtomicU64,
    pub resync_events: AtomicU64,
    pub tls_failures: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The broker. Clones are the same broker.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

type Topic = (String, DataType);

struct Inner {
    config: BrokerConfig,
    services: RwLock<BTreeMap<DataType, Arc<dyn Service>>>,
    subscribers: RwLock<HashMap<Topic, Vec<Arc<Subscriber>>>>,
    resyncs: Mutex<HashMap<Topic, usize>>,
    ids: Mutex<Ids>,
    metrics: Metrics,
    tasks: TaskTracker,
}

impl Broker {
    /// A broker without services.
    pub fn new(config: BrokerConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            services: RwLock::default(),
            subscribers: RwLock::default(),
            resyncs: Mutex::default(),
            ids: Mutex::new(Ids::new(rand::random())),
            metrics: Metrics::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Puts a service behind a data type, in place of the one before.
    pub fn register(&self, data_type: DataType, service: Arc<dyn Service>) {
        self.0
            .services
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(data_type, service);
    }

    /// Gives an event to every subscriber of its cluster and data type, without waiting, and says to how many. An event
    /// without a parseable type or a cluster is for nobody.
    pub fn publish(&self, event: CloudEvent) -> usize {
        let Ok(event_type) = event.event_type.parse::<EventType>() else {
            return 0;
        };
        let Some(cluster) = event.cluster() else {
            return 0;
        };
        let subscribers = self.subscribers(cluster, &event_type.data_type);
        let event = Arc::new(event);
        for subscriber in &subscribers {
            if !subscriber.push(Arc::clone(&event)) {
                count(&self.0.metrics.cut_off);
                tracing::warn!(cluster = subscriber.cluster, data_type = %event_type.data_type, "cut off a subscriber that is too slow");
            }
        }
        self.0
            .metrics
            .fanned_out
            .fetch_add(subscribers.len() as u64, Ordering::Relaxed);
        subscribers.len()
    }

    /// Clusters that have a subscriber of a data type now.
    pub fn clusters(&self, data_type: &DataType) -> Vec<String> {
        let subscribers = self
            .0
            .subscribers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut clusters: Vec<_> = subscribers
            .keys()
            .filter(|(_, t)| t == data_type)
            .map(|(c, _)| c.clone())
            .collect();
        clusters.sort();
        clusters
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Ends every subscription; clients come back when somebody serves again.
    pub fn disconnect_all(&self) {
        let subscribers = std::mem::take(
            &mut *self
                .0
                .subscribers
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for subscriber in subscribers.into_values().flatten() {
            subscriber.close();
        }
    }

    fn service_of(&self, data_type: &DataType) -> Option<Arc<dyn Service>> {
        self.0
            .services
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(data_type)
            .cloned()
    }

    fn subscribers(&self, cluster: &str, data_type: &DataType) -> Vec<Arc<Subscriber>> {
        let subscribers = self
            .0
            .subscribers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers
            .get(&(cluster.to_owned(), data_type.clone()))
            .cloned()
            .unwrap_or_default()
    }

    fn next_id(&self) -> String {
        self.0
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_id()
    }

    /// `None` when the cluster has too many subscribers of this data type already.
    fn subscribe(&self, cluster: &str, data_type: &DataType) -> Option<Subscribed> {
        let topic = (cluster.to_owned(), data_type.clone());
        let mut subscribers = self
            .0
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let same = subscribers.entry(topic.clone()).or_default();
        if same.len() >= MAX_SUBSCRIBERS {
            return None;
        }
        let subscriber = Arc::new(Subscriber::new(cluster, self.0.config.queue));
        same.push(Arc::clone(&subscriber));
        count(&self.0.metrics.subscriptions);
        count(&self.0.metrics.subscribers);
        Some(Subscribed {
            broker: self.clone(),
            topic,
            subscriber,
        })
    }

    /// Answers a spec resync: lists within the request, so that errors reach the asker, and sends outside of it.
    async fn resync(
        &self,
        event: &CloudEvent,
        data_type: &DataType,
        service: &dyn Service,
    ) -> Result<(), ServiceError> {
        let cluster = event.cluster().unwrap_or_default().to_owned();
        let known =
            Versions::from_event(event).map_err(|e| ServiceError::bad_request(e.to_string()))?;
        let turn = self.begin_resync(&cluster, data_type)?;
        // Marks before the listing: what changes from now on is newer than what is listed.
        let feeds: Vec<_> = self
            .subscribers(&cluster, data_type)
            .into_iter()
            .map(queue::Feed::begin)
            .collect();
        let listing = service.resync(&cluster, &known).await?;
        let mut known = known;
        for uid in &listing.unchanged {
            known.0.remove(uid);
        }
        let to = Answering {
            data_type,
            cluster: &cluster,
            source: &self.0.config.source,
        };
        let mut ids = Ids::new(rand::random());
        let events: Vec<_> = answer(listing.events, &known, &to, &mut ids, Timestamp::now())
            .into_iter()
            .map(Arc::new)
            .collect();
        count(&self.0.metrics.resyncs);
        self.0
            .metrics
            .resync_events
            .fetch_add(events.len() as u64, Ordering::Relaxed);
        let (broker, patience) = (self.clone(), self.0.config.patience);
        self.0.tasks.spawn(async move {
            let sent = join_all(feeds.iter().map(|feed| feed.send(&events, patience))).await;
            let slow = sent.iter().filter(|sent| !**sent).count();
            broker
                .0
                .metrics
                .cut_off
                .fetch_add(slow as u64, Ordering::Relaxed);
            drop(turn);
        });
        Ok(())
    }

    fn begin_resync(&self, cluster: &str, data_type: &DataType) -> Result<Turn, ServiceError> {
        let topic = (cluster.to_owned(), data_type.clone());
        let mut resyncs = self
            .0
            .resyncs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let running = resyncs.entry(topic.clone()).or_default();
        if *running >= MAX_RESYNCS {
            let why = format!(
                "{MAX_RESYNCS} resyncs of {data_type} for {cluster} are in progress already"
            );
            return Err(ServiceError::new(429, "TooManyRequests", why));
        }
        *running += 1;
        Ok(Turn {
            broker: self.clone(),
            topic,
        })
    }
}

/// One of the resyncs in progress.
struct Turn {
    broker: Broker,
    topic: Topic,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut resyncs = self
            .broker
            .0
            .resyncs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = resyncs.get_mut(&self.topic) {
            *running -= 1;
            if *running == 0 {
                resyncs.remove(&self.topic);
            }
        }
    }
}

/// A registered subscriber; dropping it unregisters.
struct Subscribed {
    broker: Broker,
    topic: Topic,
    subscriber: Arc<Subscriber>,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.subscriber.close();
        self.broker
            .0
            .metrics
            .subscribers
            .fetch_sub(1, Ordering::Relaxed);
        let mut subscribers = self
            .broker
            .0
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = subscribers.get_mut(&self.topic) {
            same.retain(|other| !Arc::ptr_eq(other, &self.subscriber));
            if same.is_empty() {
                subscribers.remove(&self.topic);
            }
        }
    }
}

#[cfg(test)]
mod tests;
