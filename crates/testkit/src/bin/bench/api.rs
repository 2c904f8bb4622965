//! One API server: start, writes, lists.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use http::Method;
use serde_json::json;

use crate::Args;
use crate::http::Endpoint;
use crate::process::{processor_time, resident};
use crate::report::{Report, quantile};
use crate::server::Server;

/// Clients at the same time.
pub(crate) const CLIENTS: usize = 16;
/// Length of an object in JSON, as the client sends it.
const SIZE: usize = 1024;
/// Objects of the list.
const OBJECTS: usize = 10_000;
/// Lists of one server.
const LISTS: usize = 20;

/// Time until the port answers, and memory at rest.
pub(crate) async fn start(drover: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    for _ in 0..rounds {
        let server = Server::drover(drover).await?;
        let time = server.started_in.as_secs_f64() * 1e3;
        report.add("api-start", server.name, "first answer", "ms", time);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let memory = resident(&server.processes)?;
        report.add(
            "api-start",
            server.name,
            "resident after 5 s",
            "MiB",
            memory,
        );
    }
    Ok(())
}

/// Durable creates.
pub(crate) async fn writes(drover: &Path, args: &Args, report: &mut Report) -> Result<()> {
    const BENCH: &str = "api-writes";
    let servers = Server::both(drover, args.alone).await?;
    for round in 0..args.rounds {
        for server in &servers {
            let before = processor_time(&server.processes)?;
            let start = Instant::now();
            let until = start + Duration::from_secs(args.seconds);
            let clients =
                (0..CLIENTS).map(|client| write_until(&server.endpoint, round, client, until));
            let mut times = try_join_all(clients).await?.concat();
            let elapsed = start.elapsed().as_secs_f64();
            let used = processor_time(&server.processes)? - before;
            times.sort_by(f64::total_cmp);
            let count = times.len() as f64;
            let mut add = |metric, unit, value| report.add(BENCH, server.name, metric, unit, value);
            add("writes", "1/s", count / elapsed);
            add("p50", "ms", quantile(&times, 0.5));
            add("p99", "ms", quantile(&times, 0.99));
            add(
                "processor time per write",
                "us",
                used.as_secs_f64() * 1e6 / count,
            );
            add("resident", "MiB", resident(&server.processes)?);
        }
    }
    Ok(())
}

async fn write_until(
    endpoint: &Endpoint,
    round: usize,
    client: usize,
    until: Instant,
) -> Result<Vec<f64>> {
    let mut connection = endpoint.connect().await?;
    let mut times = Vec::new();
    for number in 0_usize.. {
        let body = config_map(&format!("write-{round}-{client}-{number}"));
        let start = Instant::now();
        if start >= until {
            break;
        }
        connection.create(&config_maps("default"), body).await?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Full lists of many objects.
pub(crate) async fn lists(drover: &Path, args: &Args, report: &mut Report) -> Result<()> {
    const BENCH: &str = "api-list";
    let servers = Server::both(drover, args.alone).await?;
    let mut connections = Vec::new();
    for server in &servers {
        create_many(&server.endpoint, "default", OBJECTS).await?;
        connections.push(server.endpoint.connect().await?);
    }
    for _ in 0..args.rounds {
        for (server, connection) in servers.iter().zip(&mut connections) {
            let before = processor_time(&server.processes)?;
            for _ in 0..LISTS {
                let start = Instant::now();
                let answer = connection
                    .call(Method::GET, &config_maps("default"), "")
                    .await?;
                let time = start.elapsed().as_secs_f64() * 1e3;
                anyhow::ensure!(answer.len() > OBJECTS * SIZE, "the list is too short");
                report.add(BENCH, server.name, "list of 10,000", "ms", time);
            }
            let used = processor_time(&server.processes)? - before;
            let each = used.as_secs_f64() * 1e3 / LISTS as f64;
            report.add(BENCH, server.name, "processor time per list", "ms", each);
            let memory = resident(&server.processes)?;
            report.add(BENCH, server.name, "resident", "MiB", memory);
        }
    }
    Ok(())
}

/// Makes objects with all clients.
pub(crate) async fn create_many(endpoint: &Endpoint, namespace: &str, count: usize) -> Result<()> {
    let clients = (0..CLIENTS).map(|client| {
        let path = config_maps(namespace);
        async move {
            let mut connection = endpoint.connect().await?;
            for number in (client..count).step_by(CLIENTS) {
                let body = config_map(&format!("object-{number}"));
                connection.create(&path, body).await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(clients).await.map(drop)
}

/// The path of the config maps of a namespace.
pub(crate) fn config_maps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// A config map of [`SIZE`] bytes.
fn config_map(name: &str) -> Vec<u8> {
    let object = |filling: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"filling": filling},
        })
        .to_string()
        .into_bytes()
    };
    let rest = SIZE.saturating_sub(object("").len());
    object(&"x".repeat(rest))
}
