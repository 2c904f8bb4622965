//! MQTT 5: events in binary mode on the topics of [`drover_protocol::topics`].
//!
//! [`packet`] and [`session`] are the protocol, without doing it; `link` does it. Each link is a connection of its own with a
//! clean start: what is published while nobody listens is gone, and the resync after each connect brings it.

pub mod packet;
pub mod session;
pub mod event;
mod link;
mod reason;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_protocol::topics::{TopicError, Topics};
use futures::future::BoxFuture;

use crate::identity::ClientTls;
use crate::link::{Link, Subscription, Transport, TransportError};
use crate::service::ServiceError;
use crate::skipped::Skipped;

/// Largest packet that is taken from a broker.
pub const MAX_PACKET: usize = 64 * 1024 * 1024;

/// Where the broker is, who calls, and which topics are used.
#[derive(Clone)]
pub struct MqttConfig {
    /// `host:port`.
    pub broker: String,
    /// Client id, which must be the only one of its kind at the broker. Further links that are open at the same time get a
    /// number behind it: `ID-2`.
    pub client_id: String,
    /// Topics.
    pub topics: Topics,
    /// User name, if the broker wants one.
    pub username: Option<String>,
    /// Password, if the broker wants one.
    pub password: Option<String>,
    /// Longest time without a sign of life, in whole seconds; zero = any.
    pub keep_alive: Duration,
    /// How long connecting may take, with the handshake of TLS.
    pub dial_timeout: Duration,
    /// How long an answer may take.
    pub packet_timeout: Duration,
    /// Quality of service of what is published: 0, 1 or 2.
    pub publish_qos: u8,
    /// Quality of service of what is received: 0, 1 or 2.
    pub subscribe_qos: u8,
    /// TLS 1.3; `None` = in the clear.
    pub tls: Option<ClientTls>,
}

impl MqttConfig {
    /// A configuration without TLS and user, with the usual times.
    pub fn new(broker: impl Into<String>, client_id: impl Into<String>, topics: Topics) -> Self {
        Self {
            broker: broker.into(),
            client_id: client_id.into(),
            topics,
            username: None,
            password: None,
            keep_alive: Duration::from_mins(1),
            dial_timeout: Duration::from_mins(1),
            packet_timeout: Duration::from_secs(10),
            publish_qos: 1,
            subscribe_qos: 1,
            tls: None,
        }
    }
}

impl std::fmt::Debug for MqttConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttConfig")
            .field("broker", &self.broker)
            .field("client_id", &self.client_id)
            .field("topics", &self.topics)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| ".."))
            .field("keep_alive", &self.keep_alive)
            .field("dial_timeout", &self.dial_timeout)
            .field("packet_timeout", &self.packet_timeout)
            .field("publish_qos", &self.publish_qos)
            .field("subscribe_qos", &self.subscribe_qos)
            .field("tls", &self.tls)
            .finish()
    }
}

/// The MQTT transport. Clones are the same client.
#[derive(Clone)]
pub struct MqttTransport {
    config: Arc<MqttConfig>,
    ids: Ids,
    skipped: Skipped,
}

impl MqttTransport {
    /// A transport; connects when a link is opened.
    pub fn new(config: MqttConfig) -> Self {
        Self {
            config: Arc::new(config),
            ids: Ids::default(),
            skipped: Skipped::default(),
        }
    }

    /// Messages received that were no events.
    pub fn skipped(&self) -> u64 {
        self.skipped.count()
    }
}

impl Transport for MqttTransport {
    fn open(&self, subscription: Subscription) -> BoxFuture<'_, Result<Link, TransportError>> {
        Box::pin(async move {
            let filters = match &subscription {
                Subscription::Agent { cluster, .. } => self.config.topics.agent_filters(cluster),
                Subscription::Source { source, .. } => self.config.topics.source_filters(source),
                Subscription::PublishOnly => Ok(Vec::new()),
            };
            let filters = filters.map_err(|e| TransportError::Config(e.to_string()))?;
            link::open(self, subscription, filters).await
        })
    }
}

impl From<TopicError> for TransportError {
    fn from(error: TopicError) -> Self {
        Self::Refused(Box::new(ServiceError::bad_request(error.to_string())))
    }
}

/// The client ids in use: each link has its own, the lowest that is free.
#[derive(Clone, Default)]
struct Ids(Arc<Mutex<BTreeSet<usize>>>);

struct ClientId {
    ids: Ids,
    number: usize,
}

impl Ids {
    fn take(&self) -> ClientId {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One of one more numbers than are used is free.
        let mut free = (1..=used.len() + 1).filter(|number| !used.contains(number));
        let number = free.next().unwrap_or_default();
        used.insert(number);
        ClientId {
            ids: self.clone(),
            number,
        }
    }
}

impl ClientId {
    fn text(&self, base: &str) -> String {
        match self.number {
            1 => base.to_owned(),
            number => format!("{base}-{number}"),
        }
    }
}

impl Drop for ClientId {
    fn drop(&mut self) {
        let mut used = self.ids.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.remove(&self.number);
    }
}
