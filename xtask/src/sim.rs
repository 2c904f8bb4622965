//! Runs the worlds of crates/protocol/tests/sim or crates/drover/tests/sim, optimised, for as long as one likes.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};

/// What lives in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Of {
    /// Sessions of sources and agents
    #[default]
    Sessions,
    /// A whole hub and its agents, with works
    Works,
}

impl Of {
    fn package(self) -> &'static str {
        match self {
            Self::Sessions => "drover-protocol",
            Self::Works => "drover",
        }
    }
}

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// What lives in the worlds
    #[arg(long, value_enum, default_value_t)]
    of: Of,
    /// Run one world
    #[arg(long, conflicts_with_all = ["seeds", "seconds"])]
    seed: Option<u64>,
    /// Run the worlds of these seeds, the last included: `1..1000000`
    #[arg(long, value_parser = range)]
    seeds: Option<(u64, u64)>,
    /// Stop after so many seconds; without it and without seeds, a minute
    #[arg(long)]
    seconds: Option<u64>,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let bad = || format!("{text:?} is no range of seeds such as 1..1000");
    let (first, last) = text.split_once("..").ok_or_else(bad)?;
    Ok((
        first.parse().map_err(|_| bad())?,
        last.parse().map_err(|_| bad())?,
    ))
}

/// Runs worlds until one fails or all did.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "test",
        "--release",
        "-p",
        args.of.package(),
        "--test",
        "sim",
    ]);
    cargo.args([
        "as_long_as_asked",
        "--",
        "--ignored",
        "--exact",
        "--nocapture",
    ]);
    cargo.env("RUST_BACKTRACE", "0");
    if let Some(seed) = args.seed {
        cargo.env("SIM_SEED", seed.to_string());
    }
    if let Some((first, last)) = args.seeds {
        cargo.env("SIM_FROM", first.to_string());
        cargo.env("SIM_TO", last.to_string());
    }
    let endless = args.seed.is_none() && args.seeds.is_none();
    if let Some(seconds) = args.seconds.or(endless.then_some(60)) {
        cargo.env("SIM_SECONDS", seconds.to_string());
    }
    let status = cargo.status().context("failed to run cargo")?;
    if !status.success() {
        bail!("a world went wrong, see above");
    }
    Ok(())
}
