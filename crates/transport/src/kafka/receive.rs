//! The receiving half of a link: reads records, skips what is for others, and lets offsets be committed no sooner than their
//! events are handed on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use drover_protocol::CloudEvent;
use futures::stream::{self, BoxStream, StreamExt as _};
use krafka::consumer::Consumer;
use krafka::error::KrafkaError;
use krafka::{CloseOptions, ConsumerRecord};
use tokio::time::{Instant, sleep};

use super::route::Filter;
use super::{error, record};
use crate::link::TransportError;
use crate::skipped::Skipped;

/// How long one look for records may take.
const POLL: Duration = Duration::from_secs(1);
/// Errors that pass by themselves are borne for this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Wait after such an error.
const PAUSE: Duration = Duration::from_millis(200);
/// How long leaving the group may take.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Reads one topic as a member of a group. Dropping it leaves the group.
pub(super) struct Receiver {
    consumer: Option<Consumer>,
    queue: VecDeque<ConsumerRecord>,
    filter: Filter,
    skipped: Skipped,
    failing_since: Option<Instant>,
}

impl Receiver {
    pub(super) fn new(consumer: Consumer, filter: Filter, skipped: Skipped) -> Self {
        Self {
            consumer: Some(consumer),
            queue: VecDeque::new(),
            filter,
            skipped,
            failing_since: None,
        }
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Result<CloudEvent, TransportError>> {
        stream::unfold(Some(self), |receiver| async {
            let mut receiver = receiver?;
            match receiver.next().await {
                Ok(event) => Some((Ok(event), Some(receiver))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<CloudEvent, TransportError> {
        loop {
            while let Some(record) = self.queue.pop_front() {
                if let Some(event) = self.read(record) {
                    return Ok(event);
                }
            }
            // Polling says that everything before is done with: it may be committed, or given to another member.
            let records = self.poll().await?;
            self.queue.extend(records);
        }
    }

    async fn poll(&mut self) -> Result<Vec<ConsumerRecord>, TransportError> {
        let Some(consumer) = &self.consumer else {
            return Err(TransportError::Lost("the consumer is closed".to_owned()));
        };
        match consumer.poll(POLL).await {
            Ok(records) => {
                self.failing_since = None;
                Ok(records)
            }
            Err(error) => {
                self.bear(&error)?;
                sleep(PAUSE).await;
                Ok(Vec::new())
            }
        }
    }

    /// Fails when an error does not pass, or has not for too long.
    fn bear(&mut self, error: &KrafkaError) -> Result<(), TransportError> {
        let now = Instant::now();
        let since = *self.failing_since.get_or_insert(now);
        if error::passes(error) && now.duration_since(since) < PATIENCE {
            tracing::debug!(%error, "failed to read from Kafka; will try again");
            return Ok(());
        }
        Err(error::lost(error))
    }

    fn read(&self, record: ConsumerRecord) -> Option<CloudEvent> {
        let read = record::from_record(&record.headers, record.value, &self.filter);
        read.unwrap_or_else(|error| {
            self.skipped.add("kafka", &error);
            None
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let (Some(consumer), Ok(runtime)) =
            (self.consumer.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let queue = std::mem::take(&mut self.queue);
        runtime.spawn(leave(consumer, queue));
    }
}

/// Commits what was handed on and leaves the group.
async fn leave(consumer: Consumer, queue: VecDeque<ConsumerRecord>) {
    let mut back = BTreeMap::new();
    for record in queue {
        back.entry((record.topic, record.partition))
            .or_insert(record.offset);
    }
    for ((topic, partition), offset) in back {
        // The partition may be another member's by now, which reads it from what was committed before.
        if let Err(error) = consumer.seek(&topic, partition, offset).await {
            tracing::debug!(%topic, partition, %error, "a partition was given away with events that were not handed on");
        }
    }
    let options = CloseOptions::new().timeout(CLOSE_WAIT);
    if let Err(error) = consumer.close_with(options).await {
        tracing::debug!(%error, "failed to leave the consumer group; the broker will notice");
    }
}
