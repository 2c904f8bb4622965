//! Every pair of ends, on every broker, through every scenario.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use drover_testkit::compat::{Outcome, Table};
use futures::StreamExt as _;

use crate::bed::Wire;
use crate::scenarios::Scenario;
use crate::world::{Side, World};

/// Cells that are played at once: most of the time they wait for each other's processes.
const AT_ONCE: usize = 8;
/// How long a peer that fails is given.
const SHORT: Duration = Duration::from_secs(15);

type Key = (Wire, Side, Side, Scenario);

const ROWS: &[(Wire, Side, Side)] = &[
    (Wire::Mosquitto, Side::Go, Side::Drover),
    (Wire::Mosquitto, Side::Drover, Side::Go),
    (Wire::Mosquitto, Side::Go, Side::Go),
    (Wire::MosquittoTls, Side::Go, Side::Drover),
    (Wire::MosquittoTls, Side::Drover, Side::Go),
    (Wire::MosquittoTls, Side::Go, Side::Go),
    (Wire::Relay, Side::Go, Side::Drover),
    (Wire::Relay, Side::Drover, Side::Go),
    (Wire::Relay, Side::Go, Side::Go),
    (Wire::Service, Side::Drover, Side::Go),
    (Wire::Service, Side::Go, Side::Drover),
    (Wire::GoBroker, Side::Go, Side::Drover),
    (Wire::GoBroker, Side::Drover, Side::Go),
    (Wire::GoBroker, Side::Go, Side::Go),
];

const HEAD: &str = "Peers: OCM's sdk-go v1.3.0 (its clients of works, and its gRPC broker with a service in memory), mosquitto 2.
*Go to Go* is the control: the same scenario with no end of ours.";

pub(crate) fn wire(wire: Wire) -> &'static str {
    match wire {
        Wire::Mosquitto => "mosquitto",
        Wire::MosquittoTls => "mosquitto, mTLS and password",
        Wire::Relay => "Drover's gRPC broker",
        Wire::Service => "Drover's gRPC broker, with a service",
        Wire::GoBroker => "sdk-go's gRPC broker, with a service",
    }
}

pub(crate) fn end(side: Side) -> &'static str {
    match side {
        Side::Drover => "Drover",
        Side::Go => "Go",
    }
}

/// What cannot be.
fn never(wire: Wire, source: Side, scenario: Scenario) -> Option<&'static str> {
    match (scenario, wire, source) {
        (_, Wire::Service, Side::Go) => {
            Some("The service is the source; others use the broker as a relay.")
        }
        (_, Wire::GoBroker, Side::Drover) => {
            Some("sdk-go's broker lets no source in: it refuses subscriptions without a cluster.")
        }
        (Scenario::Unversioned, Wire::Service | Wire::GoBroker, _) => {
            Some("The works of a hub have generations.")
        }
        (Scenario::Unversioned, _, Side::Drover) => {
            Some("Drover's source counts versions by itself.")
        }
        (Scenario::Rotation, Wire::Mosquitto, _) => Some("There are no certificates here."),
        _ => None,
    }
}

/// What fails because of Go alone.
fn peer_fails(_: Wire, _: Side, _: Side, _: Scenario) -> Option<&'static str> {
    None
}

fn name((on, source, agent, scenario): Key) -> String {
    let (source, agent) = (end(source), end(agent));
    format!("{source} to {agent} on {}/{}", wire(on), scenario.title())
}

/// Go with Go loses an event now and then: sdk-go's broker names a subscription before it has it, and its source publishes
/// before it listens. The control is played again then; what has an end of ours is played once.
async fn play(key: Key) -> Result<Outcome> {
    let (_, source, agent, _) = key;
    let mut tries = if (source, agent) == (Side::Go, Side::Go) {
        3
    } else {
        1
    };
    loop {
        tries -= 1;
        match once(key).await {
            Err(_) if tries > 0 => (),
            done => return done,
        }
    }
}

async fn once((wire, source, agent, scenario): Key) -> Result<Outcome> {
    let mut world = World::new(wire, source, agent, scenario).await?;
    let peer = peer_fails(wire, source, agent, scenario);
    if peer.is_some() || (source, agent) == (Side::Go, Side::Go) {
        world.patience = SHORT;
    }
    match (scenario.play(&mut world).await, peer) {
        (Ok(()), None) => Ok(Outcome::Pass),
        (Err(_), Some(how)) => Ok(Outcome::Peer(how.to_owned())),
        (Ok(()), Some(how)) => bail!("it works now, and should not: {how}"),
        (Err(error), None) => {
            let told = world.describe().await;
            Err(error).context(told)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn works_compatibility() {
    // For work on one cell: part of `row/scenario`, and the page is not looked at.
    let only = std::env::var("INTEROP_ONLY").unwrap_or_default();
    let mut results = BTreeMap::new();
    let mut cells = Vec::new();
    for &(on, source, agent) in ROWS {
        for scenario in Scenario::ALL {
            let key = (on, source, agent, scenario);
            match never(on, source, scenario) {
                Some(why) => drop(results.insert(key, Ok(Outcome::Never(why.to_owned())))),
                None if name(key).contains(&only) => cells.push(key),
                None => (),
            }
        }
    }
    let played = futures::stream::iter(cells).map(async |key| {
        let start = Instant::now();
        let outcome = play(key).await.with_context(|| name(key));
        eprintln!("{}: {} s", name(key), start.elapsed().as_secs());
        (key, outcome)
    });
    results.extend(played.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
    let failed: Vec<String> = results
        .values()
        .filter_map(|outcome| outcome.as_ref().err())
        .map(|error| format!("{error:#}"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} cells failed:\n\n{}",
        failed.len(),
        failed.join("\n\n")
    );
    if only.is_empty() {
        write(results).check().unwrap();
    }
}

fn write(mut results: BTreeMap<Key, Result<Outcome>>) -> Table {
    let mut columns = vec!["source", "agent", "broker"];
    columns.extend(Scenario::ALL.map(Scenario::title));
    let mut table = Table::new("works", HEAD, &columns);
    for &(on, source, agent) in ROWS {
        let cells = Scenario::ALL.map(|scenario| {
            let played = results.remove(&(on, source, agent, scenario));
            played.unwrap().unwrap()
        });
        table.row(&[end(source), end(agent), wire(on)], cells.to_vec());
    }
    table
}
