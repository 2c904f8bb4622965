//! What waits for one subscriber, in order. Of several states of one resource only the newest waits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use drover_protocol::CloudEvent;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::grpc::convert::encode;

/// Buffers that grew beyond this many places are given back when they are empty.
const KEPT: usize = 64;

/// An event on its way to subscribers, encoded once. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    /// What the event is the whole state of; two of one resource need not both arrive.
    resource: Option<Arc<str>>,
    deletion: bool,
    message: Bytes,
}

impl Outgoing {
    /// The state of a resource.
    pub(super) fn state(event: &CloudEvent, resource: &str, message: Bytes) -> Self {
        Self {
            resource: Some(resource.into()),
            deletion: event.is_deletion(),
            message,
        }
    }

    /// Something that must arrive itself.
    pub(super) fn single(message: Bytes) -> Self {
        Self {
            resource: None,
            deletion: false,
            message,
        }
    }

    /// An event of the owner of its resource.
    pub(super) fn of(event: &CloudEvent) -> Self {
        match event.resource_id() {
            Some(id) => Self::state(event, id, encode(event)),
            None => Self::single(encode(event)),
        }
    }
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// A subscriber's queue.
pub(super) struct Subscriber {
    /// Who subscribed.
    pub(super) user: String,
    limits: Limits,
    state: Mutex<State>,
    space: Notify,
    feeds: AtomicU64,
}

#[derive(Default)]
struct State {
    slots: VecDeque<Outgoing>,
    /// Number of the first slot.
    first: u64,
    /// Number of the last slot of each resource.
    newest: HashMap<Arc<str>, u64>,
    bytes: usize,
    reader: Option<Waker>,
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

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It waits, or need not arrive any more.
    Done,
    /// There is no space.
    Full,
    /// The subscription is over.
    Over,
}

impl State {
    /// The slot that the event may take the place of: nothing else was said of the resource since.
    fn replaceable(&self, event: &Outgoing) -> Option<usize> {
        let number = self.newest.get(event.resource.as_ref()?)?;
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let slot = self.slots.get(at)?;
        (slot.deletion == event.deletion).then_some(at)
    }

    fn put(&mut self, event: &Outgoing, limit: Limits) -> Put {
        if let Some(at) = self.replaceable(event) {
            self.bytes = self.bytes + event.message.len() - self.slots[at].message.len();
            self.slots[at].message = event.message.clone();
            return Put::Done;
        }
        let bytes = self.bytes + event.message.len();
        if self.slots.len() >= limit.events || (bytes > limit.bytes && !self.slots.is_empty()) {
            return Put::Full;
        }
        self.bytes = bytes;
        if let Some(resource) = &event.resource {
            let number = self.first + self.slots.len() as u64;
            self.newest.insert(Arc::clone(resource), number);
        }
        self.slots.push_back(event.clone());
        Put::Done
    }

    fn take(&mut self) -> Option<Bytes> {
        let slot = self.slots.pop_front()?;
        let number = self.first;
        self.first += 1;
        self.bytes -= slot.message.len();
        if let Some(resource) = &slot.resource
            && self.newest.get(resource) == Some(&number)
        {
            self.newest.remove(resource);
        }
        if self.slots.is_empty() && self.slots.capacity() > KEPT {
            self.slots = VecDeque::new();
            self.newest = HashMap::new();
        }
        Some(slot.message)
    }
}

impl Subscriber {
    pub(super) fn new(user: String, limits: Limits) -> Self {
        Self {
            user,
            limits: Limits {
                events: limits.events.max(2),
                ..limits
            },
            state: Mutex::default(),
            space: Notify::new(),
            feeds: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_push(&self, event: &Outgoing) -> Put {
        let mut state = self.state();
        if state.end.is_some() {
            return Put::Over;
        }
        if let Some(resource) = &event.resource {
            for touched in state.touched.values_mut() {
                touched.insert(Arc::clone(resource));
            }
        }
        let put = state.put(event, self.limits);
        wake(state);
        put
    }

    /// Adds a live event without waiting; `false` when this cut the subscriber off.
    pub(super) fn push(&self, event: &Outgoing) -> bool {
        let full = self.try_push(event) == Put::Full;
        if full {
            self.finish(End::TooSlow);
        }
        !full
    }

    /// Adds a live event, waiting for space for as long as `patience`; `false` when this cut the subscriber off.
    pub(super) async fn push_patiently(&self, event: &Outgoing, patience: Duration) -> bool {
        if self.try_push(event) != Put::Full {
            return true;
        }
        let pushed = async {
            loop {
                let space = self.space.notified();
                tokio::pin!(space);
                space.as_mut().enable();
                if self.try_push(event) != Put::Full {
                    return;
                }
                space.await;
            }
        };
        let in_time = timeout(patience, pushed).await.is_ok();
        if !in_time {
            self.finish(End::TooSlow);
        }
        in_time
    }

    /// The next message.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Bytes, End>> {
        let mut state = self.state();
        if let Some(message) = state.take() {
            let half_empty =
                state.slots.len() < self.limits.events / 2 && state.bytes <= self.limits.bytes / 2;
            drop(state);
            if half_empty {
                self.space.notify_waiters();
            }
            return Poll::Ready(Ok(message));
        }
        if let Some(end) = state.end {
            return Poll::Ready(Err(end));
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            reader => *reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    pub(super) fn close(&self) {
        self.finish(End::Closed);
    }

    fn finish(&self, end: End) {
        let mut state = self.state();
        if state.end.is_none() {
            let reader = state.reader.take();
            *state = State {
                end: Some(end),
                reader,
                ..State::default()
            };
        }
        wake(state);
        self.space.notify_waiters();
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
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
    pub(super) async fn send(&self, events: &[CloudEvent], patience: Duration) -> bool {
        for event in events {
            let event = Outgoing::of(event);
            loop {
                let space = self.subscriber.space.notified();
                tokio::pin!(space);
                space.as_mut().enable();
                match self.try_put(&event) {
                    Put::Done => break,
                    Put::Over => return true,
                    Put::Full => (),
                }
                if timeout(patience, space).await.is_err() {
                    self.subscriber.finish(End::TooSlow);
                    return false;
                }
            }
        }
        true
    }

    fn try_put(&self, event: &Outgoing) -> Put {
        let mut state = self.subscriber.state();
        if state.end.is_some() {
            return Put::Over;
        }
        let touched = state.touched.get(&self.number);
        if touched
            .zip(event.resource.as_ref())
            .is_some_and(|(touched, resource)| touched.contains(resource))
        {
            return Put::Done;
        }
        let limits = self.subscriber.limits;
        let half = Limits {
            events: limits.events / 2,
            bytes: limits.bytes / 2,
        };
        let put = state.put(event, half);
        wake(state);
        put
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.subscriber.state().touched.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use drover_protocol::CloudEvent;
    use jiff::Timestamp;

    use super::{End, Limits, Outgoing, Subscriber};

    fn queue(events: usize, bytes: usize) -> Subscriber {
        Subscriber::new(String::new(), Limits { events, bytes })
    }

    /// `resource=text`, with `!` before it for a deletion; without a resource something that must arrive itself.
    fn push(queue: &Subscriber, said: &'static str) -> bool {
        let (resource, _) = said.split_once('=').unwrap_or_default();
        let mut event = CloudEvent::new("i", "s", "t", Timestamp::UNIX_EPOCH);
        if resource.starts_with('!') {
            event.set("deletiontimestamp", Timestamp::UNIX_EPOCH);
        }
        let message = Bytes::from_static(said.as_bytes());
        let resource = resource.trim_start_matches('!');
        queue.push(&match resource {
            "" => Outgoing::single(message),
            _ => Outgoing::state(&event, resource, message),
        })
    }

    fn rest(queue: &Subscriber) -> (Vec<Bytes>, Option<End>) {
        let mut found = Vec::new();
        loop {
            match queue.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(message)) => found.push(message),
                Poll::Ready(Err(end)) => return (found, Some(end)),
                Poll::Pending => return (found, None),
            }
        }
    }

    #[track_caller]
    fn check(said: &[&'static str], expected: &[&str]) {
        let queue = queue(8, 1000);
        assert!(said.iter().all(|said| push(&queue, said)));
        assert_eq!(rest(&queue).0, expected);
        assert!(push(&queue, "a=after"), "it works on");
        assert_eq!(rest(&queue).0, ["a=after"]);
    }

    #[test]
    fn only_the_newest_state_waits() {
        check(&["a=1", "b=1", "a=2"], &["a=2", "b=1"]);
        check(&["one", "one"], &["one", "one"]);
        // What was said between two states of a resource stays between them.
        check(&["a=1", "!a=", "a=2", "a=3"], &["a=1", "!a=", "a=3"]);
        check(&["!a=1", "!a=2"], &["!a=2"]);
    }

    #[test]
    fn what_waits_is_bounded() {
        #[track_caller]
        fn check(events: usize, bytes: usize, said: &[&'static str], fits: bool) {
            let queue = queue(events, bytes);
            assert_eq!(said.iter().all(|said| push(&queue, said)), fits);
            let end = (!fits).then_some(End::TooSlow);
            assert_eq!(rest(&queue).1, end);
        }
        check(2, 100, &["a=1", "b=1", "a=2"], true);
        check(2, 100, &["a=1", "b=1", "c=1"], false);
        check(8, 6, &["a=1", "b=1"], true);
        check(8, 5, &["a=1", "b=1"], false);
        check(8, 1, &["a=larger"], true);
    }
}
