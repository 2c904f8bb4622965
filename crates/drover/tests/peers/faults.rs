//! Real parts that die: `drover hub` and `drover agent` as processes on real kube-apiservers, with mosquitto between them. Each is
//! killed again and again while works are made, changed and deleted; in the end all is as it was wanted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use drover_testkit::{
    KubeApi, KubeOptions, Mosquitto, MosquittoOptions, Process, eventually, process::free_port,
};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::ocm::joined_as;
use crate::world::{LONG, api, apply, conditions, config_map, program, work, works};

const CLUSTER: &str = "north";
/// Wishes and accidents.
const STEPS: usize = 40;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A configuration of sdk-go, with the topics of the one source there is.
fn mqtt(folder: &Path, name: &str, broker: &Mosquitto, cluster: &str) -> PathBuf {
    let text = format!(
        "brokerHost: {}\ntopics:\n  \
         sourceEvents: sources/hub1/clusters/{cluster}/sourceevents\n  \
         agentEvents: sources/hub1/clusters/{cluster}/agentevents\n  \
         sourceBroadcast: sources/+/sourcebroadcast\n  agentBroadcast: clusters/{cluster}/agentbroadcast\n",
        broker.address(),
    );
    let path = folder.join(format!("{name}.yaml"));
    fs::write(&path, text).unwrap();
    path
}

/// A part that is killed and started.
struct Part {
    name: &'static str,
    args: Vec<String>,
    folder: PathBuf,
    process: Option<Process>,
}

impl Part {
    fn new(name: &'static str, args: Vec<String>, folder: &Path) -> Self {
        let mut part = Self {
            name,
            args,
            folder: folder.to_owned(),
            process: None,
        };
        part.start();
        part
    }

    fn start(&mut self) {
        if self.process.is_none() {
            self.process =
                Some(Process::start(self.name, program(), &self.args, &self.folder).unwrap());
        }
    }

    /// Ends it as `kill -9` does.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn works_survive_the_death_of_hub_agent_and_broker() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, hub_api, cluster_api) = tokio::join!(
        Mosquitto::start(MosquittoOptions::default()),
        KubeApi::start(KubeOptions::default()),
        KubeApi::start(KubeOptions::default())
    );
    let (mut broker, hub_api, cluster_api) =
        (broker.unwrap(), hub_api.unwrap(), cluster_api.unwrap());
    let (hub, cluster) = (
        hub_api.client().await.unwrap(),
        cluster_api.client().await.unwrap(),
    );
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let data = folder.path().join("hub");
    let (ca, token) = (data.join("ca.crt"), data.join("bootstrap-token"));
    let hub_args = vec![
        "hub".to_owned(),
        // A hub that was killed cannot give up its lease: the next one waits for its end.
        "--leader-election-lease-duration=6s".to_owned(),
        "--leader-election-renew-deadline=4s".to_owned(),
        "--leader-election-retry-period=1s".to_owned(),
        format!("--kubeconfig={}", hub_api.kubeconfig().display()),
        format!("--data={}", data.display()),
        format!("--listen={address}"),
        "--accept-all".to_owned(),
        "--work-driver=mqtt".to_owned(),
        format!(
            "--work-driver-config={}",
            mqtt(folder.path(), "works", &broker, "+").display()
        ),
        "--work-source-id=hub1".to_owned(),
    ];
    let mut hub_part = Part::new("hub", hub_args, folder.path());
    let begun = hub_part.process.as_mut().unwrap();
    begun.wait_for(LONG, async || token.exists()).await.unwrap();
    let agent_args = vec![
        "agent".to_owned(),
        format!("--kubeconfig={}", cluster_api.kubeconfig().display()),
        format!("--cluster={CLUSTER}"),
        format!("--hub={address}"),
        format!("--hub-ca={}", ca.display()),
        format!("--bootstrap-token-file={}", token.display()),
        "--workload-source-driver=mqtt".to_owned(),
        format!(
            "--workload-source-config={}",
            mqtt(folder.path(), "agent", &broker, CLUSTER).display()
        ),
    ];
    let mut agent_part = Part::new("agent", agent_args, folder.path());
    joined_as(&hub, CLUSTER).await;

    let all = works(&hub, CLUSTER);
    let mut wanted: BTreeMap<&str, String> = BTreeMap::new();
    let mut random = SmallRng::seed_from_u64(11);
    for step in 0..STEPS {
        match random.random_range(0..8) {
            0 => hub_part.kill(),
            1 => agent_part.kill(),
            2 => broker.restart().await.unwrap(),
            3 => {
                hub_part.start();
                agent_part.start();
            }
            4 => {
                let name = NAMES[random.random_range(0..NAMES.len())];
                // Only what an agent has claimed: what nobody has, goes without a trace, and what was made of it after a grace.
                let claimed = all
                    .get_opt(name)
                    .await
                    .unwrap()
                    .is_some_and(|it| !it.finalizers().is_empty());
                if claimed && wanted.remove(name).is_some() {
                    all.delete(name, &DeleteParams::default()).await.unwrap();
                }
            }
            _ => {
                let name = NAMES[random.random_range(0..NAMES.len())];
                let leaving = all.get_opt(name).await.unwrap();
                if leaving.is_none_or(|it| it.metadata.deletion_timestamp.is_none()) {
                    let value = step.to_string();
                    apply(&all, &work(name, CLUSTER, &[config_map(name, &value)]))
                        .await
                        .unwrap();
                    wanted.insert(name, value);
                }
            }
        }
        // How far the parts get with it is left to chance.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
    }
    hub_part.start();
    agent_part.start();

    let maps = api(&cluster, "v1/ConfigMap", Some("default"));
    let settled = async || -> Result<()> {
        let found = all.list(&ListParams::default()).await?.items;
        let names: Vec<String> = found.iter().map(kube::ResourceExt::name_any).collect();
        ensure!(
            names == wanted.keys().map(|it| (*it).to_owned()).collect::<Vec<_>>(),
            "works are {names:?}"
        );
        for work in &found {
            let seen = conditions(work);
            ensure!(
                crate::world::GOOD
                    .iter()
                    .all(|good| seen.iter().any(|it| it == good)),
                "{} has {seen:?}",
                work.name_any()
            );
        }
        let made = maps.list(&ListParams::default()).await?.items;
        let value = |it: &Value| it["data"]["value"].as_str().map(str::to_owned);
        let made: BTreeMap<String, String> = made
            .iter()
            .filter_map(|it| Some((it.name_any(), value(&it.data)?)))
            .collect();
        let wanted: BTreeMap<String, String> = wanted
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        ensure!(
            made == wanted,
            "the cluster has {made:?}, wanted are {wanted:?}"
        );
        Ok(())
    };
    eventually("all to be as wanted", Duration::from_mins(3), settled)
        .await
        .unwrap();
    agent_part.kill();
    hub_part.kill();
}
