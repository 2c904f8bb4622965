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
/// On `cancel` the rounds that run are dropped where they wait: reconcilers must be level-triggered.
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
                running.push(async move { (key, round.await) });
            }
            Some((key, outcome)) = running.next(), if !running.is_empty() => {
                settle(name, &queue, &key, outcome);
            }
        }
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
