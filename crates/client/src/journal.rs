//! What a source writes down, so that nothing is lost when its process dies: rows are gathered while the disk is busy and
//! stored together by one thread, and no event leaves before what it follows from is stored.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use drover_protocol::session::Row;
use tokio::sync::watch;

/// First wait after a failed write; doubles up to [`MAX_WAIT`].
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Where a source keeps its rows. It is used by one thread that may block.
pub trait Disk<R>: Send + 'static {
    /// Everything that is stored, by uid.
    fn load(&mut self) -> Result<Vec<(String, Row<R>)>, DiskError>;
    /// Stores rows, all or none. When it returns they survive a power cut. [`Row::Nothing`] removes what is stored of a uid.
    fn store(&mut self, rows: &HashMap<Arc<str>, Row<R>>) -> Result<(), DiskError>;
}

/// Why rows cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to keep the state of the source in {place}: {why}")]
pub struct DiskError {
    /// Which file or database.
    pub place: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

#[derive(Clone, Default)]
struct Progress {
    /// Rows that are stored.
    stored: u64,
    failures: u64,
    error: Option<DiskError>,
}

struct Pending<R> {
    rows: Rows<R>,
    /// How many rows came; the number of the last.
    count: u64,
    /// The number of the last row that must be stored before anything leaves.
    first: u64,
    closed: bool,
}

/// The newest row of each uid.
type Rows<R> = HashMap<Arc<str>, Row<R>>;

pub(crate) struct Journal<R> {
    pending: Mutex<Pending<R>>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Opens when what an event follows from is stored.
#[derive(Clone)]
pub(crate) struct Gate {
    progress: watch::Receiver<Progress>,
    number: u64,
}

impl Gate {
    pub(crate) async fn opened(mut self) {
        // Nobody is left to send to when the journal is gone.
        let number = self.number;
        let waited = self.progress.wait_for(|progress| progress.stored >= number);
        if waited.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<R: Send + Sync + 'static> Journal<R> {
    /// Starts the thread that writes. It ends, after a last try, when the journal is closed.
    pub(crate) fn start(disk: Box<dyn Disk<R>>) -> Result<Arc<Self>, DiskError> {
        let journal = Arc::new(Self {
            pending: Mutex::new(Pending {
                rows: HashMap::new(),
                count: 0,
                first: 0,
                closed: false,
            }),
            wake: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
            thread: Mutex::new(None),
        });
        let writer = Arc::clone(&journal);
        let thread = std::thread::Builder::new()
            .name("source-journal".to_owned())
            .spawn(move || writer.write(disk))
            .map_err(|e| DiskError {
                place: "a thread".to_owned(),
                why: e.to_string(),
            })?;
        *journal.thread() = Some(thread);
        Ok(journal)
    }

    fn pending(&self) -> MutexGuard<'_, Pending<R>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, uid: Arc<str>, row: Row<R>, before_sending: bool) {
        let mut pending = self.pending();
        pending.count += 1;
        if before_sending {
            pending.first = pending.count;
        }
        pending.rows.insert(uid, row);
        drop(pending);
        self.wake.notify_one();
    }

    /// For what is polled now.
    pub(crate) fn gate(&self) -> Option<Gate> {
        let number = self.pending().first;
        let progress = self.progress.subscribe();
        let open = progress.borrow().stored >= number;
        (!open).then_some(Gate { progress, number })
    }

    /// Waits until everything so far is stored, or a write failed meanwhile.
    pub(crate) async fn flush(&self) -> Result<(), DiskError> {
        let number = self.pending().count;
        let mut progress = self.progress.subscribe();
        let before = progress.borrow().failures;
        let waited = progress
            .wait_for(|now| now.stored >= number || now.failures > before)
            .await;
        // The sender lives in `self`, so waiting cannot fail.
        match waited {
            Ok(now) if now.stored < number => now.error.clone().map_or(Ok(()), Err),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn failures(&self) -> u64 {
        self.progress.borrow().failures
    }

    /// Writes the rest and lets the disk go.
    pub(crate) fn close(&self) {
        self.pending().closed = true;
        self.wake.notify_one();
        let thread = self.thread().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that stores the state of a source panicked");
        }
    }

    fn write(&self, mut disk: Box<dyn Disk<R>>) {
        let mut wait = MIN_WAIT;
        while let Some((rows, number)) = self.take() {
            let Err(error) = disk.store(&rows) else {
                wait = MIN_WAIT;
                self.progress.send_modify(|progress| {
                    progress.stored = number;
                    progress.error = None;
                });
                continue;
            };
            tracing::error!(%error, rows = rows.len(), "nothing is sent until this is stored; will try again");
            self.progress.send_modify(|progress| {
                progress.failures += 1;
                progress.error = Some(error);
            });
            let mut pending = self.pending();
            for (uid, row) in rows {
                pending.rows.entry(uid).or_insert(row);
            }
            if pending.closed {
                return;
            }
            let slept = self
                .wake
                .wait_timeout_while(pending, wait, |pending| !pending.closed);
            drop(slept);
            wait = (wait * 2).min(MAX_WAIT);
        }
    }

    /// What waits, and the number of its last row; `None` when there will be no more.
    fn take(&self) -> Option<(Rows<R>, u64)> {
        let idle = |pending: &mut Pending<R>| pending.rows.is_empty() && !pending.closed;
        let waited = self.wake.wait_while(self.pending(), idle);
        let mut pending = waited.unwrap_or_else(PoisonError::into_inner);
        if pending.rows.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut pending.rows), pending.count))
    }
}

#[cfg(test)]
mod tests;
