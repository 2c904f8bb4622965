//! `drover agent`: one cluster's agent, at a hub's event service or its Kubernetes API, with works from there or from another
//! broker.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use drover_agent::{AgentOptions, Bootstrap, HubEndpoint, KubeEndpoint, WorkOptions};
use drover_core::registration::agent::status::ClaimLimits;
use drover_core::registration::klusterlet::{self, Grace};
use drover_runtime::health::Health;
use drover_runtime::supervise::Tasks;
use drover_transport::Transport;
use drover_transport::config::{Client as Role, Config};
use jiff::SignedDuration;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::cli::{self, Global};
use crate::{connect, hub, up};

/// How long tasks may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Where works come from if not from the hub that the agent joins.
struct Works {
    over: Arc<dyn Transport>,
    /// Names the hub as OCM's agent does, so that either may go on where the other was.
    hub: String,
}

/// Runs until it is told to stop.
pub async fn run(args: cli::Agent, global: &Global) -> Result<()> {
    let managed = connect::role(global).await?;
    let works = works(&args)?;
    let cancel = CancellationToken::new();
    up::stop_on_signal(cancel.clone());
    let mut tasks = Tasks::new(cancel.clone());
    let health = hub::serve_health(args.health, &mut tasks).await?;
    args.scraped.serve(&managed, &mut tasks).await?;
    tasks.spawn("agent", serve(args, managed, works, health, cancel));
    Ok(tasks.wait(GRACE).await?)
}

async fn serve(
    args: cli::Agent,
    managed: Client,
    works: Option<Works>,
    health: Health,
    cancel: CancellationToken,
) -> Result<()> {
    let hubs = hubs(&args, works.as_ref())?;
    if hubs.is_empty() && !args.bootstrap_secrets {
        let Some(works) = works else {
            bail!(
                "the agent has nothing to do: name a hub to join with --hub, --bootstrap-kubeconfig or --bootstrap-secrets, or where works come from with --workload-source-driver"
            );
        };
        let hub = args.hub_identity.as_deref().unwrap_or(&works.hub);
        let mut options = WorkOptions::new(args.cluster.as_str(), works.over, hub, managed);
        options.work.eviction_grace = grace(&args)?;
        options.health = health;
        return Ok(drover_agent::run_works(options, cancel).await?);
    }
    let mut options = options(&args, hubs, works, managed)?;
    options.health = health;
    if let Some(namespace) = args.namespace.or_else(connect::own_namespace) {
        options.namespace = namespace;
    }
    Ok(drover_agent::run(options, cancel).await?)
}

fn options(
    args: &cli::Agent,
    hubs: Vec<Bootstrap>,
    works: Option<Works>,
    managed: kube::Client,
) -> Result<AgentOptions> {
    // Without a hub of its own the agent is known by its cluster's name, until its identity says otherwise.
    let known_by = hubs.first().map_or(&args.cluster, |hub| &hub.identity);
    let mut options = AgentOptions::joining(args.cluster.as_str(), known_by, managed);
    options.hubs = hubs;
    options.works_over = works.map(|works| works.over);
    options.work.eviction_grace = grace(args)?;
    options.labels = args.cluster_label.iter().cloned().collect();
    options.annotations = args.cluster_annotation.iter().cloned().collect();
    options.tuning.certificate_seconds = args.client_cert_expiration_seconds;
    options.tuning.hub_timeout =
        SignedDuration::from_secs(i64::from(args.hub_connection_timeout_seconds));
    options.tuning.claims = ClaimLimits {
        max_custom: args.max_custom_cluster_claims,
        reserved_suffixes: args.reserved_cluster_claim_suffixes.clone(),
    };
    Ok(options)
}

/// How long objects stay after their work vanished; absent means for ever.
fn grace(args: &cli::Agent) -> Result<Option<std::time::Duration>> {
    let text = &args.appliedmanifestwork_eviction_grace_period;
    Ok(match klusterlet::eviction_grace(text)? {
        Grace::For(grace) => Some(grace),
        Grace::Forever => None,
    })
}

/// The hubs that the options name, in order.
fn hubs(args: &cli::Agent, works: Option<&Works>) -> Result<Vec<Bootstrap>> {
    let mut hubs = Vec::new();
    if let Some(url) = &args.hub {
        hubs.push(Bootstrap::at(HubEndpoint {
            url: url.clone(),
            ca_pem: args.hub_ca.as_deref().map_or(Ok(Vec::new()), read)?,
            server_name: None,
            bootstrap_token: token(args.bootstrap_token_file.as_deref())?,
        }));
    }
    for file in &args.bootstrap_kubeconfig {
        hubs.push(Bootstrap::at(KubeEndpoint::read(file)?));
    }
    if let Some(first) = hubs.first_mut() {
        let named = args.hub_identity.as_deref();
        if let Some(identity) = named.or(works.map(|works| works.hub.as_str())) {
            identity.clone_into(&mut first.identity);
        }
        if let (Some(url), None, None) = (&args.hub, named, works) {
            first.identity.clone_from(url);
        }
    }
    Ok(hubs)
}

fn works(args: &cli::Agent) -> Result<Option<Works>> {
    let (Some(driver), Some(file)) = (&args.workload_source_driver, &args.workload_source_config)
    else {
        return Ok(None);
    };
    let config = Config::load(driver.parse()?, file)
        .with_context(|| format!("in the work source's configuration {}", file.display()))?;
    let client = args.cloudevents_client_id.clone();
    let client = Role::Agent(client.unwrap_or_else(|| format!("{}-work-agent", args.cluster)));
    let hub = match &config {
        Config::Mqtt(file) => file.config(&client).broker,
        Config::Grpc(file) => file.config().url,
        _ => bail!("works cannot come over {driver}"),
    };
    Ok(Some(Works {
        over: config.transport(&client),
        hub,
    }))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))
}

fn token(file: Option<&Path>) -> Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let text =
        String::from_utf8(read(file)?).with_context(|| format!("{} is no text", file.display()))?;
    Ok(Some(text.trim().to_owned()))
}
