//! The hub's link to a broker: opened again whenever it is lost, and the way out while it is there.

use std::sync::Arc;
use std::time::Duration;

use drover_protocol::{CloudEvent, DataType};
use drover_runtime::backoff::Backoff;
use drover_transport::{Link, Publisher, Remedy, Subscription, TransportError};
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::WorkSource;
use crate::outlet::Outlet;

/// First and longest wait between attempts to open a link.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// An agent says only once that it is done with a work, and the broker keeps nothing for a hub that is away or cannot write.
const REPEAT: Duration = Duration::from_secs(10);

type Events = BoxStream<'static, Result<CloudEvent, TransportError>>;

/// The way to a broker.
pub(crate) struct Way {
    source: WorkSource,
    publisher: watch::Sender<Option<Arc<dyn Publisher>>>,
}

impl Way {
    /// Closed yet.
    pub(crate) fn new(source: WorkSource) -> Self {
        Self {
            source,
            publisher: watch::Sender::new(None),
        }
    }

    /// Keeps a link open until `stop`; `listen` works on what arrives, and says why it ended.
    pub(super) async fn keep<F>(&self, stop: CancellationToken, listen: impl Fn(Events) -> F)
    where
        F: Future<Output = TransportError>,
    {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            let lost = tokio::select! {
                () = stop.cancelled() => None,
                lost = self.open(&listen, &mut backoff) => Some(lost),
            };
            // Nobody sends on a link on which nobody listens, and it is closed.
            self.publisher.send_replace(None);
            let Some(lost) = lost else { return };
            if matches!(lost, TransportError::Replaced) {
                continue;
            }
            let wait = backoff.next_wait();
            tracing::warn!(error = %lost, source = self.source.id, ?wait, "no link to the broker of the works; will try again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn open<F>(&self, listen: impl Fn(Events) -> F, backoff: &mut Backoff) -> TransportError
    where
        F: Future<Output = TransportError>,
    {
        let subscription = Subscription::Source {
            source: self.source.id.clone(),
            data_type: DataType::MANIFEST_BUNDLES,
        };
        let Link { publisher, events } = match self.source.transport.open(subscription).await {
            Ok(link) => link,
            Err(error) => return error,
        };
        backoff.reset();
        self.publisher.send_replace(Some(publisher));
        let mut link = self.publisher.subscribe();
        tokio::select! {
            lost = listen(events) => lost,
            // The sender lives in `self`: what ends the wait is that somebody could not send.
            _ = link.wait_for(Option::is_none) => {
                TransportError::Lost("an event could not be sent".to_owned())
            }
        }
    }
}

#[drover_transport::async_trait]
impl Outlet for Way {
    fn source(&self) -> &str {
        &self.source.id
    }

    fn repeat(&self) -> Option<Duration> {
        Some(REPEAT)
    }

    async fn ready(&self) {
        let mut link = self.publisher.subscribe();
        if link.wait_for(Option::is_some).await.is_err() {
            // The sender lives in `self`: it is there for as long as somebody can wait.
            std::future::pending::<()>().await;
        }
    }

    async fn tell(&self, event: CloudEvent) -> Result<(), TransportError> {
        let publisher = self.publisher.borrow().clone();
        let publisher = publisher.ok_or(TransportError::NotReady)?;
        let (kind, resource) = (
            event.event_type.clone(),
            event.resource_id().map(str::to_owned),
        );
        let Err(error) = publisher.publish(event).await else {
            return Ok(());
        };
        match error.remedy() {
            Remedy::DropAndReport => {
                tracing::warn!(%error, kind, resource, "the broker will never take an event");
                return Ok(());
            }
            Remedy::Reconnect => {
                self.publisher.send_if_modified(|current| {
                    let same = current
                        .as_ref()
                        .is_some_and(|current| Arc::ptr_eq(current, &publisher));
                    if same {
                        *current = None;
                    }
                    same
                });
            }
            Remedy::RetryLater | Remedy::FixConfig => {}
        }
        Err(error)
    }
}
