//! What is owed to the other side: at most one entry per subject, in order, kept until its sending is confirmed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::Fate;
use crate::eventtype::Action;

/// First wait after a failed sending; doubles up to [`MAX_WAIT`].
const MIN_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Identifies an event in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Something owed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A resync request to a cluster or source, empty for all.
    Request(String),
    /// The newest state of a resource.
    State(String, Action),
    /// The last word about a resource, after which its copy goes.
    Last(String),
    /// The deletion of a resource that is no longer stored.
    Gone {
        uid: String,
        cluster: String,
        version: i64,
    },
}

impl Due {
    fn subject(&self) -> (bool, &str) {
        match self {
            Self::Request(to) => (true, to),
            Self::State(uid, _) | Self::Last(uid) | Self::Gone { uid, .. } => (false, uid),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Due>,
    /// Subjects in the queue; true = the entry is a deletion.
    queued: BTreeMap<(bool, String), bool>,
    flying: BTreeMap<Ticket, Due>,
    tickets: u64,
    failures: u32,
    paused_until: Option<Timestamp>,
}

impl Outbox {
    pub(super) fn push(&mut self, due: Due) {
        let (request, id) = due.subject();
        let id = id.to_owned();
        let gone = matches!(due, Due::Gone { .. });
        match self.queued.insert((request, id.clone()), gone) {
            Some(before) if before == gone => return,
            // Deleted and created again, or the reverse, before either was sent: only the last counts.
            Some(_) => self
                .queue
                .retain(|other| other.subject() != (request, id.as_str())),
            None => (),
        }
        if request {
            self.queue.push_front(due);
        } else {
            self.queue.push_back(due);
        }
    }

    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Due> {
        if self.paused_until(now).is_some() {
            return None;
        }
        self.paused_until = None;
        let due = self.queue.pop_front()?;
        let (request, id) = due.subject();
        self.queued.remove(&(request, id.to_owned()));
        Some(due)
    }

    /// Until when nothing is handed out. A pause that ends further away than any pause lasts was set by a clock that went
    /// back since: it is over.
    pub(super) fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        let longest = now.checked_add(MAX_WAIT).unwrap_or(Timestamp::MAX);
        self.paused_until
            .filter(|until| now < *until && *until <= longest)
    }

    /// Whether a request to `to` is owed and not on its way.
    pub(super) fn requests(&self, to: &str) -> bool {
        self.queued.contains_key(&(true, to.to_owned()))
    }

    /// How many events are owed: waiting, or on their way.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.flying.len()
    }

    pub(super) fn fly(&mut self, due: Due) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.flying.insert(ticket, due);
        ticket
    }

    pub(super) fn sent(&mut self, ticket: Ticket) -> Option<Due> {
        self.failures = 0;
        self.flying.remove(&ticket)
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
        match fate {
            Fate::Drop => (Some(due), None),
            Fate::Retry => {
                self.push_back_unless_newer(due);
                let wait = MIN_WAIT
                    .saturating_mul(1 << self.failures.min(10))
                    .min(MAX_WAIT);
                self.failures += 1;
                let until = now.checked_add(wait).unwrap_or(now);
                self.paused_until = Some(until);
                (None, Some(until))
            }
        }
    }

    /// The link changed: what was in flight is owed again, without a pause.
    pub(super) fn reset(&mut self) {
        for due in std::mem::take(&mut self.flying).into_values() {
            self.push_back_unless_newer(due);
        }
        self.paused_until = None;
        self.failures = 0;
    }

    /// What failed is owed again, unless something newer about the same subject is.
    fn push_back_unless_newer(&mut self, due: Due) {
        let (request, id) = due.subject();
        if !self.queued.contains_key(&(request, id.to_owned())) {
            self.push(due);
        }
    }

    /// Forgets what is owed of a resource.
    pub(super) fn forget(&mut self, uid: &str) {
        if self.queued.remove(&(false, uid.to_owned())).is_some() {
            self.queue.retain(|due| due.subject() != (false, uid));
        }
    }
}
