//! Works over the hub's event service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drover_api::names::work as names;
use drover_api::work::v1::{ManifestWork, ManifestWorkStatus};
use drover_client::{AgentWorks, ClientError, WorkStatus};
use futures::StreamExt as _;
use kube::ResourceExt as _;
use tokio_util::sync::CancellationToken;

use crate::work::hub::{HubError, HubWorks};

/// The protocol does not say when a resync is answered completely: works count as all heard of after this long on a link.
/// A hub sends them within moments; and what is missing then is only marked, and kept for the grace period.
const SETTLED_AFTER: Duration = Duration::from_secs(20);

/// The works of one cluster, from the event service. They are kept once, as the protocol holds them, and made into
/// Kubernetes objects when asked for. The driver of the works runs beside.
pub struct HubEvents {
    works: AgentWorks,
    synced: AtomicBool,
}

impl HubEvents {
    /// Over this client.
    pub fn new(works: AgentWorks) -> Self {
        Self { works, synced: AtomicBool::new(false) }
    }

    /// The uid of a work, if the copy that is held still has the spec that the caller saw.
    fn uid_of(&self, work: &ManifestWork) -> Result<String, HubError> {
        let uid = work.uid().ok_or(HubError::Stale)?;
        let held = self.works.get_uid(&uid).ok_or(HubError::Stale)?;
        let same = held.metadata.generation == work.metadata.generation.unwrap_or_default();
        if same { Ok(uid) } else { Err(HubError::Stale) }
    }
}

fn failed(error: ClientError) -> HubError {
    if error.is_not_found() || error.is_conflict() {
        HubError::Stale
    } else {
        HubError::Failed(error.to_string())
    }
}

impl HubWorks for HubEvents {
    fn get(&self, name: &str) -> Option<Arc<ManifestWork>> {
        let held = self.works.get(name)?;
        match held.to_object::<ManifestWork>() {
            Ok(work) => Some(Arc::new(work)),
            Err(error) => {
                tracing::warn!(work = name, %error, "failed to read a work of the hub; it is left as it is");
                None
            }
        }
    }

    fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    async fn run(self: Arc<Self>, told: impl Fn(&str) + Send + Sync + 'static, cancel: CancellationToken) -> Result<(), HubError> {
        let mut changes = self.works.watch();
        let settled = async {
            self.works.connected().await;
            tokio::time::sleep(SETTLED_AFTER).await;
        };
        tokio::pin!(settled);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = &mut settled, if !self.is_synced() => {
                    self.synced.store(true, Ordering::Release);
                    self.works.list().iter().for_each(|work| told(&work.metadata.name));
                }
                change = changes.next() => match change {
                    Some(change) => told(&change.object().metadata.name),
                    None => return Err(HubError::Failed("the watch of works ended".to_owned())),
                },
            }
        }
    }

    async fn add_finalizer(&self, work: &ManifestWork) -> Result<(), HubError> {
        let uid = self.uid_of(work)?;
        self.works.add_finalizer(&uid, names::FINALIZER).map(drop).map_err(failed)
    }

    async fn remove_finalizer(&self, work: &ManifestWork) -> Result<(), HubError> {
        let Some(uid) = work.uid() else { return Ok(()) };
        match self.works.remove_finalizer(&uid, names::FINALIZER) {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome.map(drop).map_err(failed),
        }
    }

    async fn write_status(&self, work: &ManifestWork, status: &ManifestWorkStatus) -> Result<(), HubError> {
        let uid = self.uid_of(work)?;
        let status: WorkStatus = serde_json::to_value(status)
            .and_then(serde_json::from_value)
            .map_err(|error| HubError::Failed(error.to_string()))?;
        self.works.set_status(&uid, status).map(drop).map_err(failed)
    }
}
