//! A hub in this process, on any API: it can be stopped and started again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use drover_agent::HubEndpoint;
use drover_apiserver::auth::ca::Authority;
use drover_apiserver::auth::csr;
use drover_apiserver::auth::token::TokenKeys;
use drover_apiserver::auth::{Auth, Options, User};
use drover_apiserver::server::{ApiServer, Config};
use drover_apiserver::store::Database;
use drover_hub::install::{BootstrapToken, bootstrap_token};
use drover_hub::{Hub, HubError, Sign, WorkSource};
use drover_runtime::clock::Clock;
use drover_runtime::election::Leadership;
use drover_runtime::health::Health;
use drover_testkit::eventually;
use drover_transport::grpc::{GrpcConfig, GrpcTransport, Pem};
use drover_transport::tls::{ServerPem, ServerTls};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::ListParams;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DAY: SignedDuration = SignedDuration::from_hours(24);

pub(crate) struct TestHub {
    client: Client,
    authority: Arc<Authority>,
    address: SocketAddr,
    #[allow(dead_code, reason = "see `endpoint`")]
    token: BootstrapToken,
    sources: Vec<WorkSource>,
    running: Option<(CancellationToken, JoinHandle<Result<(), HubError>>)>,
}

impl TestHub {
    /// Starts a hub that lets every cluster in.
    pub(crate) async fn start(client: &Client, sources: Vec<WorkSource>) -> Self {
        log();
        let authority = Authority::create("agents", DAY, Timestamp::now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let token = BootstrapToken {
            id: "abcdef".to_owned(),
            secret: "0123456789abcdef".to_owned(),
        };
        let life = Duration::from_hours(1);
        bootstrap_token(client, &token, life, &Clock::system())
            .await
            .unwrap();
        let mut hub = Self {
            client: client.clone(),
            authority: Arc::new(authority),
            address: listener.local_addr().unwrap(),
            token,
            sources,
            running: None,
        };
        hub.run(listener);
        // It installs the definitions first.
        let api = crate::world::works(client, "default");
        let check = async || Ok(api.list(&ListParams::default()).await?);
        eventually("works to be served", crate::world::LONG, check)
            .await
            .unwrap();
        hub
    }

    /// Starts it again where it was.
    pub(crate) async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.run(listener);
    }

    pub(crate) async fn stop(&mut self) {
        let (cancel, task) = self.running.take().unwrap();
        cancel.cancel();
        task.await.unwrap().unwrap();
    }

    #[allow(dead_code, reason = "not every target with this module joins clusters")]
    pub(crate) fn endpoint(&self) -> HubEndpoint {
        HubEndpoint {
            url: self.address.to_string(),
            ca_pem: self.authority.certificate_pem().as_bytes().to_vec(),
            server_name: None,
            bootstrap_token: Some(self.token.bearer()),
        }
    }

    /// The way of an agent of a cluster to the broker.
    #[allow(dead_code, reason = "see `endpoint`")]
    pub(crate) fn agent_of(&self, cluster: &str) -> GrpcTransport {
        let group = format!("system:open-cluster-management:{cluster}");
        let everybody = "system:open-cluster-management:managed-clusters".to_owned();
        let user = format!("{group}:agent");
        let issued = self
            .authority
            .issue_client(&user, &[group, everybody], DAY, Timestamp::now())
            .unwrap();
        let inline = |text: &str| Pem::Inline(text.as_bytes().to_vec());
        GrpcTransport::new(GrpcConfig {
            ca: Some(inline(self.authority.certificate_pem())),
            identity: Some((inline(&issued.certificate), inline(&issued.key))),
            ..GrpcConfig::new(self.address.to_string())
        })
    }

    fn run(&mut self, listener: TcpListener) {
        let (authority, now) = (self.authority.clone(), Timestamp::now());
        let issued = authority
            .issue_server(&["127.0.0.1".to_owned()], DAY, now)
            .unwrap();
        let tls = ServerTls::new(&ServerPem {
            cert: issued.certificate.clone().into_bytes(),
            key: issued.key.clone().into_bytes(),
            client_ca: Some(authority.certificate_pem().as_bytes().to_vec()),
        });
        let sign: Sign = Arc::new(move |request, _| {
            let usages =
                ["digital signature", "key encipherment", "client auth"].map(ToOwned::to_owned);
            let life = SignedDuration::from_hours(1);
            csr::sign(&authority, request, life, &usages, Timestamp::now())
                .map_err(|error| error.to_string())
        });
        let hub = Hub {
            client: self.client.clone(),
            listener,
            tls: Some(tls.unwrap()),
            serving: None,
            sign,
            acceptance: drover_core::registration::cluster::Policy {
                accept: vec!["*".to_owned()],
            },
            approval: drover_core::registration::request::Policy {
                approve_bootstrap: true,
                ..Default::default()
            },
            work_sources: self.sources.clone(),
            leadership: Leadership::alone(),
            health: Health::default(),
            metrics: None,
            clock: Clock::system(),
        };
        let cancel = CancellationToken::new();
        let running = hub.run(cancel.clone());
        let task = tokio::spawn(async move {
            let outcome = running.await;
            if let Err(error) = &outcome {
                // Whoever waits for what the hub does shall read why it does not.
                tracing::error!(%error, "the hub ended");
            }
            outcome
        });
        self.running = Some((cancel, task));
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        if let Some((cancel, _)) = &self.running {
            cancel.cancel();
        }
    }
}

/// Says what happens in this process, if `DROVER_LOG` asks for it.
pub(crate) fn log() {
    if let Ok(filter) = std::env::var("DROVER_LOG") {
        // Another test of this process did it before.
        drover_runtime::telemetry::init(&filter, drover_runtime::telemetry::Format::Text).ok();
    }
}

/// An embedded API in this process, for its administrator.
pub(crate) async fn embedded(database: &Database, stop: &CancellationToken) -> Client {
    log();
    let store = database.store("hub").unwrap();
    let options = Options {
        anonymous: false,
        tokens: Vec::new(),
        issuer: "https://hub".to_owned(),
        audiences: vec!["https://hub".to_owned()],
        keys: TokenKeys::generate().unwrap(),
        authority: None,
        clock: Arc::new(Timestamp::now),
    };
    let auth = Auth::new(store.clone(), options).unwrap();
    let server = ApiServer::new(store, auth, Config::default());
    server.bootstrap().await.unwrap();
    let (background, stop) = (server.clone(), stop.clone());
    tokio::spawn(async move { background.run(stop).await });
    let admin = User {
        name: "admin".to_owned(),
        groups: vec!["system:masters".to_owned()],
        ..User::default()
    };
    Client::new(server.acting_as(admin), "default")
}
