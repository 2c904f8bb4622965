//! Measures a server or a fleet from outside, as processes: time, memory, processor time.
//!
//! `bench NAME…` runs the named benches and prints a table, then one JSON line for each figure.
//! The `drover` program is the one beside this one, or what `--drover` or `DROVER_BIN` names; the
//! peers come from `DROVER_PEERS`, as in the tests. Nothing here asserts: the reader compares.

mod api;
mod fanout;
mod http;
mod process;
mod report;
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
    /// Numbers of clusters for `up`
    #[arg(long, value_delimiter = ',', default_values_t = [3, 100])]
    clusters: Vec<u16>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let drover = match &args.drover {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("drover"),
    };
    let drover = drover.canonicalize().with_context(|| {
        format!(
            "{} is not there: run `cargo build --release -p drover` first",
            drover.display()
        )
    })?;
    let mut report = Report::default();
    let outcome = measure(&drover, &args, &mut report).await;
    // What was measured before something failed is worth seeing.
    report.print()?;
    outcome
}

async fn measure(drover: &Path, args: &Args, report: &mut Report) -> Result<()> {
    for name in &args.names {
        match name {
            Bench::ApiStart => api::start(drover, args.rounds, report).await?,
            Bench::ApiWrites => api::writes(drover, args, report).await?,
            Bench::ApiList => {
                api::lists(drover, args, report).await?;
                fanout::run(drover, args, report).await?;
            }
            Bench::Up => up::run(drover, args, report).await?,
            Bench::WorkLatency => work::run(drover, report).await?,
        }
    }
    Ok(())
}
