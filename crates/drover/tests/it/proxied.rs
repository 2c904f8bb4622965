//! Servers that are only reached through a proxy, by names that nobody here can resolve.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use drover_testkit::process::free_port;
use drover_testkit::services::HttpProxy;
use drover_testkit::{Process, eventually, fleet};
use kube::Client;
use kube::config::Kubeconfig;

use crate::world::{LONG, api, apply, conditions, config_map, good, program, work, works};

const CLUSTER: &str = "north";
const HUB: &str = "hub.example.com:8443";
const API: &str = "api.example.com:6443";

/// `drover apiserver`: its kubeconfig, where it is, and a client for it.
async fn apiserver(name: &str, folder: &Path) -> (Process, PathBuf, SocketAddr, Client) {
    let kubeconfig = folder.join(format!("{name}.kubeconfig"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let args = [
        "apiserver".to_owned(),
        format!("--listen={address}"),
        format!("--write-kubeconfig={}", kubeconfig.display()),
    ];
    let mut process = Process::start(name, program(), args, folder).unwrap();
    let written = async || kubeconfig.exists();
    process.wait_for(LONG, written).await.unwrap();
    let client = fleet::client(&kubeconfig, "apiserver").await.unwrap();
    let namespaces = api(&client, "v1/Namespace", None);
    let check = async || Ok(namespaces.get("default").await?);
    eventually("the API", LONG, check).await.unwrap();
    (process, kubeconfig, address, client)
}

/// The same kubeconfig by a name that only the proxy knows.
fn by_name(kubeconfig: &Path, proxy: Option<&str>) -> PathBuf {
    let mut config = Kubeconfig::read_from(kubeconfig).unwrap();
    let cluster = config.clusters[0].cluster.as_mut().unwrap();
    cluster.server = Some(format!("https://{API}"));
    cluster.tls_server_name = Some("localhost".to_owned());
    cluster.proxy_url = proxy.map(ToOwned::to_owned);
    let path = kubeconfig.with_extension(if proxy.is_some() { "own" } else { "named" });
    fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    path
}

/// What `drover clusters` says, with these variables.
async fn clusters(kubeconfig: &Path, variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(program());
    for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command.args(["clusters", "--kubeconfig"]).arg(kubeconfig);
    let ran = tokio::task::spawn_blocking(move || command.output());
    let output = ran.await.unwrap().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_commands_find_their_hub_through_a_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let (of_hub, of_cluster) = tokio::join!(
        apiserver("hub-api", folder.path()),
        apiserver("cluster-api", folder.path())
    );
    let (_hub_api, hub_config, hub_address, hub) = of_hub;
    let (_cluster_api, cluster_config, _, _) = of_cluster;
    let broker = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let data = folder.path().join("hub");
    let args = [
        "hub".to_owned(),
        format!("--kubeconfig={}", hub_config.display()),
        format!("--data={}", data.display()),
        format!("--listen={broker}"),
        "--host-name=hub.example.com".to_owned(),
        "--accept-all".to_owned(),
    ];
    let mut serving = Process::start("hub", program(), args, folder.path()).unwrap();
    let token = data.join("bootstrap-token");
    let told = async || token.exists();
    serving.wait_for(LONG, told).await.unwrap();

    let proxy = HttpProxy::start("ann:secret").await.unwrap();
    proxy.route(HUB, broker);
    proxy.route(API, hub_address);
    let args = [
        "agent".to_owned(),
        // Its own API is on this machine: nothing is between them.
        format!("--kubeconfig={}", cluster_config.display()),
        format!("--cluster={CLUSTER}"),
        format!("--hub={HUB}"),
        format!("--hub-ca={}", data.join("ca.crt").display()),
        format!("--bootstrap-token-file={}", token.display()),
    ];
    let url = format!("http://ann:secret@{}", proxy.address());
    let env = [
        ("HTTPS_PROXY", url.clone()),
        ("NO_PROXY", ".example.org".to_owned()),
    ];
    let mut agent = Process::start_in("agent", program(), args, &env, folder.path()).unwrap();
    let managed = api(
        &hub,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    );
    let joined = async || {
        let seen = conditions(&managed.get(CLUSTER).await?);
        let wanted = "ManagedClusterConditionAvailable=True/ManagedClusterAvailable";
        ensure!(
            seen.iter().any(|have| have == wanted),
            "{seen:?}\n{}",
            agent.tail()
        );
        Ok(())
    };
    eventually("the cluster", LONG, joined).await.unwrap();
    let shop = works(&hub, CLUSTER);
    let shown = work("w", CLUSTER, &[config_map("a", "1")]);
    apply(&shop, &shown).await.unwrap();
    good(&shop, "w").await;

    let named = by_name(&hub_config, None);
    let own = by_name(&hub_config, Some(&url));
    let through = [("HTTPS_PROXY", &*url)];
    let (well, said) = clusters(&named, &through).await;
    assert!(well && said.contains(CLUSTER), "{said}");
    // What the kubeconfig says counts, whatever the environment does.
    let (well, said) = clusters(&own, &[("NO_PROXY", "*")]).await;
    assert!(well && said.contains(CLUSTER), "{said}");
    let (well, said) = clusters(&named, &[through[0], ("NO_PROXY", "example.com")]).await;
    assert!(!well, "{said}");
    // A proxy that nobody reaches is not asked for what is here.
    let (well, said) = clusters(&hub_config, &[("HTTPS_PROXY", "http://127.0.0.1:1")]).await;
    assert!(well && said.contains(CLUSTER), "{said}");
    for process in [&mut agent, &mut serving] {
        assert_eq!(process.terminate(LONG).unwrap(), Some(0));
    }
}
