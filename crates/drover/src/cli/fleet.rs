//! What can be asked about a fleet, and told to one.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Messaging, SenderPods};

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
    /// How many copies; by default 3 of a hub, 2 of a publisher, 1 of an agent
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
    /// Namespaces whose messages a publisher sends: it may read secrets and make pods there, and nowhere else
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        required_if_eq("role", "publisher")
    )]
    pub message_namespace: Vec<String>,
    /// Also print NetworkPolicies: a publisher and its pods reach name servers and brokers, the publisher the API too, and nothing else
    #[arg(long)]
    pub network_policy: bool,
    /// Ports on which pods reach the API, for --network-policy; where a service leads elsewhere, that port counts
    #[arg(
        long,
        value_name = "PORT",
        value_delimiter = ',',
        default_value = "443,6443"
    )]
    pub api_port: Vec<u16>,
    #[command(flatten)]
    pub messaging: Messaging,
    #[command(flatten)]
    pub pods: SenderPods,
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
