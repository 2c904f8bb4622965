//! Where works come from and reports go to.

use std::sync::Arc;

use drover_api::work::v1::{ManifestWork, ManifestWorkStatus};
use tokio_util::sync::CancellationToken;

use super::memory::Version;

/// Why the hub did not take a write.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The work changed or went meanwhile: the next round sees it.
    #[error("the work changed on the hub meanwhile")]
    Stale,
    /// Anything else; tried again later.
    #[error("failed to write to the hub: {0}")]
    Failed(String),
}

/// The works of one cluster on its hub.
pub trait HubWorks: Send + Sync + 'static {
    /// The work of this name as it was last heard of.
    fn get(&self, name: &str) -> Option<Arc<ManifestWork>>;

    /// Tells one state of the work from another, without reading it; there is one also for a work that cannot be read.
    fn version(&self, name: &str) -> Option<Version> {
        self.get(name).map(|work| Version::of(&work.metadata))
    }

    /// Whether all works were heard of once: only then is one that is missing gone.
    fn is_synced(&self) -> bool;

    /// Whether the hub ordered the end of the last work of this name. One that is missing otherwise may come back.
    fn ended(&self, _name: &str) -> bool {
        false
    }

    /// Nothing of the works of this name is left in the cluster.
    fn forget(&self, _name: &str) {}

    /// Listens until `cancel`; calls `told` with the name of each work that changed or went.
    fn run(
        self: Arc<Self>,
        told: impl Fn(&str) + Send + Sync + 'static,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<(), HubError>> + Send + 'static;

    /// Puts the agent's finalizer on the work.
    fn add_finalizer(
        &self,
        work: &ManifestWork,
    ) -> impl Future<Output = Result<(), HubError>> + Send;

    /// Takes the agent's finalizer off the work, which is done with.
    fn remove_finalizer(
        &self,
        work: &ManifestWork,
    ) -> impl Future<Output = Result<(), HubError>> + Send;

    /// Replaces the status of the work.
    fn write_status(
        &self,
        work: &ManifestWork,
        status: &ManifestWorkStatus,
    ) -> impl Future<Output = Result<(), HubError>> + Send;
}
