//! When the certificates of the webhook server are renewed.
//!
//! All replicas of a hub share one serving certificate and the authorities that sign it. A new authority
//! first becomes known to the API server beside the old one, and signs only after a while; the old one is
//! forgotten a while after nobody shows anything of it any more. So a connection is refused at no moment,
//! whichever replica answers and whatever its copy of the certificates.

use jiff::{SignedDuration, Timestamp};

/// How long things live. What has a third of its life left is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// An authority.
    pub authority: SignedDuration,
    /// A serving certificate.
    pub serving: SignedDuration,
    /// Until everybody has seen a change: API servers their configuration, replicas their certificate.
    pub settle: SignedDuration,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            authority: SignedDuration::from_hours(24 * 365 * 2),
            serving: SignedDuration::from_hours(24 * 90),
            settle: SignedDuration::from_hours(1),
        }
    }
}

/// From when until when a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

impl Period {
    /// Whether more than two thirds of it are over.
    fn is_old(self, now: Timestamp) -> bool {
        let whole = self.until.duration_since(self.from);
        self.until.duration_since(now) < whole / 3
    }
}

/// An authority that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority {
    /// How long it counts.
    pub period: Period,
    /// Whether every webhook that the API knows trusts it.
    pub trusted: bool,
}

/// The serving certificate that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// How long it counts.
    pub period: Period,
    /// Which of the authorities signed it; `None` when it is none of them.
    pub issuer: Option<usize>,
    /// Whether it has the names under which the server is called.
    pub named: bool,
}

/// The next thing to do; then look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add an authority behind the others.
    AddAuthority,
    /// Let go of this authority.
    Forget(usize),
    /// Sign a new serving certificate with this authority.
    Sign(usize),
}

/// What is to be done with the authorities, oldest first, and the serving certificate; `None` when nothing is.
pub fn plan(
    authorities: &[Authority],
    serving: Option<Serving>,
    lives: &Lives,
    now: Timestamp,
) -> Option<Step> {
    if let Some(over) = authorities.iter().position(|one| one.period.until <= now) {
        return Some(Step::Forget(over));
    }
    let Some(newest) = authorities.last() else {
        return Some(Step::AddAuthority);
    };
    if newest.period.is_old(now) {
        return Some(Step::AddAuthority);
    }
    let settled =
        |one: &Authority| one.trusted && now.duration_since(one.period.from) >= lives.settle;
    let signer = authorities.iter().rposition(settled).unwrap_or(0);
    let good = serving.filter(|serving| serving.named && !serving.period.is_old(now));
    let issuer = good
        .and_then(|serving| serving.issuer)
        .filter(|&issuer| issuer >= signer);
    let (Some(issuer), Some(serving)) = (issuer, good) else {
        return Some(Step::Sign(signer));
    };
    let shown = now.duration_since(serving.period.from) >= lives.settle;
    (issuer > 0 && shown).then_some(Step::Forget(0))
}

#[cfg(test)]
mod tests;
