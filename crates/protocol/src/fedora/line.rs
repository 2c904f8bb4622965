//! The lines of a file that `fedora-messaging publish` takes: one JSON object each.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    BASE_SCHEMA, Envelope, HEADER_SENT_AT, HEADER_SEVERITY, Header, HeaderError, MAX_SHORT,
    Outgoing, Severity, routing_key,
};
use crate::raw::Raw;

/// A message as a line says it. What the line leaves out comes later, in [`Self::outgoing`].
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    topic: String,
    body: Raw,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    priority: Option<u8>,
}

/// Why a line is no message. All of these are errors of its writer.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or a field is absent or of another type.
    #[error("not a message: {0}; a message is one JSON object in one line, with topic and body")]
    Json(#[from] serde_json::Error),
    /// The body is not an object.
    #[error("the body must be a JSON object")]
    Body,
    /// A header is impossible.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Consumers would drop it.
    #[error("header {HEADER_SEVERITY} is {0}; it must be 10, 20, 30 or 40")]
    Severity(Value),
    /// Consumers would not understand it.
    #[error("header {HEADER_SENT_AT} is {0}; it must be a time such as 2026-01-02T03:04:05+00:00")]
    SentAt(Value),
    /// A routing key is an AMQP short string.
    #[error(
        "the topic with its prefix is {0} bytes long; {MAX_SHORT} is the most that AMQP carries"
    )]
    Topic(usize),
}

impl Line {
    /// Reads one line.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let line: Self = serde_json::from_str(text)?;
        line.checked()
    }

    /// A message from its parts, as from a command line.
    pub fn new(
        topic: String,
        body: Raw,
        headers: Map<String, Value>,
        id: Option<String>,
        priority: Option<u8>,
    ) -> Result<Self, LineError> {
        Self {
            topic,
            body,
            headers: Some(headers),
            id,
            priority,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, LineError> {
        if self.body.get().trim_start().starts_with('{') {
            Ok(self)
        } else {
            Err(LineError::Body)
        }
    }

    /// The message to send: `random` becomes its id and `now` its time where the line has none. A schema that the line names is
    /// kept: there is no Python package here that could be missing.
    pub fn outgoing(
        self,
        prefix: &str,
        now: Timestamp,
        random: u128,
    ) -> Result<Outgoing, LineError> {
        let routing_key = routing_key(prefix, &self.topic);
        if routing_key.len() > MAX_SHORT {
            return Err(LineError::Topic(routing_key.len()));
        }
        let mut user = self.headers.unwrap_or_default();
        let text =
            |user: &mut Map<String, Value>, name: &str, fallback: &str| match user.remove(name) {
                Some(Value::String(text)) => text,
                _ => fallback.to_owned(),
            };
        let severity = match user.remove(HEADER_SEVERITY) {
            None => Severity::default(),
            Some(value) => value
                .as_i64()
                .and_then(Severity::read)
                .ok_or(LineError::Severity(value))?,
        };
        // Kept as it was written: a copy of a message must look like the message.
        let sent_at = match user.remove(HEADER_SENT_AT) {
            None => None,
            Some(Value::String(text)) if text.parse::<Timestamp>().is_ok() => Some(text),
            Some(other) => return Err(LineError::SentAt(other)),
        };
        let envelope = Envelope {
            message_id: self.id.unwrap_or_else(|| super::random_id(random)),
            sent_at: now,
            severity,
            schema: text(&mut user, super::HEADER_SCHEMA, BASE_SCHEMA.0),
            schema_package: text(&mut user, super::HEADER_SCHEMA_PACKAGE, BASE_SCHEMA.1),
            priority: self.priority.unwrap_or(0),
        };
        let mut headers = envelope.headers(Header::table(&user)?);
        if let Some(text) = sent_at {
            headers.insert(HEADER_SENT_AT.to_owned(), Header::Text(text));
        }
        Ok(Outgoing {
            routing_key,
            message_id: envelope.message_id,
            priority: envelope.priority,
            headers,
            body: self.body.get().as_bytes().to_vec(),
        })
    }
}
