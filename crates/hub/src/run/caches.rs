//! What a hub sees of its API, and whom it tells of a change.

use std::sync::Arc;

use drover_api::addon::v1alpha1::ManagedClusterAddOn;
use drover_api::cluster::v1::ManagedCluster;
use drover_api::names;
use drover_api::work::v1::ManifestWork;
use drover_runtime::mirror::{filled, mirror};
use drover_runtime::queue::WorkQueue;
use drover_runtime::supervise::Tasks;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::Store;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};

use crate::cache::{Names, WorkCache};
use crate::placement;
use crate::replicaset::Sets;
use crate::requests::OF_CLUSTER;

/// What the controllers have to look at.
#[derive(Clone)]
pub(super) struct Queues {
    /// Names of clusters.
    pub clusters: Arc<WorkQueue<String>>,
    /// Names of certificate requests, and of clusters.
    pub requests: Arc<WorkQueue<String>>,
    /// Works, for the broker.
    pub works: Arc<WorkQueue<String>>,
    /// Works that may be done.
    pub expiry: Arc<WorkQueue<String>>,
    /// Works, for each broker that agents use beside the hub's own.
    pub sources: Vec<Arc<WorkQueue<String>>>,
    /// Objects of other kinds, for the broker.
    pub objects: Arc<WorkQueue<String>>,
    /// What cluster sets and placements look at.
    pub changes: Arc<placement::Changes>,
    /// Which works are of which replica set.
    pub sets: Arc<Sets>,
}

impl Queues {
    pub(super) fn new(sources: usize) -> Self {
        Self {
            clusters: Arc::default(),
            requests: Arc::default(),
            works: Arc::default(),
            expiry: Arc::default(),
            sources: (0..sources).map(|_| Arc::default()).collect(),
            objects: Arc::default(),
            changes: Arc::default(),
            sets: Arc::default(),
        }
    }
}

/// The caches that several parts of a hub share.
#[derive(Clone)]
pub(super) struct Caches {
    pub clusters: Store<ManagedCluster>,
    pub namespaces: Store<Namespace>,
    pub leases: Store<Lease>,
    pub works: WorkCache,
    pub requests: Store<CertificateSigningRequest>,
    pub addons: Store<ManagedClusterAddOn>,
}

impl Caches {
    /// Fills them by tasks of `tasks`.
    pub(super) fn fill(client: &Client, queues: &Queues, tasks: &mut Tasks) -> Self {
        Self {
            clusters: clusters(client, queues.clone(), tasks),
            namespaces: namespaces(client, queues.clone(), tasks),
            leases: leases(client, queues.clone(), tasks),
            works: works(client, queues.clone(), tasks),
            requests: requests(client, queues.clone(), tasks),
            addons: addons(client, queues.clone(), tasks),
        }
    }

    /// Waits until all were read once.
    pub(super) async fn ready(&self) {
        filled(&self.clusters).await;
        filled(&self.namespaces).await;
        filled(&self.leases).await;
        filled(&self.requests).await;
        filled(&self.addons).await;
        self.works.ready().await;
    }
}

fn clusters(client: &Client, queues: Queues, tasks: &mut Tasks) -> Store<ManagedCluster> {
    let tell = move |found: &ManagedCluster| {
        let name = found.name_any();
        queues.objects.add(format!("managedclusters/{name}"));
        queues.requests.add(format!("{OF_CLUSTER}{name}"));
        queues.clusters.add(name);
        placement::cluster_changed(&queues.changes, found);
    };
    let api = Api::all(client.clone());
    let (store, task) = mirror(api, Config::default(), tasks.cancel_token(), tell);
    tasks.run("the cache of clusters", task);
    store
}

fn namespaces(client: &Client, queues: Queues, tasks: &mut Tasks) -> Store<Namespace> {
    let labelled = Config::default().labels(names::CLUSTER_NAME_LABEL);
    let tell = move |found: &Namespace| queues.clusters.add(found.name_any());
    let api = Api::all(client.clone());
    let (store, task) = mirror(api, labelled, tasks.cancel_token(), tell);
    tasks.run("the cache of namespaces", task);
    store
}

fn leases(client: &Client, queues: Queues, tasks: &mut Tasks) -> Store<Lease> {
    let own = Config::default().fields(&format!("metadata.name={}", names::CLUSTER_LEASE));
    let tell = move |found: &Lease| {
        let cluster = found.namespace().unwrap_or_default();
        queues.objects.add(format!("leases/{cluster}"));
        queues.clusters.add(cluster);
    };
    let api = Api::all(client.clone());
    let (store, task) = mirror(api, own, tasks.cancel_token(), tell);
    tasks.run("the cache of leases", task);
    store
}

fn works(client: &Client, queues: Queues, tasks: &mut Tasks) -> WorkCache {
    let names = Arc::new(Names::default());
    let noted = names.clone();
    let tell = move |found: &ManifestWork| {
        noted.note(found);
        queues.sets.note(found);
        let cluster = found.namespace().unwrap_or_default();
        let key = format!("{cluster}/{}", found.name_any());
        for queue in queues.sources.iter().chain([&queues.works, &queues.expiry]) {
            queue.add(key.clone());
        }
        // Only a cluster that leaves waits for its works.
        if found.metadata.deletion_timestamp.is_some() {
            queues.clusters.add(cluster);
        }
    };
    let api = Api::all(client.clone());
    let (store, task) = mirror(api, Config::default(), tasks.cancel_token(), tell);
    tasks.run("the cache of works", task);
    WorkCache::new(store, names)
}

fn requests(
    client: &Client,
    queues: Queues,
    tasks: &mut Tasks,
) -> Store<CertificateSigningRequest> {
    let tell = move |found: &CertificateSigningRequest| {
        let name = found.name_any();
        queues.objects.add(format!("requests/{name}"));
        queues.requests.add(name);
    };
    let api = Api::all(client.clone());
    let (store, task) = mirror(api, Config::default(), tasks.cancel_token(), tell);
    tasks.run("the cache of certificate requests", task);
    store
}

fn addons(client: &Client, queues: Queues, tasks: &mut Tasks) -> Store<ManagedClusterAddOn> {
    let tell = move |found: &ManagedClusterAddOn| {
        let cluster = found.namespace().unwrap_or_default();
        let key = format!("addons/{cluster}/{}", found.name_any());
        queues.objects.add(key);
        if found.metadata.deletion_timestamp.is_some() {
            queues.clusters.add(cluster);
        }
    };
    let api = Api::all(client.clone());
    let (store, task) = mirror(api, Config::default(), tasks.cancel_token(), tell);
    tasks.run("the cache of add-ons", task);
    store
}
