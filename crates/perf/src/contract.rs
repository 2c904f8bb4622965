//! The commands of a driver: one JSON object a line on standard input, answered in turn on standard output.
//!
//! - `start`: a hub listens or connects; agents connect and subscribe, each on a connection of its own.
//! - `load`: a hub owns works, unsent; agents know works as if they had come before.
//! - `subscribers`: a gRPC hub waits for so many clusters.
//! - `publish`: a hub sends works, agents send statuses; `t0` before the first, `t1` when the last is taken.
//! - `wait`: until the handler had so many objects since `reset`; `t1` is that of the last, `m` has ages if stamps came.
//! - `resync`: asks the other side what differs; answered when the request is taken.
//! - `quit`, like the end of the input, ends the process.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// What a role is told to do. Which fields count depends on `cmd`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Command {
    /// Comes back in the reply.
    pub id: i64,
    /// What to do.
    pub cmd: String,
    /// How many events, objects or clusters.
    pub n: usize,
    /// Publications at once.
    pub inflight: usize,
    /// Publications a second, 0 = as fast as they go.
    pub rate: f64,
    /// Works of each agent.
    pub works: usize,
    /// Clusters.
    pub agents: usize,
    /// Manifests of a work.
    pub manifests: usize,
    /// Bytes of a manifest.
    pub size: usize,
    /// Generation.
    pub version: i64,
    /// Every so many-th work differs.
    pub every: usize,
    /// Publications carry the time they were sent at.
    pub stamp: bool,
    /// Works get a status.
    pub status: bool,
    /// Patience in seconds.
    pub timeout_s: f64,
}

/// What a role answers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reply {
    /// Of the command.
    pub id: i64,
    /// Whether it was obeyed.
    pub ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    /// Why not.
    pub err: String,
    /// First stamp.
    #[serde(skip_serializing_if = "is_zero")]
    pub t0: i64,
    /// Last stamp.
    #[serde(skip_serializing_if = "is_zero")]
    pub t1: i64,
    /// A count.
    #[serde(skip_serializing_if = "is_none")]
    pub n: usize,
    /// Figures.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub m: BTreeMap<&'static str, f64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_none(number: &usize) -> bool {
    *number == 0
}

impl Reply {
    /// A span from `t0` until now, over `n` things.
    pub fn since(t0: i64, n: usize) -> Self {
        Self {
            t0,
            t1: mono(),
            n,
            ..Self::default()
        }
    }
}

/// A role.
pub trait Role {
    /// Obeys one command.
    fn obey(&mut self, command: Command) -> impl Future<Output = Result<Reply>>;
}

/// CLOCK_MONOTONIC in nanoseconds: all processes of a machine share it.
pub fn mono() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Processor time of this process in seconds.
pub fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Obeys until `quit` or the end of the input.
///
/// Everything runs on one thread: most of what a client does is to hand small things on, and to wake another thread for
/// each of them costs more than to do them.
pub fn serve(role: impl Role) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (sender, lines) = mpsc::unbounded_channel();
    // Never joined: it may wait for input for ever.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let outcome = runtime.block_on(obey(role, lines));
    runtime.shutdown_background();
    outcome
}

async fn obey(
    mut role: impl Role,
    mut lines: mpsc::UnboundedReceiver<std::io::Result<String>>,
) -> Result<()> {
    let mut output = std::io::stdout();
    while let Some(line) = lines.recv().await {
        let command: Command = serde_json::from_str(&line?).context("a command is not readable")?;
        let (id, quit) = (command.id, command.cmd == "quit");
        let outcome = if quit {
            Ok(Reply::default())
        } else {
            role.obey(command).await
        };
        let mut reply = outcome.unwrap_or_else(|error| Reply {
            err: format!("{error:#}"),
            ..Reply::default()
        });
        (reply.id, reply.ok) = (id, reply.err.is_empty());
        writeln!(output, "{}", serde_json::to_string(&reply)?)?;
        output.flush()?;
        if quit {
            break;
        }
    }
    Ok(())
}
