//! What a handle and its driver share: the session under one lock, so that an event and a local change of the same object
//! never interleave; those who watch; the way out while there is one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use drover_protocol::session::{Cause, Change, Fate, Input, Output, Session, Transmit};
use drover_protocol::{CloudEvent, Resource};
use drover_transport::{Publisher, TransportError};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::driver::Clock;
use crate::journal::{DiskError, Gate, Journal};
use crate::watch::{Watch, WatchQueue};

/// What a client counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events received.
    pub received: u64,
    /// Events taken by the broker.
    pub sent: u64,
    /// Events that were not taken and will be sent again.
    pub retried: u64,
    /// Links and subscriptions that could not be opened: nobody there, or refused.
    pub refused_links: u64,
    /// Links that were lost. Each is replaced, and followed by a resync.
    pub lost_links: u64,
    /// Links opened after the first.
    pub reconnects: u64,
    /// Writes to the disk that failed. While there are any nothing new is sent.
    pub disk_failures: u64,
    /// Events without effect, by cause.
    pub dropped: BTreeMap<Cause, u64>,
}

pub(crate) struct Shared<S: Session> {
    state: Mutex<State<S>>,
    pub(crate) work: Notify,
    pub(crate) publisher: watch::Sender<Option<Arc<dyn Publisher>>>,
    pub(crate) clock: Clock,
}

struct State<S: Session> {
    session: S,
    journal: Option<Arc<Journal<S::Object>>>,
    watchers: Vec<Weak<WatchQueue<S::Object>>>,
    stats: Stats,
    wake_at: Option<Timestamp>,
}

impl<S: Session> Shared<S> {
    pub(crate) fn new(session: S, clock: Clock) -> Arc<Self> {
        Self::journaled(session, None, clock)
    }

    /// With a journal for what the session wants stored.
    pub(crate) fn journaled(
        session: S,
        journal: Option<Arc<Journal<S::Object>>>,
        clock: Clock,
    ) -> Arc<Self> {
        let state = State {
            session,
            journal,
            watchers: Vec::new(),
            stats: Stats::default(),
            wake_at: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            work: Notify::new(),
            publisher: watch::Sender::new(None),
            clock,
        })
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.state().session)
    }

    /// Changes the session and lets the driver look whether there is something to send.
    pub(crate) fn change<T>(
        &self,
        act: impl FnOnce(&mut S, Timestamp, &mut Vec<Output<S::Object>>) -> T,
    ) -> T {
        let result = self.act(|state, now, out| act(&mut state.session, now, out));
        self.work.notify_one();
        result
    }

    /// The same by the driver itself, which looks anyway.
    fn act<T>(
        &self,
        act: impl FnOnce(&mut State<S>, Timestamp, &mut Vec<Output<S::Object>>) -> T,
    ) -> T {
        let now = (self.clock)();
        let mut out = Vec::new();
        let mut state = self.state();
        let result = act(&mut state, now, &mut out);
        state.dispatch(out);
        result
    }

    /// The next events to send, at most `limit`, and what they have to wait for.
    pub(crate) fn poll_transmit(&self, limit: usize) -> (Vec<Transmit>, Option<Gate>) {
        if limit == 0 {
            return (Vec::new(), None);
        }
        self.act(|state, now, out| {
            let transmits: Vec<_> = std::iter::from_fn(|| state.session.poll_transmit(now, out))
                .take(limit)
                .collect();
            let journal = state.journal.as_ref().filter(|_| !transmits.is_empty());
            let gate = journal.and_then(|journal| journal.gate());
            (transmits, gate)
        })
    }

    /// Waits until everything so far is stored.
    pub(crate) async fn flush(&self) -> Result<(), DiskError> {
        let journal = self.state().journal.clone();
        match journal {
            Some(journal) => journal.flush().await,
            None => Ok(()),
        }
    }

    pub(crate) fn feed(&self, input: Input) {
        self.change(|session, now, out| session.handle(now, input, out));
    }

    /// Feeds what arrived together, and what landed together, at one go.
    pub(crate) fn feed_all(&self, inputs: impl IntoIterator<Item = Input>) {
        self.act(|state, now, out| {
            for input in inputs {
                let mut span = tracing::Span::none();
                match &input {
                    Input::Wire(event) => {
                        span = crate::span::receive(event);
                        state.stats.received += 1;
                    }
                    Input::Sent(_) => state.stats.sent += 1,
                    Input::Failed(_, Fate::Retry) => state.stats.retried += 1,
                    _ => (),
                }
                span.in_scope(|| state.session.handle(now, input, out));
            }
        });
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.state().stats);
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.state();
        let journal = state.journal.as_ref();
        Stats {
            disk_failures: journal.map_or(0, |journal| journal.failures()),
            ..state.stats.clone()
        }
    }

    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        self.state().wake_at
    }

    /// Time passed.
    pub(crate) fn tick(&self) {
        self.act(|state, now, out| {
            state.wake_at = None;
            state.session.handle(now, Input::Tick, out);
        });
    }

    pub(crate) fn watch(&self) -> Watch<S::Object> {
        let queue = Arc::new(WatchQueue::new());
        let mut state = self.state();
        for object in state.session.store().iter() {
            queue.push(Change::Added(Arc::clone(object)));
        }
        state.watchers.push(Arc::downgrade(&queue));
        Watch(queue)
    }

    /// Sends an event now, past the session.
    pub(crate) async fn publish(&self, event: CloudEvent) -> Result<(), TransportError> {
        let publisher = self
            .publisher
            .borrow()
            .clone()
            .ok_or(TransportError::NotReady)?;
        publisher.publish(event).await?;
        self.count(|stats| stats.sent += 1);
        Ok(())
    }

    /// Waits until there is a link.
    pub(crate) async fn connected(&self) {
        let mut publisher = self.publisher.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        if publisher.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<S: Session> Drop for Shared<S> {
    fn drop(&mut self) {
        let mut state = self.state();
        for queue in state.watchers.iter().filter_map(Weak::upgrade) {
            queue.close();
        }
        let journal = state.journal.take();
        drop(state);
        if let Some(journal) = journal {
            journal.close();
        }
    }
}

impl<S: Session> State<S> {
    fn dispatch(&mut self, out: Vec<Output<S::Object>>) {
        for output in out {
            match output {
                Output::Change(change) => self.watchers.retain(|queue| {
                    let Some(queue) = queue.upgrade() else {
                        return false;
                    };
                    queue.push(change.clone());
                    true
                }),
                Output::Dropped(dropped) => {
                    let times = self.stats.dropped.entry(dropped.cause).or_default();
                    *times += 1;
                    // Once per cause loudly, then quietly.
                    if *times == 1 {
                        tracing::warn!(
                            event = dropped.id,
                            cause = dropped.cause.as_str(),
                            why = dropped.why,
                            "dropped an event"
                        );
                    } else {
                        tracing::debug!(
                            event = dropped.id,
                            cause = dropped.cause.as_str(),
                            why = dropped.why,
                            "dropped an event"
                        );
                    }
                }
                Output::Store {
                    uid,
                    row,
                    before_sending,
                } => {
                    if let Some(journal) = &self.journal {
                        journal.put(uid, row, before_sending);
                    }
                }
                Output::WakeAt(time) => {
                    self.wake_at = Some(self.wake_at.map_or(time, |before| before.min(time)));
                }
            }
        }
    }
}

/// Reads a store into a list of shared objects.
pub(crate) fn listed<S: Session>(shared: &Shared<S>) -> Vec<Arc<S::Object>>
where
    S::Object: Resource,
{
    shared.read(|session| session.store().iter().cloned().collect())
}
