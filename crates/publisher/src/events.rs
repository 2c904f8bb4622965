//! Events of Kubernetes, for people who look at a message with `kubectl describe`. Sending never waits for one, nor fails with it.

use std::time::Duration;

use drover_api::fedora::v1alpha1::{FedoraMessage, FedoraMessageStatus};
use drover_api::names::fedora as names;
use drover_core::publish::{self, Notice};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::Tally;

/// Events that wait to be written, half a kilobyte each; more are dropped, those of successes when half of the places are taken.
const WAITING: usize = 16_384;
/// How long those that wait are still written when the publisher stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// Events that are counted when they are told again; then counting begins anew, so that it does not take ever more memory.
const REMEMBERED: usize = 4096;
/// What the API takes (Kubernetes: `events.k8s.io/v1`, note).
const LONGEST_NOTE: usize = 1024;

type Told = (Notice, ObjectReference);

/// Takes what was written to messages. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    waiting: mpsc::Sender<Told>,
    tally: Tally,
}

/// The second half of the answer writes what the first takes, until `stop`.
pub(crate) fn events(
    client: Client,
    tally: Tally,
    stop: CancellationToken,
) -> (Events, impl Future<Output = ()> + Send) {
    let (waiting, told) = mpsc::channel(WAITING);
    (Events { waiting, tally }, write_all(client, told, stop))
}

impl Events {
    /// Tells of a status that was written to a message, and counts it. `message` has it; `before` is the one that it had.
    pub(crate) fn written(&self, before: Option<&FedoraMessageStatus>, message: &FedoraMessage) {
        self.tally.written(before, message);
        let Some(notice) = publish::notice(before, message) else {
            return;
        };
        // What failed is worth more than what went well.
        let spare = !notice.warning && self.waiting.capacity() < WAITING / 2;
        let mut reference = message.object_ref(&());
        // It is the same message at every version: else no event would be known again.
        reference.resource_version = None;
        if spare || self.waiting.try_send((notice, reference)).is_err() {
            self.tally.dropped.inc();
        }
    }
}

async fn write_all(client: Client, mut told: mpsc::Receiver<Told>, stop: CancellationToken) {
    let mut writer = Writer::new(client);
    while let Some(Some(one)) = stop.run_until_cancelled(told.recv()).await {
        writer.write(one).await;
    }
    let rest = async {
        while let Ok(one) = told.try_recv() {
            writer.write(one).await;
        }
    };
    if tokio::time::timeout(FAREWELL, rest).await.is_err() {
        tracing::debug!(left = told.len(), "some events were not written");
    }
}

struct Writer {
    client: Client,
    reporter: Reporter,
    /// Counts what is told again.
    repeated: Recorder,
    remembered: usize,
}

impl Writer {
    fn new(client: Client) -> Self {
        let reporter = Reporter::from(names::MANAGED_BY);
        Self {
            repeated: Recorder::new(client.clone(), reporter.clone()),
            client,
            reporter,
            remembered: 0,
        }
    }

    fn recorder(&self) -> Recorder {
        Recorder::new(self.client.clone(), self.reporter.clone())
    }

    async fn write(&mut self, (notice, reference): Told) {
        let event = Event {
            type_: if notice.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: notice.reason.to_owned(),
            note: Some(shortened(notice.note)),
            action: "Send".to_owned(),
            secondary: None,
        };
        // A recorder keeps all that it wrote: what is never told again needs none that stays.
        let recorder = if notice.repeats {
            if self.remembered >= REMEMBERED {
                (self.repeated, self.remembered) = (self.recorder(), 0);
            }
            self.remembered += 1;
            self.repeated.clone()
        } else {
            self.recorder()
        };
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::debug!(%error, "an event was not taken");
        }
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > LONGEST_NOTE {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE - '…'.len_utf8()));
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_as_long_as_the_api_takes() {
        for (note, length) in [
            ("short".to_owned(), 5),
            ("x".repeat(1024), 1024),
            ("x".repeat(1025), 1024),
            // Two bytes each: the cut is between two letters.
            ("é".repeat(600), 1023),
        ] {
            let shown = shortened(note.clone());
            assert_eq!(shown.len(), length);
            assert!(note.starts_with(shown.trim_end_matches('…')));
        }
    }
}
