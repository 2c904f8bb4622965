//! OCM's own agents and its hub's event server, started as its operator starts them (Go module
//! `open-cluster-management.io/ocm`).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use tempfile::TempDir;

use crate::pki::Authority;
use crate::process::{Process, free_port, program};

/// Namespace of the agents in their cluster.
pub const NAMESPACE: &str = "open-cluster-management-agent";
const START: Duration = Duration::from_mins(1);

/// How an agent reaches its hub's event service, as it stands in the agents' configuration file.
#[derive(Clone, Debug, Default)]
pub struct GrpcConfig {
    /// `host:port`.
    pub url: String,
    /// The authorities of the hub.
    pub ca_pem: String,
    /// A bearer token.
    pub token: Option<String>,
}

/// How an agent reaches an MQTT broker. The Go client speaks TLS only when it has a certificate to show.
#[derive(Clone, Debug, Default)]
pub struct MqttConfig {
    /// `host:port`.
    pub broker: String,
    /// User and password.
    pub user: Option<(String, String)>,
    /// Files of the authorities, of the certificate, and of its key.
    pub tls: Option<[PathBuf; 3]>,
    /// The one source that the agent listens to.
    pub source: String,
    /// Its cluster.
    pub cluster: String,
}

/// The agents of one managed cluster. What they keep in files is kept here, over their restarts.
#[derive(Debug)]
pub struct OcmAgents {
    cluster: String,
    kubeconfig: PathBuf,
    folder: TempDir,
}

impl OcmAgents {
    /// For the cluster of this kubeconfig, which gets the definitions and the namespace that the operator would make.
    ///
    /// # Errors
    /// When the cluster does not take them.
    pub async fn prepare(cluster: &str, kubeconfig: PathBuf, client: &Client) -> Result<Self> {
        definitions(&kubeconfig, &["appliedmanifestworks", "clusterclaims"])?;
        namespace(client, NAMESPACE).await?;
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("hub-kubeconfig"))?;
        Ok(Self {
            cluster: cluster.to_owned(),
            kubeconfig,
            folder,
        })
    }

    /// Where the registration agent puts the identity that it got: `config.yaml`, `tls.crt`, `tls.key`.
    pub fn identity(&self) -> PathBuf {
        self.folder.path().join("hub-kubeconfig")
    }

    /// Writes a configuration file for the event service of a hub.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn grpc(&self, config: &GrpcConfig) -> Result<PathBuf> {
        let ca = self.folder.path().join("hub-ca.crt");
        fs::write(&ca, &config.ca_pem)?;
        let mut text = format!("url: {}\ncaFile: {}\n", config.url, ca.display());
        if let Some(token) = &config.token {
            writeln!(text, "token: {token}")?;
        }
        self.write("grpc.yaml", &text)
    }

    /// Writes a configuration file for an MQTT broker.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mqtt(&self, config: &MqttConfig) -> Result<PathBuf> {
        let (source, cluster) = (&config.source, &config.cluster);
        let mut text = format!("brokerHost: {}\n", config.broker);
        if let Some((user, password)) = &config.user {
            writeln!(text, "username: {user}\npassword: {password}")?;
        }
        if let Some([ca, cert, key]) = &config.tls {
            let (ca, cert, key) = (ca.display(), cert.display(), key.display());
            writeln!(
                text,
                "caFile: {ca}\nclientCertFile: {cert}\nclientKeyFile: {key}"
            )?;
        }
        writeln!(
            text,
            "topics:\n  sourceEvents: sources/{source}/clusters/{cluster}/sourceevents\n  \
             agentEvents: sources/{source}/clusters/{cluster}/agentevents\n  \
             sourceBroadcast: sources/+/sourcebroadcast\n  agentBroadcast: clusters/{cluster}/agentbroadcast"
        )?;
        self.write("mqtt.yaml", &text)
    }

    /// Starts the work agent with works from `driver` (`grpc`, `mqtt`) and its configuration file.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn work(&self, driver: &str, config: &Path) -> Result<Process> {
        // The shortest that it does not complain about.
        let more = [
            "--status-sync-interval=2s",
            "--appliedmanifestwork-eviction-grace-period=30s",
        ];
        self.work_with(driver, config, &more).await
    }

    /// Starts the work agent like [`Self::work`], but with no other settings than these.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn work_with(&self, driver: &str, config: &Path, more: &[&str]) -> Result<Process> {
        let mut args = vec![
            format!("--workload-source-driver={driver}"),
            format!("--workload-source-config={}", config.display()),
            format!("--cloudevents-client-id={}-work-agent", self.cluster),
            "--cloudevents-client-codecs=manifestbundle".to_owned(),
        ];
        args.extend(more.iter().map(|&text| text.to_owned()));
        self.start("ocm-work", &args).await
    }

    /// Starts the registration agent, which joins over the event service with a bootstrap configuration.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn registration_grpc(&self, bootstrap: &Path) -> Result<Process> {
        let identity = self.identity();
        let more = [
            "--registration-auth=grpc".to_owned(),
            format!("--grpc-bootstrap-config={}", bootstrap.display()),
            format!("--grpc-config={}/config.yaml", identity.display()),
            format!("--hub-kubeconfig-dir={}", identity.display()),
            // Only a hash of it is used, but it must be there.
            format!("--bootstrap-kubeconfig={}", self.kubeconfig.display()),
        ];
        self.start("ocm-registration", &more).await
    }

    /// Starts the registration agent, which joins over the hub's Kubernetes API.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn registration_csr(&self, bootstrap_kubeconfig: &Path) -> Result<Process> {
        let identity = self.identity();
        let more = [
            format!("--hub-kubeconfig-dir={}", identity.display()),
            format!("--bootstrap-kubeconfig={}", bootstrap_kubeconfig.display()),
        ];
        self.start("ocm-registration", &more).await
    }

    async fn start(&self, name: &str, more: &[String]) -> Result<Process> {
        let mut args = vec![
            "agent".to_owned(),
            format!("--spoke-cluster-name={}", self.cluster),
            "--agent-id=agent1".to_owned(),
        ];
        args.extend_from_slice(more);
        run(name, args, &self.kubeconfig, NAMESPACE, self.folder.path()).await
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Namespace of the parts of a hub.
const HUB_NAMESPACE: &str = "open-cluster-management-hub";
/// What OCM's hub has beside the kinds of Kubernetes.
const HUB_KINDS: [&str; 12] = [
    "addondeploymentconfigs",
    "addonplacementscores",
    "addontemplates",
    "clustermanagementaddons",
    "managedclusteraddons",
    "managedclusters",
    "managedclustersetbindings",
    "managedclustersets",
    "manifestworkreplicasets",
    "manifestworks",
    "placementdecisions",
    "placements",
];

/// OCM's hub on a cluster.
#[derive(Debug)]
pub struct OcmHub {
    kubeconfig: PathBuf,
    authority: Authority,
    folder: TempDir,
}

impl OcmHub {
    /// On the cluster of this kubeconfig, which gets the definitions and the namespace that the operator would make.
    ///
    /// # Errors
    /// When the cluster does not take them.
    pub async fn prepare(kubeconfig: PathBuf, client: &Client) -> Result<Self> {
        definitions(&kubeconfig, &HUB_KINDS)?;
        namespace(client, HUB_NAMESPACE).await?;
        let folder = tempfile::tempdir()?;
        Ok(Self {
            kubeconfig,
            authority: Authority::new(folder.path())?,
            folder,
        })
    }

    /// Signs the event server and the agents.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Starts the controllers that let clusters in, those that come over the event server too.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn registration(&self) -> Result<Process> {
        let more = vec![
            "controller".to_owned(),
            "--enabled-registration-drivers=csr,grpc".to_owned(),
            format!("--grpc-ca-file={}", self.authority.ca().display()),
            format!("--grpc-key-file={}", self.authority.key().display()),
        ];
        self.run("ocm-registration", more).await
    }

    /// Starts the controller of placements.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn placement(&self) -> Result<Process> {
        self.run("ocm-placement", vec!["controller".to_owned()])
            .await
    }

    /// Starts the event server; the address is `host:port`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn server(&self) -> Result<(Process, String)> {
        let port = free_port()?;
        let pair = self.authority.server("server")?;
        let config = self.folder.path().join("server.yaml");
        let text = format!(
            "server_bind_port: \"{port}\"\ntls_cert_file: {}\ntls_key_file: {}\nclient_ca_file: {}\n",
            pair.cert.display(),
            pair.key.display(),
            self.authority.ca().display()
        );
        fs::write(&config, text)?;
        let more = vec![
            "grpc".to_owned(),
            format!("--server-config={}", config.display()),
        ];
        let mut process = self.run("ocm-server", more).await?;
        process
            .wait_for(START, async || answers(port).await)
            .await?;
        Ok((process, format!("127.0.0.1:{port}")))
    }

    /// Starts the controllers that make works of sets of works, as the source `mwrsctrl` of an MQTT broker without TLS.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn work_mqtt(&self, broker: &str) -> Result<Process> {
        let config = self.folder.path().join("mqtt.yaml");
        let text = format!(
            "brokerHost: {broker}\ntopics:\n  sourceEvents: sources/mwrsctrl/clusters/+/sourceevents\n  \
             agentEvents: sources/mwrsctrl/clusters/+/agentevents\n  \
             sourceBroadcast: sources/+/sourcebroadcast\n  agentBroadcast: clusters/+/agentbroadcast\n"
        );
        fs::write(&config, text)?;
        let more = vec![
            "manager".to_owned(),
            "--work-driver=mqtt".to_owned(),
            format!("--work-driver-config={}", config.display()),
            "--cloudevents-client-id=hub-work".to_owned(),
            "--feature-gates=CloudEventsDrivers=true,ManifestWorkReplicaSet=true".to_owned(),
        ];
        self.run("ocm-work", more).await
    }

    /// Starts the controllers that make works of sets of works in the hub's API.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn work_kube(&self) -> Result<Process> {
        let more = vec![
            "manager".to_owned(),
            "--feature-gates=ManifestWorkReplicaSet=true".to_owned(),
        ];
        self.run("ocm-work", more).await
    }

    async fn run(&self, name: &str, args: Vec<String>) -> Result<Process> {
        run(
            name,
            args,
            &self.kubeconfig,
            HUB_NAMESPACE,
            self.folder.path(),
        )
        .await
    }
}

/// Starts OCM's admission webhooks for the hub of this kubeconfig; the answer is where they are asked, `https://HOST:PORT`.
/// They show a certificate of an authority that nobody knows.
///
/// # Errors
/// When they do not come up.
pub async fn webhooks(kubeconfig: &Path, folder: &Path) -> Result<(Process, String)> {
    let shown = folder.join("webhooks");
    let pair = Authority::new(&shown)?.server("tls")?;
    let port = free_port()?;
    let args = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--port={port}"),
        format!("--certdir={}", shown.display()),
    ];
    let mut process = Process::start("ocm-webhook", &program("ocm-webhook")?, args, folder)?;
    process
        .wait_for(START, async || answers(port).await && pair.cert.exists())
        .await?;
    Ok((process, format!("https://127.0.0.1:{port}")))
}

/// Starts one of OCM's processes and waits until it serves its health.
async fn run(
    name: &str,
    mut args: Vec<String>,
    kubeconfig: &Path,
    namespace: &str,
    folder: &Path,
) -> Result<Process> {
    let port = free_port()?;
    args.extend([
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--namespace={namespace}"),
        // The default is one port on all interfaces, for every process the same.
        format!("--listen=127.0.0.1:{port}"),
        "--disable-leader-election".to_owned(),
    ]);
    let mut process = Process::start(name, &program(name)?, args, folder)?;
    process
        .wait_for(START, async || answers(port).await)
        .await?;
    Ok(process)
}

async fn answers(port: u16) -> bool {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    stream.is_ok()
}

/// Makes a namespace, or finds it there.
///
/// # Errors
/// What the API says.
pub async fn namespace(client: &Client, name: &str) -> Result<()> {
    let made = k8s_openapi::api::core::v1::Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..k8s_openapi::api::core::v1::Namespace::default()
    };
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    match api.create(&PostParams::default(), &made).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Installs OCM's own definitions of these resources, by their plural names, and waits until they are served.
///
/// # Errors
/// When one is missing among the peers, or is not taken.
pub fn definitions(kubeconfig: &Path, resources: &[&str]) -> Result<()> {
    let mut names = Vec::new();
    let mut files = Vec::new();
    for entry in fs::read_dir(program("crds")?)? {
        let path = entry?.path();
        let file = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some(full) = file.strip_suffix(".crd.yaml") else {
            continue;
        };
        let Some(resource) = resources
            .iter()
            .find(|resource| full.ends_with(&format!(".io_{resource}")))
        else {
            continue;
        };
        let group = full.split('-').next().unwrap_or_default();
        names.push(format!("crd/{resource}.{group}.open-cluster-management.io"));
        files.push(path);
    }
    if files.len() != resources.len() {
        bail!("the definitions of {resources:?} are not all among the peers, only {names:?}");
    }
    let mut apply = vec!["apply".to_owned(), "--server-side".to_owned()];
    apply.extend(
        files
            .iter()
            .map(|path| format!("--filename={}", path.display())),
    );
    kubectl(kubeconfig, &apply)?;
    let mut wait = vec![
        "wait".to_owned(),
        "--for=condition=Established".to_owned(),
        "--timeout=30s".to_owned(),
    ];
    wait.extend(names);
    kubectl(kubeconfig, &wait)
}

/// Writes a kubeconfig that is good for asking to join: one context of another, with a bootstrap token.
///
/// # Errors
/// When the other cannot be read, or has no such context.
pub fn bootstrap_kubeconfig(of: &Path, context: &str, token: &str, to: &Path) -> Result<()> {
    let mut config = Kubeconfig::read_from(of)?;
    let named = config
        .contexts
        .iter()
        .find(|known| known.name == context)
        .and_then(|known| known.context.clone())
        .with_context(|| format!("no context {context}"))?;
    let user = named.user.unwrap_or_default();
    config.contexts.retain(|known| known.name == context);
    config.clusters.retain(|known| known.name == named.cluster);
    config.current_context = Some(context.to_owned());
    let mut written = serde_json::to_value(&config)?;
    written["users"] = json!([{"name": user, "user": {"token": token}}]);
    fs::write(to, written.to_string())?;
    Ok(())
}

fn kubectl(kubeconfig: &Path, args: &[String]) -> Result<()> {
    let output = Command::new(program("kubectl")?)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args)
        .output()
        .context("failed to run kubectl")?;
    if !output.status.success() {
        bail!(
            "kubectl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
