//! A source and an agent, ours or Go's, behind one face each. Works go in and out as the JSON of ManifestWorks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drover_client::{
    AgentOptions, AgentWorks, DriverConfig, SourceOptions, SourceWorks, Work, WorkStatus,
};
use drover_protocol::names;
use drover_protocol::session::Owned;
use drover_testkit::Probe;
use drover_transport::Transport;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The source's id on every wire where sources connect.
pub(crate) const SOURCE: &str = "hub-a";
/// The cluster.
pub(crate) const CLUSTER: &str = "edge-7";
pub(crate) const AGENT: &str = "edge-7-work-agent";
/// Where a Go source finds the version of a work.
pub(crate) const VERSION: &str = "cloudevents.open-cluster-management.io/resourceversion";

/// Ours come back soon: the time that peers need to notice is what is left.
pub(crate) fn driver() -> DriverConfig {
    DriverConfig {
        min_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_millis(500),
        ..DriverConfig::default()
    }
}

/// A source that connects.
pub(crate) enum Source {
    Drover {
        works: SourceWorks,
        _running: DropGuard,
    },
    Go(Probe),
}

impl Source {
    /// Waits until it is connected, as Go's does.
    pub(crate) async fn drover(transport: Arc<dyn Transport>, owned: &[Value]) -> Result<Self> {
        let objects = owned.iter().map(|work| Ok(Work::from_object(work)?));
        let options = SourceOptions {
            owned: Owned {
                objects: objects.collect::<Result<_>>()?,
                ..Owned::default()
            },
            driver: driver(),
            ..SourceOptions::new(SOURCE)
        };
        let (works, driver) = SourceWorks::new(options, transport);
        let stop = CancellationToken::new();
        tokio::spawn(driver.run(stop.clone()));
        works.connected().await;
        Ok(Self::Drover {
            works,
            _running: stop.drop_guard(),
        })
    }

    pub(crate) async fn go(driver: &str, config: &str, owned: &str, folder: &Path) -> Result<Self> {
        let args = [
            "-driver", driver, "-config", config, "-source", SOURCE, "-load", owned,
        ];
        let probe = Probe::start("source", "source", &args, folder).await?;
        probe.subscribed(1).await?;
        Ok(Self::Go(probe))
    }

    pub(crate) async fn works(&self) -> Result<Vec<Value>> {
        match self {
            Self::Drover { works, .. } => values(&works.list(CLUSTER)),
            Self::Go(probe) => list(probe, json!({"do": "list", "namespace": CLUSTER})).await,
        }
    }

    /// `version` is what a Go source says itself; ours counts.
    pub(crate) async fn create(&self, work: &Value) -> Result<()> {
        match self {
            Self::Drover { works, .. } => drop(works.create(Work::from_object(work)?)?),
            Self::Go(probe) => {
                let command = json!({"do": "create", "namespace": CLUSTER, "object": work});
                probe.ask(command).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn update(&self, work: &Value) -> Result<()> {
        match self {
            Self::Drover { works, .. } => drop(works.update(Work::from_object(work)?)?),
            Self::Go(probe) => {
                let patch = json!({
                    "metadata": {"labels": work["metadata"]["labels"], "annotations": work["metadata"]["annotations"]},
                    "spec": work["spec"],
                });
                let name = &work["metadata"]["name"];
                let command =
                    json!({"do": "patch", "namespace": CLUSTER, "name": name, "object": patch});
                probe.ask(command).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        match self {
            Self::Drover { works, .. } => works.delete(CLUSTER, name),
            Self::Go(probe) => {
                let command = json!({"do": "delete", "namespace": CLUSTER, "name": name});
                probe.ask(command).await?;
            }
        }
        Ok(())
    }

    /// Waits until it has subscribed once more after a loss. Go's publishes before it listens again, and who asks it
    /// meanwhile asks in vain.
    pub(crate) async fn back(&self) -> Result<()> {
        match self {
            Self::Drover { works, .. } => works.connected().await,
            Self::Go(probe) => probe.subscribed(2).await?,
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> String {
        match self {
            Self::Drover { works, .. } => format!("{:?}", works.stats()),
            Self::Go(probe) => probe.log(),
        }
    }
}

/// An agent.
pub(crate) enum Agent {
    Drover {
        works: AgentWorks,
        _running: DropGuard,
    },
    Go(Probe),
}

impl Agent {
    /// Waits until it is connected, as Go's does.
    pub(crate) async fn drover(transport: Arc<dyn Transport>) -> Self {
        let options = AgentOptions {
            driver: driver(),
            ..AgentOptions::new(AGENT, CLUSTER)
        };
        let (works, driver) = AgentWorks::new(options, transport);
        let stop = CancellationToken::new();
        tokio::spawn(driver.run(stop.clone()));
        works.connected().await;
        Self::Drover {
            works,
            _running: stop.drop_guard(),
        }
    }

    pub(crate) async fn go(driver: &str, config: &str, folder: &Path) -> Result<Self> {
        let args = [
            "-driver", driver, "-config", config, "-cluster", CLUSTER, "-agent", AGENT,
        ];
        let probe = Probe::start("agent", "agent", &args, folder).await?;
        probe.subscribed(1).await?;
        Ok(Self::Go(probe))
    }

    pub(crate) async fn works(&self) -> Result<Vec<Value>> {
        match self {
            Self::Drover { works, .. } => values(&works.list()),
            Self::Go(probe) => list(probe, json!({"do": "list"})).await,
        }
    }

    /// Holds the work until it is released.
    pub(crate) async fn claim(&self, name: &str) -> Result<()> {
        match self {
            Self::Drover { works, .. } => {
                let work = works.get(name).context("no such work")?;
                works.add_finalizer(&work.metadata.uid, names::WORK_FINALIZER)?;
            }
            Self::Go(probe) => {
                let command =
                    json!({"do": "finalizers", "name": name, "list": [names::WORK_FINALIZER]});
                probe.ask(command).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn release(&self, name: &str) -> Result<()> {
        match self {
            Self::Drover { works, .. } => {
                let work = works.get(name).context("no such work")?;
                works.remove_finalizer(&work.metadata.uid, names::WORK_FINALIZER)?;
            }
            Self::Go(probe) => {
                probe
                    .ask(json!({"do": "finalizers", "name": name, "list": []}))
                    .await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn report(&self, name: &str, status: &Value) -> Result<()> {
        match self {
            Self::Drover { works, .. } => {
                let work = works.get(name).context("no such work")?;
                let status: WorkStatus = serde_json::from_value(status.clone())?;
                works.set_status_of(&work.metadata.uid, work.metadata.generation, status)?;
            }
            Self::Go(probe) => {
                probe
                    .ask(json!({"do": "status", "name": name, "object": status}))
                    .await?;
            }
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> String {
        match self {
            Self::Drover { works, .. } => format!("{:?}", works.stats()),
            Self::Go(probe) => probe.log(),
        }
    }
}

fn values(works: &[Arc<Work>]) -> Result<Vec<Value>> {
    works
        .iter()
        .map(|work| Ok(serde_json::to_value(&**work)?))
        .collect()
}

async fn list(probe: &Probe, command: Value) -> Result<Vec<Value>> {
    let mut answer = probe.ask(command).await?;
    Ok(match answer.take() {
        Value::Array(works) => works,
        // Go's empty list.
        _ => Vec::new(),
    })
}
