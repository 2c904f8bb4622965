//! What becomes of AppliedManifestWorks whose work is gone: they stay for a grace period, then they and their objects go.

use drover_api::{Time, work::v1::AppliedManifestWork};
use std::time::Duration;

/// How long objects stay after their work was last seen (ocm, pkg/work/spoke `AppliedManifestWorkEvictionGracePeriod`).
pub const DEFAULT_GRACE: Duration = Duration::from_hours(1);

/// What to do with one AppliedManifestWork.
#[derive(Clone, Debug, PartialEq)]
pub enum Eviction {
    /// Nothing.
    Keep,
    /// Record in the status that its work is missing since `now`.
    Stamp(Time),
    /// Remove the record: its work is back.
    Clear,
    /// Look again after this time.
    Wait(Duration),
    /// Delete it.
    Evict,
}

/// Decides about one AppliedManifestWork of this agent. `grace` is absent when nothing is ever evicted.
///
/// `wanted` tells whether its work exists on the hub that the agent follows; it is never so for one of another hub.
pub fn decide(
    applied: &AppliedManifestWork,
    wanted: bool,
    grace: Option<Duration>,
    now: &Time,
) -> Eviction {
    let since = applied
        .status
        .as_ref()
        .and_then(|status| status.eviction_start_time.as_ref());
    if applied.metadata.deletion_timestamp.is_some() {
        return Eviction::Keep;
    }
    match (wanted, since, grace) {
        (true, Some(_), _) | (_, Some(_), None) => Eviction::Clear,
        (_, None, None) | (true, None, _) => Eviction::Keep,
        (false, None, Some(_)) => Eviction::Stamp(now.clone()),
        // A start in the future: another clock wrote it, or this one was set back.
        (false, Some(since), Some(_)) if since.0 > now.0 => Eviction::Stamp(now.clone()),
        (false, Some(since), Some(grace)) => {
            let gone = Duration::try_from(now.0.duration_since(since.0)).unwrap_or_default();
            if gone >= grace {
                Eviction::Evict
            } else {
                Eviction::Wait(grace.saturating_sub(gone))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_api::work::v1::AppliedManifestWorkStatus;

    #[test]
    fn what_is_unwanted_goes_after_the_grace() {
        let at =
            |second| Time(jiff::Timestamp::from_second(second).expect("small seconds are valid"));
        let applied = |since: Option<i64>| {
            let status = AppliedManifestWorkStatus {
                eviction_start_time: since.map(at),
                ..AppliedManifestWorkStatus::default()
            };
            AppliedManifestWork {
                status: Some(status),
                ..AppliedManifestWork::default()
            }
        };
        let check = |since, wanted, grace: Option<u64>, now, expected| {
            assert_eq!(
                decide(
                    &applied(since),
                    wanted,
                    grace.map(Duration::from_secs),
                    &at(now)
                ),
                expected,
                "{since:?} {wanted} {now}"
            );
        };
        check(None, true, Some(60), 100, Eviction::Keep);
        check(None, false, Some(60), 100, Eviction::Stamp(at(100)));
        check(
            Some(100),
            false,
            Some(60),
            110,
            Eviction::Wait(Duration::from_secs(50)),
        );
        check(Some(100), false, Some(60), 90, Eviction::Stamp(at(90)));
        check(Some(100), false, Some(60), 160, Eviction::Evict);
        check(Some(100), true, Some(60), 160, Eviction::Clear);
        check(None, false, None, 1_000_000, Eviction::Keep);
        check(Some(100), false, None, 1_000_000, Eviction::Clear);
    }
}
