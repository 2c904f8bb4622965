//! Works in a namespace of the hub's Kubernetes API.

use std::sync::Arc;

use drover_api::{
    names::work as names,
    work::v1::{ManifestWork, ManifestWorkStatus},
};
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    core::DynamicObject,
    discovery::ApiResource,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    cache::Cache,
    hub::{HubError, HubWorks},
};

/// The works of one cluster, straight from the hub's API.
pub struct HubKube {
    client: Client,
    cluster: String,
    works: Cache<ManifestWork>,
}

impl HubKube {
    /// The works of `cluster`, which live in the namespace of that name.
    pub fn new(client: Client, cluster: &str) -> Self {
        Self {
            client,
            cluster: cluster.to_owned(),
            works: Cache::default(),
        }
    }

    fn api(&self) -> Api<ManifestWork> {
        Api::namespaced(self.client.clone(), &self.cluster)
    }

    fn outcome(
        &self,
        work: &ManifestWork,
        answer: Result<ManifestWork, kube::Error>,
    ) -> Result<(), HubError> {
        match answer {
            Ok(work) => {
                self.works.learn_known(work);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                self.works.forget(&work.name_any());
                Err(HubError::Stale)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() => Err(HubError::Stale),
            Err(error) => Err(HubError::Failed(error.to_string())),
        }
    }

    async fn patch_finalizers(
        &self,
        work: &ManifestWork,
        finalizers: Vec<String>,
    ) -> Result<(), HubError> {
        let patch = json!({ "metadata": { "finalizers": finalizers, "uid": work.metadata.uid, "resourceVersion": work.metadata.resource_version } });
        let answer = self
            .api()
            .patch(&work.name_any(), &params(), &Patch::Merge(patch))
            .await;
        self.outcome(work, answer)
    }
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

impl HubWorks for HubKube {
    fn get(&self, name: &str) -> Option<Arc<ManifestWork>> {
        self.works.get(name)
    }

    fn is_synced(&self) -> bool {
        self.works.is_synced()
    }

    async fn run(
        self: Arc<Self>,
        told: impl Fn(&str) + Send + Sync + 'static,
        cancel: CancellationToken,
    ) -> Result<(), HubError> {
        let resource = ApiResource::erase::<ManifestWork>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.cluster, &resource);
        let stream = watcher::watcher(api, watcher::Config::default()).default_backoff();
        futures::pin_mut!(stream);
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                event = stream.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    let done = matches!(event, watcher::Event::InitDone);
                    for work in self.works.hear(event) {
                        told(&work.name_any());
                    }
                    if done {
                        // What is gone could not be told from what was not heard of yet.
                        self.works.names().iter().for_each(|name| told(name));
                    }
                }
                Some(Err(error)) => tracing::debug!(%error, "the watch of works was interrupted"),
                None => return Err(HubError::Failed("the watch of works ended".to_owned())),
            }
        }
    }

    async fn add_finalizer(&self, work: &ManifestWork) -> Result<(), HubError> {
        let mut finalizers = work.finalizers().to_vec();
        finalizers.push(names::FINALIZER.to_owned());
        self.patch_finalizers(work, finalizers).await
    }

    async fn remove_finalizer(&self, work: &ManifestWork) -> Result<(), HubError> {
        let finalizers = work
            .finalizers()
            .iter()
            .filter(|name| *name != names::FINALIZER)
            .cloned()
            .collect();
        match self.patch_finalizers(work, finalizers).await {
            Err(HubError::Stale) if self.works.get(&work.name_any()).is_none() => Ok(()),
            outcome => outcome,
        }
    }

    async fn write_status(
        &self,
        work: &ManifestWork,
        status: &ManifestWorkStatus,
    ) -> Result<(), HubError> {
        let status: Value =
            serde_json::to_value(status).map_err(|error| HubError::Failed(error.to_string()))?;
        // The agent alone writes the status, so only the identity of the work matters, not its version.
        let patch = json!({ "metadata": { "uid": work.metadata.uid }, "status": status });
        let answer = self
            .api()
            .patch_status(&work.name_any(), &params(), &Patch::Merge(patch))
            .await;
        self.outcome(work, answer)
    }
}
