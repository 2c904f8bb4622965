//! Does what [`drover_core::registration::cluster`] plans for each managed cluster.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::work::v1::ManifestWork;
use drover_api::{Condition, names};
use drover_core::registration::cluster::{self, Action, Policy, Seen};
use drover_runtime::clock::Clock;
use drover_runtime::controller::Next;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::HubError;
use crate::cache::WorkCache;

/// The manager of the fields that the hub writes.
pub(crate) const FIELD_MANAGER: &str = "drover-hub";

/// Between two looks at a cluster that waits for the end of its works.
const LEAVING: Duration = Duration::from_secs(1);

/// The controller of managed clusters.
pub(crate) struct Clusters {
    pub client: Client,
    pub policy: Policy,
    pub clock: Clock,
    pub clusters: Store<ManagedCluster>,
    pub namespaces: Store<Namespace>,
    pub leases: Store<Lease>,
    pub works: WorkCache,
    /// For which acceptance the roles of a cluster were written since this process started.
    pub written: Mutex<HashMap<String, bool>>,
}

impl Clusters {
    /// One round for one cluster.
    pub(crate) async fn reconcile(&self, name: &str) -> Result<Next, HubError> {
        let Some(cluster) = self.clusters.get(&ObjectRef::new(name)) else {
            self.written().remove(name);
            return Ok(Next::OnChange);
        };
        let now = self.clock.now();
        let works = self.works_of(name);
        let seen = Seen {
            cluster: &cluster,
            namespace: self.has_namespace(name),
            renewed: self.renewed(name),
            works: &works,
            roles_written: self.written().get(name) == Some(&cluster.spec.hub_accepts_client),
        };
        let mut next = Next::OnChange;
        let mut current = ManagedCluster::clone(&cluster);
        for action in cluster::plan(&seen, self.policy, now) {
            if let Action::WakeAt(time) = action {
                let wait = time.duration_since(now).unsigned_abs();
                next = Next::After(wait + Duration::from_millis(1));
            } else {
                self.act(&mut current, action).await?;
            }
        }
        // A work that nobody holds goes without a sign that it was about to.
        if cluster.metadata.deletion_timestamp.is_some() && !works.is_empty() {
            next = Next::After(LEAVING);
        }
        Ok(next)
    }

    fn written(&self) -> std::sync::MutexGuard<'_, HashMap<String, bool>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_namespace(&self, name: &str) -> bool {
        let namespace = self.namespaces.get(&ObjectRef::new(name));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
    }

    fn renewed(&self, cluster: &str) -> Option<Timestamp> {
        let lease = self
            .leases
            .get(&ObjectRef::new(names::CLUSTER_LEASE).within(cluster))?;
        let created = lease
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        let renewed = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.renew_time.as_ref())
            .map(|time| time.0);
        renewed.or(created)
    }

    fn works_of(&self, cluster: &str) -> Vec<String> {
        let works = self.works.of_cluster(cluster);
        works.iter().map(|work| work.name_any()).collect()
    }

    async fn act(&self, cluster: &mut ManagedCluster, action: Action) -> Result<(), HubError> {
        let name = cluster.name_any();
        match action {
            Action::Accept { at } => {
                let annotations = json!({names::AUTOMATICALLY_ACCEPTED_ON_ANNOTATION: at});
                let patch = json!({"metadata": {"annotations": annotations}, "spec": {"hubAcceptsClient": true}});
                self.patch(cluster, patch).await
            }
            Action::AddFinalizer => {
                let mut finalizers = cluster.finalizers().to_vec();
                finalizers.push(names::CLUSTER_FINALIZER.to_owned());
                self.patch(cluster, json!({"metadata": {"finalizers": finalizers}}))
                    .await
            }
            Action::RemoveFinalizer => {
                let mut finalizers = cluster.finalizers().to_vec();
                finalizers.retain(|finalizer| finalizer != names::CLUSTER_FINALIZER);
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
                self.written().insert(name, cluster.spec.hub_accepts_client);
                Ok(())
            }
            Action::Remove(list) => self.remove(&list).await,
            Action::CreateLease => self.create_lease(cluster).await,
            Action::DeleteWorks(works) => self.delete_works(&name, &works).await,
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

    async fn delete_works(&self, cluster: &str, works: &[String]) -> Result<(), HubError> {
        let api: Api<ManifestWork> = Api::namespaced(self.client.clone(), cluster);
        for work in works {
            gone(
                api.delete(work, &DeleteParams::default()).await,
                "manifest work",
                work,
            )?;
        }
        Ok(())
    }

    async fn remove(
        &self,
        list: &[(&'static str, &'static str, String, String)],
    ) -> Result<(), HubError> {
        for (version, kind, namespace, name) in list {
            let api = dynamic(&self.client, version, kind, Some(namespace))?;
            gone(api.delete(name, &DeleteParams::default()).await, kind, name)?;
        }
        Ok(())
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
