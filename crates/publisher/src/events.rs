//! Events of Kubernetes, for people who look at a message with `kubectl describe`.

use drover_api::fedora::v1alpha1::{FedoraMessage, FedoraMessageStatus};
use drover_api::names::fedora as names;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};

/// Tells of a new reason. An event that is not taken is only logged: the status says the same.
pub(crate) async fn tell(client: &Client, message: &FedoraMessage, status: &FedoraMessageStatus) {
    let before = message
        .status
        .as_ref()
        .and_then(|status| status.reason.as_deref());
    let Some(reason) = status
        .reason
        .as_deref()
        .filter(|reason| Some(*reason) != before && *reason != names::REASON_PENDING)
    else {
        return;
    };
    let quiet = [names::REASON_SENT, names::REASON_SUSPENDED].contains(&reason);
    let event = Event {
        type_: if quiet {
            EventType::Normal
        } else {
            EventType::Warning
        },
        reason: reason.to_owned(),
        note: status.message.clone(),
        action: "Send".to_owned(),
        secondary: None,
    };
    let reporter = Reporter {
        controller: "drover-publisher".to_owned(),
        instance: None,
    };
    let recorder = Recorder::new(client.clone(), reporter);
    if let Err(error) = recorder.publish(&event, &message.object_ref(&())).await {
        tracing::debug!(%error, "an event was not taken");
    }
}
