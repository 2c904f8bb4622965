//! A peer made of OCM's Go library, played by a test: `tests/peers/sdkgo/probe` says what it can do.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::fleet::eventually;
use crate::process::{Process, program};

/// How long a probe may take to connect, and to answer. It waits for its broker by itself.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running `sdkgo-probe`; ends when dropped.
#[derive(Debug)]
pub struct Probe {
    name: String,
    process: Mutex<Process>,
    commands: Mutex<ChildStdin>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    asked: u64,
    waiting: HashMap<u64, oneshot::Sender<Value>>,
    events: Vec<Value>,
    ready: bool,
    ended: bool,
}

/// Why a probe did not do something: what sdk-go's client returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The text of the error.
    pub message: String,
    /// The reason, if it was an error of the Kubernetes API.
    pub reason: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.reason)
    }
}

impl std::error::Error for Refusal {}

impl Probe {
    /// Starts a role of the probe and waits until it says that it is ready. What it logs lies in `folder/NAME.log`.
    ///
    /// # Errors
    /// With the end of its log, when it ends or takes too long.
    pub async fn start(name: &str, role: &str, args: &[&str], folder: &Path) -> Result<Self> {
        // The certificates of clients are looked at every second, not every five minutes.
        let env = [("CERT_CALLBACK_REFRESH_DURATION", "1s")];
        let args = [&[role], args].concat();
        let (process, commands, answers) =
            Process::converse(name, &program("sdkgo-probe")?, args, &env, folder)?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let listener = Arc::clone(&heard);
        std::thread::spawn(move || listen(answers, &listener));
        let probe = Self {
            name: name.to_owned(),
            process: Mutex::new(process),
            commands: Mutex::new(commands),
            heard,
        };
        let started = async {
            loop {
                let (ready, ended) = {
                    let heard = probe.heard();
                    (heard.ready, heard.ended)
                };
                if ready {
                    return Ok(());
                }
                if ended {
                    bail!("{name} ended while it started:\n{}", probe.log());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, started).await {
            Ok(started) => started?,
            Err(_) => bail!("{name} is not ready after {PATIENCE:?}:\n{}", probe.log()),
        }
        Ok(probe)
    }

    /// Waits until so many of its clients are subscribed: sdk-go's connect first, and subscribe in their own time.
    ///
    /// # Errors
    /// With the end of its log, when it takes too long.
    pub async fn subscribed(&self, clients: usize) -> Result<()> {
        let subscribed = async || {
            let log = self.process().log();
            // With MQTT there is a line for each topic.
            let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
            let (grpc, mqtt) = (
                lines("\"subscribed to grpc server\""),
                lines("\"subscribed to mqtt broker\""),
            );
            ensure!(grpc + mqtt / 2 >= clients, "{}", self.log());
            Ok(())
        };
        eventually(
            &format!("subscriptions of {}", self.name),
            PATIENCE,
            subscribed,
        )
        .await
    }

    /// Sends a command (`{"do": …}`) and waits for its answer.
    ///
    /// # Errors
    /// With a [`Refusal`] when sdk-go says no; otherwise when the probe is gone.
    pub async fn ask(&self, mut command: Value) -> Result<Value> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut heard = self.heard();
            heard.asked += 1;
            let id = heard.asked;
            heard.waiting.insert(id, answer);
            id
        };
        command["id"] = json!(id);
        self.write(&command)?;
        let answer = tokio::time::timeout(PATIENCE, answered)
            .await
            .with_context(|| format!("{} does not answer {command}", self.name))?;
        let mut answer =
            answer.with_context(|| format!("{} ended before it answered {command}", self.name))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(message) = answer.get("error") {
            bail!(Refusal {
                message: text(message),
                reason: text(&answer["reason"]),
            });
        }
        Ok(answer["ok"].take())
    }

    /// Everything that it reported so far, in order.
    pub fn events(&self) -> Vec<Value> {
        self.heard().events.clone()
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        self.process().tail()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        self.process().kill();
    }

    fn write(&self, command: &Value) -> Result<()> {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(commands, "{command}").with_context(|| format!("{} is gone", self.name))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the probe can print at once: a program that ends by itself.
///
/// # Errors
/// When it fails, or prints something else than JSON lines.
pub fn vectors() -> Result<Vec<Value>> {
    let output = std::process::Command::new(program("sdkgo-probe")?)
        .arg("vectors")
        .output()?;
    if !output.status.success() {
        bail!(
            "sdkgo-probe vectors failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let lines = output.stdout.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| Ok(serde_json::from_slice(line)?))
        .collect()
}

fn listen(from: ChildStdout, heard: &Mutex<Heard>) {
    let said = |line: Value| {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if line["event"] == "ready" {
            heard.ready = true;
        }
        match line["id"].as_u64() {
            None => heard.events.push(line),
            Some(id) => {
                if let Some(waiting) = heard.waiting.remove(&id) {
                    // Who asked may have stopped waiting.
                    waiting.send(line).ok();
                }
            }
        }
    };
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(line) => said(line),
            Err(error) => {
                said(json!({"event": "unreadable", "line": line, "why": error.to_string()}));
            }
        }
    }
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    heard.ended = true;
    heard.waiting.clear();
}
