//! Works from a hub to its agents and statuses back, over gRPC and through mosquitto: `perf-role` processes under load.

use std::path::Path;

use anyhow::{Context, Result, bail};
use drover_testkit::process::free_port;
use drover_testkit::{Mosquitto, MosquittoOptions};
use serde_json::{Value, json};

use crate::process::{processor_time, processor_time_since, resident};
use crate::report::Report;
use crate::role::Role;

const BENCH: &str = "events";
/// Works, and events in each direction.
const WORKS: usize = 10_000;
/// Publications at once.
const IN_FLIGHT: usize = 20;

/// Every way, with few agents and with many, as fast as it goes.
pub(crate) async fn run(role: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    for _ in 0..rounds {
        for way in ["grpc", "mqtt"] {
            for agents in [1, 100] {
                for store in ["counter", "informer"] {
                    measure(role, way, agents, store, report).await?;
                }
            }
        }
    }
    Ok(())
}

async fn measure(
    role: &Path,
    way: &str,
    agents: usize,
    store: &str,
    report: &mut Report,
) -> Result<()> {
    let mut rig = Rig::start(role, way, agents, store).await?;
    let works = json!({"works": WORKS / agents, "agents": agents, "manifests": 10, "size": 1024, "version": 1});
    rig.hub.ask("start", &json!({})).await?;
    rig.hub.ask("load", &works).await?;
    rig.agents.ask("start", &json!({})).await?;
    if way == "grpc" {
        rig.hub.ask("subscribers", &json!({"n": agents})).await?;
    }
    let what = if store == "counter" {
        "without a store"
    } else {
        "whole client"
    };
    let name = format!("{way}, agents: {agents}, {what}");
    let mut add = |metric, unit, value| report.add(BENCH, &name, metric, unit, value);
    let (events, used) = rig.flow(false).await?;
    add("specs", "1/s", events);
    add("processor time per spec", "us", used);
    add("resident, agents", "MiB", resident(&[rig.agents.id()?])?);
    add("resident, hub", "MiB", resident(&[rig.hub.id()?])?);
    if store == "counter" {
        rig.agents.ask("load", &works).await?;
    }
    let (events, used) = rig.flow(true).await?;
    add("statuses", "1/s", events);
    add("processor time per status", "us", used);
    Ok(())
}

/// One hub, one process of agents, and what is between them.
struct Rig {
    hub: Role,
    agents: Role,
    broker: Option<Mosquitto>,
}

impl Rig {
    async fn start(role: &Path, way: &str, agents: usize, store: &str) -> Result<Self> {
        let broker = if way == "mqtt" {
            let options = MosquittoOptions {
                ..MosquittoOptions::default()
            };
            Some(Mosquitto::start(options).await?)
        } else {
            None
        };
        let address = match &broker {
            Some(broker) => broker.address(),
            None => format!("127.0.0.1:{}", free_port()?),
        };
        let flags = [
            format!("-transport={way}"),
            format!("-addr={address}"),
            format!("-agents={agents}"),
            format!("-store={store}"),
            "-source-id=bench".to_owned(),
            "-qps=1000000".to_owned(),
            "-burst=1000000".to_owned(),
        ];
        Ok(Self {
            hub: Role::start(role, "hub", &flags)?,
            agents: Role::start(role, "agent", &flags)?,
            broker,
        })
    }

    /// One event of each work, from the first publication to the last arrival: events a second, and processor time of all
    /// processes for each event.
    async fn flow(&mut self, back: bool) -> Result<(f64, f64)> {
        let broker = self.broker.as_ref().and_then(Mosquitto::id);
        let ids: Vec<u32> = [Some(self.hub.id()?), Some(self.agents.id()?), broker]
            .into_iter()
            .flatten()
            .collect();
        let (from, to) = if back {
            (&mut self.agents, &mut self.hub)
        } else {
            (&mut self.hub, &mut self.agents)
        };
        to.ask("reset", &json!({})).await?;
        let before = processor_time(&ids)?;
        let order = json!({"n": WORKS, "inflight": IN_FLIGHT});
        let wait = json!({"n": WORKS, "timeout_s": 120});
        let (sent, arrived) = tokio::try_join!(from.ask("publish", &order), to.ask("wait", &wait))?;
        let used = processor_time_since(&ids, before)?;
        if arrived["n"] != WORKS {
            bail!("of {WORKS} events {} arrived", arrived["n"]);
        }
        let stamp = |reply: &Value, name| reply[name].as_f64().context("a reply without a stamp");
        let seconds = (stamp(&arrived, "t1")? - stamp(&sent, "t0")?) / 1e9;
        let events = WORKS as f64;
        Ok((events / seconds, used.as_secs_f64() * 1e6 / events))
    }
}
