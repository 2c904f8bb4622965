//! The queue of a controller: every key at most once, never worked on twice at the same time,
//! failures later and later.
//!
//! The rules are those of client-go's work queue (client-go: util/workqueue): a key that is added
//! while it is worked on is worked on once more afterwards.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The first delay after a failure; each further one doubles it. Source: client-go's default.
const FIRST_DELAY: Duration = Duration::from_millis(5);
/// The longest delay. client-go waits up to 1,000 s; a fleet that heals wants to be seen sooner.
const LONGEST_DELAY: Duration = Duration::from_mins(2);

/// A queue of keys.
#[derive(Debug)]
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    again: HashSet<K>,
    /// Keys that wait for their time, by time and a number that keeps equal times apart.
    delayed: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    number: u64,
}

impl<K> Default for WorkQueue<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                queued: HashSet::new(),
                running: HashSet::new(),
                again: HashSet::new(),
                delayed: BTreeMap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
                number: 0,
            }),
            changed: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        // No code panics while it holds the lock, and the state is valid after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the key soon.
    pub fn add(&self, key: K) {
        self.state().add(key);
        self.changed.notify_one();
    }

    /// Works on the key after a delay, or earlier if something else asks for it.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.state().add_at(key, Instant::now() + delay);
        self.changed.notify_one();
    }

    /// The next key; waits for it. [`Self::done`] or [`Self::failed`] must follow. Cancel safe.
    pub async fn next(&self) -> K {
        loop {
            let changed = self.changed.notified();
            let wake = {
                let mut state = self.state();
                if let Some(key) = state.take(Instant::now()) {
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return key;
                }
                state.delayed.keys().next().map(|(at, _)| *at)
            };
            match wake {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// The key was worked on with success.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        state.failures.remove(key);
        state.finish(key);
        drop(state);
        self.changed.notify_one();
    }

    /// The key was worked on in vain; it comes back after a delay, which is the answer.
    pub fn failed(&self, key: &K) -> Duration {
        let mut state = self.state();
        let count = state.failures.entry(key.clone()).or_insert(0);
        let delay = FIRST_DELAY
            .saturating_mul(1_u32 << (*count).min(20))
            .min(LONGEST_DELAY);
        *count = count.saturating_add(1);
        state.finish(key);
        state.add_at(key.clone(), Instant::now() + delay);
        drop(state);
        self.changed.notify_one();
        delay
    }

    /// The key was taken and nobody will say what became of it: somebody else works on it soon. Without effect on a key for which
    /// that was said.
    pub fn put_back(&self, key: &K) {
        let mut state = self.state();
        if state.running.contains(key) {
            state.again.insert(key.clone());
            state.finish(key);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// How many keys wait to be worked on now.
    pub fn len(&self) -> usize {
        self.state().ready.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if let Some(place) = self.due.remove(&key) {
            self.delayed.remove(&place);
        }
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if self.queued.contains(&key) {
            return;
        }
        if let Some(place) = self.due.get(&key).copied() {
            if place.0 <= at {
                return;
            }
            self.delayed.remove(&place);
        }
        self.number += 1;
        self.due.insert(key.clone(), (at, self.number));
        self.delayed.insert((at, self.number), key);
    }

    fn take(&mut self, now: Instant) -> Option<K> {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    fn finish(&mut self, key: &K) {
        self.running.remove(key);
        if self.again.remove(key) {
            self.add(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_queued_once_and_again_when_added_while_running() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(queue.is_empty(), "a running key is not handed out twice");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_success_forgets_them() {
        let queue = WorkQueue::new();
        let mut waits = Vec::new();
        queue.add(1);
        for _ in 0..4 {
            assert_eq!(queue.next().await, 1);
            waits.push(queue.failed(&1).as_millis());
        }
        assert_eq!(waits, [5, 10, 20, 40]);
        assert_eq!(queue.next().await, 1);
        queue.done(&1);
        queue.add(1);
        queue.next().await;
        assert_eq!(queue.failed(&1), FIRST_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_times_counts() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("late", Duration::from_secs(9));
        queue.add_after("late", Duration::from_secs(2));
        queue.add_after("late", Duration::from_secs(5));
        assert_eq!(queue.next().await, "late");
        assert_eq!(start.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_during_a_failed_round_does_not_wait_for_the_backoff() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        for _ in 0..12 {
            queue.add("k");
            queue.next().await;
            queue.failed(&"k");
        }
        queue.next().await;
        queue.add("k");
        queue.failed(&"k");
        let before = start.elapsed();
        assert_eq!(queue.next().await, "k");
        assert_eq!(start.elapsed(), before);
    }
}
