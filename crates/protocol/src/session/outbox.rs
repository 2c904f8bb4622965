//! What is owed to the other side: at most one entry per subject, in order, kept until its sending is confirmed. A subject
//! that is on its way is not handed out again before it landed, so two events about it never overtake each other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Fate;
use crate::eventtype::Action;

/// First wait after a failed sending; doubles up to [`MAX_WAIT`].
const MIN_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(30);
/// After so many failures without a success between them the other side is in trouble, not one subject: everything waits.
const BRAKE: u32 = 8;

/// Identifies an event in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Something owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A resync request to a cluster or source, empty for all.
    Request(Arc<str>),
    /// The newest state of a resource.
    State(Arc<str>, Action),
    /// The last word about a resource, after which its copy goes.
    Last(Arc<str>),
    /// The deletion of a resource that is no longer stored.
    Gone {
        uid: Arc<str>,
        cluster: String,
        version: i64,
    },
}

impl Due {
    pub(super) fn state(uid: &str, action: Action) -> Self {
        Self::State(uid.into(), action)
    }

    fn subject(&self) -> (Kind, &Arc<str>) {
        match self {
            Self::Request(to) => (Kind::Request, to),
            Self::State(uid, _) | Self::Last(uid) | Self::Gone { uid, .. } => (Kind::Resource, uid),
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

/// Requests go first: their answers say what else is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Request,
    Resource,
}

type Place = (Kind, u64);

/// Where the entry of a subject is.
#[derive(Debug)]
enum Waits {
    /// In `ready`.
    Ready(Place),
    /// In `later`.
    Later(Timestamp, Place),
    /// Behind the one of the same subject that flies.
    Behind(Due),
}

#[derive(Debug, Default)]
struct Subject {
    waits: Option<Waits>,
    flies: Option<Ticket>,
    failures: u32,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    ready: BTreeMap<Place, Due>,
    later: BTreeMap<(Timestamp, Place), Due>,
    requests: HashMap<Arc<str>, Subject>,
    resources: HashMap<Arc<str>, Subject>,
    flying: BTreeMap<Ticket, Due>,
    /// Source of tickets and of places.
    count: u64,
    failures_in_a_row: u32,
    brakes: u32,
    paused_until: Option<Timestamp>,
}

impl Outbox {
    fn subjects(&mut self, kind: Kind) -> &mut HashMap<Arc<str>, Subject> {
        match kind {
            Kind::Request => &mut self.requests,
            Kind::Resource => &mut self.resources,
        }
    }

    /// Owes something. What is owed of the subject already stays, unless one of the two is the end of it: of "deleted" and
    /// "created again", in either order, only the last counts.
    pub(super) fn push(&mut self, due: Due) {
        let (kind, id) = due.subject();
        let id = Arc::clone(id);
        let (ready, later) = (&mut self.ready, &mut self.later);
        let subjects = match kind {
            Kind::Request => &mut self.requests,
            Kind::Resource => &mut self.resources,
        };
        let subject = subjects.entry(id).or_default();
        let owed = match &subject.waits {
            None => None,
            Some(Waits::Ready(place)) => ready.get(place),
            Some(Waits::Later(at, place)) => later.get(&(*at, *place)),
            Some(Waits::Behind(owed)) => Some(owed),
        };
        if owed.is_some_and(|owed| owed.is_gone() == due.is_gone()) {
            return;
        }
        match subject.waits.take() {
            Some(Waits::Ready(place)) => drop(ready.remove(&place)),
            Some(Waits::Later(at, place)) => drop(later.remove(&(at, place))),
            Some(Waits::Behind(_)) | None => (),
        }
        if subject.flies.is_some() {
            subject.waits = Some(Waits::Behind(due));
        } else {
            self.count += 1;
            let place = (kind, self.count);
            subject.waits = Some(Waits::Ready(place));
            ready.insert(place, due);
        }
    }

    /// The next that may be sent; it flies until its fate is told or the link changes.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<(Ticket, Due)> {
        if self.paused_until(now).is_some() {
            return None;
        }
        self.paused_until = None;
        self.wake(now);
        let (_, due) = self.ready.pop_first()?;
        self.count += 1;
        let ticket = Ticket(self.count);
        let (kind, id) = due.subject();
        if let Some(subject) = self.subjects(kind).get_mut(id) {
            subject.waits = None;
            subject.flies = Some(ticket);
        }
        self.flying.insert(ticket, due.clone());
        Some((ticket, due))
    }

    /// Makes ready what waited long enough, and what would wait longer than anything does: it was put there by a clock that
    /// went back since.
    fn wake(&mut self, now: Timestamp) {
        let longest = now.checked_add(MAX_WAIT).unwrap_or(Timestamp::MAX);
        loop {
            let due = match self.later.first_key_value() {
                Some((key, _)) if key.0 <= now => self.later.pop_first(),
                Some(_) => match self.later.last_key_value() {
                    Some((key, _)) if key.0 > longest => self.later.pop_last(),
                    _ => return,
                },
                None => return,
            };
            let Some(((_, place), due)) = due else { return };
            let (kind, id) = due.subject();
            if let Some(subject) = self.subjects(kind).get_mut(id) {
                subject.waits = Some(Waits::Ready(place));
            }
            self.ready.insert(place, due);
        }
    }

    /// Until when nothing is handed out. A pause that ends further away than any pause lasts was set by a clock that went
    /// back since: it is over.
    fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        let longest = now.checked_add(MAX_WAIT).unwrap_or(Timestamp::MAX);
        self.paused_until
            .filter(|until| now < *until && *until <= longest)
    }

    /// When to look again although nothing happened.
    pub(super) fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        // What is due by now needs no waking: it goes as soon as there is room.
        let from = (now, (Kind::Resource, u64::MAX));
        let later = || self.later.range(from..).next().map(|((at, _), _)| *at);
        self.paused_until(now).or_else(later)
    }

    /// Subjects about which something is owed: it waits, or is on its way.
    pub(super) fn len(&self) -> usize {
        self.requests.len() + self.resources.len()
    }

    /// Whether a request to `to` is owed and not on its way.
    pub(super) fn requests(&self, to: &str) -> bool {
        self.requests
            .get(to)
            .is_some_and(|subject| subject.waits.is_some())
    }

    /// What is owed about a resource: the newest, be it on its way or not.
    pub(super) fn owed(&self, uid: &str) -> Option<&Due> {
        let subject = self.resources.get(uid)?;
        match &subject.waits {
            Some(Waits::Ready(place)) => self.ready.get(place),
            Some(Waits::Later(at, place)) => self.later.get(&(*at, *place)),
            Some(Waits::Behind(due)) => Some(due),
            None => subject.flies.and_then(|ticket| self.flying.get(&ticket)),
        }
    }

    /// What is on its way has to be sent as something else.
    pub(super) fn amend(&mut self, ticket: Ticket, due: Due) {
        if let Some(flying) = self.flying.get_mut(&ticket) {
            *flying = due;
        }
    }

    pub(super) fn sent(&mut self, ticket: Ticket) -> Option<Due> {
        let due = self.land(ticket)?;
        (self.failures_in_a_row, self.brakes) = (0, 0);
        Some(due)
    }

    /// Ends a flight that nobody counts: nothing was sent.
    pub(super) fn land(&mut self, ticket: Ticket) -> Option<Due> {
        let due = self.flying.remove(&ticket)?;
        self.landed(&due);
        Some(due)
    }

    /// Lets what waited behind go, else forgets the subject.
    fn landed(&mut self, due: &Due) {
        let (kind, id) = due.subject();
        let Some(mut subject) = self.subjects(kind).remove(id) else {
            return;
        };
        if let Some(Waits::Behind(next)) = subject.waits.take() {
            self.push(next);
        }
    }

    /// Returns what was given up, if so, and when to wake.
    pub(super) fn failed(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        fate: Fate,
    ) -> (Option<Due>, Option<Timestamp>) {
        let Some(due) = self.flying.remove(&ticket) else {
            return (None, None);
        };
        if fate == Fate::Drop {
            self.landed(&due);
            return (Some(due), None);
        }
        let until = self.postpone(now, due);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if self.failures_in_a_row >= BRAKE && self.paused_until(now).is_none() {
            self.paused_until = Some(after(now, self.brakes));
            self.brakes += 1;
        }
        (None, Some(self.paused_until(now).unwrap_or(until)))
    }

    /// What failed, or what waited behind it, is owed after a pause.
    fn postpone(&mut self, now: Timestamp, due: Due) -> Timestamp {
        let (kind, id) = due.subject();
        let id = Arc::clone(id);
        self.count += 1;
        let place = (kind, self.count);
        let subject = self.subjects(kind).entry(id).or_default();
        let until = after(now, subject.failures);
        subject.failures += 1;
        subject.flies = None;
        let due = match subject.waits.take() {
            Some(Waits::Behind(newer)) => newer,
            _ => due,
        };
        subject.waits = Some(Waits::Later(until, place));
        self.later.insert((until, place), due);
        until
    }

    /// The link changed: what was in flight is owed again, and nothing waits any more.
    pub(super) fn reset(&mut self) {
        self.paused_until = None;
        (self.failures_in_a_row, self.brakes) = (0, 0);
        let later: Vec<_> = std::mem::take(&mut self.later).into_iter().collect();
        for ((_, place), due) in later {
            let (kind, id) = due.subject();
            if let Some(subject) = self.subjects(kind).get_mut(id) {
                subject.waits = Some(Waits::Ready(place));
            }
            self.ready.insert(place, due);
        }
        for due in std::mem::take(&mut self.flying).into_values() {
            let (kind, id) = due.subject();
            let waits = self
                .subjects(kind)
                .remove(id)
                .and_then(|subject| subject.waits);
            self.push(match waits {
                Some(Waits::Behind(newer)) => newer,
                _ => due,
            });
        }
    }

    /// Forgets what is owed of a resource.
    pub(super) fn forget(&mut self, uid: &str) {
        let Some(subject) = self.resources.get_mut(uid) else {
            return;
        };
        match subject.waits.take() {
            Some(Waits::Ready(place)) => drop(self.ready.remove(&place)),
            Some(Waits::Later(at, place)) => drop(self.later.remove(&(at, place))),
            Some(Waits::Behind(_)) | None => (),
        }
        if subject.flies.is_none() {
            self.resources.remove(uid);
        }
    }
}

fn after(now: Timestamp, failures: u32) -> Timestamp {
    let wait = MIN_WAIT.saturating_mul(1 << failures.min(10)).min(MAX_WAIT);
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn state(uid: &str) -> Due {
        Due::state(uid, Action::Update)
    }

    fn gone(uid: &str) -> Due {
        Due::Gone {
            uid: uid.into(),
            cluster: String::new(),
            version: 1,
        }
    }

    /// Everything that can be handed out at `now`, which then flies.
    fn drain(outbox: &mut Outbox, now: Timestamp) -> Vec<(Ticket, Due)> {
        std::iter::from_fn(|| outbox.pop(now)).collect()
    }

    fn dues(flights: &[(Ticket, Due)]) -> Vec<Due> {
        flights.iter().map(|(_, due)| due.clone()).collect()
    }

    #[test]
    fn a_subject_that_flies_waits_for_its_landing() {
        let mut outbox = Outbox::default();
        outbox.push(state("a"));
        outbox.push(state("b"));
        let first = drain(&mut outbox, at(0));
        assert_eq!(dues(&first), [state("a"), state("b")]);
        outbox.push(state("a"));
        outbox.push(gone("a"));
        outbox.push(state("c"));
        let second = drain(&mut outbox, at(0));
        assert_eq!(dues(&second), [state("c")]);
        assert_eq!(outbox.sent(first[0].0), Some(state("a")));
        assert_eq!(dues(&drain(&mut outbox, at(0))), [gone("a")]);
        assert_eq!(outbox.sent(first[0].0), None, "a fate is told once");
    }

    #[test]
    fn one_that_fails_holds_up_nobody_else() {
        let mut outbox = Outbox::default();
        for uid in ["bad", "good"] {
            outbox.push(state(uid));
        }
        let flights = drain(&mut outbox, at(0));
        let (lost, wake) = outbox.failed(at(0), flights[0].0, Fate::Retry);
        assert_eq!(
            (lost, wake),
            (None, Some(at(0).checked_add(MIN_WAIT).unwrap()))
        );
        outbox.sent(flights[1].0);
        outbox.push(state("good"));
        outbox.push(state("bad"));
        assert_eq!(dues(&drain(&mut outbox, at(0))), [state("good")]);
        assert_eq!(outbox.next_wake(at(0)), wake);
        assert_eq!(dues(&drain(&mut outbox, at(1))), [state("bad")]);
    }

    #[test]
    fn when_everything_fails_everything_waits_longer_and_longer() {
        let mut outbox = Outbox::default();
        let uids: Vec<String> = (0..64).map(|number| number.to_string()).collect();
        for uid in &uids {
            outbox.push(state(uid));
        }
        let (mut now, mut waits) = (at(0), Vec::new());
        for _ in 0..8 {
            let flights = drain(&mut outbox, now);
            assert!(!flights.is_empty(), "each is tried again");
            let wakes = flights
                .iter()
                .filter_map(|(ticket, _)| outbox.failed(now, *ticket, Fate::Retry).1);
            let wake = wakes.max().unwrap();
            outbox.push(state("new"));
            assert!(outbox.pop(now).is_none(), "nothing leaves while it waits");
            waits.push(wake.duration_since(now).as_millis());
            now = wake;
        }
        assert_eq!(waits[0], 500);
        assert!(waits.is_sorted() && waits[7] == 30_000, "{waits:?}");
        outbox.reset();
        assert_eq!(drain(&mut outbox, now).len(), 65);
    }

    #[test]
    fn pauses_end_though_the_clock_went_back() {
        let mut outbox = Outbox::default();
        outbox.push(state("a"));
        let flights = drain(&mut outbox, at(1000));
        outbox.failed(at(1000), flights[0].0, Fate::Retry);
        assert_eq!(dues(&drain(&mut outbox, at(0))), [state("a")]);
    }

    #[test]
    fn a_new_link_owes_what_flew_and_the_newer_of_two() {
        let mut outbox = Outbox::default();
        outbox.push(state("a"));
        outbox.push(state("b"));
        drain(&mut outbox, at(0));
        outbox.push(gone("b"));
        outbox.push(Due::Request("".into()));
        outbox.reset();
        let flights = drain(&mut outbox, at(0));
        assert_eq!(
            dues(&flights),
            [Due::Request("".into()), state("a"), gone("b")]
        );
        for (ticket, _) in flights {
            outbox.sent(ticket);
        }
        assert!(outbox.resources.is_empty() && outbox.requests.is_empty());
    }

    #[test]
    fn what_is_forgotten_is_not_sent() {
        let mut outbox = Outbox::default();
        outbox.push(state("ready"));
        outbox.push(state("flies"));
        outbox.forget("ready");
        let flights = drain(&mut outbox, at(0));
        outbox.push(gone("flies"));
        outbox.forget("flies");
        outbox.sent(flights[0].0);
        assert!(drain(&mut outbox, at(0)).is_empty() && outbox.resources.is_empty());
    }
}
