//! The broker between two ends, and how each end reaches it.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use drover_client::DataType;
use drover_protocol::topics::TopicNames;
use drover_testkit::pki::{Authority, Pair};
use drover_testkit::process::free_port;
use drover_testkit::{Mosquitto, MosquittoOptions, Probe, eventually};
use drover_transport::authn::{Authenticator, AuthnError, Caller, CertAuthenticator, Presented};
use drover_transport::authz::{Access, Authorizer, Decision, SourceVerb};
use drover_transport::broker::AccessControl;
use drover_transport::config::{Client, Config};
use drover_transport::grpc::GrpcTransport;
use drover_transport::mqtt::MqttTransport;
use drover_transport::tls::{ServerPem, ServerTls};
use drover_transport::{Broker, BrokerConfig, Transport, async_trait};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::ends::{CLUSTER, SOURCE};
use crate::hub::Hub;
use crate::world::PATIENCE;

/// What is between source and agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    /// mosquitto without TLS.
    Mosquitto,
    /// mosquitto with client certificates and passwords.
    MosquittoTls,
    /// Drover's gRPC broker, where sources and agents meet.
    Relay,
    /// Drover's gRPC broker with a service behind it, which is the source.
    Service,
    /// sdk-go's gRPC broker with a service behind it, which is the source.
    GoBroker,
}

const USER: &str = "someone";
const PASSWORD: &str = "a password";

const RELAYED: [DataType; 6] = [
    DataType::MANIFEST_BUNDLES,
    DataType::MANAGED_CLUSTERS,
    DataType::CSRS,
    DataType::LEASES,
    DataType::ADDONS_V1ALPHA1,
    DataType::ADDONS_V1BETA1,
];

/// How often ours look whether their certificates were renewed.
const REFRESH: Duration = Duration::from_millis(500);

/// The users that a broker saw.
pub(crate) type Users = Arc<Mutex<BTreeSet<String>>>;

/// A broker that can go away and come back at its address, and the certificates of those who meet there.
pub(crate) struct Bed {
    pub(crate) wire: Wire,
    pub(crate) hub: Arc<Hub>,
    folder: TempDir,
    authority: Authority,
    server: Pair,
    address: SocketAddr,
    mosquitto: Option<Mosquitto>,
    running: Option<Running>,
    users: Users,
}

enum Running {
    /// A runtime of its own, so that it can die with all its connections.
    Drover(Runtime, Broker),
    Go(Arc<Probe>),
}

impl Bed {
    /// A broker that does not run yet. `named`: mosquitto knows users by their certificates, not by a password.
    pub(crate) async fn new(wire: Wire, named: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(&folder.path().join("pki"))?;
        let bed = Self {
            wire,
            hub: Arc::default(),
            server: authority.server("server")?,
            address: SocketAddr::from(([127, 0, 0, 1], free_port()?)),
            authority,
            folder,
            mosquitto: mosquitto(wire, named).await?,
            running: None,
            users: Arc::default(),
        };
        for end in ["source", "agent"] {
            bed.authority().client(end, &format!("{end}-1"))?;
        }
        Ok(bed)
    }

    fn authority(&self) -> &Authority {
        let mosquitto = self.mosquitto.as_ref().map(Mosquitto::authority);
        mosquitto.unwrap_or(&self.authority)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the broker; sdk-go's with these works from before.
    pub(crate) async fn start(&mut self, owned: &str) -> Result<()> {
        if let Some(mosquitto) = &mut self.mosquitto {
            return mosquitto.restart().await;
        }
        let running = match self.wire {
            Wire::Mosquitto | Wire::MosquittoTls => bail!("mosquitto is there already"),
            Wire::Relay | Wire::Service => self.start_drover().await?,
            Wire::GoBroker => self.start_go(owned).await?,
        };
        self.running = Some(running);
        Ok(())
    }

    /// Ends the broker as a crash would.
    pub(crate) fn stop(&mut self) {
        if let Some(mosquitto) = &mut self.mosquitto {
            mosquitto.kill();
        }
        match self.running.take() {
            Some(Running::Drover(runtime, _)) => runtime.shutdown_background(),
            Some(Running::Go(probe)) => probe.kill(),
            None => (),
        }
    }

    async fn start_drover(&self) -> Result<Running> {
        // Before it, the one before lets go of it.
        let bind = async || Ok(std::net::TcpListener::bind(self.address)?);
        let listener = eventually("the broker's address", PATIENCE, bind).await?;
        listener.set_nonblocking(true)?;
        let tls = ServerTls::new(&ServerPem {
            cert: fs::read(&self.server.cert)?,
            key: fs::read(&self.server.key)?,
            client_ca: Some(fs::read(self.authority.ca())?),
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let access = AccessControl {
            authenticators: vec![Arc::new(Watched(Arc::clone(&self.users)))],
            authorizers: vec![Arc::new(Everything)],
        };
        let broker = Broker::new(BrokerConfig::secured("kube", access));
        if self.wire == Wire::Relay {
            for data_type in RELAYED {
                broker.relay(data_type);
            }
        } else {
            broker.register(DataType::MANIFEST_BUNDLES, Arc::clone(&self.hub) as _);
            self.hub.attach(broker.clone());
        }
        let serving = broker.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener of this runtime");
            // It ends with its runtime, never by itself.
            serving
                .serve(listener, Some(tls), CancellationToken::new())
                .await
                .expect("a broker that serves");
        });
        Ok(Running::Drover(runtime, broker))
    }

    async fn start_go(&self, owned: &str) -> Result<Running> {
        let config = self.folder().join("broker.yaml");
        let text = format!(
            "server_bind_port: \"{}\"\ntls_cert_file: {}\ntls_key_file: {}\nclient_ca_file: {}\n",
            self.address.port(),
            self.server.cert.display(),
            self.server.key.display(),
            self.authority.ca().display()
        );
        fs::write(&config, text)?;
        let load = self.folder().join("owned.json");
        fs::write(&load, owned)?;
        let args = ["-config", path(&config)?, "-load", path(&load)?];
        let probe = Probe::start("broker", "broker", &args, self.folder()).await?;
        Ok(Running::Go(Arc::new(probe)))
    }

    /// sdk-go's broker.
    pub(crate) fn go(&self) -> Result<Arc<Probe>> {
        match &self.running {
            Some(Running::Go(probe)) => Ok(Arc::clone(probe)),
            Some(Running::Drover(..)) | None => bail!("sdk-go's broker does not run"),
        }
    }

    /// Drover's broker.
    pub(crate) fn drover(&self) -> Result<Broker> {
        match &self.running {
            Some(Running::Drover(_, broker)) => Ok(broker.clone()),
            Some(Running::Go(_)) | None => bail!("Drover's broker does not run"),
        }
    }

    /// A configuration file as sdk-go reads it, for one end.
    pub(crate) fn config(&self, end: &str) -> Result<PathBuf> {
        let file = self.folder().join(format!("{end}.yaml"));
        let pair = self.pair(end);
        let tls = format!(
            "caFile: {}\nclientCertFile: {}\nclientKeyFile: {}\n",
            self.authority().ca().display(),
            pair.cert.display(),
            pair.key.display()
        );
        let names = topics(end);
        let text = match (&self.mosquitto, self.wire) {
            (None, _) => format!("url: {}\n{tls}", self.address),
            (Some(mosquitto), wire) => format!(
                "brokerHost: {}\n{}topics:\n  sourceEvents: {}\n  agentEvents: {}\n  sourceBroadcast: {}\n  agentBroadcast: {}\n",
                mosquitto.address(),
                match wire {
                    Wire::MosquittoTls => format!("username: {USER}\npassword: {PASSWORD}\n{tls}"),
                    _ => String::new(),
                },
                names.source_events,
                names.agent_events,
                names.source_broadcast,
                names.agent_broadcast,
            ),
        };
        fs::write(&file, text)?;
        Ok(file)
    }

    /// The address of mosquitto.
    pub(crate) fn mosquitto(&self) -> Option<String> {
        self.mosquitto.as_ref().map(Mosquitto::address)
    }

    /// Whether the source is behind the broker, not a client of it.
    pub(crate) fn is_source(&self) -> bool {
        matches!(self.wire, Wire::Service | Wire::GoBroker)
    }

    /// The ends that connect.
    pub(crate) fn connecting(&self) -> &'static [&'static str] {
        if self.is_source() {
            &["agent"]
        } else {
            &["source", "agent"]
        }
    }

    /// The name of sdk-go's driver.
    pub(crate) fn driver(&self) -> &'static str {
        match self.wire {
            Wire::Mosquitto | Wire::MosquittoTls => "mqtt",
            Wire::Relay | Wire::Service | Wire::GoBroker => "grpc",
        }
    }

    /// A transport of Drover's for one end, made of the same file that Go reads. `client` is who it says it is.
    pub(crate) fn transport(&self, end: &str, client: &Client) -> Result<Arc<dyn Transport>> {
        match Config::load(self.driver().parse()?, self.config(end)?)? {
            Config::Mqtt(file) => {
                let mut config = file.config(client);
                if let Some(tls) = &mut config.tls {
                    tls.refresh = REFRESH;
                }
                Ok(Arc::new(MqttTransport::new(config)))
            }
            Config::Grpc(file) => {
                let mut config = file.config();
                config.refresh = REFRESH;
                Ok(Arc::new(GrpcTransport::new(config)))
            }
            other => bail!("not for this test: {other:?}"),
        }
    }

    fn pair(&self, end: &str) -> Pair {
        let ca = self.authority().ca();
        let folder = ca.parent().unwrap_or(&ca);
        Pair {
            cert: folder.join(format!("{end}.crt")),
            key: folder.join(format!("{end}.key")),
        }
    }

    /// Gives an end a new certificate, with another name in it.
    pub(crate) fn rotate(&self, end: &str) -> Result<()> {
        self.authority().client(end, &format!("{end}-2"))?;
        Ok(())
    }

    /// Whom the broker saw so far.
    pub(crate) fn users(&self) -> BTreeSet<String> {
        if let Some(mosquitto) = &self.mosquitto {
            // … as ID (p5, c1, k60, u'USER').
            let log = mosquitto.log();
            let users = log.lines().filter_map(|line| {
                let (_, rest) = line.split_once(", u'")?;
                Some(rest.split_once('\'')?.0.to_owned())
            });
            return users.collect();
        }
        if let Some(Running::Go(probe)) = &self.running {
            let events = probe.events();
            let users = events.iter().filter_map(|event| event["user"].as_str());
            return users.map(str::to_owned).collect();
        }
        self.users
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The log of a broker that is a program.
    pub(crate) fn log(&self) -> String {
        if let Some(mosquitto) = &self.mosquitto {
            return mosquitto.tail();
        }
        match &self.running {
            Some(Running::Go(probe)) => probe.log(),
            Some(Running::Drover(..)) | None => String::new(),
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn mosquitto(wire: Wire, named: bool) -> Result<Option<Mosquitto>> {
    let options = match wire {
        Wire::Relay | Wire::Service | Wire::GoBroker => return Ok(None),
        Wire::Mosquitto => MosquittoOptions::default(),
        Wire::MosquittoTls => MosquittoOptions {
            tls: true,
            require_cert: true,
            cert_is_user: named,
            user: Some((USER.to_owned(), PASSWORD.to_owned())).filter(|_| !named),
            ..MosquittoOptions::default()
        },
    };
    Ok(Some(Mosquitto::start(options).await?))
}

/// What sdk-go's documentation uses.
fn topics(end: &str) -> TopicNames {
    let cluster = if end == "source" { "+" } else { CLUSTER };
    TopicNames {
        source_events: format!("sources/{SOURCE}/clusters/{cluster}/sourceevents"),
        agent_events: format!("sources/{SOURCE}/clusters/{cluster}/agentevents"),
        source_broadcast: "sources/+/sourcebroadcast".to_owned(),
        agent_broadcast: format!("clusters/{cluster}/agentbroadcast"),
    }
}

pub(crate) fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// Recognises certificates, and remembers whose.
struct Watched(Users);

#[async_trait]
impl Authenticator for Watched {
    async fn authenticate(&self, presented: &Presented) -> Result<Caller, AuthnError> {
        let caller = CertAuthenticator.authenticate(presented).await?;
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(caller.user.clone());
        Ok(caller)
    }
}

struct Everything;

#[async_trait]
impl Authorizer for Everything {
    async fn authorize(&self, _: &Caller, _: &Access) -> Decision {
        Decision::Allow
    }

    async fn authorize_source(&self, _: &Caller, _: &str, _: SourceVerb) -> Decision {
        Decision::Allow
    }
}
