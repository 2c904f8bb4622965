//! `drover agent`: one cluster's agent, with works from its hub's event service or from another broker.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use drover_agent::{AgentOptions, HubEndpoint, WorkOptions};
use drover_runtime::health::Health;
use drover_runtime::supervise::Tasks;
use drover_transport::Transport;
use drover_transport::config::{Client as Role, Config};
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
    let Some(url) = &args.hub else {
        let Some(works) = works else {
            bail!(
                "the agent has nothing to do: name a hub to join with --hub, or where works come from with --workload-source-driver"
            );
        };
        let hub = args.hub_identity.as_deref().unwrap_or(&works.hub);
        let mut options = WorkOptions::new(args.cluster.as_str(), works.over, hub, managed);
        options.health = health;
        return Ok(drover_agent::run_works(options, cancel).await?);
    };
    let endpoint = HubEndpoint {
        url: url.clone(),
        ca_pem: args.hub_ca.as_deref().map_or(Ok(Vec::new()), read)?,
        server_name: None,
        bootstrap_token: token(args.bootstrap_token_file.as_deref())?,
    };
    let hub = args.hub_identity.as_deref();
    let hub = hub.unwrap_or_else(|| works.as_ref().map_or(url, |works| &works.hub));
    let mut options = AgentOptions::new(args.cluster.as_str(), endpoint, hub, managed);
    options.health = health;
    if let Some(namespace) = args.namespace.or_else(connect::own_namespace) {
        options.namespace = namespace;
    }
    options.works_over = works.map(|works| works.over);
    Ok(drover_agent::run(options, cancel).await?)
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
