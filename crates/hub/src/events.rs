//! Kubernetes events that agents record on the hub (ocm: pkg/server/services/event). Nothing goes back.

use drover_protocol::{Action, CloudEvent, EventType, SubResource};
use drover_transport::authn::Caller;
use drover_transport::{Service, ServiceError};
use kube::api::{Patch, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::objects::{body, kind_of};
use crate::works::{params, refusal};

/// The service of events.
pub(crate) struct Events {
    pub client: Client,
}

impl Events {
    fn api(&self, cluster: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
        let kind = ApiResource::from_gvk_with_plural(&kind, "events");
        Api::namespaced_with(self.client.clone(), cluster, &kind)
    }

    /// Records an event; of its metadata only what the recorder chooses counts.
    async fn record(&self, cluster: &str, mut said: Value) -> Result<(), ServiceError> {
        let metadata = said["metadata"].take();
        let chosen = ["name", "generateName", "labels", "annotations"].map(|key| {
            let value = metadata.get(key).cloned().unwrap_or_default();
            (key.to_owned(), value)
        });
        let chosen = chosen.into_iter().filter(|(_, value)| !value.is_null());
        said["metadata"] = Value::Object(chosen.collect());
        said["metadata"]["namespace"] = cluster.into();
        said["apiVersion"] = "events.k8s.io/v1".into();
        said["kind"] = "Event".into();
        let made: DynamicObject = serde_json::from_value(said)
            .map_err(|e| ServiceError::bad_request(format!("the data of the event: {e}")))?;
        let api = self.api(cluster);
        api.create(&PostParams::default(), &made)
            .await
            .map(|_| ())
            .map_err(refusal)
    }

    /// Counts the same event again. One that is gone by now is not missed.
    async fn repeat(&self, cluster: &str, said: &Value) -> Result<(), ServiceError> {
        let name = said["metadata"]["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            return Err(ServiceError::bad_request(
                "the event in the data has no name",
            ));
        }
        let patch = json!({"series": said["series"]});
        let api = self.api(cluster);
        match api.patch(name, &params(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(refusal(error)),
        }
    }
}

#[drover_transport::async_trait]
impl Service for Events {
    async fn list(&self, _cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        let why = "list is not supported on resources of kind \"events.events.k8s.io\"";
        Err(ServiceError::new(405, "MethodNotAllowed", why))
    }

    async fn receive(&self, _caller: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        let kind: EventType = kind_of(&event)?;
        let cluster = event.cluster().unwrap_or_default();
        match (kind.subresource, &kind.action) {
            (SubResource::Spec, Action::Create) => self.record(cluster, body(&event)?).await,
            (SubResource::Spec, Action::Update) => self.repeat(cluster, &body(&event)?).await,
            _ => Err(crate::objects::not_taken(&kind)),
        }
    }
}
