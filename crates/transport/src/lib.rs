//! Move CloudEvents through real brokers.
//!
//! [`link`] is what every transport offers to the client drivers; `grpc` (a feature) is the event service over gRPC, `mqtt` (a
//! feature) MQTT 5, `kafka` (a feature) topics of Kafka, [`memory`] the same inside one process. `broker` is the server side
//! of `grpc`: the event service of a hub.

pub mod link;
pub mod service;
pub mod memory;
pub mod identity;
#[cfg(any(feature = "grpc", feature = "mqtt", feature = "kafka"))]
pub mod skipped;
#[cfg(any(feature = "grpc", feature = "mqtt", feature = "kafka"))]
pub mod config;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "grpc")]
pub mod proxy;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod tls;
#[cfg(feature = "grpc")]
pub mod authn;
#[cfg(feature = "grpc")]
pub mod authz;
#[cfg(feature = "grpc")]
pub mod broker;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "amqp")]
pub mod amqp;

/// For implementors of the traits of this crate.
pub use async_trait::async_trait;
#[cfg(feature = "grpc")]
pub use broker::{Broker, BrokerConfig};
pub use link::{Link, Publisher, Remedy, Subscription, Transport, TransportError};
#[cfg(feature = "grpc")]
pub use service::Service;
pub use service::ServiceError;
