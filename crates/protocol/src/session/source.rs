//! The source's end: owns what shall be, sends it to the clusters, and takes what they report.

mod resync;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use self::resync::Asking;
use self::rows::Rows;
pub use self::rows::{Row, Unsent};

use super::outbox::{Due, Outbox};
use super::store::Store;
use super::traces::Traces;
use super::{
    Cause, Change, ChangeError, Input, Output, Session, Transmit, check_version, dropped,
    next_version, undecodable,
};
use crate::bundle::work_uid;
use crate::cloudevent::CloudEvent;
use crate::codec::{Codec, EncodeError, Keeping, Resource, Stamp};
use crate::eventtype::{Action, EventType, SubResource};
use crate::ids::Ids;
use crate::meta::whole_seconds;
use crate::names;
use crate::resync::{Answering, order_deletion};
use crate::sequence::is_newer;
use crate::trace::TraceContext;

/// Who a source is.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Its id, sender of its events.
    pub source: String,
    /// Whether it asks for statuses whenever the link comes up.
    pub resync: bool,
    /// Seed of event ids.
    pub seed: u128,
}

/// What a source knows from before.
#[derive(Clone, Debug)]
pub struct Owned<R> {
    /// What it owns.
    pub objects: Vec<R>,
    /// The last generation of each uid that it deleted and whose agent has not confirmed that. The uid of a work follows
    /// from its name: one that is created again must not be taken for the old one.
    pub graves: BTreeMap<String, i64>,
    /// Whether `objects` is all: only then are agents told to delete what is not in it.
    pub complete: bool,
}

impl<R> Default for Owned<R> {
    /// Nothing, and that is all.
    fn default() -> Self {
        Self {
            objects: Vec::new(),
            graves: BTreeMap::new(),
            complete: true,
        }
    }
}

/// The source's state machine.
#[derive(Debug)]
pub struct SourceSession<C: Codec> {
    codec: C,
    config: SourceConfig,
    store: Store<C::Object>,
    outbox: Outbox,
    ids: Ids,
    /// Where the status resync stands, by cluster, empty for all.
    asking: BTreeMap<Arc<str>, Asking>,
    rows: Rows,
    traces: Traces,
    graves: BTreeMap<String, i64>,
    synced: bool,
    up: bool,
}

type Outputs<C> = Vec<Output<<C as Codec>::Object>>;

impl<C: Codec> SourceSession<C> {
    /// A session with what the source already owns, link down.
    pub fn new(codec: C, config: SourceConfig, owned: Owned<C::Object>) -> Self {
        let mut store = Store::default();
        for object in owned.objects {
            store.put(object);
        }
        let ids = Ids::new(config.seed);
        let (graves, synced) = (owned.graves, owned.complete);
        Self {
            codec,
            config,
            store,
            outbox: Outbox::default(),
            ids,
            asking: BTreeMap::new(),
            rows: Rows::default(),
            traces: Traces::default(),
            graves,
            synced,
            up: false,
        }
    }

    /// A session that goes on where another one stopped: with the rows that it last wanted stored. It wants its own rows
    /// stored in turn, see [`Output::Store`].
    pub fn restored(
        codec: C,
        config: SourceConfig,
        rows: impl IntoIterator<Item = (String, Row<C::Object>)>,
    ) -> Self {
        let mut session = Self::new(codec, config, Owned::default());
        session.rows.keep();
        for (uid, row) in rows {
            session.restore(&uid, row);
        }
        session
    }

    /// What must be kept beside the objects, see [`Owned::graves`].
    pub fn graves(&self) -> &BTreeMap<String, i64> {
        &self.graves
    }

    /// Resources and requests about which an event is owed: it waits, or is on its way.
    pub fn owed(&self) -> usize {
        self.outbox.len()
    }

    /// The trace of the last change of a resource: its newest step, which is the agent's report once there is one.
    pub fn trace(&self, uid: &str) -> Option<&TraceContext> {
        self.traces.get(uid)
    }

    /// The change that was just made is a step of this trace. Without, it begins one of its own when it is sent.
    pub fn set_trace(&mut self, uid: &str, context: TraceContext) {
        self.traces.set(uid, context, &self.store, &self.outbox);
    }

    /// Everything that is owned is loaded. Agents are asked again: what they held too much was not said before.
    pub fn set_synced(&mut self) {
        if !std::mem::replace(&mut self.synced, true) && self.up && self.config.resync {
            self.ask();
        }
    }

    /// Creates. The uid of a work follows from source, cluster and name; a given one is overwritten.
    pub fn create(
        &mut self,
        now: Timestamp,
        mut object: C::Object,
        out: &mut Outputs<C>,
    ) -> Result<Arc<C::Object>, ChangeError> {
        let meta = object.meta();
        if self.store.get_named(&meta.namespace, &meta.name).is_some() {
            return Err(ChangeError::AlreadyExists(meta.name.clone()));
        }
        if C::KEEPING == Keeping::Works {
            let uid = work_uid(&self.config.source, &meta.namespace, &meta.name).to_string();
            object.meta_mut().uid = uid;
        } else if object.meta().uid.is_empty() {
            object.meta_mut().uid = self.ids.next_id();
        }
        let buried = self.graves.get(&object.meta().uid).copied().unwrap_or(0);
        let generation = generation(object.meta().generation.max(buried + 1), &object)?;
        let meta = object.meta_mut();
        meta.generation = generation;
        "1".clone_into(&mut meta.resource_version);
        meta.creation_timestamp.get_or_insert(whole_seconds(now));
        meta.deletion_timestamp = None;
        self.codec
            .validate(&object)
            .map_err(|e| ChangeError::Invalid(e.to_string()))?;
        let object = self.store.put(object);
        self.graves.remove(&object.meta().uid);
        self.traces.forget(&object.meta().uid);
        self.outbox
            .push(Due::state(&object.meta().uid, Action::Create));
        self.keep_first(&object.meta().uid, out);
        out.push(Output::Change(Change::Added(Arc::clone(&object))));
        Ok(object)
    }

    /// Changes spec, labels and annotations. An empty version means by force.
    pub fn update(
        &mut self,
        mut object: C::Object,
        out: &mut Outputs<C>,
    ) -> Result<Arc<C::Object>, ChangeError> {
        let name = object.meta().name.clone();
        let stored = self
            .store
            .get_named(&object.meta().namespace, &name)
            .cloned();
        let stored = stored.ok_or(ChangeError::NotFound(name))?;
        if !object.meta().resource_version.is_empty() {
            check_version(
                &object.meta().resource_version,
                &stored.meta().resource_version,
            )?;
        }
        object.adopt_status(&stored);
        let generation = generation(stored.meta().generation + 1, &object)?;
        let meta = object.meta_mut();
        let old = stored.meta();
        meta.uid.clone_from(&old.uid);
        meta.creation_timestamp = old.creation_timestamp;
        meta.deletion_timestamp = old.deletion_timestamp;
        meta.finalizers.clone_from(&old.finalizers);
        meta.generation = generation;
        meta.resource_version = next_version(old);
        if let Some(sequence) = old.annotations.get(names::ANNOTATION_SEQUENCE_ID) {
            meta.annotations
                .insert(names::ANNOTATION_SEQUENCE_ID.to_owned(), sequence.clone());
        }
        self.codec
            .validate(&object)
            .map_err(|e| ChangeError::Invalid(e.to_string()))?;
        let object = self.store.put(object);
        self.traces.forget(&object.meta().uid);
        self.outbox
            .push(Due::state(&object.meta().uid, Action::Update));
        self.keep_first(&object.meta().uid, out);
        out.push(Output::Change(Change::Modified(Arc::clone(&object))));
        Ok(object)
    }

    /// Deletes. While an agent holds the resource it only begins; without one it is gone at once. Absent is success.
    pub fn delete(&mut self, now: Timestamp, namespace: &str, name: &str, out: &mut Outputs<C>) {
        let Some(stored) = self.store.get_named(namespace, name).cloned() else {
            return;
        };
        let meta = stored.meta();
        if meta.deleting() {
            return;
        }
        self.traces.forget(&meta.uid);
        if meta.finalizers.is_empty() || C::KEEPING == Keeping::Mirror {
            let uid = meta.uid.clone();
            let cluster = self.codec.cluster_of(&stored).unwrap_or_default();
            self.store.remove(&uid);
            // Only the uids of works come back.
            if C::KEEPING == Keeping::Works {
                self.graves.insert(uid.clone(), meta.generation);
            }
            self.outbox.push(Due::Gone {
                uid: uid.as_str().into(),
                cluster: cluster.to_owned(),
                version: self.codec.version(&stored).unwrap_or(meta.generation),
            });
            self.keep_first(&uid, out);
            out.push(Output::Change(Change::Deleted(stored)));
            return;
        }
        let mut next = C::Object::clone(&stored);
        next.meta_mut().deletion_timestamp = Some(whole_seconds(now));
        next.meta_mut().resource_version = next_version(meta);
        self.outbox.forget(&meta.uid);
        self.outbox.push(Due::state(&meta.uid, Action::Delete));
        let next = self.store.put(next);
        self.keep_first(&next.meta().uid, out);
        out.push(Output::Change(Change::Modified(next)));
    }

    fn receive(&mut self, event: &CloudEvent, out: &mut Outputs<C>) {
        let parsed: EventType = match event.event_type.parse() {
            Ok(parsed) => parsed,
            Err(error) => return dropped(out, &event.id, Cause::BadType, error),
        };
        if parsed.data_type != *self.codec.data_type() {
            return dropped(out, &event.id, Cause::OtherDataType, &event.event_type);
        }
        let original = event.text(names::EXT_ORIGINAL_SOURCE).unwrap_or_default();
        if !original.is_empty() && original != self.config.source {
            return dropped(out, &event.id, Cause::OtherSource, original);
        }
        if parsed.action == Action::ResyncRequest {
            if parsed.subresource == SubResource::Spec {
                return self.answer(event, out);
            }
            return dropped(out, &event.id, Cause::WrongSubResource, &event.event_type);
        }
        if parsed.subresource != SubResource::Status {
            return dropped(out, &event.id, Cause::WrongSubResource, &event.event_type);
        }
        match self.codec.decode(event) {
            Ok(report) => self.take(event, &report, out),
            Err(error) => undecodable(out, &event.id, &error),
        }
    }

    fn take(&mut self, event: &CloudEvent, report: &C::Object, out: &mut Outputs<C>) {
        let uid = &report.meta().uid;
        let Some(stored) = self.store.get(uid).cloned() else {
            if report.is_gone()
                && self
                    .graves
                    .get(uid)
                    .is_some_and(|last| report.meta().generation >= *last)
            {
                self.graves.remove(uid);
                self.keep(uid, out);
            }
            return dropped(out, &event.id, Cause::Unknown, uid);
        };
        if event.cluster() != self.codec.cluster_of(&stored) {
            return dropped(
                out,
                &event.id,
                Cause::OtherCluster,
                format!("{:?} does not hold {uid}", event.cluster()),
            );
        }
        if report.is_gone() {
            self.outbox.forget(uid);
            // An agent that lost a work that shall still be gets it again as new.
            if stored.meta().deleting() {
                self.store.remove(uid);
                if report.meta().generation < stored.meta().generation {
                    self.graves.insert(uid.clone(), stored.meta().generation);
                }
                out.push(Output::Change(Change::Deleted(stored)));
            } else {
                self.outbox.push(Due::state(uid, Action::Create));
            }
            self.keep(uid, out);
            return;
        }
        let (ours, theirs) = (stored.meta().generation, report.meta().generation);
        if ours != 0 && theirs > ours {
            return dropped(
                out,
                &event.id,
                Cause::Ahead,
                format!("generation {theirs}, sent {ours}"),
            );
        }
        let mut next = C::Object::clone(&stored);
        next.adopt_status(report);
        if C::KEEPING == Keeping::Works {
            let sequence = |object: &C::Object| {
                let annotations = &object.meta().annotations;
                let sequence = annotations.get(names::ANNOTATION_SEQUENCE_ID);
                sequence.cloned().unwrap_or_default()
            };
            let current = sequence(report);
            match is_newer(&sequence(&stored), &current) {
                Ok(true) => (),
                Ok(false) => return dropped(out, &event.id, Cause::Stale, current),
                Err(error) => return dropped(out, &event.id, Cause::Undecodable, error),
            }
            let meta = next.meta_mut();
            meta.annotations
                .insert(names::ANNOTATION_SEQUENCE_ID.to_owned(), current);
            if !meta.finalizers.iter().any(|f| f == names::WORK_FINALIZER) {
                meta.finalizers.push(names::WORK_FINALIZER.to_owned());
            }
        }
        let changed =
            !next.same_status(&stored) || next.meta().finalizers != stored.meta().finalizers;
        next.meta_mut().resource_version = next_version(stored.meta());
        let next = self.store.put(next);
        if let Some(reported) = TraceContext::of(event)
            && self.traces.get(uid).map(TraceContext::trace_id) == Some(reported.trace_id())
        {
            self.set_trace(uid, reported);
        }
        self.keep(uid, out);
        if changed {
            out.push(Output::Change(Change::StatusModified(next)));
        }
    }

    fn make(&mut self, now: Timestamp, due: &Due) -> Option<Result<CloudEvent, EncodeError>> {
        let data_type = self.codec.data_type();
        match due {
            Due::Request(to) => self.request(now, to),
            Due::State(uid, action) => {
                let object = self.store.get(uid)?;
                let action = match (object.meta().deleting(), action) {
                    (true, Action::Create | Action::Update) => Action::Delete,
                    _ => action.clone(),
                };
                let event_type = data_type.event(SubResource::Spec, action);
                let stamp = Stamp {
                    id: self.ids.next_id(),
                    time: now,
                    source: &self.config.source,
                    sequence: None,
                };
                let event = self.codec.encode(stamp, &event_type, object);
                Some(event.map(|event| self.traced(uid, event)))
            }
            Due::Last(_) => None,
            Due::Gone {
                uid,
                cluster,
                version,
            } => {
                if self.store.get(uid).is_some() {
                    return None;
                }
                let to = Answering {
                    data_type,
                    cluster,
                    source: &self.config.source,
                };
                let event = order_deletion(&to, &mut self.ids, now, uid, *version);
                Some(Ok(self.traced(uid, event)))
            }
        }
    }

    /// A step in the trace of the change that the event tells of, which may begin here.
    fn traced(&mut self, uid: &str, mut event: CloudEvent) -> CloudEvent {
        if self.traces.get(uid).is_none() {
            let context = TraceContext::fresh(&mut self.ids);
            self.set_trace(uid, context);
        }
        self.traces.stamp(uid, &mut self.ids, &mut event);
        event
    }

    fn settled(&mut self, due: &Due, out: &mut Outputs<C>) {
        match due {
            Due::Request(to) => self.asked(to),
            Due::State(uid, _) | Due::Last(uid) | Due::Gone { uid, .. } => {
                self.rows
                    .landed(uid, &self.store, &self.graves, &self.outbox, out);
            }
        }
    }
}

impl<C: Codec> Session for SourceSession<C> {
    type Object = C::Object;

    fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Output<C::Object>>) {
        match input {
            Input::Up => {
                self.up = true;
                self.outbox.reset();
                if self.config.resync {
                    self.ask();
                }
            }
            Input::Down => {
                self.up = false;
                self.outbox.reset();
            }
            Input::Wire(event) => {
                if !event.is_heartbeat() {
                    self.receive(&event, out);
                }
            }
            Input::Resync => self.ask(),
            Input::Sent(ticket) => {
                if let Some(due) = self.outbox.sent(ticket) {
                    self.settled(&due, out);
                }
            }
            Input::Failed(ticket, fate) => {
                let (lost, wake) = self.outbox.failed(now, ticket, fate);
                out.extend(wake.map(Output::WakeAt));
                if let Some(due) = lost {
                    dropped(out, "", Cause::Refused, format!("{due:?}"));
                    self.settled(&due, out);
                }
            }
            // Whoever wakes early, or for another reason, must not forget the pause that is left.
            Input::Tick => out.extend(self.outbox.next_wake(now).map(Output::WakeAt)),
        }
    }

    fn poll_transmit(
        &mut self,
        now: Timestamp,
        out: &mut Vec<Output<C::Object>>,
    ) -> Option<Transmit> {
        while self.up {
            let (ticket, due) = self.outbox.pop(now)?;
            match self.make(now, &due) {
                Some(Ok(event)) => return Some(Transmit { ticket, event }),
                Some(Err(error)) => dropped(out, "", Cause::Unencodable, error),
                None => (),
            }
            self.outbox.land(ticket);
            self.settled(&due, out);
        }
        None
    }

    fn store(&self) -> &Store<C::Object> {
        &self.store
    }
}

/// The version of a spec: the owner's annotation if there is one, else counted here.
fn generation(counted: i64, object: &impl Resource) -> Result<i64, ChangeError> {
    let key = names::ANNOTATION_RESOURCE_VERSION;
    match object.meta().annotations.get(key) {
        None => Ok(counted),
        Some(text) => text
            .parse()
            .ok()
            .filter(|version| *version >= 0)
            .ok_or_else(|| {
                ChangeError::Invalid(format!(
                    "metadata.annotations[{key}]: {text:?} is no version"
                ))
            }),
    }
}

#[cfg(test)]
mod crashes;
