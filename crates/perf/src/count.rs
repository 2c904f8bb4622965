//! Counts what the application's handler was given, and how old it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use drover_protocol::Work;

use crate::contract::{Command, Reply, mono};
use crate::fixture::STAMP;

/// Without anything new for this long, the rest is taken for lost.
const STILL: Duration = Duration::from_secs(15);
const PATIENCE: f64 = 120.0;

/// A counter that all agents of a process share.
#[derive(Debug, Default)]
pub struct Counter {
    seen: AtomicUsize,
    last: AtomicI64,
    ages: Mutex<Vec<i64>>,
}

impl Counter {
    /// One more object.
    pub fn hit(&self, work: &Work) {
        let sent = work.metadata.annotations.get(STAMP);
        self.hit_since(sent.and_then(|text| text.parse().ok()));
    }

    /// One more object, of an event that was sent at this time.
    pub fn hit_since(&self, sent: Option<i64>) {
        let now = mono();
        if let Some(sent) = sent {
            self.ages().push(now - sent);
        }
        self.last.store(now, Ordering::Relaxed);
        self.seen.fetch_add(1, Ordering::Release);
    }

    /// How many there were.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::Acquire)
    }

    /// Back to nothing.
    pub fn reset(&self) {
        self.seen.store(0, Ordering::Release);
        self.ages().clear();
    }

    /// Waits for `n` objects since the last reset. Tells how many came, so that a loss shows.
    pub async fn wait(&self, command: &Command) -> Reply {
        let patience = if command.timeout_s > 0.0 {
            command.timeout_s
        } else {
            PATIENCE
        };
        let end = Instant::now() + Duration::from_secs_f64(patience);
        let (mut before, mut changed) = (usize::MAX, Instant::now());
        loop {
            let seen = self.seen.load(Ordering::Acquire);
            if seen != before {
                (before, changed) = (seen, Instant::now());
            }
            let stuck = seen > 0 && changed.elapsed() > STILL;
            if seen >= command.n || stuck || Instant::now() > end {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Reply {
            t1: self.last.load(Ordering::Relaxed),
            n: self.seen.load(Ordering::Acquire),
            m: self.quantiles(),
            ..Reply::default()
        }
    }

    fn ages(&self) -> std::sync::MutexGuard<'_, Vec<i64>> {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quantiles(&self) -> BTreeMap<&'static str, f64> {
        let mut ages = self.ages().clone();
        ages.sort_unstable();
        let mut figures = BTreeMap::from([("n", ages.len() as f64)]);
        let Some(oldest) = ages.last() else {
            return figures;
        };
        figures.insert("max_us", *oldest as f64 / 1e3);
        for (name, share) in [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99)] {
            let rank = (ages.len() as f64 * share).ceil() as usize;
            let age = ages.get(rank.saturating_sub(1)).copied();
            figures.insert(name, age.unwrap_or_default() as f64 / 1e3);
        }
        figures
    }
}
