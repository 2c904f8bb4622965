//! Waits that grow while something fails.

use std::time::Duration;

use rand::Rng as _;

/// Growing waits, each with jitter so that many who failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The first wait is at most `min`, and each further one twice as long, up to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            failures: 0,
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let full = self
            .min
            .saturating_mul(1 << self.failures.min(16))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_again() {
        let (min, max) = (Duration::from_millis(100), Duration::from_millis(300));
        let mut backoff = Backoff::new(min, max);
        for most in [100, 200, 300, 300] {
            let (wait, most) = (backoff.next_wait(), Duration::from_millis(most));
            assert!(most / 2 <= wait && wait <= most, "{wait:?} of {most:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= min);
    }
}
