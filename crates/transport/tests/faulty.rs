//! Clients on a bus that does wrong: once it is well again, both sides agree.

use std::sync::Arc;
use std::time::Duration;

use drover_client::{
    AgentOptions, AgentWorks, DriverConfig, RateLimit, SourceOptions, SourceWorks, Work, WorkSpec,
};
use drover_protocol::names;
use drover_protocol::raw::Raw;
use drover_protocol::work::Condition;
use drover_transport::memory::{Faults, MemoryBus};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const CLUSTER: &str = "c1";

fn driver(seed: u128) -> DriverConfig {
    let (began, start) = (Timestamp::UNIX_EPOCH, Instant::now());
    DriverConfig {
        rate: None::<RateLimit>,
        resync_every: Some(Duration::from_secs(30)),
        clock: Arc::new(move || began + Duration::from_hours(400_000) + start.elapsed()),
        seed,
        ..DriverConfig::default()
    }
}

fn work(name: &str, value: u64) -> Work {
    let manifest =
        serde_json::json!({"kind": "ConfigMap", "metadata": {"name": "m"}, "value": value});
    let mut work = Work {
        spec: Arc::new(WorkSpec {
            manifests: vec![Raw::of(&manifest).expect("a value is JSON")],
            ..WorkSpec::default()
        }),
        ..Work::default()
    };
    work.metadata.name = name.into();
    work.metadata.namespace = CLUSTER.into();
    work
}

/// What the controllers of a cluster do: they apply, and remove what is deleted.
async fn control(agent: AgentWorks) {
    loop {
        for work in agent.list() {
            let uid = &work.metadata.uid;
            if work.metadata.deleting() {
                agent.remove_finalizer(uid, names::WORK_FINALIZER).ok();
                continue;
            }
            let applied = Condition {
                condition_type: "Applied".into(),
                status: "True".into(),
                observed_generation: work.metadata.generation,
                ..Condition::default()
            };
            if agent.add_finalizer(uid, names::WORK_FINALIZER).is_ok()
                && work.status.conditions != [applied.clone()]
            {
                let mut status = work.status.clone();
                status.conditions = vec![applied];
                agent.set_status(uid, status).ok();
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn agree(source: &SourceWorks, agent: &AgentWorks) -> bool {
    let wanted = source.list(CLUSTER);
    let same = |work: &Arc<Work>| {
        let copy = agent.get_uid(&work.metadata.uid);
        let reported = work
            .status
            .conditions
            .first()
            .map(|c| c.observed_generation);
        !work.metadata.deleting()
            && copy.is_some_and(|copy| copy.spec == work.spec && copy.status == work.status)
            && reported == Some(work.metadata.generation)
    };
    wanted.len() == agent.list().len() && wanted.iter().all(same)
}

async fn check(seed: u64, faults: Faults) {
    let bus = MemoryBus::with_faults(Faults { seed, ..faults });
    let stop = CancellationToken::new();
    let mut options = SourceOptions::new("hub-a");
    options.driver = driver(u128::from(seed));
    let (source, driving) = SourceWorks::new(options, Arc::new(bus.clone()));
    tokio::spawn(driving.run(stop.clone()));
    let mut options = AgentOptions::new("c1-agent", CLUSTER);
    options.driver = driver(u128::from(seed) + 1);
    let (agent, driving) = AgentWorks::new(options, Arc::new(bus.clone()));
    tokio::spawn(driving.run(stop.clone()));
    let controllers = tokio::spawn(control(agent.clone()));
    for value in 0..40 {
        let name = ["a", "b", "c"][(value % 3) as usize];
        match value % 7 {
            6 => source.delete(CLUSTER, name),
            _ if source.get(CLUSTER, name).is_some() => {
                source.update(work(name, value)).expect("it is there");
            }
            _ => {
                source.create(work(name, value)).expect("it is not there");
            }
        }
        sleep(Duration::from_millis(30)).await;
    }
    bus.set_faults(Faults::default());
    let healed = async {
        while !agree(&source, &agent) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let patience = Duration::from_mins(10);
    let healed = tokio::time::timeout(patience, healed).await;
    assert!(healed.is_ok(), "seed {seed}: both sides agree in time");
    controllers.abort();
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn clients_on_a_bus_that_loses_agree_later() {
    for seed in 0..20 {
        let faults = Faults {
            loss: 0.2,
            duplicate: 0.1,
            reorder: 0.3,
            delay: Duration::from_millis(80),
            cut: 0.05,
            ..Faults::default()
        };
        check(seed, faults).await;
    }
}

#[tokio::test(start_paused = true)]
async fn clients_on_a_bus_that_is_slow_agree_later() {
    for seed in 0..20 {
        let faults = Faults {
            delay: Duration::from_secs(2),
            ..Faults::default()
        };
        check(seed, faults).await;
    }
}
