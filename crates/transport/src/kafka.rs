//! Events through Kafka: two topics, one written by sources and one by agents, of which every reader takes what is for it.
//!
//! The scheme is that of the Go implementation from v0.16 to v1.1: topics `sourceevents` and `agentevents`, a consumer group
//! for each agent and each source, the headers `ce-NAME`, and readers that look at `clustername` and
//! `originalsource`. Keys are ours (`SOURCE@CLUSTER`): the Go implementation writes none, so its events of one work may
//! overtake each other in a topic with several partitions.
//!
//! A group without committed offsets starts with the oldest record that the broker kept, as in the Go implementation: a new
//! agent replays the history of its works. Offsets are committed once events were handed on.

mod config;
mod error;
mod receive;
mod record;
mod route;

use std::sync::Arc;
use std::time::Duration;

use drover_protocol::{CloudEvent, DataType};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use krafka::Kafka;
use krafka::admin::{CreateTopicsOptions, NewTopic};
use krafka::auth::{AuthConfig, TlsConfig};
use krafka::consumer::AutoOffsetReset;
use krafka::error::{ErrorCode, KrafkaError};
use krafka::producer::{Acks, DeliveryHandle, Producer, Record};
use tokio::sync::{mpsc, oneshot};

pub use config::KafkaConfig;

use crate::link::{Link, Publisher, Subscription, Transport, TransportError};
use crate::skipped::Skipped;
use receive::Receiver;
use route::{Filter, Side};

/// An answer of the broker to one request may take this long.
const REQUEST_WAIT: Duration = Duration::from_secs(10);
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// An event that the broker has not taken after this long is given up, and with it the link.
const DELIVERY_WAIT: Duration = Duration::from_secs(30);
/// A reader that is not heard of for this long is dead: its partitions go to the others of its group.
const SESSION: Duration = Duration::from_secs(10);
/// A reader that takes no event for this long has left its group.
const STALLED: Duration = Duration::from_mins(5);
/// How often what was handed on is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Certificates are read again this often; new connections use them.
const RELOAD_EVERY: Duration = Duration::from_mins(5);
/// Largest request that is sent, and the most that one batch may unpack to.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// The most that one answer to a reader brings, except that one record always comes.
const FETCH_BYTES: i32 = 8 * 1024 * 1024;

/// The Kafka transport of one source or one agent. Clones share connections and the producer.
#[derive(Clone)]
pub struct KafkaTransport(Arc<Shared>);

struct Shared {
    config: KafkaConfig,
    side: Side,
    id: String,
    connection: tokio::sync::Mutex<Option<Connection>>,
    skipped: Skipped,
}

#[derive(Clone)]
struct Connection {
    number: u64,
    kafka: Kafka,
    outgoing: Outgoing,
}

/// Records on their way to the producer, in the order of the calls; each is answered with the handle of its delivery.
type Outgoing = mpsc::UnboundedSender<(Record, oneshot::Sender<Queued>)>;
type Queued = Result<DeliveryHandle, KrafkaError>;

struct KafkaPublisher {
    shared: Arc<Shared>,
    connection: Connection,
}

impl KafkaTransport {
    /// The transport of an agent. Its id is the consumer group unless the configuration names one.
    pub fn for_agent(config: KafkaConfig, agent: impl Into<String>) -> Self {
        Self::new(config, Side::Agent, agent.into())
    }

    /// The transport of a source. Its id is the consumer group unless the configuration names one; processes that share a
    /// source and a group share its statuses.
    pub fn for_source(config: KafkaConfig, source: impl Into<String>) -> Self {
        Self::new(config, Side::Source, source.into())
    }

    fn new(config: KafkaConfig, side: Side, id: String) -> Self {
        Self(Arc::new(Shared {
            config,
            side,
            id,
            connection: tokio::sync::Mutex::new(None),
            skipped: Skipped::default(),
        }))
    }

    /// How many records in the topic were no events. They are passed over.
    pub fn skipped(&self) -> u64 {
        self.0.skipped.count()
    }

    async fn open_link(&self, subscription: Subscription) -> Result<Link, TransportError> {
        let shared = &self.0;
        let plan = match subscription {
            Subscription::PublishOnly => None,
            Subscription::Agent { cluster, data_type } if shared.side == Side::Agent => {
                Some((Filter::agent(&data_type, cluster), data_type))
            }
            Subscription::Source { source, data_type } if shared.side == Side::Source => {
                Some((Filter::source(&data_type, source), data_type))
            }
            other => {
                return Err(TransportError::Config(format!(
                    "the Kafka transport of {:?} cannot open {other:?}: sources and agents have transports of their own",
                    shared.id
                )));
            }
        };
        let connection = shared.connection().await?;
        let events = match plan {
            None => stream::pending().boxed(),
            Some((filter, data_type)) => {
                match shared.subscribe(&connection, filter, &data_type).await {
                    Ok(receiver) => receiver.into_stream(),
                    Err(error) => {
                        let error = error::lost(&error);
                        shared.forget(connection.number).await;
                        return Err(error);
                    }
                }
            }
        };
        Ok(Link {
            publisher: Arc::new(KafkaPublisher {
                shared: Arc::clone(shared),
                connection,
            }),
            events,
        })
    }
}

impl Transport for KafkaTransport {
    fn open(&self, subscription: Subscription) -> BoxFuture<'_, Result<Link, TransportError>> {
        Box::pin(self.open_link(subscription))
    }
}

impl Shared {
    async fn connection(&self) -> Result<Connection, TransportError> {
        let mut shared = self.connection.lock().await;
        if let Some(connection) = &*shared {
            return Ok(connection.clone());
        }
        let kafka = self.connect().await?;
        self.make_topics(&kafka).await?;
        let producer = kafka
            .producer()
            .acks(Acks::All)
            .idempotent(true)
            // Batches grow while a request is under way; waiting for more would only delay the first.
            .linger(Duration::ZERO)
            .delivery_timeout(DELIVERY_WAIT)
            .max_block(REQUEST_WAIT)
            .max_request_size(MAX_MESSAGE)
            .buffer_memory(2 * MAX_MESSAGE)
            .metrics_push(false)
            .build()
            .await
            .map_err(|e| error::connect(&self.config.bootstrap_server, &e))?;
        let connection = Connection {
            number: NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            kafka,
            outgoing: pump(producer),
        };
        *shared = Some(connection.clone());
        Ok(connection)
    }

    /// The next link uses a new connection: this one failed in a way that does not pass.
    async fn forget(&self, number: u64) {
        let mut shared = self.connection.lock().await;
        if shared.as_ref().is_some_and(|c| c.number == number) {
            *shared = None;
        }
    }

    async fn connect(&self) -> Result<Kafka, TransportError> {
        let config = &self.config;
        config.validate().map_err(TransportError::Config)?;
        if !config.librdkafka.is_empty() {
            let settings = config.librdkafka.keys().map(String::as_str);
            let settings = settings.collect::<Vec<_>>().join(", ");
            tracing::warn!(settings, "settings of librdkafka have no effect");
        }
        let mut builder = Kafka::builder(&config.bootstrap_server)
            .client_id(&self.id)
            .request_timeout(REQUEST_WAIT)
            .connect_timeout(CONNECT_WAIT);
        if let Some(ca) = &config.ca_file {
            let mut tls = TlsConfig::new().with_ca_cert(ca);
            if let (Some(cert), Some(key)) = (&config.client_cert_file, &config.client_key_file) {
                tls = tls.with_client_cert(cert, key);
            }
            builder = builder
                .security(AuthConfig::ssl(tls))
                .tls_reload_interval(Some(RELOAD_EVERY));
        }
        let connected = builder.connect().await;
        connected.map_err(|e| error::connect(&config.bootstrap_server, &e))
    }

    /// Makes the two topics, with the broker's defaults, where they are missing.
    async fn make_topics(&self, kafka: &Kafka) -> Result<(), TransportError> {
        let admin = kafka.admin();
        let topics = [route::SOURCE_EVENTS, route::AGENT_EVENTS];
        let known = admin.list_topics(krafka::admin::ListTopicsOptions::default());
        let known = known
            .await
            .map_err(|e| error::connect(&self.config.bootstrap_server, &e))?;
        let missing: Vec<NewTopic> = topics
            .into_iter()
            .filter(|topic| !known.iter().any(|known| known == topic))
            .map(|topic| NewTopic::new(topic, -1, -1))
            .collect::<Result<_, _>>()
            .map_err(|e| error::lost(&e))?;
        if missing.is_empty() {
            return Ok(());
        }
        let made = admin
            .create_topics(missing, CreateTopicsOptions::default())
            .await
            .map_err(|e| error::connect(&self.config.bootstrap_server, &e))?;
        for (topic, result) in made {
            match result {
                Ok(())
                | Err(KrafkaError::Broker {
                    code: ErrorCode::TopicAlreadyExists,
                    ..
                }) => (),
                Err(error) => {
                    return Err(TransportError::Config(format!(
                        "the topic {topic} does not exist and cannot be made: {error}"
                    )));
                }
            }
        }
        Ok(())
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        filter: Filter,
        data_type: &DataType,
    ) -> Result<Receiver, KrafkaError> {
        let group = route::group(self.config.group_id.as_deref(), &self.id, data_type);
        let consumer = connection
            .kafka
            .consumer(group)
            .auto_offset_reset(AutoOffsetReset::Earliest)
            // Commits what was returned before the last poll, and the receiver polls once all of that is handed on.
            .enable_auto_commit(true)
            .auto_commit_interval(COMMIT_EVERY)
            .session_timeout(SESSION)
            .heartbeat_interval(SESSION / 3)
            .max_poll_interval(STALLED)
            .fetch_max_bytes(FETCH_BYTES)
            .max_partition_fetch_bytes(FETCH_BYTES)
            .max_decompressed_size(MAX_MESSAGE)
            .metrics_push(false)
            .build()
            .await?;
        let topic = self.side.reads();
        consumer.subscribe([topic]).await?;
        Ok(Receiver::new(consumer, filter, self.skipped.clone()))
    }
}

/// Numbers connections.
static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Gives records to a producer one by one: polled side by side, its own futures would not keep their order. Ends with the
/// last sender.
fn pump(producer: Producer) -> Outgoing {
    let (outgoing, mut records) = mpsc::unbounded_channel::<(Record, oneshot::Sender<Queued>)>();
    tokio::spawn(async move {
        while let Some((record, answer)) = records.recv().await {
            // Nobody waits for it any more: the queue is no longer than the callers are many.
            if answer.is_closed() {
                continue;
            }
            let queued = producer.enqueue(record).await;
            if answer.send(queued).is_err() {
                tracing::debug!("an event was sent for which nobody waits any more");
            }
        }
    });
    outgoing
}

impl KafkaPublisher {
    async fn delivered(&self, queued: oneshot::Receiver<Queued>) -> Result<(), KrafkaError> {
        let gone = |_| KrafkaError::closed("the producer ended");
        queued.await.map_err(gone)??.await.map(drop)
    }
}

impl Publisher for KafkaPublisher {
    fn publish(&self, event: CloudEvent) -> BoxFuture<'_, Result<(), TransportError>> {
        let (answer, queued) = oneshot::channel();
        let record = record::to_record(self.shared.side.writes(), &event);
        // When the producer ended, the answer is dropped, which is noticed below.
        self.connection.outgoing.send((record, answer)).ok();
        Box::pin(async move {
            let Err(error) = self.delivered(queued).await else {
                return Ok(());
            };
            let error = error::publish(&error);
            if error.remedy() != crate::Remedy::DropAndReport {
                self.shared.forget(self.connection.number).await;
            }
            Err(error)
        })
    }
}
