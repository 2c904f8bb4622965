//! Events live for an hour after they were last seen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::store::{Key, Object, Store};

/// Whether a resource holds events.
pub fn is_event(resource: &str) -> bool {
    matches!(resource, "/events" | "events.k8s.io/events")
}

/// When an event goes: a time to live after the latest time in it, which cannot be in the future.
pub fn expires_at(event: &Value, now: Timestamp, ttl: Duration) -> Timestamp {
    let times = [
        &event["metadata"]["creationTimestamp"],
        &event["lastTimestamp"],
        &event["deprecatedLastTimestamp"],
        &event["eventTime"],
        &event["series"]["lastObservedTime"],
    ];
    let times = times
        .into_iter()
        .filter_map(|time| time.as_str()?.parse::<Timestamp>().ok());
    let seen = times.max().map_or(now, |seen| seen.min(now));
    seen.checked_add(ttl).unwrap_or(Timestamp::MAX)
}

/// The events of a store by the time they go, which may turn out to be later.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    queue: BTreeSet<(Timestamp, Key)>,
    known: BTreeSet<Key>,
}

impl Expiries {
    /// Begins to watch over an event.
    pub(super) fn track(&mut self, event: &Object, now: Timestamp, ttl: Duration) {
        if self.known.insert(event.key.clone()) {
            self.queue
                .insert((expires_at(&event.value(), now, ttl), event.key.clone()));
        }
    }

    /// How long until the next one may go.
    pub(super) fn next(&self, clock: &dyn Fn() -> Timestamp) -> Option<Duration> {
        let (time, _) = self.queue.first()?;
        Some(Duration::try_from(time.duration_since(clock())).unwrap_or(Duration::ZERO))
    }

    /// Events whose time has come, at most so many.
    pub(super) fn take_due(
        &mut self,
        store: &Store,
        now: Timestamp,
        ttl: Duration,
        limit: usize,
    ) -> Vec<Arc<Object>> {
        let mut due = Vec::new();
        while due.len() < limit
            && self.queue.first().is_some_and(|(time, _)| *time <= now)
            && let Some((_, key)) = self.queue.pop_first()
        {
            let Some(event) = store.get(&key) else {
                self.known.remove(&key);
                continue;
            };
            let expiry = expires_at(&event.value(), now, ttl);
            if expiry > now {
                self.queue.insert((expiry, key));
            } else {
                self.known.remove(&key);
                due.push(event);
            }
        }
        due
    }
}
