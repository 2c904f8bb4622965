//! The parts of a world that can be killed: a hub, agents. Their APIs and the broker live on.

use std::sync::Arc;
use std::time::Duration;

use drover_agent::work::{self, identity_for};
use drover_apiserver::auth::token::TokenKeys;
use drover_apiserver::auth::{Auth, Options, User};
use drover_apiserver::server::{ApiServer, Config};
use drover_apiserver::store::Database;
use drover_client::{AgentOptions, DriverConfig};
use drover_hub::{Hub, WorkSource};
use drover_runtime::clock::Clock;
use drover_runtime::supervise::Tasks;
use drover_transport::memory::MemoryBus;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::trouble::Trouble;

/// An embedded API: for the world itself, and for the part that uses it.
pub(crate) struct Api {
    /// Where nothing goes wrong.
    pub(crate) clean: Client,
    /// Where things go wrong.
    pub(crate) troubled: Client,
    pub(crate) trouble: Trouble,
}

impl Api {
    pub(crate) async fn start(
        database: &Database,
        name: &str,
        seed: u64,
        stop: &CancellationToken,
    ) -> Self {
        let store = database.store(name).unwrap();
        let options = Options {
            anonymous: false,
            tokens: Vec::new(),
            issuer: format!("https://{name}"),
            audiences: vec![format!("https://{name}")],
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
        let server = server.acting_as(admin);
        let trouble = Trouble::new(seed);
        Self {
            clean: Client::new(server.clone(), "default"),
            troubled: trouble.client(&server),
            trouble,
        }
    }
}

/// Something that runs until it is killed.
pub(crate) struct Part(CancellationToken);

impl Part {
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Starts the hub; one that ends for an accident is started again, as whoever runs it would.
pub(crate) fn hub(client: &Client, bus: &MemoryBus) -> Part {
    let stop = CancellationToken::new();
    let (client, bus, running) = (client.clone(), bus.clone(), stop.clone());
    tokio::spawn(async move {
        while !running.is_cancelled() {
            let hub = new_hub(client.clone(), bus.clone()).await;
            if let Err(error) = hub.run(running.clone()).await {
                tracing::debug!(%error, "the hub fell over");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    Part(stop)
}

async fn new_hub(client: Client, bus: MemoryBus) -> Hub {
    Hub {
        client,
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        tls: None,
        serving: None,
        sign: Arc::new(|_, _| Err("nobody joins here".to_owned())),
        acceptance: drover_core::registration::cluster::Policy::default(),
        approval: drover_core::registration::request::Policy::default(),
        work_sources: vec![WorkSource {
            id: "hub1".to_owned(),
            transport: Arc::new(bus),
        }],
        leadership: drover_runtime::election::Leadership::alone(),
        health: drover_runtime::health::Health::default(),
        metrics: None,
        clock: Clock::system(),
    }
}

/// Starts the work agent of a cluster, with a clock that is wrong by so much. What no hub wants any more goes after `grace`.
pub(crate) fn agent(
    cluster: &str,
    client: &Client,
    bus: &MemoryBus,
    skew: SignedDuration,
    grace: Duration,
) -> Part {
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    let now = move || {
        Timestamp::now()
            .saturating_add(skew)
            .unwrap_or(Timestamp::MAX)
    };
    let options = AgentOptions {
        driver: DriverConfig {
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(200),
            clock: Arc::new(now),
            rate: None,
            ..DriverConfig::default()
        },
        ..AgentOptions::new(format!("{cluster}-work-agent"), cluster)
    };
    let config = work::Config {
        poll: Duration::from_millis(500),
        eviction_grace: Some(grace),
        ..work::Config::new(identity_for("https://hub1"))
    };
    let bus = Arc::new(bus.clone());
    work::start_over(
        bus,
        options,
        client.clone(),
        config,
        Clock::new(now),
        &mut tasks,
    );
    tokio::spawn(tasks.wait(Duration::from_secs(5)));
    Part(stop)
}
