//! Sends one message to Fedora Messaging for each FedoraMessage, and says in its status what became of it.
//!
//! What to do is decided in [`drover_core::publish`]; this crate reads secrets, keeps connections, and writes.

pub mod send;
pub mod install;
mod connections;
mod messages;
mod pods;
mod events;
mod metrics;
mod places;
mod secrets;
mod stored;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drover_api::fedora::v1alpha1::Environment;
use drover_api::names::fedora as names;
use drover_core::publish::Place;
use drover_core::publish::pod::PodSettings;
use drover_runtime::clock::Clock;
use drover_runtime::controller;
use drover_runtime::election::Leadership;
use drover_runtime::metrics::Metrics;
use drover_runtime::mirror::mirror;
use drover_runtime::queue::WorkQueue;
use drover_runtime::supervise::Tasks;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use connections::Connections;
use events::Events;
use messages::Messages;
use metrics::Tally;
use places::{Bounds, Places};
use pods::Pods;
use secrets::Secrets;
use stored::Stored;

pub use messages::fault_of;

/// Messages that are worked on at once.
const WORKERS: usize = 256;
/// Messages that the publisher itself sends at once, and such as go in one name to one broker: one that is slow does not stop the
/// others.
const BOUNDS: Bounds = Bounds {
    most: WORKERS,
    share: 160,
};
/// How long a round may take to end when the publisher stops: a confirm that is on its way is worth waiting for. With the next one
/// shorter than the time after which the lease of a leader that stops is left to run out.
const DRAIN: Duration = Duration::from_secs(2);
/// How long connections may take to close at the end of a term.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long everything may take to end when the publisher stops.
const GRACE: Duration = Duration::from_secs(10);

/// Where the messages of one environment go.
#[derive(Clone, Debug)]
pub struct Target {
    /// `amqps://host:port/vhost`.
    pub url: String,
    /// Goes before every topic.
    pub topic_prefix: String,
    /// Where messages are published.
    pub exchange: String,
}

impl Target {
    /// The Fedora Messaging of the Fedora Project.
    pub fn of_fedora(environment: Environment) -> Self {
        let (host, prefix) = match environment {
            Environment::Stg => ("rabbitmq.stg.fedoraproject.org", "org.fedoraproject.stg"),
            Environment::Prod => ("rabbitmq.fedoraproject.org", "org.fedoraproject.prod"),
        };
        Self {
            url: format!("amqps://{host}/%2Fpubsub"),
            topic_prefix: prefix.to_owned(),
            exchange: drover_protocol::fedora::EXCHANGE.to_owned(),
        }
    }

    fn place(&self) -> Place {
        Place {
            topic_prefix: self.topic_prefix.clone(),
        }
    }
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The publisher itself, on connections that it keeps: thousands of messages a second.
    InProcess,
    /// A pod for each attempt, which alone mounts the secret. A pod mounts secrets of its own namespace only: a message that names
    /// one of another namespace is sent in process.
    Pod(PodSettings),
}

/// How a publisher works.
#[derive(Clone)]
pub struct Publisher {
    /// The API that has the messages and the secrets.
    pub client: Client,
    /// Where each environment is; a message for another one is refused.
    pub targets: BTreeMap<Environment, Target>,
    /// Who sends.
    pub sender: Sender,
    /// Whether a secret of another namespace may be used when its owner says so.
    pub cross_namespace: bool,
    /// How long the broker may take to confirm.
    pub patience: Duration,
    /// Where the time comes from.
    pub clock: Clock,
    /// When this copy of the publisher leads: the others only keep their caches.
    pub leadership: Leadership,
    /// Where its counters are registered.
    pub metrics: Option<Metrics>,
}

/// Why a publisher ended.
#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    /// The API refused or did not take a write.
    #[error("failed to write {kind} {name}: {source}")]
    Write {
        /// What was written.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// The API refused or did not answer a read.
    #[error("failed to read {kind} {name}: {source}")]
    Read {
        /// What was read.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// A part of it failed.
    #[error("{0}")]
    Failed(String),
}

impl Publisher {
    /// Works until `cancel`, while it leads. The definition of FedoraMessage must be served already.
    ///
    /// # Errors
    /// When a part of it fails for good.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), PublisherError> {
        let mut tasks = Tasks::new(cancel.child_token());
        let stop = tasks.cancel_token();
        let queue = Arc::new(WorkQueue::<String>::new());
        let told = queue.clone();
        let (messages, task) = mirror(
            Api::all(self.client.clone()),
            Config::default(),
            stop.clone(),
            move |found: &Stored| told.add(messages::key_of(found)),
        );
        tasks.run("the cache of messages", task);
        let pods = self.pods(&queue, &mut tasks);
        let tally = Tally::default();
        if let Some(metrics) = &self.metrics {
            tally.register(metrics, messages.clone(), self.leadership.clone());
        }
        let (events, task) = events::events(self.client.clone(), tally.clone(), stop.clone());
        tasks.run("the events", task);
        let leadership = self.leadership.clone();
        let leader = Leader {
            publisher: self,
            queue,
            messages,
            pods,
            events,
            tally,
            stop: stop.clone(),
        };
        tasks.run("the messages", async move {
            let leader = &leader;
            leadership.each_term(&stop, |term| leader.lead(term)).await;
        });
        tasks
            .wait(GRACE)
            .await
            .map_err(|failed| PublisherError::Failed(failed.to_string()))
    }

    /// A cache of the pods that wakes their messages.
    fn pods(&self, queue: &Arc<WorkQueue<String>>, tasks: &mut Tasks) -> Option<Store<Pod>> {
        let Sender::Pod(_) = &self.sender else {
            return None;
        };
        let told = Arc::clone(queue);
        let ours = format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY);
        let (seen, task) = mirror(
            Api::all(self.client.clone()),
            Config::default().labels(&ours),
            tasks.cancel_token(),
            move |pod: &Pod| {
                let namespace = pod.namespace().unwrap_or_default();
                for owner in pod.owner_references() {
                    told.add(format!("{namespace}/{}", owner.name));
                }
            },
        );
        tasks.run("the cache of pods", task);
        Some(seen)
    }
}

/// What sends, on the copy that leads.
struct Leader {
    publisher: Publisher,
    queue: Arc<WorkQueue<String>>,
    messages: Store<Stored>,
    pods: Option<Store<Pod>>,
    events: Events,
    tally: Tally,
    stop: CancellationToken,
}

impl Leader {
    /// Sends until the end of a term. Nothing is kept from one term to the next: others sent meanwhile.
    async fn lead(&self, term: CancellationToken) {
        let Publisher {
            client,
            sender,
            clock,
            ..
        } = &self.publisher;
        let pods = match (sender, &self.pods) {
            (Sender::Pod(settings), Some(seen)) => {
                let places = Places::new(pods::BOUNDS, self.queue.clone());
                let (client, settings) = (client.clone(), settings.clone());
                Some(Pods::new(client, settings, seen.clone(), places))
            }
            _ => None,
        };
        let messages = Messages {
            secrets: Secrets::new(client.clone()),
            settings: self.publisher.clone(),
            messages: self.messages.clone(),
            connections: Connections::new(clock.clone()),
            pods,
            events: self.events.clone(),
            tally: self.tally.clone(),
            unwritten: Mutex::default(),
            places: Places::new(BOUNDS, self.queue.clone()),
        };
        let messages = &messages;
        // Who stood in line in another term stands in none now.
        for found in self.messages.state() {
            self.queue.add(messages::key_of(found.as_ref()));
        }
        let (cut, unused) = (CancellationToken::new(), CancellationToken::new());
        let work = async {
            let queue = self.queue.clone();
            controller::run_and_drain(
                "messages",
                queue,
                WORKERS,
                term.clone(),
                cut.clone(),
                |key| async move { messages.reconcile(&key).await },
            )
            .await;
            unused.cancel();
        };
        let cutting = async {
            term.cancelled().await;
            // Who stops still holds the lease and ends what it began; who lost it does nothing more, and the next one sends what
            // was begun once more, with the same ids.
            if self.stop.is_cancelled() {
                tokio::time::sleep(DRAIN).await;
            }
            cut.cancel();
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(work, messages.connections.tidy(unused.clone())) } => {}
            () = cutting => {}
        }
    }
}
