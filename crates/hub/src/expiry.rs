//! Works that are done go after the time that they say.

use drover_api::Time;
use drover_api::work::v1::ManifestWork;
use drover_core::work::expiry::{self, Expiry};
use drover_runtime::clock::Clock;
use drover_runtime::controller::Next;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use crate::HubError;
use crate::cache::WorkCache;

/// Deletes works that are done.
pub(crate) struct Expiring {
    pub client: Client,
    pub clock: Clock,
    pub works: WorkCache,
}

impl Expiring {
    /// Looks at the work `namespace/name`.
    pub(crate) async fn reconcile(&self, key: &str) -> Result<Next, HubError> {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let Some(work) = self.works.get(namespace, name) else {
            return Ok(Next::OnChange);
        };
        match expiry::decide(&work, &Time(self.clock.now())) {
            Expiry::Keep => Ok(Next::OnChange),
            Expiry::After(left) => Ok(Next::After(left)),
            Expiry::Now => {
                tracing::info!(
                    cluster = namespace,
                    work = name,
                    "a work is done and its time has passed; it is deleted"
                );
                self.delete(namespace, &work).await?;
                Ok(Next::OnChange)
            }
        }
    }

    async fn delete(&self, namespace: &str, work: &ManifestWork) -> Result<(), HubError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: work.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let name = work.name_any();
        let api: Api<ManifestWork> = Api::namespaced(self.client.clone(), namespace);
        match api.delete(&name, &params).await {
            Ok(_) => Ok(()),
            // It is gone, or another one has its name.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(HubError::write(
                "a work",
                format!("{namespace}/{name}"),
                error,
            )),
        }
    }
}
