//! `drover status`: the fleet as a tree, what is wrong first.

use anyhow::{Result, anyhow, bail};
use drover_api::cluster::v1::ManagedCluster;
use drover_api::conditions::{Status, find};
use drover_api::work::v1::ManifestWork;
use drover_api::{Condition, names};
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use crate::cli::{self, Global, Output};
use crate::{connect, print};

#[derive(Debug, Serialize)]
struct Fleet {
    hubs: Vec<Hub>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Hub {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    clusters: Vec<Cluster>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    name: String,
    accepted: bool,
    joined: bool,
    available: String,
    kubernetes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    works: Vec<Work>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Work {
    name: String,
    manifests: usize,
    applied: String,
    available: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    feedback: Vec<String>,
}

/// Shows the fleet, or one cluster of it.
pub async fn run(args: cli::Status, global: &Global) -> Result<()> {
    let kubeconfig = connect::kubeconfig(global)?;
    let mut fleet = Fleet { hubs: Vec::new() };
    for name in hubs(&kubeconfig, global.context.as_deref()) {
        let client = connect::client(&kubeconfig, name.as_deref()).await?;
        let shown = name
            .or_else(|| kubeconfig.current_context.clone())
            .unwrap_or_default();
        fleet.hubs.push(look(&client, shown).await);
    }
    if let Some(wanted) = &args.cluster {
        for hub in &mut fleet.hubs {
            hub.clusters.retain(|cluster| cluster.name == *wanted);
        }
        fleet
            .hubs
            .retain(|hub| !hub.clusters.is_empty() || hub.problem.is_some());
        if fleet.hubs.iter().all(|hub| hub.clusters.is_empty()) {
            bail!("no hub has a cluster {wanted:?}; `drover status` lists them");
        }
    }
    match global.output {
        Output::Table => tree(&fleet, args.cluster.is_some()),
        format => print::value(&serde_json::to_value(&fleet)?, format),
    }
}

/// The contexts that `drover up` wrote for its hubs; otherwise the one that was asked for.
fn hubs(kubeconfig: &Kubeconfig, context: Option<&str>) -> Vec<Option<String>> {
    if context.is_some() {
        return vec![context.map(ToOwned::to_owned)];
    }
    let number = |name: &str| {
        name.strip_prefix("hub")
            .and_then(|rest| rest.parse::<u32>().ok())
    };
    let mut found: Vec<&String> = kubeconfig
        .contexts
        .iter()
        .map(|c| &c.name)
        .filter(|name| number(name).is_some())
        .collect();
    found.sort_by_key(|name| number(name));
    if found.is_empty() {
        vec![None]
    } else {
        found.into_iter().cloned().map(Some).collect()
    }
}

async fn look(client: &Client, name: String) -> Hub {
    match clusters(client).await {
        Ok(clusters) => Hub {
            name,
            problem: None,
            clusters,
        },
        Err(error) => Hub {
            name,
            problem: Some(error.to_string()),
            clusters: Vec::new(),
        },
    }
}

async fn clusters(client: &Client) -> Result<Vec<Cluster>> {
    let failed = |error: kube::Error| anyhow!(connect::explain(&error));
    let params = ListParams::default();
    let found = Api::<ManagedCluster>::all(client.clone())
        .list(&params)
        .await
        .map_err(failed)?;
    let works = Api::<ManifestWork>::all(client.clone())
        .list(&params)
        .await
        .map_err(failed)?;
    let mut clusters: Vec<Cluster> = found
        .items
        .iter()
        .map(|cluster| summary(cluster, &works.items))
        .collect();
    clusters.sort_by_key(|cluster| {
        let wrong =
            cluster.problem.is_some() || cluster.works.iter().any(|work| !work.problems.is_empty());
        (!wrong, natural(&cluster.name))
    });
    Ok(clusters)
}

/// Sorts `cluster10` behind `cluster9`.
fn natural(name: &str) -> (String, u64) {
    let text = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (text.to_owned(), name[text.len()..].parse().unwrap_or(0))
}

fn summary(cluster: &ManagedCluster, works: &[ManifestWork]) -> Cluster {
    let name = cluster.name_any();
    let status = cluster.status.clone().unwrap_or_default();
    let is = |kind: &str| {
        find(&status.conditions, kind).is_some_and(|c| Status::read(&c.status) == Status::True)
    };
    let available = find(&status.conditions, names::cluster::AVAILABLE);
    let problem = if !cluster.spec.hub_accepts_client {
        Some("not accepted: set spec.hubAcceptsClient to let it in".to_owned())
    } else if !is(names::cluster::JOINED) {
        Some("its agent has not joined yet".to_owned())
    } else {
        available
            .filter(|c| c.status != "True")
            .map(|c| format!("{}: {}", c.reason, c.message))
    };
    let mut own: Vec<Work> = works
        .iter()
        .filter(|work| work.namespace().as_deref() == Some(name.as_str()))
        .map(work_summary)
        .collect();
    own.sort_by_key(|work| (work.problems.is_empty(), work.name.clone()));
    Cluster {
        accepted: cluster.spec.hub_accepts_client,
        joined: is(names::cluster::JOINED),
        available: available.map_or_else(|| "Unknown".to_owned(), |c| c.status.clone()),
        kubernetes: status.version.kubernetes,
        problem,
        works: own,
        name,
    }
}

fn work_summary(work: &ManifestWork) -> Work {
    let status = work.status.clone().unwrap_or_default();
    let generation = work.metadata.generation;
    let current = |kind: &str| {
        find(&status.conditions, kind).filter(|c| {
            c.observed_generation
                .is_none_or(|seen| Some(seen) >= generation)
        })
    };
    let text = |condition: Option<&Condition>| {
        condition.map_or_else(|| "Unknown".to_owned(), |c| c.status.clone())
    };
    let mut problems = Vec::new();
    if work.metadata.deletion_timestamp.is_some() {
        problems.push("being deleted".to_owned());
    }
    let mut feedback = Vec::new();
    for manifest in &status.resource_status.manifests {
        let meta = &manifest.resource_meta;
        let place = if meta.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", meta.namespace)
        };
        let shown = format!("{} {place}{}", meta.kind, meta.name);
        for condition in manifest.conditions.iter().filter(|c| c.status != "True") {
            let matters =
                [names::work::APPLIED, names::work::AVAILABLE].contains(&condition.type_.as_str());
            if matters {
                problems.push(format!(
                    "{shown}: {}: {}",
                    condition.reason, condition.message
                ));
            }
        }
        let values = serde_json::to_value(&manifest.status_feedback).unwrap_or_default();
        for value in values["values"].as_array().into_iter().flatten() {
            let field = value["fieldValue"]
                .as_object()
                .and_then(|fields| fields.iter().find(|(key, _)| *key != "type"));
            if let (Some(name), Some((_, field))) = (value["name"].as_str(), field) {
                feedback.push(format!(
                    "{shown}: {name}={}",
                    field
                        .as_str()
                        .map_or_else(|| field.to_string(), ToOwned::to_owned)
                ));
            }
        }
    }
    let (applied, available) = (
        current(names::work::APPLIED),
        current(names::work::AVAILABLE),
    );
    if applied.is_none() && problems.is_empty() {
        problems.push("not reported yet".to_owned());
    }
    Work {
        name: work.name_any(),
        manifests: work.spec.workload.manifests.len(),
        applied: text(applied),
        available: text(available),
        problems,
        feedback,
    }
}

fn tree(fleet: &Fleet, detailed: bool) -> Result<()> {
    for hub in &fleet.hubs {
        match &hub.problem {
            Some(problem) => print::line(&format!("{}  {problem}", hub.name))?,
            None => print::line(&format!(
                "{}  {}",
                hub.name,
                count(hub.clusters.len(), "cluster")
            ))?,
        }
        for (i, cluster) in hub.clusters.iter().enumerate() {
            let last = i + 1 == hub.clusters.len();
            let (branch, stem) = if last {
                ("└─", "   ")
            } else {
                ("├─", "│  ")
            };
            print::line(&format!("{branch} {}", headline(cluster)))?;
            branches(cluster, stem, detailed)?;
        }
    }
    Ok(())
}

fn headline(cluster: &Cluster) -> String {
    let state = match &cluster.problem {
        Some(problem) => format!("✗ {problem}"),
        None => "✓ Available".to_owned(),
    };
    format!(
        "{}  {state}  {}  {}",
        cluster.name,
        cluster.kubernetes,
        count(cluster.works.len(), "work")
    )
}

fn branches(cluster: &Cluster, stem: &str, detailed: bool) -> Result<()> {
    for (i, work) in cluster.works.iter().enumerate() {
        let last = i + 1 == cluster.works.len();
        let (branch, deeper) = if last {
            ("└─", "   ")
        } else {
            ("├─", "│  ")
        };
        let mark = if work.problems.is_empty() {
            "✓"
        } else {
            "✗"
        };
        print::line(&format!(
            "{stem}{branch} {mark} {}  {}, Applied={} Available={}",
            work.name,
            count(work.manifests, "manifest"),
            work.applied,
            work.available
        ))?;
        let more = if detailed {
            work.feedback.as_slice()
        } else {
            &[]
        };
        for text in work.problems.iter().chain(more) {
            print::line(&format!("{stem}{deeper}{text}"))?;
        }
    }
    Ok(())
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
