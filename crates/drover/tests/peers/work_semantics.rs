//! OCM's work agent and Drover's, each on a real kube-apiserver of its own, get the same works and meet the same accidents: what they
//! report, and what is in their clusters, is the same, but for what [`features`] notes.

mod features;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use drover_agent::work::{self, hub_kube::HubKube, identity_for};
use drover_runtime::clock::Clock;
use drover_runtime::supervise::Tasks;
use drover_testkit::ocm::{OcmAgents, definitions, namespace};
use drover_testkit::{KubeApi, KubeOptions, Process, eventually};
use futures::future::join_all;
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::world::{LONG, api, apply, works};
use features::{Feature, Step};
use snapshot::Snapshot;

const CLUSTER: &str = "cluster1";
/// OCM's agent looks at each status every two to four seconds: what did not change for this long has come to rest.
const REST: Duration = Duration::from_secs(6);

/// One agent and the API server that is both its hub and its cluster.
struct Side {
    kube: KubeApi,
    client: Client,
}

impl Side {
    async fn start() -> Self {
        // No controllers: nothing but the agents makes or changes what works name.
        let kube = KubeApi::start(KubeOptions::default()).await.unwrap();
        let client = kube.client().await.unwrap();
        definitions(
            &kube.kubeconfig(),
            &["manifestworks", "appliedmanifestworks"],
        )
        .unwrap();
        namespace(&client, CLUSTER).await.unwrap();
        Self { kube, client }
    }

    async fn ocm(&self) -> (OcmAgents, Process) {
        let agents = OcmAgents::prepare(CLUSTER, self.kube.kubeconfig(), &self.client)
            .await
            .unwrap();
        let agent = agents.work("kube", &self.kube.kubeconfig()).await.unwrap();
        (agents, agent)
    }

    fn drover(&self, tasks: &mut Tasks) {
        let config = work::Config {
            poll: Duration::from_secs(2),
            ..work::Config::new(identity_for(self.kube.url()))
        };
        let hub = Arc::new(HubKube::new(self.client.clone(), CLUSTER));
        work::start(hub, self.client.clone(), config, Clock::system(), tasks);
    }

    async fn act(&self, step: &Step) {
        let object = |kind: &str, namespace: &str| {
            let namespace = Some(namespace).filter(|it| !it.is_empty());
            api(&self.client, kind, namespace)
        };
        let merge = PatchParams::default();
        match step {
            Step::Work(work) => drop(apply(&works(&self.client, CLUSTER), work).await.unwrap()),
            Step::DeleteWork(name) => {
                let all = works(&self.client, CLUSTER);
                all.delete(name, &DeleteParams::default()).await.unwrap();
            }
            Step::Create(value) => {
                let made: DynamicObject = serde_json::from_value(value.clone()).unwrap();
                let all = snapshot::place_of(&self.client, value);
                all.create(&PostParams::default(), &made).await.unwrap();
            }
            Step::Patch(kind, namespace, name, patch) => {
                let all = object(kind, namespace);
                all.patch(name, &merge, &Patch::Merge(patch)).await.unwrap();
            }
            Step::Status(kind, namespace, name, patch) => {
                let all = object(kind, namespace);
                all.patch_status(name, &merge, &Patch::Merge(patch))
                    .await
                    .unwrap();
            }
            Step::Delete(kind, namespace, name) => {
                let all = object(kind, namespace);
                all.delete(name, &DeleteParams::default()).await.unwrap();
            }
        }
    }

    /// What is told after an act once it did not change for a while, and is about the newest generation.
    async fn at_rest(&self, feature: &Feature, at: usize) -> Json {
        let start = Instant::now();
        let look = async || {
            let seen = self.snapshot(feature).await;
            (seen.is_current(), seen.told(at, feature.but, true))
        };
        let mut last = (Instant::now(), look().await);
        while (last.0.elapsed() < REST || !last.1.0) && start.elapsed() < LONG {
            sleep(Duration::from_millis(250)).await;
            let next = look().await;
            if next != last.1 {
                last = (Instant::now(), next);
            }
        }
        last.1.1
    }

    async fn snapshot(&self, feature: &Feature) -> Snapshot {
        Snapshot::take(&self.client, feature).await
    }
}

/// Plays one feature on both sides. What differs is the answer.
async fn play(ocm: &Side, ours: &Side, feature: &Feature) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, (what, steps)) in feature.acts.iter().enumerate() {
        for step in steps {
            tokio::join!(ocm.act(step), ours.act(step));
        }
        let expected = ocm.at_rest(feature, at).await;
        let check = async || -> Result<()> {
            let found = ours.snapshot(feature).await;
            ensure!(found.is_current(), "it is not current: {found:#?}");
            let found = found.told(at, feature.but, false);
            ensure!(
                found == expected,
                "{}",
                snapshot::difference(&expected, &found)
            );
            Ok(())
        };
        if let Err(error) = eventually("the same", Duration::from_secs(20), check).await {
            wrong.push(format!("{} / {what}: {error:#}", feature.name));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn both_agents_do_the_same_with_the_same_works() {
    crate::hub::log();
    let (ocm, ours) = tokio::join!(Side::start(), Side::start());
    let mut tasks = Tasks::new(CancellationToken::new());
    let (_agents, mut agent) = ocm.ocm().await;
    ours.drover(&mut tasks);
    let only = std::env::var("FEATURE").ok();
    let features = features::all();
    let chosen = features.iter().filter(|it| {
        only.as_ref()
            .is_none_or(|only| it.name.contains(only.as_str()))
    });
    let wrong: Vec<String> = join_all(chosen.map(|feature| play(&ocm, &ours, feature)))
        .await
        .concat();
    agent.kill();
    tasks.cancel_token().cancel();
    assert!(
        wrong.is_empty(),
        "{} acts differ:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// Only to name the type in signatures of the modules below.
type Json = Value;
