//! The one controller loop: take a key, let somebody make it so, come back when told to.

use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::queue::WorkQueue;

/// What a round says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing to do until something changes.
    OnChange,
    /// Look again after this time even if nothing changes.
    After(Duration),
}

/// Runs `reconcile` for each key of the queue, at most `workers` at a time, never two of one key,
/// until `cancel`. A failed key is retried later and later; the failure is logged with the key.
///
/// # Cancel safety
/// On `cancel` the rounds that run are dropped where they wait: reconcilers must be level-triggered. Their keys go back to the queue,
/// for whoever takes from it next.
pub async fn run<K, E, F, R>(
    name: &'static str,
    queue: Arc<WorkQueue<K>>,
    workers: usize,
    cancel: CancellationToken,
    reconcile: F,
) where
    K: Clone + Eq + Hash + Display,
    E: Display,
    F: Fn(K) -> R,
    R: Future<Output = Result<Next, E>>,
{
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            key = queue.next(), if running.len() < workers => {
                let round = reconcile(key.clone());
                let taken = Taken { queue: &queue, key };
                running.push(async move { (taken, round.await) });
            }
            Some((taken, outcome)) = running.next(), if !running.is_empty() => {
                settle(name, &queue, &taken.key, outcome);
                // It is settled already.
                drop(taken);
            }
        }
    }
}

/// A key that is worked on; it goes back to the queue if nobody settles it.
struct Taken<'a, K: Clone + Eq + Hash> {
    queue: &'a WorkQueue<K>,
    key: K,
}

impl<K: Clone + Eq + Hash> Drop for Taken<'_, K> {
    fn drop(&mut self) {
        self.queue.put_back(&self.key);
    }
}

fn settle<K: Clone + Eq + Hash + Display, E: Display>(
    name: &str,
    queue: &WorkQueue<K>,
    key: &K,
    outcome: Result<Next, E>,
) {
    match outcome {
        Ok(next) => {
            queue.done(key);
            if let Next::After(delay) = next {
                queue.add_after(key.clone(), delay);
            }
        }
        Err(error) => {
            let delay = queue.failed(key);
            // The first seconds of a race heal by themselves; what lasts deserves attention.
            if delay >= Duration::from_secs(1) {
                tracing::warn!(controller = name, %key, retry_in = ?delay, "{error}");
            } else {
                tracing::debug!(controller = name, %key, retry_in = ?delay, "{error}");
            }
        }
    }
}
