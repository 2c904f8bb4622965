//! A hub behind a broker: it owns works as an API would keep them, and answers agents as a broker with a service does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use drover_protocol::ids::Ids;
use drover_protocol::resync::{Answering, Versions, answer};
use drover_protocol::sequence::is_newer;
use drover_protocol::{
    Action, CloudEvent, Codec, DataType, EventType, SourceBundleCodec, Stamp, SubResource, Work,
    names,
};
use jiff::Timestamp;

use crate::oracle::{Claim, Facts, Oracle};

/// Sender of what the hub sends.
pub(crate) const HUB: &str = names::HUB_SOURCE;

pub(crate) struct Hub {
    ids: Ids,
    /// What the API keeps: survives the process.
    works: BTreeMap<String, Work>,
    /// What only this process knows.
    sequences: BTreeMap<String, String>,
    subscribers: BTreeMap<usize, Subscriber>,
    limit: usize,
}

/// What waits for one subscriber: the newest event of each resource. A resync waits beside it and uses half of the room.
#[derive(Default)]
struct Subscriber {
    order: VecDeque<String>,
    events: BTreeMap<String, CloudEvent>,
    feeds: VecDeque<Feed>,
}

struct Feed {
    events: VecDeque<CloudEvent>,
    touched: BTreeSet<String>,
}

fn key(event: &CloudEvent) -> String {
    event.resource_id().unwrap_or(&event.id).to_owned()
}

impl Subscriber {
    fn put(&mut self, event: CloudEvent) {
        let key = key(&event);
        if self.events.insert(key.clone(), event).is_none() {
            self.order.push_back(key);
        }
    }

    /// `false`: does not keep up.
    fn push(&mut self, event: CloudEvent, limit: usize) -> bool {
        let key = key(&event);
        for feed in &mut self.feeds {
            feed.touched.insert(key.clone());
        }
        let room = self.order.len() < limit || self.events.contains_key(&key);
        if room {
            self.put(event);
        }
        room
    }

    fn pull(&mut self, limit: usize) -> Option<CloudEvent> {
        while let Some(feed) = self.feeds.front_mut() {
            let Some(event) = feed.events.front() else {
                self.feeds.pop_front();
                continue;
            };
            let key = key(event);
            let room = self.order.len() < (limit / 2).max(1) || self.events.contains_key(&key);
            if feed.touched.contains(&key) {
                feed.events.pop_front();
            } else if room && let Some(event) = feed.events.pop_front() {
                self.put(event);
            } else {
                break;
            }
        }
        let key = self.order.pop_front()?;
        self.events.remove(&key)
    }
}

impl Hub {
    pub(crate) fn new(seed: u64, limit: usize) -> Self {
        Self {
            ids: Ids::new(seed.into()),
            works: BTreeMap::new(),
            sequences: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            limit,
        }
    }

    /// A new process on the same API.
    pub(crate) fn restart(&mut self, oracle: &mut Oracle) {
        self.subscribers.clear();
        self.sequences.clear();
        oracle.hub_restarted();
    }

    pub(crate) fn subscribe(&mut self, agent: usize) {
        self.subscribers.insert(agent, Subscriber::default());
    }

    pub(crate) fn unsubscribe(&mut self, agent: usize) {
        self.subscribers.remove(&agent);
    }

    pub(crate) fn subscribed(&self, agent: usize) -> bool {
        self.subscribers.contains_key(&agent)
    }

    pub(crate) fn idle(&self) -> bool {
        let idle =
            |s: &Subscriber| s.order.is_empty() && s.feeds.iter().all(|f| f.events.is_empty());
        self.subscribers.values().all(idle)
    }

    pub(crate) fn works(&self) -> impl Iterator<Item = &Work> {
        self.works.values()
    }

    pub(crate) fn pull(&mut self, agent: usize) -> Option<CloudEvent> {
        let limit = self.limit;
        self.subscribers.get_mut(&agent)?.pull(limit)
    }

    pub(crate) fn find(&self, cluster: &str, name: &str) -> Option<&Work> {
        let found = |work: &&Work| work.metadata.namespace == cluster && work.metadata.name == name;
        self.works.values().find(found)
    }

    /// Creates or changes.
    pub(crate) fn write(
        &mut self,
        now: Timestamp,
        agent: usize,
        claim: &Claim,
        oracle: &mut Oracle,
    ) {
        let known = self.find(&claim.cluster, &claim.work).cloned();
        let mut work = claim.to_work();
        let action = match known {
            Some(old) if old.metadata.deleting() => return,
            Some(old) => {
                work.metadata = old.metadata;
                work.metadata.generation += 1;
                work.status = old.status;
                Action::Update
            }
            None => {
                work.metadata.uid = self.ids.next_id();
                work.metadata.generation = 1;
                Action::Create
            }
        };
        let uid = work.metadata.uid.clone();
        oracle.issued(&uid, claim);
        self.works.insert(uid.clone(), work);
        self.tell(now, agent, &uid, action);
    }

    /// Begins a deletion, or ends it when no agent holds the work.
    pub(crate) fn delete(
        &mut self,
        now: Timestamp,
        agent: usize,
        cluster: &str,
        name: &str,
        oracle: &mut Oracle,
    ) {
        let Some(uid) = self
            .find(cluster, name)
            .map(|work| work.metadata.uid.clone())
        else {
            return;
        };
        oracle.ended(&uid);
        if let Some(work) = self.works.get_mut(&uid) {
            work.metadata.deletion_timestamp.get_or_insert(now);
        }
        self.tell(now, agent, &uid, Action::Delete);
        self.remove_if_free(&uid);
    }

    fn remove_if_free(&mut self, uid: &str) {
        let free = |work: &Work| work.metadata.deleting() && work.metadata.finalizers.is_empty();
        if self.works.get(uid).is_some_and(free) {
            self.works.remove(uid);
            self.sequences.remove(uid);
        }
    }

    fn tell(&mut self, now: Timestamp, agent: usize, uid: &str, action: Action) {
        let Some(event) = self.spec(now, uid, action) else {
            return;
        };
        let limit = self.limit;
        if let Some(subscriber) = self.subscribers.get_mut(&agent)
            && !subscriber.push(event, limit)
        {
            self.subscribers.remove(&agent);
        }
    }

    fn spec(&mut self, now: Timestamp, uid: &str, action: Action) -> Option<CloudEvent> {
        let mut work = self.works.get(uid)?.clone();
        if let Some(sequence) = self.sequences.get(uid) {
            let key = names::ANNOTATION_SEQUENCE_ID.to_owned();
            work.metadata.annotations.insert(key, sequence.clone());
        }
        let stamp = Stamp {
            id: self.ids.next_id(),
            time: now,
            source: HUB,
            sequence: None,
        };
        let kind = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, action);
        let event = SourceBundleCodec.encode(stamp, &kind, &work);
        Some(event.expect("works of this world can be encoded"))
    }

    /// Takes what an agent publishes.
    pub(crate) fn receive(
        &mut self,
        now: Timestamp,
        agent: usize,
        cluster: &str,
        event: &CloudEvent,
        oracle: &mut Oracle,
    ) {
        let kind: EventType = event.event_type.parse().expect("agents send known types");
        if kind.action == Action::ResyncRequest {
            self.resync(now, agent, cluster, event);
        } else {
            self.status(now, agent, event, oracle);
        }
    }

    fn resync(&mut self, now: Timestamp, agent: usize, cluster: &str, event: &CloudEvent) {
        let known = Versions::from_event(event).expect("agents send lists");
        let uids: Vec<_> = self
            .works
            .values()
            .filter(|work| work.metadata.namespace == cluster)
            .map(|work| work.metadata.uid.clone())
            .collect();
        let listed = uids
            .iter()
            .filter_map(|uid| self.spec(now, uid, Action::Update))
            .collect();
        let to = Answering {
            data_type: &DataType::MANIFEST_BUNDLES,
            cluster,
            source: names::BROKER_SOURCE,
        };
        let events = answer(listed, &known, &to, &mut self.ids, now).into();
        if let Some(subscriber) = self.subscribers.get_mut(&agent) {
            let touched = BTreeSet::new();
            subscriber.feeds.push_back(Feed { events, touched });
        }
    }

    fn status(&mut self, now: Timestamp, agent: usize, event: &CloudEvent, oracle: &mut Oracle) {
        let report = SourceBundleCodec
            .decode(event)
            .expect("agents send statuses");
        let uid = report.metadata.uid.as_str();
        let Some(work) = self.works.get_mut(uid) else {
            return;
        };
        if report.status.is_deleted() {
            if work.metadata.deleting() {
                work.metadata.finalizers.clear();
                oracle.forgot_status(uid);
                self.remove_if_free(uid);
            } else {
                self.tell(now, agent, uid, Action::Create);
            }
            return;
        }
        if report.metadata.generation < work.metadata.generation {
            return;
        }
        let sequence = &report.metadata.annotations[names::ANNOTATION_SEQUENCE_ID];
        let last = self.sequences.get(uid).map_or("", String::as_str);
        if !is_newer(last, sequence).expect("one node") {
            return;
        }
        if work.metadata.finalizers.is_empty() && !work.metadata.deleting() {
            work.metadata.finalizers.push(names::WORK_FINALIZER.into());
        }
        work.status = report.status;
        self.sequences.insert(uid.to_owned(), sequence.clone());
        oracle.took_status(HUB, work, &Facts::of(event));
    }
}
