//! The resync of a source: its own question for statuses, in parts, and its answer to what agents say they hold.

use std::sync::Arc;

use jiff::Timestamp;

use super::super::outbox::Due;
use super::super::{Cause, Change, Output, dropped, next_version};
use super::{Outputs, SourceSession};
use crate::cloudevent::CloudEvent;
use crate::codec::{Codec, EncodeError, Keeping, Resource};
use crate::eventtype::{Action, SubResource};
use crate::names;
use crate::resync::{Hashes, Versions, must_send};

/// Hashes per status resync request: keeps the event below the packet limit of brokers (512 KiB).
const HASHES_PER_REQUEST: usize = 1000;

/// How far a status resync got. The parts are made one after the other, each when it is sent.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Where the next part begins: after this uid (of all) or name (of a cluster).
    after: Option<String>,
    /// Where the part that is on its way ends, if others follow.
    until: Option<String>,
}

impl<C: Codec> SourceSession<C> {
    pub(super) fn answer(&mut self, event: &CloudEvent, out: &mut Outputs<C>) {
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
        let owned: Vec<_> = match C::KEEPING {
            Keeping::Works => self.store.in_namespace(cluster).cloned().collect(),
            Keeping::Mirror => {
                let there = |object: &&Arc<_>| self.codec.cluster_of(object) == Some(cluster);
                self.store.iter().filter(there).cloned().collect()
            }
        };
        for object in &owned {
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
            let next = self.store.put(next);
            self.outbox
                .push(Due::state(&next.meta().uid, Action::ResyncResponse));
            self.keep_first(&next.meta().uid, out);
            out.push(Output::Change(Change::Modified(next)));
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

    /// Asks all agents. A list without hashes asks for everything, so it is only sent when nothing is owned: it makes agents
    /// ask in turn about what they hold of this source.
    pub(super) fn ask(&mut self) {
        self.asking.clear();
        self.ask_of("");
    }

    pub(super) fn ask_cluster(&mut self, cluster: &str) {
        self.ask_of(cluster);
    }

    fn ask_of(&mut self, cluster: &str) {
        let cluster: Arc<str> = cluster.into();
        self.asking.insert(Arc::clone(&cluster), Asking::default());
        self.outbox.push(Due::Request(cluster));
    }

    /// The next part of the question, made of what is known now.
    pub(super) fn request(
        &mut self,
        now: Timestamp,
        to: &str,
    ) -> Option<Result<CloudEvent, EncodeError>> {
        let asking = self.asking.get_mut(to)?;
        let after = asking.after.as_deref();
        let hash =
            |object: &Arc<C::Object>| Some((Arc::clone(object), self.codec.status_hash(object)?));
        let part: Vec<_> = if to.is_empty() {
            let objects = self.store.iter_after(after).filter_map(hash);
            objects.take(HASHES_PER_REQUEST).collect()
        } else {
            let objects = self.store.in_namespace_after(to, after).filter_map(hash);
            objects.take(HASHES_PER_REQUEST).collect()
        };
        if part.is_empty() && (after.is_some() || !to.is_empty()) {
            return None;
        }
        let first = after.is_none();
        let last = part.last().filter(|_| part.len() == HASHES_PER_REQUEST);
        asking.until = last.map(|(object, _)| {
            let meta = object.meta();
            if to.is_empty() { &meta.uid } else { &meta.name }.clone()
        });
        let hashes = part
            .into_iter()
            .map(|(object, hash)| (object.meta().uid.clone(), hash));
        let data = match Hashes(hashes.collect()).to_json() {
            Ok(data) => data,
            Err(error) => return Some(Err(error.into())),
        };
        let data_type = self.codec.data_type();
        let event_type = data_type.event(SubResource::Status, Action::ResyncRequest);
        let mut event = CloudEvent::new(self.ids.next_id(), &self.config.source, event_type, now)
            .with(names::EXT_CLUSTER_NAME, to)
            .with(names::EXT_ORIGINAL_SOURCE, "");
        if !first {
            event.set(names::EXT_RESYNC_CONTINUES, true);
        }
        Some(Ok(event.with_json(data)))
    }

    /// A part is done with: goes on to the next, unless all was asked anew meanwhile.
    pub(super) fn asked(&mut self, to: &str) {
        if self.outbox.requests(to) {
            return;
        }
        let Some(asking) = self.asking.get_mut(to) else {
            return;
        };
        match asking.until.take() {
            None => drop(self.asking.remove(to)),
            Some(until) => {
                asking.after = Some(until);
                self.outbox.push(Due::Request(to.into()));
            }
        }
    }
}

/// Whether an agent reported about a resource since it was made. Before that, a version that an agent holds may be one that
/// this source gave to something else, and forgot.
fn is_confirmed(object: &impl Resource) -> bool {
    let finalizers = &object.meta().finalizers;
    finalizers.iter().any(|f| f == names::WORK_FINALIZER)
}
