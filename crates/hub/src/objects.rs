//! Clusters, certificate requests, leases and add-ons behind the broker (ocm: pkg/server/services/{cluster,csr,lease,addon}).
//!
//! Agents write here what is theirs and nothing else: a new cluster is never accepted by its own word, a request carries
//! the name of who really asked, a lease is only renewed.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use drover_api::addon::v1alpha1::ManagedClusterAddOn;
use drover_api::cluster::v1::ManagedCluster;
use drover_api::names::{self, CLUSTER_NAME_LABEL};
use drover_core::registration::request;
use drover_protocol::names as wire;
use drover_protocol::{
    Action, CloudEvent, Codec, DataType, EventType, Object, ObjectCodec, SubResource,
};
use drover_runtime::clock::Clock;
use drover_runtime::controller::Next;
use drover_transport::authn::Caller;
use drover_transport::{Broker, Service, ServiceError};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PostParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use crate::broker::SOURCE;
use crate::works::{params, refusal};
use crate::{HubError, addons};

/// The services of whole objects: one value, one registration for each data type.
#[derive(Clone)]
pub(crate) struct Objects {
    pub client: Client,
    pub clock: Clock,
    pub broker: Broker,
    pub clusters: Store<ManagedCluster>,
    pub requests: Store<CertificateSigningRequest>,
    pub leases: Store<Lease>,
    pub addons: Store<ManagedClusterAddOn>,
    pub told: Arc<Mutex<HashMap<String, Told>>>,
}

/// What subscribers were told of an object last. It is only there to say that the object went, and may be lost: who comes
/// back asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    data_type: DataType,
    cluster: String,
    uid: String,
    version: String,
}

impl Told {
    fn of(data_type: DataType, cluster: &str, found: &impl ResourceExt) -> Self {
        Self {
            cluster: cluster.to_owned(),
            uid: found.uid().unwrap_or_default(),
            version: found.resource_version().unwrap_or_default(),
            data_type,
        }
    }
}

/// One data type of [`Objects`].
pub(crate) struct Served {
    pub data_type: DataType,
    pub objects: Objects,
}

impl Objects {
    /// Tells subscribers of an object that changed: `managedclusters/NAME`, `leases/NAMESPACE`, `requests/NAME`,
    /// `addons/NAMESPACE/NAME`.
    pub(crate) async fn reconcile(&self, key: &str) -> Result<Next, HubError> {
        let (kind, name) = key.split_once('/').unwrap_or_default();
        let now = match kind {
            "addons" => {
                let (namespace, name) = name.split_once('/').unwrap_or_default();
                let found = self.addons.get(&ObjectRef::new(name).within(namespace));
                for data_type in addons::VERSIONS {
                    let now = found.as_deref().map(|found| {
                        let event = self.addon_event(&data_type, found)?;
                        Ok((Told::of(data_type.clone(), namespace, found), event))
                    });
                    self.tell(&format!("{data_type}/{key}"), now)?;
                }
                return Ok(Next::OnChange);
            }
            "managedclusters" => self
                .clusters
                .get(&ObjectRef::new(name))
                .map(|found| self.telling(DataType::MANAGED_CLUSTERS, name, &*found)),
            "requests" => self.requests.get(&ObjectRef::new(name)).and_then(|found| {
                let cluster = found.labels().get(CLUSTER_NAME_LABEL)?;
                Some(self.telling(DataType::CSRS, cluster, &*found))
            }),
            _ => self
                .lease(name)
                .map(|found| self.telling(DataType::LEASES, name, &*found)),
        };
        self.tell(key, now)?;
        Ok(Next::OnChange)
    }

    fn tell(
        &self,
        key: &str,
        now: Option<Result<(Told, CloudEvent), ServiceError>>,
    ) -> Result<(), HubError> {
        let now = now
            .transpose()
            .map_err(|error| HubError::Internal(error.to_string()))?;
        let told = now.as_ref().map(|(told, _)| told.clone());
        let before = self.remember(key, told.clone());
        let same = |before: &Told| {
            told.as_ref()
                .is_some_and(|now| (&now.uid, &now.cluster) == (&before.uid, &before.cluster))
        };
        if let Some(gone) = before.filter(|before| !same(before)) {
            self.broker.publish(self.deletion(gone));
        }
        if let Some((_, event)) = now {
            self.broker.publish(event);
        }
        Ok(())
    }

    fn remember(&self, key: &str, told: Option<Told>) -> Option<Told> {
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told {
            Some(told) => all.insert(key.to_owned(), told),
            None => all.remove(key),
        }
    }

    fn telling<K: Serialize + Debug + ResourceExt>(
        &self,
        data_type: DataType,
        cluster: &str,
        found: &K,
    ) -> Result<(Told, CloudEvent), ServiceError> {
        let event = self.event(&data_type, found)?;
        Ok((Told::of(data_type, cluster, found), event))
    }

    fn deletion(&self, gone: Told) -> CloudEvent {
        let stamp = crate::stamp(&self.clock);
        let kind = gone.data_type.event(SubResource::Spec, Action::Delete);
        CloudEvent::new(stamp.id, stamp.source, &kind, stamp.time)
            .with(wire::EXT_CLUSTER_NAME, gone.cluster)
            .with(wire::EXT_ORIGINAL_SOURCE, "")
            .with(wire::EXT_RESOURCE_ID, gone.uid)
            .with(wire::EXT_RESOURCE_VERSION, gone.version)
            .with(wire::EXT_DELETION_TIMESTAMP, stamp.time)
    }

    fn lease(&self, cluster: &str) -> Option<std::sync::Arc<Lease>> {
        self.leases
            .get(&ObjectRef::new(names::CLUSTER_LEASE).within(cluster))
    }

    pub(crate) fn event(
        &self,
        data_type: &DataType,
        object: &(impl Serialize + Debug),
    ) -> Result<CloudEvent, ServiceError> {
        let object = Object::from_object(object).map_err(ServiceError::internal)?;
        let codec = ObjectCodec::of(data_type).ok_or_else(|| ServiceError::internal("no codec"))?;
        let kind = data_type.event(SubResource::Spec, Action::Update);
        codec
            .encode(crate::stamp(&self.clock), &kind, &object)
            .map_err(ServiceError::internal)
    }

    /// A cluster asks to join. What it says of itself counts, what the administrator says does not come from it.
    async fn create_cluster(&self, cluster: ManagedCluster) -> Result<(), ServiceError> {
        let made = json!({
            "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
            "metadata": {
                "name": cluster.name_any(), "labels": own_labels(&cluster), "annotations": cluster.annotations(),
            },
            "spec": {
                "hubAcceptsClient": false,
                "leaseDurationSeconds": cluster.spec.lease_duration_seconds.unwrap_or(60),
                "managedClusterClientConfigs": cluster.spec.managed_cluster_client_configs,
            },
        });
        let made: ManagedCluster =
            serde_json::from_value(made).map_err(|e| ServiceError::bad_request(e.to_string()))?;
        let api: Api<ManagedCluster> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &made)
            .await
            .map(|_| ())
            .map_err(refusal)
    }

    /// A cluster renews what it says of itself: addresses, labels and annotations.
    async fn update_cluster(&self, cluster: ManagedCluster) -> Result<(), ServiceError> {
        let patch = json!({
            "metadata": {"labels": own_labels(&cluster), "annotations": cluster.annotations()},
            "spec": {"managedClusterClientConfigs": cluster.spec.managed_cluster_client_configs},
        });
        let api: Api<ManagedCluster> = Api::all(self.client.clone());
        api.patch(&cluster.name_any(), &params(), &Patch::Merge(patch))
            .await
            .map(|_| ())
            .map_err(refusal)
    }

    /// A cluster reports. Conditions of the hub stay as they are.
    async fn report_cluster(&self, reported: ManagedCluster) -> Result<(), ServiceError> {
        let name = reported.name_any();
        let api: Api<ManagedCluster> = Api::all(self.client.clone());
        let current = api.get(&name).await.map_err(refusal)?;
        let known = current.status.unwrap_or_default();
        let news = reported.status.unwrap_or_default();
        let theirs = [
            names::cluster::JOINED,
            names::cluster::AVAILABLE,
            names::cluster::CERTIFICATE_ROTATED,
        ];
        let conditions = news
            .conditions
            .into_iter()
            .filter(|c| theirs.contains(&c.type_.as_str()));
        let patch = json!({
            "metadata": {"resourceVersion": current.metadata.resource_version},
            "status": {
                "conditions": drover_api::conditions::merge(&known.conditions, conditions),
                "capacity": news.capacity, "allocatable": news.allocatable, "version": news.version,
                "clusterClaims": news.cluster_claims, "managedNamespaces": news.managed_namespaces,
            },
        });
        api.patch_status(&name, &params(), &Patch::Merge(patch))
            .await
            .map(|_| ())
            .map_err(refusal)
    }

    /// An agent asks for a certificate; the request says who really asked.
    async fn create_request(
        &self,
        caller: &Caller,
        asked: CertificateSigningRequest,
    ) -> Result<(), ServiceError> {
        let cluster = asked
            .labels()
            .get(CLUSTER_NAME_LABEL)
            .cloned()
            .unwrap_or_default();
        let mut labels = asked.labels().clone();
        labels.insert(CLUSTER_NAME_LABEL.to_owned(), cluster);
        let made = CertificateSigningRequest {
            metadata: kube::core::ObjectMeta {
                name: asked.metadata.name.clone().filter(|name| !name.is_empty()),
                generate_name: asked.metadata.generate_name.clone(),
                labels: Some(labels),
                annotations: Some(request::requester_annotations(&caller.user, &caller.groups)),
                ..kube::core::ObjectMeta::default()
            },
            spec: asked.spec,
            status: None,
        };
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &made)
            .await
            .map(|_| ())
            .map_err(refusal)
    }

    async fn renew_lease(&self, cluster: &str, lease: Lease) -> Result<(), ServiceError> {
        if lease.name_any() != names::CLUSTER_LEASE {
            return Err(ServiceError::bad_request(format!(
                "an agent renews the lease {}, no other",
                names::CLUSTER_LEASE
            )));
        }
        let renewed = lease.spec.and_then(|spec| spec.renew_time);
        let patch = json!({"spec": {"renewTime": renewed}});
        let api: Api<Lease> = Api::namespaced(self.client.clone(), cluster);
        api.patch(names::CLUSTER_LEASE, &params(), &Patch::Merge(patch))
            .await
            .map(|_| ())
            .map_err(refusal)
    }
}

/// The labels that an agent may give its cluster: which set it is in decides the administrator.
fn own_labels(cluster: &ManagedCluster) -> BTreeMap<String, String> {
    let mut labels = cluster.labels().clone();
    labels.remove(names::CLUSTER_SET_LABEL);
    labels
}

#[drover_transport::async_trait]
impl Service for Served {
    async fn list(&self, cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        let objects = &self.objects;
        if self.data_type == DataType::MANAGED_CLUSTERS {
            let found = objects.clusters.get(&ObjectRef::new(cluster));
            return found
                .iter()
                .map(|found| objects.event(&self.data_type, &**found))
                .collect();
        }
        if self.data_type == DataType::LEASES {
            return objects
                .lease(cluster)
                .iter()
                .map(|found| objects.event(&self.data_type, &**found))
                .collect();
        }
        if addons::VERSIONS.contains(&self.data_type) {
            return objects.addons_of(&self.data_type, cluster);
        }
        let all = objects.requests.state();
        let own = all.iter().filter(|found| {
            found
                .labels()
                .get(CLUSTER_NAME_LABEL)
                .is_some_and(|name| name == cluster)
        });
        own.map(|found| objects.event(&self.data_type, &**found))
            .collect()
    }

    async fn receive(&self, caller: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        let kind = kind_of(&event)?;
        let cluster = event.cluster().unwrap_or_default().to_owned();
        let body = body(&event)?;
        let objects = &self.objects;
        match (kind.data_type.resource(), kind.subresource, &kind.action) {
            ("managedclusters", SubResource::Spec, Action::Create) => {
                objects.create_cluster(typed(body)?).await
            }
            ("managedclusters", SubResource::Spec, Action::Update) => {
                objects.update_cluster(typed(body)?).await
            }
            ("managedclusters", SubResource::Status, Action::Update) => {
                objects.report_cluster(typed(body)?).await
            }
            ("certificatesigningrequests", SubResource::Spec, Action::Create) => {
                objects.create_request(caller, typed(body)?).await
            }
            ("leases", SubResource::Spec, Action::Update) => {
                objects.renew_lease(&cluster, typed(body)?).await
            }
            ("managedclusteraddons", SubResource::Status, Action::Update) => {
                objects.report_addon(&kind.data_type, &cluster, body).await
            }
            _ => Err(not_taken(&kind)),
        }
    }
}

/// The type of an event.
pub(crate) fn kind_of(event: &CloudEvent) -> Result<EventType, ServiceError> {
    event
        .event_type
        .parse()
        .map_err(|e| ServiceError::bad_request(format!("{e}")))
}

/// The object in an event.
pub(crate) fn body(event: &CloudEvent) -> Result<Value, ServiceError> {
    let body: Value = serde_json::from_slice(event.payload())
        .map_err(|e| ServiceError::bad_request(format!("the data of the event: {e}")))?;
    if body.is_object() {
        Ok(body)
    } else {
        Err(ServiceError::bad_request(
            "the data of the event is no object",
        ))
    }
}

/// Refuses what agents may not send.
pub(crate) fn not_taken(kind: &EventType) -> ServiceError {
    ServiceError::bad_request(format!("{SOURCE} takes no {kind} from an agent"))
}

pub(crate) fn typed<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, ServiceError> {
    serde_json::from_value(body)
        .map_err(|error| ServiceError::bad_request(format!("the data of the event: {error}")))
}
