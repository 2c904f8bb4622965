//! The work agent of one cluster: it makes the cluster match the ManifestWorks of its hub and reports what came of them.
//!
//! - [`hub`]: where works come from and reports go to; [`hub_kube`] is the hub's Kubernetes
//!   API, [`hub_events`] a broker of CloudEvents
//! - [`cluster`]: requests to the cluster for objects of any kind
//! - [`executor`]: whether the identity behind a work may do what it wants
//! - [`kinds`]: which kinds the cluster serves right now
//! - [`watches`]: tells at once when an applied object changes
//! - [`round`]: observes, plans ([`drover_core::work`]) and does, for one work
//! - [`memory`]: what earlier rounds found
//! - [`cache`]: objects as they were last heard of

pub mod cache;
pub mod cluster;
pub mod executor;
pub mod hub;
pub mod hub_events;
pub mod hub_kube;
pub mod kinds;
pub mod memory;
pub mod round;
pub mod watches;

use std::{fmt, sync::Arc, time::Duration};

use drover_api::work::v1::AppliedManifestWork;
use drover_client::{AgentOptions, AgentWorks};
use drover_core::work::{apply::hex_digest, eviction, plan::Identity};
use drover_runtime::{clock::Clock, controller, queue::WorkQueue, supervise::Tasks};
use drover_transport::Transport;
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    core::DynamicObject,
    discovery::ApiResource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio_util::sync::CancellationToken;

use cache::Cache;
use cluster::Cluster;
use hub::HubWorks;
use hub_events::HubEvents;
use kinds::Kinds;
use round::Rounds;
use watches::Watches;

/// How an agent works. The defaults are upstream's (ocm, pkg/work/spoke).
#[derive(Clone, Debug)]
pub struct Config {
    /// Which hub, and which agent.
    pub identity: Identity,
    /// How many works are looked after at the same time.
    pub workers: usize,
    /// How often each work is looked at though nothing was heard.
    pub poll: Duration,
    /// How long objects stay after their work vanished from the hub; absent means for ever.
    pub eviction_grace: Option<Duration>,
    /// Whether lists and objects in a status are reported as JSON text.
    pub raw_feedback: bool,
    /// How many kinds of applied objects are watched; further ones are polled.
    pub watched_kinds: usize,
}

impl Config {
    /// The defaults for an agent of this identity.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            workers: 10,
            poll: Duration::from_secs(10),
            eviction_grace: Some(eviction::DEFAULT_GRACE),
            raw_feedback: false,
            watched_kinds: 50,
        }
    }
}

/// The identity of an agent for the hub whose API server has this address, as its kubeconfig writes it.
pub fn identity_for(hub_address: &str) -> Identity {
    let hub_hash = hex_digest(hub_address.as_bytes());
    Identity {
        agent_id: hub_hash.clone(),
        hub_hash,
    }
}

/// What a worker looks after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A work of this agent's hub, by its name.
    Work(String),
    /// What another hub left behind, by the name of the AppliedManifestWork.
    Foreign(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(name) => write!(f, "work {name}"),
            Self::Foreign(name) => write!(f, "foreign {name}"),
        }
    }
}

/// Starts the agent: its tasks run until those of `tasks` end.
pub fn start<H: HubWorks>(
    hub: Arc<H>,
    cluster: Client,
    config: Config,
    clock: Clock,
    tasks: &mut Tasks,
) {
    let cancel = tasks.cancel_token();
    let queue = Arc::new(WorkQueue::<Key>::new());
    let applied = Arc::new(Cache::<AppliedManifestWork>::default());
    let (watches, watching) = Watches::new(cluster.clone(), queue.clone(), config.watched_kinds);
    let kinds = Arc::new(Kinds::new(cluster.clone()));
    let rounds = Arc::new(Rounds {
        hub: hub.clone(),
        cluster: Cluster::new(cluster.clone()),
        applied: applied.clone(),
        kinds: kinds.clone(),
        watches: watches.clone(),
        config: config.clone(),
        clock,
        memory: memory::Memory::default(),
    });

    let works = queue.clone();
    let told = move |name: &str| works.add(Key::Work(name.to_owned()));
    tasks.spawn("works of the hub", hub.run(told, cancel.clone()));
    tasks.run(
        "applied works",
        follow_applied(
            cluster.clone(),
            applied,
            queue.clone(),
            config.identity.clone(),
            cancel.clone(),
        ),
    );
    tasks.run("watches of applied objects", watching.run(cancel.clone()));
    tasks.run(
        "kinds of the cluster",
        kinds.run(queue.clone(), cancel.clone()),
    );
    let workers = config.workers.max(1);
    tasks.run(
        "work rounds",
        controller::run("work agent", queue, workers, cancel, move |key| {
            let rounds = rounds.clone();
            async move { rounds.run(key).await }
        }),
    );
}

/// Starts the agent with works that arrive as events over a transport.
pub fn start_over(
    transport: Arc<dyn Transport>,
    client: AgentOptions,
    cluster: Client,
    config: Config,
    clock: Clock,
    tasks: &mut Tasks,
) {
    let (works, driver) = AgentWorks::new(client, transport);
    tasks.run("link of the works", driver.run(tasks.cancel_token()));
    start(
        Arc::new(HubEvents::new(works)),
        cluster,
        config,
        clock,
        tasks,
    );
}

/// Mirrors the AppliedManifestWorks of the cluster, and asks for a round for each that changes.
async fn follow_applied(
    client: Client,
    cache: Arc<Cache<AppliedManifestWork>>,
    queue: Arc<WorkQueue<Key>>,
    identity: Identity,
    cancel: CancellationToken,
) {
    let resource = ApiResource::erase::<AppliedManifestWork>(&());
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let stream = watcher::watcher(api, watcher::Config::default()).default_backoff();
    futures::pin_mut!(stream);
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return,
            event = stream.next() => event,
        };
        let Some(event) = event else { return };
        let changed = match event {
            Ok(event) => cache.hear(event),
            Err(error) => {
                tracing::debug!(%error, "the watch of applied works was interrupted");
                continue;
            }
        };
        for applied in changed {
            queue.add(if applied.spec.hub_hash == identity.hub_hash {
                Key::Work(applied.spec.manifest_work_name.clone())
            } else {
                Key::Foreign(applied.name_any())
            });
        }
    }
}

/// Only to name the type in a signature.
pub(crate) type Heard = Event<DynamicObject>;
