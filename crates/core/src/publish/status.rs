//! The status of a message: read to know where it stands, written so that people, programs and the next process know.

use std::fmt::Write as _;

use drover_api::conditions::{self, Status, condition};
use drover_api::fedora::v1alpha1::{Environment, FedoraMessage, FedoraMessageStatus};
use drover_api::names::fedora as names;
use drover_api::{Condition, Time};
use drover_protocol::fedora::Outgoing;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::called;

/// What helps against a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing, for this generation.
    Never,
    /// A change of the secret, the operator's configuration or the broker's users.
    AfterChange,
    /// Time.
    Later,
    /// The same message again: it may have arrived.
    Again,
    /// Nothing is wrong: somebody wants it so.
    Wanted,
}

/// Every fault of a sender, and what helps. docs/fedora-messaging.md has the table for people.
const REPORTED: [(&str, Verdict); 11] = [
    (names::REASON_INVALID, Verdict::Never),
    (names::REASON_FORBIDDEN, Verdict::Never),
    (names::REASON_NO_EXCHANGE, Verdict::Never),
    (names::REASON_SECRET_INVALID, Verdict::AfterChange),
    (names::REASON_SECRET_KEY_MISSING, Verdict::AfterChange),
    (names::REASON_TLS_FAILED, Verdict::AfterChange),
    (names::REASON_LOGIN_REFUSED, Verdict::AfterChange),
    (names::REASON_CONNECTION_FAILED, Verdict::Later),
    (names::REASON_REJECTED, Verdict::Later),
    (names::REASON_POD_FAILED, Verdict::Later),
    (names::REASON_UNCERTAIN, Verdict::Again),
];

/// Why a message is not known to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A reason of [`names`].
    pub reason: &'static str,
    /// For people.
    pub text: String,
    /// What helps.
    pub verdict: Verdict,
}

impl Fault {
    /// A fault.
    pub fn new(reason: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            verdict,
        }
    }

    /// A fault of which only the reason is known, as another process wrote it down.
    pub fn reported(reason: &str, text: impl Into<String>) -> Self {
        let (reason, verdict) = REPORTED
            .iter()
            .find(|(known, _)| *known == reason)
            .copied()
            .unwrap_or((names::REASON_POD_FAILED, Verdict::Later));
        Self::new(reason, verdict, text)
    }

    pub(super) fn invalid(text: String) -> Self {
        Self::new(names::REASON_INVALID, Verdict::Never, text)
    }

    pub(super) fn suspended() -> Self {
        let text = "Nothing is sent while spec.suspend is true";
        Self::new(names::REASON_SUSPENDED, Verdict::Wanted, text)
    }

    pub(super) fn unsupported(environment: Environment) -> Self {
        let text = format!(
            "The operator has no configuration for the environment {}",
            called(environment)
        );
        Self::new(
            names::REASON_UNSUPPORTED_ENVIRONMENT,
            Verdict::AfterChange,
            text,
        )
    }

    pub(super) fn no_secret() -> Self {
        let text = "authentication.secret_ref is missing: name the secret with ca, cert and key";
        Self::new(names::REASON_INVALID, Verdict::Never, text)
    }

    pub(super) fn not_sent_again(id: &str) -> Self {
        let text = format!(
            "The resource carries the annotation {} of message {:?}, so it is a copy and is not sent: remove the annotation to send it",
            names::SENT_ID_ANNOTATION,
            super::shortened(id)
        );
        Self::new(names::REASON_NOT_SENT_AGAIN, Verdict::Never, text)
    }

    pub(super) fn deadline(message: &FedoraMessage) -> Self {
        let text = given_up("its deadline passed", message);
        Self::new(names::REASON_DEADLINE, Verdict::Never, text)
    }

    pub(super) fn exhausted(message: &FedoraMessage) -> Self {
        let attempts = message.status.as_ref().map_or(0, |status| status.attempts);
        let text = given_up(&format!("it failed {attempts} times"), message);
        Self::new(names::REASON_EXHAUSTED, Verdict::Never, text)
    }
}

/// Says why it was given up, and what the last fault was.
fn given_up(why: &str, message: &FedoraMessage) -> String {
    let mut text = format!("The message was given up: {why}");
    if let Some(last) = sent_condition(message) {
        for part in ["; last: ", &last.reason, ": ", &last.message] {
            text.push_str(part);
        }
    }
    text
}

/// Where a message stands.
pub(super) enum Progress<'a> {
    /// Sent, or given up, at a time.
    Over { at: Option<Timestamp> },
    /// Never tried, but it carries the id of a sent message: a copy of its resource, which came without the status.
    Copy { at: Option<Timestamp>, id: &'a str },
    /// Sent, and the spec changed since.
    Drifted,
    /// Neither.
    Open,
}

/// Whether the status is about the message that the spec has now. Before a first attempt every change makes another one; after it
/// only a change of what is sent does.
pub(super) fn current(message: &FedoraMessage) -> bool {
    let Some(status) = &message.status else {
        return false;
    };
    match &status.spec_hash {
        Some(hash) => *hash == spec_hash(message),
        None => status.observed_generation == message.metadata.generation,
    }
}

/// Tells one message from another by what is sent, where to and as whom.
fn spec_hash(message: &FedoraMessage) -> String {
    let spec = &message.spec;
    let told = json!([spec.env, spec.message, spec.authentication.secret()]);
    let digest = Sha256::digest(told.to_string());
    digest
        .iter()
        .take(16)
        .fold(String::new(), |mut text, byte| {
            // A String takes everything that is written to it.
            write!(text, "{byte:02x}").ok();
            text
        })
}

/// The status of a message that is over, for a generation that changed nothing of it.
pub(super) fn seen(message: &FedoraMessage) -> Option<FedoraMessageStatus> {
    let generation = message.metadata.generation;
    let mut status = message.status.clone()?;
    if status.observed_generation == generation {
        return None;
    }
    status.observed_generation = generation;
    for condition in &mut status.conditions {
        condition.observed_generation = generation;
    }
    Some(status)
}

pub(super) fn progress(message: &FedoraMessage) -> Progress<'_> {
    let none = FedoraMessageStatus::default();
    let status = message.status.as_ref().unwrap_or(&none);
    let at = status.completion_time.as_ref().map(|time| time.0);
    let current = current(message);
    if is_sent(message) {
        return if current {
            Progress::Over { at }
        } else {
            Progress::Drifted
        };
    }
    if let Some(id) = mark(message).filter(|_| status.attempts == 0) {
        return Progress::Copy { at, id };
    }
    if current && at.is_some() && !is_freed(message) {
        Progress::Over { at }
    } else {
        Progress::Open
    }
}

/// The id of a sent message that the resource carries.
fn mark(message: &FedoraMessage) -> Option<&str> {
    let notes = message.metadata.annotations.as_ref()?;
    notes.get(names::SENT_ID_ANNOTATION).map(String::as_str)
}

/// Whether it was held back as a copy, and somebody took away what made it one.
fn is_freed(message: &FedoraMessage) -> bool {
    reason(message) == Some(names::REASON_NOT_SENT_AGAIN) && mark(message).is_none()
}

/// Whether a success is written down.
pub(super) fn is_sent(message: &FedoraMessage) -> bool {
    let status = message.status.as_ref();
    status.is_some_and(|status| conditions::is_true(&status.conditions, names::SENT))
}

fn sent_condition(message: &FedoraMessage) -> Option<&Condition> {
    conditions::find(&message.status.as_ref()?.conditions, names::SENT)
}

/// The reason of the condition.
pub(super) fn reason(message: &FedoraMessage) -> Option<&str> {
    sent_condition(message).map(|condition| condition.reason.as_str())
}

/// The status before an attempt.
pub(super) fn begun(
    message: &FedoraMessage,
    outgoing: &Outgoing,
    sent_at: Timestamp,
    now: Timestamp,
) -> FedoraMessageStatus {
    let mut status = of_this_generation(message);
    if reason(message) == Some(names::REASON_PENDING) && status.attempts > 0 {
        status.uncertain_attempts += 1;
    }
    status.attempts += 1;
    status.spec_hash = Some(spec_hash(message));
    status.message_id = Some(outgoing.message_id.clone());
    status.sent_at = Some(Time(sent_at));
    status.topic = Some(outgoing.routing_key.clone());
    status.last_attempt_time = Some(Time(now));
    say(
        message,
        &mut status,
        Status::Unknown,
        names::REASON_PENDING,
        "The message is being sent",
        now,
    );
    status
}

/// The status after a success.
pub(super) fn sent(message: &FedoraMessage, now: Timestamp) -> FedoraMessageStatus {
    let mut status = of_this_generation(message);
    status.completion_time = Some(Time(now));
    say(
        message,
        &mut status,
        Status::True,
        names::REASON_SENT,
        names::MESSAGE_SENT,
        now,
    );
    status
}

/// The status after a fault that is not the end of an attempt. The end of one that was begun before is lost with it.
pub(super) fn settle(
    message: &FedoraMessage,
    fault: &Fault,
    now: Timestamp,
) -> FedoraMessageStatus {
    failed(message, fault, super::interrupted(message), now)
}

/// The status after an attempt that failed.
pub(super) fn write(message: &FedoraMessage, fault: &Fault, now: Timestamp) -> FedoraMessageStatus {
    // Where one queue took no more, another may have taken it.
    let in_doubt = fault.verdict == Verdict::Again || fault.reason == names::REASON_REJECTED;
    failed(message, fault, in_doubt, now)
}

fn failed(
    message: &FedoraMessage,
    fault: &Fault,
    in_doubt: bool,
    now: Timestamp,
) -> FedoraMessageStatus {
    let mut status = of_this_generation(message);
    status.uncertain_attempts += u32::from(in_doubt);
    let mut text = fault.text.clone();
    if fault.verdict == Verdict::Never && status.completion_time.is_none() {
        status.completion_time = Some(Time(now));
        if status.uncertain_attempts > 0 {
            text.push_str("; an attempt was not confirmed, so it may have been delivered");
        }
    }
    let holds = match fault.verdict {
        Verdict::Again | Verdict::Wanted => Status::Unknown,
        Verdict::Never | Verdict::AfterChange | Verdict::Later => Status::False,
    };
    say(message, &mut status, holds, fault.reason, &text, now);
    status
}

/// The id of a sent message whose resource does not carry it yet: copies of the resource are known by it.
pub(super) fn unmarked(message: &FedoraMessage) -> Option<&str> {
    let status = message.status.as_ref()?;
    let id = status.message_id.as_deref();
    id.filter(|_| is_sent(message) && mark(message).is_none())
}

/// The status of a sent message whose spec is another one now.
pub(super) fn drifted(message: &FedoraMessage, now: Timestamp) -> FedoraMessageStatus {
    let mut status = message.status.clone().unwrap_or_default();
    let text = "The spec changed after the message was sent; a message is sent once, so make a new resource for another one";
    let drift = condition(
        names::SPEC_DRIFT,
        Status::True,
        names::REASON_CHANGED_AFTER_SENT,
        text,
        message.metadata.generation,
        &Time(now),
    );
    conditions::set(&mut status.conditions, drift);
    status
}

/// What the status says of this generation; counters and ids of another one are not this one's.
fn of_this_generation(message: &FedoraMessage) -> FedoraMessageStatus {
    let old = message.status.clone().unwrap_or_default();
    if current(message) && !is_freed(message) {
        return old;
    }
    FedoraMessageStatus {
        conditions: old.conditions,
        ..FedoraMessageStatus::default()
    }
}

/// Says it as a condition, and in the flat form of the proposal.
fn say(
    message: &FedoraMessage,
    status: &mut FedoraMessageStatus,
    holds: Status,
    reason: &str,
    text: &str,
    now: Timestamp,
) {
    let generation = message.metadata.generation;
    let said = condition(names::SENT, holds, reason, text, generation, &Time(now));
    status.type_ = Some(names::SENT.to_owned());
    status.status = Some(holds == Status::True);
    status.reason = Some(said.reason.clone());
    status.message = Some(said.message.clone());
    status.observed_generation = generation;
    conditions::set(&mut status.conditions, said);
}
