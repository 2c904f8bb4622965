//! What can be asked for. Scripts rely on every name in here.

mod messaging;

mod copies;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub use copies::Copies;

pub use messaging::{Environment, Messaging, PodProgram, Publish, Publisher, Severity};

/// Moves and keeps fleets of Kubernetes clusters.
#[derive(Debug, Parser)]
#[command(
    name = "drover",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Kubeconfig to use; by default $KUBECONFIG, then the one that `drover up` wrote, then ~/.kube/config
    #[arg(long, global = true, env = "DROVER_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig; by default its current one
    #[arg(long, global = true, env = "DROVER_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// Configuration file (TOML): keys are the names of these options, options of a command stand in a table of its name
    #[arg(long, global = true, env = "DROVER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to log to stderr, such as `info` or `warn,drover_agent=debug`
    #[arg(
        long,
        global = true,
        env = "DROVER_LOG",
        value_name = "FILTER",
        default_value = "warn"
    )]
    pub log: String,
    /// How log lines look
    #[arg(
        long,
        global = true,
        env = "DROVER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// How results are printed
    #[arg(
        long,
        short,
        global = true,
        env = "DROVER_OUTPUT",
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: Output,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// For people, with more columns and nothing cut off
    Wide,
}

impl Output {
    /// Whether people read it.
    pub fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl From<LogFormat> for drover_runtime::telemetry::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole fleet here: a global hub, hubs, clusters and their broker
    Up(Up),
    /// Run only the embedded Kubernetes API
    Apiserver(Apiserver),
    /// Run a hub: its controllers, and the event service that its agents connect to
    Hub(Box<Hub>),
    /// Run the agent of a cluster
    Agent(Agent),
    /// Run the publisher of a cluster: it sends a message to Fedora Messaging for each FedoraMessage
    Publisher(Publisher),
    /// Send messages to Fedora Messaging, with the exit codes of `fedora-messaging publish`
    Publish(Publish),
    /// Let clusters in that asked to join, or shut them out
    Clusters(Clusters),
    /// List works, what is wrong first
    Works(Works),
    /// Print what installs a hub or an agent on Kubernetes, for `kubectl apply --server-side -f -`
    Manifests(Manifests),
    /// Show the fleet as a tree: hubs, clusters, works, what is wrong first
    Status(Status),
    /// Apply objects from files, as `kubectl apply --server-side` does
    Apply(Apply),
    /// Show objects
    Get(Get),
}

/// `drover up`
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// How many hubs
    #[arg(long, env = "DROVER_UP_HUBS", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub hubs: u16,
    /// How many managed clusters, given to the hubs in turn
    #[arg(long, env = "DROVER_UP_CLUSTERS", value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(0..=5000))]
    pub clusters: u16,
    /// Folder that keeps the fleet; by default drover/fleet in the user's data folder
    #[arg(
        long,
        env = "DROVER_UP_DATA",
        value_name = "DIR",
        conflicts_with = "ephemeral"
    )]
    pub data: Option<PathBuf>,
    /// Keep nothing when it stops
    #[arg(long, env = "DROVER_UP_EPHEMERAL")]
    pub ephemeral: bool,
    /// Address of the first API; the others follow it. Port 0 lets the system choose, and a fleet that is kept keeps its ports
    #[arg(
        long,
        env = "DROVER_UP_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:0"
    )]
    pub listen: SocketAddr,
    /// Address of loopback for Prometheus, which finds what the hubs' event services count at /metrics
    #[arg(long, env = "DROVER_UP_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub messaging: Messaging,
    /// Files or folders to apply to hub1 once the fleet is ready
    #[arg(
        long,
        short,
        env = "DROVER_UP_FILE",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub file: Vec<PathBuf>,
}

/// `drover apiserver`
#[derive(Debug, Clone, Args)]
pub struct Apiserver {
    /// Folder that keeps the objects; without it nothing is kept
    #[arg(long, env = "DROVER_APISERVER_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to serve HTTPS on
    #[arg(
        long,
        env = "DROVER_APISERVER_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:6443"
    )]
    pub listen: SocketAddr,
    /// Where to write the administrator's kubeconfig; by default `kubeconfig` in the data folder, or in the current one
    #[arg(long, env = "DROVER_APISERVER_WRITE_KUBECONFIG", value_name = "FILE")]
    pub write_kubeconfig: Option<PathBuf>,
}

/// `drover hub`
#[derive(Debug, Clone, Args)]
pub struct Hub {
    /// Folder that keeps the authority of the event service and its agents; without it a secret of the hub's API does, which all
    /// copies of the hub share
    #[arg(long, env = "DROVER_HUB_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub copies: Copies,
    /// Address of the event service
    #[arg(
        long,
        env = "DROVER_HUB_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8443"
    )]
    pub listen: SocketAddr,
    /// Further names and addresses by which agents reach the event service
    #[arg(
        long,
        env = "DROVER_HUB_HOST_NAME",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub host_name: Vec<String>,
    /// Let every cluster in that asks with a bootstrap token
    #[arg(long, env = "DROVER_HUB_ACCEPT_ALL")]
    pub accept_all: bool,
    /// Let clusters with such names in when they ask; `*` stands for any text
    #[arg(
        long,
        env = "DROVER_HUB_ACCEPT",
        value_name = "PATTERN",
        value_delimiter = ','
    )]
    pub accept: Vec<String>,
    /// Also give first certificates to whom these users ask for
    #[arg(
        long,
        env = "DROVER_HUB_APPROVE_USER",
        value_name = "USER",
        value_delimiter = ','
    )]
    pub approve_user: Vec<String>,
    /// Also give first certificates to whom members of these groups ask for
    #[arg(
        long,
        env = "DROVER_HUB_APPROVE_GROUP",
        value_name = "GROUP",
        value_delimiter = ','
    )]
    pub approve_group: Vec<String>,
    /// Do not give a first certificate to whoever holds a bootstrap token: `drover clusters accept` does
    #[arg(long, env = "DROVER_HUB_APPROVE_BY_HAND")]
    pub approve_by_hand: bool,
    /// Address of loopback for Prometheus, which finds what the event service counts at /metrics
    #[arg(long, env = "DROVER_HUB_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Address for probes: /livez, and /readyz once it serves
    #[arg(long, env = "DROVER_HUB_HEALTH", value_name = "ADDRESS")]
    pub health: Option<SocketAddr>,
    #[command(flatten)]
    pub work_source: WorkSource,
    #[command(flatten)]
    pub webhooks: Webhooks,
    #[command(flatten)]
    pub serving: Serving,
}

/// What the event service of a hub shows, and its limits.
#[derive(Debug, Clone, Args)]
pub struct Serving {
    /// Certificate of the event service, PEM, read again when it changes; agents need its authority then. By default the hub makes one
    #[arg(
        long,
        env = "DROVER_HUB_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(
        long,
        env = "DROVER_HUB_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
    /// Further authorities whose client certificates are believed, PEM; those of the hub itself always are
    #[arg(
        long,
        env = "DROVER_HUB_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub client_ca: Option<PathBuf>,
    /// Certificates, TLS and limits of the event service in the format of OCM's sdk-go; its port is --listen's
    #[arg(
        long,
        env = "DROVER_HUB_SERVER_CONFIG",
        value_name = "FILE",
        conflicts_with = "tls_cert"
    )]
    pub server_config: Option<PathBuf>,
}

/// The admission webhooks of a hub whose API is not Drover's own.
#[derive(Debug, Clone, Args)]
pub struct Webhooks {
    /// Address on which the hub's API asks whether it may take a write; without it, nothing is judged
    #[arg(
        long,
        env = "DROVER_HUB_WEBHOOK_LISTEN",
        value_name = "ADDRESS",
        requires = "webhook_target"
    )]
    pub webhook_listen: Option<SocketAddr>,
    /// Service by which the hub's API reaches that address: [NAMESPACE/]NAME[:PORT]
    #[arg(
        long,
        env = "DROVER_HUB_WEBHOOK_SERVICE",
        value_name = "SERVICE",
        group = "webhook_target",
        requires = "webhook_listen"
    )]
    pub webhook_service: Option<String>,
    /// URL by which an API outside of the hub's cluster reaches that address: https://HOST:PORT
    #[arg(
        long,
        env = "DROVER_HUB_WEBHOOK_URL",
        value_name = "URL",
        group = "webhook_target",
        requires = "webhook_listen"
    )]
    pub webhook_url: Option<String>,
    /// Secret with the certificates of that address, which the hub makes and renews: [NAMESPACE/]NAME
    #[arg(
        long,
        env = "DROVER_HUB_WEBHOOK_SECRET",
        value_name = "SECRET",
        default_value = "drover-hub-webhook"
    )]
    pub webhook_secret: String,
}

/// A broker through which agents get works too.
#[derive(Debug, Clone, Args)]
pub struct WorkSource {
    /// Also hand works to agents through a broker of this kind: mqtt or grpc
    #[arg(
        long,
        env = "DROVER_HUB_WORK_DRIVER",
        value_name = "DRIVER",
        requires_all = ["work_driver_config", "work_source_id"]
    )]
    pub work_driver: Option<String>,
    /// How to reach that broker, in the format of OCM's sdk-go
    #[arg(
        long,
        env = "DROVER_HUB_WORK_DRIVER_CONFIG",
        value_name = "FILE",
        requires = "work_driver"
    )]
    pub work_driver_config: Option<PathBuf>,
    /// Id of this hub among the sources of that broker; it must never change
    #[arg(
        long,
        env = "DROVER_HUB_WORK_SOURCE_ID",
        value_name = "ID",
        requires = "work_driver"
    )]
    pub work_source_id: Option<String>,
    /// Id of this process at that broker; by default the source id and `-works`
    #[arg(
        long,
        env = "DROVER_HUB_CLOUDEVENTS_CLIENT_ID",
        value_name = "ID",
        requires = "work_driver"
    )]
    pub cloudevents_client_id: Option<String>,
}

/// `drover agent`
#[derive(Debug, Clone, Args)]
pub struct Agent {
    /// Name of the cluster on its hub
    #[arg(long, env = "DROVER_AGENT_CLUSTER", value_name = "NAME")]
    pub cluster: String,
    /// Event service of the hub to join, HOST:PORT; without it the agent only works
    #[arg(
        long,
        env = "DROVER_AGENT_HUB",
        value_name = "ADDRESS",
        requires = "hub_ca"
    )]
    pub hub: Option<String>,
    /// Certificates of the authorities of the hub's event service, PEM
    #[arg(
        long,
        env = "DROVER_AGENT_HUB_CA",
        value_name = "FILE",
        requires = "hub"
    )]
    pub hub_ca: Option<PathBuf>,
    /// File with the token that lets the cluster ask to join; an agent that has joined needs none
    #[arg(
        long,
        env = "DROVER_AGENT_BOOTSTRAP_TOKEN_FILE",
        value_name = "FILE",
        requires = "hub"
    )]
    pub bootstrap_token_file: Option<PathBuf>,
    /// Kubeconfig that lets the cluster ask to join a hub over its Kubernetes API; several hubs are tried in order
    #[arg(
        long,
        env = "DROVER_AGENT_BOOTSTRAP_KUBECONFIG",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub bootstrap_kubeconfig: Vec<PathBuf>,
    /// Join the hubs that secrets in the agent's namespace lead to, also when no hub is named here
    #[arg(long, env = "DROVER_AGENT_BOOTSTRAP_SECRETS")]
    pub bootstrap_secrets: bool,
    /// How long a hub may be silent before the agent goes to another that takes the cluster
    #[arg(
        long,
        env = "DROVER_AGENT_HUB_CONNECTION_TIMEOUT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 600
    )]
    pub hub_connection_timeout_seconds: u32,
    /// How long objects stay after their work vanished: numbers with s, m or h, or INFINITE
    #[arg(
        long,
        env = "DROVER_AGENT_EVICTION_GRACE_PERIOD",
        value_name = "TIME",
        default_value = "60m"
    )]
    pub appliedmanifestwork_eviction_grace_period: String,
    /// Seconds that the agent's certificate shall be good for; by default as the hub likes
    #[arg(
        long,
        env = "DROVER_AGENT_CLIENT_CERT_EXPIRATION_SECONDS",
        value_name = "SECONDS"
    )]
    pub client_cert_expiration_seconds: Option<i32>,
    /// How many claims of the cluster are reported beside the reserved ones
    #[arg(
        long,
        env = "DROVER_AGENT_MAX_CUSTOM_CLUSTER_CLAIMS",
        value_name = "N",
        default_value_t = 20
    )]
    pub max_custom_cluster_claims: usize,
    /// Claims whose names end so are always reported
    #[arg(
        long,
        env = "DROVER_AGENT_RESERVED_CLUSTER_CLAIM_SUFFIXES",
        value_name = "SUFFIX",
        value_delimiter = ','
    )]
    pub reserved_cluster_claim_suffixes: Vec<String>,
    /// Label of the cluster on its hub, when this agent creates it there
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub cluster_label: Vec<(String, String)>,
    /// Annotation of the cluster on its hub, when this agent creates it there
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub cluster_annotation: Vec<(String, String)>,
    /// Address for probes: /livez, and /readyz once the cluster is prepared
    #[arg(long, env = "DROVER_AGENT_HEALTH", value_name = "ADDRESS")]
    pub health: Option<SocketAddr>,
    /// Namespace of the secret with the agent's identity; by default that of the pod, or else OCM's
    #[arg(long, env = "DROVER_AGENT_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// Name of the hub that never changes: what was applied for it is found by it. By default the address that works come from
    #[arg(long, env = "DROVER_AGENT_HUB_IDENTITY", value_name = "NAME")]
    pub hub_identity: Option<String>,
    /// Get works through a broker of this kind instead of the hub's event service: mqtt or grpc
    #[arg(
        long,
        env = "DROVER_AGENT_WORKLOAD_SOURCE_DRIVER",
        value_name = "DRIVER",
        requires = "workload_source_config"
    )]
    pub workload_source_driver: Option<String>,
    /// How to reach that broker, in the format of OCM's sdk-go
    #[arg(
        long,
        env = "DROVER_AGENT_WORKLOAD_SOURCE_CONFIG",
        value_name = "FILE",
        requires = "workload_source_driver"
    )]
    pub workload_source_config: Option<PathBuf>,
    /// Id of this process at that broker; by default the cluster and `-work-agent`
    #[arg(
        long,
        env = "DROVER_AGENT_CLOUDEVENTS_CLIENT_ID",
        value_name = "ID",
        requires = "workload_source_driver"
    )]
    pub cloudevents_client_id: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "it is not of the form KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `drover clusters`
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Clusters {
    #[command(subcommand)]
    pub command: Option<ClustersCommand>,
    #[command(flatten)]
    pub list: ClustersList,
}

/// What to do with clusters.
#[derive(Debug, Clone, Subcommand)]
pub enum ClustersCommand {
    /// List clusters, what is wrong first
    List(ClustersList),
    /// Let clusters in, and approve the certificates that their agents wait for
    Accept(ClustersAccept),
    /// Shut clusters out; they stay known, and can be accepted again
    Deny(ClustersDeny),
}

/// `drover clusters list`
#[derive(Debug, Clone, Args)]
pub struct ClustersList {
    #[command(flatten)]
    pub follow: Follow,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, Args)]
pub struct Follow {
    /// Goes on and shows what changes: in place on a terminal, else a line for each change
    #[arg(long, short)]
    pub watch: bool,
}

/// `drover works`
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Works {
    #[command(subcommand)]
    pub command: Option<WorksCommand>,
    #[command(flatten)]
    pub list: WorksList,
}

/// What to do with works.
#[derive(Debug, Clone, Subcommand)]
pub enum WorksCommand {
    /// List works, what is wrong first
    List(WorksList),
}

/// `drover works list`
#[derive(Debug, Clone, Args)]
pub struct WorksList {
    /// Only the works of this cluster
    #[arg(long, short, value_name = "CLUSTER")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub follow: Follow,
}

/// `drover clusters accept`
#[derive(Debug, Clone, Args)]
pub struct ClustersAccept {
    /// Names of the clusters
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Also approve certificate requests of this user, who holds no bootstrap token
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    pub requester: Vec<String>,
}

/// `drover clusters deny`
#[derive(Debug, Clone, Args)]
pub struct ClustersDeny {
    /// Names of the clusters
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}

/// `drover manifests`
#[derive(Debug, Clone, Args)]
pub struct Manifests {
    /// What to install
    #[arg(long, value_name = "ROLE")]
    pub role: ManifestRole,
    /// Namespace to install into; by default open-cluster-management-hub, open-cluster-management-agent or drover-publisher
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Image of this program
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = concat!("ghcr.io/drover-project/drover:", env!("CARGO_PKG_VERSION"))
    )]
    pub image: String,
    /// How many copies; by default 3 of a hub, 1 of an agent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub replicas: Option<u8>,
    /// Further names and addresses by which agents reach the hub from outside its cluster
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub host_name: Vec<String>,
    /// An agent's cluster, as the hub knows it
    #[arg(long, value_name = "NAME", required_if_eq("role", "agent"))]
    pub cluster: Option<String>,
    /// An agent's hub, HOST:PORT
    #[arg(long, value_name = "ADDRESS", required_if_eq("role", "agent"))]
    pub hub: Option<String>,
    /// Name of an agent's hub that never changes; by default its address
    #[arg(long, value_name = "NAME")]
    pub hub_identity: Option<String>,
    /// Namespaces whose messages a publisher sends: it may read secrets there, and nowhere else
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        required_if_eq("role", "publisher")
    )]
    pub message_namespace: Vec<String>,
    /// Let a publisher send by itself, so that it needs no right to make pods
    #[arg(long)]
    pub messaging_in_process: bool,
}

/// What runs on Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ManifestRole {
    /// A hub: definitions, controllers, event service
    Hub,
    /// The agent of a managed cluster
    Agent,
    /// The publisher of Fedora messages of a cluster
    Publisher,
}

/// `drover status`
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Only this managed cluster, with everything that is known of it
    #[arg(value_name = "CLUSTER")]
    pub cluster: Option<String>,
    /// Every cluster and every work, also where nothing is wrong
    #[arg(long, short = 'A')]
    pub all: bool,
    #[command(flatten)]
    pub follow: Follow,
}

/// `drover apply`
#[derive(Debug, Clone, Args)]
pub struct Apply {
    /// Files or folders of YAML or JSON; `-` is stdin
    #[arg(
        long,
        short,
        required = true,
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub file: Vec<PathBuf>,
    /// Namespace of objects that name none
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Take over fields that another manager owns
    #[arg(long)]
    pub force_conflicts: bool,
}

/// `drover get`
#[derive(Debug, Clone, Args)]
pub struct Get {
    /// Kind, plural or short name, with or without the group: `works`, `mcl`, `deployments.apps`
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// Name; all when absent
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Namespace; by default the context's
    #[arg(long, short, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Objects of all namespaces
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Label selector
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub selector: Option<String>,
}
