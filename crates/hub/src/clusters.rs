//! Does what [`drover_core::registration::cluster`] plans for each managed cluster.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_api::addon::v1alpha1::ManagedClusterAddOn;
use drover_api::cluster::v1::ManagedCluster;
use drover_api::work::v1::ManifestWork;
use drover_api::{Condition, names};
use drover_core::registration::cluster::health::Renewal;
use drover_core::registration::cluster::leave::{self, Belonging, Belongings};
use drover_core::registration::cluster::{self, Action, Policy, Seen};
use drover_runtime::clock::Clock;
use drover_runtime::controller::Next;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, NamespaceResourceScope, TypeMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::HubError;
use crate::cache::WorkCache;

/// The manager of the fields that the hub writes.
pub(crate) const FIELD_MANAGER: &str = "drover-hub";

/// Between two looks at a cluster that waits for the end of its add-ons and works.
const LEAVING: Duration = Duration::from_secs(1);

/// The controller of managed clusters.
pub(crate) struct Clusters {
    pub client: Client,
    pub policy: Policy,
    pub clock: Clock,
    pub clusters: Store<ManagedCluster>,
    pub namespaces: Store<Namespace>,
    pub leases: Store<Lease>,
    pub addons: Store<ManagedClusterAddOn>,
    pub works: WorkCache,
    pub memory: Mutex<HashMap<String, Memory>>,
}

/// What this process knows of a cluster beside what the API has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// For which acceptance its roles were written.
    written: Option<bool>,
    /// The last renewal of its lease.
    renewal: Option<Renewal>,
    /// Whether what it left behind is gone.
    cleared: bool,
}

impl Clusters {
    /// One round for one cluster.
    pub(crate) async fn reconcile(&self, name: &str) -> Result<Next, HubError> {
        let Some(cluster) = self.clusters.get(&ObjectRef::new(name)) else {
            return self.clear(name).await;
        };
        let now = self.clock.now();
        let leaves = cluster.metadata.deletion_timestamp.is_some();
        let belongings = if leaves {
            self.belongings(name)
        } else {
            Belongings::default()
        };
        let renewal = self.renewal(name, now);
        let written = self.memory().entry(name.to_owned()).or_default().written;
        let seen = Seen {
            cluster: &cluster,
            namespace: self.has_namespace(name),
            renewal,
            belongings: &belongings,
            roles_written: written == Some(cluster.spec.hub_accepts_client),
        };
        let mut next = Next::OnChange;
        let mut current = ManagedCluster::clone(&cluster);
        for action in cluster::plan(&seen, &self.policy, now) {
            if let Action::WakeAt(time) = action {
                let wait = time.duration_since(now).unsigned_abs();
                next = Next::After(wait + Duration::from_millis(1));
                continue;
            }
            let trouble = Trouble::of(&action, leaves);
            if let Err(error) = self.act(&mut current, action).await {
                self.explain(&mut current, trouble, &error).await;
                return Err(error);
            }
        }
        // What nobody holds goes without a sign that it was about to.
        if leaves && !belongings.is_empty() {
            next = Next::After(LEAVING);
        }
        Ok(next)
    }

    /// Removes what a cluster left behind whose object went without waiting (ocm: pkg/registration/hub/gc).
    async fn clear(&self, name: &str) -> Result<Next, HubError> {
        let cleared = {
            let mut memory = self.memory();
            let known = memory.remove(name).unwrap_or_default();
            if known.cleared {
                memory.insert(name.to_owned(), known);
            }
            known.cleared
        };
        let belongings = self.belongings(name);
        // Only a namespace that was a cluster's is in the cache.
        let ours = self.namespaces.get(&ObjectRef::new(name)).is_some();
        if !ours || (cleared && belongings.is_empty()) {
            return Ok(Next::OnChange);
        }
        let api: Api<ManagedCluster> = Api::all(self.client.clone());
        let found = api.get_opt(name).await;
        // The cache may be behind: nothing of a cluster that is there again is touched.
        if found
            .map_err(|error| HubError::read("managed cluster", name, error))?
            .is_some()
        {
            return Ok(Next::OnChange);
        }
        let mut gone = ManagedCluster::default();
        gone.metadata.name = Some(name.to_owned());
        for action in leave::clear(name, &belongings) {
            self.act(&mut gone, action).await?;
        }
        if !belongings.is_empty() {
            return Ok(Next::After(LEAVING));
        }
        self.memory().entry(name.to_owned()).or_default().cleared = true;
        Ok(Next::OnChange)
    }

    /// Says in the cluster why it does not go on. A failure of that is no news: the round failed already.
    async fn explain(&self, cluster: &mut ManagedCluster, trouble: Trouble, error: &HubError) {
        let (why, now) = (error.to_string(), self.clock.now());
        let news = match trouble {
            Trouble::Roles => cluster::not_admitted(&why, now),
            Trouble::Deletion => leave::failed(&why, now),
            Trouble::Other => return,
        };
        if let Err(error) = self.set_conditions(cluster, vec![news]).await {
            tracing::debug!(%error, "failed to say why");
        }
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_namespace(&self, name: &str) -> bool {
        let namespace = self.namespaces.get(&ObjectRef::new(name));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
    }

    fn renewal(&self, cluster: &str, now: Timestamp) -> Option<Renewal> {
        let lease = self
            .leases
            .get(&ObjectRef::new(names::CLUSTER_LEASE).within(cluster));
        let written = lease.as_ref().and_then(|lease| {
            let spec = lease.spec.as_ref();
            let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
            let created = lease.metadata.creation_timestamp.as_ref();
            renewed.map(|time| time.0).or(created.map(|time| time.0))
        });
        let mut memory = self.memory();
        let known = memory.entry(cluster.to_owned()).or_default();
        known.renewal = written.map(|written| Renewal::hear(known.renewal, written, now));
        known.renewal
    }

    fn belongings(&self, cluster: &str) -> Belongings {
        let addons = self.addons.state();
        let addons = addons
            .iter()
            .filter(|addon| addon.metadata.namespace.as_deref() == Some(cluster));
        let works = self.works.of_cluster(cluster);
        Belongings {
            addons: addons.map(|addon| Belonging::of(&addon.metadata)).collect(),
            works: works
                .iter()
                .map(|work| Belonging::of(&work.metadata))
                .collect(),
        }
    }

    async fn act(&self, cluster: &mut ManagedCluster, action: Action) -> Result<(), HubError> {
        let name = cluster.name_any();
        match action {
            Action::Accept { at } => {
                let annotations = json!({names::AUTOMATICALLY_ACCEPTED_ON_ANNOTATION: at});
                let patch = json!({"metadata": {"annotations": annotations}, "spec": {"hubAcceptsClient": true}});
                self.patch(cluster, patch).await
            }
            Action::SetFinalizers(finalizers) => {
                self.patch(cluster, json!({"metadata": {"finalizers": finalizers}}))
                    .await
            }
            Action::SetTaints(taints) => {
                self.patch(cluster, json!({"spec": {"taints": taints}}))
                    .await
            }
            Action::SetConditions(news) => self.set_conditions(cluster, news).await,
            Action::Ensure(objects) => apply_all(&self.client, &objects).await,
            Action::RolesWritten => {
                let accepted = cluster.spec.hub_accepts_client;
                self.memory().entry(name).or_default().written = Some(accepted);
                Ok(())
            }
            Action::Remove(list) => self.remove(&list).await,
            Action::CreateLease => self.create_lease(cluster).await,
            Action::DeleteAddOns(addons) => {
                self.delete::<ManagedClusterAddOn>("add-on", &name, &addons)
                    .await
            }
            Action::DeleteWorks(works) => {
                self.delete::<ManifestWork>("manifest work", &name, &works)
                    .await
            }
            // Handled by the caller, who knows when the next round is.
            Action::WakeAt(_) => Ok(()),
        }
    }

    /// A merge patch that fails when somebody else wrote in between.
    async fn patch(&self, cluster: &mut ManagedCluster, mut patch: Value) -> Result<(), HubError> {
        patch["metadata"]["resourceVersion"] = json!(cluster.resource_version());
        let api: Api<ManagedCluster> = Api::all(self.client.clone());
        let name = cluster.name_any();
        let written = api.patch(&name, &params(), &Patch::Merge(patch)).await;
        *cluster = written.map_err(|error| HubError::write("managed cluster", name, error))?;
        Ok(())
    }

    async fn set_conditions(
        &self,
        cluster: &mut ManagedCluster,
        news: Vec<Condition>,
    ) -> Result<(), HubError> {
        let current = cluster
            .status
            .as_ref()
            .map(|s| s.conditions.as_slice())
            .unwrap_or_default();
        let patch = json!({
            "metadata": {"resourceVersion": cluster.resource_version()},
            "status": {"conditions": drover_api::conditions::merge(current, news)},
        });
        let api: Api<ManagedCluster> = Api::all(self.client.clone());
        let name = cluster.name_any();
        let written = api
            .patch_status(&name, &params(), &Patch::Merge(patch))
            .await;
        *cluster =
            written.map_err(|error| HubError::write("status of managed cluster", name, error))?;
        Ok(())
    }

    async fn create_lease(&self, cluster: &ManagedCluster) -> Result<(), HubError> {
        let name = cluster.name_any();
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": names::CLUSTER_LEASE, "namespace": name, "labels": {names::CLUSTER_NAME_LABEL: name}},
            "spec": {
                "holderIdentity": names::CLUSTER_LEASE,
                "leaseDurationSeconds": cluster::lease_seconds(cluster),
                "renewTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(self.clock.now()),
            },
        }))
        .map_err(|error| HubError::Internal(error.to_string()))?;
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &name);
        match api.create(&PostParams::default(), &lease).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(HubError::write("lease of managed cluster", name, error)),
        }
    }

    async fn delete<K>(&self, what: &str, cluster: &str, names: &[String]) -> Result<(), HubError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), cluster);
        for name in names {
            gone(api.delete(name, &DeleteParams::default()).await, what, name)?;
        }
        Ok(())
    }

    async fn remove(
        &self,
        list: &[(&'static str, &'static str, String, String)],
    ) -> Result<(), HubError> {
        for (version, kind, namespace, name) in list {
            let api = dynamic(&self.client, version, kind, Some(namespace))?;
            let left = match api.delete(name, &DeleteParams::default()).await {
                Ok(deleted) => deleted.left(),
                outcome => {
                    gone(outcome, kind, name)?;
                    None
                }
            };
            // OCM keeps the role of a cluster's works by this finalizer until the works are gone.
            let mut finalizers = left
                .map(|left| left.finalizers().to_vec())
                .unwrap_or_default();
            let before = finalizers.len();
            finalizers.retain(|finalizer| finalizer != names::work::FINALIZER);
            if finalizers.len() < before {
                let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
                gone(api.patch(name, &params(), &patch).await, kind, name)?;
            }
        }
        Ok(())
    }
}

/// What a failed step means for its cluster.
#[derive(Clone, Copy)]
enum Trouble {
    Roles,
    Deletion,
    Other,
}

impl Trouble {
    fn of(action: &Action, leaves: bool) -> Self {
        match action {
            Action::Ensure(_) => Self::Roles,
            Action::DeleteAddOns(_) | Action::DeleteWorks(_) => Self::Deletion,
            Action::Remove(_) if leaves => Self::Deletion,
            _ => Self::Other,
        }
    }
}

/// Server-side applies objects whose kinds have regular plurals.
pub(crate) async fn apply_all(client: &Client, objects: &[Value]) -> Result<(), HubError> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for object in objects {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let (version, kind) = (
            text("/apiVersion").unwrap_or_default(),
            text("/kind").unwrap_or_default(),
        );
        let name = text("/metadata/name").unwrap_or_default();
        let api = dynamic(client, version, kind, text("/metadata/namespace"))?;
        api.patch(name, &params, &Patch::Apply(object))
            .await
            .map_err(|error| HubError::write(kind, name.to_owned(), error))?;
    }
    Ok(())
}

pub(crate) fn dynamic(
    client: &Client,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
) -> Result<Api<DynamicObject>, HubError> {
    let types = TypeMeta {
        api_version: version.to_owned(),
        kind: kind.to_owned(),
    };
    let gvk = GroupVersionKind::try_from(&types)
        .map_err(|error| HubError::Internal(error.to_string()))?;
    let resource = ApiResource::from_gvk(&gvk);
    Ok(match namespace.filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

fn gone<T>(outcome: Result<T, kube::Error>, kind: &str, name: &str) -> Result<(), HubError> {
    match outcome {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(HubError::write(kind, name.to_owned(), error)),
    }
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
