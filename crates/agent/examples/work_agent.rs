//! Runs the work agent of one cluster by hand.
//!
//! ```sh
//! work_agent HUB CLUSTER_KUBECONFIG CLUSTER_NAME [EVICTION_GRACE_SECONDS]
//! ```
//!
//! `HUB` is the kubeconfig of a hub, or `grpc:HOST:PORT` for a broker of CloudEvents without TLS.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use drover_agent::work::{
    Config, hub::HubWorks, hub_events::HubEvents, hub_kube::HubKube, identity_for, start,
};
use drover_client::{AgentOptions, AgentWorks};
use drover_runtime::{clock::Clock, supervise::Tasks};
use drover_transport::grpc::{GrpcConfig, GrpcTransport};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::sync::CancellationToken;

const USAGE: &str = "usage: work_agent HUB_KUBECONFIG|grpc:HOST:PORT CLUSTER_KUBECONFIG CLUSTER_NAME [EVICTION_GRACE_SECONDS]";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (hub, cluster, name, grace) = match arguments.as_slice() {
        [hub, cluster, name] => (hub, cluster, name, None),
        [hub, cluster, name, grace] => (hub, cluster, name, Some(grace.parse()?)),
        _ => return Err(USAGE.into()),
    };
    let cluster = Client::try_from(configuration(cluster).await?)?;
    let grace = grace.map(Duration::from_secs);

    let cancel = CancellationToken::new();
    let mut tasks = Tasks::new(cancel.clone());
    if let Some(address) = hub.strip_prefix("grpc:") {
        let transport = Arc::new(GrpcTransport::new(GrpcConfig::new(address)));
        let options = AgentOptions::new(format!("{name}-work-agent"), name.as_str());
        let (works, driver) = AgentWorks::new(options, transport);
        tasks.run("broker", driver.run(cancel.clone()));
        run(
            Arc::new(HubEvents::new(works)),
            cluster,
            address,
            grace,
            &mut tasks,
        );
    } else {
        let hub = configuration(hub).await?;
        let address = hub.cluster_url.to_string();
        let works = HubKube::new(Client::try_from(hub)?, name);
        run(
            Arc::new(works),
            cluster,
            address.trim_end_matches('/'),
            grace,
            &mut tasks,
        );
    }
    tokio::spawn(async move {
        // Without the signal the program ends as programs do.
        if tokio::signal::ctrl_c().await.is_ok() {
            cancel.cancel();
        }
    });
    Ok(tasks.wait(Duration::from_secs(5)).await?)
}

fn run<H: HubWorks>(
    hub: Arc<H>,
    cluster: Client,
    address: &str,
    grace: Option<Duration>,
    tasks: &mut Tasks,
) {
    let mut config = Config::new(identity_for(address));
    config.eviction_grace = grace.or(config.eviction_grace);
    start(hub, cluster, config, Clock::system(), tasks);
}

async fn configuration(file: &str) -> Result<kube::Config, Box<dyn Error>> {
    let kubeconfig = Kubeconfig::read_from(Path::new(file))?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}
