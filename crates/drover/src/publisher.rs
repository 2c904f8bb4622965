//! `drover publisher`: the publisher of one cluster, on any Kubernetes API.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use drover_api::fedora::v1alpha1::Environment;
use drover_core::publish::pod::{PodSettings, Program};
use drover_publisher::{Publisher, Sender, Target, install};
use drover_runtime::clock::Clock;
use drover_runtime::election::Leadership;
use drover_runtime::supervise::Tasks;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::cli::{self, Global};
use crate::{connect, hub, up};

/// How long a broker may take to confirm.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long tasks may take to end: longer than the publisher's own patience with its last messages.
const GRACE: Duration = Duration::from_secs(15);

/// The lease of the copies of a publisher, one of which sends.
pub const LEASE: &str = "drover-publisher";

/// Sends until it is told to stop.
pub async fn run(args: cli::Publisher, global: &Global) -> Result<()> {
    let client = connect::role(global).await?;
    let cancel = CancellationToken::new();
    let mut tasks = Tasks::new(cancel.clone());
    let serving = hub::serve_health(args.health, &mut tasks)
        .await?
        .gate("messages");
    if !args.no_install {
        install::install(&client).await?;
    }
    let sender = match (&args.pods.pod_image, args.messaging.messaging_in_process) {
        (Some(image), false) => Sender::Pod(PodSettings {
            image: image.clone(),
            program: match args.pods.pod_program {
                cli::PodProgram::Drover => Program::Drover,
                cli::PodProgram::FedoraMessaging => Program::Python,
            },
            pull_secret: args.pods.pod_pull_secret.clone(),
        }),
        _ => Sender::InProcess,
    };
    install::served(&client).await?;
    serving.open();
    let mut publisher = prepare(client.clone(), &args.messaging, sender);
    publisher.metrics = args.scraped.serve(&client, &mut tasks).await?;
    let namespace = args.copies.namespace.clone();
    publisher.leadership = args.copies.leadership(
        LEASE,
        client,
        namespace.or_else(connect::own_namespace).as_deref(),
        publisher.metrics.as_ref(),
        &mut tasks,
    )?;
    tasks.spawn("publisher", publisher.run(cancel.clone()));
    up::stop_on_signal(cancel);
    Ok(tasks.wait(GRACE).await?)
}

/// A publisher as the options say.
pub fn prepare(client: Client, args: &cli::Messaging, sender: Sender) -> Publisher {
    Publisher {
        client,
        targets: targets(args),
        sender,
        cross_namespace: args.messaging_cross_namespace,
        patience: PATIENCE,
        clock: Clock::system(),
        leadership: Leadership::alone(),
        metrics: None,
    }
}

/// Where the messages of each environment go.
pub fn targets(args: &cli::Messaging) -> BTreeMap<Environment, Target> {
    let environments = args.messaging_environments.iter().copied();
    environments
        .map(|environment| {
            let environment = Environment::from(environment);
            let mut target = Target::of_fedora(environment);
            for (given, place) in [
                (&args.messaging_url, &mut target.url),
                (&args.messaging_topic_prefix, &mut target.topic_prefix),
                (&args.messaging_exchange, &mut target.exchange),
            ] {
                let named = |(name, _): &&(String, String)| name == environment.as_str();
                if let Some((_, value)) = given.iter().rfind(named) {
                    place.clone_from(value);
                }
            }
            (environment, target)
        })
        .collect()
}
