//! Fleets of many clusters with works: until all works are Available, at rest, and after a change to one work of every cluster.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Args;
use crate::http::{Connection, Endpoint};
use crate::process::{Memory, memory, processor_time, processor_time_since};
use crate::report::Report;
use crate::up::Fleet;

const BENCH: &str = "scale";
const HUBS: usize = 2;
/// Works of each cluster, and objects of each work.
const WORKS: usize = 20;
const OBJECTS: usize = 5;
/// Connections to each hub that create and change works.
const WRITERS: usize = 8;
/// How long works may take, and how much more for each cluster.
const PATIENCE: Duration = Duration::from_mins(2);
const PATIENCE_EACH: Duration = Duration::from_secs(1);
/// The fleet comes to rest for so long, and is watched for so long: every lease is renewed once a minute.
const CALM: Duration = Duration::from_secs(30);
const REST: Duration = Duration::from_mins(1);

/// Every size of fleet.
pub(crate) async fn run(drover: &Path, args: &Args, report: &mut Report) -> Result<()> {
    for _ in 0..args.rounds {
        for clusters in &args.clusters {
            measure(drover, *clusters, !args.ephemeral, report).await?;
        }
    }
    Ok(())
}

async fn measure(drover: &Path, clusters: u16, durable: bool, report: &mut Report) -> Result<()> {
    let fleet = Fleet::start(drover, HUBS, clusters, durable).await?;
    let kept = if durable { "durable" } else { "ephemeral" };
    let name = format!("{clusters} clusters, {kept}");
    let mut add = |figure, unit, value| report.add(BENCH, &name, figure, unit, value);
    let ids = fleet.processes();
    let number = usize::from(clusters);
    add("ready", "s", fleet.ready_in.as_secs_f64());
    add(
        "processor time until ready",
        "s",
        processor_time(&ids)?.as_secs_f64(),
    );
    add(
        "resident when ready",
        "MiB",
        memory(&ids, Memory::Resident)?,
    );

    let mut hubs = Vec::new();
    for hub in 0..HUBS {
        let endpoint = Endpoint::read(&fleet.kubeconfig, Some(&format!("hub{}", hub + 1)))?;
        let own = (0..number).filter(|at| at % HUBS == hub);
        hubs.push(
            Hub::new(
                endpoint,
                own.map(|at| format!("cluster{}", at + 1)).collect(),
            )
            .await?,
        );
    }
    let patience = PATIENCE + PATIENCE_EACH * u32::from(clusters);

    let before = processor_time(&ids)?;
    let start = Instant::now();
    everywhere(&mut hubs, 1, 0..WORKS, patience).await?;
    add("all works Available", "s", start.elapsed().as_secs_f64());
    let used = processor_time_since(&ids, before)?.as_secs_f64();
    add("processor time for all works", "s", used);
    add(
        "processor time per work",
        "ms",
        used * 1e3 / (number * WORKS) as f64,
    );
    add(
        "resident with works",
        "MiB",
        memory(&ids, Memory::Resident)?,
    );

    tokio::time::sleep(CALM).await;
    let before = processor_time(&ids)?;
    tokio::time::sleep(REST).await;
    let used = processor_time_since(&ids, before)?.as_secs_f64();
    add(
        "processor at rest",
        "% of a core",
        used / REST.as_secs_f64() * 100.0,
    );
    let resident = memory(&ids, Memory::Resident)?;
    add("resident at rest", "MiB", resident);
    add(
        "resident at rest per cluster",
        "MiB",
        resident / number as f64,
    );
    add("anonymous at rest", "MiB", memory(&ids, Memory::Anonymous)?);
    add("at most resident", "MiB", memory(&ids, Memory::Peak)?);

    let before = processor_time(&ids)?;
    let start = Instant::now();
    everywhere(&mut hubs, 2, 0..1, patience).await?;
    add(
        "one work of each cluster changed and Available",
        "s",
        start.elapsed().as_secs_f64(),
    );
    let used = processor_time_since(&ids, before)?.as_secs_f64();
    add("processor time for that change", "s", used);
    Ok(())
}

/// Writes the works with these numbers for every cluster, and waits until they are Available as written.
async fn everywhere(
    hubs: &mut [Hub],
    generation: i64,
    works: std::ops::Range<usize>,
    patience: Duration,
) -> Result<()> {
    let all = try_join_all(
        hubs.iter_mut()
            .map(|hub| hub.write(generation, works.clone())),
    );
    let done = tokio::time::timeout(patience, all).await;
    done.with_context(|| format!("works are not Available after {patience:?}"))??;
    Ok(())
}

/// One hub, its clusters, and a watch of its works.
struct Hub {
    endpoint: Endpoint,
    clusters: Vec<String>,
    events: Events,
}

impl Hub {
    async fn new(endpoint: Endpoint, clusters: Vec<String>) -> Result<Self> {
        let path = "/apis/work.open-cluster-management.io/v1/manifestworks?watch=true";
        let events = Events::open(&endpoint, path).await?;
        Ok(Self {
            endpoint,
            clusters,
            events,
        })
    }

    async fn write(&mut self, generation: i64, works: std::ops::Range<usize>) -> Result<()> {
        let Self {
            endpoint,
            clusters,
            events,
        } = self;
        let wanted = clusters.len() * works.len();
        let share = clusters.len().div_ceil(WRITERS).max(1);
        let endpoint = &*endpoint;
        let writers = clusters.chunks(share).map(|some| {
            let works = works.clone();
            async move {
                let mut connection = endpoint.connect().await?;
                for cluster in some {
                    for number in works.clone() {
                        write(&mut connection, cluster, number, generation).await?;
                    }
                }
                Ok(())
            }
        });
        tokio::try_join!(try_join_all(writers), events.wait(wanted, generation))?;
        Ok(())
    }
}

/// Creates a work, or changes it when it is not its first generation.
async fn write(
    connection: &mut Connection,
    cluster: &str,
    number: usize,
    generation: i64,
) -> Result<()> {
    let path =
        format!("/apis/work.open-cluster-management.io/v1/namespaces/{cluster}/manifestworks");
    let work = manifest_work(cluster, number, generation).to_string();
    if generation == 1 {
        return connection.create(&path, work).await;
    }
    let path = format!("{path}/work-{number}?fieldManager=bench&force=true");
    let answer = connection.apply(&path, work).await?;
    if answer.is_empty() {
        bail!("{path}: an empty answer");
    }
    Ok(())
}

fn manifest_work(cluster: &str, number: usize, generation: i64) -> Value {
    let manifests: Vec<Value> = (0..OBJECTS)
        .map(|at| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("work-{number}-{at}"), "namespace": "default"},
                "data": {"generation": generation.to_string(), "text": "x".repeat(200)},
            })
        })
        .collect();
    json!({
        "apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
        "metadata": {"name": format!("work-{number}"), "namespace": cluster},
        "spec": {"workload": {"manifests": manifests}},
    })
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    generation: i64,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    observed_generation: i64,
}

impl Object {
    /// Whether it shows applied and available objects of this generation.
    fn is_done(&self, generation: i64) -> bool {
        let holds = |kind: &str| {
            self.status.conditions.iter().any(|condition| {
                condition.kind == kind
                    && condition.status == "True"
                    && condition.observed_generation == generation
            })
        };
        self.metadata.generation == generation && holds("Applied") && holds("Available")
    }
}

/// The events of a watch.
pub(crate) struct Events {
    body: Incoming,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no end of a line.
    seen: usize,
    _connection: Connection,
}

impl Events {
    /// Watches what a path says.
    pub(crate) async fn open(endpoint: &Endpoint, path: &str) -> Result<Self> {
        let mut watching = endpoint.connect().await?;
        let body = watching.open(Method::GET, path, "").await?;
        Ok(Self {
            body,
            buffer: Vec::new(),
            seen: 0,
            _connection: watching,
        })
    }

    /// Waits until so many works are done in this generation.
    pub(crate) async fn wait(&mut self, wanted: usize, generation: i64) -> Result<()> {
        let mut done: HashMap<String, Vec<String>> = HashMap::new();
        let mut count = 0;
        while count < wanted {
            let line = self.next().await?;
            let Event { object, .. } = serde_json::from_slice(&line)?;
            if !object.is_done(generation) {
                continue;
            }
            let names = done.entry(object.metadata.namespace).or_default();
            if !names.contains(&object.metadata.name) {
                names.push(object.metadata.name);
                count += 1;
            }
        }
        Ok(())
    }

    /// Waits until so many objects were deleted.
    pub(crate) async fn wait_gone(&mut self, wanted: usize) -> Result<()> {
        let mut count = 0;
        while count < wanted {
            let Event { kind, .. } = serde_json::from_slice(&self.next().await?)?;
            count += usize::from(kind == "DELETED");
        }
        Ok(())
    }

    /// The next line.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            let new = &self.buffer[self.seen..];
            if let Some(end) = new.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.seen + end + 1);
                self.seen = 0;
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            self.seen = self.buffer.len();
            let frame = self.body.frame().await.context("the watch has ended")??;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }
}
