//! How the agent makes its cluster known to a hub, and stays known: over the hub's event service, or its Kubernetes API.
//!
//! - [`endpoint`]: where a hub is, and what lets an agent ask to join
//! - [`settings`]: what the cluster says of its agent: more hubs to join, a Klusterlet
//! - [`hubs`]: keeps the agent at the right hub
//! - [`identity`]: key and certificate, kept in a secret of the managed cluster
//! - [`way`]: either of the two ways, [`link`] and [`kube_link`], and the objects that travel there
//! - [`registrar`]: observes, plans ([`drover_core::registration::agent`]) and does
//! - [`member`]: what runs only while the hub lets the cluster in: lease and works

mod background;
pub mod endpoint;
pub mod hubs;
pub mod identity;
pub mod kube_link;
pub mod link;
pub mod member;
pub mod registrar;
pub mod settings;
pub mod way;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drover_client::{ClientError, DriverConfig};
use drover_core::registration::agent::certificate::usable;
use drover_core::registration::agent::hubs::DEFAULT_TIMEOUT;
use drover_core::registration::agent::status::ClaimLimits;
use drover_core::registration::request::Agent;
use drover_runtime::backoff::Backoff;
use drover_runtime::clock::Clock;
use drover_runtime::health::Health;
use drover_runtime::supervise::{TaskFailed, Tasks};
use drover_transport::Transport;
use jiff::SignedDuration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use rand::Rng as _;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::endpoint::EndpointError;
pub use self::endpoint::{Bootstrap, Endpoint, HubEndpoint, KubeEndpoint};
use self::hubs::{Hubs, Kept};
use self::identity::{KeyError, SecretStore, Stored};
use self::settings::Local;
use crate::cluster_status::Observer;
use crate::work;

/// Field manager of what the agent writes into its cluster.
const FIELD_MANAGER: &str = "drover-agent";
/// How long the tasks of an agent may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Between two tries to read what the cluster says of its agent.
const SETTINGS_AGAIN: Duration = Duration::from_secs(5);

/// How patient an agent is.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Time between looks at the cluster (ocm: 1 minute).
    pub status_interval: Duration,
    /// How long the hub may be silent before the agent connects anew.
    pub heartbeat_timeout: Duration,
    /// First wait after something failed; doubles, with jitter.
    pub min_backoff: Duration,
    /// Longest wait.
    pub max_backoff: Duration,
    /// How long to leave the hub alone after it denied a certificate.
    pub denied_wait: Duration,
    /// Seconds that a certificate shall be good for; absent: as the hub likes.
    pub certificate_seconds: Option<i32>,
    /// Which claims are reported.
    pub claims: ClaimLimits,
    /// How long a hub may be silent before the agent goes to another that takes it.
    pub hub_timeout: SignedDuration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            status_interval: Duration::from_mins(1),
            heartbeat_timeout: Duration::from_secs(30),
            min_backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(15),
            denied_wait: Duration::from_mins(5),
            certificate_seconds: None,
            claims: ClaimLimits::default(),
            hub_timeout: DEFAULT_TIMEOUT,
        }
    }
}

impl Tuning {
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.min_backoff, self.max_backoff)
    }

    fn driver(&self, clock: &Clock) -> DriverConfig {
        let clock = clock.clone();
        DriverConfig {
            min_backoff: self.min_backoff,
            max_backoff: self.max_backoff,
            clock: Arc::new(move || clock.now()),
            ..DriverConfig::default()
        }
    }
}

/// An agent.
#[derive(Clone)]
pub struct AgentOptions {
    /// The cluster's name on the hub.
    pub cluster: String,
    /// The agent's own name; absent: as before, or random.
    pub agent_name: Option<String>,
    /// The hubs that it may join, in order; those that the cluster itself names count instead.
    pub hubs: Vec<Bootstrap>,
    /// The managed cluster.
    pub managed: Client,
    /// Labels and annotations of the cluster on the hub, when this agent creates it there.
    pub labels: BTreeMap<String, String>,
    /// See `labels`.
    pub annotations: BTreeMap<String, String>,
    /// Namespace in the managed cluster of the secret with the agent's identity.
    pub namespace: String,
    /// Told when the cluster is prepared.
    pub health: Health,
    /// Whether the agent installs the definitions that it needs in its cluster; it needs the right to.
    pub install_definitions: bool,
    /// Where works come from; absent: from the hub's event service.
    pub works_over: Option<Arc<dyn Transport>>,
    /// The work agent. Which hub applied objects belong to follows from the hub that it is at.
    pub work: work::Config,
    /// The time.
    pub clock: Clock,
    /// Patience.
    pub tuning: Tuning,
}

impl AgentOptions {
    /// The usual. `hub_identity` names the hub for good, whichever address it has: what was applied for it is found by it.
    pub fn new(
        cluster: impl Into<String>,
        hub: impl Into<Endpoint>,
        hub_identity: &str,
        managed: Client,
    ) -> Self {
        let hub = Bootstrap {
            endpoint: hub.into(),
            identity: hub_identity.to_owned(),
        };
        Self {
            hubs: vec![hub],
            ..Self::joining(cluster, hub_identity, managed)
        }
    }

    /// The usual, for an agent that learns of its hubs by secrets in its cluster. `known_by` is its name in what it applies,
    /// until it has stored one.
    pub fn joining(cluster: impl Into<String>, known_by: &str, managed: Client) -> Self {
        Self {
            cluster: cluster.into(),
            agent_name: None,
            hubs: Vec::new(),
            managed,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            namespace: identity::NAMESPACE.to_owned(),
            health: Health::default(),
            install_definitions: true,
            works_over: None,
            work: work::Config::new(work::identity_for(known_by)),
            clock: Clock::system(),
            tuning: Tuning::default(),
        }
    }

    /// The driver of a client to the hub.
    pub(crate) fn driver(&self) -> DriverConfig {
        self.tuning.driver(&self.clock)
    }
}

/// An agent that only works: somebody else made its cluster known to the hub, or the hub knows no clusters.
#[derive(Clone)]
pub struct WorkOptions {
    /// The cluster's name on the hub.
    pub cluster: String,
    /// Where works come from.
    pub over: Arc<dyn Transport>,
    /// The managed cluster.
    pub managed: Client,
    /// Told when the cluster is prepared.
    pub health: Health,
    /// Whether the agent installs the definitions that it needs in its cluster; it needs the right to.
    pub install_definitions: bool,
    /// The work agent; its identity says which hub applied objects belong to.
    pub work: work::Config,
    /// The time.
    pub clock: Clock,
    /// Patience.
    pub tuning: Tuning,
}

impl WorkOptions {
    /// The usual. `hub_identity` names the hub for good, see [`AgentOptions::new`].
    pub fn new(
        cluster: impl Into<String>,
        over: Arc<dyn Transport>,
        hub_identity: &str,
        managed: Client,
    ) -> Self {
        Self {
            cluster: cluster.into(),
            over,
            managed,
            health: Health::default(),
            install_definitions: true,
            work: work::Config::new(work::identity_for(hub_identity)),
            clock: Clock::system(),
            tuning: Tuning::default(),
        }
    }
}

/// Works until `cancel`.
///
/// # Errors
/// When a part of the agent ends though nobody asked it to.
pub async fn run_works(options: WorkOptions, cancel: CancellationToken) -> Result<(), AgentError> {
    let span = tracing::info_span!("agent", cluster = options.cluster);
    let run = async move {
        let install = options.install_definitions.then_some(&options.managed);
        let gate = options.health.gate("cluster");
        let prepared = prepare(install, None, &options.tuning, &cancel).await;
        if prepared.is_none() {
            return Ok(());
        }
        gate.open();
        let mut tasks = Tasks::new(cancel);
        let client = drover_client::AgentOptions {
            driver: options.tuning.driver(&options.clock),
            ..drover_client::AgentOptions::new(
                work_client(&options.cluster),
                options.cluster.as_str(),
            )
        };
        work::start_over(
            options.over,
            client,
            options.managed,
            options.work,
            options.clock,
            &mut tasks,
        );
        Ok(tasks.wait(GRACE).await?)
    };
    run.instrument(span).await
}

/// As whom the work agent of a cluster speaks (ocm: pkg/work/spoke).
fn work_client(cluster: &str) -> String {
    format!("{cluster}-work-agent")
}

/// Why an agent ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It can neither show a certificate nor ask for one.
    #[error("failed to join the hub: {0}; give the agent a bootstrap token")]
    NoCredentials(String),
    /// A key could not be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What leads to a hub is of no use.
    #[error("failed to reach a hub: {0}")]
    Endpoint(#[from] EndpointError),
    /// What the agent keeps in its cluster cannot be read.
    #[error("failed to read the agent's identity in its cluster: {0}")]
    Store(#[source] Box<kube::Error>),
    /// The client of the hub could not be made, or the hub sent what cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A part of the agent ended.
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

impl AgentError {
    fn store(error: kube::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

/// Runs an agent until `cancel`: joins the hub if it has not yet, reports, renews lease and certificate, and works.
///
/// # Guarantees
/// A restart at any point goes on where it was: what must survive is in the managed cluster before the hub hears of it.
/// Losses of either side are waited out.
///
/// # Errors
/// Only what no waiting helps with.
pub async fn run(options: AgentOptions, cancel: CancellationToken) -> Result<(), AgentError> {
    let span = tracing::info_span!("agent", cluster = options.cluster);
    joined(options, cancel).instrument(span).await
}

async fn joined(options: AgentOptions, cancel: CancellationToken) -> Result<(), AgentError> {
    let store = SecretStore::new(options.managed.clone(), &options.namespace);
    let gate = options.health.gate("cluster");
    let install = options.install_definitions.then_some(&options.managed);
    let prepared = prepare(install, Some(&store), &options.tuning, &cancel).await;
    let Some((stored, local)) = prepared else {
        return Ok(());
    };
    gate.open();
    let me = Agent {
        cluster: options.cluster.clone(),
        agent: name(&options, &stored),
    };
    let (limits, limited) = tokio::sync::watch::channel(options.tuning.claims.clone());
    let observer = Observer {
        client: options.managed.clone(),
        clock: options.clock.clone(),
        interval: options.tuning.status_interval,
        claims: limited,
    };
    let (reports, seen) = tokio::sync::watch::channel(None);
    let (told, local) = tokio::sync::watch::channel(Arc::new(local));
    let cancel = cancel.child_token();
    let agent_id = stored.agent_id.clone();
    let hubs = Hubs {
        kept: kept(&stored, &me, &options.clock),
        agent_id: agent_id.unwrap_or_else(|| options.work.identity.agent_id.clone()),
        me,
        store: store.clone(),
        local,
        reports: seen,
        limits,
        options: options.clone(),
    };
    let mut tasks = Tasks::new(cancel.clone());
    tasks.run("look at the cluster", observer.run(reports, cancel.clone()));
    let following = Local::follow(store, told, cancel.clone());
    tasks.run("settings of the agent", following);
    tasks.spawn("hubs", hubs.run(cancel));
    Ok(tasks.wait(GRACE).await?)
}

/// The hub that the stored certificate is good for.
fn kept(stored: &Stored, me: &Agent, clock: &Clock) -> Option<Kept> {
    let (identity, hub) = (stored.identity.as_ref()?, stored.hub.as_ref()?);
    let public = identity.key.public();
    let validity = usable(&identity.certificate, public, me, clock.now()).ok()?;
    Some(Kept {
        hub: hub.clone(),
        until: validity.until,
    })
}

/// Installs what an agent needs in its cluster, if it shall, as soon as the cluster answers. Reads what the cluster keeps for
/// it. `None` when cancelled before.
async fn prepare(
    install: Option<&Client>,
    store: Option<&SecretStore>,
    tuning: &Tuning,
    cancel: &CancellationToken,
) -> Option<(Stored, Local)> {
    let mut backoff = tuning.backoff();
    loop {
        let prepared = async {
            if let Some(managed) = install {
                definitions(managed).await?;
            }
            match store {
                Some(store) => Ok((store.load().await?, Local::read(store).await?)),
                None => Ok((Stored::default(), Local::default())),
            }
        };
        let error: kube::Error = match prepared.await {
            Ok(prepared) => return Some(prepared),
            Err(error) => error,
        };
        let wait = backoff.next_wait();
        tracing::warn!(%error, ?wait, "failed to prepare the cluster for its agent; will try again");
        tokio::select! {
            () = cancel.cancelled() => return None,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Installs the definitions of what a managed cluster serves (ocm: the klusterlet operator does). Those that somebody else
/// installed are used as they are.
async fn definitions(cluster: &Client) -> Result<(), kube::Error> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for definition in drover_api::crds::managed() {
        let name = definition.name_any();
        let found = api.get_opt(&name).await?;
        let ours = |entry: &ManagedFieldsEntry| entry.manager.as_deref() == Some(FIELD_MANAGER);
        if found.is_some_and(|found| !found.managed_fields().iter().any(ours)) {
            continue;
        }
        api.patch(&name, &params, &Patch::Apply(&definition))
            .await?;
    }
    Ok(())
}

/// The name that was given, else the one from before, else five random letters and digits (ocm: pkg/registration/spoke).
fn name(options: &AgentOptions, stored: &Stored) -> String {
    let same_cluster = stored.cluster.as_deref() == Some(options.cluster.as_str());
    let before = stored.agent.clone().filter(|_| same_cluster);
    options
        .agent_name
        .clone()
        .or(before)
        .unwrap_or_else(random_suffix)
}

/// Five letters and digits, as Kubernetes generates names.
pub(crate) fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    (0..5)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}

#[cfg(test)]
mod tests;
