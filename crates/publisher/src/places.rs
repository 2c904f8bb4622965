//! Places for messages that are being sent: how many at once, how many of them for one team (a namespace, say), and who is next.
//!
//! Whoever gets no place waits in the line of its team, and is woken when it has one. A place that becomes free goes to the team that
//! has the fewest, so that ten thousand messages of one do not keep those of another.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drover_runtime::queue::WorkQueue;

/// The places, by keys `namespace/name` of messages.
pub(crate) struct Places {
    bounds: Bounds,
    state: Mutex<State>,
    queue: Arc<WorkQueue<String>>,
}

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// For all together; further messages wait.
    pub most: usize,
    /// For one team.
    pub share: usize,
}

#[derive(Default)]
struct State {
    claims: HashMap<String, Claim>,
    teams: HashMap<String, Team>,
    held: usize,
    number: u64,
}

/// What a message has.
struct Claim {
    team: String,
    /// Its number in the line of its team; none where it has a place.
    waits: Option<u64>,
    /// Whether the round that works on it asked for the place, or used it.
    asked: bool,
}

#[derive(Default)]
struct Team {
    held: usize,
    line: BTreeMap<u64, String>,
}

impl Places {
    pub(crate) fn new(bounds: Bounds, queue: Arc<WorkQueue<String>>) -> Self {
        Self {
            bounds,
            state: Mutex::default(),
            queue,
        }
    }

    /// Takes a place. Where there is none the message waits for one, and is woken.
    pub(crate) fn enter(&self, key: &str, team: &str) -> bool {
        self.state().enter(key, team, self.bounds)
    }

    /// Takes a place for a pod that was begun before, by another process perhaps.
    pub(crate) fn take_over(&self, key: &str, team: &str) {
        let mut state = self.state();
        if state.claims.get(key).is_some_and(|it| it.waits.is_none()) {
            state.enter(key, team, self.bounds);
            return;
        }
        state.remove(key);
        state.hold(key, team.to_owned(), true);
    }

    /// Gives the place back.
    pub(crate) fn leave(&self, key: &str) {
        let mut state = self.state();
        state.remove(key);
        self.wake(state);
    }

    /// A round is over: what it neither asked for nor used is given back.
    pub(crate) fn settle(&self, key: &str) {
        let mut state = self.state();
        match state.claims.get_mut(key) {
            Some(claim) if claim.asked => claim.asked = false,
            Some(_) => {
                state.remove(key);
                self.wake(state);
            }
            None => {}
        }
    }

    /// A round is over, and whoever needs a place again asks for it again: one that it had is given back, a place in a line is kept.
    pub(crate) fn release(&self, key: &str) {
        let has = |claim: &Claim| claim.waits.is_none() && claim.asked;
        if self.state().claims.get(key).is_some_and(has) {
            self.leave(key);
        } else {
            self.settle(key);
        }
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let next = state.serve(self.bounds);
        drop(state);
        for key in next {
            self.queue.add(key);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, key: &str, name: &str, bounds: Bounds) -> bool {
        if let Some(claim) = self.claims.get_mut(key) {
            claim.asked = true;
            return claim.waits.is_none();
        }
        let team = self.teams.entry(name.to_owned()).or_default();
        // Where there is a place for this team none of it waits: places that become free are given at once.
        if self.held < bounds.most && team.held < bounds.share {
            self.hold(key, name.to_owned(), true);
            return true;
        }
        self.number += 1;
        team.line.insert(self.number, key.to_owned());
        let claim = Claim {
            team: name.to_owned(),
            waits: Some(self.number),
            asked: true,
        };
        self.claims.insert(key.to_owned(), claim);
        false
    }

    fn hold(&mut self, key: &str, team: String, asked: bool) {
        self.held += 1;
        self.teams.entry(team.clone()).or_default().held += 1;
        let claim = Claim {
            team,
            waits: None,
            asked,
        };
        self.claims.insert(key.to_owned(), claim);
    }

    /// Forgets a key; the answer is what it had.
    fn remove(&mut self, key: &str) -> Option<Claim> {
        let claim = self.claims.remove(key)?;
        if claim.waits.is_none() {
            self.held -= 1;
        }
        if let Entry::Occupied(mut found) = self.teams.entry(claim.team.clone()) {
            let team = found.get_mut();
            match claim.waits {
                Some(number) => drop(team.line.remove(&number)),
                None => team.held -= 1,
            }
            if team.held == 0 && team.line.is_empty() {
                found.remove();
            }
        }
        Some(claim)
    }

    /// Gives free places to those who wait: the team that has the fewest goes first, and of two who waits longer.
    fn serve(&mut self, bounds: Bounds) -> Vec<String> {
        let mut served = Vec::new();
        while self.held < bounds.most {
            let teams = self.teams.values().filter(|team| team.held < bounds.share);
            let first = teams.filter_map(|team| {
                let (number, key) = team.line.first_key_value()?;
                Some((team.held, *number, key))
            });
            let Some((_, _, key)) = first.min() else {
                break;
            };
            let key = key.clone();
            let Some(claim) = self.remove(&key) else {
                break;
            };
            self.hold(&key, claim.team, claim.asked);
            served.push(key);
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: usize = 32;
    const BOUNDS: Bounds = Bounds {
        most: 2 * SHARE,
        share: SHARE,
    };

    fn team_of(key: &str) -> &str {
        key.split_once('/').map_or("", |(team, _)| team)
    }

    fn places() -> (Places, Arc<WorkQueue<String>>) {
        let queue = Arc::new(WorkQueue::new());
        (Places::new(BOUNDS, queue.clone()), queue)
    }

    /// One round of a message that wants to send.
    fn asks(places: &Places, key: &str) -> bool {
        let has = places.enter(key, team_of(key));
        places.settle(key);
        has
    }

    async fn woken(queue: &WorkQueue<String>) -> String {
        let key = queue.next().await;
        queue.done(&key);
        key
    }

    #[tokio::test]
    async fn one_team_leaves_half_and_those_who_wait_are_served_in_order() {
        let (places, queue) = places();
        for number in 0..100 {
            assert_eq!(asks(&places, &format!("a/{number}")), number < SHARE);
        }
        // Asking again changes nothing.
        assert!(!asks(&places, "a/40") && asks(&places, "a/0"));
        for number in 0..SHARE {
            assert!(asks(&places, &format!("b/{number}")), "{number}");
        }
        assert!(!asks(&places, "c/0") && !asks(&places, "d/0"));
        // Who has the fewest goes first, then who waits longest.
        for (gone, expected) in [
            ("a/0", "c/0"),
            ("a/1", "d/0"),
            ("b/0", "a/32"),
            ("b/1", "a/33"),
        ] {
            places.leave(gone);
            assert_eq!(woken(&queue).await, expected);
        }
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn who_is_served_has_its_place_until_a_round_does_not_use_it() {
        let (places, queue) = places();
        for number in 0..=SHARE + 1 {
            asks(&places, &format!("a/{number}"));
        }
        places.leave("a/0");
        assert_eq!(woken(&queue).await, "a/32");
        // A newcomer does not overtake.
        assert!(!asks(&places, "a/new"));
        // The one that was woken has no use for it any more.
        places.settle("a/32");
        assert_eq!(woken(&queue).await, "a/33");
        assert!(asks(&places, "a/33"));
        // Out of the line too.
        places.settle("a/new");
        places.leave("a/1");
        assert!(queue.is_empty());
        assert!(asks(&places, "a/other"));
        // A pod at work keeps its place as long as rounds find it at work, also one beyond all.
        places.take_over("a/old", "a");
        places.settle("a/old");
        assert!(!asks(&places, "a/late"));
        places.take_over("a/old", "a");
        places.settle("a/old");
        assert!(queue.is_empty());
        places.settle("a/old");
        places.settle("a/2");
        assert_eq!(woken(&queue).await, "a/late");
    }

    #[tokio::test]
    async fn who_needs_a_place_for_a_round_gives_it_back_and_keeps_its_place_in_line() {
        let (places, queue) = places();
        for number in 0..SHARE {
            assert!(places.enter(&format!("a/{number}"), "a"));
        }
        for key in ["a/x", "a/y"] {
            assert!(!places.enter(key, "a"));
            places.release(key);
        }
        places.release("a/0");
        assert_eq!(woken(&queue).await, "a/x");
        assert!(places.enter("a/x", "a"));
        places.release("a/x");
        assert_eq!(woken(&queue).await, "a/y");
        // It has no use for it any more.
        places.release("a/y");
        assert!(queue.is_empty());
        assert_eq!(places.state().held, SHARE - 1);
    }
}
