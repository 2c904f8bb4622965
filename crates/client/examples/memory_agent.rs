//! An agent in memory: takes the works of a cluster from an event service over gRPC, reports each as applied and available
//! without applying anything, and honours deletions. The counterpart of `memory_hub`.
//!
//! ```sh
//! cargo run -p drover-client --example memory_agent -- --url 127.0.0.1:8090 --cluster cluster1
//! ```
#![expect(clippy::print_stdout, reason = "its output is for people and scripts")]

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use drover_client::{AgentOptions, AgentWorks, Change, Work};
use drover_protocol::names::WORK_FINALIZER;
use drover_protocol::work::Condition;
use drover_transport::grpc::{GrpcConfig, GrpcTransport, Pem};
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Options {
    /// `host:port` of the event service.
    #[arg(long)]
    url: String,
    /// Cluster to be the agent of.
    #[arg(long, default_value = "cluster1")]
    cluster: String,
    /// Issuer of the server's certificate; turns TLS on.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// File with the bearer token.
    #[arg(long)]
    token_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let options = Options::parse();
    let transport = GrpcTransport::new(GrpcConfig {
        ca: options.ca_file.map(Pem::File),
        token: options.token_file.map(Pem::File),
        ..GrpcConfig::new(options.url)
    });
    let agent = format!("{}-work-agent", options.cluster);
    let (works, driver) = AgentWorks::new(
        AgentOptions::new(agent, options.cluster),
        Arc::new(transport),
    );
    let running = tokio::spawn(driver.run(CancellationToken::new()));
    let mut changes = works.watch();
    while let Some(change) = changes.next().await {
        if !matches!(change, Change::Deleted(_)) {
            report(&works, change.object())?;
        }
    }
    Ok(running.await?)
}

fn report(works: &AgentWorks, work: &Work) -> anyhow::Result<()> {
    let (meta, uid) = (&work.metadata, work.metadata.uid.as_str());
    let observed = work
        .status
        .conditions
        .iter()
        .any(|c| c.observed_generation == meta.generation);
    if meta.deleting() {
        println!("{} is deleted", meta.name);
        works.remove_finalizer(uid, WORK_FINALIZER)?;
    } else if !meta
        .finalizers
        .iter()
        .any(|finalizer| finalizer == WORK_FINALIZER)
    {
        works.add_finalizer(uid, WORK_FINALIZER)?;
    } else if !observed {
        println!("{} is applied, generation {}", meta.name, meta.generation);
        let mut status = work.status.clone();
        status.conditions = ["Applied", "Available"]
            .map(|name| condition(name, meta.generation))
            .into();
        works.set_status(uid, status)?;
    }
    Ok(())
}

fn condition(name: &str, generation: i64) -> Condition {
    Condition {
        condition_type: name.to_owned(),
        status: "True".to_owned(),
        reason: "Memory".to_owned(),
        observed_generation: generation,
        last_transition_time: Some(Timestamp::now()),
        ..Condition::default()
    }
}
