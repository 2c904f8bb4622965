//! Move CloudEvents through real brokers.
//!
//! [`link`] is what every transport offers to the client drivers; [`grpc`] is the event service over gRPC, [`memory`] the
//! same inside one process, `kafka` (a feature) the same through topics. [`broker`] is the server side: the event service of a hub, with [`authn`] and [`authz`].

pub mod link;
pub mod service;
pub mod memory;
pub mod grpc;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod tls;
pub mod authn;
pub mod authz;
pub mod broker;

pub use broker::{Broker, BrokerConfig};
pub use link::{Link, Publisher, Remedy, Subscription, Transport, TransportError};
pub use service::{Service, ServiceError};
/// For implementors of the traits of this crate.
pub use tonic::async_trait;
