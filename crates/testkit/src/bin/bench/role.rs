//! `perf-role` processes: one JSON command a line, one JSON reply a line.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A role process; ends when dropped.
pub(crate) struct Role {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Role {
    /// Starts `PROGRAM ROLE FLAGS`.
    pub(crate) fn start(program: &Path, role: &str, flags: &[String]) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(role)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    /// Process id.
    pub(crate) fn id(&self) -> Result<u32> {
        self.child.id().context("a role has ended")
    }

    /// Gives a command and waits for its reply.
    pub(crate) async fn ask(&mut self, command: &str, fields: &Value) -> Result<Value> {
        let mut order = fields.clone();
        order["cmd"] = command.into();
        self.input
            .write_all(format!("{order}\n").as_bytes())
            .await?;
        let line = self.output.next_line().await?;
        let line = line.with_context(|| format!("a role ended when it was told to {command}"))?;
        let reply: Value = serde_json::from_str(&line)?;
        if reply["ok"] != true {
            bail!("a role failed to {command}: {}", reply["err"]);
        }
        Ok(reply)
    }
}
