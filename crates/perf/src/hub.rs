//! The hub: a gRPC broker with works in memory behind it, or a source at an MQTT broker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use drover_protocol::ids::Ids;
use drover_protocol::resync::{Versions, must_send};
use drover_protocol::{
    Action, CloudEvent, Codec as _, DataType, EventType, SourceBundleCodec, Stamp, SubResource,
    Work,
};
use drover_transport::authn::Caller;
use drover_transport::broker::Listing;
use drover_transport::tls::{ServerPem, ServerTls};
use drover_transport::{Broker, BrokerConfig, Service, ServiceError};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::connect::Way;
use crate::contract::{Command, Reply, Role, mono};
use crate::count::Counter;
use crate::drive::{drive, stamp};
use crate::fixture::{self, Shape};
use crate::flags::Flags;
use crate::source::Source;

/// How long subscribers may take to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// What sends works to agents.
pub struct Hub {
    source_id: String,
    counter: Arc<Counter>,
    works: Loaded,
    end: End,
}

enum End {
    Broker(Box<Serving>),
    Source(Box<Source>),
}

/// The works of all clusters, in the order in which they are published.
#[derive(Default)]
pub struct Loaded {
    agents: usize,
    each: usize,
    works: Vec<Arc<Work>>,
}

impl Loaded {
    /// Makes works.
    pub fn new(command: &Command) -> Result<Self> {
        let mut works = Vec::with_capacity(command.agents * command.works);
        for agent in 0..command.agents {
            let cluster = fixture::cluster(agent);
            for number in 0..command.works {
                let id = agent * command.works + number;
                let differs =
                    command.every > 0 && id.is_multiple_of(command.every) && !command.status;
                let shape = Shape {
                    manifests: command.manifests,
                    size: command.size,
                    version: command.version + i64::from(differs),
                };
                let mut work = fixture::work(id, &cluster, shape)?;
                if command.status {
                    work.status = fixture::status(&work, 0);
                }
                works.push(Arc::new(work));
            }
        }
        Ok(Self {
            agents: command.agents,
            each: command.works,
            works,
        })
    }

    /// All.
    pub fn works(&self) -> &[Arc<Work>] {
        &self.works
    }

    /// The work of a publication: round robin over the agents.
    pub fn at(&self, publication: usize) -> Result<&Arc<Work>> {
        let agents = self.agents.max(1);
        let number = (publication / agents) % self.each.max(1);
        self.works
            .get(publication % agents * self.each + number)
            .context("no works are loaded")
    }
}

impl Hub {
    /// A hub as the flags say, not started.
    pub fn new(flags: &Flags) -> Result<Self> {
        let source_id = flags.text("source-id").to_owned();
        let counter = Arc::<Counter>::default();
        let end = match Way::of(flags)? {
            Way::Grpc => End::Broker(Box::new(Serving::new(flags, &source_id, &counter)?)),
            Way::Mqtt => End::Source(Box::new(Source::new(flags, &counter)?)),
        };
        Ok(Self {
            source_id,
            counter,
            works: Loaded::default(),
            end,
        })
    }

    async fn publish(&self, command: &Command) -> Result<Reply> {
        let encoder = Encoder::new(&self.source_id);
        let (encoder, works) = (&encoder, &self.works);
        match &self.end {
            End::Broker(serving) => {
                drive(command, |number| async move {
                    let work = stamped(works.at(number)?, command.stamp);
                    let event = encoder.encode(&work, Action::Update)?;
                    serving.broker.publish_paced(event).await;
                    Ok(())
                })
                .await
            }
            End::Source(source) => source.publish(command, works, encoder).await,
        }
    }
}

impl Role for Hub {
    async fn obey(&mut self, command: Command) -> Result<Reply> {
        let t0 = mono();
        match (command.cmd.as_str(), &mut self.end) {
            ("start", End::Broker(serving)) => serving.start().await?,
            ("start", End::Source(source)) => source.start().await?,
            ("load", end) => {
                self.works = Loaded::new(&command)?;
                match end {
                    End::Broker(serving) => serving.service.load(&self.works),
                    End::Source(source) => source.load(&self.works)?,
                }
            }
            ("publish", _) => return self.publish(&command).await,
            ("wait", _) => return Ok(self.counter.wait(&command).await),
            ("reset", _) => self.counter.reset(),
            ("subscribers", End::Broker(serving)) => serving.subscribers(command.n).await?,
            ("resync", End::Source(source)) => source.resync().await?,
            (other, _) => bail!("this hub has no command {other}"),
        }
        Ok(Reply::since(t0, self.works.works.len()))
    }
}

/// The work, with the time in it if that is wanted.
pub fn stamped(work: &Arc<Work>, wanted: bool) -> Arc<Work> {
    let mut work = Arc::clone(work);
    if wanted {
        stamp(Arc::make_mut(&mut work));
    }
    work
}

/// Makes spec events of works.
pub struct Encoder {
    source: String,
    ids: Mutex<Ids>,
}

impl Encoder {
    /// For a source.
    pub fn new(source: &str) -> Self {
        let seed = uuid::Uuid::new_v4().as_u128();
        Self {
            source: source.to_owned(),
            ids: Mutex::new(Ids::new(seed)),
        }
    }

    /// The event of a work.
    pub fn encode(&self, work: &Work, action: Action) -> Result<CloudEvent> {
        let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, action);
        Ok(self.event(work, &event_type)?)
    }

    fn event(
        &self,
        work: &Work,
        event_type: &EventType,
    ) -> Result<CloudEvent, drover_protocol::EncodeError> {
        let id = self
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_id();
        let stamp = Stamp {
            id,
            time: Timestamp::now(),
            source: &self.source,
            sequence: None,
        };
        SourceBundleCodec.encode(stamp, event_type, work)
    }
}

/// A broker on a socket.
struct Serving {
    address: String,
    tls: Option<ServerTls>,
    broker: Broker,
    service: Arc<Works>,
}

impl Serving {
    fn new(flags: &Flags, source: &str, counter: &Arc<Counter>) -> Result<Self> {
        let cert = flags.text("cert");
        let tls = if cert.is_empty() {
            None
        } else {
            let pem = ServerPem {
                cert: std::fs::read(cert)?,
                key: std::fs::read(flags.text("key"))?,
                client_ca: None,
            };
            Some(ServerTls::new(&pem)?)
        };
        Ok(Self {
            address: flags.text("addr").to_owned(),
            tls,
            broker: Broker::new(BrokerConfig::open(source)),
            service: Arc::new(Works {
                by_cluster: RwLock::default(),
                encoder: Encoder::new(source),
                counter: Arc::clone(counter),
            }),
        })
    }

    async fn start(&self) -> Result<()> {
        let listener = TcpListener::bind(&self.address)
            .await
            .with_context(|| format!("failed to listen on {}", self.address))?;
        let service = Arc::clone(&self.service);
        self.broker.register(DataType::MANIFEST_BUNDLES, service);
        let (broker, tls) = (self.broker.clone(), self.tls.clone());
        tokio::spawn(async move { broker.serve(listener, tls, CancellationToken::new()).await });
        Ok(())
    }

    async fn subscribers(&self, wanted: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let there = self.broker.clusters(&DataType::MANIFEST_BUNDLES).len();
            if there >= wanted {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("only {there} of {wanted} clusters subscribed");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Works in memory.
struct Works {
    by_cluster: RwLock<HashMap<String, Vec<Arc<Work>>>>,
    encoder: Encoder,
    counter: Arc<Counter>,
}

impl Works {
    fn load(&self, loaded: &Loaded) {
        let mut by_cluster = HashMap::<String, Vec<_>>::new();
        for work in loaded.works() {
            let cluster = work.metadata.namespace.clone();
            by_cluster
                .entry(cluster)
                .or_default()
                .push(Arc::clone(work));
        }
        *self
            .by_cluster
            .write()
            .unwrap_or_else(PoisonError::into_inner) = by_cluster;
    }

    fn of(&self, cluster: &str) -> Vec<Arc<Work>> {
        let by_cluster = self
            .by_cluster
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        by_cluster.get(cluster).cloned().unwrap_or_default()
    }

    fn event(&self, work: &Work) -> Result<CloudEvent, ServiceError> {
        self.encoder
            .encode(work, Action::Update)
            .map_err(ServiceError::internal)
    }
}

#[drover_transport::async_trait]
impl Service for Works {
    async fn list(&self, cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        self.of(cluster)
            .iter()
            .map(|work| self.event(work))
            .collect()
    }

    async fn receive(&self, _caller: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        let work = SourceBundleCodec
            .decode(&event)
            .map_err(|e| ServiceError::bad_request(e.to_string()))?;
        self.counter.hit(&work);
        Ok(())
    }

    async fn resync(&self, cluster: &str, known: &Versions) -> Result<Listing, ServiceError> {
        let mut listing = Listing::default();
        for work in self.of(cluster) {
            let meta = &work.metadata;
            let held = known.0.get(&meta.uid).copied();
            if must_send(Some(meta.generation), meta.deleting(), held) {
                listing.events.push(self.event(&work)?);
            } else {
                listing.unchanged.push(meta.uid.clone());
            }
        }
        Ok(listing)
    }
}
