//! Runs the work agent of one cluster against a hub's Kubernetes API, with two kubeconfigs:
//! `work_agent HUB_KUBECONFIG CLUSTER_KUBECONFIG CLUSTER_NAME [EVICTION_GRACE_SECONDS]`.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use drover_agent::work::{Config, hub_kube::HubKube, identity_for, start};
use drover_runtime::{clock::Clock, supervise::Tasks};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (hub, cluster, name, grace) = match arguments.as_slice() {
        [hub, cluster, name] => (hub, cluster, name, None),
        [hub, cluster, name, grace] => (hub, cluster, name, Some(Duration::from_secs(grace.parse()?))),
        _ => return Err("usage: work_agent HUB_KUBECONFIG CLUSTER_KUBECONFIG CLUSTER_NAME [EVICTION_GRACE_SECONDS]".into()),
    };
    let hub = configuration(hub).await?;
    let identity = identity_for(hub.cluster_url.to_string().trim_end_matches('/'));
    let cluster = Client::try_from(configuration(cluster).await?)?;
    let hub = Arc::new(HubKube::new(Client::try_from(hub)?, name));

    let cancel = CancellationToken::new();
    let mut tasks = Tasks::new(cancel.clone());
    let mut config = Config::new(identity);
    config.eviction_grace = grace.or(config.eviction_grace);
    start(hub, cluster, config, Clock::system(), &mut tasks);
    tokio::spawn(async move {
        // Without the signal the program ends as programs do.
        if tokio::signal::ctrl_c().await.is_ok() {
            cancel.cancel();
        }
    });
    Ok(tasks.wait(Duration::from_secs(5)).await?)
}

async fn configuration(file: &str) -> Result<kube::Config, Box<dyn Error>> {
    let kubeconfig = Kubeconfig::read_from(Path::new(file))?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}
