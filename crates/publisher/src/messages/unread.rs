//! The end of messages that cannot be read.

use std::time::Duration;

use drover_api::fedora::v1alpha1::{FedoraMessage, FedoraMessageStatus};
use drover_core::publish::{self, Step};
use drover_runtime::controller::Next;
use jiff::Timestamp;
use kube::api::PostParams;
use kube::core::Request;
use kube::{Resource as _, ResourceExt as _};

use super::Messages;
use crate::PublisherError;

impl Messages {
    /// Ends a message that cannot be read; nor can what the API answers to a write of it.
    pub(super) async fn end_unread(
        &self,
        rest: &FedoraMessage,
        why: &str,
        now: Timestamp,
    ) -> Result<Next, PublisherError> {
        match publish::unreadable(rest, why, now) {
            Step::Write(status) => self.write_unread(rest, *status).await?,
            Step::Delete => self.delete(rest).await?,
            Step::WakeAt(time) => {
                let wait = time.duration_since(now).unsigned_abs();
                return Ok(Next::After(wait + Duration::from_millis(1)));
            }
            // There is nothing to send.
            Step::Rest | Step::Mark(_) | Step::Identify(_) => {}
        }
        Ok(Next::OnChange)
    }

    /// A write of the status leaves everything else as it is, so what could not be read is not missed.
    async fn write_unread(
        &self,
        rest: &FedoraMessage,
        status: FedoraMessageStatus,
    ) -> Result<(), PublisherError> {
        let name = rest.name_any();
        let failed = |source| PublisherError::Write {
            kind: "status of message",
            name: name.clone(),
            source: Box::new(source),
        };
        let changed = FedoraMessage {
            status: Some(status),
            ..rest.clone()
        };
        let body =
            serde_json::to_vec(&changed).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        let namespace = rest.namespace().unwrap_or_default();
        let request = Request::new(FedoraMessage::url_path(&(), Some(&namespace)))
            .replace_subresource("status", &name, &PostParams::default(), body)
            .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        let written = self.settings.client.request_text(request).await;
        written.map_err(failed)?;
        self.events.written(rest.status.as_ref(), &changed);
        Ok(())
    }
}
