//! `drover up`: a whole fleet in one process.

pub mod folder;
pub mod member;
pub mod messages;
pub mod ports;
mod ready;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use drover_agent::{AgentOptions, HubEndpoint};
use drover_apiserver::auth::ca::write_private;
use drover_apiserver::store::Database;
use drover_runtime::clock::Clock;
use drover_runtime::health::Health;
use drover_runtime::metrics::Metrics;
use drover_runtime::supervise::Tasks;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::{self, Output};
use crate::{connect, hub, metrics, objects, print};
use folder::Folder;
use member::{Member, kubeconfig};
use ports::Ports;

/// How long tasks may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Starts the fleet, tells what to do next once it is ready, and serves until it is told to stop.
pub async fn run(args: cli::Up, output: Output) -> Result<()> {
    let start = Instant::now();
    let place = Place::choose(args.data.clone(), args.ephemeral)?;
    let cancel = CancellationToken::new();
    stop_on_signal(cancel.clone());
    let database = open(&place, args.ephemeral).await?;
    let outcome = serve(&args, output, &place, &database, cancel, start).await;
    let closed = database.close().context("failed to close the database");
    outcome.and(closed)
}

async fn open(place: &Place, ephemeral: bool) -> Result<Database> {
    if ephemeral {
        return Ok(Database::memory());
    }
    let path = place.path().to_owned();
    // Loading and checking a large fleet takes a moment of disk time.
    let opened = tokio::task::spawn_blocking(move || Database::open(&path)).await?;
    Ok(opened?)
}

async fn serve(
    args: &cli::Up,
    output: Output,
    place: &Place,
    database: &Database,
    cancel: CancellationToken,
    start: Instant,
) -> Result<()> {
    let mut tasks = Tasks::new(cancel.clone());
    let started = Fleet::start(args, place, database, &mut tasks);
    let fleet = tokio::select! {
        fleet = started => fleet,
        () = cancel.cancelled() => return Ok(()),
    };
    let fleet = match fleet {
        Ok(fleet) => fleet,
        Err(error) => {
            cancel.cancel();
            // What started ends cleanly; the reason to stop is the one that is told.
            tasks.wait(GRACE).await.ok();
            return Err(error);
        }
    };
    let told = async {
        ready::wait(
            &fleet.hubs,
            &fleet.health,
            usize::from(args.clusters),
            output,
        )
        .await?;
        fleet.tell(place, output, start)?;
        apply_files(args, &fleet).await
    };
    tokio::pin!(told);
    let (waiting, stop) = (tasks.wait(GRACE), cancel.clone());
    tokio::pin!(waiting);
    tokio::select! {
        outcome = &mut told => {
            if let Err(error) = outcome {
                stop.cancel();
                waiting.await.ok();
                return Err(error);
            }
        }
        failed = &mut waiting => return Ok(failed?),
    }
    Ok(waiting.await?)
}

async fn apply_files(args: &cli::Up, fleet: &Fleet) -> Result<()> {
    if args.file.is_empty() {
        return Ok(());
    }
    let objects = objects::read(&args.file)?;
    let failed = objects::apply_all(&fleet.hubs[0].client, objects, None, true).await?;
    if failed > 0 {
        bail!(
            "{failed} objects were not applied to {}",
            fleet.hubs[0].name
        );
    }
    Ok(())
}

/// Everything that listens.
struct Fleet {
    global: Member,
    hubs: Vec<Member>,
    /// Of each hub.
    health: Vec<Health>,
    clusters: Vec<Member>,
    brokers: Vec<String>,
}

impl Fleet {
    async fn start(
        args: &cli::Up,
        place: &Place,
        database: &Database,
        tasks: &mut Tasks,
    ) -> Result<Self> {
        let mut folder = Folder::open(place.path())?;
        let mut ports = Ports::new(args.listen);
        let metrics = metrics::serve_plain(args.metrics, tasks).await?;
        let mut starting = Starting {
            database,
            folder: &mut folder,
            ports: &mut ports,
            tasks,
            metrics,
            messaging: &args.messaging,
            place: place.path(),
        };
        let global = starting.member("global").await?;
        let (mut hubs, mut health) = (Vec::new(), Vec::new());
        let mut endpoints = Vec::new();
        for number in 1..=args.hubs {
            let (hub, endpoint, of_hub) = starting.hub(&format!("hub{number}")).await?;
            hubs.push(hub);
            health.push(of_hub);
            endpoints.push(endpoint);
        }
        let mut clusters = Vec::new();
        for number in 0..usize::from(args.clusters) {
            let hub = number % endpoints.len();
            let name = format!("cluster{}", number + 1);
            clusters.push(
                starting
                    .cluster(&name, &hubs[hub].name, endpoints[hub].clone())
                    .await?,
            );
        }
        folder.save()?;
        let fleet = Self {
            global,
            hubs,
            health,
            clusters,
            brokers: endpoints.into_iter().map(|e| e.url).collect(),
        };
        fleet.write_kubeconfig(place)?;
        Ok(fleet)
    }

    fn write_kubeconfig(&self, place: &Place) -> Result<()> {
        let all: Vec<&Member> = [&self.global]
            .into_iter()
            .chain(&self.hubs)
            .chain(&self.clusters)
            .collect();
        let text = serde_json::to_string_pretty(&kubeconfig(&all, "hub1"))?;
        write_private(&place.kubeconfig(), &text).context("failed to write the kubeconfig")
    }

    /// What to do next.
    fn tell(&self, place: &Place, output: Output, start: Instant) -> Result<()> {
        let file = place.kubeconfig();
        if !output.is_for_people() {
            let brokers: serde_json::Map<_, _> = self
                .hubs
                .iter()
                .zip(&self.brokers)
                .map(|(hub, url)| (hub.name.clone(), json!(url)))
                .collect();
            let told = json!({
                "ready": true, "kubeconfig": file, "console": null, "brokers": brokers, "dataDir": place.kept(),
            });
            return print::line(&told.to_string());
        }
        let kept = place.kept().map_or_else(
            || "nothing is kept when it stops".to_owned(),
            |path| format!("kept in {}", path.display()),
        );
        print::line(&format!(
            "The fleet is ready after {:.1} s: {}, {}; {kept}.\n\n  \
             export KUBECONFIG={}\n  \
             kubectl --context hub1 get managedclusters       # or: drover get managedclusters --context hub1\n  \
             kubectl --context hub1 apply -f examples/webshop  # or: drover apply -f examples/webshop --context hub1\n  \
             drover status                                    # the fleet as a tree\n\n\
             Contexts: global, hub1 …, cluster1 …. Ctrl-C stops it.",
            start.elapsed().as_secs_f32(),
            count(self.hubs.len(), "hub"),
            count(self.clusters.len(), "cluster"),
            file.display(),
        ))
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// What starting needs.
struct Starting<'a> {
    database: &'a Database,
    folder: &'a mut Folder,
    ports: &'a mut Ports,
    tasks: &'a mut Tasks,
    metrics: Option<Metrics>,
    messaging: &'a cli::Messaging,
    place: &'a Path,
}

impl Starting<'_> {
    async fn member(&mut self, name: &str) -> Result<Member> {
        let listener = self.ports.listen(name, self.folder).await?;
        Member::start(name, self.database, self.folder, listener, self.tasks).await
    }

    async fn hub(&mut self, name: &str) -> Result<(Member, HubEndpoint, Health)> {
        let member = self.member(name).await?;
        let listener = self
            .ports
            .listen(&format!("{name}-broker"), self.folder)
            .await?;
        let client = member.client.clone();
        let (mut hub, endpoint) = hub::prepare(name, client, listener, &[], self.folder).await?;
        let own = |metrics: &Metrics| metrics.labelled("hub", name);
        let metrics = self.metrics.as_ref().map(own);
        hub.metrics.clone_from(&metrics);
        let health = hub.health.clone();
        self.tasks.spawn(name, hub.run(self.tasks.cancel_token()));
        let (client, place) = (&member.client, self.place);
        let served = health.gate("messages");
        messages::publish(
            name,
            client,
            self.messaging,
            place,
            metrics,
            served,
            self.tasks,
        )?;
        Ok((member, endpoint, health))
    }

    async fn cluster(&mut self, name: &str, hub: &str, endpoint: HubEndpoint) -> Result<Member> {
        let member = self.member(name).await?;
        let cancel = self.tasks.cancel_token();
        let (client, clock) = (member.client.clone(), Clock::system());
        let workloads = drover_workloads::run(client.clone(), clock.clone(), cancel.clone());
        self.tasks.run(format!("workloads of {name}"), workloads);
        // The port may change from one start to the next, the hub stays the same.
        let options = AgentOptions::new(name, endpoint, &format!("drover:{hub}"), client.clone());
        self.tasks.spawn(format!("agent of {name}"), async move {
            // The first report shall tell of the node already.
            drover_workloads::make_node(&client, &clock).await?;
            drover_agent::run(options, cancel)
                .await
                .map_err(anyhow::Error::from)
        });
        Ok(member)
    }
}

/// The folder of a fleet; a temporary one goes with the process.
#[derive(Debug)]
pub enum Place {
    /// Stays.
    Kept(PathBuf),
    /// Goes.
    Temporary(tempfile::TempDir),
}

impl Place {
    /// The folder that was named, the usual one, or a temporary one.
    pub fn choose(named: Option<PathBuf>, temporary: bool) -> Result<Self> {
        if temporary {
            let folder = tempfile::Builder::new().prefix("drover-").tempdir();
            return Ok(Self::Temporary(
                folder.context("failed to make a temporary folder")?,
            ));
        }
        let path = named.map_or_else(connect::data_folder, Ok)?;
        std::fs::create_dir_all(&path).with_context(|| {
            format!(
                "failed to make the folder {}; choose another one with --data",
                path.display()
            )
        })?;
        Ok(Self::Kept(std::path::absolute(path)?))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    fn kept(&self) -> Option<&Path> {
        match self {
            Self::Kept(path) => Some(path),
            Self::Temporary(_) => None,
        }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.path().join("kubeconfig")
    }
}

/// Ctrl-C and SIGTERM stop the process cleanly; a second one at once.
pub fn stop_on_signal(cancel: CancellationToken) {
    tokio::spawn(async move {
        for round in 0..2 {
            if let Err(error) = signalled().await {
                tracing::error!(%error, "signals cannot be received; only SIGKILL stops the process");
                return;
            }
            if round == 0 {
                cancel.cancel();
            }
        }
        print::error("stopped at once; nothing that was acknowledged is lost");
        #[expect(clippy::exit, reason = "the second signal asks for exactly this")]
        std::process::exit(130);
    });
}

async fn signalled() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
