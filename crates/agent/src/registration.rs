//! How the agent makes its cluster known to the hub, and stays known: over the hub's event service alone.
//!
//! - [`identity`]: key and certificate, kept in a secret of the managed cluster
//! - [`link`]: the one connection to the hub, whichever credentials count now
//! - [`registrar`]: observes, plans ([`drover_core::registration::agent`]) and does
//! - [`member`]: what runs only while the hub lets the cluster in: lease and works

mod background;
pub mod identity;
pub mod link;
pub mod member;
pub mod registrar;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drover_client::{AgentObjects, ClientError, DriverConfig};
use drover_core::registration::agent::status::MAX_CUSTOM_CLAIMS;
use drover_core::registration::request::Agent;
use drover_protocol::DataType;
use drover_runtime::backoff::Backoff;
use drover_runtime::clock::Clock;
use drover_runtime::health::Health;
use drover_runtime::supervise::{TaskFailed, Tasks};
use drover_transport::Transport;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use rand::Rng as _;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::identity::{KeyError, SecretStore, Stored};
use self::link::HubLink;
use self::registrar::Registrar;
use crate::cluster_status::Observer;
use crate::work;

/// Field manager of what the agent writes into its cluster.
const FIELD_MANAGER: &str = "drover-agent";
/// How long the tasks of an agent may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Where a hub is and what lets an agent ask to join.
#[derive(Clone)]
pub struct HubEndpoint {
    /// The event service: `host:port`, with or without `https://`.
    pub url: String,
    /// The authorities of its certificate, PEM.
    pub ca_pem: Vec<u8>,
    /// The name in its certificate, if it is not the host.
    pub server_name: Option<String>,
    /// The bootstrap token; an agent that has a certificate needs none.
    pub bootstrap_token: Option<String>,
}

impl HubEndpoint {
    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.url
            .strip_prefix("https://")
            .unwrap_or(&self.url)
            .trim_end_matches('/')
    }
}

impl std::fmt::Debug for HubEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubEndpoint")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

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
    /// How many claims are reported beside the reserved ones.
    pub max_custom_claims: usize,
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
            max_custom_claims: MAX_CUSTOM_CLAIMS,
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
    /// The hub.
    pub hub: HubEndpoint,
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
    /// The work agent; its identity says which hub applied objects belong to.
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
        hub: HubEndpoint,
        hub_identity: &str,
        managed: Client,
    ) -> Self {
        Self {
            cluster: cluster.into(),
            agent_name: None,
            hub,
            managed,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            namespace: identity::NAMESPACE.to_owned(),
            health: Health::default(),
            install_definitions: true,
            works_over: None,
            work: work::Config::new(work::identity_for(hub_identity)),
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
    /// The client of the hub could not be made, or the hub sent what cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A part of the agent ended.
    #[error(transparent)]
    Task(#[from] TaskFailed),
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
    let Some(stored) = prepare(install, Some(&store), &options.tuning, &cancel).await else {
        return Ok(());
    };
    gate.open();
    let me = Agent {
        cluster: options.cluster.clone(),
        agent: name(&options, &stored),
    };
    let link = Arc::new(HubLink::new(&options.hub, &options.tuning));
    let client = drover_client::AgentOptions {
        driver: options.driver(),
        ..drover_client::AgentOptions::new(
            format!("{}-{}", me.cluster, me.agent),
            me.cluster.as_str(),
        )
    };
    let (clusters, driver) = AgentObjects::new(client, &DataType::MANAGED_CLUSTERS, link.clone())?;
    let observer = Observer {
        client: options.managed.clone(),
        clock: options.clock.clone(),
        interval: options.tuning.status_interval,
        max_custom_claims: options.tuning.max_custom_claims,
    };
    let (reports, seen) = tokio::sync::watch::channel(None);
    let cancel = cancel.child_token();
    let registrar = Registrar::new(options, me, stored, store, link, clusters, seen)?;

    let mut tasks = Tasks::new(cancel.clone());
    tasks.run("link of the cluster", driver.run(cancel.clone()));
    tasks.run("look at the cluster", observer.run(reports, cancel.clone()));
    tasks.spawn("registration", registrar.run(cancel));
    Ok(tasks.wait(GRACE).await?)
}

/// Installs what an agent needs in its cluster, if it shall, as soon as the cluster answers. Reads its secret if it has one.
/// `None` when cancelled before.
async fn prepare(
    install: Option<&Client>,
    store: Option<&SecretStore>,
    tuning: &Tuning,
    cancel: &CancellationToken,
) -> Option<Stored> {
    let mut backoff = tuning.backoff();
    loop {
        let prepared = async {
            if let Some(managed) = install {
                definitions(managed).await?;
            }
            match store {
                Some(store) => store.load().await,
                None => Ok(Stored::default()),
            }
        };
        let error = match prepared.await {
            Ok(stored) => return Some(stored),
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
