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
    let enough = cancel.clone();
    run_and_drain(name, queue, workers, enough, cancel, reconcile).await;
}

/// As [`run`], but begins nothing after `enough`, and lets the rounds that run end by themselves until `cut`.
pub async fn run_and_drain<K, E, F, R>(
    name: &'static str,
    queue: Arc<WorkQueue<K>>,
    workers: usize,
    enough: CancellationToken,
    cut: CancellationToken,
    reconcile: F,
) where
    K: Clone + Eq + Hash + Display,
    E: Display,
    F: Fn(K) -> R,
    R: Future<Output = Result<Next, E>>,
{
    let mut running = FuturesUnordered::new();
    let mut draining = false;
    while !(cut.is_cancelled() || draining && running.is_empty()) {
        tokio::select! {
            () = cut.cancelled() => return,
            () = enough.cancelled(), if !draining => draining = true,
            key = queue.next(), if !draining && running.len() < workers => {
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::Notify;

    use super::*;

    /// One round that waits, with a second key behind it; what is left in the queue when the loop has ended.
    async fn ended(
        end: impl AsyncFnOnce(CancellationToken, CancellationToken, Arc<Notify>),
    ) -> usize {
        let queue = Arc::new(WorkQueue::new());
        queue.add("first");
        queue.add("second");
        let (enough, cut) = (CancellationToken::new(), CancellationToken::new());
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let work = run_and_drain(
            "one",
            queue.clone(),
            1,
            enough.clone(),
            cut.clone(),
            |_| async {
                begun.notify_one();
                go.notified().await;
                Ok::<_, Infallible>(Next::OnChange)
            },
        );
        let ending = async {
            begun.notified().await;
            end(enough.clone(), cut.clone(), go.clone()).await;
        };
        tokio::join!(work, ending);
        queue.len()
    }

    #[tokio::test]
    async fn a_round_that_runs_may_end_and_none_begins() {
        let left = ended(async |enough, _, go| {
            enough.cancel();
            tokio::task::yield_now().await;
            go.notify_one();
        })
        .await;
        assert_eq!(left, 1, "only the key that was never taken");
    }

    #[tokio::test]
    async fn a_round_that_is_cut_gives_its_key_back() {
        let left = ended(async |enough, cut, _| {
            enough.cancel();
            cut.cancel();
        })
        .await;
        assert_eq!(left, 2);
    }
}
