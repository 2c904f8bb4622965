//! What can be asked for around Fedora Messaging.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::copies::{Copies, Scraped, of_publisher};

/// `drover publisher`
#[derive(Debug, Clone, Args)]
#[command(mut_args(of_publisher))]
pub struct Publisher {
    #[command(flatten)]
    pub messaging: Messaging,
    #[command(flatten)]
    pub copies: Copies,
    #[command(flatten)]
    pub scraped: Scraped,
    #[command(flatten)]
    pub pods: SenderPods,
    /// Do not apply the definition of FedoraMessage: somebody else does, and the publisher needs no right to
    #[arg(long, env = "DROVER_PUBLISHER_NO_INSTALL")]
    pub no_install: bool,
    /// Address to answer probes on: /livez, and /readyz once messages are served
    #[arg(long, env = "DROVER_PUBLISHER_HEALTH", value_name = "ADDRESS")]
    pub health: Option<SocketAddr>,
}

/// The pods that send.
#[derive(Debug, Clone, Default, Args)]
pub struct SenderPods {
    /// Image with `drover`, or with the command of --pod-program, for the pods that send; without it the publisher sends itself
    #[arg(long, env = "DROVER_PUBLISHER_POD_IMAGE", value_name = "IMAGE")]
    pub pod_image: Option<String>,
    /// What the pods run
    #[arg(
        long,
        env = "DROVER_PUBLISHER_POD_PROGRAM",
        value_name = "PROGRAM",
        default_value = "drover",
        requires = "pod_image"
    )]
    pub pod_program: PodProgram,
    /// Secret of each namespace for the registry of the image
    #[arg(
        long,
        env = "DROVER_PUBLISHER_POD_PULL_SECRET",
        value_name = "NAME",
        requires = "pod_image"
    )]
    pub pod_pull_secret: Option<String>,
}

impl SenderPods {
    /// The flags that say the same, where the image is another one by default.
    pub fn flags(&self, image: &str) -> Vec<String> {
        let image = self.pod_image.as_deref().unwrap_or(image);
        let mut flags = vec![format!("--pod-image={image}")];
        if let Some(program) = self.pod_program.to_possible_value()
            && self.pod_program != PodProgram::default()
        {
            flags.push(format!("--pod-program={}", program.get_name()));
        }
        if let Some(secret) = &self.pod_pull_secret {
            flags.push(format!("--pod-pull-secret={secret}"));
        }
        flags
    }
}

/// What the pods of a publisher run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PodProgram {
    /// `drover publish`
    #[default]
    Drover,
    /// `fedora-messaging publish` of the Python library
    FedoraMessaging,
}

/// Where messages go, and with whose secrets.
#[derive(Debug, Clone, Args)]
pub struct Messaging {
    /// Broker of an environment, as in stg=amqps://localhost:5671/%2Fpubsub; by default that of the Fedora Project
    #[arg(
        long,
        env = "DROVER_MESSAGING_URL",
        value_name = "ENV=URL",
        value_delimiter = ',',
        value_parser = assignment
    )]
    pub messaging_url: Vec<(String, String)>,
    /// Prefix of the topics of an environment; by default org.fedoraproject.stg and org.fedoraproject.prod
    #[arg(
        long,
        env = "DROVER_MESSAGING_TOPIC_PREFIX",
        value_name = "ENV=PREFIX",
        value_delimiter = ',',
        value_parser = assignment
    )]
    pub messaging_topic_prefix: Vec<(String, String)>,
    /// Exchange of an environment; by default amq.topic
    #[arg(
        long,
        env = "DROVER_MESSAGING_EXCHANGE",
        value_name = "ENV=NAME",
        value_delimiter = ',',
        value_parser = assignment
    )]
    pub messaging_exchange: Vec<(String, String)>,
    /// Environments that messages may name: stg, prod or both
    #[arg(
        long,
        env = "DROVER_MESSAGING_ENVIRONMENTS",
        value_name = "ENV",
        value_delimiter = ',',
        default_value = "stg,prod"
    )]
    pub messaging_environments: Vec<Environment>,
    /// Let messages name secrets of other namespaces, where the annotation apps.fedoraproject.org/allowed-namespaces of the secret says so
    #[arg(long, env = "DROVER_MESSAGING_CROSS_NAMESPACE")]
    pub messaging_cross_namespace: bool,
    /// Send from the publisher itself even where a pod could: it needs no right to make pods then
    #[arg(long, env = "DROVER_MESSAGING_IN_PROCESS")]
    pub messaging_in_process: bool,
}

impl Messaging {
    /// The flags that say the same, without those that say what is so by default.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        for (name, given) in [
            ("url", &self.messaging_url),
            ("topic-prefix", &self.messaging_topic_prefix),
            ("exchange", &self.messaging_exchange),
        ] {
            let one = |(env, value): &(String, String)| format!("--messaging-{name}={env}={value}");
            flags.extend(given.iter().map(one));
        }
        if let [one] = self.messaging_environments[..] {
            let name = drover_api::fedora::v1alpha1::Environment::from(one).as_str();
            flags.push(format!("--messaging-environments={name}"));
        }
        if self.messaging_cross_namespace {
            flags.push("--messaging-cross-namespace".to_owned());
        }
        if self.messaging_in_process {
            flags.push("--messaging-in-process".to_owned());
        }
        flags
    }
}

/// A Fedora Messaging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// For trying things out
    Stg,
    /// The real one
    Prod,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name @ ("stg" | "prod"), value)) if !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("it must be stg=VALUE or prod=VALUE".to_owned()),
    }
}

/// `drover publish`
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["topic", "file"])))]
pub struct Publish {
    /// Fedora Messaging to send to: gives the broker and the prefix of the topics
    #[arg(long, env = "DROVER_PUBLISH_ENV", value_name = "ENV")]
    pub env: Option<Environment>,
    /// Configuration file of fedora-messaging (TOML); without --env and --url by default $FEDORA_MESSAGING_CONF, then /etc/fedora-messaging/config.toml
    #[arg(long, env = "DROVER_PUBLISH_CONF", value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// Broker, amqps://HOST:PORT/VHOST with the vhost percent-encoded
    #[arg(long, env = "DROVER_PUBLISH_URL", value_name = "URL")]
    pub url: Option<String>,
    /// What goes before every topic
    #[arg(long, env = "DROVER_PUBLISH_TOPIC_PREFIX", value_name = "PREFIX")]
    pub topic_prefix: Option<String>,
    /// Exchange to publish to
    #[arg(long, env = "DROVER_PUBLISH_EXCHANGE", value_name = "NAME")]
    pub exchange: Option<String>,
    /// Certificates of the authorities of the broker, PEM; no others are trusted
    #[arg(long, env = "DROVER_PUBLISH_CA", value_name = "FILE", requires_all = ["cert", "key"])]
    pub ca: Option<PathBuf>,
    /// Certificate to be known by, PEM
    #[arg(long, env = "DROVER_PUBLISH_CERT", value_name = "FILE", requires_all = ["ca", "key"])]
    pub cert: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, env = "DROVER_PUBLISH_KEY", value_name = "FILE", requires_all = ["ca", "cert"])]
    pub key: Option<PathBuf>,
    /// Topic of the message
    #[arg(long, value_name = "TOPIC", requires = "body")]
    pub topic: Option<String>,
    /// Body of the message, a JSON object
    #[arg(long, value_name = "JSON", requires = "topic")]
    pub body: Option<String>,
    /// Headers of the message, a JSON object
    #[arg(long, value_name = "JSON", requires = "topic")]
    pub headers: Option<String>,
    /// Id of the message; random when absent
    #[arg(long, value_name = "UUID", requires = "topic")]
    pub id: Option<String>,
    /// Priority of the message, 0 to 9
    #[arg(long, value_name = "N", requires = "topic", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: Option<u8>,
    /// How important the message is
    #[arg(long, value_name = "SEVERITY", requires = "topic")]
    pub severity: Option<Severity>,
    /// Schema of the message, the name of an entry point in the group fedora.messages
    #[arg(long, value_name = "NAME", requires = "topic")]
    pub schema: Option<String>,
    /// Package that has the schema
    #[arg(long, value_name = "NAME", requires = "topic")]
    pub schema_package: Option<String>,
    /// File with one message a line, as `fedora-messaging publish` takes it; `-` is stdin
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Messages of the file that may wait for their confirm at once: with more than one, later lines may be sent when an earlier one fails
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub in_flight: u16,
    /// Seconds that one message may take
    #[arg(long, env = "DROVER_PUBLISH_TIMEOUT", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub timeout: u16,
    /// Check the messages and the way to the broker, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// File to leave the reason of a failure in, as one line of JSON
    #[arg(long, value_name = "FILE")]
    pub result: Option<PathBuf>,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Severity {
    /// For developers
    Debug,
    /// Usual
    Info,
    /// Something may be wrong
    Warning,
    /// Something is wrong
    Error,
}
