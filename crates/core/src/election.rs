//! Who of several copies of a process leads: the decisions of leader election on a Lease of the API (coordination.k8s.io/v1), as
//! client-go takes them (k8s.io/client-go/tools/leaderelection), so that any copy may be of either kind.
//!
//! Clocks of different machines are never compared. A candidate counts, on its own clock, how long the lease has not changed, and
//! takes it after the whole duration. A leader counts from the moment *before* it sent the write that was taken, and stops after a
//! shorter time. So two lead at once only if one clock runs faster than another by the ratio of the two times.

use std::time::Duration;

use jiff::Timestamp;

/// How patient everybody is. All candidates for one lease must have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A lease that did not change for so long may be taken.
    pub lease: Duration,
    /// A leader whose last renewal is so old stops.
    pub renew: Duration,
    /// Time between two looks, and between two renewals.
    pub retry: Duration,
}

impl Default for Timing {
    /// What OCM's controllers have (openshift/library-go: pkg/config/leaderelection): the API may be away for a minute.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(137),
            renew: Duration::from_secs(107),
            retry: Duration::from_secs(26),
        }
    }
}

/// Why times cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTiming {
    /// See the text.
    #[error(
        "a leader must stop before its lease can be taken: the time to renew ({renew:?}) must be at most 4/5 of the lease ({lease:?})"
    )]
    Overlap {
        /// [`Timing::lease`].
        lease: Duration,
        /// [`Timing::renew`].
        renew: Duration,
    },
    /// See the text.
    #[error(
        "the time between tries ({retry:?}) must be above zero, and two of them within the time to renew ({renew:?})"
    )]
    Rare {
        /// [`Timing::retry`].
        retry: Duration,
        /// [`Timing::renew`].
        renew: Duration,
    },
    /// See the text.
    #[error("a lease of {0:?} is no whole number of seconds between 1 and 3600")]
    Seconds(Duration),
}

impl Timing {
    /// Checked times.
    ///
    /// # Errors
    /// When two could lead at once, or nobody for long.
    pub fn new(lease: Duration, renew: Duration, retry: Duration) -> Result<Self, BadTiming> {
        if lease.subsec_nanos() != 0 || !(1..=3600).contains(&lease.as_secs()) {
            return Err(BadTiming::Seconds(lease));
        }
        if renew > lease.mul_f64(0.8) {
            return Err(BadTiming::Overlap { lease, renew });
        }
        if retry.is_zero() || retry * 2 > renew {
            return Err(BadTiming::Rare { retry, renew });
        }
        Ok(Self {
            lease,
            renew,
            retry,
        })
    }
}

/// What a lease says (spec of coordination.k8s.io/v1 Lease).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who leads; empty: nobody.
    pub holder: String,
    /// How long the holder wants to be waited for.
    pub seconds: i32,
    /// Since when it leads, by its clock. For people.
    pub acquired: Option<Timestamp>,
    /// When it renewed, by its clock. For people.
    pub renewed: Option<Timestamp>,
    /// How often the holder changed.
    pub transitions: i32,
}

/// A lease as the API has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it says.
    pub record: Record,
    /// Its resource version: a write must name it, and fails when somebody else wrote.
    pub version: String,
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Create the lease; fails when it is there.
    Create(Record),
    /// Replace what it says; fails when its version is another one.
    Replace(Record, String),
    /// Nothing yet.
    Wait,
}

/// The lease as it was last, and since when (own clock).
#[derive(Clone, Debug)]
struct Known {
    seen: Seen,
    since: Duration,
}

/// One of those who would lead. Times are of its own clock, which must never go back and has any beginning.
#[derive(Clone, Debug)]
pub struct Candidate {
    me: String,
    timing: Timing,
    known: Option<Known>,
    /// Until when it leads, if nothing more is taken.
    until: Option<Duration>,
}

impl Candidate {
    /// A candidate with a name that no other has.
    pub fn new(me: impl Into<String>, timing: Timing) -> Self {
        Self {
            me: me.into(),
            timing,
            known: None,
            until: None,
        }
    }

    /// Its name.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// The name of who leads, as far as this candidate knows; empty: nobody.
    pub fn leader(&self) -> &str {
        self.known
            .as_ref()
            .map_or("", |known| known.seen.record.holder.as_str())
    }

    /// Until when it leads.
    pub fn leads_until(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| now < *until)
    }

    /// Decides from the lease as it was read at `now`; `clock` is the time of day, for people. Whoever does what was decided says so
    /// by [`Self::written`].
    pub fn decide(&mut self, seen: Option<Seen>, now: Duration, clock: Timestamp) -> Act {
        let Some(seen) = seen else {
            // Somebody deleted it: whoever led is not bound to stop before its time.
            let gone = self.known.take();
            if let Some(gone) =
                gone.filter(|gone| gone.seen.record.holder != self.me && !self.free(gone, now))
            {
                self.known = Some(gone);
                return Act::Wait;
            }
            return Act::Create(self.record(None, clock));
        };
        let same = self.known.as_ref().is_some_and(|known| known.seen == seen);
        if !same {
            self.known = Some(Known { seen, since: now });
        }
        let Some(known) = &self.known else {
            return Act::Wait;
        };
        let holder = known.seen.record.holder.as_str();
        if holder != self.me {
            // Another one holds it: whatever was thought before, this one does not lead.
            self.until = None;
            if !self.free(known, now) {
                return Act::Wait;
            }
        }
        let record = self.record(Some(&known.seen.record), clock);
        Act::Replace(record, known.seen.version.clone())
    }

    /// The write that was decided was taken; it was sent at `sent`.
    pub fn written(&mut self, now_seen: Seen, sent: Duration, now: Duration) {
        if now_seen.record.holder == self.me {
            self.until = Some(sent + self.timing.renew);
        }
        self.known = Some(Known {
            seen: now_seen,
            since: now,
        });
    }

    /// It stops leading, whatever the lease says.
    pub fn resign(&mut self) {
        self.until = None;
    }

    /// How to give the lease up, once everything that only a leader does has stopped. The next may take it at once.
    pub fn release(&mut self, clock: Timestamp) -> Option<Act> {
        self.until = None;
        let known = self.known.as_ref()?;
        if known.seen.record.holder != self.me {
            return None;
        }
        let record = Record {
            holder: String::new(),
            seconds: 1,
            acquired: Some(clock),
            renewed: Some(clock),
            transitions: known.seen.record.transitions,
        };
        Some(Act::Replace(record, known.seen.version.clone()))
    }

    fn free(&self, known: &Known, now: Duration) -> bool {
        // The times of the lease are those of its holder, which may be patient for longer.
        let seconds = u64::try_from(known.seen.record.seconds).unwrap_or(0);
        let lease = self.timing.lease.max(Duration::from_secs(seconds));
        known.seen.record.holder.is_empty() || now >= known.since + lease
    }

    fn record(&self, before: Option<&Record>, clock: Timestamp) -> Record {
        let seconds = i32::try_from(self.timing.lease.as_secs()).unwrap_or(i32::MAX);
        let same = before.filter(|before| before.holder == self.me);
        let transitions = before.map_or(0, |before| before.transitions);
        Record {
            holder: self.me.clone(),
            seconds,
            acquired: same.and_then(|same| same.acquired).or(Some(clock)),
            renewed: Some(clock),
            transitions: if before.is_some() && same.is_none() {
                transitions.saturating_add(1)
            } else {
                transitions
            },
        }
    }
}

#[cfg(test)]
mod tests;
