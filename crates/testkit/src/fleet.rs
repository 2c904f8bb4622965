//! The program itself, started as a user starts it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;

/// A running `drover up`.
#[derive(Debug)]
pub struct Fleet {
    process: Process,
    ready: Value,
    log: PathBuf,
    _folder: TempDir,
}

impl Fleet {
    /// Starts `PROGRAM up --output json ARGS` and waits until it says that it is ready.
    ///
    /// # Errors
    /// With what it said, when it ends or takes too long.
    pub async fn up(program: &Path, args: &[&str], limit: Duration) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let all = ["up", "--output", "json", "--log", "info"]
            .iter()
            .chain(args);
        let mut process = Process::start("drover", program, all, folder.path())?;
        let log = folder.path().join("drover.log");
        let mut ready = None;
        process
            .wait_for(limit, async || {
                ready = ready_line(&log);
                ready.is_some()
            })
            .await?;
        let ready = ready.context("the fleet said nothing")?;
        Ok(Self {
            process,
            ready,
            log,
            _folder: folder,
        })
    }

    /// What it printed when it was ready.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// The kubeconfig that it wrote.
    pub fn kubeconfig(&self) -> PathBuf {
        self.ready["kubeconfig"].as_str().unwrap_or_default().into()
    }

    /// A client for one of its contexts.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self, context: &str) -> Result<kube::Client> {
        client(&self.kubeconfig(), context).await
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything that it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Ends it as Ctrl-C would; the answer is its exit code.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(mut self) -> Result<Option<i32>> {
        self.process.terminate(Duration::from_secs(20))
    }
}

fn ready_line(log: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(log).ok()?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|value| value["ready"] == true)
}

/// A client for one context of a kubeconfig.
///
/// # Errors
/// When the kubeconfig cannot be used.
pub async fn client(kubeconfig: &Path, context: &str) -> Result<kube::Client> {
    let options = KubeConfigOptions {
        context: Some(context.to_owned()),
        ..KubeConfigOptions::default()
    };
    let config =
        kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    Ok(kube::Client::try_from(config)?)
}

/// Asks again and again until the answer is `Ok`.
///
/// # Errors
/// The last answer, when it is not `Ok` in time.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut check: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match check().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > limit => {
                bail!("{what}: not within {limit:?}: {error:#}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
}
