//! Many watchers of the same objects.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::Args;
use crate::api::{config_maps, create_many};
use crate::http::{Connection, Endpoint};
use crate::process::processor_time;
use crate::report::Report;
use crate::server::Server;

const BENCH: &str = "watch-fanout";
const WATCHERS: usize = 100;
const WRITES: usize = 1_000;

/// From the first write to the last event at the last watcher.
pub(crate) async fn run(drover: &Path, args: &Args, report: &mut Report) -> Result<()> {
    let servers = Server::both(drover, args.alone).await?;
    for round in 0..args.rounds {
        for server in &servers {
            let namespace = format!("fanout-{round}");
            let watches = prepare(&server.endpoint, &namespace).await?;
            let before = processor_time(&server.processes)?;
            let start = Instant::now();
            let readers = watches.into_iter().map(|(_connection, body)| read(body));
            let (seen, ()) = tokio::try_join!(
                try_join_all(readers),
                create_many(&server.endpoint, &namespace, WRITES)
            )?;
            let elapsed = start.elapsed().as_secs_f64();
            let used = (processor_time(&server.processes)? - before).as_secs_f64();
            let cut = seen.iter().filter(|seen| **seen < WRITES).count();
            let events = seen.iter().sum::<usize>() as f64;
            let mut add = |metric, unit, value| report.add(BENCH, server.name, metric, unit, value);
            add("events", "1/s", events / elapsed);
            add(
                "processor time per event, writes included",
                "us",
                used * 1e6 / events,
            );
            add("watches that the server cut", "of 100", cut as f64);
        }
    }
    Ok(())
}

async fn prepare(endpoint: &Endpoint, namespace: &str) -> Result<Vec<(Connection, Incoming)>> {
    let mut connection = endpoint.connect().await?;
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
    });
    connection
        .create("/api/v1/namespaces", object.to_string())
        .await?;
    let path = config_maps(namespace);
    let list = connection.call(Method::GET, &path, "").await?;
    let list: Value = serde_json::from_slice(&list)?;
    let revision = list["metadata"]["resourceVersion"]
        .as_str()
        .context("a list without a revision")?;
    let path = format!("{path}?watch=true&resourceVersion={revision}");
    let mut watches = Vec::new();
    for _ in 0..WATCHERS {
        let mut connection = endpoint.connect().await?;
        let body = connection.open(Method::GET, &path, "").await?;
        watches.push((connection, body));
    }
    Ok(watches)
}

/// Reads until all events have come or the server, which may find its reader too slow, ends the
/// watch; the answer is how many came.
///
/// The namespace may get one object of its own meanwhile, which is an event like any other: one
/// in a thousand does not matter here.
async fn read(mut body: Incoming) -> Result<usize> {
    let mut seen = 0;
    while seen < WRITES {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame?;
        let data = frame.data_ref().map(AsRef::as_ref).unwrap_or_default();
        seen += newlines(data);
    }
    Ok(seen)
}

fn newlines(data: &[u8]) -> usize {
    data.iter().map(|byte| usize::from(*byte == b'\n')).sum()
}
