//! A token bucket.

use std::time::Duration;

use tokio::time::Instant;

/// How many events a client sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Events per second in the long run.
    pub per_second: f64,
    /// Events at once.
    pub burst: u32,
}

impl Default for RateLimit {
    /// What the Go clients allow themselves.
    fn default() -> Self {
        Self {
            per_second: 50.0,
            burst: 100,
        }
    }
}

pub(crate) struct Bucket {
    limit: Option<RateLimit>,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(limit: Option<RateLimit>, now: Instant) -> Self {
        Self {
            limit,
            tokens: limit.map_or(0.0, |limit| f64::from(limit.burst.max(1))),
            at: now,
        }
    }

    /// Takes one, or says when there will be one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let rate = limit.per_second.max(0.001);
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(f64::from(limit.burst.max(1)));
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.tokens) / rate))
    }

    /// Gives one back that was not used.
    pub(crate) fn put_back(&mut self) {
        self.tokens += 1.0;
    }
}
