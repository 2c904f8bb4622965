//! The fleet.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use drover_runtime::clock::Clock;
use drover_testkit::pod::Pod;
use drover_testkit::{Balancer, KubeApi, KubeOptions, Process, eventually, process::free_port};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::suite::Fleet;
use crate::world::{LONG, api, conditions, program};

pub(crate) const CLUSTER: &str = "north";
pub(crate) const HUB_SPACE: &str = "open-cluster-management-hub";
pub(crate) const AGENT_SPACE: &str = "open-cluster-management-agent";
/// What is asked of `drover manifests`.
pub(crate) const HUB: &[&str] = &["--role", "hub", "--image", "example.com/drover:1"];
pub(crate) const AGENT: &[&str] = &[
    "--role",
    "agent",
    "--image",
    "example.com/drover:1",
    "--cluster",
    CLUSTER,
    "--hub",
    "hub.example.com:8443",
    "--hub-identity",
    "drover:kubernetes",
];
/// client-go's times: a copy that is killed is replaced soon enough for a test.
const TIMES: [&str; 3] = [
    "--leader-election-lease-duration=15s",
    "--leader-election-renew-deadline=10s",
    "--leader-election-retry-period=2s",
];

/// The hub lets clusters with such names in by itself; `drover up` lets everybody in.
const WELCOME: &str = "scenario-*-welcome";

/// What is printed.
pub(crate) fn manifests(args: &[&str]) -> String {
    let output = Command::new(program())
        .arg("manifests")
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The arguments of the program in the Deployment that is printed, with others for some.
fn arguments(printed: &str, others: &[(&str, String)]) -> Vec<String> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(printed).unwrap();
    let found = objects.iter().find(|object| object["kind"] == "Deployment");
    let container = &found.unwrap()["spec"]["template"]["spec"]["containers"][0];
    let args = container["args"].as_array().unwrap();
    let mut args: Vec<String> = args
        .iter()
        .map(|arg| arg.as_str().unwrap().to_owned())
        .collect();
    let log = std::env::var("DROVER_LOG").unwrap_or_else(|_| "info".to_owned());
    for (flag, other) in others.iter().chain(&[("--log", format!("--log={log}"))]) {
        let prefix = format!("{flag}=");
        let place = args.iter_mut().find(|arg| arg.starts_with(&prefix));
        place
            .unwrap_or_else(|| panic!("{flag} is not among the arguments"))
            .clone_from(other);
    }
    args
}

/// The answer of a probe, as the kubelet sees it.
pub(crate) fn probe(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(LONG))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Where the copies of the hub are reached.
pub(crate) struct Doors {
    brokers: Vec<u16>,
    webhooks: Vec<u16>,
    /// In front of the brokers.
    pub(crate) joins: Balancer,
    /// In front of the webhooks.
    asks: Balancer,
}

impl Doors {
    async fn new() -> Self {
        let ports = || -> Vec<u16> { (0..3).map(|_| free_port().unwrap()).collect() };
        let (brokers, webhooks) = (ports(), ports());
        Self {
            joins: Balancer::start(&brokers).await.unwrap(),
            asks: Balancer::start(&webhooks).await.unwrap(),
            brokers,
            webhooks,
        }
    }
}

impl Doors {
    /// Where each copy answers the API server.
    pub(crate) fn webhooks(&self) -> impl Iterator<Item = SocketAddr> {
        let ports = self.webhooks.iter();
        ports.map(|port| SocketAddr::from(([127, 0, 0, 1], *port)))
    }
}

/// What leads a role to its API.
#[derive(Clone)]
enum Credentials {
    Kubeconfig(PathBuf),
    Pod(Pod),
}

impl Credentials {
    async fn new(api: &KubeApi, namespace: &str, account: &str, pod: Option<&Path>) -> Self {
        match pod {
            Some(folder) => Self::Pod(Pod::new(api, namespace, account, folder).await.unwrap()),
            None => Self::Kubeconfig(api.account(namespace, account).await.unwrap()),
        }
    }

    fn start(&self, name: &str, args: &[String], folder: &Path) -> Process {
        let started = match self {
            Self::Kubeconfig(path) => {
                let named = format!("--kubeconfig={}", path.display());
                let args = args.iter().cloned().chain([named]);
                Process::start(name, program(), args, folder)
            }
            Self::Pod(pod) => pod.start(name, program(), args, folder),
        };
        started.unwrap()
    }

    async fn rotate(&self, api: &KubeApi) {
        if let Self::Pod(pod) = self {
            pod.rotate(api).await.unwrap();
        }
    }
}

/// One copy of the hub.
pub(crate) struct Copy {
    name: String,
    args: Vec<String>,
    credentials: Credentials,
    health: u16,
    folder: PathBuf,
    process: Process,
}

impl Copy {
    fn start(number: usize, doors: &Doors, credentials: &Credentials, folder: &Path) -> Self {
        let (name, health) = (format!("hub{number}"), free_port().unwrap());
        let (broker, webhook) = (doors.brokers[number], doors.webhooks[number]);
        let others = [
            ("--listen", format!("--listen=127.0.0.1:{broker}")),
            ("--health", format!("--health=127.0.0.1:{health}")),
            ("--metrics", "--metrics=127.0.0.1:0".to_owned()),
            (
                "--webhook-listen",
                format!("--webhook-listen=127.0.0.1:{webhook}"),
            ),
        ];
        let mut args = arguments(&manifests(HUB), &others);
        args.extend(TIMES.map(ToOwned::to_owned));
        args.push(format!("--accept={WELCOME}"));
        let process = credentials.start(&name, &args, folder);
        Self {
            name,
            args,
            credentials: credentials.clone(),
            health,
            folder: folder.to_owned(),
            process,
        }
    }

    /// Waits until it may get connections.
    pub(crate) async fn ready(&mut self) {
        let health = self.health;
        let ready = async || {
            probe(health, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        };
        self.process.wait_for(LONG, ready).await.unwrap();
    }

    /// Ends it as a rolling update does, or as a node that dies, and starts it anew.
    pub(crate) async fn restart(&mut self, gently: bool) {
        if gently {
            let code = self.process.terminate(LONG).unwrap();
            assert_eq!(code, Some(0), "{}", self.process.tail());
        } else {
            self.process.kill();
        }
        let process = self.credentials.start(&self.name, &self.args, &self.folder);
        self.process = process;
        self.ready().await;
    }
}

impl Drop for Copy {
    #[expect(clippy::print_stderr, reason = "a test that fails tells why")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} said last:\n{}", self.name, self.process.tail());
        }
    }
}

/// Everything; ends when dropped.
pub(crate) struct Bed {
    pub(crate) hub_api: KubeApi,
    pub(crate) cluster_api: KubeApi,
    pub(crate) hub: Client,
    pub(crate) cluster: Client,
    pub(crate) copies: Vec<Copy>,
    pub(crate) doors: Doors,
    credentials: [Credentials; 2],
    agent: Process,
    nodes: CancellationToken,
    _folder: TempDir,
}

impl Bed {
    /// Installs a fleet and joins its cluster; with or without a record of what is asked of the APIs.
    pub(crate) async fn start(audit: bool) -> Self {
        Self::start_with(audit, false).await
    }

    /// The same without a record, and everything with the credentials of a pod.
    pub(crate) async fn start_as_pods() -> Self {
        Self::start_with(false, true).await
    }

    async fn start_with(audit: bool, pods: bool) -> Self {
        let options = |namespace: &'static str| KubeOptions {
            controllers: true,
            audit: audit.then_some(namespace),
            services: namespace == HUB_SPACE,
            ..KubeOptions::default()
        };
        let (hub_api, cluster_api) = tokio::join!(
            KubeApi::start(options(HUB_SPACE)),
            KubeApi::start(options(AGENT_SPACE))
        );
        let (hub_api, cluster_api) = (hub_api.unwrap(), cluster_api.unwrap());
        let apply = ["apply", "--server-side", "--validate=strict", "-f", "-"];
        hub_api.kubectl(&apply, &manifests(HUB)).unwrap();
        cluster_api.kubectl(&apply, &manifests(AGENT)).unwrap();
        let hub = hub_api.client().await.unwrap();
        let cluster = cluster_api.client().await.unwrap();
        let folder = tempfile::tempdir().unwrap();

        let pods = pods.then_some(folder.path());
        let (of_hub, of_agent) = tokio::join!(
            Credentials::new(&hub_api, HUB_SPACE, "drover-hub", pods),
            Credentials::new(&cluster_api, AGENT_SPACE, "drover-agent", pods)
        );
        let doors = Doors::new().await;
        // There is no network of pods: the balancers are the services.
        let webhooks = hub_api.serve(HUB_SPACE, "drover-hub-webhook", doors.asks.address());
        webhooks.await.unwrap();
        let mut copies: Vec<Copy> = (0..3)
            .map(|number| Copy::start(number, &doors, &of_hub, folder.path()))
            .collect();
        for copy in &mut copies {
            copy.ready().await;
        }
        let agent = agent(&hub_api, &of_agent, &hub, &doors.joins, folder.path()).await;

        // There are no nodes: something must say that pods run.
        let nodes = CancellationToken::new();
        drover_workloads::make_node(&cluster, &Clock::system())
            .await
            .unwrap();
        let workloads = drover_workloads::run(cluster.clone(), Clock::system(), nodes.clone());
        tokio::spawn(workloads);
        let bed = Self {
            hub_api,
            cluster_api,
            hub,
            cluster,
            copies,
            doors,
            credentials: [of_hub, of_agent],
            agent,
            nodes,
            _folder: folder,
        };
        bed.accept().await;
        bed
    }

    pub(crate) fn fleet(&self) -> Fleet {
        Fleet {
            hub: self.hub.clone(),
            cluster: self.cluster.clone(),
            name: CLUSTER.to_owned(),
            kubeconfig: self.hub_api.kubeconfig(),
            context: "peer".to_owned(),
        }
    }

    /// Gives all pods new tokens and makes the old ones worthless.
    pub(crate) async fn rotate(&self) {
        let [of_hub, of_agent] = &self.credentials;
        of_hub.rotate(&self.hub_api).await;
        of_agent.rotate(&self.cluster_api).await;
    }

    /// Lets the cluster in, as a person does.
    async fn accept(&self) {
        let accepted = async || {
            let mut command = Command::new(program());
            command
                .args(["clusters", "accept", CLUSTER, "--kubeconfig"])
                .arg(self.hub_api.kubeconfig());
            let ran = tokio::task::spawn_blocking(move || command.output());
            let output = ran.await??;
            let said = String::from_utf8([output.stdout, output.stderr].concat())?;
            ensure!(output.status.success(), "{said}");
            let kind = "cluster.open-cluster-management.io/v1/ManagedCluster";
            let found = api(&self.hub, kind, None).get(CLUSTER).await?;
            let seen = conditions(&found);
            let wanted = "ManagedClusterConditionAvailable=True/ManagedClusterAvailable";
            ensure!(
                seen.iter().any(|have| have == wanted),
                "{said} {seen:?}\nthe agent: {}\na hub: {}",
                self.agent.tail(),
                self.copies[0].process.tail()
            );
            Ok(())
        };
        eventually("the cluster to be available", LONG, accepted)
            .await
            .unwrap();
    }

    /// Everything that is ours ends well.
    pub(crate) async fn stop(mut self) {
        self.nodes.cancel();
        assert_eq!(self.agent.terminate(LONG).unwrap(), Some(0));
        for copy in &mut self.copies {
            assert_eq!(copy.process.terminate(LONG).unwrap(), Some(0));
        }
    }
}

async fn agent(
    hub_api: &KubeApi,
    credentials: &Credentials,
    hub: &Client,
    balancer: &Balancer,
    folder: &Path,
) -> Process {
    let (ca, token) = (folder.join("ca.crt"), folder.join("token"));
    let secrets: Api<Secret> = Api::namespaced(hub.clone(), HUB_SPACE);
    let authority = secrets.get("drover-hub-authority").await.unwrap();
    let certificate = authority.data.unwrap().remove("tls.crt");
    std::fs::write(&ca, certificate.context("no certificate").unwrap().0).unwrap();
    let bootstrap = hub_api.token(HUB_SPACE, "agent-registration-bootstrap");
    std::fs::write(&token, bootstrap.await.unwrap()).unwrap();
    let health = free_port().unwrap();
    let others = [
        ("--hub", format!("--hub={}", balancer.address())),
        ("--hub-ca", format!("--hub-ca={}", ca.display())),
        (
            "--bootstrap-token-file",
            format!("--bootstrap-token-file={}", token.display()),
        ),
        ("--health", format!("--health=127.0.0.1:{health}")),
        ("--metrics", "--metrics=127.0.0.1:0".to_owned()),
    ];
    let args = arguments(&manifests(AGENT), &others);
    let mut agent = credentials.start("agent", &args, folder);
    let ready =
        async || probe(health, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
    agent.wait_for(LONG, ready).await.unwrap();
    agent
}
