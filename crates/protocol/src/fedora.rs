//! Messages for Fedora Messaging: what their AMQP properties and headers are, and the rules that they keep.
//!
//! Source of the format: fedora-messaging, `docs/api/wire-format.rst` and `fedora_messaging/message.py`.

mod headers;
mod line;
mod rules;

use std::collections::BTreeMap;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use headers::{Header, HeaderError};
pub use line::{Line, LineError};
pub use rules::{
    MAX_BODY, MAX_HEADER_NAME, MAX_HEADERS, Rule, check_body, check_headers, check_topic,
};

/// Content type of every message.
pub const CONTENT_TYPE: &str = "application/json";
/// Content encoding of every message.
pub const CONTENT_ENCODING: &str = "utf-8";
/// Delivery mode of every message: kept on disk.
pub const PERSISTENT: u8 = 2;
/// The exchange that ordinary publishers may write to.
pub const EXCHANGE: &str = "amq.topic";
/// The longest routing key, exchange or header name: an AMQP short string, in bytes.
pub const MAX_SHORT: usize = 255;
/// The schema of messages that have none of their own, and the package that has it.
pub const BASE_SCHEMA: (&str, &str) = ("base.message", "fedora_messaging");

/// Header: entry-point name of the schema.
pub const HEADER_SCHEMA: &str = "fedora_messaging_schema";
/// Header: the package that has the schema.
pub const HEADER_SCHEMA_PACKAGE: &str = "fedora_messaging_schema_package";
/// Header: a number of [`Severity`].
pub const HEADER_SEVERITY: &str = "fedora_messaging_severity";
/// Header: when it was sent.
pub const HEADER_SENT_AT: &str = "sent-at";
/// Header: mirrors the priority.
pub const HEADER_PRIORITY: &str = "priority";

/// How important a message is. Consumers drop messages with any other number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// 10
    Debug,
    /// 20
    #[default]
    Info,
    /// 30
    Warning,
    /// 40
    Error,
}

impl Severity {
    /// The number on the wire.
    pub fn number(self) -> i32 {
        match self {
            Self::Debug => 10,
            Self::Info => 20,
            Self::Warning => 30,
            Self::Error => 40,
        }
    }

    /// Reads the number on the wire.
    pub fn read(number: i64) -> Option<Self> {
        match number {
            10 => Some(Self::Debug),
            20 => Some(Self::Info),
            30 => Some(Self::Warning),
            40 => Some(Self::Error),
            _ => None,
        }
    }
}

/// A message that is ready to be sent, again and again if need be: every copy is the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Topic with the prefix of the environment.
    pub routing_key: String,
    /// The AMQP property `message_id`: under it receivers know a copy again.
    pub message_id: String,
    /// The AMQP property `priority`.
    pub priority: u8,
    /// The AMQP property `headers`.
    pub headers: BTreeMap<String, Header>,
    /// A JSON object, UTF-8.
    pub body: Vec<u8>,
}

/// What every message must have beside its topic and body.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// See [`Outgoing::message_id`].
    pub message_id: String,
    /// When it was sent; the archive takes two messages with one id and one time for the same.
    pub sent_at: Timestamp,
    /// How important it is.
    pub severity: Severity,
    /// Entry-point name of its schema.
    pub schema: String,
    /// The Python distribution that has the schema; written as its users may write it.
    pub schema_package: String,
    /// 0 to 9; 0 is usual.
    pub priority: u8,
}

impl Envelope {
    /// The headers of the envelope over those of the user.
    pub fn headers(&self, user: BTreeMap<String, Header>) -> BTreeMap<String, Header> {
        let text = |value: &str| Header::Text(value.to_owned());
        let mut headers = user;
        headers.extend([
            (HEADER_SCHEMA.to_owned(), text(&self.schema)),
            (
                HEADER_SCHEMA_PACKAGE.to_owned(),
                text(&package_name(&self.schema_package)),
            ),
            (
                HEADER_SEVERITY.to_owned(),
                Header::Int(self.severity.number()),
            ),
            (HEADER_SENT_AT.to_owned(), text(&sent_at(self.sent_at))),
            (
                HEADER_PRIORITY.to_owned(),
                Header::Int(i32::from(self.priority)),
            ),
        ]);
        headers
    }
}

/// A topic below a prefix (fedora-messaging: message.py): dots at the end of the prefix do not count.
pub fn routing_key(prefix: &str, topic: &str) -> String {
    if prefix.is_empty() {
        return topic.to_owned();
    }
    format!("{}.{topic}", prefix.trim_end_matches('.'))
}

/// The text of the header `sent-at`: whole seconds, with the offset of UTC written as numbers.
pub fn sent_at(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// A distribution name as the library compares it: PEP 503, with underscores.
pub fn package_name(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for part in name.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
        if !plain.is_empty() {
            plain.push('_');
        }
        plain.push_str(&part.to_lowercase());
    }
    plain
}

/// The id of the message of a resource: the same for every attempt, another for every generation. It has the shape of a
/// random UUID, which is what the wire format asks for.
pub fn message_id(uid: &str, generation: i64) -> String {
    let digest = Sha256::digest(format!("fedoramessage/v1/{uid}/{generation}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// A random id, for messages that nothing stands behind.
pub fn random_id(random: u128) -> String {
    uuid::Builder::from_random_bytes(random.to_be_bytes())
        .into_uuid()
        .to_string()
}

/// Whether a text is a UUID of any version, written with dashes.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

#[cfg(test)]
mod tests;
