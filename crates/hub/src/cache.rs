//! The works that the hub's API has, found by cluster and by uid without looking at those of other clusters.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drover_api::work::v1::ManifestWork;
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};

/// Which works there are. It names at least all that the store has; a name without a work is found out at the store.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<String, Cluster>>);

#[derive(Debug, Default)]
struct Cluster {
    uids: BTreeMap<String, String>,
    names: HashMap<String, String>,
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Cluster>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of a work, after the store did.
    pub(crate) fn note(&self, work: &ManifestWork) {
        let (namespace, name) = (work.namespace().unwrap_or_default(), work.name_any());
        let uid = work.uid().unwrap_or_default();
        let mut clusters = self.lock();
        let cluster = clusters.entry(namespace).or_default();
        let before = cluster.uids.insert(name.clone(), uid.clone());
        if let Some(before) = before.filter(|before| *before != uid) {
            cluster.names.remove(&before);
        }
        cluster.names.insert(uid, name);
    }

    fn of(&self, cluster: &str) -> Vec<String> {
        let clusters = self.lock();
        let found = clusters.get(cluster);
        found.map_or_else(Vec::new, |found| found.uids.keys().cloned().collect())
    }

    fn clusters(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn name(&self, cluster: &str, uid: &str) -> Option<String> {
        self.lock().get(cluster)?.names.get(uid).cloned()
    }
}

/// The works of all clusters. Clones are the same works.
#[derive(Clone)]
pub(crate) struct WorkCache {
    store: Store<ManifestWork>,
    names: Arc<Names>,
}

impl WorkCache {
    /// `names` must hear of every work that `store` gets.
    pub(crate) fn new(store: Store<ManifestWork>, names: Arc<Names>) -> Self {
        Self { store, names }
    }

    /// Waits until the works were read once, and knows them all from then on.
    pub(crate) async fn ready(&self) {
        if !drover_runtime::mirror::filled(&self.store).await {
            tracing::debug!("the cache of works ended before it was filled");
        }
        for work in self.store.state() {
            self.names.note(&work);
        }
    }

    /// All works, in any order.
    pub(crate) fn all(&self) -> Vec<Arc<ManifestWork>> {
        self.store.state()
    }

    /// A work by name.
    pub(crate) fn get(&self, cluster: &str, name: &str) -> Option<Arc<ManifestWork>> {
        self.store.get(&ObjectRef::new(name).within(cluster))
    }

    /// A work of a cluster by uid.
    pub(crate) fn find(&self, cluster: &str, uid: &str) -> Option<Arc<ManifestWork>> {
        let name = self.names.name(cluster, uid)?;
        self.get(cluster, &name)
            .filter(|work| work.metadata.uid.as_deref() == Some(uid))
    }

    /// The works of a cluster, by name.
    pub(crate) fn of_cluster(&self, cluster: &str) -> Vec<Arc<ManifestWork>> {
        let names = self.names.of(cluster);
        names
            .iter()
            .filter_map(|name| self.get(cluster, name))
            .collect()
    }

    /// The clusters that have works.
    pub(crate) fn clusters(&self) -> Vec<String> {
        self.names.clusters()
    }

    /// Forgets the name of a work that the store does not have any more.
    pub(crate) fn prune(&self, cluster: &str, name: &str) {
        let mut clusters = self.names.lock();
        // Looked at under the lock: who comes back is in the store before it is noted.
        if self.get(cluster, name).is_some() {
            return;
        }
        if let Some(found) = clusters.get_mut(cluster) {
            if let Some(uid) = found.uids.remove(name) {
                found.names.remove(&uid);
            }
            if found.uids.is_empty() {
                clusters.remove(cluster);
            }
        }
    }
}
