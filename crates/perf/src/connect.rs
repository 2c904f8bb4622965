//! From flags to a transport.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use drover_client::RateLimit;
use drover_protocol::CloudEvent;
use drover_protocol::topics::{TopicNames, Topics};
use drover_transport::grpc::{GrpcConfig, GrpcTransport, Pem};
use drover_transport::mqtt::{MqttConfig, MqttTransport};
use drover_transport::{Link, Subscription, Transport, TransportError};
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;

use crate::flags::Flags;

/// How the two roles are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The hub is a gRPC broker.
    Grpc,
    /// Both are clients of an MQTT broker.
    Mqtt,
}

impl Way {
    /// The one that is asked for.
    pub fn of(flags: &Flags) -> Result<Self> {
        match flags.text("transport") {
            "grpc" => Ok(Self::Grpc),
            "mqtt" => Ok(Self::Mqtt),
            other => bail!("-transport={other}: there are grpc and mqtt"),
        }
    }
}

/// A new transport, which has connections of its own, for the agent of a cluster or (without) for the source.
pub fn transport(flags: &Flags, way: Way, cluster: Option<&str>) -> Result<Arc<dyn Transport>> {
    match way {
        Way::Grpc => {
            let mut config = GrpcConfig::new(flags.text("addr"));
            let ca = flags.text("ca");
            if !ca.is_empty() {
                config.ca = Some(Pem::File(PathBuf::from(ca)));
            }
            Ok(Arc::new(GrpcTransport::new(config)))
        }
        Way::Mqtt => {
            let source = flags.text("source-id");
            let topics = Topics::new(&TopicNames {
                source_events: format!("sources/{source}/clusters/+/sourceevents"),
                agent_events: format!("sources/{source}/clusters/+/agentevents"),
                source_broadcast: "sources/+/sourcebroadcast".to_owned(),
                agent_broadcast: "clusters/+/agentbroadcast".to_owned(),
            })?;
            let id = match cluster {
                Some(cluster) => format!("{cluster}-work-agent"),
                None => format!("{source}-client"),
            };
            let config = MqttConfig::new(flags.text("addr"), id, topics);
            Ok(Arc::new(MqttTransport::new(config)))
        }
    }
}

/// The limit on events sent: the clients' own unless raised, none when raised beyond what can be sent.
pub fn limit(flags: &Flags) -> Result<Option<RateLimit>> {
    let (per_second, burst) = (flags.number("qps", 0.0)?, flags.number("burst", 0)?);
    Ok(if per_second >= 1e6 {
        None
    } else if per_second > 0.0 {
        Some(RateLimit { per_second, burst })
    } else {
        Some(RateLimit::default())
    })
}

/// A transport into which events can be put as if they had come over the network.
pub struct Tap {
    inner: Arc<dyn Transport>,
    sender: mpsc::UnboundedSender<CloudEvent>,
    injected: Mutex<Option<mpsc::UnboundedReceiver<CloudEvent>>>,
}

impl Tap {
    /// Around another transport. Only the first link gets what is injected.
    pub fn new(inner: Arc<dyn Transport>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            inner,
            sender,
            injected: Mutex::new(Some(receiver)),
        }
    }

    /// Lets the owner of the link receive an event.
    pub fn inject(&self, event: CloudEvent) -> Result<()> {
        Ok(self.sender.send(event)?)
    }
}

impl Transport for Tap {
    fn open(&self, subscription: Subscription) -> BoxFuture<'_, Result<Link, TransportError>> {
        async move {
            let mut link = self.inner.open(subscription).await?;
            let injected = self
                .injected
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(mut injected) = injected {
                let injected = stream::poll_fn(move |cx| injected.poll_recv(cx)).map(Ok);
                link.events = stream::select(link.events, injected).boxed();
            }
            Ok(link)
        }
        .boxed()
    }
}
