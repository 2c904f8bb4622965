//! What a process remembers of sets between rounds. It may be lost: caches are filled anew then, and doubts begin anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_api::work::v1::ManifestWork;
use drover_core::replicaset::Action;
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

/// How long a round waits until the cache shows what was written: what is not shown by then was deleted since.
const SHOWN: Duration = Duration::from_secs(5);
/// How long a cluster must be missing in decisions that do not agree with their placement before it loses its work.
const DOUBT: Duration = Duration::from_secs(2);

/// Cluster and name of a work.
type Place = (String, String);

#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<String, Set>>);

#[derive(Default)]
struct Set {
    /// The version that the API answered, and when.
    written: HashMap<Place, (String, Instant)>,
    /// Since when deletions are doubtful.
    doubts: HashMap<Place, Timestamp>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Set>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, set: &str) {
        self.lock().remove(set);
    }

    /// A work was written; the cache will show it.
    pub(super) fn wrote(&self, set: &str, cluster: &str, name: &str, answer: &ManifestWork) {
        let place = (cluster.to_owned(), name.to_owned());
        let version = answer.resource_version().unwrap_or_default();
        let mut sets = self.lock();
        let written = &mut sets.entry(set.to_owned()).or_default().written;
        written.insert(place, (version, Instant::now()));
    }

    /// How long to wait at most for the cache, unless it shows all that was written. What is waited for comes as an event.
    pub(super) fn unseen(
        &self,
        set: &str,
        cached: impl Fn(&str, &str) -> Option<Arc<ManifestWork>>,
    ) -> Option<Duration> {
        let mut sets = self.lock();
        let written = &mut sets.get_mut(set)?.written;
        let now = Instant::now();
        written.retain(|(cluster, name), (version, at)| {
            let shown = cached(cluster, name).and_then(|work| work.resource_version());
            let shown = shown.is_some_and(|shown| reached(&shown, version));
            !shown && now.duration_since(*at) < SHOWN
        });
        let waits = written
            .values()
            .map(|(_, at)| SHOWN.saturating_sub(now.duration_since(*at)));
        waits.max()
    }

    /// Keeps back deletions that are doubtful and have not been so for long; tells when the first of them is to be looked at again.
    pub(super) fn doubt(
        &self,
        set: &str,
        actions: Vec<Action>,
        now: Timestamp,
    ) -> (Vec<Action>, Option<Duration>) {
        let mut sets = self.lock();
        let before = &mut sets.entry(set.to_owned()).or_default().doubts;
        let (mut doubts, mut kept, mut again) = (HashMap::new(), Vec::new(), None::<Duration>);
        for action in actions {
            let Action::Delete {
                cluster,
                name,
                doubtful: true,
            } = &action
            else {
                kept.push(action);
                continue;
            };
            let place = (cluster.clone(), name.clone());
            let since = before.get(&place).copied().unwrap_or(now);
            let left = DOUBT.saturating_sub(now.duration_since(since).unsigned_abs());
            if left.is_zero() {
                kept.push(action);
            } else {
                again = again.into_iter().chain([left]).min();
                doubts.insert(place, since);
            }
        }
        *before = doubts;
        (kept, again)
    }
}

/// Whether one version is at least the other: versions of a kind are numbers that grow.
fn reached(shown: &str, written: &str) -> bool {
    match (shown.parse::<u64>(), written.parse::<u64>()) {
        (Ok(shown), Ok(written)) => shown >= written,
        _ => shown == written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("small seconds are valid")
    }

    fn work(version: &str) -> ManifestWork {
        let mut work = ManifestWork::default();
        work.metadata.resource_version = Some(version.to_owned());
        work
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_waits_for_what_was_written() {
        let memory = Memory::default();
        let cached = |version: Option<&str>| {
            let work = version.map(|version| Arc::new(work(version)));
            memory.unseen("apps/web", |_, _| work.clone())
        };
        assert_eq!(cached(None), None);
        memory.wrote("apps/web", "c1", "web", &work("10"));
        assert!(cached(None).is_some() && cached(Some("9")).is_some());
        assert_eq!(cached(Some("10")), None);
        assert_eq!(cached(None), None, "what was seen is not asked for again");
        memory.wrote("apps/web", "c1", "web", &work("12"));
        tokio::time::advance(SHOWN).await;
        assert_eq!(cached(None), None, "it was deleted since");
    }

    #[test]
    fn a_doubtful_deletion_waits_until_it_lasts() {
        let memory = Memory::default();
        let delete = |doubtful| Action::Delete {
            cluster: "c1".to_owned(),
            name: "web".to_owned(),
            doubtful,
        };
        let round = |actions, second| {
            let (kept, again) = memory.doubt("apps/web", actions, at(second));
            (kept.len(), again.map(|wait| wait.as_secs()))
        };
        assert_eq!(round(vec![delete(false)], 0), (1, None));
        assert_eq!(round(vec![delete(true)], 1), (0, Some(2)));
        assert_eq!(round(vec![delete(true)], 2), (0, Some(1)));
        assert_eq!(round(Vec::new(), 3), (0, None), "it was back");
        assert_eq!(round(vec![delete(true)], 4), (0, Some(2)));
        assert_eq!(round(vec![delete(true)], 6), (1, None));
    }
}
