//! The thread between readers and the file: takes what waits, checks, commits, publishes, answers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};

use super::database::{Options, Shared};
use super::log::{Log, OpenError};
use super::memory::Bounds;
use super::{Change, Key, Object, WriteError};

/// Writes that may wait; callers beyond it wait for room.
const ROOM: usize = 2048;
/// Writes of one transaction at most.
const BATCH: usize = 512;

/// What a caller wants.
#[derive(Debug)]
pub(super) enum Op {
    Create(Value),
    Update(u64, Value),
    Delete(u64),
}

type Answer = Result<Arc<Object>, WriteError>;

/// A write that waits.
#[derive(Debug)]
struct Request {
    store: Arc<Shared>,
    key: Key,
    op: Op,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
enum Item {
    Write(Request),
    Limit(Option<u64>, oneshot::Sender<Result<(), String>>),
}

/// The writes that wait for the thread.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Waiting>,
    wake: Condvar,
    room: Semaphore,
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    closed: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::default(),
            wake: Condvar::new(),
            room: Semaphore::new(ROOM),
        }
    }

    /// Hands a write to the thread and waits for its answer.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have written.
    pub(super) async fn submit(&self, store: Arc<Shared>, key: Key, op: Op) -> Answer {
        let (answer, result) = oneshot::channel();
        let request = Request {
            store,
            key,
            op,
            answer,
        };
        self.room
            .acquire()
            .await
            .map_err(|_| WriteError::Closed)?
            .forget();
        if !self.push(Item::Write(request)) {
            return Err(WriteError::Closed);
        }
        result.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Changes how large the file may become.
    pub(super) async fn limit(&self, bytes: Option<u64>) -> Result<(), WriteError> {
        let (answer, result) = oneshot::channel();
        self.room
            .acquire()
            .await
            .map_err(|_| WriteError::Closed)?
            .forget();
        if !self.push(Item::Limit(bytes, answer)) {
            return Err(WriteError::Closed);
        }
        result
            .await
            .map_err(|_| WriteError::Closed)?
            .map_err(WriteError::Unwritable)
    }

    /// Lets the thread finish what waits and end.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.wake.notify_all();
    }

    fn push(&self, item: Item) -> bool {
        let mut waiting = self.lock();
        if waiting.closed {
            return false;
        }
        waiting.items.push_back(item);
        drop(waiting);
        self.wake.notify_one();
        true
    }

    /// What waits, when it is at least one; `None` when there will be nothing any more.
    fn take(&self) -> Option<Vec<Item>> {
        let mut waiting = self.lock();
        while waiting.items.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self
                .wake
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let count = waiting.items.len().min(BATCH);
        let items = waiting.items.drain(..count).collect();
        drop(waiting);
        self.room.add_permits(count);
        Some(items)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // The queue is whole between any two statements, so a panic elsewhere cannot harm it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses later writes when the thread ends, however it ends.
struct Ended<'a>(&'a Queue);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.lock().items.clear();
    }
}

/// The life of the thread. `log` is absent for databases in memory.
pub(super) fn run(queue: &Queue, mut log: Option<Log>, options: &Options) -> Result<(), OpenError> {
    let ended = Ended(queue);
    let bounds = options.bounds();
    while let Some(items) = queue.take() {
        let mut batch = Batch::default();
        for item in items {
            match item {
                Item::Write(request) => batch.add(request),
                Item::Limit(bytes, answer) => {
                    let result = log.as_ref().map_or(Ok(()), |log| log.limit(bytes));
                    // A caller that has gone does not want to know.
                    drop(answer.send(result));
                }
            }
        }
        batch.finish(log.as_mut(), options, &bounds);
    }
    drop(ended);
    log.map_or(Ok(()), Log::close)
}

/// Writes that are committed together.
#[derive(Default)]
struct Batch {
    /// What this batch makes of each key.
    overlay: HashMap<(i64, Key), Option<Arc<Object>>>,
    stores: BTreeMap<i64, Touched>,
    answers: Vec<(oneshot::Sender<Answer>, Answer, Basis)>,
}

/// A store that a batch writes to.
struct Touched {
    store: Arc<Shared>,
    revision: u64,
    changes: Vec<Arc<Change>>,
}

/// What an answer rests on.
#[derive(Clone, Copy, PartialEq)]
enum Basis {
    /// Only what is committed already.
    Committed,
    /// This batch: void when it cannot be committed.
    Batch,
}

impl Batch {
    fn add(&mut self, request: Request) {
        let Request {
            store,
            key,
            op,
            answer,
        } = request;
        let place = (store.id, key);
        let (live, basis) = match self.overlay.get(&place) {
            Some(object) => (object.clone(), Basis::Batch),
            None => (store.read().get(&place.1), Basis::Committed),
        };
        match self.decide(&store, &place.1, op, live) {
            Ok(change) => {
                let object = change.object().map(Arc::clone).ok_or(WriteError::Missing);
                self.overlay.insert(place, change.new.clone());
                self.answers.push((answer, object, Basis::Batch));
                let id = store.id;
                let touched = self.stores.entry(id).or_insert_with(|| Touched {
                    store,
                    revision: 0,
                    changes: Vec::new(),
                });
                touched.revision = change.revision;
                touched.changes.push(Arc::new(change));
            }
            Err(error) => self.answers.push((answer, Err(error), basis)),
        }
    }

    fn decide(
        &self,
        store: &Shared,
        key: &Key,
        op: Op,
        live: Option<Arc<Object>>,
    ) -> Result<Change, WriteError> {
        let last = self
            .stores
            .get(&store.id)
            .map_or_else(|| store.read().revision(), |touched| touched.revision);
        let revision = last + 1;
        let expect = |expected: u64| match live.clone() {
            None => Err(WriteError::Missing),
            Some(live) if live.revision == expected => Ok(live),
            Some(live) => Err(WriteError::Changed(live)),
        };
        match op {
            Op::Create(_) if live.is_some() => Err(WriteError::Exists),
            Op::Create(value) => {
                let new = Object::encode(key.clone(), revision, value)?;
                Ok(Change {
                    revision,
                    old: None,
                    new: Some(Arc::new(new)),
                    removed: None,
                })
            }
            Op::Update(expected, value) => {
                let old = expect(expected)?;
                let new = Object::encode(old.key.clone(), revision, value)?;
                Ok(Change {
                    revision,
                    old: Some(old),
                    new: Some(Arc::new(new)),
                    removed: None,
                })
            }
            Op::Delete(expected) => {
                let old = expect(expected)?;
                let removed = Object::encode(old.key.clone(), revision, old.value())?;
                Ok(Change {
                    revision,
                    old: Some(old),
                    new: None,
                    removed: Some(Arc::new(removed)),
                })
            }
        }
    }

    /// Commits, then publishes, then answers.
    fn finish(self, log: Option<&mut Log>, options: &Options, bounds: &Bounds) {
        let Self {
            overlay,
            stores,
            answers,
        } = self;
        let committed = match log {
            Some(log) if !stores.is_empty() => log.commit(
                stores
                    .values()
                    .map(|touched| (touched.store.id, &*touched.store.name, touched.revision)),
                overlay
                    .iter()
                    .map(|((id, key), object)| (*id, key, object.as_deref())),
            ),
            Some(_) | None => Ok(()),
        };
        match committed {
            Ok(()) => {
                let now = (options.clock)();
                for Touched { store, changes, .. } in stores.into_values() {
                    let wake = store.write().publish(changes, now, bounds);
                    for notify in wake {
                        notify.notify_waiters();
                    }
                }
                for (answer, result, _) in answers {
                    // A caller that has gone does not want to know.
                    drop(answer.send(result));
                }
            }
            Err(why) => {
                tracing::error!(%why, writes = answers.len(), "failed to commit; the writes are refused");
                for (answer, result, basis) in answers {
                    let void = basis == Basis::Batch;
                    let result = if void {
                        Err(WriteError::Unwritable(why.clone()))
                    } else {
                        result
                    };
                    drop(answer.send(result));
                }
            }
        }
    }
}
