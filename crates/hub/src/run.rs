//! One hub, from its API to its broker.

mod caches;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use drover_core::registration::{cluster, request};
use drover_protocol::DataType;
use drover_runtime::clock::Clock;
use drover_runtime::controller;
use drover_runtime::election::Leadership;
use drover_runtime::health::Health;
use drover_runtime::metrics::Metrics;
use drover_runtime::supervise::Tasks;
use drover_transport::broker::{Broker, ServerOptions};
use drover_transport::tls::ServerTls;
use futures::future::join_all;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::caches::{Caches, Queues};
use crate::clusters::Clusters;
use crate::events::Events;
use crate::expiry::Expiring;
use crate::objects::{Objects, Served};
use crate::placement::Placing;
use crate::replicaset::ReplicaSets;
use crate::requests::{Requests, Sign};
use crate::source::{Source, Way, WorkSource};
use crate::tokens::Tokens;
use crate::works::{Memory, Works};
use crate::{HubError, broker, install};

/// Rounds of one controller that run at the same time.
const WORKERS: usize = 16;
/// How long the hub's tasks may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// What a hub is made of.
pub struct Hub {
    /// Its Kubernetes API.
    pub client: Client,
    /// Where agents connect.
    pub listener: TcpListener,
    /// The listener's certificate and the authority of its clients.
    pub tls: Option<ServerTls>,
    /// Limits of connections and calls, when they are not the usual ones.
    pub serving: Option<ServerOptions>,
    /// Signs the certificates of agents.
    pub sign: Sign,
    /// Which clusters are let in when they ask.
    pub acceptance: cluster::Policy,
    /// Whose first certificates are approved; the hub's own user counts as a broker.
    pub approval: request::Policy,
    /// Brokers through which agents get works too.
    pub work_sources: Vec<WorkSource>,
    /// When this copy of the hub leads: only the leader decides about clusters, the others serve agents.
    pub leadership: Leadership,
    /// Told when the hub is ready to serve.
    pub health: Health,
    /// Where the broker's counters are registered.
    pub metrics: Option<Metrics>,
    /// The time.
    pub clock: Clock,
}

impl Hub {
    /// Serves until `cancel`.
    ///
    /// # Errors
    /// When the definitions or roles cannot be installed, or a part of the hub fails for good.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), HubError> {
        install::definitions(&self.client, &drover_api::crds::hub()).await?;
        install::definitions(&self.client, &drover_api::crds::import()).await?;
        install::hub_roles(&self.client).await?;
        let broker_user = whoami(&self.client).await?;
        let mut tasks = Tasks::new(cancel.child_token());
        self.start(broker_user, &mut tasks);
        tasks
            .wait(GRACE)
            .await
            .map_err(|failed| HubError::Internal(failed.to_string()))
    }

    fn start(self, broker_user: String, tasks: &mut Tasks) {
        let stop = tasks.cancel_token();
        let queues = Queues::new(self.work_sources.len());
        let caches = Caches::fill(&self.client, &queues, tasks);
        let (changes, of_sets) = (queues.changes.clone(), queues.sets.clone());
        let clusters = caches.clusters.clone();
        let placing = Placing::new(&self.client, &self.clock, clusters, changes, tasks);
        let works = caches.works.clone();
        let sets = ReplicaSets::new(&self.client, &self.clock, works, of_sets, tasks);
        let broker = broker::new(&self.client, self.serving.as_ref());
        if let Some(metrics) = &self.metrics {
            metrics.register(|registry| broker.register_metrics(registry));
        }
        let (objects, bundles) = self.services(&broker, &caches, &queues);
        let gate = self.health.gate("caches");
        let (listener, tls, leadership) = (self.listener, self.tls, self.leadership);
        let mut policy = self.approval;
        policy.brokers.push(broker_user);
        let sources = self.work_sources.into_iter().zip(&queues.sources);
        let leader = Leader {
            sources: sources
                .map(|(source, queue)| {
                    let works = Works {
                        client: self.client.clone(),
                        clock: self.clock.clone(),
                        outlet: Way::new(source),
                        works: caches.works.clone(),
                        queue: queue.clone(),
                        memory: Memory::default(),
                    };
                    Source::new(works, caches.clusters.clone())
                })
                .collect(),
            expiring: Expiring {
                client: self.client.clone(),
                clock: self.clock.clone(),
                works: caches.works.clone(),
            },
            acceptance: Clusters {
                client: self.client.clone(),
                policy: self.acceptance,
                clock: self.clock.clone(),
                clusters: caches.clusters.clone(),
                namespaces: caches.namespaces.clone(),
                leases: caches.leases.clone(),
                works: caches.works.clone(),
                addons: caches.addons.clone(),
                memory: Mutex::default(),
            },
            approval: Requests {
                client: self.client,
                policy,
                clock: self.clock,
                requests: caches.requests.clone(),
                clusters: caches.clusters.clone(),
                sign: self.sign,
            },
            placing,
            sets,
            queues,
        };
        tasks.run("the controllers and the broker", async move {
            // Nobody is answered from a cache that is not filled yet.
            let ready = async {
                caches.ready().await;
                leader.placing.ready().await;
                leader.sets.ready().await;
            };
            tokio::select! {
                () = ready => {}
                () = stop.cancelled() => return,
            }
            gate.open();
            let (leader, queues, bundles, objects) = (&leader, &leader.queues, &bundles, &objects);
            let leading = leadership.each_term(&stop, |term| leader.run(term));
            // What serves the agents that are connected here: on every copy of the hub.
            let serve = async {
                if let Err(error) = broker.serve(listener, tls, stop.clone()).await {
                    tracing::error!(%error, "the broker stopped");
                    stop.cancel();
                }
            };
            let ending = async {
                stop.cancelled().await;
                gate.close();
            };
            tokio::join!(
                leading,
                controller::run(
                    "work events",
                    queues.works.clone(),
                    1,
                    stop.clone(),
                    |key| async move { bundles.reconcile(&key).await }
                ),
                controller::run(
                    "object events",
                    queues.objects.clone(),
                    1,
                    stop.clone(),
                    |key| async move { objects.reconcile(&key).await }
                ),
                serve,
                ending,
            );
        });
    }

    /// Registers what the broker serves. The answer is what must be told of changes.
    fn services(
        &self,
        broker: &Broker,
        caches: &Caches,
        queues: &Queues,
    ) -> (Objects, Arc<Works<Broker>>) {
        let objects = Objects {
            client: self.client.clone(),
            clock: self.clock.clone(),
            broker: broker.clone(),
            clusters: caches.clusters.clone(),
            requests: caches.requests.clone(),
            leases: caches.leases.clone(),
            addons: caches.addons.clone(),
            told: Arc::default(),
        };
        for data_type in broker::OBJECTS {
            let served = Served {
                data_type: data_type.clone(),
                objects: objects.clone(),
            };
            broker.register(data_type, Arc::new(served));
        }
        let events = Events {
            client: self.client.clone(),
        };
        broker.register(DataType::EVENTS, Arc::new(events));
        let tokens = Tokens {
            client: self.client.clone(),
            clock: self.clock.clone(),
            broker: broker.clone(),
        };
        broker.register(DataType::TOKEN_REQUESTS, Arc::new(tokens));
        let bundles = Arc::new(Works {
            client: self.client.clone(),
            clock: self.clock.clone(),
            outlet: broker.clone(),
            works: caches.works.clone(),
            queue: queues.works.clone(),
            memory: Memory::default(),
        });
        broker.register(DataType::MANIFEST_BUNDLES, bundles.clone());
        (objects, bundles)
    }
}

/// What writes by its own decision, and what has one name at a broker: on the leader only.
struct Leader {
    queues: Queues,
    placing: Placing,
    sets: ReplicaSets,
    sources: Vec<Source>,
    acceptance: Clusters,
    approval: Requests,
    expiring: Expiring,
}

impl Leader {
    /// Runs until the end of a term.
    async fn run(&self, term: CancellationToken) {
        tokio::join!(
            self.placing.run(&term),
            join_all(self.sources.iter().map(|source| source.run(term.clone()))),
            self.sets.run(term.clone()),
            controller::run(
                "clusters",
                self.queues.clusters.clone(),
                WORKERS,
                term.clone(),
                |key| async move { self.acceptance.reconcile(&key).await }
            ),
            controller::run(
                "certificate requests",
                self.queues.requests.clone(),
                WORKERS,
                term.clone(),
                |key| async move { self.approval.reconcile(&key).await }
            ),
            controller::run(
                "works that are done",
                self.queues.expiry.clone(),
                WORKERS,
                term.clone(),
                |key| async move { self.expiring.reconcile(&key).await }
            ),
        );
    }
}

/// The name under which the hub itself writes.
async fn whoami(client: &Client) -> Result<String, HubError> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let answer = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let answer = answer.map_err(|error| HubError::read("who the hub is", "itself", error))?;
    Ok(answer
        .status
        .and_then(|status| status.user_info)
        .and_then(|user| user.username)
        .unwrap_or_default())
}
