//! Who may go on, and who waits in line: nobody takes all places from the others.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places for the keys of messages, which belong to groups.
pub(crate) struct Places {
    /// Of all groups together.
    most: usize,
    /// Of one group.
    each: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Keys that have a place, and their groups.
    inside: HashMap<String, String>,
    /// Keys that were called and did not come in yet.
    called: HashMap<String, String>,
    /// Keys that stand in a line.
    waiting: HashSet<String>,
    groups: BTreeMap<String, Group>,
}

#[derive(Default)]
struct Group {
    inside: usize,
    line: VecDeque<String>,
}

impl Places {
    pub(crate) fn new(most: usize, each: usize) -> Self {
        Self {
            most,
            each,
            state: Mutex::default(),
        }
    }

    /// Takes a place; without one the key stands in line until [`Self::leave`] calls it.
    pub(crate) fn enter(&self, key: &str, group: &str) -> bool {
        let mut state = self.state();
        if state.inside.contains_key(key) {
            return true;
        }
        state.called.remove(key);
        let room = state.inside.len() < self.most;
        let found = state.groups.entry(group.to_owned()).or_default();
        if room && found.inside < self.each {
            found.inside += 1;
            state.waiting.remove(key);
            state.inside.insert(key.to_owned(), group.to_owned());
            return true;
        }
        if state.waiting.insert(key.to_owned()) {
            let found = state.groups.entry(group.to_owned()).or_default();
            found.line.push_back(key.to_owned());
        }
        false
    }

    /// Gives a place, or a call, back; the answer is who may try now.
    pub(crate) fn leave(&self, key: &str) -> Option<String> {
        let mut state = self.state();
        let State {
            inside,
            called,
            waiting,
            groups,
        } = &mut *state;
        let group = match inside.remove(key) {
            Some(group) => {
                if let Some(found) = groups.get_mut(&group) {
                    found.inside -= 1;
                }
                group
            }
            None => called.remove(key)?,
        };
        // Those behind it first, then the groups after its own, so that each has its turn.
        let mut turns: Vec<_> = groups.keys().cloned().collect();
        let first = turns.partition_point(|name| *name < group);
        turns.rotate_left(first);
        for name in turns {
            let Some(found) = groups.get_mut(&name) else {
                continue;
            };
            while found.inside < self.each
                && let Some(next) = found.line.pop_front()
            {
                if waiting.remove(&next) {
                    called.insert(next.clone(), name);
                    return Some(next);
                }
            }
            if found.inside == 0 && found.line.is_empty() {
                groups.remove(&name);
            }
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_does_not_take_the_places_of_another() {
        let places = Places::new(3, 2);
        assert!(places.enter("a1", "a") && places.enter("a2", "a"));
        assert!(places.enter("a1", "a"), "it has one");
        assert!(!places.enter("a3", "a"), "no more for a");
        assert!(!places.enter("a4", "a"));
        assert!(places.enter("b1", "b"));
        assert!(!places.enter("b2", "b"), "no more at all");
        // In the order in which they came.
        assert_eq!(places.leave("a1").as_deref(), Some("a3"));
        assert!(places.enter("a3", "a"));
        // Who is called and does not come calls the next one.
        assert_eq!(places.leave("a2").as_deref(), Some("a4"));
        assert_eq!(places.leave("a4").as_deref(), Some("b2"));
        assert!(places.enter("b2", "b"));
        assert_eq!(places.leave("nobody"), None);
        for key in ["a3", "b1", "b2"] {
            assert_eq!(places.leave(key), None);
        }
        assert!(places.state().groups.is_empty() && places.state().waiting.is_empty());
    }

    #[test]
    fn all_come_in_whoever_comes_again() {
        let places = Places::new(4, 3);
        let mut todo: VecDeque<(String, String)> = (0..1000)
            .map(|number| (format!("k{number}"), format!("g{}", number % 3)))
            .collect();
        let groups: HashMap<_, _> = todo.iter().cloned().collect();
        let (mut inside, mut done) = (VecDeque::new(), HashSet::new());
        loop {
            while let Some((key, group)) = todo.pop_front() {
                if places.enter(&key, &group) && !inside.contains(&key) {
                    inside.push_back(key);
                }
            }
            let Some(key) = inside.pop_front() else { break };
            if let Some(next) = places.leave(&key) {
                let group = groups[&next].clone();
                todo.push_back((next, group));
            }
            assert!(done.insert(key), "once");
        }
        assert_eq!(done.len(), 1000);
    }
}
