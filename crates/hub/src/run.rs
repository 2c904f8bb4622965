//! One hub, from its API to its broker.

use std::sync::Arc;
use std::time::Duration;

use drover_api::addon::v1alpha1::ManagedClusterAddOn;
use drover_api::cluster::v1::ManagedCluster;
use drover_api::names;
use drover_api::work::v1::ManifestWork;
use drover_core::registration::{cluster, request};
use drover_protocol::DataType;
use drover_runtime::clock::Clock;
use drover_runtime::controller;
use drover_runtime::election::Leadership;
use drover_runtime::health::Health;
use drover_runtime::metrics::Metrics;
use drover_runtime::mirror::{filled, mirror};
use drover_runtime::queue::WorkQueue;
use drover_runtime::supervise::Tasks;
use drover_transport::broker::ServerOptions;
use drover_transport::tls::ServerTls;
use futures::future::join_all;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cache::{Names, WorkCache};
use crate::clusters::Clusters;
use crate::events::Events;
use crate::expiry::Expiring;
use crate::objects::{Objects, Served};
use crate::placement::{self, Placing};
use crate::replicaset::{ReplicaSets, Sets};
use crate::requests::{OF_CLUSTER, Requests, Sign};
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
        let clusters_queue = Arc::new(WorkQueue::<String>::new());
        let requests_queue = Arc::new(WorkQueue::<String>::new());
        let works_queue = Arc::new(WorkQueue::<String>::new());
        let expiry_queue = Arc::new(WorkQueue::<String>::new());
        let source_queues: Vec<Arc<WorkQueue<String>>> =
            self.work_sources.iter().map(|_| Arc::default()).collect();
        let objects_queue = Arc::new(WorkQueue::<String>::new());

        let (queue, told) = (clusters_queue.clone(), objects_queue.clone());
        let waiting = requests_queue.clone();
        let changes: Arc<placement::Changes> = Arc::default();
        let cluster_changes = changes.clone();
        let (clusters, task) = mirror(
            Api::all(self.client.clone()),
            Config::default(),
            stop.clone(),
            move |found: &ManagedCluster| {
                queue.add(found.name_any());
                told.add(format!("managedclusters/{}", found.name_any()));
                waiting.add(format!("{OF_CLUSTER}{}", found.name_any()));
                placement::cluster_changed(&cluster_changes, found);
            },
        );
        tasks.run("the cache of clusters", task);
        let placing = Placing::new(&self.client, &self.clock, clusters.clone(), changes, tasks);

        let queue = clusters_queue.clone();
        let labelled = Config::default().labels(names::CLUSTER_NAME_LABEL);
        let (namespaces, task) = mirror(
            Api::all(self.client.clone()),
            labelled,
            stop.clone(),
            move |found: &Namespace| {
                queue.add(found.name_any());
            },
        );
        tasks.run("the cache of namespaces", task);

        let (queue, told) = (clusters_queue.clone(), objects_queue.clone());
        let own = Config::default().fields(&format!("metadata.name={}", names::CLUSTER_LEASE));
        let (leases, task) = mirror(
            Api::all(self.client.clone()),
            own,
            stop.clone(),
            move |found: &Lease| {
                let cluster = found.namespace().unwrap_or_default();
                told.add(format!("leases/{cluster}"));
                queue.add(cluster);
            },
        );
        tasks.run("the cache of leases", task);

        let queue = clusters_queue.clone();
        let mut told = source_queues.clone();
        told.extend([works_queue.clone(), expiry_queue.clone()]);
        let names = Arc::new(Names::default());
        let noted = names.clone();
        let sets: Arc<Sets> = Arc::default();
        let of_sets = sets.clone();
        let (works, task) = mirror(
            Api::all(self.client.clone()),
            Config::default(),
            stop.clone(),
            move |found: &ManifestWork| {
                noted.note(found);
                of_sets.note(found);
                let cluster = found.namespace().unwrap_or_default();
                let key = format!("{cluster}/{}", found.name_any());
                for queue in &told {
                    queue.add(key.clone());
                }
                // Only a cluster that leaves waits for its works.
                if found.metadata.deletion_timestamp.is_some() {
                    queue.add(cluster);
                }
            },
        );
        tasks.run("the cache of works", task);
        let works = WorkCache::new(works, names);
        let sets = ReplicaSets::new(&self.client, &self.clock, works.clone(), sets, tasks);

        let (queue, told) = (requests_queue.clone(), objects_queue.clone());
        let (requests, task) = mirror(
            Api::all(self.client.clone()),
            Config::default(),
            stop.clone(),
            move |found: &CertificateSigningRequest| {
                queue.add(found.name_any());
                told.add(format!("requests/{}", found.name_any()));
            },
        );
        tasks.run("the cache of certificate requests", task);

        let (queue, told) = (clusters_queue.clone(), objects_queue.clone());
        let (addons, task) = mirror(
            Api::all(self.client.clone()),
            Config::default(),
            stop.clone(),
            move |found: &ManagedClusterAddOn| {
                let cluster = found.namespace().unwrap_or_default();
                told.add(format!("addons/{cluster}/{}", found.name_any()));
                if found.metadata.deletion_timestamp.is_some() {
                    queue.add(cluster);
                }
            },
        );
        tasks.run("the cache of add-ons", task);

        let broker = broker::new(&self.client, self.serving.as_ref());
        if let Some(metrics) = &self.metrics {
            metrics.register(|registry| broker.register_metrics(registry));
        }
        let objects = Objects {
            client: self.client.clone(),
            clock: self.clock.clone(),
            broker: broker.clone(),
            clusters: clusters.clone(),
            requests: requests.clone(),
            leases: leases.clone(),
            addons: addons.clone(),
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
            works: works.clone(),
            queue: works_queue.clone(),
            memory: Memory::default(),
        });
        broker.register(DataType::MANIFEST_BUNDLES, bundles.clone());
        let sources: Vec<Source> = self
            .work_sources
            .into_iter()
            .zip(source_queues)
            .map(|(source, queue)| {
                let works = Works {
                    client: self.client.clone(),
                    clock: self.clock.clone(),
                    outlet: Way::new(source),
                    works: works.clone(),
                    queue,
                    memory: Memory::default(),
                };
                Source::new(works, clusters.clone())
            })
            .collect();

        let expiring = Expiring {
            client: self.client.clone(),
            clock: self.clock.clone(),
            works: works.clone(),
        };
        let acceptance = Clusters {
            client: self.client.clone(),
            policy: self.acceptance,
            clock: self.clock.clone(),
            clusters: clusters.clone(),
            namespaces: namespaces.clone(),
            leases: leases.clone(),
            works: works.clone(),
            addons: addons.clone(),
            memory: std::sync::Mutex::default(),
        };
        let mut policy = self.approval;
        policy.brokers.push(broker_user);
        let approval = Requests {
            client: self.client,
            policy,
            clock: self.clock,
            requests: requests.clone(),
            clusters: clusters.clone(),
            sign: self.sign,
        };
        let (listener, tls, serving) = (self.listener, self.tls, stop.clone());
        let (leadership, caches) = (self.leadership, self.health.gate("caches"));
        tasks.run("the controllers and the broker", async move {
            // Nobody is answered from a cache that is not filled yet.
            let ready = async {
                filled(&clusters).await;
                filled(&namespaces).await;
                filled(&leases).await;
                filled(&requests).await;
                filled(&addons).await;
                works.ready().await;
                placing.ready().await;
                sets.ready().await;
            };
            tokio::select! {
                () = ready => {}
                () = stop.cancelled() => return,
            }
            caches.open();
            let (acceptance, approval, bundles, objects, expiring) =
                (&acceptance, &approval, &bundles, &objects, &expiring);
            let (sources, sets, clusters_queue, requests_queue, expiry_queue, placing) = (
                &sources,
                &sets,
                &clusters_queue,
                &requests_queue,
                &expiry_queue,
                &placing,
            );
            // What writes by its own decision, and what has one name at a broker: on the leader only.
            let leading = leadership.each_term(&stop, |term| async move {
                tokio::join!(
                    placing.run(&term),
                    join_all(sources.iter().map(|source| source.run(term.clone()))),
                    sets.run(term.clone()),
                    controller::run(
                        "clusters",
                        clusters_queue.clone(),
                        WORKERS,
                        term.clone(),
                        |key| async move { acceptance.reconcile(&key).await }
                    ),
                    controller::run(
                        "certificate requests",
                        requests_queue.clone(),
                        WORKERS,
                        term.clone(),
                        |key| async move { approval.reconcile(&key).await }
                    ),
                    controller::run(
                        "works that are done",
                        expiry_queue.clone(),
                        WORKERS,
                        term.clone(),
                        |key| async move { expiring.reconcile(&key).await }
                    ),
                );
            });
            // What serves the agents that are connected here: on every copy of the hub.
            let serve = async {
                if let Err(error) = broker.serve(listener, tls, serving).await {
                    tracing::error!(%error, "the broker stopped");
                    stop.cancel();
                }
            };
            let ending = async {
                stop.cancelled().await;
                caches.close();
            };
            tokio::join!(
                leading,
                controller::run(
                    "work events",
                    works_queue,
                    1,
                    stop.clone(),
                    |key| async move { bundles.reconcile(&key).await }
                ),
                controller::run(
                    "object events",
                    objects_queue,
                    1,
                    stop.clone(),
                    |key| async move { objects.reconcile(&key).await }
                ),
                serve,
                ending,
            );
        });
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
