//! `drover agent`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::copies::{Scraped, of_agent};

/// `drover agent`
#[derive(Debug, Clone, Args)]
#[command(mut_args(of_agent))]
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
    #[command(flatten)]
    pub scraped: Scraped,
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
