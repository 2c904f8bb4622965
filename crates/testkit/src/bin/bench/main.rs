//! Measures a server or a fleet from outside, as processes: time, memory, processor time.
//!
//! `bench NAME…` runs the named benches and prints a table, then one JSON line for each figure.
//! The `drover` program is the one beside this one, or what `--drover` or `DROVER_BIN` names; so is
//! `perf-role`, which `events` and `agent` need. The peers come from `DROVER_PEERS`, as in the tests. Nothing
//! here asserts: the reader compares.

mod agent;
mod api;
mod events;
mod fanout;
mod http;
mod process;
mod publish;
mod report;
mod role;
mod rollout;
mod scale;
mod server;
mod up;
mod work;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::report::Report;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Time until an empty API answers, and its memory at rest
    ApiStart,
    /// Durable creates by 16 clients, beside kube-apiserver and etcd
    ApiWrites,
    /// Lists of 10,000 objects and watch fan-out, beside kube-apiserver and etcd
    ApiList,
    /// Time until a fleet is ready, its memory, its processor time at rest
    Up,
    /// From the create of a work to its Applied and Available status
    WorkLatency,
    /// Works to agents and statuses back, over gRPC and through mosquitto
    Events,
    /// One work agent on a real kube-apiserver, beside OCM's
    Agent,
    /// Fleets with 20 works of 5 objects for each cluster, and a change to a work of every cluster
    Scale,
    /// One placement and one set of works over all clusters of a hub, and changes of them
    Rollout,
    /// Messages to RabbitMQ: the command beside that of the Python library, and 10,000 FedoraMessages at once
    Publish,
}

/// Measures speed and memory.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure
    #[arg(required = true, value_enum)]
    names: Vec<Bench>,
    /// The program to measure; by default the one beside this program
    #[arg(long, env = "DROVER_BIN")]
    drover: Option<PathBuf>,
    /// How often each measurement is repeated
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a load lasts, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Leaves the peers out
    #[arg(long)]
    alone: bool,
    /// Keeps nothing on disk in `scale` and `rollout`
    #[arg(long)]
    ephemeral: bool,
    /// Numbers of clusters for `up`, `scale` and `rollout`
    #[arg(long, value_delimiter = ',', default_values_t = [3, 100])]
    clusters: Vec<u16>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut report = Report::default();
    let outcome = measure(&args, &mut report).await;
    // What was measured before something failed is worth seeing.
    report.print()?;
    outcome
}

/// A program that is built beside this one.
fn beside(name: &str, package: &str) -> Result<PathBuf> {
    found(&std::env::current_exe()?.with_file_name(name), package)
}

fn found(path: &Path, package: &str) -> Result<PathBuf> {
    path.canonicalize().with_context(|| {
        let path = path.display();
        format!("{path} is not there: run `cargo build --release -p {package}` first")
    })
}

async fn measure(args: &Args, report: &mut Report) -> Result<()> {
    let drover = || match &args.drover {
        Some(path) => found(path, "drover"),
        None => beside("drover", "drover"),
    };
    for name in &args.names {
        match name {
            Bench::ApiStart => api::start(&drover()?, args.rounds, report).await?,
            Bench::ApiWrites => api::writes(&drover()?, args, report).await?,
            Bench::ApiList => {
                api::lists(&drover()?, args, report).await?;
                fanout::run(&drover()?, args, report).await?;
            }
            Bench::Up => up::run(&drover()?, args, report).await?,
            Bench::WorkLatency => work::run(&drover()?, report).await?,
            Bench::Events => {
                let role = beside("perf-role", "drover-perf")?;
                events::run(&role, args.rounds, report).await?;
            }
            Bench::Agent => {
                let role = beside("perf-role", "drover-perf")?;
                agent::run(&drover()?, &role, args, report).await?;
            }
            Bench::Scale => scale::run(&drover()?, args, report).await?,
            Bench::Rollout => rollout::run(&drover()?, args, report).await?,
            Bench::Publish => publish::run(&drover()?, args, report).await?,
        }
    }
    Ok(())
}
