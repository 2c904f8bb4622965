//! Tells people what happened to their placements, as events.

use drover_api::cluster::v1beta1::{Placement, PlacementDecision};
use drover_core::placement::Note;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The name under which upstream tells it.
const CONTROLLER: &str = "placement-controller";
/// Events that wait at most; more are dropped, as nobody counts on events.
const WAITING: usize = 1024;

/// Where events are handed in.
#[derive(Clone)]
pub(super) struct Notes(mpsc::Sender<(ObjectReference, Event)>);

/// The second half must be run; it publishes until `cancel`.
pub(super) fn new(
    client: &Client,
    cancel: CancellationToken,
) -> (Notes, impl Future<Output = ()> + use<>) {
    let reporter = Reporter {
        controller: CONTROLLER.to_owned(),
        instance: None,
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let (sender, mut waiting) = mpsc::channel::<(ObjectReference, Event)>(WAITING);
    let publish = async move {
        loop {
            let next = tokio::select! {
                () = cancel.cancelled() => return,
                next = waiting.recv() => next,
            };
            let Some((about, event)) = next else {
                return;
            };
            if let Err(error) = recorder.publish(&event, &about).await {
                tracing::debug!(%error, "an event about a placement could not be published");
            }
        }
    };
    (Notes(sender), publish)
}

impl Notes {
    pub(super) fn tell(&self, placement: &Placement, note: Note, decision_uid: Option<String>) {
        let about = placement.object_ref(&());
        let mut decision = PlacementDecision::default();
        decision.metadata.name = Some(note.decision);
        decision.metadata.namespace.clone_from(&about.namespace);
        decision.metadata.uid = decision_uid;
        let event = Event {
            type_: if note.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: note.reason.to_owned(),
            note: Some(note.message),
            action: note.action.to_owned(),
            secondary: Some(decision.object_ref(&())),
        };
        if self.0.try_send((about, event)).is_err() {
            tracing::debug!("too many events about placements wait; one is dropped");
        }
    }
}
