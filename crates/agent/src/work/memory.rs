//! What earlier rounds found, so that a round without news costs no request. Losing it costs requests, nothing else.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_api::{
    ObjectMeta,
    work::v1::{AppliedManifestWork, ManifestWork},
};
use tokio::time::Instant;

use super::{Key, cluster::Place, watches::Watches};

/// After this time a work is looked at even where the watches tell of no change (ocm, pkg/work/spoke: resync of works).
const RESYNC: Duration = Duration::from_mins(4);
/// The same where an executor's rights, of which no watch tells, decide.
const RESYNC_OF_EXECUTOR: Duration = Duration::from_mins(1);
/// How many corrections a work may make in [`CALM`] before it slows down: two parties that want different things of one object
/// would otherwise fight as fast as they can.
const MAX_CORRECTIONS: u32 = 10;
/// How long a work that fights waits.
pub const CALM: Duration = Duration::from_secs(10);

/// What is remembered of all works.
#[derive(Debug, Default)]
pub struct Memory {
    known: Mutex<HashMap<Key, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The state in which nothing was left to do.
    settled: Option<Settled>,
    /// For each object that was written: the print of what was written, and the version that came of it.
    written: HashMap<Place, (String, String)>,
    /// Corrections since the time.
    corrections: Option<(Instant, u32)>,
}

/// The versions of everything that a plan depends on, and when they were read.
#[derive(Debug)]
struct Settled {
    at: Instant,
    work: Option<Version>,
    applied: Option<Version>,
    objects: Vec<(Place, String)>,
}

/// Tells one state of an object from another, also where works come from a broker that counts generations only.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    uid: Option<String>,
    resource: Option<String>,
    generation: Option<i64>,
    deleting: bool,
}

impl Version {
    fn of(meta: &ObjectMeta) -> Self {
        Self {
            uid: meta.uid.clone(),
            resource: meta.resource_version.clone(),
            generation: meta.generation,
            deleting: meta.deletion_timestamp.is_some(),
        }
    }
}

impl Memory {
    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        // No code panics while it holds the lock, and the state is valid after every statement.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a work.
    pub fn forget(&self, key: &Key) {
        self.known().remove(key);
    }

    /// Whether everything is as it was when nothing was left to do, as far as the watches tell.
    pub fn is_settled(
        &self,
        key: &Key,
        work: Option<&ManifestWork>,
        applied: Option<&AppliedManifestWork>,
        watches: &Watches,
    ) -> bool {
        let known = self.known();
        let Some(settled) = known.get(key).and_then(|known| known.settled.as_ref()) else {
            return false;
        };
        let executor = work.is_some_and(|work| work.spec.executor.is_some());
        let resync = if executor { RESYNC_OF_EXECUTOR } else { RESYNC };
        settled.at.elapsed() < resync
            && settled.work == work.map(|work| Version::of(&work.metadata))
            && settled.applied == applied.map(|applied| Version::of(&applied.metadata))
            && settled
                .objects
                .iter()
                .all(|(place, version)| watches.version(place).as_ref() == Some(version))
    }

    /// Remembers that nothing is left to do while the objects have these versions; none when some have no version.
    pub fn settle(
        &self,
        key: &Key,
        work: Option<&ManifestWork>,
        applied: Option<&AppliedManifestWork>,
        objects: Option<Vec<(Place, String)>>,
    ) {
        let mut known = self.known();
        let known = known.entry(key.clone()).or_default();
        known.settled = objects.map(|objects| {
            known
                .written
                .retain(|place, _| objects.iter().any(|(of, _)| of == place));
            Settled {
                at: Instant::now(),
                work: work.map(|work| Version::of(&work.metadata)),
                applied: applied.map(|applied| Version::of(&applied.metadata)),
                objects,
            }
        });
    }

    /// Remembers what was written, by its print, and the version that came of it.
    pub fn wrote(&self, key: &Key, place: Place, print: String, version: &str) {
        let written = (print, version.to_owned());
        let mut known = self.known();
        let known = known.entry(key.clone()).or_default();
        known.written.insert(place, written);
    }

    /// Whether the object is still what came of writing this: then writing it again changes nothing, even where the API server
    /// keeps a value in another form.
    pub fn was_written(&self, key: &Key, place: &Place, print: &str, version: &str) -> bool {
        let known = self.known();
        let written = known.get(key).and_then(|known| known.written.get(place));
        written.is_some_and(|(of, at)| of == print && at == version)
    }

    /// Counts a correction; tells whether there were too many of late.
    pub fn is_fighting(&self, key: &Key) -> bool {
        let mut known = self.known();
        let known = known.entry(key.clone()).or_default();
        let now = Instant::now();
        let (since, count) = known
            .corrections
            .filter(|(since, _)| now - *since < CALM)
            .unwrap_or((now, 0));
        known.corrections = Some((since, count + 1));
        count >= MAX_CORRECTIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fight_is_seen_and_forgotten() {
        let (memory, key) = (Memory::default(), Key::Work("w".to_owned()));
        for _ in 0..MAX_CORRECTIONS {
            assert!(!memory.is_fighting(&key));
        }
        assert!(memory.is_fighting(&key));
        tokio::time::advance(CALM).await;
        assert!(!memory.is_fighting(&key));
    }
}
