//! Hub and agent as processes of their own, with works through mosquitto.

use std::fs;
use std::path::{Path, PathBuf};

use drover_testkit::{Mosquitto, MosquittoOptions, Process, eventually, fleet, process::free_port};
use kube::Client;
use kube::api::DeleteParams;
use tempfile::TempDir;

use crate::ocm::joined_as;
use crate::world::{LONG, api, apply, config_map, field, gone, good, program, work, works};

const CLUSTER: &str = "north";

/// `drover apiserver`, and a client for it.
async fn apiserver(name: &str, folder: &Path) -> (Process, PathBuf, Client) {
    let kubeconfig = folder.join(format!("{name}.kubeconfig"));
    let args = [
        "apiserver".to_owned(),
        format!("--listen=127.0.0.1:{}", free_port().unwrap()),
        format!("--write-kubeconfig={}", kubeconfig.display()),
    ];
    let mut process = Process::start(name, program(), args, folder).unwrap();
    process
        .wait_for(LONG, async || kubeconfig.exists())
        .await
        .unwrap();
    let client = fleet::client(&kubeconfig, "apiserver").await.unwrap();
    let namespaces = api(&client, "v1/Namespace", None);
    let check = async || Ok(namespaces.get("default").await?);
    eventually("the API", LONG, check).await.unwrap();
    (process, kubeconfig, client)
}

/// A configuration of sdk-go, with the topics of the one source there is.
fn mqtt(folder: &Path, name: &str, broker: &Mosquitto, cluster: &str) -> PathBuf {
    let pair = broker.authority().client(name, name).unwrap();
    let text = format!(
        "brokerHost: {}\ncaFile: {}\nclientCertFile: {}\nclientKeyFile: {}\ntopics:\n  \
         sourceEvents: sources/hub1/clusters/{cluster}/sourceevents\n  \
         agentEvents: sources/hub1/clusters/{cluster}/agentevents\n  \
         sourceBroadcast: sources/+/sourcebroadcast\n  agentBroadcast: clusters/{cluster}/agentbroadcast\n",
        broker.address(),
        broker.authority().ca().display(),
        pair.cert.display(),
        pair.key.display()
    );
    let path = folder.join(format!("{name}.yaml"));
    fs::write(&path, text).unwrap();
    path
}

fn start(name: &str, args: &[String], folder: &TempDir) -> Process {
    Process::start(name, program(), args, folder.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_and_an_agent_meet_at_two_brokers() {
    let folder = tempfile::tempdir().unwrap();
    let options = MosquittoOptions {
        tls: true,
        require_cert: true,
        ..MosquittoOptions::default()
    };
    let (broker, hub_api, cluster_api) = tokio::join!(
        Mosquitto::start(options),
        apiserver("hub-api", folder.path()),
        apiserver("cluster-api", folder.path())
    );
    let broker = broker.unwrap();
    let ((_hub_api, hub_config, hub), (_cluster_api, config, cluster)) = (hub_api, cluster_api);
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let data = folder.path().join("hub");
    let (ca, token) = (data.join("ca.crt"), data.join("bootstrap-token"));
    let driver = mqtt(folder.path(), "works", &broker, "+");
    let hub_args = [
        "hub".to_owned(),
        format!("--kubeconfig={}", hub_config.display()),
        format!("--data={}", data.display()),
        format!("--listen={address}"),
        "--accept-all".to_owned(),
        "--work-driver=mqtt".to_owned(),
        format!("--work-driver-config={}", driver.display()),
        "--work-source-id=hub1".to_owned(),
    ];
    let mut hub_process = start("hub", &hub_args, &folder);
    hub_process
        .wait_for(LONG, async || token.exists())
        .await
        .unwrap();
    let source = mqtt(folder.path(), "agent", &broker, CLUSTER);
    let agent_args = [
        "agent".to_owned(),
        format!("--kubeconfig={}", config.display()),
        format!("--cluster={CLUSTER}"),
        format!("--hub={address}"),
        format!("--hub-ca={}", ca.display()),
        format!("--bootstrap-token-file={}", token.display()),
        "--workload-source-driver=mqtt".to_owned(),
        format!("--workload-source-config={}", source.display()),
    ];
    let mut agent = start("agent", &agent_args, &folder);
    joined_as(&hub, CLUSTER).await;
    let (shops, maps) = (
        works(&hub, CLUSTER),
        api(&cluster, "v1/ConfigMap", Some("default")),
    );
    let put = async |value: &str| {
        let shop = work("shop", CLUSTER, &[config_map("a", value)]);
        apply(&shops, &shop).await.unwrap();
    };
    put("1").await;
    good(&shops, "shop").await;

    // Each of them dies while the other goes on.
    hub_process.kill();
    put("2").await;
    hub_process = start("hub", &hub_args, &folder);
    field(&maps, "a", "/data/value", "2").await;
    good(&shops, "shop").await;
    agent.kill();
    put("3").await;
    agent = start("agent", &agent_args, &folder);
    field(&maps, "a", "/data/value", "3").await;
    good(&shops, "shop").await;

    // An agent that only works goes on with what one that had joined applied.
    agent.kill();
    shops
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    let only_works: Vec<String> = agent_args
        .iter()
        .filter(|one| !one.contains("--hub") && !one.contains("--bootstrap"))
        .cloned()
        .collect();
    agent = start("agent", &only_works, &folder);
    gone(&shops, "shop").await;
    gone(&maps, "a").await;
    for process in [&mut agent, &mut hub_process] {
        assert_eq!(process.terminate(LONG).unwrap(), Some(0));
    }
}
