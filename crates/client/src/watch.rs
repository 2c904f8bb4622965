//! Watching local copies: every watcher has the newest change of each object waiting, so a slow one loses detail, never
//! the outcome, and needs no more memory than there are objects.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use drover_protocol::Resource;
use drover_protocol::session::Change;
use futures::Stream;

/// A stream of changes. It begins with everything there is as [`Change::Added`] and ends when the client is dropped.
pub struct Watch<R>(pub(crate) Arc<WatchQueue<R>>);

pub(crate) struct WatchQueue<R>(Mutex<Waiting<R>>);

struct Waiting<R> {
    /// In the order in which they became known.
    changes: BTreeMap<u64, Change<R>>,
    by_uid: HashMap<String, u64>,
    count: u64,
    waker: Option<Waker>,
    closed: bool,
}

impl<R: Resource> WatchQueue<R> {
    pub(crate) fn new() -> Self {
        let waiting = Waiting {
            changes: BTreeMap::new(),
            by_uid: HashMap::new(),
            count: 0,
            waker: None,
            closed: false,
        };
        Self(Mutex::new(waiting))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, change: Change<R>) {
        let mut waiting = self.lock();
        let uid = change.object().meta().uid.clone();
        let place = waiting.by_uid.get(&uid).copied();
        let before = place.and_then(|place| waiting.changes.remove(&place));
        if let (Some(place), Some(before)) = (place, before) {
            match merge(before, change) {
                Some(merged) => drop(waiting.changes.insert(place, merged)),
                None => drop(waiting.by_uid.remove(&uid)),
            }
        } else {
            waiting.count += 1;
            let place = waiting.count;
            waiting.by_uid.insert(uid, place);
            waiting.changes.insert(place, change);
        }
        wake(waiting);
    }

    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        wake(waiting);
    }
}

fn wake<R>(mut waiting: std::sync::MutexGuard<'_, Waiting<R>>) {
    let waker = waiting.waker.take();
    drop(waiting);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Two changes of one object as one; `None` when the watcher need not know at all.
fn merge<R>(before: Change<R>, after: Change<R>) -> Option<Change<R>> {
    Some(match (before, after) {
        (Change::Added(_), Change::Deleted(_)) => return None,
        (Change::Added(_), after) => Change::Added(Arc::clone(after.object())),
        (Change::Deleted(_), Change::Added(object))
        | (Change::Modified(_), Change::StatusModified(object)) => Change::Modified(object),
        (_, after) => after,
    })
}

impl<R: Resource> Stream for Watch<R> {
    type Item = Change<R>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change<R>>> {
        let mut waiting = self.0.lock();
        if let Some((_, change)) = waiting.changes.pop_first() {
            waiting.by_uid.remove(&change.object().meta().uid);
            return Poll::Ready(Some(change));
        }
        if waiting.closed {
            return Poll::Ready(None);
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
