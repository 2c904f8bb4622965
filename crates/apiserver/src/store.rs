//! The revisioned store: objects of many logical clusters, in memory for readers and watchers,
//! in one SQLite log for ever.
//!
//! One writer thread per [`Database`] takes whatever writes are waiting, checks each against what
//! is there, commits them in one transaction, and only then shows them to readers and watchers and
//! answers the callers. So nothing that was seen can be lost, and revisions only grow.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

/// Where an object lives: `resource` is `group/plural` (`/pods` in the core group), `namespace` is
/// empty for cluster-scoped objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub resource: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// A stored object. `json` is its canonical encoding with `metadata.resourceVersion` in it.
#[derive(Debug)]
pub struct Object {
    pub key: Key,
    pub revision: u64,
    pub json: Bytes,
    /// What selectors and garbage collection ask for, read once at the write.
    pub meta: Meta,
}

#[derive(Debug, Default, Clone)]
pub struct Meta {
    pub uid: Box<str>,
    pub labels: std::collections::BTreeMap<Box<str>, Box<str>>,
    /// uids of `metadata.ownerReferences`.
    pub owners: Vec<Box<str>>,
    pub terminating: bool,
}

impl Object {
    /// The object as a tree.
    pub fn value(&self) -> Value { todo!() }
}

/// Why a write was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// A create met an object.
    #[error("the object exists")]
    Exists,
    /// An update or delete met nothing.
    #[error("the object does not exist")]
    Missing,
    /// An update or delete met another revision than the expected one: here is what is there.
    #[error("the object has revision {}", .0.revision)]
    Changed(Arc<Object>),
    /// The log could not take it (disk full, …). Nothing was written.
    #[error("the write could not be made durable: {0}")]
    Unwritable(String),
    /// The database was closed.
    #[error("the store is closed")]
    Closed,
}

/// The history that was asked for is gone; only what is after `oldest` is known.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("history before revision {oldest} is gone")]
pub struct Expired { pub oldest: u64 }

/// Objects of one resource at one revision, ordered by namespace and name.
#[derive(Debug)]
pub struct Listing {
    pub items: Vec<Arc<Object>>,
    pub revision: u64,
    /// Whether there are more behind the last item (a limit cut the list).
    pub more: bool,
    /// How many more (0 when `more` is false).
    pub remaining: usize,
}

/// One committed write.
#[derive(Debug)]
pub struct Change {
    pub revision: u64,
    /// What was there before; `None` for a create.
    pub old: Option<Arc<Object>>,
    /// What is there now; `None` for a delete.
    pub new: Option<Arc<Object>>,
}

/// One file (or memory), one writer thread, many stores.
#[derive(Debug)]
pub struct Database {}

impl Database {
    /// Opens `drover.db` in a folder, making both when absent; takes the folder's lock.
    pub fn open(folder: &Path) -> Result<Self, OpenError> { todo!() }
    /// Keeps nothing.
    pub fn memory() -> Self { todo!() }
    /// The store of one logical cluster.
    pub fn store(&self, name: &str) -> Result<Store, OpenError> { todo!() }
    /// Commits what waits, stops the writer, marks the file cleanly closed.
    pub fn close(&self) -> Result<(), OpenError> { todo!() }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("to be refined")]
    Placeholder,
}

/// One logical cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// The revision of the last committed write (at least 1).
    pub fn revision(&self) -> u64 { todo!() }
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> { todo!() }
    /// All objects of a resource, of one namespace or of all (`None`), as they are now.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> Listing { todo!() }
    /// As [`Self::list`], as it was at `revision`, behind `after` (namespace, name), at most `limit`.
    pub fn list_at(&self, resource: &str, namespace: Option<&str>, revision: u64,
        after: Option<(&str, &str)>, limit: Option<usize>) -> Result<Listing, Expired> { todo!() }
    /// The resources that have objects (`group/plural`).
    pub fn resources(&self) -> Vec<Arc<str>> { todo!() }
    /// Objects (of any resource) that name this uid as an owner.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Object>> { todo!() }
    /// The object with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Object>> { todo!() }
    /// Writes a new object. The store sets `metadata.resourceVersion`.
    pub async fn create(&self, key: Key, object: Value) -> Result<Arc<Object>, WriteError> { todo!() }
    /// Replaces the object of revision `expected`.
    pub async fn update(&self, key: Key, expected: u64, object: Value) -> Result<Arc<Object>, WriteError> { todo!() }
    /// Removes the object of revision `expected`; the answer is its last state with the revision of the removal.
    pub async fn delete(&self, key: Key, expected: u64) -> Result<Arc<Object>, WriteError> { todo!() }
    /// The changes of one resource after revision `from`, in order.
    pub fn watch(&self, resource: &str, from: u64) -> Result<Watch, Expired> { todo!() }
    /// The changes of every resource after revision `from`, in order (for controllers).
    pub fn watch_all(&self, from: u64) -> Result<Watch, Expired> { todo!() }
}

/// A place in the history of a resource.
#[derive(Debug)]
pub struct Watch {}

impl Watch {
    /// The next change; waits for it. `Err` when this reader fell behind the history that is kept.
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Arc<Change>, Expired> { todo!() }
    /// Everything up to this revision has been returned by [`Self::next`] (for bookmarks).
    pub fn progress(&self) -> u64 { todo!() }
}
