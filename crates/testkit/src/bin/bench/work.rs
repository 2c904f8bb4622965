//! One work after the other: from its create on the hub to its status on the hub.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::http::Endpoint;
use crate::process::{processor_time, processor_time_since};
use crate::report::{Report, quantile};
use crate::up::Fleet;

const BENCH: &str = "work-latency";
const WORKS: usize = 100;
const PATH: &str = "/apis/work.open-cluster-management.io/v1/namespaces/cluster1/manifestworks";

/// Ephemeral, then durable.
pub(crate) async fn run(drover: &Path, report: &mut Report) -> Result<()> {
    for durable in [false, true] {
        let fleet = Fleet::start(drover, 2, 3, durable).await?;
        let name = if durable { "durable" } else { "ephemeral" };
        let endpoint = Endpoint::read(&fleet.kubeconfig, Some("hub1"))?;
        let mut connection = endpoint.connect().await?;
        let mut watching = endpoint.connect().await?;
        let watch = format!("{PATH}?watch=true");
        let mut events = Events::new(watching.open(Method::GET, &watch, "").await?);
        let before = processor_time(&fleet.processes())?;
        let mut times = Vec::new();
        for number in 0..WORKS {
            let work = format!("work-{number}");
            let body = manifest_work(&work).to_string();
            let start = Instant::now();
            connection.create(PATH, body).await?;
            while !is_done(&events.next().await?, &work) {}
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let used = processor_time_since(&fleet.processes(), before)?;
        for time in &times {
            report.add(BENCH, name, "create to Applied and Available", "ms", *time);
        }
        times.sort_by(f64::total_cmp);
        report.add(BENCH, name, "p95", "ms", quantile(&times, 0.95));
        let each = used.as_secs_f64() * 1e3 / WORKS as f64;
        report.add(BENCH, name, "processor time per work", "ms", each);
    }
    Ok(())
}

fn manifest_work(name: &str) -> Value {
    json!({
        "apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
        "metadata": {"name": name, "namespace": "cluster1"},
        "spec": {"workload": {"manifests": [{
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default"},
            "data": {"key": "value"},
        }]}},
    })
}

/// Whether an event shows this work applied and available in its current generation.
fn is_done(event: &Value, work: &str) -> bool {
    let object = &event["object"];
    let conditions = object["status"]["conditions"].as_array();
    let holds = |kind: &str| {
        conditions.into_iter().flatten().any(|condition| {
            condition["type"] == kind
                && condition["status"] == "True"
                && condition["observedGeneration"] == object["metadata"]["generation"]
        })
    };
    object["metadata"]["name"] == work && holds("Applied") && holds("Available")
}

/// The events of a watch.
#[derive(Debug)]
struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: Vec::new(),
        }
    }

    async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            let frame = self.body.frame().await.context("the watch has ended")??;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }
}
