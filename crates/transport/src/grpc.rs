//! The event service over gRPC: messages, mapping, client. The server side is [`crate::broker`].

pub mod codec;
pub mod convert;
pub mod client;

pub use crate::identity::Pem;
pub use client::{GrpcConfig, GrpcTransport};

/// Generated messages of `io.cloudevents.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unused_lifetimes,
    elided_lifetimes_in_paths,
    reason = "generated"
)]
pub mod proto {
    tonic::include_proto!("io.cloudevents.v1");
}

/// Generated stubs of `io.cloudevents.v1.CloudEventService`. Requests and answers are the bytes of messages of [`proto`].
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    let_underscore_drop,
    unused_lifetimes,
    elided_lifetimes_in_paths,
    reason = "generated"
)]
pub mod stubs {
    tonic::include_proto!("io.cloudevents.v1.CloudEventService");
}
