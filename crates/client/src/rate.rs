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

    /// How many may be sent now, at most `wanted`; if fewer, when there will be the next.
    pub(crate) fn allows(&mut self, now: Instant, wanted: usize) -> (usize, Option<Instant>) {
        let Some(limit) = self.limit else {
            return (wanted, None);
        };
        let rate = limit.per_second.max(0.001);
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(f64::from(limit.burst.max(1)));
        self.at = now;
        let allowed = self.tokens.floor() as usize;
        if allowed >= wanted {
            return (wanted, None);
        }
        let missing = (1.0 - self.tokens.fract()) / rate;
        (allowed, Some(now + Duration::from_secs_f64(missing)))
    }

    /// Takes what was sent.
    pub(crate) fn take(&mut self, count: usize) {
        self.tokens -= count as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_so_many_a_second() {
        let limit = RateLimit {
            per_second: 10.0,
            burst: 3,
        };
        let start = Instant::now();
        let mut bucket = Bucket::new(Some(limit), start);
        assert_eq!(bucket.allows(start, 2), (2, None));
        bucket.take(2);
        let (allowed, next) = bucket.allows(start, 5);
        assert_eq!(
            (allowed, next),
            (1, Some(start + Duration::from_millis(100)))
        );
        bucket.take(1);
        let later = start + Duration::from_millis(250);
        assert_eq!(bucket.allows(later, 5).0, 2);
        assert_eq!(bucket.allows(start + Duration::from_hours(1), 5).0, 3);
        assert_eq!(Bucket::new(None, start).allows(start, 5), (5, None));
    }
}
