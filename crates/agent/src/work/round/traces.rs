//! The AppliedManifestWork of a work: made, changed, let go, and evicted when its work is gone.

use drover_api::{
    names::work as names,
    work::v1::{AppliedManifestWork, AppliedManifestWorkStatus, ManifestWork},
};
use drover_core::work::eviction::{self, Eviction};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PostParams, Preconditions},
};
use serde_json::{Value, json};

use super::{ClusterError, HubWorks, Key, Round, RoundError, params};

impl<H: HubWorks> Round<'_, H> {
    pub(super) async fn create_applied(
        &self,
        applied: &AppliedManifestWork,
    ) -> Result<(), RoundError> {
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.all.traces().create(&params, applied).await {
            Ok(created) => {
                self.all.applied.learn(created);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                // The watch has not told of it yet.
                let found = self
                    .all
                    .traces()
                    .get(&applied.name_any())
                    .await
                    .map_err(ClusterError::from)?;
                self.all.applied.learn(found);
                Ok(())
            }
            Err(error) => Err(ClusterError::from(error).into()),
        }
    }

    pub(super) async fn patch_applied(
        &self,
        applied: &AppliedManifestWork,
        patch: Value,
    ) -> Result<(), RoundError> {
        let answer = self
            .all
            .traces()
            .patch(&applied.name_any(), &params(), &Patch::Merge(patch))
            .await;
        self.learn_applied(applied, answer)
    }

    pub(super) async fn patch_applied_status(
        &self,
        applied: &AppliedManifestWork,
        status: &AppliedManifestWorkStatus,
    ) -> Result<(), RoundError> {
        // Absent members must go, so they are said as null.
        let patch = json!({
            "metadata": { "uid": applied.uid() },
            "status": { "appliedResources": status.applied_resources, "evictionStartTime": status.eviction_start_time },
        });
        let answer = self
            .all
            .traces()
            .patch_status(&applied.name_any(), &params(), &Patch::Merge(patch))
            .await;
        self.learn_applied(applied, answer)
    }

    fn learn_applied(
        &self,
        applied: &AppliedManifestWork,
        answer: Result<AppliedManifestWork, kube::Error>,
    ) -> Result<(), RoundError> {
        match answer {
            Ok(answer) => {
                self.all.applied.learn_known(answer);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                self.all.applied.forget(&applied.name_any());
                Ok(())
            }
            Err(error) => Err(ClusterError::from(error).into()),
        }
    }

    pub(super) async fn delete_applied(
        &self,
        applied: &AppliedManifestWork,
    ) -> Result<(), RoundError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: applied.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let name = applied.name_any();
        match self.all.traces().delete(&name, &params).await {
            Ok(either) => {
                either.map_left(|applied| self.all.applied.learn_known(applied));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                self.all.applied.forget(&name);
                Ok(())
            }
            Err(error) => Err(ClusterError::from(error).into()),
        }
    }

    /// Whether a trace is for another agent to look after.
    pub(super) fn is_of_another(&self, applied: &AppliedManifestWork) -> bool {
        let identity = &self.all.config.identity;
        applied.spec.hub_hash != identity.hub_hash && applied.spec.agent_id != identity.agent_id
    }

    /// Looks after a trace whose work is gone, or is back. Tells whether to look again at once.
    pub(super) async fn evict(
        &mut self,
        work: Option<&ManifestWork>,
        applied: &AppliedManifestWork,
    ) -> Result<bool, RoundError> {
        let identity = &self.all.config.identity;
        let ours = applied.spec.hub_hash == identity.hub_hash;
        if let (Key::Work(name), None, true) = (self.key, work, ours)
            && applied.metadata.deletion_timestamp.is_none()
            && self.all.hub.ended(name)
        {
            self.delete_applied(applied).await?;
            return Ok(true);
        }
        let mut status = applied.status.clone().unwrap_or_default();
        match eviction::decide(
            applied,
            ours && work.is_some(),
            self.all.config.eviction_grace,
            &self.all.now(),
        ) {
            Eviction::Keep => Ok(false),
            Eviction::Wait(time) => {
                self.wait(time);
                Ok(false)
            }
            Eviction::Stamp(now) => {
                status.eviction_start_time = Some(now);
                self.patch_applied_status(applied, &status).await?;
                Ok(true)
            }
            Eviction::Clear => {
                status.eviction_start_time = None;
                self.patch_applied_status(applied, &status).await?;
                Ok(true)
            }
            Eviction::Evict => {
                self.delete_applied(applied).await?;
                Ok(true)
            }
        }
    }
}
