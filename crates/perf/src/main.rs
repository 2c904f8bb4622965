//! One role of a performance comparison as a process: a hub, an agent, or the codec alone.
//!
//! A driver starts the roles, talks to them with one JSON line for each command, and measures from outside: processor
//! time, memory and bytes from the kernel, times between stamps of two roles on the monotonic clock. Roles of another
//! implementation understand the same commands, so the two can be measured side by side and mixed.
#![expect(
    unreachable_pub,
    reason = "a program has no outside that could reach anything"
)]

mod contract;
mod flags;
mod fixture;
mod count;
mod drive;
mod connect;
mod bare;
mod hub;
mod source;
mod agent;
mod codec;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::flags::Flags;

/// The same as in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: perf-role hub|agent|codec [-flag=value]...";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint(&format!("perf-role: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "who drives a role reads it there")]
fn eprint(text: &str) {
    eprintln!("{text}");
}

fn run() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let role = args.next().context(USAGE)?;
    let flags = Flags::parse(args)?;
    // The only cryptography of the process; whoever asks for "the default" gets it.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    match role.as_str() {
        "codec" => codec::run(&flags),
        "hub" => contract::serve(hub::Hub::new(&flags)?),
        "agent" => contract::serve(agent::Agents::new(flags)),
        other => bail!("there is no role {other}; {USAGE}"),
    }
}
