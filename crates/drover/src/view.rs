//! What people want to know of a fleet: objects become rows, and what is wrong comes first. Nothing here reads or prints.

use std::collections::BTreeMap;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::conditions::{Status, find, is, is_true};
use drover_api::names::{cluster as of_cluster, work as of_work};
use drover_api::work::v1::ManifestWork;
use drover_api::{Condition, Time};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use serde::Serialize;
use serde_json::Value;

/// How bad something is; the worst is the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Somebody should look.
    Failing,
    /// It takes time, or a decision.
    Waiting,
    /// As it should be.
    Good,
}

/// Why something is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// What, and why.
    pub text: String,
    /// For how long, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Whether the hub lets it in.
    pub accepted: bool,
    /// Whether its agent came.
    pub joined: bool,
    /// Whether its API answers: True, False or Unknown.
    pub available: String,
    /// Version of Kubernetes.
    pub kubernetes: String,
    /// When it was made known to the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The set it is in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_set: String,
    /// Keys and effects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<String>,
    /// Processors and memory.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, String>,
    /// What is wrong, the worst first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// A work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// Its name.
    pub name: String,
    /// How many objects it asks for.
    pub manifests: usize,
    /// The generation of its spec.
    pub generation: i64,
    /// Whether its newest spec is applied: True, False or Unknown.
    pub applied: String,
    /// Whether the objects of its newest spec are there.
    pub available: String,
    /// Whether its objects do what they are for; absent where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<String>,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// What is wrong, the worst first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// Values that were read back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feedback: Vec<String>,
}

/// The works of one cluster are found by its name, then by theirs.
pub type WorkKey = (String, String);

/// What is known of one hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hub {
    /// The context it is reached by.
    pub name: String,
    /// Why nothing, or nothing new, is known.
    pub problem: Option<String>,
    /// Its clusters.
    pub clusters: BTreeMap<String, Cluster>,
    /// Their works.
    pub works: BTreeMap<WorkKey, Work>,
}

/// How many there are, by how they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Of which somebody should look at.
    pub failing: usize,
    /// Which take time, or a decision.
    pub waiting: usize,
    /// Which are as they should be.
    pub good: usize,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, severity: Severity) {
        match severity {
            Severity::Failing => self.failing += 1,
            Severity::Waiting => self.waiting += 1,
            Severity::Good => self.good += 1,
        }
    }

    /// Of works.
    pub fn of(works: &[&Work]) -> Self {
        let mut sum = Self::default();
        for work in works {
            sum.add(work.severity());
        }
        sum
    }

    /// All of them.
    pub fn total(self) -> usize {
        self.failing + self.waiting + self.good
    }
}

fn worst(problems: &[Problem]) -> Severity {
    problems
        .iter()
        .map(|problem| problem.severity)
        .min()
        .unwrap_or(Severity::Good)
}

impl Cluster {
    /// How the cluster itself is.
    pub fn severity(&self) -> Severity {
        worst(&self.problems)
    }
}

impl Work {
    /// How it is.
    pub fn severity(&self) -> Severity {
        worst(&self.problems)
    }
}

impl Hub {
    /// The works of a cluster, the worst first.
    pub fn works_of(&self, cluster: &str) -> Vec<&Work> {
        let from = (cluster.to_owned(), String::new());
        let mut own: Vec<&Work> = self
            .works
            .range(from..)
            .take_while(|((of, _), _)| of == cluster)
            .map(|(_, work)| work)
            .collect();
        own.sort_by_key(|work| (work.severity(), natural(&work.name)));
        own
    }

    /// The clusters with their works, the worst first: a cluster is as bad as the worst of its works.
    pub fn ordered(&self) -> Vec<(&Cluster, Vec<&Work>)> {
        let mut all: Vec<_> = self
            .clusters
            .values()
            .map(|cluster| (cluster, self.works_of(&cluster.name)))
            .collect();
        all.sort_by_key(|(cluster, works)| {
            let work = works.first().map_or(Severity::Good, |work| work.severity());
            let own = cluster.severity();
            (own.min(work), own, natural(&cluster.name))
        });
        all
    }

    /// How many clusters, and how many works.
    pub fn tallies(&self) -> (Tally, Tally) {
        let (mut clusters, mut works) = (Tally::default(), Tally::default());
        for cluster in self.clusters.values() {
            clusters.add(cluster.severity());
        }
        for work in self.works.values() {
            works.add(work.severity());
        }
        (clusters, works)
    }
}

/// Keeps a map as a list and watch tell: a new list replaces it once it was read whole.
pub fn hear<K, V, S>(
    known: &mut BTreeMap<K, V>,
    listed: &mut Option<BTreeMap<K, V>>,
    event: Event<S>,
    row: impl Fn(&S) -> (K, V),
) where
    K: Ord,
{
    match event {
        Event::Init => *listed = Some(BTreeMap::new()),
        Event::InitApply(object) => {
            let (key, value) = row(&object);
            listed.get_or_insert_default().insert(key, value);
        }
        Event::InitDone => *known = listed.take().unwrap_or_default(),
        Event::Apply(object) => {
            let (key, value) = row(&object);
            known.insert(key, value);
        }
        Event::Delete(object) => {
            known.remove(&row(&object).0);
        }
    }
}

/// Sorts `cluster10` behind `cluster9`.
pub fn natural(name: &str) -> (String, u64) {
    let text = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (text.to_owned(), name[text.len()..].parse().unwrap_or(0))
}

/// How long ago, in the largest unit that says enough.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The row of a cluster.
pub fn cluster(found: &ManagedCluster) -> (String, Cluster) {
    let name = found.name_any();
    let status = found.status.clone().unwrap_or_default();
    let available = find(&status.conditions, of_cluster::AVAILABLE);
    let capacity = ["cpu", "memory"].into_iter().filter_map(|resource| {
        let quantity = status.capacity.get(resource)?;
        Some((resource.to_owned(), quantity.0.clone()))
    });
    let taint = |taint: &drover_api::cluster::v1::Taint| {
        let effect = serde_json::to_value(taint.effect).unwrap_or_default();
        format!("{}:{}", taint.key, effect.as_str().unwrap_or_default())
    };
    let mut problems = cluster_problems(found, &status.conditions);
    problems.sort_by_key(|problem| problem.severity);
    let row = Cluster {
        accepted: found.spec.hub_accepts_client,
        joined: is_true(&status.conditions, of_cluster::JOINED),
        available: text(available),
        created: created(found.metadata.creation_timestamp.as_ref()),
        cluster_set: found
            .labels()
            .get(drover_api::names::CLUSTER_SET_LABEL)
            .cloned()
            .unwrap_or_default(),
        taints: found.spec.taints.iter().map(taint).collect(),
        capacity: capacity.collect(),
        kubernetes: status.version.kubernetes,
        problems,
        name: name.clone(),
    };
    (name, row)
}

fn cluster_problems(found: &ManagedCluster, conditions: &[Condition]) -> Vec<Problem> {
    let name = found.name_any();
    let mut problems = Vec::new();
    if let Some(since) = &found.metadata.deletion_timestamp {
        let why = find(conditions, of_cluster::DELETING);
        let why = why.map_or_else(String::new, |why| format!(": {}", why.message));
        problems.push(Problem {
            severity: Severity::Waiting,
            text: format!("is leaving{why}"),
            since: Some(since.0),
        });
    }
    let accepted = find(conditions, of_cluster::HUB_ACCEPTED);
    if !found.spec.hub_accepts_client {
        let denied = accepted.filter(|c| c.reason == of_cluster::REASON_DENIED);
        let what = denied.map_or("not accepted", |_| "denied");
        let created = || created(found.metadata.creation_timestamp.as_ref());
        problems.push(Problem {
            severity: Severity::Waiting,
            text: format!("{what}: `drover clusters accept {name}` lets it in"),
            since: denied.map_or_else(created, |c| Some(since(c))),
        });
        return problems;
    }
    if !is_true(conditions, of_cluster::JOINED) {
        let text = "accepted, but its agent has not joined yet".to_owned();
        problems.push(Problem {
            severity: Severity::Waiting,
            text,
            since: accepted.map(since),
        });
        return problems;
    }
    match find(conditions, of_cluster::AVAILABLE) {
        None => problems.push(Problem {
            severity: Severity::Waiting,
            text: "its agent has not reported yet".to_owned(),
            since: find(conditions, of_cluster::JOINED).map(since),
        }),
        Some(condition) if condition.status != Status::True.as_str() => {
            problems.push(failing(condition, ""));
        }
        Some(_) => {}
    }
    for kind in [of_cluster::CLOCK_SYNCED, of_cluster::CERTIFICATE_ROTATED] {
        if let Some(condition) = find(conditions, kind)
            && condition.status == Status::False.as_str()
        {
            problems.push(failing(condition, ""));
        }
    }
    problems
}

/// The row of a work.
pub fn work(found: &ManifestWork) -> (WorkKey, Work) {
    let status = found.status.clone().unwrap_or_default();
    let current = |kind: &str| {
        find(&status.conditions, kind).filter(|condition| is_current(found, condition))
    };
    let row = Work {
        name: found.name_any(),
        manifests: found.spec.workload.manifests.len(),
        generation: found.metadata.generation.unwrap_or_default(),
        applied: text(current(of_work::APPLIED)),
        available: text(current(of_work::AVAILABLE)),
        healthy: current(of_work::HEALTHY).map(|condition| condition.status.clone()),
        created: created(found.metadata.creation_timestamp.as_ref()),
        problems: work_problems(found, &status.conditions),
        feedback: feedback(found),
    };
    let cluster = found.namespace().unwrap_or_default();
    ((cluster, row.name.clone()), row)
}

fn is_current(work: &ManifestWork, condition: &Condition) -> bool {
    condition
        .observed_generation
        .is_none_or(|seen| Some(seen) >= work.metadata.generation)
}

fn work_problems(found: &ManifestWork, conditions: &[Condition]) -> Vec<Problem> {
    let mut problems = manifest_problems(found);
    if let Some(since) = &found.metadata.deletion_timestamp {
        problems.push(Problem {
            severity: Severity::Waiting,
            text: "is being deleted".to_owned(),
            since: Some(since.0),
        });
    } else {
        match find(conditions, of_work::APPLIED) {
            None => problems.push(Problem {
                severity: Severity::Waiting,
                text: "not reported yet".to_owned(),
                since: created(found.metadata.creation_timestamp.as_ref()),
            }),
            Some(applied) if !is_current(found, applied) => problems.push(Problem {
                severity: Severity::Waiting,
                text: format!(
                    "generation {} not reported yet, only {}",
                    found.metadata.generation.unwrap_or_default(),
                    applied.observed_generation.unwrap_or_default()
                ),
                since: None,
            }),
            Some(_) => {}
        }
    }
    // What the manifests say already is not said again.
    if problems.is_empty() {
        for kind in [of_work::APPLIED, of_work::AVAILABLE, of_work::HEALTHY] {
            if let Some(condition) = find(conditions, kind)
                && condition.status != Status::True.as_str()
            {
                problems.push(failing(condition, ""));
                break;
            }
        }
    }
    if is(conditions, of_work::DEGRADED, Status::True) {
        let degraded = find(conditions, of_work::DEGRADED);
        problems.extend(degraded.map(|condition| failing(condition, "degraded: ")));
    }
    problems.sort_by_key(|problem| problem.severity);
    problems
}

/// The first thing that is wrong with each manifest: one that is not applied is not available for the same reason.
fn manifest_problems(found: &ManifestWork) -> Vec<Problem> {
    let status = found.status.as_ref();
    let manifests = status.map_or(&[][..], |status| &status.resource_status.manifests);
    let wrong = manifests.iter().filter_map(|manifest| {
        let kinds = [of_work::APPLIED, of_work::AVAILABLE, of_work::HEALTHY];
        let condition = kinds.iter().find_map(|kind| {
            find(&manifest.conditions, kind)
                .filter(|condition| condition.status != Status::True.as_str())
        })?;
        Some(failing(
            condition,
            &format!("{}: ", place(&manifest.resource_meta)),
        ))
    });
    wrong.collect()
}

fn place(meta: &drover_api::work::v1::ManifestResourceMeta) -> String {
    if meta.namespace.is_empty() {
        format!("{} {}", meta.kind, meta.name)
    } else {
        format!("{} {}/{}", meta.kind, meta.namespace, meta.name)
    }
}

/// What a condition complains of. One that is Unknown waits, except where a cluster is not heard of any more.
fn failing(condition: &Condition, of: &str) -> Problem {
    let lost = condition.type_ == of_cluster::AVAILABLE;
    let waits = condition.status == Status::Unknown.as_str() && !lost;
    let message = condition.message.trim();
    let text = if message.is_empty() {
        format!("{of}{}", condition.reason)
    } else {
        format!("{of}{}: {message}", condition.reason)
    };
    Problem {
        severity: if waits {
            Severity::Waiting
        } else {
            Severity::Failing
        },
        text,
        since: Some(since(condition)),
    }
}

fn feedback(found: &ManifestWork) -> Vec<String> {
    let status = found.status.as_ref();
    let manifests = status.map_or(&[][..], |status| &status.resource_status.manifests);
    let mut all = Vec::new();
    for manifest in manifests {
        let values = serde_json::to_value(&manifest.status_feedback).unwrap_or_default();
        for value in values["values"].as_array().into_iter().flatten() {
            let field = value["fieldValue"]
                .as_object()
                .and_then(|fields| fields.iter().find(|(key, _)| *key != "type"));
            if let (Some(name), Some((_, field))) = (value["name"].as_str(), field) {
                let field = match field {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                all.push(format!(
                    "{}: {name}={field}",
                    place(&manifest.resource_meta)
                ));
            }
        }
    }
    all
}

fn text(condition: Option<&Condition>) -> String {
    condition.map_or_else(
        || Status::Unknown.as_str().to_owned(),
        |condition| condition.status.clone(),
    )
}

fn since(condition: &Condition) -> Timestamp {
    condition.last_transition_time.0
}

fn created(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

#[cfg(test)]
mod tests;
