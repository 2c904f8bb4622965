//! The handles: a [`Database`] of many [`Store`]s.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::log::{Log, OpenError};
use super::memory::{Bounds, State};
use super::writer::{self, Op, Queue};
use super::{Expired, Key, Listing, Object, Watch, WriteError};

/// How a database behaves.
#[derive(Clone)]
pub struct Options {
    /// How long changes are kept for watches and consistent lists. Kubernetes keeps 5 minutes.
    pub history_age: Duration,
    /// How many changes of a store are kept at most.
    pub history_changes: usize,
    /// How many bytes the kept changes of a store may hold on to, about.
    pub history_bytes: usize,
    /// How large the file may become; writes beyond it are refused, deletes may be too.
    pub max_bytes: Option<u64>,
    /// Added to the revision of each store at the opening. After restoring a backup it must exceed
    /// what was written since the backup was made, or clients see revisions a second time.
    pub advance_revisions: u64,
    /// The time that history ages by.
    pub clock: Arc<dyn Fn() -> Instant + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history_age: Duration::from_mins(5),
            history_changes: 50_000,
            history_bytes: 64 << 20,
            max_bytes: None,
            advance_revisions: 0,
            clock: Arc::new(Instant::now),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("history_age", &self.history_age)
            .field("history_changes", &self.history_changes)
            .field("history_bytes", &self.history_bytes)
            .field("max_bytes", &self.max_bytes)
            .field("advance_revisions", &self.advance_revisions)
            .finish_non_exhaustive()
    }
}

impl Options {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            age: self.history_age,
            changes: self.history_changes,
            bytes: self.history_bytes,
        }
    }
}

/// One file (or memory), one writer thread, many stores.
#[derive(Debug)]
pub struct Database {
    queue: Arc<Queue>,
    stores: Mutex<Stores>,
    writer: Mutex<Option<JoinHandle<Result<(), OpenError>>>>,
}

#[derive(Debug, Default)]
struct Stores {
    by_name: BTreeMap<Box<str>, Arc<Shared>>,
    last_id: i64,
}

impl Database {
    /// Opens `drover.db` in a folder, making both when absent; takes the folder's lock.
    ///
    /// Reads everything, so it blocks for about a second per 100,000 objects.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        Self::open_with(folder, Options::default())
    }

    /// As [`Self::open`], with options.
    pub fn open_with(folder: &Path, options: Options) -> Result<Self, OpenError> {
        let (log, loaded) = Log::open(folder, options.advance_revisions)?;
        if options.max_bytes.is_some() {
            log.limit(options.max_bytes)
                .map_err(|why| OpenError::Unwritable {
                    path: folder.to_owned(),
                    why,
                })?;
        }
        let queue = Arc::new(Queue::new());
        let mut stores = Stores::default();
        for found in loaded {
            stores.last_id = stores.last_id.max(found.id);
            let shared = Shared::new(found.id, &found.name, found.state, &queue);
            stores.by_name.insert(found.name.into(), shared);
        }
        Self::start(queue, stores, Some(log), options).map_err(|error| OpenError::Unwritable {
            path: folder.to_owned(),
            why: error.to_string(),
        })
    }

    /// Keeps nothing.
    pub fn memory() -> Self {
        Self::memory_with(Options::default())
    }

    /// As [`Self::memory`], with options.
    pub fn memory_with(options: Options) -> Self {
        Self::start(Arc::new(Queue::new()), Stores::default(), None, options)
            .expect("a system that runs this program can start one more thread")
    }

    fn start(
        queue: Arc<Queue>,
        stores: Stores,
        log: Option<Log>,
        options: Options,
    ) -> std::io::Result<Self> {
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn({
                let queue = Arc::clone(&queue);
                move || writer::run(&queue, log, &options)
            })?;
        Ok(Self {
            queue,
            stores: Mutex::new(stores),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// The store of one logical cluster; a new one is empty and costs nothing until its first write.
    pub fn store(&self, name: &str) -> Result<Store, OpenError> {
        if self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
        {
            return Err(OpenError::Closed);
        }
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = stores.by_name.get(name) {
            return Ok(Store {
                shared: Arc::clone(shared),
            });
        }
        stores.last_id += 1;
        let shared = Shared::new(stores.last_id, name, State::new(1), &self.queue);
        stores.by_name.insert(name.into(), Arc::clone(&shared));
        Ok(Store { shared })
    }

    /// The names of the stores that were written to or asked for.
    pub fn stores(&self) -> Vec<Box<str>> {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.by_name.keys().cloned().collect()
    }

    /// Changes how large the file may become.
    pub async fn limit(&self, max_bytes: Option<u64>) -> Result<(), WriteError> {
        self.queue.limit(max_bytes).await
    }

    /// Commits what waits, stops the writer, marks the file cleanly closed. Blocks meanwhile.
    /// Later writes are refused; reads go on. A second call does nothing.
    pub fn close(&self) -> Result<(), OpenError> {
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.queue.close();
        match writer.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            // It has said why already; nothing that was acknowledged is lost.
            Some(Err(_panic)) => Err(OpenError::Closed),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "failed to close the database");
        }
    }
}

/// What all handles of a store share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: i64,
    pub(super) name: Box<str>,
    state: RwLock<State>,
    queue: Arc<Queue>,
}

impl Shared {
    fn new(id: i64, name: &str, state: State, queue: &Arc<Queue>) -> Arc<Self> {
        Arc::new(Self {
            id,
            name: name.into(),
            state: RwLock::new(state),
            queue: Arc::clone(queue),
        })
    }

    // Nothing panics while it holds these; a poisoned lock would say so and still be readable.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One logical cluster. Cheap to clone.
///
/// Reads never wait for the disk. Writes are acknowledged when they are durable and visible.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// The name that it was asked for with.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The revision of the last committed write (at least 1).
    pub fn revision(&self) -> u64 {
        self.shared.read().revision()
    }

    /// An object as it is now.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.shared.read().get(key)
    }

    /// All objects of a resource, of one namespace or of all (`None`), as they are now.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> Listing {
        self.shared.read().list(resource, namespace)
    }

    /// As [`Self::list`], as it was at `revision`, behind `after` (namespace, name), at most
    /// `limit`. A revision that is not reached yet counts as the current one.
    pub fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        revision: u64,
        after: Option<(&str, &str)>,
        limit: Option<usize>,
    ) -> Result<Listing, Expired> {
        self.shared
            .read()
            .list_at(resource, namespace, revision, after, limit)
    }

    /// The resources that have objects (`group/plural`), in order.
    pub fn resources(&self) -> Vec<Arc<str>> {
        self.shared.read().resources()
    }

    /// Objects (of any resource) that name this uid as an owner, ordered by key.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Object>> {
        self.shared.read().owned_by(uid)
    }

    /// The object with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Object>> {
        self.shared.read().by_uid(uid)
    }

    /// Writes a new object. The store sets `metadata.resourceVersion`.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have written; so for all writes.
    pub async fn create(&self, key: Key, object: Value) -> Result<Arc<Object>, WriteError> {
        self.submit(key, Op::Create(object)).await
    }

    /// Replaces the object of revision `expected`.
    pub async fn update(
        &self,
        key: Key,
        expected: u64,
        object: Value,
    ) -> Result<Arc<Object>, WriteError> {
        self.submit(key, Op::Update(expected, object)).await
    }

    /// Removes the object of revision `expected`; the answer is its last state with the revision of
    /// the removal.
    pub async fn delete(&self, key: Key, expected: u64) -> Result<Arc<Object>, WriteError> {
        self.submit(key, Op::Delete(expected)).await
    }

    async fn submit(&self, key: Key, op: Op) -> Result<Arc<Object>, WriteError> {
        self.shared
            .queue
            .submit(Arc::clone(&self.shared), key, op)
            .await
    }

    /// The changes of one resource after revision `from`, in order.
    pub fn watch(&self, resource: &str, from: u64) -> Result<Watch, Expired> {
        Watch::new(Arc::clone(&self.shared), Some(resource.into()), from)
    }

    /// The changes of every resource after revision `from`, in order (for controllers).
    pub fn watch_all(&self, from: u64) -> Result<Watch, Expired> {
        Watch::new(Arc::clone(&self.shared), None, from)
    }
}
