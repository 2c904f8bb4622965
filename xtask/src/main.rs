//! The project's own checks and generators: `cargo xtask --help`.

mod builtin;
mod checks;
mod peers;
mod sim;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "The project's own checks and generators")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that must be green before a change is in: format, lints, tidy, docs, all tests
    Ci {
        /// Leave out the tests against real peers (daily work; never what CI runs)
        #[arg(long)]
        fast: bool,
    },
    /// Whether the tree is as ARCHITECTURE.md says
    Tidy,
    /// Rewrite the golden files from what the code does now
    Golden {
        /// Also what tests against real peers write, such as docs/compatibility.md
        #[arg(long)]
        peers: bool,
    },
    /// Write the shapes of the built-in Kubernetes kinds anew (needs Go to fetch their modules)
    Builtin,
    /// Build the real peers that tests run against, and print where they are
    Peers,
    /// Run simulated worlds of sources, agents and brokers; a failure prints its seed and the shortest history that shows it
    Sim(sim::Args),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            checks::say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Ci { fast } => checks::ci(fast),
        Command::Tidy => tidy::check(),
        Command::Golden { peers } => checks::golden(peers),
        Command::Builtin => builtin::run(),
        Command::Sim(args) => sim::run(&args),
        Command::Peers => {
            let folder = peers::install()?;
            checks::say(&folder.display().to_string());
            Ok(())
        }
    }
}
