//! The envelope: a CloudEvent 1.0 with typed extensions, its structured JSON form and its textual binary form.

mod structured;
mod binary;

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;

use crate::names;

/// Content type of every payload of the protocol.
pub const APPLICATION_JSON: &str = "application/json";
/// Content type of a structured event.
pub const STRUCTURED_JSON: &str = "application/cloudevents+json";

/// The value of an extension attribute. These are all the types that CloudEvents knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionValue {
    /// Boolean.
    Bool(bool),
    /// 32 bit integer: a wider one cannot travel.
    Integer(i32),
    /// Text.
    String(String),
    /// Bytes.
    Bytes(Bytes),
    /// Absolute URI.
    Uri(String),
    /// URI reference.
    UriRef(String),
    /// Point in time.
    Timestamp(Timestamp),
}

impl From<&str> for ExtensionValue {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for ExtensionValue {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for ExtensionValue {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

impl From<i32> for ExtensionValue {
    fn from(number: i32) -> Self {
        Self::Integer(number)
    }
}

impl From<Timestamp> for ExtensionValue {
    fn from(time: Timestamp) -> Self {
        Self::Timestamp(time)
    }
}

/// A CloudEvent. `data` is cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent {
    /// Unique with `source`.
    pub id: String,
    /// Who sent it.
    pub source: String,
    /// See [`crate::EventType`]; heartbeats have a type of their own.
    pub event_type: String,
    /// When it was made.
    pub time: Option<Timestamp>,
    /// Only present with data.
    pub content_type: Option<String>,
    /// Never set by peers; kept when received.
    pub subject: Option<String>,
    /// Never set by peers; kept when received.
    pub data_schema: Option<String>,
    /// Extension attributes by name.
    pub extensions: BTreeMap<String, ExtensionValue>,
    /// Payload; absent differs from empty only in structured form.
    pub data: Option<Bytes>,
}

/// Why bytes or attributes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON, or not an object.
    #[error("failed to read the event: {0}")]
    Json(#[from] serde_json::Error),
    /// A required attribute is absent.
    #[error("failed to read the event: {0} is missing")]
    Missing(&'static str),
    /// An attribute has a value it cannot have.
    #[error("failed to read the attribute {name}: {why}")]
    Attribute {
        /// Name of the attribute.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The message has no mark of an event.
    #[error("unknown Message encoding")]
    UnknownEncoding,
}

impl CloudEvent {
    /// An event without data and extensions.
    pub fn new(
        id: impl Into<String>,
        source: impl Into<String>,
        event_type: impl ToString,
        time: Timestamp,
    ) -> Self {
        Self {
            id: id.into(),
            source: source.into(),
            event_type: event_type.to_string(),
            time: Some(time),
            content_type: None,
            subject: None,
            data_schema: None,
            extensions: BTreeMap::new(),
            data: None,
        }
    }

    /// The same with an extension.
    pub fn with(mut self, name: &str, value: impl Into<ExtensionValue>) -> Self {
        self.set(name, value);
        self
    }

    /// The same with a JSON payload.
    pub fn with_json(mut self, data: impl Into<Bytes>) -> Self {
        self.content_type = Some(APPLICATION_JSON.to_owned());
        self.data = Some(data.into());
        self
    }

    /// Sets an extension.
    pub fn set(&mut self, name: &str, value: impl Into<ExtensionValue>) {
        self.extensions.insert(name.to_owned(), value.into());
    }

    /// An extension.
    pub fn extension(&self, name: &str) -> Option<&ExtensionValue> {
        self.extensions.get(name)
    }

    /// An extension that must be text.
    pub fn text(&self, name: &str) -> Result<&str, EnvelopeError> {
        match self.extensions.get(name) {
            Some(
                ExtensionValue::String(text)
                | ExtensionValue::Uri(text)
                | ExtensionValue::UriRef(text),
            ) => Ok(text),
            Some(other) => Err(attribute(name, format!("not a string but {other:?}"))),
            None => Err(attribute(name, "invalid CloudEvents value: <nil>")),
        }
    }

    /// The cluster an event is for; `None` when the extension is absent or not text.
    pub fn cluster(&self) -> Option<&str> {
        self.text(names::EXT_CLUSTER_NAME).ok()
    }

    /// The uid of the resource, if any.
    pub fn resource_id(&self) -> Option<&str> {
        self.text(names::EXT_RESOURCE_ID).ok()
    }

    /// An extension that must be a point in time, typed or as RFC 3339 text.
    pub fn timestamp(&self, name: &str) -> Result<Option<Timestamp>, EnvelopeError> {
        match self.extensions.get(name) {
            None => Ok(None),
            Some(ExtensionValue::Timestamp(time)) => Ok(Some(*time)),
            Some(ExtensionValue::String(text)) => text
                .parse()
                .map(Some)
                .map_err(|e: jiff::Error| attribute(name, e)),
            Some(other) => Err(attribute(name, format!("not a timestamp but {other:?}"))),
        }
    }

    /// Whether the event only says that the stream lives.
    pub fn is_heartbeat(&self) -> bool {
        self.event_type == names::HEARTBEAT_TYPE
    }

    /// Whether the event takes the deletion path.
    pub fn is_deletion(&self) -> bool {
        self.extensions.contains_key(names::EXT_DELETION_TIMESTAMP)
    }

    /// Payload bytes, empty when absent.
    pub fn payload(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }
}

pub(crate) fn attribute(name: &str, why: impl ToString) -> EnvelopeError {
    EnvelopeError::Attribute {
        name: name.to_owned(),
        why: why.to_string(),
    }
}
