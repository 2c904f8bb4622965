//! Answers to agents that ask what they missed, of data types with a service.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use drover_protocol::ids::Ids;
use drover_protocol::resync::{Answering, Versions, answer};
use drover_protocol::{CloudEvent, DataType};
use futures::future::join_all;
use jiff::Timestamp;

use super::metrics::count;
use super::topics::Audience;
use super::{Broker, queue};
use crate::service::{Service, ServiceError};

/// Resyncs of one cluster and data type that may be in progress at once.
const MAX_RESYNCS: usize = 4;
/// Requests of at least so many bytes are worked on beside the threads that serve others.
const HEAVY: usize = 64 * 1024;

impl Broker {
    /// Answers a spec resync: lists within the request, so that errors reach the asker, and sends outside of it.
    pub(super) async fn resync(
        &self,
        event: CloudEvent,
        data_type: &DataType,
        service: &dyn Service,
    ) -> Result<(), ServiceError> {
        let cluster = event.cluster().unwrap_or_default().to_owned();
        let turn = self.begin_resync(&cluster, data_type)?;
        let heavy = event.payload().len() >= HEAVY;
        let known = aside(heavy, move || Versions::from_event(&event))
            .await?
            .map_err(|e| ServiceError::bad_request(e.to_string()))?;
        // Marks before the listing: what changes from now on is newer than what is listed.
        let feeds: Vec<_> = self
            .0
            .topics
            .of(data_type, Audience::Cluster(&cluster))
            .into_iter()
            .map(queue::Feed::begin)
            .collect();
        let listing = service.resync(&cluster, &known).await?;
        let heavy = heavy || listing.events.len() >= HEAVY / 1024;
        let (kind, source) = (data_type.clone(), self.0.config.source.clone());
        let events = aside(heavy, move || {
            let mut known = known;
            for uid in &listing.unchanged {
                known.0.remove(uid);
            }
            let to = Answering {
                data_type: &kind,
                cluster: &cluster,
                source: &source,
            };
            let mut ids = Ids::new(rand::random());
            answer(listing.events, &known, &to, &mut ids, Timestamp::now())
        })
        .await?;
        count(&self.0.metrics.resyncs);
        self.0
            .metrics
            .resync_events
            .fetch_add(events.len() as u64, Ordering::Relaxed);
        let (broker, patience) = (self.clone(), self.0.config.patience);
        self.0.tasks.spawn(async move {
            let sent = join_all(feeds.iter().map(|feed| feed.send(&events, patience))).await;
            let slow = sent.iter().filter(|sent| !**sent).count();
            broker
                .0
                .metrics
                .cut_off
                .fetch_add(slow as u64, Ordering::Relaxed);
            drop(turn);
        });
        Ok(())
    }

    fn begin_resync(&self, cluster: &str, data_type: &DataType) -> Result<Turn, ServiceError> {
        let topic = (cluster.to_owned(), data_type.clone());
        let mut resyncs = self
            .0
            .resyncs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let running = resyncs.entry(topic.clone()).or_default();
        if *running >= MAX_RESYNCS {
            let why = format!(
                "{MAX_RESYNCS} resyncs of {data_type} for {cluster} are in progress already"
            );
            return Err(ServiceError::new(429, "TooManyRequests", why));
        }
        *running += 1;
        Ok(Turn {
            broker: self.clone(),
            topic,
        })
    }
}

/// Computes here, or on a thread for such things.
async fn aside<T: Send + 'static>(
    heavy: bool,
    compute: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    if !heavy {
        return Ok(compute());
    }
    tokio::task::spawn_blocking(compute)
        .await
        .map_err(ServiceError::internal)
}

/// One of the resyncs in progress.
struct Turn {
    broker: Broker,
    topic: (String, DataType),
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut resyncs = self
            .broker
            .0
            .resyncs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = resyncs.get_mut(&self.topic) {
            *running -= 1;
            if *running == 0 {
                resyncs.remove(&self.topic);
            }
        }
    }
}
