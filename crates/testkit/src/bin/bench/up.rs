//! Whole fleets: `drover up` until it says that it is ready, and at rest.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use drover_testkit::Process;
use serde_json::Value;
use tempfile::TempDir;

use crate::Args;
use crate::process::{processor_time, processor_time_since, resident};
use crate::report::Report;

/// How long a fleet may take to be ready.
const PATIENCE: Duration = Duration::from_mins(10);
/// How often to look whether it is.
const LOOK: Duration = Duration::from_millis(2);
/// How long it is watched at rest.
const REST: Duration = Duration::from_secs(10);

/// A fleet that is ready; ends when dropped.
#[derive(Debug)]
pub(crate) struct Fleet {
    process: Process,
    _folder: TempDir,
    /// How to reach it.
    pub(crate) kubeconfig: PathBuf,
    /// From the start of the process until it said that it is ready.
    pub(crate) ready_in: Duration,
}

impl Fleet {
    /// Hubs and clusters; nothing is kept, or everything.
    pub(crate) async fn start(
        drover: &Path,
        hubs: usize,
        clusters: u16,
        durable: bool,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let place = if durable {
            format!("--data={}", folder.path().join("data").display())
        } else {
            "--ephemeral".to_owned()
        };
        let args = [
            "up".to_owned(),
            format!("--hubs={hubs}"),
            format!("--clusters={clusters}"),
            "--output=json".to_owned(),
            place,
        ];
        let start = Instant::now();
        let process = Process::start("drover", drover, args, folder.path())?;
        let log = folder.path().join("drover.log");
        let ready = loop {
            if let Some(ready) = ready(&log) {
                break ready;
            }
            if start.elapsed() > PATIENCE {
                bail!("the fleet is not ready:\n{}", process.tail());
            }
            tokio::time::sleep(LOOK).await;
        };
        let ready_in = start.elapsed();
        let kubeconfig = ready["kubeconfig"]
            .as_str()
            .context("no kubeconfig")?
            .into();
        Ok(Self {
            process,
            _folder: folder,
            kubeconfig,
            ready_in,
        })
    }

    /// Its only process.
    pub(crate) fn processes(&self) -> [u32; 1] {
        [self.process.id()]
    }
}

/// The line that says so, once it is written.
fn ready(log: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(log).ok()?;
    let mut told = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    told.find(|line| line["ready"] == true)
}

/// Time until ready, memory then and later, processor time at rest.
pub(crate) async fn run(drover: &Path, args: &Args, report: &mut Report) -> Result<()> {
    for _ in 0..args.rounds {
        for clusters in &args.clusters {
            for durable in [false, true] {
                measure(drover, *clusters, durable, report).await?;
            }
        }
    }
    Ok(())
}

async fn measure(drover: &Path, clusters: u16, durable: bool, report: &mut Report) -> Result<()> {
    let fleet = Fleet::start(drover, 2, clusters, durable).await?;
    let kept = if durable { "durable" } else { "ephemeral" };
    let name = format!("2 hubs, {clusters} clusters, {kept}");
    let mut add = |metric, unit, value| report.add("up", &name, metric, unit, value);
    add("ready", "s", fleet.ready_in.as_secs_f64());
    let starting = processor_time(&fleet.processes())?;
    add("processor time until ready", "s", starting.as_secs_f64());
    add("resident when ready", "MiB", resident(&fleet.processes())?);
    tokio::time::sleep(REST).await;
    add("resident 10 s later", "MiB", resident(&fleet.processes())?);
    let before = processor_time(&fleet.processes())?;
    tokio::time::sleep(REST).await;
    let used = processor_time_since(&fleet.processes(), before)?;
    let share = used.as_secs_f64() / REST.as_secs_f64() * 100.0;
    add("processor at rest", "% of a core", share);
    Ok(())
}
