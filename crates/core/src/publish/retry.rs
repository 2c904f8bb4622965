//! When an attempt may be made, and when none is made any more.

use drover_api::fedora::v1alpha1::FedoraMessage;
use drover_api::names::fedora as names;
use jiff::{SignedDuration, Timestamp};

use super::status::{current, reason};

/// Until when it is tried where the spec does not say, from the creation on.
const DEADLINE_SECONDS: u32 = 3600;
/// How often it is tried where the spec does not say.
const MAX_ATTEMPTS: u32 = 5;
/// The wait after the first attempt; each further one doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(5);
/// The longest wait.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(5);

/// What somebody must change first: there is no hurry.
const SLOW: [&str; 2] = [names::REASON_TLS_FAILED, names::REASON_LOGIN_REFUSED];

/// The end of all attempts.
pub fn deadline(message: &FedoraMessage) -> Timestamp {
    let created = message.metadata.creation_timestamp.as_ref();
    let created = created.map_or(Timestamp::MAX, |time| time.0);
    let seconds = message.spec.deadline_seconds.unwrap_or(DEADLINE_SECONDS);
    created
        .saturating_add(SignedDuration::from_secs(i64::from(seconds)))
        .unwrap_or(Timestamp::MAX)
}

/// How often it is tried.
pub(super) fn max_attempts(message: &FedoraMessage) -> u32 {
    message.spec.max_attempts.unwrap_or(MAX_ATTEMPTS)
}

/// The wait after the `attempts`th attempt. Messages that failed together do not come back together: `key` (a uid, say)
/// spreads them over 20 % to either side.
pub fn backoff(attempts: u32, key: &str) -> SignedDuration {
    let doubled = 1_i32
        .checked_shl(attempts.saturating_sub(1).min(16))
        .unwrap_or(i32::MAX);
    let wait = FIRST_WAIT
        .checked_mul(doubled)
        .map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT));
    // FNV-1a: only the spread is asked of it.
    let hash = key
        .bytes()
        .chain(attempts.to_be_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let percent = 80 + i32::try_from(hash % 41).unwrap_or(20);
    wait.checked_mul(percent).map_or(wait, |wait| wait / 100)
}

/// Before when no attempt is made, for this generation.
pub(super) fn not_before(message: &FedoraMessage) -> Option<Timestamp> {
    let status = message.status.as_ref()?;
    if !current(message) || status.attempts == 0 {
        return None;
    }
    let last = status.last_attempt_time.as_ref()?.0;
    let key = message.metadata.uid.as_deref().unwrap_or_default();
    let mut wait = backoff(status.attempts, key);
    if SLOW.contains(&reason(message).unwrap_or_default()) {
        wait = wait
            .checked_mul(4)
            .map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT));
    }
    last.saturating_add(wait).ok()
}

/// Whether this generation was tried often enough. An attempt of which nobody knows the end is made once more, and only once: its
/// end may have been a success that was never written down.
pub(super) fn exhausted(message: &FedoraMessage) -> bool {
    let Some(status) = &message.status else {
        return false;
    };
    let open = reason(message) == Some(names::REASON_PENDING);
    let most = max_attempts(message).saturating_add(u32::from(open));
    current(message) && status.attempts >= most
}
