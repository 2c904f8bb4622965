//! The works of a hub for agents behind a broker of events: there the hub is a source among others.
//!
//! The API is the only store, and all that is owed is found in it again. What changed while nobody could be told, and what
//! agents reported while nobody listened, is settled whenever the link comes up: the hub asks each cluster for the statuses
//! that differ, and agents that ask what they missed are answered from the API.

mod link;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_api::cluster::v1::ManagedCluster;
use drover_protocol::ids::Ids;
use drover_protocol::resync::{Answering, Hashes, Versions, answer, order_deletion};
use drover_protocol::session::Cause;
use drover_protocol::{Action, CloudEvent, DataType, EventType, SubResource, names};
use drover_runtime::controller::{self, Next};
use drover_runtime::queue::WorkQueue;
use drover_transport::{ServiceError, Transport, TransportError};
use futures::stream::BoxStream;
use futures::{TryStreamExt as _, stream};
use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;

use crate::HubError;
use crate::outlet::Outlet as _;
use crate::works::{Taken, Works, wire_status};

pub(crate) use self::link::Way;

/// What travels.
static DATA_TYPE: DataType = DataType::MANIFEST_BUNDLES;
/// Events that are worked on, or on their way, at the same time.
const PARALLEL: usize = 32;
/// Resyncs that are worked on at the same time.
const RESYNCS: usize = 4;
/// Hashes per status resync request: keeps the event below the packet limit of brokers (512 KiB).
const HASHES_PER_REQUEST: usize = 1000;
/// Clusters whose questions may wait for an answer.
const MOST_QUESTIONS: usize = 16_384;
/// When to ask for statuses again after a report could not be written.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A broker through which agents get the works of a hub, beside the hub's own event service.
#[derive(Clone)]
pub struct WorkSource {
    /// The id of the hub among the sources of that broker. Agents know whose a work is by it: it must never change.
    pub id: String,
    /// The way to the broker.
    pub transport: Arc<dyn Transport>,
}

impl fmt::Debug for WorkSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkSource")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What is to be settled with the agent of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Resync {
    /// It asked what it missed.
    Answer(String),
    /// It shall say which statuses differ.
    Ask(String),
}

impl fmt::Display for Resync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(cluster) => write!(f, "answer to {cluster}"),
            Self::Ask(cluster) => write!(f, "statuses of {cluster}"),
        }
    }
}

/// The hub as a source.
pub(crate) struct Source {
    works: Works<Way>,
    clusters: Store<ManagedCluster>,
    resyncs: Arc<WorkQueue<Resync>>,
    /// What the agent of a cluster said it holds, when it asked last.
    asked: Mutex<HashMap<String, Arc<Versions>>>,
    /// Causes of events without effect that were logged.
    known_causes: Mutex<HashSet<Cause>>,
}

impl Source {
    /// `works` must be those of `source`.
    pub(crate) fn new(works: Works<Way>, clusters: Store<ManagedCluster>) -> Self {
        Self {
            works,
            clusters,
            resyncs: Arc::default(),
            asked: Mutex::default(),
            known_causes: Mutex::default(),
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let changes = controller::run(
            "works over a broker",
            self.works.queue.clone(),
            PARALLEL,
            stop.clone(),
            |key| async move { self.works.reconcile(&key).await },
        );
        let resyncs = controller::run(
            "resyncs over a broker",
            self.resyncs.clone(),
            RESYNCS,
            stop.clone(),
            |key| async move { self.settle(&key).await },
        );
        let listening = self.works.outlet.keep(stop, |events| self.listen(events));
        tokio::join!(changes, resyncs, listening);
    }

    /// Works on what arrives, until the link is lost.
    async fn listen(
        &self,
        events: BoxStream<'static, Result<CloudEvent, TransportError>>,
    ) -> TransportError {
        self.ask_all();
        let heard = events.try_for_each_concurrent(PARALLEL, |event| async move {
            self.hear(&event).await;
            Ok(())
        });
        match heard.await {
            Err(error) => error,
            Ok(()) => TransportError::Lost("the stream ended".to_owned()),
        }
    }

    /// Clusters without works are asked too: their agents may hold what was deleted while nobody could be told.
    fn ask_all(&self) {
        let joined = self.clusters.state();
        let joined = joined.iter().map(|cluster| cluster.name_any());
        for cluster in joined.chain(self.works.works.clusters()) {
            self.resyncs.add(Resync::Ask(cluster));
        }
    }

    async fn hear(&self, event: &CloudEvent) {
        if event.is_heartbeat() {
            return;
        }
        let kind: EventType = match event.event_type.parse() {
            Ok(kind) => kind,
            Err(error) => return self.dropped(event, Cause::BadType, error),
        };
        if kind.data_type != DATA_TYPE {
            return self.dropped(event, Cause::OtherDataType, &event.event_type);
        }
        let original = event.text(names::EXT_ORIGINAL_SOURCE).unwrap_or_default();
        if !original.is_empty() && original != self.works.outlet.source() {
            return self.dropped(event, Cause::OtherSource, original);
        }
        let Some(cluster) = event.cluster().filter(|cluster| !cluster.is_empty()) else {
            return self.dropped(event, Cause::OtherCluster, "an agent must name its cluster");
        };
        match (kind.subresource, &kind.action) {
            (SubResource::Spec, Action::ResyncRequest) => self.note_question(event, cluster),
            (SubResource::Status, action) if *action != Action::ResyncRequest => {
                self.take(event, cluster).await;
            }
            _ => self.dropped(event, Cause::WrongSubResource, &event.event_type),
        }
    }

    fn note_question(&self, event: &CloudEvent, cluster: &str) {
        let versions = match Versions::from_event(event) {
            Ok(versions) => Arc::new(versions),
            Err(error) => return self.dropped(event, Cause::Undecodable, error),
        };
        let mut asked = self.asked();
        if asked.len() >= MOST_QUESTIONS && !asked.contains_key(cluster) {
            drop(asked);
            return self.dropped(event, Cause::Refused, "too many agents ask at once");
        }
        asked.insert(cluster.to_owned(), versions);
        drop(asked);
        self.resyncs.add(Resync::Answer(cluster.to_owned()));
        // An agent that asks every source was away, and may not have heard that it shall send its statuses. One that asks
        // this source alone was just asked.
        let original = event.text(names::EXT_ORIGINAL_SOURCE);
        if original.unwrap_or_default().is_empty() {
            self.resyncs.add(Resync::Ask(cluster.to_owned()));
        }
    }

    async fn take(&self, event: &CloudEvent, cluster: &str) {
        match self.works.take(event).await {
            Ok(Taken::Noted) => {}
            Ok(Taken::Unknown) => self.disown(event, cluster).await,
            // The broker does not keep it: the agent must say it again.
            Err(error) if error.retryable() => {
                tracing::info!(%error, cluster, "a report could not be written; the agent is asked for it again");
                self.resyncs
                    .add_after(Resync::Ask(cluster.to_owned()), ASK_AGAIN);
            }
            Err(error) => self.dropped(event, Cause::Undecodable, error),
        }
    }

    /// An agent holds what the API does not have any more. It is told to let go, unless it does already.
    async fn disown(&self, event: &CloudEvent, cluster: &str) {
        let Some(uid) = event.resource_id().filter(|_| !event.is_deletion()) else {
            return;
        };
        self.dropped(event, Cause::Unknown, uid);
        let version = drover_protocol::codec::event_version(event, &DATA_TYPE);
        let order = order_deletion(
            &self.answering(cluster),
            &mut Ids::new(rand::random()),
            self.works.clock.now(),
            uid,
            version.unwrap_or(0),
        );
        if let Err(error) = self.works.outlet.tell(order).await {
            // The agent is asked when the link is there again, and says so once more.
            tracing::debug!(%error, cluster, uid, "an agent was not told to let go of a work");
        }
    }

    async fn settle(&self, resync: &Resync) -> Result<Next, HubError> {
        self.works.outlet.ready().await;
        match resync {
            Resync::Answer(cluster) => self.answer(cluster).await?,
            Resync::Ask(cluster) => self.ask(cluster).await?,
        }
        Ok(Next::OnChange)
    }

    async fn answer(&self, cluster: &str) -> Result<(), HubError> {
        let Some(versions) = self.asked().get(cluster).cloned() else {
            return Ok(());
        };
        let failed = |error: ServiceError| HubError::Internal(error.to_string());
        let mut known = Versions::clone(&versions);
        let listing = self.works.listing(cluster, &known).await.map_err(failed)?;
        for uid in &listing.unchanged {
            known.0.remove(uid);
        }
        let events = answer(
            listing.events,
            &known,
            &self.answering(cluster),
            &mut Ids::new(rand::random()),
            self.works.clock.now(),
        );
        stream::iter(events.into_iter().map(Ok))
            .try_for_each_concurrent(PARALLEL, |event| self.works.outlet.tell(event))
            .await?;
        // It may have asked once more meanwhile.
        let mut asked = self.asked();
        if asked
            .get(cluster)
            .is_some_and(|newest| Arc::ptr_eq(newest, &versions))
        {
            asked.remove(cluster);
        }
        Ok(())
    }

    async fn ask(&self, cluster: &str) -> Result<(), HubError> {
        let mut hashes = Vec::new();
        for work in self.works.works.of_cluster(cluster) {
            let status =
                wire_status(&work).map_err(|error| HubError::Internal(error.to_string()))?;
            hashes.push((work.uid().unwrap_or_default(), status.hash()));
        }
        let mut batches: Vec<_> = hashes.chunks(HASHES_PER_REQUEST).collect();
        // An empty list asks for everything, of which there should be nothing.
        if batches.is_empty() {
            batches.push(&[]);
        }
        for (part, batch) in batches.into_iter().enumerate() {
            let data = Hashes(batch.iter().cloned().collect())
                .to_json()
                .map_err(|error| HubError::Internal(error.to_string()))?;
            let kind = DATA_TYPE.event(SubResource::Status, Action::ResyncRequest);
            let stamp = self.works.stamp();
            let mut event = CloudEvent::new(stamp.id, stamp.source, kind, stamp.time)
                .with(names::EXT_CLUSTER_NAME, cluster)
                .with(names::EXT_ORIGINAL_SOURCE, "")
                .with_json(data);
            if part > 0 {
                event.set(names::EXT_RESYNC_CONTINUES, true);
            }
            self.works.outlet.tell(event).await?;
        }
        Ok(())
    }

    fn answering<'a>(&'a self, cluster: &'a str) -> Answering<'a> {
        Answering {
            data_type: &DATA_TYPE,
            cluster,
            source: self.works.outlet.source(),
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Versions>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loudly the first time, then quietly.
    fn dropped(&self, event: &CloudEvent, cause: Cause, why: impl fmt::Display) {
        let mut known = self
            .known_causes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (id, cause_name) = (&event.id, cause.as_str());
        if known.insert(cause) {
            tracing::warn!(event = id, cause = cause_name, %why, "an event of an agent has no effect");
        } else {
            tracing::debug!(event = id, cause = cause_name, %why, "an event of an agent has no effect");
        }
    }
}
