//! Manifest works as the API has them, for agents: specs out, statuses in (ocm: pkg/server/services/work).

mod reports;

pub(crate) use reports::wire_status;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_api::work::v1::ManifestWork;
use drover_client::span;
use drover_protocol::ids::Ids;
use drover_protocol::resync::{Versions, must_send};
use drover_protocol::{
    Action, CloudEvent, Codec, DataType, EventType, SourceBundleCodec, Stamp, SubResource,
    TraceContext, Work,
};
use drover_runtime::clock::Clock;
use drover_runtime::controller::Next;
use drover_runtime::queue::WorkQueue;
use drover_transport::authn::Caller;
use drover_transport::broker::Listing;
use drover_transport::{Service, ServiceError};
use jiff::Timestamp;
use kube::api::{ListParams, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::HubError;
use crate::cache::WorkCache;
use crate::clusters::FIELD_MANAGER;
use crate::outlet::Outlet;

/// Reports that may be written at the same time, at most.
const TURNS: usize = 32;
/// How often a write is tried when others write the same work.
const TRIES: usize = 4;

/// The works of a hub on one way to agents.
pub(crate) struct Works<O> {
    pub client: Client,
    pub clock: Clock,
    pub outlet: O,
    pub works: WorkCache,
    /// Works that agents must be told of, `namespace/name`.
    pub queue: Arc<WorkQueue<String>>,
    pub memory: Memory,
}

/// What is known beyond the API: it is only there to save work, and may be lost.
#[derive(Default)]
pub(crate) struct Memory {
    /// What agents were told of each work last, by `namespace/name`.
    told: Mutex<HashMap<String, (Told, Timestamp)>>,
    /// What became of the last status of each work, by uid.
    written: Mutex<HashMap<String, Written>>,
    /// One report about a work at a time: what is older must not be written later.
    turns: [tokio::sync::Mutex<()>; TURNS],
}

/// A status as this hub wrote it last.
#[derive(Clone, Default)]
struct Written {
    /// Its sequence id.
    sequence: String,
    /// The version of the work that it made.
    version: Option<String>,
}

impl Memory {
    async fn turn(&self, uid: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        // The remainder fits every number type.
        let at = (hasher.finish() % TURNS as u64) as usize;
        self.turns[at].lock().await
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the API, or of no interest any more.
    Noted,
    /// The API has no such work.
    Unknown,
}

#[derive(Clone, PartialEq)]
struct Told {
    uid: String,
    generation: i64,
    deleting: bool,
    /// A hash of labels and annotations: kubectl keeps the whole work in one of them.
    metadata: u64,
}

impl Told {
    fn of(work: &ManifestWork) -> Self {
        let mut hasher = DefaultHasher::new();
        (work.labels(), work.annotations()).hash(&mut hasher);
        Self {
            uid: work.uid().unwrap_or_default(),
            generation: work.metadata.generation.unwrap_or(0),
            deleting: work.metadata.deletion_timestamp.is_some(),
            metadata: hasher.finish(),
        }
    }

    /// As if agents had been told of an older state.
    fn outdated(&self) -> Self {
        Self {
            generation: -1,
            ..self.clone()
        }
    }
}

/// Whether an agent has this generation of a work: it reported on it.
fn reported(work: &ManifestWork) -> bool {
    let generation = work.metadata.generation;
    let status = work.status.as_ref();
    let seen = |condition: &drover_api::Condition| {
        generation.is_some() && condition.observed_generation == generation
    };
    work.metadata.deletion_timestamp.is_none()
        && status.is_some_and(|status| status.conditions.iter().any(seen))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<O: Outlet> Works<O> {
    /// Tells agents of a work that changed in a way that concerns them.
    pub(crate) async fn reconcile(&self, key: &str) -> Result<Next, HubError> {
        self.outlet.ready().await;
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let found = self.works.get(namespace, name);
        if found.is_none() {
            self.works.prune(namespace, name);
        }
        let mut before = lock(&self.memory.told).get(key).cloned();
        let now = found.as_deref().map(Told::of);
        if let Some((gone, _)) =
            before.take_if(|(before, _)| now.as_ref().is_none_or(|now| now.uid != before.uid))
        {
            // Whoever heard that it is to go is done with it, or will be.
            if !gone.deleting {
                let deletion = self.deletion(namespace, name, &gone);
                self.outlet.tell(deletion).await?;
            }
            lock(&self.memory.written).remove(&gone.uid);
            lock(&self.memory.told).remove(key);
        }
        let Some((work, now)) = found.zip(now) else {
            return Ok(Next::OnChange);
        };
        // A hub that was away tells of what changed meanwhile, not of all there is.
        let known = before.is_none() && reported(&work);
        let same = before.as_ref().is_some_and(|(before, _)| *before == now);
        let time = self.clock.now();
        let repeat = self.outlet.repeat().filter(|_| now.deleting);
        let repeat = repeat.map(|repeat| slower(repeat, &work, time));
        if let (true, Some((_, at)), Some(repeat)) = (same, &before, repeat) {
            let left = repeat.saturating_sub(time.duration_since(*at).unsigned_abs());
            if !left.is_zero() {
                return Ok(Next::After(left));
            }
        }
        if repeat.is_some() || !(same || known) {
            let action = match &before {
                _ if now.deleting => Action::Delete,
                Some(_) => Action::Update,
                None => Action::Create,
            };
            let event = self
                .spec(&work, action)
                .map_err(|error| HubError::Internal(error.to_string()))?;
            self.outlet.tell(event).await?;
        }
        let mut told = lock(&self.memory.told);
        // Unless it shall be told once more, which another round does.
        if told.get(key) == before.as_ref() {
            told.insert(key.to_owned(), (now, time));
        }
        Ok(repeat.map_or(Next::OnChange, Next::After))
    }

    /// Tells agents of a work once more.
    fn tell_again(&self, work: &ManifestWork) {
        let key = format!(
            "{}/{}",
            work.namespace().unwrap_or_default(),
            work.name_any()
        );
        let outdated = (Told::of(work).outdated(), self.clock.now());
        lock(&self.memory.told).insert(key.clone(), outdated);
        self.queue.add(key);
    }

    fn spec(&self, work: &ManifestWork, action: Action) -> Result<CloudEvent, ServiceError> {
        let heard = self.last_sequence(work);
        let mut work = Work::from_object(work).map_err(ServiceError::internal)?;
        let kind = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, action);
        // An agent that starts anew with a clock that went back must know which ids it used.
        if !heard.is_empty() {
            let key = drover_protocol::names::ANNOTATION_SEQUENCE_ID.to_owned();
            work.metadata.annotations.insert(key, heard);
        }
        let mut event = SourceBundleCodec
            .encode(self.stamp(), &kind, &work)
            .map_err(ServiceError::internal)?;
        trace_of(&work).write(&mut event);
        drop(span::publish(&event));
        Ok(event)
    }

    /// Orders the removal of a work that went without a trace: nobody had claimed it yet, but somebody may have begun.
    fn deletion(&self, cluster: &str, name: &str, gone: &Told) -> CloudEvent {
        let stamp = self.stamp();
        let kind = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, Action::Delete);
        let version = i32::try_from(gone.generation).unwrap_or(i32::MAX);
        let now = stamp.time;
        // An agent that forgot the work finds what it applied by the name.
        let metadata = json!({"name": name, "namespace": cluster, "uid": gone.uid, "generation": gone.generation});
        CloudEvent::new(stamp.id, stamp.source, &kind, stamp.time)
            .with(drover_protocol::names::EXT_CLUSTER_NAME, cluster)
            .with(drover_protocol::names::EXT_ORIGINAL_SOURCE, "")
            .with(drover_protocol::names::EXT_RESOURCE_ID, gone.uid.as_str())
            .with(drover_protocol::names::EXT_RESOURCE_VERSION, version)
            .with(drover_protocol::names::EXT_DELETION_TIMESTAMP, now)
            .with(
                drover_protocol::names::EXT_METADATA,
                metadata.to_string().as_str(),
            )
    }

    pub(crate) fn stamp(&self) -> Stamp<'_> {
        Stamp {
            source: self.outlet.source(),
            ..crate::stamp(&self.clock)
        }
    }

    /// A work as the cache has it, or else the API: another copy of the hub may have told the agent of a work that this one
    /// has not heard of yet.
    async fn find(
        &self,
        cluster: &str,
        reported: &Work,
    ) -> Result<Option<Arc<ManifestWork>>, ServiceError> {
        let uid = reported.metadata.uid.as_str();
        if let Some(found) = self.works.find(cluster, uid) {
            return Ok(Some(found));
        }
        let name = reported.metadata.name.as_str();
        // Without a name of its own a report is named after the uid.
        if name == uid {
            let all = self.live(cluster).await?;
            let same = |work: &ManifestWork| work.metadata.uid.as_deref() == Some(uid);
            return Ok(all.into_iter().find(same).map(Arc::new));
        }
        self.newest(cluster, name, uid).await
    }

    /// A work as the API has it now.
    async fn newest(
        &self,
        cluster: &str,
        name: &str,
        uid: &str,
    ) -> Result<Option<Arc<ManifestWork>>, ServiceError> {
        let api: Api<ManifestWork> = Api::namespaced(self.client.clone(), cluster);
        let found = api.get_opt(name).await.map_err(refusal)?;
        Ok(found
            .filter(|work| work.metadata.uid.as_deref() == Some(uid))
            .map(Arc::new))
    }

    /// The works of a cluster as the API has them now.
    async fn live(&self, cluster: &str) -> Result<Vec<ManifestWork>, ServiceError> {
        let api: Api<ManifestWork> = Api::namespaced(self.client.clone(), cluster);
        let list = api.list(&ListParams::default()).await.map_err(refusal)?;
        Ok(list.items)
    }

    /// What an agent that holds `known` lacks.
    pub(crate) async fn listing(
        &self,
        cluster: &str,
        known: &Versions,
    ) -> Result<Listing, ServiceError> {
        let mut works = self.works.of_cluster(cluster);
        // What is not listed is deleted by the agent, with all that it applied: only the API itself may say so, for the cache
        // may be behind the copy of the hub that told the agent.
        let missing = |uid: &String| self.works.find(cluster, uid).is_none();
        if known.0.keys().any(missing) {
            works = self
                .live(cluster)
                .await?
                .into_iter()
                .map(Arc::new)
                .collect();
        }
        let mut listing = Listing::default();
        for work in works {
            let uid = work.uid().unwrap_or_default();
            let deleting = work.metadata.deletion_timestamp.is_some();
            let held = known.0.get(&uid).copied();
            if must_send(work.metadata.generation, deleting, held) {
                let action = if deleting {
                    Action::Delete
                } else {
                    Action::Update
                };
                listing.events.push(self.spec(&work, action)?);
            } else {
                listing.unchanged.push(uid);
            }
        }
        Ok(listing)
    }

    fn api(&self, work: &ManifestWork) -> Api<ManifestWork> {
        Api::namespaced(self.client.clone(), &work.namespace().unwrap_or_default())
    }
}

/// An agent that has been away for long is reminded less often.
fn slower(repeat: Duration, work: &ManifestWork, now: Timestamp) -> Duration {
    const RAREST: Duration = Duration::from_mins(10);
    let since = work.metadata.deletion_timestamp.as_ref();
    let age = since.map_or(Duration::ZERO, |since| {
        now.duration_since(since.0).unsigned_abs()
    });
    (age / 4).clamp(repeat, RAREST.max(repeat))
}

#[drover_transport::async_trait]
impl<O: Outlet> Service for Works<O> {
    async fn list(&self, cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        Ok(self.listing(cluster, &Versions::default()).await?.events)
    }

    async fn resync(&self, cluster: &str, known: &Versions) -> Result<Listing, ServiceError> {
        self.listing(cluster, known).await
    }

    async fn receive(&self, _caller: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        let kind: EventType = event
            .event_type
            .parse()
            .map_err(|e| ServiceError::bad_request(format!("{e}")))?;
        if kind.subresource != SubResource::Status || kind.action != Action::Update {
            return Err(ServiceError::bad_request(format!(
                "an agent of works sends status.update_request, not {kind}"
            )));
        }
        // The hub forgot the work: the agent is told to, by resync or by the deletion that was sent.
        let taken = self.take(&event).instrument(span::receive(&event)).await;
        taken.map(|_| ())
    }
}

/// The trace of one version of a work: whoever sends it, and as often as it is sent, it is the same one.
fn trace_of(work: &Work) -> TraceContext {
    let uid = Uuid::try_parse(&work.metadata.uid).unwrap_or_default();
    let version = work.metadata.generation.unsigned_abs();
    TraceContext::fresh(&mut Ids::new(uid.as_u128().wrapping_add(version.into())))
}

pub(crate) fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

pub(crate) fn refusal(error: kube::Error) -> ServiceError {
    match error {
        kube::Error::Api(status) => ServiceError::from_status(&*status),
        other => ServiceError::internal(other),
    }
}
