//! What can be asked for. Scripts rely on every name in here.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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

/// `drover status`
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Only this managed cluster, with its works' conditions
    #[arg(value_name = "CLUSTER")]
    pub cluster: Option<String>,
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
