//! What a broker counts: always a few numbers, and with a registry the series that Prometheus collects.
//!
//! Series of calls and connections have the names and labels of the Go broker (sdk-go: pkg/cloudevents/server/grpc/metrics and
//! pkg/server/grpc/metrics). Names of clusters that were not let in are not labels.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use drover_protocol::DataType;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tonic::Code;

use super::Broker;

const SERVICE: &str = "io.cloudevents.v1.CloudEventService";
/// Consumers that have series of their own; later ones share one.
const MAX_CONSUMERS: usize = 20_000;

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
    pub unheard: AtomicU64,
}

impl Metrics {
    /// Every counter with its name and what it counts.
    fn all(&self) -> [(&'static str, &'static str, &AtomicU64); 13] {
        [
            ("subscriptions", "Subscriptions opened", &self.subscriptions),
            ("published", "Events taken", &self.published),
            ("refused", "Events not taken", &self.publish_refused),
            (
                "unauthenticated",
                "Calls of nobody who is known",
                &self.unauthenticated,
            ),
            ("denied", "Calls that were not allowed", &self.denied),
            (
                "fanned_out",
                "Events put into queues of subscribers",
                &self.fanned_out,
            ),
            ("sent", "Events sent to subscribers", &self.sent),
            ("heartbeats", "Heartbeats sent", &self.heartbeats),
            (
                "cut_off",
                "Subscriptions ended because they did not keep up",
                &self.cut_off,
            ),
            ("resyncs", "Resync requests answered", &self.resyncs),
            (
                "resync_events",
                "Events in answer to resync requests",
                &self.resync_events,
            ),
            (
                "handshakes_failed",
                "Connections that failed before the first call",
                &self.tls_failures,
            ),
            (
                "unheard",
                "Relayed events for which nobody listened",
                &self.unheard,
            ),
        ]
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Broker {
    /// Registers everything that the broker counts. Series of single clusters are only kept from then on; the first registry
    /// that is given gets them.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Numbers(self.clone())));
        if let Ok(()) = self.0.series.set(Series::default())
            && let Some(series) = self.0.series.get()
        {
            series.register(registry);
        }
    }
}

/// The plain numbers at the moment when they are collected.
struct Numbers(Broker);

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, number) in self.0.metrics().all() {
            let name = format!("drover_broker_{name}");
            let number = ConstCounter::new(number.load(Ordering::Relaxed));
            let encoder = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            number.encode(encoder)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    consumer: Arc<str>,
    data_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    consumer: Arc<str>,
    data_type: String,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    consumer: Arc<str>,
    data_type: String,
    method: &'static str,
    grpc_code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodOutcome {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ends {
    remote_addr: String,
    local_addr: String,
}

const PUBLISH: Method = Method {
    grpc_type: "unary",
    grpc_service: SERVICE,
    grpc_method: "Publish",
};
const SUBSCRIBE: Method = Method {
    grpc_type: "server_stream",
    grpc_service: SERVICE,
    grpc_method: "Subscribe",
};

/// The series with labels.
#[derive(Default)]
pub(super) struct Series {
    subscribers: Family<Listener, Gauge>,
    called: Family<Call, Counter>,
    received: Family<Call, Counter>,
    sent: Family<Call, Counter>,
    processed: Family<Outcome, Counter>,
    seconds: Seconds,
    started: Family<Method, Counter>,
    handled: Family<MethodOutcome, Counter>,
    received_bytes: Family<Method, Counter>,
    sent_bytes: Family<Method, Counter>,
    connections: Family<Ends, Gauge>,
    publishing: RwLock<HashMap<DataType, HashMap<String, Arc<Publishing>>>>,
}

struct Seconds(Family<Outcome, Histogram, fn() -> Histogram>);

impl Default for Seconds {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(1e-6, 10.0, 10))
        }))
    }
}

/// The series of what one consumer publishes of one data type.
struct Publishing {
    called: Counter,
    received: Counter,
    sent: Counter,
    processed: Counter,
    seconds: Histogram,
}

/// The series of one subscription.
pub(super) struct Subscription {
    subscribers: Gauge,
    sent: Counter,
    bytes: Counter,
}

impl Series {
    fn register(&self, registry: &mut Registry) {
        let ce = registry.sub_registry_with_prefix("grpc_server_ce");
        ce.register("subscribers", "Subscriptions now", self.subscribers.clone());
        ce.register("called", "Calls", self.called.clone());
        ce.register("msg_received", "Messages received", self.received.clone());
        ce.register("msg_sent", "Messages sent", self.sent.clone());
        ce.register("processed", "Calls that ended", self.processed.clone());
        let seconds = self.seconds.0.clone();
        ce.register("processing_duration_seconds", "Time of calls", seconds);
        let all = registry.sub_registry_with_prefix("grpc_server");
        all.register("started", "Calls begun", self.started.clone());
        all.register("handled", "Calls that ended", self.handled.clone());
        let bytes = self.received_bytes.clone();
        all.register("msg_received_bytes", "Bytes of messages received", bytes);
        let bytes = self.sent_bytes.clone();
        all.register("msg_sent_bytes", "Bytes of messages sent", bytes);
        let connections = self.connections.clone();
        all.register("active_connections", "Connections now", connections);
    }

    /// A request to publish came.
    pub(super) fn publish_began(&self, bytes: usize) {
        self.started.get_or_create(&PUBLISH).inc();
        self.received_bytes
            .get_or_create(&PUBLISH)
            .inc_by(bytes as u64);
    }

    /// A request to publish was answered. `whose` is known once it was understood.
    pub(super) fn publish_ended(
        &self,
        whose: Option<(&DataType, &str)>,
        code: Code,
        took: Duration,
    ) {
        self.ended(&PUBLISH, code);
        let stranger = matches!(
            code,
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument
        );
        match whose.filter(|_| !stranger) {
            Some((data_type, consumer)) if code == Code::Ok => {
                let series = self.publishing(data_type, consumer);
                series.called.inc();
                series.received.inc();
                series.sent.inc();
                series.processed.inc();
                series.seconds.observe(took.as_secs_f64());
            }
            whose => {
                let (data_type, consumer) = match whose {
                    Some((data_type, consumer)) => {
                        let series = self.publishing(data_type, consumer);
                        series.called.inc();
                        series.received.inc();
                        (data_type.to_string(), consumer)
                    }
                    None => ("unknown".to_owned(), "unknown"),
                };
                let outcome = Outcome {
                    consumer: consumer.into(),
                    data_type,
                    method: PUBLISH.grpc_method,
                    grpc_code: format!("{code:?}"),
                };
                self.processed.get_or_create(&outcome).inc();
                self.seconds
                    .0
                    .get_or_create(&outcome)
                    .observe(took.as_secs_f64());
            }
        }
    }

    fn ended(&self, method: &Method, code: Code) {
        let outcome = MethodOutcome {
            grpc_type: method.grpc_type,
            grpc_service: method.grpc_service,
            grpc_method: method.grpc_method,
            grpc_code: format!("{code:?}").replace("Ok", "OK"),
        };
        self.handled.get_or_create(&outcome).inc();
    }

    fn publishing(&self, data_type: &DataType, consumer: &str) -> Arc<Publishing> {
        let known = self
            .publishing
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let found = known
            .get(data_type)
            .and_then(|of| of.get(consumer))
            .cloned();
        let room = known.values().map(HashMap::len).sum::<usize>() < MAX_CONSUMERS;
        drop(known);
        if let Some(found) = found {
            return found;
        }
        let consumer = if room { consumer } else { "other" };
        let call = Call {
            consumer: consumer.into(),
            data_type: data_type.to_string(),
            method: PUBLISH.grpc_method,
        };
        let outcome = Outcome {
            consumer: call.consumer.clone(),
            data_type: call.data_type.clone(),
            method: call.method,
            grpc_code: "OK".to_owned(),
        };
        let made = Arc::new(Publishing {
            called: self.called.get_or_create_owned(&call),
            received: self.received.get_or_create_owned(&call),
            sent: self.sent.get_or_create_owned(&call),
            processed: self.processed.get_or_create_owned(&outcome),
            seconds: self.seconds.0.get_or_create_owned(&outcome),
        });
        self.publishing
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(data_type.clone())
            .or_default()
            .insert(consumer.to_owned(), Arc::clone(&made));
        made
    }

    /// Somebody subscribed.
    pub(super) fn subscribed(&self, data_type: &DataType, consumer: &str) -> Subscription {
        self.started.get_or_create(&SUBSCRIBE).inc();
        let listener = Listener {
            consumer: consumer.into(),
            data_type: data_type.to_string(),
        };
        let call = Call {
            consumer: listener.consumer.clone(),
            data_type: listener.data_type.clone(),
            method: SUBSCRIBE.grpc_method,
        };
        self.called.get_or_create(&call).inc();
        self.received.get_or_create(&call).inc();
        let subscribers = self.subscribers.get_or_create_owned(&listener);
        subscribers.inc();
        Subscription {
            subscribers,
            sent: self.sent.get_or_create_owned(&call),
            bytes: self.sent_bytes.get_or_create_owned(&SUBSCRIBE),
        }
    }

    /// A connection was opened.
    pub(super) fn connected(&self, remote: SocketAddr, local: SocketAddr) -> Connected {
        let ends = Ends {
            remote_addr: remote.to_string(),
            local_addr: local.to_string(),
        };
        self.connections.get_or_create(&ends).inc();
        Connected {
            connections: self.connections.clone(),
            ends,
        }
    }
}

impl Subscription {
    /// A message was sent.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.inc();
        self.bytes.inc_by(bytes as u64);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscribers.dec();
    }
}

/// An open connection; its series goes with it.
pub(super) struct Connected {
    connections: Family<Ends, Gauge>,
    ends: Ends,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connections.remove(&self.ends);
    }
}
