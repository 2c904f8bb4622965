//! The one connection of an agent to its hub, with whichever credentials count now.

use std::sync::{Mutex, PoisonError};

use drover_transport::grpc::{GrpcConfig, GrpcTransport, Pem};
use drover_transport::{Link, Subscription, Transport, TransportError};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream;
use tokio_util::sync::CancellationToken;

use super::identity::Identity;
use super::{HubEndpoint, Tuning};

/// What the agent shows its hub.
#[derive(Clone)]
pub enum Credentials {
    /// The token that lets anybody ask to join.
    Bootstrap(String),
    /// The agent's own certificate.
    Own(Identity),
}

/// The way to the hub, for all drivers of an agent. They share one connection.
#[derive(Debug)]
pub struct HubLink {
    base: GrpcConfig,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    transport: GrpcTransport,
    /// Ends the links that were opened with these credentials.
    over: CancellationToken,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current")
    }
}

impl HubLink {
    /// To this hub, without credentials yet.
    pub fn new(hub: &HubEndpoint, tuning: &Tuning) -> Self {
        let mut base = GrpcConfig::new(hub.address());
        base.ca = Some(Pem::Inline(hub.ca_pem.clone()));
        base.server_name.clone_from(&hub.server_name);
        base.heartbeat_timeout = Some(tuning.heartbeat_timeout);
        Self {
            base,
            current: Mutex::new(None),
        }
    }

    /// From now on links show these credentials; open ones end, so that their drivers come back with the new ones.
    pub fn show(&self, credentials: &Credentials) {
        let mut config = self.base.clone();
        match credentials {
            Credentials::Bootstrap(token) => {
                config.token = Some(Pem::Inline(token.clone().into_bytes()));
            }
            Credentials::Own(identity) => {
                let key = Pem::Inline(identity.key.pem().to_vec());
                config.identity = Some((Pem::Inline(identity.certificate.clone()), key));
            }
        }
        let fresh = Current {
            transport: GrpcTransport::new(config),
            over: CancellationToken::new(),
        };
        let before = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(fresh);
        if let Some(before) = before {
            before.over.cancel();
        }
    }
}

impl Transport for HubLink {
    fn open(&self, subscription: Subscription) -> BoxFuture<'_, Result<Link, TransportError>> {
        Box::pin(async move {
            let current = self
                .current
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let Some(Current { transport, over }) = current else {
                return Err(TransportError::NotReady);
            };
            let Link { publisher, events } = transport.open(subscription).await?;
            let ended = over.clone();
            let why = async move {
                // The agent shows other credentials now.
                if ended.is_cancelled() {
                    return Err(TransportError::Replaced);
                }
                Err(TransportError::Lost("the stream ended".to_owned()))
            };
            let events = events
                .take_until(over.cancelled_owned())
                .chain(stream::once(why));
            Ok(Link {
                publisher,
                events: events.boxed(),
            })
        })
    }
}
