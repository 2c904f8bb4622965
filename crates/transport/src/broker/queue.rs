//! What waits for one subscriber: the newest event of each resource, in the order of their first mention.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_protocol::CloudEvent;
use tokio::sync::Notify;
use tokio::time::timeout;

/// A subscriber's queue.
pub(super) struct Subscriber {
    pub(super) cluster: String,
    limit: usize,
    state: Mutex<State>,
    ready: Notify,
    space: Notify,
    feeds: AtomicU64,
}

#[derive(Default)]
struct State {
    order: VecDeque<Arc<str>>,
    events: HashMap<Arc<str>, Arc<CloudEvent>>,
    /// Resources that changed since each running resync made its list.
    touched: HashMap<u64, HashSet<Arc<str>>>,
    end: Option<End>,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Did not keep up.
    TooSlow,
    /// Unsubscribed, or the broker stops.
    Closed,
}

impl State {
    fn put(&mut self, key: Arc<str>, event: Arc<CloudEvent>) {
        if self.events.insert(Arc::clone(&key), event).is_none() {
            self.order.push_back(key);
        }
    }
}

impl Subscriber {
    pub(super) fn new(cluster: &str, limit: usize) -> Self {
        Self {
            cluster: cluster.to_owned(),
            limit: limit.max(2),
            state: Mutex::default(),
            ready: Notify::new(),
            space: Notify::new(),
            feeds: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a live event without waiting; `false` when this cut the subscriber off.
    pub(super) fn push(&self, event: Arc<CloudEvent>) -> bool {
        let key: Arc<str> = event.resource_id().unwrap_or(&event.id).into();
        let mut state = self.state();
        if state.end.is_some() {
            return true;
        }
        for touched in state.touched.values_mut() {
            touched.insert(Arc::clone(&key));
        }
        if state.order.len() >= self.limit && !state.events.contains_key(&key) {
            drop(state);
            self.finish(End::TooSlow);
            return false;
        }
        state.put(key, event);
        drop(state);
        self.ready.notify_one();
        true
    }

    /// The next event; waits for one.
    pub(super) async fn next(&self) -> Result<Arc<CloudEvent>, End> {
        loop {
            {
                let mut state = self.state();
                if let Some(key) = state.order.pop_front()
                    && let Some(event) = state.events.remove(&key)
                {
                    let half_empty = state.order.len() < self.limit / 2;
                    drop(state);
                    if half_empty {
                        self.space.notify_waiters();
                    }
                    return Ok(event);
                }
                if let Some(end) = state.end {
                    return Err(end);
                }
            }
            self.ready.notified().await;
        }
    }

    pub(super) fn close(&self) {
        self.finish(End::Closed);
    }

    fn finish(&self, end: End) {
        let mut state = self.state();
        if state.end.is_none() {
            *state = State {
                end: Some(end),
                ..State::default()
            };
        }
        drop(state);
        self.ready.notify_one();
        self.space.notify_waiters();
    }
}

/// A resync on its way to one subscriber. Live events go first where both speak of the same resource.
pub(super) struct Feed {
    subscriber: Arc<Subscriber>,
    number: u64,
}

impl Feed {
    /// Begins to watch what changes; the list must be made after this.
    pub(super) fn begin(subscriber: Arc<Subscriber>) -> Self {
        let number = subscriber.feeds.fetch_add(1, Ordering::Relaxed);
        subscriber.state().touched.insert(number, HashSet::new());
        Self { subscriber, number }
    }

    /// Adds everything, waiting for space; leaves half of the queue to live events. `false` when the subscriber was cut
    /// off for taking nothing for too long.
    pub(super) async fn send(&self, events: &[Arc<CloudEvent>], patience: Duration) -> bool {
        for event in events {
            loop {
                let space = self.subscriber.space.notified();
                tokio::pin!(space);
                space.as_mut().enable();
                match self.try_put(event) {
                    Some(true) => break,
                    Some(false) => return true,
                    None => (),
                }
                if timeout(patience, space).await.is_err() {
                    self.subscriber.finish(End::TooSlow);
                    return false;
                }
            }
        }
        true
    }

    /// `None` = full, `Some(false)` = the subscription is over.
    fn try_put(&self, event: &Arc<CloudEvent>) -> Option<bool> {
        let key: Arc<str> = event.resource_id().unwrap_or(&event.id).into();
        let mut state = self.subscriber.state();
        if state.end.is_some() {
            return Some(false);
        }
        if state
            .touched
            .get(&self.number)
            .is_some_and(|touched| touched.contains(&key))
        {
            return Some(true);
        }
        if state.order.len() >= self.subscriber.limit / 2 && !state.events.contains_key(&key) {
            return None;
        }
        state.put(key, Arc::clone(event));
        drop(state);
        self.subscriber.ready.notify_one();
        Some(true)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.subscriber.state().touched.remove(&self.number);
    }
}
