//! What agents report of works, into the API.

use std::sync::Arc;

use drover_api::conditions::{self, Status, condition};
use drover_api::work::v1::ManifestWork;
use drover_api::{Condition, Time, names};
use drover_protocol::{CloudEvent, Codec as _, SourceBundleCodec, Work, WorkStatus, sequence};
use drover_transport::ServiceError;
use kube::ResourceExt;
use kube::api::Patch;
use serde_json::{Value, json};

use super::{TRIES, Taken, Works, Written, lock, params, refusal};
use crate::outlet::Outlet;

impl<O: Outlet> Works<O> {
    /// Takes the report of an agent.
    pub(crate) async fn take(&self, event: &CloudEvent) -> Result<Taken, ServiceError> {
        let reported = SourceBundleCodec
            .decode(event)
            .map_err(|e| ServiceError::bad_request(e.to_string()))?;
        let cluster = event.cluster().unwrap_or_default();
        let uid = reported.metadata.uid.as_str();
        let _turn = self.memory.turn(uid).await;
        let Some(mut work) = self.find(cluster, &reported).await? else {
            return Ok(Taken::Unknown);
        };
        for tried in 1.. {
            let outcome = self.note(&work, &reported).await;
            match outcome {
                // Somebody else wrote the work: once more, from what is there now.
                Err(error) if error.code == 409 && tried < TRIES => {
                    let newest = self.newest(cluster, &work.name_any(), uid).await?;
                    let Some(newest) = newest else {
                        return Ok(Taken::Unknown);
                    };
                    work = newest;
                }
                other => return other.map(|()| Taken::Noted),
            }
        }
        Ok(Taken::Noted)
    }

    async fn note(&self, work: &Arc<ManifestWork>, reported: &Work) -> Result<(), ServiceError> {
        if reported.status.is_deleted() {
            return self.ended(work).await;
        }
        // A status of an older spec says nothing of this one.
        if reported.metadata.generation < work.metadata.generation.unwrap_or(0)
            && reported.metadata.generation != 0
        {
            return Ok(());
        }
        let annotations = &reported.metadata.annotations;
        let sequence = annotations
            .get(drover_protocol::names::ANNOTATION_SEQUENCE_ID)
            .cloned()
            .unwrap_or_default();
        if !sequence::is_newer(&self.last_sequence(work), &sequence).unwrap_or(true) {
            return Ok(());
        }
        let version = self.newest_version(work);
        let version = self.claim(work, version).await?;
        let version = self
            .write_status(work, version, reported, &sequence)
            .await?;
        let written = Written { sequence, version };
        lock(&self.memory.written).insert(reported.metadata.uid.clone(), written);
        Ok(())
    }

    /// The newest sequence id that was taken for a work, by this hub or, as far as is known, by another copy of it.
    pub(super) fn last_sequence(&self, work: &ManifestWork) -> String {
        let kept = kept_sequence(work).unwrap_or_default();
        let uid = work.metadata.uid.as_deref().unwrap_or_default();
        match lock(&self.memory.written).get(uid) {
            Some(written) if sequence::is_newer(kept, &written.sequence).unwrap_or(true) => {
                written.sequence.clone()
            }
            _ => kept.to_owned(),
        }
    }

    /// The version of the work that this hub has seen or made last: only that one is written over.
    fn newest_version(&self, work: &ManifestWork) -> Option<String> {
        let number =
            |version: &Option<String>| version.as_ref().and_then(|it| it.parse::<u64>().ok());
        let seen = work.metadata.resource_version.clone();
        let uid = work.metadata.uid.as_deref().unwrap_or_default();
        let made = lock(&self.memory.written)
            .get(uid)
            .and_then(|written| written.version.clone());
        if number(&made) > number(&seen) {
            made
        } else {
            seen
        }
    }

    /// An agent is done with a work for ever. One that shall still be is sent again.
    async fn ended(&self, work: &Arc<ManifestWork>) -> Result<(), ServiceError> {
        if work.metadata.deletion_timestamp.is_some() {
            return self.release(work).await;
        }
        let (cluster, uid) = (
            work.namespace().unwrap_or_default(),
            work.uid().unwrap_or_default(),
        );
        match self.newest(&cluster, &work.name_any(), &uid).await? {
            Some(newest) if newest.metadata.deletion_timestamp.is_some() => {
                self.release(&newest).await
            }
            Some(newest) => {
                tracing::info!(
                    cluster,
                    work = newest.name_any(),
                    "an agent removed a work that shall be there; it is sent again"
                );
                self.tell_again(&newest);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// An agent holds the work: it must not vanish before the agent has cleaned up.
    async fn claim(
        &self,
        work: &ManifestWork,
        version: Option<String>,
    ) -> Result<Option<String>, ServiceError> {
        if work.metadata.deletion_timestamp.is_some()
            || work
                .finalizers()
                .iter()
                .any(|f| f == names::work::FINALIZER)
        {
            return Ok(version);
        }
        let mut finalizers = work.finalizers().to_vec();
        finalizers.push(names::work::FINALIZER.to_owned());
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
        self.patch(work, patch).await
    }

    async fn release(&self, work: &ManifestWork) -> Result<(), ServiceError> {
        let mut finalizers = work.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != names::work::FINALIZER);
        if finalizers.len() == work.finalizers().len() {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": work.uid(), "resourceVersion": work.resource_version(), "finalizers": finalizers}});
        self.patch(work, patch).await.map(drop)
    }

    /// Patches a work; the answer is the version that it has then. A work that is gone has none.
    async fn patch(
        &self,
        work: &ManifestWork,
        patch: Value,
    ) -> Result<Option<String>, ServiceError> {
        let api = self.api(work);
        match api
            .patch(&work.name_any(), &params(), &Patch::Merge(patch))
            .await
        {
            Ok(written) => Ok(written.metadata.resource_version),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(refusal(error)),
        }
    }

    /// Writes a status together with its sequence id, over the version of the work that was looked at: so the older of two reports
    /// never replaces the newer one, whichever copies of the hub have them, and after whatever restarts.
    async fn write_status(
        &self,
        work: &ManifestWork,
        version: Option<String>,
        reported: &Work,
        sequence: &str,
    ) -> Result<Option<String>, ServiceError> {
        let same = work.status.is_some() && wire_status(work).is_ok_and(|it| it == reported.status);
        if same && kept_sequence(work).unwrap_or_default() == sequence {
            return Ok(version);
        }
        let mut status = json!(reported.status);
        // What is not said any more must not stay.
        for part in ["/conditions", "/resourceStatus/manifests"] {
            if let Some((parent, name)) = part.rsplit_once('/')
                && let Some(Value::Object(fields)) = status.pointer_mut(parent)
            {
                fields.entry(name).or_insert(Value::Null);
            }
        }
        if !sequence.is_empty() {
            let kept = keep_sequence(sequence, &Time(self.clock.now()));
            let conditions = status
                .as_object_mut()
                .map(|status| status.entry("conditions").or_insert(Value::Null));
            match conditions {
                Some(Value::Array(all)) => all.push(json!(kept)),
                Some(none) => *none = json!([kept]),
                None => (),
            }
        }
        let patch =
            json!({"metadata": {"uid": work.uid(), "resourceVersion": version}, "status": status});
        let api = self.api(work);
        match api
            .patch_status(&work.name_any(), &params(), &Patch::Merge(patch))
            .await
        {
            Ok(written) => Ok(written.metadata.resource_version),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(refusal(error)),
        }
    }
}

/// The sequence id that was written with the status of a work.
fn kept_sequence(work: &ManifestWork) -> Option<&str> {
    let conditions = &work.status.as_ref()?.conditions;
    let kept = conditions::find(conditions, names::work::REPORTED)?;
    Some(&kept.message)
}

/// The condition that keeps a sequence id. The API writes a status as a whole, and annotations apart from it: only within the status
/// can neither be there without the other.
fn keep_sequence(sequence: &str, now: &Time) -> Condition {
    condition(
        names::work::REPORTED,
        Status::True,
        names::work::REASON_REPORTED,
        sequence,
        None,
        now,
    )
}

/// The status of a work as it travels: as its agent gave it.
pub(crate) fn wire_status(work: &ManifestWork) -> Result<WorkStatus, serde_json::Error> {
    let Some(status) = &work.status else {
        return Ok(WorkStatus::default());
    };
    let mut status = status.clone();
    conditions::remove(&mut status.conditions, names::work::REPORTED);
    serde_json::to_value(status).and_then(serde_json::from_value)
}
