//! Decides what happens to a FedoraMessage: when it is sent, when it is tried again, when it is given up, and what its status says.
//!
//! One message for each generation, as far as AMQP allows: its id and time are written down before the first attempt, and every
//! attempt carries the same ones. Who reads the status alone knows where to go on.

mod notice;
mod retry;
mod status;
pub mod pod;
pub mod admission;

use drover_api::fedora::v1alpha1::{
    Authentication, Environment, FedoraMessage, FedoraMessageStatus, SecretRef, Severity as Wanted,
};
use drover_api::names::fedora as names;
use drover_protocol::fedora::{
    BASE_SCHEMA, Envelope, Header, Outgoing, Severity, check_body, check_headers, check_topic,
    is_uuid, message_id, routing_key,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

pub use notice::{Notice, notice};
pub use retry::{backoff, deadline};
pub use status::{Fault, Verdict};

use status::{Progress, current, progress, settle, write};

/// How deep a body may be nested: the body itself is the first level. What reads JSON gives up at about twice as many.
pub const DEEPEST_BODY: usize = 64;

/// A place that messages go to, as the operator's configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Goes before every topic.
    pub topic_prefix: String,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until the resource changes.
    Rest,
    /// Look again at this time.
    WakeAt(Timestamp),
    /// Write this status, then look again.
    Write(Box<FedoraMessageStatus>),
    /// Put this id on the resource, so that a copy of it that comes without its status is not sent again.
    Mark(String),
    /// Delete the resource: it is over, and nobody needs it any more.
    Delete,
    /// Find the identity in this secret, then ask [`attempt`].
    Identify(SecretRef),
}

/// What an attempt needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// To be written, and not by force, before anything is sent.
    pub status: FedoraMessageStatus,
    /// To be sent.
    pub message: Outgoing,
}

/// What to do about a message at a time.
pub fn next(message: &FedoraMessage, place: Option<&Place>, now: Timestamp) -> Step {
    if message.metadata.deletion_timestamp.is_some() {
        return Step::Rest;
    }
    match progress(message) {
        Progress::Over { at } => match status::seen(message) {
            Some(status) => Step::Write(Box::new(status)),
            None => match status::unmarked(message) {
                Some(id) => Step::Mark(id.to_owned()),
                None => after_the_end(message, at, now),
            },
        },
        Progress::Copy { at, id } => match settled(message, &Fault::not_sent_again(id), now) {
            Step::Rest => after_the_end(message, at, now),
            step => step,
        },
        Progress::Drifted => drifted(message, now),
        Progress::Open => open(message, place, now),
    }
}

/// What to do about a message of which only `rest` can be read: its spec is mostly missing there. It is over, and no other message
/// is concerned.
pub fn unreadable(rest: &FedoraMessage, why: &str, now: Timestamp) -> Step {
    if rest.metadata.deletion_timestamp.is_some() {
        return Step::Rest;
    }
    let before = rest.status.clone().unwrap_or_default();
    let told = before.reason.as_deref() == Some(names::REASON_INVALID)
        && before.observed_generation == rest.metadata.generation;
    if told || status::is_sent(rest) {
        return after_the_end(rest, before.completion_time.map(|time| time.0), now);
    }
    // What was begun belongs to it still, though nobody can compare it with the spec.
    let mut known = rest.clone();
    if let Some(status) = &mut known.status {
        status.spec_hash = None;
        status.completion_time = None;
        status.observed_generation = rest.metadata.generation;
    }
    let fault = Fault::invalid(format!(
        "The resource cannot be read: {why}; a body may be nested {DEEPEST_BODY} levels deep"
    ));
    Step::Write(Box::new(settle(&known, &fault, now)))
}

fn after_the_end(message: &FedoraMessage, at: Option<Timestamp>, now: Timestamp) -> Step {
    let (Some(at), Some(seconds)) = (at, message.spec.ttl_seconds_after_finished) else {
        return Step::Rest;
    };
    let end = at.saturating_add(SignedDuration::from_secs(i64::from(seconds)));
    match end {
        Ok(end) if end > now => Step::WakeAt(end),
        _ => Step::Delete,
    }
}

/// The spec changed after the message was sent: what was sent stays sent, and nothing else is.
fn drifted(message: &FedoraMessage, now: Timestamp) -> Step {
    let status = status::drifted(message, now);
    if message.status.as_ref() == Some(&status) {
        Step::Rest
    } else {
        Step::Write(Box::new(status))
    }
}

fn open(message: &FedoraMessage, place: Option<&Place>, now: Timestamp) -> Step {
    if message.spec.suspend {
        return settled(message, &Fault::suspended(), now);
    }
    let Some(place) = place else {
        return settled(message, &Fault::unsupported(message.spec.env), now);
    };
    if let Err(fault) = check(message, place) {
        return settled(message, &fault, now);
    }
    let end = deadline(message);
    if now >= end {
        return settled(message, &Fault::deadline(message), now);
    }
    if retry::exhausted(message) {
        return settled(message, &Fault::exhausted(message), now);
    }
    match retry::not_before(message) {
        Some(at) if at > now => Step::WakeAt(at.min(end)),
        _ => match message.spec.authentication.secret() {
            Some(secret) => Step::Identify(secret.clone()),
            None => settled(message, &Fault::no_secret(), now),
        },
    }
}

/// A status that stays until the resource changes; written once.
fn settled(message: &FedoraMessage, fault: &Fault, now: Timestamp) -> Step {
    let status = settle(message, fault, now);
    if message.status.as_ref() == Some(&status) {
        Step::Rest
    } else {
        Step::Write(Box::new(status))
    }
}

/// Checks everything that the spec alone decides; the API's admission asks the same.
pub fn check(message: &FedoraMessage, place: &Place) -> Result<(), Fault> {
    let wanted = &message.spec.message;
    let invalid = |error: &dyn std::fmt::Display| Fault::invalid(error.to_string());
    check_topic(&place.topic_prefix, &wanted.topic).map_err(|rule| invalid(&rule))?;
    check_headers(&wanted.headers).map_err(|rule| invalid(&rule))?;
    let body = serde_json::to_vec(&wanted.body).map_err(|error| invalid(&error))?;
    check_body(body.len()).map_err(|rule| invalid(&rule))?;
    if deeper_than(&wanted.body, DEEPEST_BODY) {
        return Err(Fault::invalid(format!(
            "the body is nested more than {DEEPEST_BODY} levels deep, which is the most"
        )));
    }
    if let Some(id) = wanted.id.as_deref().filter(|id| !is_uuid(id)) {
        return Err(Fault::invalid(format!(
            "id {id:?} is no UUID; it looks like f4300d3c-42ae-49ae-9a79-0c6f6249cfd1"
        )));
    }
    check_authentication(&message.spec.authentication).map_err(Fault::invalid)
}

/// Both names become parts of a path of the API.
fn check_authentication(authentication: &Authentication) -> Result<(), String> {
    let both = [&authentication.secret_ref, &authentication.secret_ref_camel];
    if both.iter().all(|secret| secret.is_some()) {
        let text = "authentication has both secret_ref and secretRef; keep one of them";
        return Err(text.to_owned());
    }
    let Some(secret) = authentication.secret() else {
        return Ok(());
    };
    if secret.name.len() > 253 || !secret.name.split('.').all(is_label) {
        return Err(format!(
            "secret_ref.name {:?} is no name of a secret: at most 253 lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part",
            shortened(&secret.name)
        ));
    }
    match &secret.namespace {
        Some(namespace) if namespace.len() > 63 || !is_label(namespace) => Err(format!(
            "secret_ref.namespace {:?} is no name of a namespace: at most 63 lower-case letters, digits and '-', with a letter or digit at both ends",
            shortened(namespace)
        )),
        _ => Ok(()),
    }
}

/// A label of RFC 1123, of any length.
fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !text.is_empty()
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// As much of somebody's text as a message for people needs.
fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(64)).unwrap_or(text)
}

fn deeper_than(body: &Map<String, Value>, levels: usize) -> bool {
    let parents = |value: &&Value| value.is_object() || value.is_array();
    let mut level: Vec<&Value> = body.values().filter(parents).collect();
    for _ in 1..levels {
        if level.is_empty() {
            return false;
        }
        let below = level.into_iter().flat_map(|value| match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        });
        level = below.filter(parents).collect();
    }
    !level.is_empty()
}

/// The next attempt, for a message of which [`next`] said that it needs an identity, and has one.
pub fn attempt(message: &FedoraMessage, place: &Place, now: Timestamp) -> Result<Attempt, Fault> {
    let wanted = &message.spec.message;
    let generation = message.metadata.generation.unwrap_or(1);
    let before = message.status.clone().unwrap_or_default();
    // Only what was written for this very message is its own.
    let same = current(message);
    let id = before
        .message_id
        .clone()
        .filter(|_| same)
        .or_else(|| wanted.id.clone())
        .unwrap_or_else(|| {
            message_id(
                message.metadata.uid.as_deref().unwrap_or_default(),
                generation,
            )
        });
    let sent_at = before.sent_at.as_ref().filter(|_| same).map(|time| time.0);
    let created = message.metadata.creation_timestamp.as_ref();
    let sent_at = sent_at.unwrap_or(match created {
        Some(created) if generation <= 1 => created.0,
        _ => now,
    });
    let envelope = Envelope {
        message_id: id,
        sent_at,
        severity: severity(wanted.severity),
        schema: wanted
            .schema
            .clone()
            .unwrap_or_else(|| BASE_SCHEMA.0.to_owned()),
        schema_package: wanted
            .schema_package
            .clone()
            .unwrap_or_else(|| BASE_SCHEMA.1.to_owned()),
        priority: wanted.priority.unwrap_or(0),
    };
    let headers =
        Header::table(&wanted.headers).map_err(|error| Fault::invalid(error.to_string()))?;
    let body =
        serde_json::to_vec(&wanted.body).map_err(|error| Fault::invalid(error.to_string()))?;
    let outgoing = Outgoing {
        routing_key: routing_key(&place.topic_prefix, &wanted.topic),
        message_id: envelope.message_id.clone(),
        priority: envelope.priority,
        headers: envelope.headers(headers),
        body,
    };
    Ok(Attempt {
        status: status::begun(message, &outgoing, sent_at, now),
        message: outgoing,
    })
}

/// What became of an attempt. `begun` is the message as it was when the attempt was written down, `found` as it is now; `None` when
/// that says more already: somebody else wrote the end, or went on, or the spec is about another message.
///
/// A success is written whenever it becomes known, unless it is written already.
pub fn conclude(
    found: &FedoraMessage,
    begun: &FedoraMessage,
    outcome: Result<(), Fault>,
    now: Timestamp,
) -> Option<FedoraMessageStatus> {
    let attempt = |message: &FedoraMessage| {
        let status = message.status.as_ref()?;
        Some((status.message_id.clone()?, status.attempts))
    };
    let ((id, number), (begun_id, begun_number)) = attempt(found).zip(attempt(begun))?;
    if id != begun_id || !current(found) {
        return None;
    }
    match outcome {
        Ok(()) => (!status::is_sent(found)).then(|| status::sent(found, now)),
        Err(fault) => {
            let open = interrupted(found) && number == begun_number;
            open.then(|| write(found, &fault, now))
        }
    }
}

/// The status of a message whose secret cannot be used now.
pub fn unidentified(message: &FedoraMessage, fault: &Fault, now: Timestamp) -> FedoraMessageStatus {
    settle(message, fault, now)
}

/// Whether the message was begun and nobody wrote what became of it: whoever sent it last died, or lost its right to write.
pub fn interrupted(message: &FedoraMessage) -> bool {
    current(message) && status::reason(message) == Some(names::REASON_PENDING)
}

fn severity(wanted: Option<Wanted>) -> Severity {
    match wanted {
        Some(Wanted::Debug) => Severity::Debug,
        Some(Wanted::Info) | None => Severity::Info,
        Some(Wanted::Warning) => Severity::Warning,
        Some(Wanted::Error) => Severity::Error,
    }
}

/// How an environment is called in texts.
pub(crate) fn called(environment: Environment) -> &'static str {
    environment.as_str()
}

#[cfg(test)]
mod tests;
