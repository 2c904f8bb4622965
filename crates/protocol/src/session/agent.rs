//! The agent's end: keeps copies of what sources want for one cluster and reports what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::aliases::Aliases;
use super::outbox::{Due, Outbox};
use super::store::Store;
use super::traces::Traces;
use super::{
    Cause, Change, ChangeError, Input, Output, Session, Transmit, check_version, dropped,
    next_version, undecodable,
};
use crate::cloudevent::CloudEvent;
use crate::codec::{Codec, Keeping, Resource, Stamp};
use crate::eventtype::{Action, EventType, SubResource};
use crate::ids::Ids;
use crate::names;
use crate::resync::{Hashes, Versions};
use crate::sequence::Sequence;
use crate::trace::TraceContext;

/// Who an agent is.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Sender of its events.
    pub agent: String,
    /// The only cluster it takes events for.
    pub cluster: String,
    /// Whether it asks for what it missed whenever the link comes up.
    pub resync: bool,
    /// Seed of event ids.
    pub seed: u128,
}

/// Which part of a resource a local change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// The status: is reported to the source.
    Status,
    /// Finalizers, labels and annotations: stay here. A deleting resource that loses its last finalizer is reported as gone.
    Metadata,
}

/// The agent's state machine.
#[derive(Debug)]
pub struct AgentSession<C: Codec> {
    codec: C,
    config: AgentConfig,
    store: Store<C::Object>,
    outbox: Outbox,
    ids: Ids,
    sequence: Sequence,
    traces: Traces,
    aliases: Aliases,
    /// Uids of copies in deletion that their source wants again meanwhile.
    wanted_again: BTreeSet<String>,
    up: bool,
}

type Outputs<C> = Vec<Output<<C as Codec>::Object>>;

impl<C: Codec> AgentSession<C> {
    /// A session without copies, link down.
    pub fn new(codec: C, config: AgentConfig) -> Self {
        let ids = Ids::new(config.seed);
        Self {
            codec,
            config,
            store: Store::default(),
            outbox: Outbox::default(),
            ids,
            sequence: Sequence::default(),
            traces: Traces::default(),
            aliases: Aliases::default(),
            wanted_again: BTreeSet::new(),
            up: false,
        }
    }

    /// The codec.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// Resources and requests about which an event is owed: it waits, or is on its way.
    pub fn owed(&self) -> usize {
        self.outbox.len()
    }

    /// The trace in which a copy got its newest spec.
    pub fn trace(&self, uid: &str) -> Option<&TraceContext> {
        self.traces.get(uid)
    }

    /// The next reports about a copy are steps of this trace.
    pub fn set_trace(&mut self, uid: &str, context: TraceContext) {
        if self.store.get(uid).is_some() {
            self.traces.set(uid, context, &self.store, &self.outbox);
        }
    }

    /// Changes a copy. `object` carries the uid and the version that the change is based on (`0`: by force).
    pub fn update(
        &mut self,
        object: &C::Object,
        aspect: Aspect,
        out: &mut Outputs<C>,
    ) -> Result<Arc<C::Object>, ChangeError> {
        let uid = object.meta().uid.clone();
        let stored = self
            .store
            .get(&uid)
            .ok_or_else(|| ChangeError::NotFound(object.meta().name.clone()))?;
        check_version(
            &object.meta().resource_version,
            &stored.meta().resource_version,
        )?;
        let mut next = C::Object::clone(stored);
        match aspect {
            Aspect::Status => next.adopt_status(object),
            Aspect::Metadata => adopt_metadata(&mut next, object),
        }
        if next == **stored {
            let stored = Arc::clone(stored);
            if aspect == Aspect::Metadata {
                // A copy may have come without finalizers, already in deletion.
                self.settle_deletion(&stored);
            }
            return Ok(stored);
        }
        next.meta_mut().resource_version = next_version(stored.meta());
        let next = self.store.put(next);
        match aspect {
            Aspect::Status => {
                out.push(Output::Change(Change::StatusModified(Arc::clone(&next))));
                self.outbox.push(Due::state(&uid, Action::Update));
            }
            Aspect::Metadata => {
                out.push(Output::Change(Change::Modified(Arc::clone(&next))));
                self.settle_deletion(&next);
            }
        }
        Ok(next)
    }

    /// Makes an event of an object that is not (yet) a copy here: a new cluster, signing request, lease.
    pub fn event(
        &mut self,
        now: Timestamp,
        subresource: SubResource,
        action: Action,
        object: &C::Object,
    ) -> Result<CloudEvent, crate::codec::EncodeError> {
        let event_type = self.codec.data_type().event(subresource, action);
        // An agent that starts anew, perhaps with a clock that went back, goes on from what its owner heard last.
        let annotations = &object.meta().annotations;
        if let Some(heard) = annotations.get(names::ANNOTATION_SEQUENCE_ID) {
            self.sequence.go_on_from(heard);
        }
        let sequence = Some(self.sequence.next_id(now).to_string());
        let stamp = Stamp {
            id: self.ids.next_id(),
            time: now,
            source: &self.config.agent,
            sequence,
        };
        self.codec.encode(stamp, &event_type, object)
    }

    /// Drops a copy, silently towards the hub.
    pub fn forget(&mut self, uid: &str, out: &mut Outputs<C>) {
        self.outbox.forget(uid);
        self.wanted_again.remove(uid);
        out.extend(
            self.store
                .remove(uid)
                .map(|old| Output::Change(Change::Deleted(old))),
        );
    }

    /// Keeps a copy of an object that was sent, until the hub's own event replaces it.
    pub fn remember(&mut self, object: C::Object, out: &mut Outputs<C>) {
        self.keep_mirror(object, out);
    }

    /// A deletion is over once no finalizer is left: the source must hear of it before the copy goes.
    fn settle_deletion(&mut self, object: &C::Object) {
        if is_over(object) {
            let uid = object.meta().uid.clone();
            self.outbox.push(Due::state(&uid, Action::Update));
        }
    }

    fn receive(&mut self, event: &CloudEvent, out: &mut Outputs<C>) {
        let parsed: EventType = match event.event_type.parse() {
            Ok(parsed) => parsed,
            Err(error) => return dropped(out, &event.id, Cause::BadType, error),
        };
        if parsed.action == Action::ResyncRequest {
            return self.receive_resync(&parsed, event, out);
        }
        if parsed.subresource != SubResource::Spec {
            return dropped(out, &event.id, Cause::WrongSubResource, &event.event_type);
        }
        if event.cluster() != Some(&self.config.cluster) {
            let why = format!("for cluster {:?}", event.cluster());
            return dropped(out, &event.id, Cause::OtherCluster, why);
        }
        if parsed.data_type != *self.codec.data_type() {
            return dropped(out, &event.id, Cause::OtherDataType, &event.event_type);
        }
        let mut object = match self.codec.decode(event) {
            Ok(object) => object,
            Err(error) => return undecodable(out, &event.id, &error),
        };
        if C::KEEPING == Keeping::Mirror {
            self.aliases.note(event, &mut object, &self.store);
        }
        let (uid, version) = (object.meta().uid.clone(), object.meta().generation);
        match C::KEEPING {
            Keeping::Works => self.keep_work(event, &parsed, object, out),
            Keeping::Mirror => self.keep_mirror(object, out),
        }
        let stored = self.store.get(&uid).map(|copy| copy.meta().generation);
        if stored.is_some_and(|stored| version == 0 || stored == version)
            && let Some(context) = TraceContext::of(event)
        {
            self.traces.set(&uid, context, &self.store, &self.outbox);
        }
    }

    fn receive_resync(&mut self, parsed: &EventType, event: &CloudEvent, out: &mut Outputs<C>) {
        if parsed.subresource != SubResource::Status {
            return dropped(out, &event.id, Cause::WrongSubResource, &event.event_type);
        }
        if parsed.data_type != *self.codec.data_type() {
            return dropped(out, &event.id, Cause::OtherDataType, &event.event_type);
        }
        let cluster = event.cluster().unwrap_or_default();
        if !cluster.is_empty() && cluster != self.config.cluster {
            return dropped(out, &event.id, Cause::OtherCluster, cluster);
        }
        let hashes = match Hashes::from_event(event) {
            Ok(hashes) => hashes,
            Err(error) => return dropped(out, &event.id, Cause::Undecodable, error),
        };
        let mine = |object: &&Arc<C::Object>| may_speak_for(&event.source, &***object);
        if hashes.0.is_empty() {
            for object in self.store.iter().filter(mine) {
                self.outbox
                    .push(Due::state(&object.meta().uid, Action::ResyncResponse));
            }
        }
        for (uid, known) in &hashes.0 {
            // An agent that forgot everything has nothing to say yet: an empty status would undo the one that is known.
            let differs = |object: &&Arc<C::Object>| {
                let hash = self.codec.status_hash(object);
                object.has_status() && hash.is_some_and(|hash| hash != *known)
            };
            if self
                .store
                .get(uid)
                .filter(mine)
                .is_some_and(|object| differs(&object))
            {
                self.outbox.push(Due::state(uid, Action::ResyncResponse));
            }
        }
        if event.extension(names::EXT_RESYNC_CONTINUES).is_none() {
            self.ask_back(&event.source);
        }
    }

    /// A source that asks was away: what this agent asked or reported meanwhile reached nobody, though a broker took it. Only
    /// the answer to this request says what became of works that the source does not list, and of those it deleted.
    fn ask_back(&mut self, source: &str) {
        if self.config.resync && !self.outbox.requests("") {
            self.outbox.push(Due::Request(source.into()));
        }
    }

    fn keep_work(
        &mut self,
        event: &CloudEvent,
        parsed: &EventType,
        mut incoming: C::Object,
        out: &mut Outputs<C>,
    ) {
        let Some(stored) = self.store.get(&incoming.meta().uid).cloned() else {
            // Whoever does not know what this agent asked about need not be its owner, and cannot even say its name. If the
            // agent forgot it meanwhile there is nothing to end here: what is left of it in the cluster is evicted.
            let nameless = event.text(names::EXT_METADATA).is_err();
            if nameless && incoming.meta().deleting() && parsed.action == Action::ResyncResponse {
                return dropped(out, &event.id, Cause::Unknown, &incoming.meta().uid);
            }
            return self.add_work(&event.id, incoming, out);
        };
        let from_broker = event.source == names::BROKER_SOURCE
            && parsed.action == Action::ResyncResponse
            && incoming.meta().deleting();
        if !may_speak_for(&event.source, &*stored) && !from_broker {
            let why = format!(
                "{} belongs to another source than {}",
                stored.meta().uid,
                event.source
            );
            return dropped(out, &event.id, Cause::OtherSource, why);
        }
        if incoming.meta().deleting() {
            return self.begin_deletion(&stored, &incoming, out);
        }
        if stored.meta().deleting() {
            self.wanted_again.insert(stored.meta().uid.clone());
            return dropped(out, &event.id, Cause::Deleting, &stored.meta().uid);
        }
        let (old, new) = (stored.meta().generation, incoming.meta().generation);
        if new != 0 && new < old {
            return dropped(
                out,
                &event.id,
                Cause::Stale,
                format!("generation {new}, known {old}"),
            );
        }
        incoming.adopt_status(&stored);
        let meta = incoming.meta_mut();
        meta.finalizers.clone_from(&stored.meta().finalizers);
        if meta.name != stored.meta().name {
            "1".clone_into(&mut meta.resource_version);
            self.store.remove(&stored.meta().uid);
            let added = self.store.put(incoming);
            out.push(Output::Change(Change::Deleted(stored)));
            out.push(Output::Change(Change::Added(added)));
            return;
        }
        meta.resource_version
            .clone_from(&stored.meta().resource_version);
        if incoming == *stored {
            return;
        }
        incoming.meta_mut().resource_version = next_version(stored.meta());
        out.push(Output::Change(Change::Modified(self.store.put(incoming))));
    }

    /// A new uid under a name that the same source used before takes the name over. The end of an earlier uid does not.
    fn add_work(&mut self, event: &str, mut incoming: C::Object, out: &mut Outputs<C>) {
        let meta = incoming.meta();
        let source = meta
            .labels
            .get(names::LABEL_ORIGINAL_SOURCE)
            .cloned()
            .unwrap_or_default();
        let replaced: Vec<&Arc<C::Object>> = self
            .store
            .named(&meta.namespace, &meta.name)
            .filter(|other| may_speak_for(&source, &***other))
            .collect();
        if incoming.meta().deleting() && replaced.iter().any(|other| !other.meta().deleting()) {
            let why = format!("{} is another by now", incoming.meta().name);
            return dropped(out, event, Cause::Stale, why);
        }
        let replaced: Vec<String> = replaced
            .iter()
            .map(|other| other.meta().uid.clone())
            .collect();
        for uid in replaced {
            self.outbox.forget(&uid);
            self.wanted_again.remove(&uid);
            out.extend(
                self.store
                    .remove(&uid)
                    .map(|old| Output::Change(Change::Deleted(old))),
            );
        }
        "1".clone_into(&mut incoming.meta_mut().resource_version);
        out.push(Output::Change(Change::Added(self.store.put(incoming))));
    }

    /// Marks the deletion. The mark is never taken back and never moves.
    fn begin_deletion(
        &mut self,
        stored: &Arc<C::Object>,
        incoming: &C::Object,
        out: &mut Outputs<C>,
    ) {
        let mut next = C::Object::clone(stored);
        let meta = next.meta_mut();
        if !meta.deleting() {
            meta.deletion_timestamp = incoming.meta().deletion_timestamp;
        }
        if incoming.meta().generation != 0 {
            meta.generation = incoming.meta().generation;
        }
        if next == **stored {
            self.settle_deletion(stored);
        } else {
            next.meta_mut().resource_version = next_version(stored.meta());
            let next = self.store.put(next);
            out.push(Output::Change(Change::Modified(Arc::clone(&next))));
            self.settle_deletion(&next);
        }
    }

    fn keep_mirror(&mut self, incoming: C::Object, out: &mut Outputs<C>) {
        let meta = incoming.meta();
        if meta.deleting() {
            let Some(stored) = self.store.get(&meta.uid).cloned() else {
                return;
            };
            if meta.finalizers.is_empty() {
                out.extend(
                    self.store
                        .remove(&meta.uid)
                        .map(|old| Output::Change(Change::Deleted(old))),
                );
                return;
            }
            let mut next = C::Object::clone(&stored);
            next.meta_mut().deletion_timestamp = meta.deletion_timestamp;
            next.meta_mut().finalizers.clone_from(&meta.finalizers);
            next.meta_mut().generation = meta.generation;
            out.push(Output::Change(Change::Modified(self.store.put(next))));
            return;
        }
        let same_name = self.store.get_named(&meta.namespace, &meta.name).cloned();
        let known = self.store.get(&meta.uid).cloned().or(same_name);
        match known {
            Some(old) if *old == incoming => (),
            Some(old) => {
                self.store.remove(&old.meta().uid);
                out.push(Output::Change(Change::Modified(self.store.put(incoming))));
            }
            None => out.push(Output::Change(Change::Added(self.store.put(incoming)))),
        }
    }

    /// Only the delivery of the last word lets a copy go: an earlier report that was in flight meanwhile does not.
    fn settled(&mut self, due: Due, out: &mut Outputs<C>) {
        if let Due::Last(uid) = due {
            // A last word that was said twice must not take the copy that came after the first.
            if !self.store.get(&uid).is_some_and(|copy| is_over(&**copy)) {
                return;
            }
            self.outbox.forget(&uid);
            let Some(old) = self.store.remove(&uid) else {
                return;
            };
            // The source may have answered the last word before it was known here that it arrived.
            if self.wanted_again.remove(&*uid) {
                let owner = old.meta().labels.get(names::LABEL_ORIGINAL_SOURCE);
                let owner = owner.map_or("", String::as_str);
                self.outbox.push(Due::Request(owner.into()));
            }
            out.push(Output::Change(Change::Deleted(old)));
        }
    }

    /// What is owed becomes the last word once the deletion of the resource is over.
    fn ripen(&self, due: Due) -> Due {
        let over = |uid: &str| self.store.get(uid).is_some_and(|object| is_over(&**object));
        match due {
            Due::State(uid, _) if over(&uid) => Due::Last(uid),
            other => other,
        }
    }

    fn make(
        &mut self,
        now: Timestamp,
        due: &Due,
    ) -> Option<Result<CloudEvent, crate::codec::EncodeError>> {
        let (uid, action, last) = match due {
            Due::Request(to) => return Some(self.request(now, to)),
            Due::State(uid, action) => (uid, action.clone(), false),
            Due::Last(uid) => (uid, self.codec.last_word(), true),
            Due::Gone { .. } => return None,
        };
        let mut report = C::Object::clone(self.store.get(uid)?);
        if last {
            report.mark_gone(now);
        }
        report.meta_mut().resource_version = String::new();
        let mut event = self.event(now, SubResource::Status, action, &report);
        if let Ok(event) = &mut event {
            self.traces.stamp(uid, &mut self.ids, event);
        }
        Some(event)
    }

    fn request(
        &mut self,
        now: Timestamp,
        to: &str,
    ) -> Result<CloudEvent, crate::codec::EncodeError> {
        // What only waits for its last word to be confirmed is as good as gone: that word may have reached nobody.
        let scoped = self.store.iter().filter(|object| {
            !is_over(&***object) && (to.is_empty() || may_speak_for(to, &***object))
        });
        let known = scoped
            .map(|o| {
                let id = self.aliases.id(&o.meta().uid);
                (id.to_owned(), self.codec.version(o).unwrap_or(0))
            })
            .collect();
        let data = Versions(known).to_json()?;
        let event_type = self
            .codec
            .data_type()
            .event(SubResource::Spec, Action::ResyncRequest);
        Ok(
            CloudEvent::new(self.ids.next_id(), &self.config.agent, event_type, now)
                .with(names::EXT_CLUSTER_NAME, self.config.cluster.as_str())
                .with(names::EXT_ORIGINAL_SOURCE, to)
                .with_json(data),
        )
    }
}

impl<C: Codec> Session for AgentSession<C> {
    type Object = C::Object;

    fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Output<C::Object>>) {
        match input {
            Input::Up => {
                self.up = true;
                self.outbox.reset();
                if self.config.resync {
                    self.outbox.push(Due::Request(Arc::default()));
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
            Input::Resync => self.outbox.push(Due::Request(Arc::default())),
            Input::Sent(ticket) => {
                if let Some(due) = self.outbox.sent(ticket) {
                    self.settled(due, out);
                }
            }
            Input::Failed(ticket, fate) => {
                let (lost, wake) = self.outbox.failed(now, ticket, fate);
                out.extend(wake.map(Output::WakeAt));
                if let Some(due) = lost {
                    dropped(out, "", Cause::Refused, format!("{due:?}"));
                    self.settled(due, out);
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
            let due = self.ripen(due);
            match self.make(now, &due) {
                Some(Ok(event)) => {
                    self.outbox.amend(ticket, due);
                    return Some(Transmit { ticket, event });
                }
                Some(Err(error)) => {
                    dropped(out, "", Cause::Unencodable, error);
                    self.outbox.land(ticket);
                    self.settled(due, out);
                }
                None => drop(self.outbox.land(ticket)),
            }
        }
        None
    }

    fn store(&self) -> &Store<C::Object> {
        &self.store
    }
}

/// Whether the deletion of a copy is done, but for telling so.
fn is_over(object: &impl Resource) -> bool {
    let meta = object.meta();
    meta.deleting() && meta.finalizers.is_empty()
}

/// Whether a source owns a copy. Copies without an owner belong to whoever speaks.
fn may_speak_for(source: &str, object: &impl Resource) -> bool {
    object
        .meta()
        .labels
        .get(names::LABEL_ORIGINAL_SOURCE)
        .is_none_or(|owner| owner == source)
}

/// Takes over what an agent may change, and keeps what says where the copy came from.
fn adopt_metadata<R: Resource>(next: &mut R, from: &R) {
    let kept_label = next
        .meta_mut()
        .labels
        .remove_entry(names::LABEL_ORIGINAL_SOURCE);
    let kept_annotation = next
        .meta_mut()
        .annotations
        .remove_entry(names::ANNOTATION_DATA_TYPE);
    let meta = next.meta_mut();
    meta.finalizers.clone_from(&from.meta().finalizers);
    meta.labels.clone_from(&from.meta().labels);
    meta.annotations.clone_from(&from.meta().annotations);
    meta.labels.extend(kept_label);
    meta.annotations.extend(kept_annotation);
}
