//! The source's end: owns what shall be, sends it to the clusters, and takes what they report.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::outbox::{Due, Outbox};
use super::store::Store;
use super::{
    Cause, Change, ChangeError, Input, Output, Session, Transmit, check_version, dropped,
    next_version,
};
use crate::bundle::work_uid;
use crate::cloudevent::CloudEvent;
use crate::codec::{Codec, EncodeError, Keeping, Resource, Stamp};
use crate::eventtype::{Action, EventType, SubResource};
use crate::ids::Ids;
use crate::meta::whole_seconds;
use crate::names;
use crate::resync::{Answering, Hashes, Versions, must_send, order_deletion};
use crate::sequence::is_newer;

/// Hashes per status resync request: keeps the event below the packet limit of brokers (512 KiB).
const HASHES_PER_REQUEST: usize = 1000;

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
    requests: BTreeMap<String, Asked>,
    asked: u64,
    graves: BTreeMap<String, i64>,
    synced: bool,
    up: bool,
}

/// A status resync request that is owed: to one cluster, or (empty) to all.
#[derive(Debug)]
struct Asked {
    cluster: String,
    hashes: Hashes,
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
            requests: BTreeMap::new(),
            asked: 0,
            graves,
            synced,
            up: false,
        }
    }

    /// What must be kept beside the objects, see [`Owned::graves`].
    pub fn graves(&self) -> &BTreeMap<String, i64> {
        &self.graves
    }

    /// Resources and requests about which an event is owed: it waits, or is on its way.
    pub fn owed(&self) -> usize {
        self.outbox.len()
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
        self.outbox
            .push(Due::state(&object.meta().uid, Action::Create));
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
        self.outbox
            .push(Due::state(&object.meta().uid, Action::Update));
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
        if meta.finalizers.is_empty() {
            let (uid, cluster) = (meta.uid.clone(), meta.namespace.clone());
            self.store.remove(&uid);
            self.graves.insert(uid.clone(), meta.generation);
            self.outbox.push(Due::Gone {
                uid: uid.into(),
                cluster,
                version: meta.generation,
            });
            out.push(Output::Change(Change::Deleted(stored)));
            return;
        }
        let mut next = C::Object::clone(&stored);
        next.meta_mut().deletion_timestamp = Some(whole_seconds(now));
        next.meta_mut().resource_version = next_version(meta);
        self.outbox.forget(&meta.uid);
        self.outbox.push(Due::state(&meta.uid, Action::Delete));
        out.push(Output::Change(Change::Modified(self.store.put(next))));
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
            Err(error) => dropped(out, &event.id, Cause::Undecodable, error),
        }
    }

    fn answer(&mut self, event: &CloudEvent, out: &mut Outputs<C>) {
        let Some(cluster) = event.cluster().filter(|cluster| !cluster.is_empty()) else {
            return dropped(
                out,
                &event.id,
                Cause::OtherCluster,
                "a resync request must name its cluster",
            );
        };
        let known = match Versions::from_event(event) {
            Ok(known) => known,
            Err(error) => return dropped(out, &event.id, Cause::Undecodable, error),
        };
        // An agent that asks every source was away, and so may have been who asked it for statuses meanwhile, and who should
        // have got the statuses that it reported. One that asks this source alone answers a question of its own.
        if self.config.resync
            && event
                .text(names::EXT_ORIGINAL_SOURCE)
                .unwrap_or_default()
                .is_empty()
        {
            self.ask_cluster(cluster);
        }
        let mut overtake = Vec::new();
        for object in self.store.in_namespace(cluster) {
            let meta = object.meta();
            let held = known.0.get(&meta.uid).copied();
            let version = self.codec.version(object);
            let counted = C::KEEPING == Keeping::Works
                && !meta
                    .annotations
                    .contains_key(names::ANNOTATION_RESOURCE_VERSION);
            if counted && !meta.deleting() && held.is_some_and(|held| Some(held) > version) {
                overtake.push((Arc::clone(object), held.unwrap_or(0)));
            } else if must_send(version, meta.deleting(), held)
                || (counted && held == version && !is_confirmed(&**object))
            {
                self.outbox
                    .push(Due::state(&meta.uid, Action::ResyncResponse));
            }
        }
        // A source that lost its memory counts below what its agents hold: it goes on from there.
        for (object, held) in overtake {
            let mut next = C::Object::clone(&object);
            next.meta_mut().generation = held + 1;
            next.meta_mut().resource_version = next_version(object.meta());
            self.outbox
                .push(Due::state(&object.meta().uid, Action::ResyncResponse));
            out.push(Output::Change(Change::Modified(self.store.put(next))));
        }
        if self.synced {
            for (uid, version) in known.0 {
                if self.store.get(&uid).is_none() {
                    self.outbox.push(Due::Gone {
                        uid: uid.into(),
                        cluster: cluster.to_owned(),
                        version,
                    });
                }
            }
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
            }
            return dropped(out, &event.id, Cause::Unknown, uid);
        };
        if event.cluster() != Some(&stored.meta().namespace) {
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
        let sequence = |object: &C::Object| {
            object
                .meta()
                .annotations
                .get(names::ANNOTATION_SEQUENCE_ID)
                .cloned()
                .unwrap_or_default()
        };
        let current = sequence(report);
        match is_newer(&sequence(&stored), &current) {
            Ok(true) => (),
            Ok(false) => return dropped(out, &event.id, Cause::Stale, current),
            Err(error) => return dropped(out, &event.id, Cause::Undecodable, error),
        }
        let mut next = C::Object::clone(&stored);
        next.adopt_status(report);
        let meta = next.meta_mut();
        meta.annotations
            .insert(names::ANNOTATION_SEQUENCE_ID.to_owned(), current);
        if C::KEEPING == Keeping::Works
            && !meta.finalizers.iter().any(|f| f == names::WORK_FINALIZER)
        {
            meta.finalizers.push(names::WORK_FINALIZER.to_owned());
        }
        let changed =
            !next.same_status(&stored) || next.meta().finalizers != stored.meta().finalizers;
        next.meta_mut().resource_version = next_version(stored.meta());
        let next = self.store.put(next);
        if changed {
            out.push(Output::Change(Change::StatusModified(next)));
        }
    }

    /// Splits the hashes into requests of a bounded size. An empty list asks for everything, so it is only sent when nothing
    /// is owned: it makes agents ask in turn about what they hold of this source.
    fn ask(&mut self) {
        let hashes = hashes(self.store.iter());
        self.withdraw(|_| true);
        self.owe(String::new(), &hashes);
        if self.requests.is_empty() {
            self.owe_one(String::new(), Hashes::default());
        }
    }

    fn ask_cluster(&mut self, cluster: &str) {
        let hashes = hashes(self.store.in_namespace(cluster));
        self.withdraw(|asked| asked.cluster == cluster);
        self.owe(cluster.to_owned(), &hashes);
    }

    /// What is asked anew need not be asked as before.
    fn withdraw(&mut self, which: impl Fn(&Asked) -> bool) {
        let outbox = &mut self.outbox;
        self.requests.retain(|key, asked| {
            let goes = which(asked);
            if goes {
                outbox.forget_request(key);
            }
            !goes
        });
    }

    fn owe(&mut self, cluster: String, hashes: &[(String, String)]) {
        for batch in hashes.chunks(HASHES_PER_REQUEST) {
            self.owe_one(cluster.clone(), Hashes(batch.iter().cloned().collect()));
        }
    }

    /// Keys are never used twice: the fate of a request says nothing of a later one.
    fn owe_one(&mut self, cluster: String, hashes: Hashes) {
        self.asked += 1;
        let key = self.asked.to_string();
        self.requests.insert(key.clone(), Asked { cluster, hashes });
        self.outbox.push(Due::Request(key.into()));
    }

    fn make(&mut self, now: Timestamp, due: &Due) -> Option<Result<CloudEvent, EncodeError>> {
        let data_type = self.codec.data_type();
        match due {
            Due::Request(key) => {
                let Asked { cluster, hashes } = self.requests.get(&**key)?;
                let event_type = data_type.event(SubResource::Status, Action::ResyncRequest);
                let event =
                    CloudEvent::new(self.ids.next_id(), &self.config.source, event_type, now)
                        .with(names::EXT_CLUSTER_NAME, cluster.as_str())
                        .with(names::EXT_ORIGINAL_SOURCE, "");
                Some(
                    hashes
                        .to_json()
                        .map(|data| event.with_json(data))
                        .map_err(EncodeError::from),
                )
            }
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
                Some(self.codec.encode(stamp, &event_type, object))
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
                Some(Ok(order_deletion(&to, &mut self.ids, now, uid, *version)))
            }
        }
    }

    fn settled(&mut self, due: Due) {
        if let Due::Request(key) = due {
            self.requests.remove(&*key);
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
                    self.settled(due);
                }
            }
            Input::Failed(ticket, fate) => {
                let (lost, wake) = self.outbox.failed(now, ticket, fate);
                out.extend(wake.map(Output::WakeAt));
                if let Some(due) = lost {
                    dropped(out, "", Cause::Refused, format!("{due:?}"));
                    self.settled(due);
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
            self.settled(due);
        }
        None
    }

    fn store(&self) -> &Store<C::Object> {
        &self.store
    }
}

/// Whether an agent reported about a resource since it was made. Before that, a version that an agent holds may be one that
/// this source gave to something else, and forgot.
fn is_confirmed(object: &impl Resource) -> bool {
    let finalizers = &object.meta().finalizers;
    finalizers.iter().any(|f| f == names::WORK_FINALIZER)
}

fn hashes<'a, R: Resource>(objects: impl Iterator<Item = &'a Arc<R>>) -> Vec<(String, String)> {
    let with_uid = |object: &Arc<R>| Some((object.meta().uid.clone(), object.status_hash()?));
    objects.filter_map(with_uid).collect()
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
