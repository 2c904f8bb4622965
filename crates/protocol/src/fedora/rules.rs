//! What a message of a resource must be like, beyond what the library asks: checked when it is admitted and again before it is
//! sent.

use serde_json::{Map, Value};

use super::{
    HEADER_PRIORITY, HEADER_SCHEMA, HEADER_SENT_AT, HEADER_SEVERITY, MAX_SHORT, routing_key,
};

/// The largest body, in bytes of JSON.
pub const MAX_BODY: usize = 256 * 1024;
/// The most headers.
pub const MAX_HEADERS: usize = 64;
/// The longest name of a header, in bytes.
pub const MAX_HEADER_NAME: usize = 128;

/// Headers that only say that somebody or something is concerned; they are always true.
const FILTERS: [&str; 6] = [
    "fedora_messaging_user_",
    "fedora_messaging_group_",
    "fedora_messaging_rpm_",
    "fedora_messaging_container_",
    "fedora_messaging_module_",
    "fedora_messaging_flatpak_",
];

/// A rule that a message breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The topic.
    #[error(
        "topic {topic:?} {why}; a topic is words of printable ASCII separated by single dots, such as app.thing.created"
    )]
    Topic {
        /// As it was given.
        topic: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The topic with its prefix.
    #[error("topic {0:?} is {1} bytes long; {MAX_SHORT} is the most that AMQP carries")]
    Long(String, usize),
    /// The body.
    #[error("the body is {0} bytes of JSON; {MAX_BODY} is the most")]
    Body(usize),
    /// Too many headers.
    #[error("there are {0} headers; {MAX_HEADERS} is the most")]
    Headers(usize),
    /// One header.
    #[error("header {name:?} {why}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// Checks a topic and the routing key that it becomes.
pub fn check_topic(prefix: &str, topic: &str) -> Result<(), Rule> {
    let bad = |why| {
        Err(Rule::Topic {
            topic: topic.to_owned(),
            why,
        })
    };
    if !topic.is_ascii()
        || topic
            .bytes()
            .any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control())
    {
        return bad("has a character other than printable ASCII");
    }
    for word in topic.split('.') {
        match word {
            "" => return bad("has an empty word"),
            "*" | "#" => return bad("has a wildcard for a word"),
            _ => {}
        }
    }
    let key = routing_key(prefix, topic);
    if key.len() > MAX_SHORT {
        return Err(Rule::Long(key.clone(), key.len()));
    }
    Ok(())
}

/// Checks the size of a body, which is `length` bytes of JSON.
pub fn check_body(length: usize) -> Result<(), Rule> {
    if length > MAX_BODY {
        return Err(Rule::Body(length));
    }
    Ok(())
}

/// Checks the headers of a user.
pub fn check_headers(headers: &Map<String, Value>) -> Result<(), Rule> {
    if headers.len() > MAX_HEADERS {
        return Err(Rule::Headers(headers.len()));
    }
    for (name, value) in headers {
        if let Some(why) = wrong_with(name, value) {
            return Err(Rule::Header {
                name: name.clone(),
                why,
            });
        }
    }
    Ok(())
}

fn wrong_with(name: &str, value: &Value) -> Option<&'static str> {
    if name.is_empty() || name.len() > MAX_HEADER_NAME {
        return Some("has a name that is empty or longer than 128 bytes");
    }
    if FILTERS
        .iter()
        .any(|prefix| name.len() > prefix.len() && name.starts_with(prefix))
    {
        return (value != &Value::Bool(true))
            .then_some("only says that somebody is concerned: it must be true");
    }
    if [HEADER_SENT_AT, HEADER_PRIORITY].contains(&name)
        || name.starts_with(HEADER_SCHEMA)
        || name.starts_with(HEADER_SEVERITY)
    {
        return Some("is written by the sender: use the fields of the message instead");
    }
    match value {
        Value::String(_) | Value::Bool(_) => None,
        Value::Number(number) if number.as_i64().is_some() => None,
        _ => Some("must be text, true, false or a whole number of 64 bits"),
    }
}
