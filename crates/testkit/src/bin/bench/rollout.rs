//! One placement and one set of works over all clusters of a hub: until clusters are chosen, and until every one of them has the work,
//! or a change of it.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Args;
use crate::http::{Connection, Endpoint};
use crate::process::{processor_time, processor_time_since};
use crate::report::Report;
use crate::scale::Events;
use crate::up::Fleet;

const BENCH: &str = "rollout";
const SPACE: &str = "shop";
const CLUSTERS: &str = "/apis/cluster.open-cluster-management.io";
const WORKS: &str = "/apis/work.open-cluster-management.io";
/// Connections that change labels.
const WRITERS: usize = 8;
/// The fleet comes to rest for so long before each measurement.
const CALM: Duration = Duration::from_secs(5);
/// How long one step may take, and how much more for each cluster.
const PATIENCE: Duration = Duration::from_mins(2);
const PATIENCE_EACH: Duration = Duration::from_millis(500);

/// Every size of fleet.
pub(crate) async fn run(drover: &Path, args: &Args, report: &mut Report) -> Result<()> {
    for _ in 0..args.rounds {
        for clusters in &args.clusters {
            let bed = Bed::start(drover, *clusters, !args.ephemeral).await?;
            bed.measure(report).await?;
        }
    }
    Ok(())
}

struct Bed {
    fleet: Fleet,
    endpoint: Endpoint,
    clusters: Vec<String>,
    name: String,
}

/// What is written, and where.
struct Write {
    method: Method,
    path: String,
    body: Value,
}

fn apply(path: &str, name: &str, body: Value) -> Write {
    Write {
        method: Method::PATCH,
        path: format!("{path}/{name}?fieldManager=bench&force=true"),
        body,
    }
}

async fn write(connection: &mut Connection, write: &Write) -> Result<()> {
    let body = write.body.to_string();
    let answer = if write.method == Method::PATCH {
        connection.apply(&write.path, body).await?
    } else {
        connection
            .call(write.method.clone(), &write.path, body)
            .await?
    };
    ensure!(!answer.is_empty(), "{}: an empty answer", write.path);
    Ok(())
}

impl Bed {
    async fn start(drover: &Path, clusters: u16, durable: bool) -> Result<Self> {
        let fleet = Fleet::start(drover, 1, clusters, durable).await?;
        let endpoint = Endpoint::read(&fleet.kubeconfig, Some("hub1"))?;
        let kept = if durable { "durable" } else { "ephemeral" };
        Ok(Self {
            fleet,
            endpoint,
            clusters: (1..=clusters).map(|at| format!("cluster{at}")).collect(),
            name: format!("1 hub, {clusters} clusters, {kept}"),
        })
    }

    async fn measure(&self, report: &mut Report) -> Result<()> {
        let mut connection = self.endpoint.connect().await?;
        let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}});
        write(&mut connection, &apply("/api/v1/namespaces", SPACE, space)).await?;
        let binding = json!({
            "apiVersion": "cluster.open-cluster-management.io/v1beta2", "kind": "ManagedClusterSetBinding",
            "metadata": {"name": "global", "namespace": SPACE}, "spec": {"clusterSet": "global"},
        });
        let bindings = format!("{CLUSTERS}/v1beta2/namespaces/{SPACE}/managedclustersetbindings");
        write(&mut connection, &apply(&bindings, "global", binding)).await?;
        self.placements(report).await?;
        self.works(report).await
    }

    /// Writes, waits for what follows, and reports both times.
    async fn step(
        &self,
        report: &mut Report,
        figures: [&'static str; 2],
        writes: Vec<Write>,
        done: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        tokio::time::sleep(CALM).await;
        let ids = self.fleet.processes();
        let (before, start) = (processor_time(&ids)?, Instant::now());
        let share = writes.len().div_ceil(WRITERS).max(1);
        let all = try_join_all(writes.chunks(share).map(|some| async move {
            let mut connection = self.endpoint.connect().await?;
            for one in some {
                write(&mut connection, one).await?;
            }
            Ok(())
        }));
        let count = u32::try_from(self.clusters.len())?;
        let patience = PATIENCE + PATIENCE_EACH * count;
        let both = async { tokio::try_join!(all, done) };
        let both = tokio::time::timeout(patience, both).await;
        both.with_context(|| format!("{}: not after {patience:?}", figures[0]))??;
        report.add(
            BENCH,
            &self.name,
            figures[0],
            "s",
            start.elapsed().as_secs_f64(),
        );
        let used = processor_time_since(&ids, before)?.as_secs_f64();
        report.add(BENCH, &self.name, figures[1], "s", used);
        Ok(())
    }

    async fn placements(&self, report: &mut Report) -> Result<()> {
        let path = format!("{CLUSTERS}/v1beta1/namespaces/{SPACE}/placementdecisions");
        let events = Events::open(&self.endpoint, &format!("{path}?watch=true")).await?;
        let mut chosen = Chosen {
            events,
            decisions: HashMap::new(),
        };
        let everybody: BTreeSet<String> = self.clusters.iter().cloned().collect();
        let nobody = BTreeSet::new();
        let figures = [
            "all clusters chosen after a placement is made",
            "processor time for it",
        ];
        let writes = vec![placement("all", &json!({}))];
        self.step(report, figures, writes, chosen.are("all", &everybody))
            .await?;
        let selector = json!({"labelSelector": {"matchLabels": {"zone": "east"}}});
        let east = json!({"predicates": [{"requiredClusterSelector": selector}]});
        let figures = ["none of the clusters chosen", "processor time for none"];
        let writes = vec![placement("east", &east)];
        self.step(report, figures, writes, chosen.are("east", &nobody))
            .await?;

        let label = |name: &String| {
            let body = json!({
                "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
                "metadata": {"name": name, "labels": {"zone": "east"}},
            });
            apply(&format!("{CLUSTERS}/v1/managedclusters"), name, body)
        };
        let first: Vec<String> = self.clusters.iter().take(1).cloned().collect();
        let one = first.iter().cloned().collect();
        let figures = [
            "one cluster chosen after its label changed",
            "processor time for one label",
        ];
        let writes = first.iter().map(label).collect();
        self.step(report, figures, writes, chosen.are("east", &one))
            .await?;
        let figures = [
            "all clusters chosen after all labels changed",
            "processor time for all labels",
        ];
        let writes = self.clusters.iter().skip(1).map(label).collect();
        self.step(report, figures, writes, chosen.are("east", &everybody))
            .await
    }

    async fn works(&self, report: &mut Report) -> Result<()> {
        let path = format!("{WORKS}/v1/manifestworks?watch=true");
        let mut events = Events::open(&self.endpoint, &path).await?;
        let count = self.clusters.len();
        let all = json!({"type": "All"});
        let progressive = json!({"type": "Progressive", "progressive": {"maxConcurrency": "10%"}});
        let steps = [
            (
                [
                    "a new set Available everywhere",
                    "processor time for the set",
                ],
                &all,
            ),
            (
                [
                    "a change to all at once Available everywhere",
                    "processor time for the change",
                ],
                &all,
            ),
            (
                [
                    "a change to 10 % at a time Available everywhere",
                    "processor time for 10 % at a time",
                ],
                &progressive,
            ),
        ];
        for (generation, (figures, strategy)) in (1..).zip(steps) {
            let writes = vec![set(generation, strategy)];
            self.step(report, figures, writes, events.wait(count, generation))
                .await?;
        }
        let path = format!("{WORKS}/v1alpha1/namespaces/{SPACE}/manifestworkreplicasets/web");
        let deletion = Write {
            method: Method::DELETE,
            path,
            body: json!({}),
        };
        let figures = ["a set and its works gone", "processor time for the end"];
        self.step(report, figures, vec![deletion], events.wait_gone(count))
            .await
    }
}

fn placement(name: &str, spec: &Value) -> Write {
    let body = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1beta1", "kind": "Placement",
        "metadata": {"name": name, "namespace": SPACE}, "spec": spec,
    });
    apply(
        &format!("{CLUSTERS}/v1beta1/namespaces/{SPACE}/placements"),
        name,
        body,
    )
}

fn set(generation: i64, strategy: &Value) -> Write {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "default"},
        "data": {"generation": generation.to_string(), "text": "x".repeat(200)},
    });
    let body = json!({
        "apiVersion": "work.open-cluster-management.io/v1alpha1", "kind": "ManifestWorkReplicaSet",
        "metadata": {"name": "web", "namespace": SPACE},
        "spec": {
            "manifestWorkTemplate": {"workload": {"manifests": [map]}},
            "cascadeDeletionPolicy": "Foreground",
            "placementRefs": [{"name": "all", "rolloutStrategy": strategy}],
        },
    });
    let path = format!("{WORKS}/v1alpha1/namespaces/{SPACE}/manifestworkreplicasets");
    apply(&path, "web", body)
}

#[derive(Deserialize)]
struct Event {
    object: Decisions,
}

#[derive(Deserialize)]
struct Decisions {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    decisions: Vec<Decision>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    cluster_name: String,
}

/// The clusters that placements have chosen, by their decision objects.
struct Chosen {
    events: Events,
    decisions: HashMap<String, HashMap<String, Vec<String>>>,
}

impl Chosen {
    /// Waits until a placement has chosen exactly these.
    async fn are(&mut self, placement: &str, expected: &BTreeSet<String>) -> Result<()> {
        loop {
            if let Some(known) = self.decisions.get(placement) {
                let count: usize = known.values().map(Vec::len).sum();
                let names: BTreeSet<&String> = known.values().flatten().collect();
                if count == expected.len() && names.into_iter().eq(expected) {
                    return Ok(());
                }
            }
            let Event { object } = serde_json::from_slice(&self.events.next().await?)?;
            let label = "cluster.open-cluster-management.io/placement";
            let of = object
                .metadata
                .labels
                .get(label)
                .cloned()
                .unwrap_or_default();
            let names = object.status.decisions.into_iter();
            let names = names.map(|decision| decision.cluster_name).collect();
            let known = self.decisions.entry(of).or_default();
            known.insert(object.metadata.name, names);
        }
    }
}
