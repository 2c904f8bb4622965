//! What is told of a status that was written, for people who look at a message with `kubectl describe`.

use drover_api::fedora::v1alpha1::{FedoraMessage, FedoraMessageStatus};
use drover_api::names::fedora as names;

use super::retry::{deadline, max_attempts, not_before};

/// An attempt begins that is not the first.
const SENDING: &str = "Sending";
/// An attempt failed, and there will be another.
const RETRY_SCHEDULED: &str = "RetryScheduled";
/// Nothing is tried any more, or not in this environment.
const SEND_FAILED: &str = "SendFailed";
/// The secret is missing, incomplete, unusable or not allowed.
const SECRET_UNAVAILABLE: &str = "SecretUnavailable";
/// The deadline passed.
const EXPIRED: &str = "Expired";

const OF_SECRETS: [&str; 4] = [
    names::REASON_SECRET_NOT_FOUND,
    names::REASON_SECRET_KEY_MISSING,
    names::REASON_SECRET_INVALID,
    names::REASON_SECRET_NOT_PERMITTED,
];

/// An Event of Kubernetes, before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub reason: &'static str,
    /// Whether somebody should look.
    pub warning: bool,
    /// Whether the same may be told again of the same message; what says a time or an attempt is new each time.
    pub repeats: bool,
    /// For people.
    pub note: String,
}

/// What to tell of the status that `message` has now, and had not `before`. A message that is sent at the first attempt is told of
/// once.
pub fn notice(before: Option<&FedoraMessageStatus>, message: &FedoraMessage) -> Option<Notice> {
    let status = message.status.as_ref()?;
    let reason = status.reason.as_deref()?;
    let same = |before: &FedoraMessageStatus| {
        before.reason.as_deref() == Some(reason)
            && before.attempts == status.attempts
            && before.message == status.message
    };
    if before.is_some_and(same) {
        return None;
    }
    let text = status.message.as_deref().unwrap_or_default();
    let why = format!("{reason}: {text}");
    let id = status.message_id.as_deref().unwrap_or_default();
    let topic = status.topic.as_deref().unwrap_or_default();
    let attempts = status.attempts;
    let notice = match reason {
        names::REASON_PENDING => return begins(message, status),
        names::REASON_SENT => normal(names::REASON_SENT, format!("{text}: {id} to {topic}")),
        names::REASON_NOT_SENT_AGAIN => normal(names::REASON_NOT_SENT_AGAIN, text.to_owned()),
        names::REASON_SUSPENDED => repeated(normal(names::REASON_SUSPENDED, text.to_owned())),
        names::REASON_DEADLINE => warning(EXPIRED, text.to_owned()),
        reason if OF_SECRETS.contains(&reason) && status.completion_time.is_none() => {
            let end = deadline(message);
            let note = format!("{why}; it is looked at again and again until {end:.0}");
            repeated(warning(SECRET_UNAVAILABLE, note))
        }
        names::REASON_UNSUPPORTED_ENVIRONMENT => repeated(warning(SEND_FAILED, why)),
        _ if status.completion_time.is_some() => warning(SEND_FAILED, why),
        _ => {
            let most = max_attempts(message);
            let at = not_before(message).filter(|at| *at < deadline(message));
            // Where there is no other attempt, the message is given up next, which is told then.
            let at = at.filter(|_| attempts < most)?;
            let next = attempts + 1;
            let note = format!("attempt {next} of {most} at {at:.0}, after {why}");
            warning(RETRY_SCHEDULED, note)
        }
    };
    Some(notice)
}

fn begins(message: &FedoraMessage, status: &FedoraMessageStatus) -> Option<Notice> {
    let (attempts, most) = (status.attempts, max_attempts(message));
    if attempts < 2 {
        return None;
    }
    let doubt = if status.uncertain_attempts > 0 {
        "; it may have arrived already, and carries the same id"
    } else {
        ""
    };
    Some(normal(
        SENDING,
        format!("attempt {attempts} of {most} begins{doubt}"),
    ))
}

fn normal(reason: &'static str, note: String) -> Notice {
    Notice {
        reason,
        warning: false,
        repeats: false,
        note,
    }
}

fn warning(reason: &'static str, note: String) -> Notice {
    Notice {
        warning: true,
        ..normal(reason, note)
    }
}

fn repeated(notice: Notice) -> Notice {
    Notice {
        repeats: true,
        ..notice
    }
}
