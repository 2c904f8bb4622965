//! The program: roles and commands, configuration, wiring. It decides nothing about fleets.
#![expect(
    unreachable_pub,
    reason = "a program has no outside that could reach anything"
)]

mod admission;
mod agent;
mod apiserver;
mod cli;
mod clusters;
mod config;
mod connect;
mod copies;
mod hub;
mod kinds;
mod look;
mod manifests;
mod metrics;
mod objects;
mod print;
mod publish;
mod publisher;
mod screen;
mod serving;
mod show;
mod status;
mod up;
mod view;
mod webhook;

use std::process::ExitCode;

use clap::FromArgMatches;
use cli::{Cli, Command};

/// Objects come and go in thousands of small pieces on all threads: that is what it is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Told wrong: the same code that the argument parser uses.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // The only cryptography of the process; whoever asks for "the default" gets it.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(
                &anyhow::Error::new(error).context("failed to start the runtime"),
                1,
            );
        }
    };
    let inside = runtime.enter();
    let telemetry =
        match drover_runtime::telemetry::init(&cli.global.log, cli.global.log_format.into()) {
            Ok(telemetry) => telemetry,
            Err(error) => return fail(&anyhow::Error::new(error), USAGE),
        };
    drop(inside);
    let outcome = runtime.block_on(run(cli));
    drop(telemetry);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<print::ClosedPipe>() => ExitCode::SUCCESS,
        Err(error) => {
            let own = error.downcast_ref::<publish::Failed>();
            fail(&error, own.map_or(1, publish::Failed::exit_code))
        }
    }
}

fn parse() -> Result<Cli, ExitCode> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let command = match config::command(&arguments) {
        Ok(command) => command,
        Err(error) => return Err(fail(&error, USAGE)),
    };
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|found| Cli::from_arg_matches(&found));
    parsed.map_err(|error| {
        // Nobody reads any more: there is nobody to tell.
        error.print().ok();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
    })
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Up(args) => up::run(args, cli.global.output).await,
        Command::Apiserver(args) => apiserver::run(args).await,
        Command::Hub(args) => hub::run(*args, &cli.global).await,
        Command::Agent(args) => agent::run(args, &cli.global).await,
        Command::Publisher(args) => publisher::run(*args, &cli.global).await,
        Command::Publish(args) => publish::run(args, cli.global.output).await,
        Command::Clusters(args) => clusters::run(args, &cli.global).await,
        Command::Works(args) => status::works(args, &cli.global).await,
        Command::Manifests(args) => manifests::run(&args),
        Command::Status(args) => status::run(args, &cli.global).await,
        Command::Apply(args) => objects::apply(args, &cli.global).await,
        Command::Get(args) => objects::get(args, &cli.global).await,
    }
}

/// One readable line, then what to do when the error knows it.
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut text = String::new();
    for part in &chain {
        // A cause that its context quotes already is not said twice.
        if text.contains(part.as_str()) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(part);
    }
    print::error(&text);
    ExitCode::from(code)
}
