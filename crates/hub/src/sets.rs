//! Does what [`drover_core::sets`] decides: what sets and bindings say of themselves, the two sets that every hub has, and the default
//! set of clusters that name none.

use std::time::Duration;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta2::{ManagedClusterSet, ManagedClusterSetBinding};
use drover_api::{Condition, conditions, names};
use drover_core::sets::{self, BuiltIn, Repair};
use drover_runtime::clock::Clock;
use drover_runtime::controller::Next;
use kube::api::{Patch, PostParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::HubError;
use crate::works::params;

/// The controller of cluster sets.
pub(crate) struct Sets {
    client: Client,
    clock: Clock,
    clusters: Store<ManagedCluster>,
    sets: Store<ManagedClusterSet>,
    bindings: Store<ManagedClusterSetBinding>,
}

impl Sets {
    /// How long changes of clusters are collected before a set is counted again.
    pub(crate) const COLLECT: Duration = Duration::from_millis(200);
    /// The key of the first round, which looks for the sets that every hub has.
    pub(crate) const FIRST: &'static str = "built-in";

    pub(crate) fn new(
        client: &Client,
        clock: &Clock,
        clusters: &Store<ManagedCluster>,
        sets: &Store<ManagedClusterSet>,
        bindings: &Store<ManagedClusterSetBinding>,
    ) -> Self {
        Self {
            client: client.clone(),
            clock: clock.clone(),
            clusters: clusters.clone(),
            sets: sets.clone(),
            bindings: bindings.clone(),
        }
    }

    /// One round for a set, a binding or a cluster.
    pub(crate) async fn reconcile(&self, key: &str) -> Result<Next, HubError> {
        match key.split_once('/') {
            Some(("set", name)) => self.set(name).await?,
            Some(("binding", key)) => self.binding(key).await?,
            Some(("cluster", name)) => self.cluster(name).await?,
            _ => {
                for built_in in BuiltIn::ALL {
                    self.built_in(built_in).await?;
                }
            }
        }
        Ok(Next::OnChange)
    }

    async fn set(&self, name: &str) -> Result<(), HubError> {
        if let Some(built_in) = BuiltIn::ALL.into_iter().find(|it| it.name() == name) {
            self.built_in(built_in).await?;
        }
        let Some(found) = self.sets.get(&ObjectRef::new(name)) else {
            return Ok(());
        };
        let clusters = self.clusters.state();
        let all = clusters.iter().map(AsRef::as_ref);
        let news = sets::set_condition(&found, all, self.clock.now()).map_err(|error| {
            HubError::Internal(format!(
                "the selector of cluster set {name} cannot be followed: {error}"
            ))
        })?;
        let Some(news) = news else {
            return Ok(());
        };
        let known = found.status.as_ref().map(|status| &*status.conditions);
        let api: Api<ManagedClusterSet> = Api::all(self.client.clone());
        say(&api, &*found, known.unwrap_or_default(), news).await
    }

    /// A built-in set that is not there is created again, one that was changed is put right.
    async fn built_in(&self, built_in: BuiltIn) -> Result<(), HubError> {
        let name = built_in.name();
        let found = self.sets.get(&ObjectRef::new(name));
        let api: Api<ManagedClusterSet> = Api::all(self.client.clone());
        let done = match built_in.plan(found.as_deref()) {
            None => return Ok(()),
            Some(Repair::Create(set)) => api.create(&PostParams::default(), &set).await,
            Some(Repair::Restore(selector)) => {
                let mut selector = json!(selector);
                // A merge keeps what it does not name.
                if selector.get("labelSelector").is_none() {
                    selector["labelSelector"] = Value::Null;
                } else {
                    selector["labelSelector"] =
                        json!({"matchLabels": null, "matchExpressions": null});
                }
                let version = found.and_then(|found| found.resource_version());
                let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"clusterSelector": selector}});
                api.patch(name, &params(), &Patch::Merge(patch)).await
            }
        };
        match done {
            Ok(_) => Ok(()),
            // Somebody else was faster, or it changed: the cache will tell.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(HubError::write("cluster set", name, error)),
        }
    }

    async fn binding(&self, key: &str) -> Result<(), HubError> {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let Some(found) = self.bindings.get(&ObjectRef::new(name).within(namespace)) else {
            return Ok(());
        };
        let exists = self
            .sets
            .get(&ObjectRef::new(&found.spec.cluster_set))
            .is_some();
        let Some(news) = sets::binding_condition(&found, exists, self.clock.now()) else {
            return Ok(());
        };
        let known = found.status.as_ref().map(|status| &*status.conditions);
        let api = Api::<ManagedClusterSetBinding>::namespaced(self.client.clone(), namespace);
        say(&api, &*found, known.unwrap_or_default(), news).await
    }

    /// A cluster that names no set is put into the default one.
    async fn cluster(&self, name: &str) -> Result<(), HubError> {
        let Some(found) = self.clusters.get(&ObjectRef::new(name)) else {
            return Ok(());
        };
        if !sets::lacks_set(&found) {
            return Ok(());
        }
        let label = json!({names::CLUSTER_SET_LABEL: names::cluster_set::DEFAULT});
        let patch =
            json!({"metadata": {"resourceVersion": found.resource_version(), "labels": label}});
        let api: Api<ManagedCluster> = Api::all(self.client.clone());
        let written = api.patch(name, &params(), &Patch::Merge(patch)).await;
        match written {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(HubError::write("managed cluster", name, error)),
        }
    }
}

/// Writes a condition, unless the object changed in between.
async fn say<K>(
    api: &Api<K>,
    found: &K,
    known: &[Condition],
    news: Condition,
) -> Result<(), HubError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let name = found.name_any();
    let patch = json!({
        "metadata": {"resourceVersion": found.resource_version()},
        "status": {"conditions": conditions::merge(known, [news])},
    });
    let written = api
        .patch_status(&name, &params(), &Patch::Merge(patch))
        .await;
    match written {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(HubError::write(
            &format!("status of {}", K::kind(&())),
            name,
            error,
        )),
    }
}
