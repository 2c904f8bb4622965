//! The revisioned store: objects of many logical clusters, in memory for readers and watchers,
//! in one SQLite file for ever.
//!
//! One writer thread per [`Database`] takes whatever writes are waiting, checks each against what
//! is there, commits them in one transaction, and only then shows them to readers and watchers and
//! answers the callers. So nothing that was seen can be lost, and revisions only grow.
//!
//! Reading order: this file has the words, `memory` what readers see, `log` the file, `writer`
//! the thread between them, `database` the handles, `watch` the way through the history.

mod database;
mod log;
mod memory;
mod watch;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

pub use database::{Database, Options, Store};
pub use log::OpenError;
pub use watch::Watch;

/// Where an object lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `group/plural` (`/pods` in the core group).
    pub resource: Arc<str>,
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl Key {
    /// A key from its three parts.
    pub fn new(
        resource: impl Into<Arc<str>>,
        namespace: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// A stored object.
#[derive(Debug)]
pub struct Object {
    /// Where it lives.
    pub key: Key,
    /// The revision of the write that made it.
    pub revision: u64,
    /// Its canonical encoding with `metadata.resourceVersion` in it.
    pub json: Bytes,
    /// What selectors and garbage collection ask for, read once at the write.
    pub meta: Meta,
}

/// The part of an object's metadata that the store itself and its readers ask for often.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Meta {
    /// `metadata.uid`, empty when there is none.
    pub uid: Box<str>,
    /// `metadata.labels`.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// uids of `metadata.ownerReferences`.
    pub owners: Vec<Box<str>>,
    /// Whether there is a `metadata.deletionTimestamp`.
    pub terminating: bool,
}

impl Object {
    /// The object as a tree.
    ///
    /// The store wrote `json` itself or read it whole when it opened, so it parses; `null` stands
    /// for the impossible rest.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// Encodes a tree as the object of a revision: sets `metadata.resourceVersion` and reads the
    /// metadata.
    fn encode(key: Key, revision: u64, mut value: Value) -> Result<Self, WriteError> {
        let Some(fields) = value.as_object_mut() else {
            return Err(WriteError::Malformed(
                "an object must be a JSON object".to_owned(),
            ));
        };
        let metadata = fields
            .entry("metadata")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        let Some(metadata) = metadata.as_object_mut() else {
            return Err(WriteError::Malformed(
                "metadata must be a JSON object".to_owned(),
            ));
        };
        metadata.insert(
            "resourceVersion".to_owned(),
            Value::String(revision.to_string()),
        );
        let meta = Meta::of(&value);
        let json =
            serde_json::to_vec(&value).map_err(|error| WriteError::Malformed(error.to_string()))?;
        Ok(Self {
            key,
            revision,
            // It stays for long: without the room that the encoder left for more.
            json: Bytes::copy_from_slice(&json),
            meta,
        })
    }

    /// Reads an object as the log kept it.
    fn decode(key: Key, revision: u64, json: Bytes) -> Result<Self, serde_json::Error> {
        let head: Head<'_> = serde_json::from_slice(&json)?;
        let meta = head.metadata.into();
        Ok(Self {
            key,
            revision,
            json,
            meta,
        })
    }

    /// The bytes that it costs to keep, about.
    fn weight(&self) -> usize {
        self.json.len() + 256
    }
}

impl Meta {
    /// Reads the metadata of an object; what is not there or has another shape counts as absent.
    pub fn of(object: &Value) -> Self {
        let metadata = &object["metadata"];
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        Self {
            uid: metadata["uid"].as_str().unwrap_or_default().into(),
            labels: labels
                .filter_map(|(name, value)| Some((name.as_str().into(), value.as_str()?.into())))
                .collect(),
            owners: owners
                .filter_map(|owner| Some(owner["uid"].as_str()?.into()))
                .collect(),
            terminating: metadata["deletionTimestamp"].is_string(),
        }
    }
}

/// What [`Object::decode`] reads of an object without building a tree of it.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(default, borrow)]
    metadata: HeadMeta<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta<'a> {
    #[serde(default, borrow)]
    uid: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    labels: Option<BTreeMap<Box<str>, Option<Box<str>>>>,
    #[serde(default)]
    owner_references: Option<Vec<HeadOwner>>,
    #[serde(default)]
    deletion_timestamp: Option<Value>,
}

#[derive(Deserialize)]
struct HeadOwner {
    #[serde(default)]
    uid: Option<Box<str>>,
}

impl From<HeadMeta<'_>> for Meta {
    fn from(head: HeadMeta<'_>) -> Self {
        Self {
            uid: head.uid.unwrap_or_default().into(),
            labels: head
                .labels
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            owners: head
                .owner_references
                .into_iter()
                .flatten()
                .filter_map(|owner| owner.uid)
                .collect(),
            terminating: head.deletion_timestamp.is_some_and(|time| time.is_string()),
        }
    }
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
    /// The value cannot be stored as an object.
    #[error("the object is malformed: {0}")]
    Malformed(String),
    /// The log could not take it (disk full, …). Nothing was written; try again later.
    #[error("the write could not be made durable: {0}")]
    Unwritable(String),
    /// The database was closed.
    #[error("the store is closed")]
    Closed,
}

/// The history that was asked for is gone; only what is after `oldest` is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("history before revision {oldest} is gone")]
pub struct Expired {
    /// The oldest revision to list at or to watch from.
    pub oldest: u64,
}

/// Objects of one resource at one revision, ordered by namespace and name.
#[derive(Debug)]
pub struct Listing {
    /// The objects.
    pub items: Vec<Arc<Object>>,
    /// The revision that they are the state of.
    pub revision: u64,
    /// Whether there are more behind the last item (a limit cut the list).
    pub more: bool,
    /// How many more (0 when `more` is false).
    pub remaining: usize,
}

/// One committed write.
#[derive(Debug)]
pub struct Change {
    /// Its revision.
    pub revision: u64,
    /// What was there before; `None` for a create.
    pub old: Option<Arc<Object>>,
    /// What is there now; `None` for a delete.
    pub new: Option<Arc<Object>>,
    /// For a delete: the last state (as in `old`) with the revision of the removal in it, which is
    /// what a DELETED watch event carries.
    pub removed: Option<Arc<Object>>,
}

impl Change {
    /// The object that the change is about, with this change's revision in it.
    pub fn object(&self) -> Option<&Arc<Object>> {
        self.new.as_ref().or(self.removed.as_ref())
    }

    fn weight(&self) -> usize {
        // The new state is either the current one, which is kept anyway, or the old one of the
        // next change, which pays for it.
        let kept = [&self.old, &self.removed];
        128 + kept
            .into_iter()
            .flatten()
            .map(|object| object.weight())
            .sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
