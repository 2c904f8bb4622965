//! Which of several hubs an agent is at, and when it goes to another (ocm: pkg/registration/spoke, feature MultipleHubs).
//!
//! As upstream, hubs are tried in the order in which they are listed, the one that the agent has a certificate for first;
//! and an agent goes when its hub does not accept it any more or is silent for too long. Beyond upstream:
//!
//! - it stays where it is until another hub is known to take it, so that it is never between two hubs;
//! - the hub that it has a certificate for is tried even when it is not listed any more, with that certificate alone: a list
//!   that leads nowhere loses no cluster, and a cluster that was moved away is not made anew where it came from;
//! - a hub that never lets it finish joining is left again.
//!
//! Nothing is kept but the certificate and the hub that it is for: a restart at any point decides the same again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Standing;

/// How long a hub may be silent before the agent looks for another one (api: `HubConnectionTimeoutSeconds`).
pub const DEFAULT_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);
/// A hub that was just joined may be silent (ocm: `hubTimeoutController`: old leases).
const SETTLE: SignedDuration = SignedDuration::from_secs(10);
/// How long the outcome of a try counts.
const TRY_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// What came of a try to join a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The hub does not know the cluster, and lets the agent ask.
    Absent,
    /// The hub knows and accepts the cluster.
    Accepted,
    /// The hub knows the cluster; nobody there decided yet.
    Undecided,
    /// The hub does not want the cluster.
    Denied,
    /// The hub does not let the agent ask.
    Refused,
    /// The hub did not answer.
    Unreachable,
}

impl Verdict {
    /// Whether the hub takes the agent (ocm: `checkBootstrapKubeConfigValid`).
    fn is_good(self) -> bool {
        matches!(self, Self::Absent | Self::Accepted)
    }
}

/// Where the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<'a> {
    /// Address of the hub.
    pub hub: &'a str,
    /// Since when.
    pub since: Timestamp,
    /// Where it stands there.
    pub standing: Standing,
    /// Whether it has a certificate of this hub.
    pub certified: bool,
    /// When the hub was last heard of.
    pub heard: Timestamp,
}

/// What is known.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// Addresses of the hubs to join, in order.
    pub listed: &'a [String],
    /// The hub that the agent has a certificate for which is not over yet.
    pub kept: Option<&'a str>,
    /// Where it is.
    pub at: Option<At<'a>>,
    /// The outcomes of tries, and when they were.
    pub verdicts: &'a BTreeMap<String, (Verdict, Timestamp)>,
    /// How long a hub may be silent.
    pub timeout: SignedDuration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// See whether this hub takes the agent.
    Try(String),
    /// Leave where it is, if anywhere, and join this hub.
    Go {
        /// The hub.
        hub: String,
        /// Why.
        why: &'static str,
    },
    /// Nothing before this time, or before something changes.
    Wait(Timestamp),
}

/// Plans the next step.
pub fn plan(seen: &Seen<'_>, now: Timestamp) -> Step {
    match seen.at {
        None => choose(seen, now),
        Some(at) => stay_or_go(seen, at, now),
    }
}

fn choose(seen: &Seen<'_>, now: Timestamp) -> Step {
    let hubs = candidates(seen);
    let go = |hub: &str, why| Step::Go {
        hub: hub.to_owned(),
        why,
    };
    // Who has no choice waits at the only hub, however long it takes.
    if let [only] = hubs.as_slice() {
        return go(only, "it is the only one");
    }
    let mut undecided = None;
    let mut again = after(now, TRY_AGAIN);
    for hub in hubs {
        match fresh(seen, hub, now) {
            None => return Step::Try(hub.to_owned()),
            Some((verdict, _)) if verdict.is_good() => return go(hub, "it takes the cluster"),
            Some((verdict, at)) => {
                if verdict == Verdict::Undecided && undecided.is_none() {
                    undecided = Some(hub);
                }
                again = again.min(after(at, TRY_AGAIN));
            }
        }
    }
    undecided.map_or(Step::Wait(again), |hub| {
        go(hub, "it may take the cluster, and no other does")
    })
}

fn stay_or_go(seen: &Seen<'_>, at: At<'_>, now: Timestamp) -> Step {
    let others: Vec<&str> = candidates(seen)
        .into_iter()
        .filter(|hub| *hub != at.hub)
        .collect();
    if others.is_empty() {
        return Step::Wait(Timestamp::MAX);
    }
    let silent_at = after(at.heard, seen.timeout).max(after(at.since, SETTLE));
    let stuck_at = after(at.since, seen.timeout);
    let joined = at.certified && at.standing == Standing::Accepted;
    let unlisted = !seen.listed.is_empty() && !seen.listed.iter().any(|hub| hub == at.hub);
    let why = if at.standing == Standing::Denied {
        "the hub does not accept the cluster any more"
    } else if unlisted {
        "the hub is not one of those to join"
    } else if now >= silent_at {
        "the hub is silent"
    } else if !joined && now >= stuck_at {
        "the hub does not let the cluster finish joining"
    } else {
        return Step::Wait(if joined {
            silent_at
        } else {
            silent_at.min(stuck_at)
        });
    };
    let mut again = Timestamp::MAX;
    for hub in others {
        match fresh(seen, hub, now) {
            None => return Step::Try(hub.to_owned()),
            Some((verdict, _)) if verdict.is_good() => {
                return Step::Go {
                    hub: hub.to_owned(),
                    why,
                };
            }
            Some((_, at)) => again = again.min(after(at, TRY_AGAIN)),
        }
    }
    Step::Wait(again)
}

/// All hubs, in the order in which they are tried.
fn candidates<'a>(seen: &Seen<'a>) -> Vec<&'a str> {
    let listed = seen.listed.iter().map(String::as_str);
    let is_kept = |hub: &&str| seen.kept == Some(*hub);
    let mut hubs: Vec<&str> = listed.clone().filter(is_kept).take(1).collect();
    for hub in listed.chain(seen.kept) {
        if !hubs.contains(&hub) {
            hubs.push(hub);
        }
    }
    hubs
}

fn fresh(seen: &Seen<'_>, hub: &str, now: Timestamp) -> Option<(Verdict, Timestamp)> {
    let found = seen.verdicts.get(hub).copied();
    // A time in the future (the clock was set back) counts as now.
    found.filter(|(_, at)| after(*at, TRY_AGAIN) > now && *at <= now)
}

fn after(time: Timestamp, wait: SignedDuration) -> Timestamp {
    time.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
