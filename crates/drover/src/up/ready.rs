//! Waits until every hub serves and every cluster is joined and available, and shows how far it is.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use drover_api::cluster::v1::ManagedCluster;
use drover_api::conditions::is_true;
use drover_api::names::cluster as words;
use drover_runtime::health::Health;
use indicatif::{ProgressBar, ProgressStyle};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::member::Member;
use crate::cli::Output;

/// How long a fleet may take, and how much more for each cluster.
const PATIENCE: Duration = Duration::from_mins(1);
const PATIENCE_EACH: Duration = Duration::from_secs(1);
/// How often to look: in process this costs microseconds.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits for the hubs, each with its health, and for `clusters` clusters on all of them together.
pub async fn wait(
    hubs: &[Member],
    health: &[Health],
    clusters: usize,
    output: Output,
) -> Result<()> {
    let bar = bar(clusters, output);
    let start = Instant::now();
    let limit = PATIENCE + PATIENCE_EACH * u32::try_from(clusters).unwrap_or(u32::MAX);
    loop {
        let mut waiting = look(hubs, clusters).await;
        let late = hubs.iter().zip(health).filter(|(_, of)| !of.ready().0);
        waiting.extend(late.map(|(hub, _)| format!("{} does not serve yet", hub.name)));
        bar.set_position((clusters - waiting.len().min(clusters)) as u64);
        if waiting.is_empty() {
            bar.finish_and_clear();
            return Ok(());
        }
        if start.elapsed() > limit {
            bar.finish_and_clear();
            bail!(
                "the fleet is not ready after {} s: {}; `--log info` tells more",
                limit.as_secs(),
                waiting
                    .iter()
                    .take(5)
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            );
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn bar(clusters: usize, output: Output) -> ProgressBar {
    if !output.is_for_people() || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(clusters as u64);
    if let Ok(style) = ProgressStyle::with_template(
        "starting  {bar:30}  {pos}/{len} clusters available  {elapsed}",
    ) {
        bar.set_style(style);
    }
    bar
}

/// The clusters that are waited for, each with what it lacks.
async fn look(hubs: &[Member], clusters: usize) -> Vec<String> {
    let mut waiting = Vec::new();
    let mut seen = 0;
    for hub in hubs {
        let api: Api<ManagedCluster> = Api::all(hub.client.clone());
        // Before the hub has its definitions there is nothing to list.
        let Ok(list) = api.list(&ListParams::default()).await else {
            continue;
        };
        for cluster in list.items {
            seen += 1;
            let conditions = cluster
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice())
                .unwrap_or_default();
            let lacks = [words::HUB_ACCEPTED, words::JOINED, words::AVAILABLE];
            if let Some(lacks) = lacks.into_iter().find(|kind| !is_true(conditions, kind)) {
                waiting.push(format!("{} lacks {lacks}", cluster.name_any()));
            }
        }
    }
    if seen < clusters {
        waiting.extend((seen..clusters).map(|_| "a cluster has not asked to join".to_owned()));
    }
    waiting
}
