//! What a transport offers: open a link, receive from it, publish to it, and say clearly why that fails.

use std::sync::Arc;
use std::time::Duration;

use drover_protocol::{CloudEvent, DataType};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::service::ServiceError;

/// What a link is opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// What sources want for one cluster.
    Agent {
        /// Name of the cluster.
        cluster: String,
        /// Kind of resource.
        data_type: DataType,
    },
    /// What agents report to one source.
    Source {
        /// Id of the source.
        source: String,
        /// Kind of resource.
        data_type: DataType,
    },
    /// Nothing is received.
    PublishOnly,
}

/// A way to brokers. Cheap to share; every `open` makes a new link, on a shared connection where the protocol allows.
pub trait Transport: Send + Sync + 'static {
    /// Connects if needed and subscribes. When it returns, events that are published from now on will be received.
    fn open(&self, subscription: Subscription) -> BoxFuture<'_, Result<Link, TransportError>>;
}

/// An open link. Dropping it ends the subscription.
pub struct Link {
    /// Sends.
    pub publisher: Arc<dyn Publisher>,
    /// Receives; ends with an error or without, either way the link is lost.
    pub events: BoxStream<'static, Result<CloudEvent, TransportError>>,
}

/// The sending half of a link.
pub trait Publisher: Send + Sync + 'static {
    /// Sends one event; when it returns, the broker has taken it.
    fn publish(&self, event: CloudEvent) -> BoxFuture<'_, Result<(), TransportError>>;
}

/// What can be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing but a change of the configuration or of rights helps; retrying slowly finds out when it happened.
    FixConfig,
    /// Try again later.
    RetryLater,
    /// Open a new link, then try again.
    Reconnect,
    /// This event will never be taken.
    DropAndReport,
}

/// Why a link cannot be opened or an event not be sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    /// The configuration cannot work.
    #[error("failed to use the configuration of the event service: {0}")]
    Config(String),
    /// Nobody listens, or the handshake failed.
    #[error("failed to connect to {to}: {why}")]
    Connect {
        /// Address.
        to: String,
        /// What happened.
        why: String,
    },
    /// The broker does not know or does not allow the caller.
    #[error("the event service refused access: {0}")]
    Access(String),
    /// The broker answered against the protocol.
    #[error("failed to subscribe: {0}")]
    Protocol(String),
    /// The service behind the broker refused the event.
    #[error("{}", .0.message)]
    Refused(Box<ServiceError>),
    /// The link broke.
    #[error("the link to the event service is lost: {0}")]
    Lost(String),
    /// The owner of the link ended it, to open it anew in another way (other credentials, say).
    #[error("the link to the event service is replaced")]
    Replaced,
    /// No sign of life.
    #[error("stream timeout: no heartbeat received for {0:?}")]
    Silent(Duration),
    /// There is no link now.
    #[error("the cloudevents client is not ready")]
    NotReady,
}

impl TransportError {
    /// What can be done.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Config(_) | Self::Access(_) => Remedy::FixConfig,
            Self::Connect { .. } | Self::NotReady => Remedy::RetryLater,
            Self::Lost(_) | Self::Replaced | Self::Silent(_) | Self::Protocol(_) => {
                Remedy::Reconnect
            }
            Self::Refused(error) if error.retryable() => Remedy::RetryLater,
            Self::Refused(_) => Remedy::DropAndReport,
        }
    }

    /// The error as a Kubernetes status about a resource, as the Go clients report it.
    pub fn to_service_error(&self, resource: &str) -> ServiceError {
        match self {
            Self::Refused(error) => (**error).clone(),
            other => ServiceError::new(
                500,
                "PublishError",
                format!("Failed to publish resource {resource}: {other}"),
            ),
        }
    }
}
