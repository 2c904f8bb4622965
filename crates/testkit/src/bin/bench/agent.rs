//! One work agent on a real kube-apiserver, Drover's and OCM's in turns: works over MQTT, ConfigMaps in the cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use drover_testkit::ocm::{MqttConfig, OcmAgents};
use drover_testkit::{KubeApi, KubeOptions, Mosquitto, MosquittoOptions, Process};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Args;
use crate::http::{Connection, Endpoint};
use crate::process::{Memory, memory, processor_time};
use crate::report::Report;
use crate::role::Role;

const BENCH: &str = "agent";
/// The cluster and the source that `perf-role` speaks for.
const CLUSTER: &str = "cluster0";
const SOURCE: &str = "bench";
/// Bytes of a manifest.
const SIZE: usize = 1024;
/// How long an agent may take for one load.
const PATIENCE: Duration = Duration::from_mins(7);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// An agent that reported nothing for so long has nothing more to report.
const SILENCE: Duration = Duration::from_secs(15);
/// How long it is watched at rest.
const REST: Duration = Duration::from_secs(20);

/// What is given to an agent.
#[derive(Clone, Copy, Debug)]
struct Load {
    works: usize,
    manifests: usize,
    /// Whether OCM's agent may ask its API server as often as it likes.
    raised: bool,
}

const LOADS: [Load; 3] = [
    Load {
        works: 500,
        manifests: 1,
        raised: false,
    },
    Load {
        works: 2000,
        manifests: 1,
        raised: true,
    },
    Load {
        works: 100,
        manifests: 10,
        raised: true,
    },
];

/// Every load, with both agents.
pub(crate) async fn run(
    drover: &Path,
    role: &Path,
    args: &Args,
    report: &mut Report,
) -> Result<()> {
    for _ in 0..args.rounds {
        for load in LOADS {
            if !args.alone {
                measure(None, role, load, report).await?;
            }
            measure(Some(drover), role, load, report).await?;
        }
    }
    Ok(())
}

/// One agent on a control plane of its own. `drover` is the program; without it OCM's agent is measured.
async fn measure(
    drover: Option<&Path>,
    role: &Path,
    load: Load,
    report: &mut Report,
) -> Result<()> {
    let mut rig = Rig::start(drover, role, load).await?;
    let system = format!(
        "{}, {} works of {}",
        if drover.is_some() { "drover" } else { "ocm" },
        load.works,
        load.manifests
    );
    let mut add = |figure, unit, value| report.add(BENCH, &system, figure, unit, value);
    let agent = [rig.agent.id()];
    tokio::time::sleep(Duration::from_secs(3)).await;
    add(
        "agent before, resident",
        "MiB",
        memory(&agent, Memory::Resident)?,
    );
    add(
        "agent before, anonymous",
        "MiB",
        memory(&agent, Memory::Anonymous)?,
    );

    let shape = json!({"agents": 1, "works": load.works, "manifests": load.manifests, "size": SIZE, "version": 1});
    rig.hub.ask("load", &shape).await?;
    rig.hub.ask("reset", &json!({})).await?;
    let parts = [
        rig.agent.id(),
        rig.kube("kube-apiserver")?,
        rig.kube("etcd")?,
    ];
    let used = || {
        parts
            .iter()
            .map(|id| processor_time(&[*id]))
            .collect::<Result<Vec<_>>>()
    };
    let before = used()?;
    let start = Instant::now();
    rig.hub
        .ask("publish", &json!({"n": load.works, "inflight": 20}))
        .await?;
    let wanted = load.works * load.manifests;
    while rig.applied().await? < wanted {
        if start.elapsed() > PATIENCE {
            bail!(
                "{system}: not applied after {PATIENCE:?}:\n{}",
                rig.agent.tail()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    let applied = start.elapsed().as_secs_f64();
    let (statuses, after) = rig.silence(used).await?;
    add("works", "1/s", load.works as f64 / applied);
    add("manifests", "1/s", wanted as f64 / applied);
    add("statuses for each work", "", statuses / load.works as f64);
    let figures = [
        "agent, processor time per work",
        "kube-apiserver, processor time per work",
        "etcd, processor time per work",
    ];
    for (figure, (before, after)) in figures.into_iter().zip(before.into_iter().zip(after)) {
        let each = after.saturating_sub(before).as_secs_f64() * 1e3 / load.works as f64;
        add(figure, "ms", each);
    }
    add(
        "agent at most, resident",
        "MiB",
        memory(&agent, Memory::Peak)?,
    );
    add(
        "agent after, resident",
        "MiB",
        memory(&agent, Memory::Resident)?,
    );
    add(
        "agent after, anonymous",
        "MiB",
        memory(&agent, Memory::Anonymous)?,
    );

    let before = used()?;
    tokio::time::sleep(REST).await;
    let after = used()?;
    let share = |at: usize| {
        let used: Duration = after[at].saturating_sub(before[at]);
        used.as_secs_f64() / REST.as_secs_f64() * 100.0
    };
    add("agent at rest", "% of a core", share(0));
    add("kube-apiserver at rest", "% of a core", share(1));
    Ok(())
}

/// A control plane, a broker, a source of works and one agent.
struct Rig {
    // Ends first.
    agent: Process,
    hub: Role,
    looking: Connection,
    api: KubeApi,
    _broker: Mosquitto,
    _agents: OcmAgents,
    _folder: TempDir,
}

impl Rig {
    async fn start(drover: Option<&Path>, role: &Path, load: Load) -> Result<Self> {
        let (api, broker) = tokio::try_join!(
            KubeApi::start(KubeOptions::default()),
            Mosquitto::start(MosquittoOptions::default())
        )?;
        let agents = OcmAgents::prepare(CLUSTER, api.kubeconfig(), &api.client().await?).await?;
        let config = agents.mqtt(&MqttConfig {
            broker: broker.address(),
            source: SOURCE.to_owned(),
            cluster: CLUSTER.to_owned(),
            ..MqttConfig::default()
        })?;
        let flags = [
            "-transport=mqtt".to_owned(),
            format!("-addr={}", broker.address()),
            format!("-source-id={SOURCE}"),
            "-store=counter".to_owned(),
            "-agents=1".to_owned(),
            "-qps=1000000".to_owned(),
            "-burst=1000000".to_owned(),
        ];
        let mut hub = Role::start(role, "hub", &flags)?;
        hub.ask("start", &json!({})).await?;
        let folder = tempfile::tempdir()?;
        let agent = match drover {
            None if load.raised => {
                let raised = ["--kube-api-qps=1000", "--kube-api-burst=2000"];
                agents.work_with("mqtt", &config, &raised).await?
            }
            None => agents.work_with("mqtt", &config, &[]).await?,
            Some(program) => {
                let args = [
                    "agent".to_owned(),
                    format!("--kubeconfig={}", api.kubeconfig().display()),
                    format!("--cluster={CLUSTER}"),
                    "--workload-source-driver=mqtt".to_owned(),
                    format!("--workload-source-config={}", config.display()),
                ];
                Process::start("drover-agent", program, args, folder.path())?
            }
        };
        let looking = Endpoint::read(&api.kubeconfig(), None)?.connect().await?;
        Ok(Self {
            agent,
            hub,
            looking,
            api,
            _broker: broker,
            _agents: agents,
            _folder: folder,
        })
    }

    fn kube(&self, name: &str) -> Result<u32> {
        self.api.process(name).context("a peer is not running")
    }

    /// How many ConfigMaps there are; without controllers nobody else makes any.
    async fn applied(&mut self) -> Result<usize> {
        let path = "/api/v1/namespaces/default/configmaps?limit=1";
        let answer = self.looking.call(Method::GET, path, "").await?;
        let list: Value = serde_json::from_slice(&answer)?;
        let shown = list["items"].as_array().map_or(0, Vec::len);
        let remaining = list["metadata"]["remainingItemCount"].as_u64();
        Ok(shown + usize::try_from(remaining.unwrap_or_default())?)
    }

    /// Waits until no more statuses come: how many came, and what `used` said when the last one did.
    async fn silence<T>(&mut self, used: impl Fn() -> Result<T>) -> Result<(f64, T)> {
        let (mut seen, mut since, mut at) = (f64::NAN, Instant::now(), used()?);
        let start = Instant::now();
        while since.elapsed() < SILENCE {
            if start.elapsed() > PATIENCE {
                bail!("the agent reports for ever");
            }
            let wait = json!({"n": 1_000_000_000_u64, "timeout_s": 0.2});
            let came = self.hub.ask("wait", &wait).await?["n"].as_f64();
            let came = came.unwrap_or_default();
            if came.total_cmp(&seen).is_ne() {
                (seen, since, at) = (came, Instant::now(), used()?);
            }
        }
        Ok((seen, at))
    }
}
