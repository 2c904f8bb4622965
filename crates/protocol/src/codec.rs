//! What a session must know about a kind of resource, and how it becomes an event.

use jiff::Timestamp;

use crate::cloudevent::{CloudEvent, EnvelopeError, ExtensionValue};
use crate::eventtype::{Action, DataType, EventType};
use crate::meta::ObjectMeta;
use crate::names;

/// Something that has metadata and travels.
pub trait Resource: Clone + PartialEq + Send + Sync + 'static {
    /// Metadata.
    fn meta(&self) -> &ObjectMeta;
    /// Metadata, to change it.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// Hash of the status, `None` when there is no status to resync.
    fn status_hash(&self) -> Option<String>;
    /// Whether anybody ever said something in the status.
    fn has_status(&self) -> bool {
        self.status_hash().is_some()
    }
    /// Takes over the status of another copy.
    fn adopt_status(&mut self, from: &Self);
    /// Takes over the spec of another copy, to the byte. Nothing to do for kinds that are kept as a tree.
    fn adopt_spec(&mut self, _from: &Self) {}
    /// Whether both copies have the same status.
    fn same_status(&self, other: &Self) -> bool;
    /// Whether the status says that the agent is done with the resource for ever.
    fn is_gone(&self) -> bool;
    /// Writes the agent's last word into the status.
    fn mark_gone(&mut self, now: Timestamp);
}

/// How copies of a resource behave on the receiving agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// Works: versioned by generation, owned by a source, kept until the agent is done with the deletion.
    Works,
    /// Mirrors of hub objects: the last event wins; without finalizers a deletion removes the copy.
    Mirror,
}

/// What is given to an encoder from outside: it reads no clock and makes no randomness.
#[derive(Clone, Debug)]
pub struct Stamp<'a> {
    /// Id of the event.
    pub id: String,
    /// Time of the event.
    pub time: Timestamp,
    /// Who sends.
    pub source: &'a str,
    /// Sequence id for statuses, decimal.
    pub sequence: Option<String>,
}

/// Turns resources into events and back.
pub trait Codec: Send + Sync + 'static {
    /// The kind of resource.
    type Object: Resource;
    /// How an agent keeps copies.
    const KEEPING: Keeping;
    /// The data type, the only one this codec reads and writes.
    fn data_type(&self) -> &DataType;
    /// Makes an event of a resource.
    fn encode(
        &self,
        stamp: Stamp<'_>,
        event_type: &EventType,
        object: &Self::Object,
    ) -> Result<CloudEvent, EncodeError>;
    /// Makes a resource of an event.
    fn decode(&self, event: &CloudEvent) -> Result<Self::Object, DecodeError>;
    /// The cluster that a resource belongs to.
    fn cluster_of<'a>(&self, object: &'a Self::Object) -> Option<&'a str> {
        Some(&object.meta().namespace)
    }
    /// The version in resync lists: 0 = unversioned, `None` = unreadable.
    fn version(&self, object: &Self::Object) -> Option<i64>;
    /// Checks a resource before its owner sends it.
    fn validate(&self, object: &Self::Object) -> Result<(), DecodeError>;
    /// The hash of the status in status resyncs, `None` when there is no status to resync.
    fn status_hash(&self, object: &Self::Object) -> Option<String> {
        object.status_hash()
    }
    /// The action of an agent's last word about a resource.
    fn last_word(&self) -> Action {
        Action::Update
    }
}

/// Why a resource cannot become an event.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A generation beyond 32 bits cannot travel; sending without it would be read as a broken event.
    #[error("failed to encode: generation {0} does not fit the 32 bit integer of the event")]
    Generation(i64),
    /// Nobody to send the status to.
    #[error("failed to find originalsource from the work {0}")]
    NoSource(String),
    /// The format has room for one manifest.
    #[error("failed to encode: the format takes works of one manifest, {0} has {1}")]
    OneManifest(String, usize),
    /// The cluster cannot be told.
    #[error("failed to find the cluster of {0}: set {1}")]
    NoCluster(String, &'static str),
    /// The resource is not JSON.
    #[error("failed to encode: {0}")]
    Json(#[from] serde_json::Error),
}

/// Why an event is not a resource.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A required extension is missing or of a wrong type.
    #[error("failed to get {name} extension: {why}")]
    Extension {
        /// Name of the extension.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The payload is not what the data type says.
    #[error("failed to read the data of the event: {0}")]
    Data(#[from] serde_json::Error),
    /// The manifests of a work break a rule.
    #[error("manifests are invalid, {0}")]
    Manifests(String),
    /// The manifests of a work are too large, all together.
    #[error(
        "manifests are invalid, the size of manifests is {size} bytes which exceeds the {limit} limit"
    )]
    TooLarge {
        /// As counted, in bytes.
        size: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A field of the resource breaks a rule.
    #[error("{0}")]
    Invalid(String),
}

pub(crate) fn required<'a>(
    event: &'a CloudEvent,
    name: &'static str,
) -> Result<&'a str, DecodeError> {
    event.text(name).map_err(|e| extension(name, &e))
}

fn extension(name: &'static str, error: &EnvelopeError) -> DecodeError {
    let why = match error {
        EnvelopeError::Attribute { why, .. } => why.clone(),
        other => other.to_string(),
    };
    DecodeError::Extension { name, why }
}

/// Reads `resourceversion` of a bundle: integer, or numeric text that is cut to an integer.
pub fn integer_version(event: &CloudEvent) -> Result<i32, DecodeError> {
    let name = names::EXT_RESOURCE_VERSION;
    let bad = |why: String| DecodeError::Extension { name, why };
    match event.extension(name) {
        Some(ExtensionValue::Integer(number)) => Ok(*number),
        Some(ExtensionValue::String(text)) => {
            let number: f64 = text
                .parse()
                .map_err(|_| bad(format!("{text:?} is not a number")))?;
            if number.is_finite() && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number) {
                Ok(number as i32)
            } else {
                Err(bad(format!("cannot convert {text} to int32: out of range")))
            }
        }
        Some(other) => Err(bad(format!("invalid CloudEvents value: {other:?}"))),
        None => Err(bad("invalid CloudEvents value: <nil>".to_owned())),
    }
}

/// The version of any event as the resync compares it: `None` when unreadable.
pub fn event_version(event: &CloudEvent, data_type: &DataType) -> Option<i64> {
    if *data_type == DataType::MANIFEST_BUNDLES {
        return integer_version(event).ok().map(i64::from);
    }
    match event.extension(names::EXT_RESOURCE_VERSION) {
        Some(ExtensionValue::String(text)) => text.parse().ok(),
        Some(_) | None => None,
    }
}

/// The deletion mark of an event; an unreadable one still deletes, at the time of the event.
pub(crate) fn deletion(event: &CloudEvent) -> Option<Timestamp> {
    event.is_deletion().then(|| {
        let marked = event
            .timestamp(names::EXT_DELETION_TIMESTAMP)
            .ok()
            .flatten();
        marked.or(event.time).unwrap_or(Timestamp::UNIX_EPOCH)
    })
}
