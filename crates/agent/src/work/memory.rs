//! What earlier rounds found, so that a round without news costs no request. Losing it costs requests, nothing else.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_api::{ObjectMeta, work::v1::AppliedManifestWork};
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

/// A little less than this, for each work another time by its name: so works do not come all at once.
pub fn spread(key: &Key, time: Duration) -> Duration {
    let share = key.to_string().bytes().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    }) % 256;
    time.saturating_sub(time / 4 * share / 256)
}

/// What is remembered of all works.
#[derive(Debug, Default)]
pub struct Memory {
    known: Mutex<HashMap<Key, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The state in which nothing was left to do, while the objects have these versions.
    settled: Option<Settled>,
    /// The objects that were written or settled, by place.
    objects: Vec<Object>,
    /// Corrections since the time.
    corrections: Option<(Instant, u32)>,
}

#[derive(Debug)]
struct Object {
    place: Place,
    version: Box<str>,
    /// The print of what was written when this version came of it; none when it came of something else.
    print: Option<Box<str>>,
}

/// The versions of what a plan depends on beside the objects, when they were read, and how long that is good for.
#[derive(Debug)]
struct Settled {
    at: Instant,
    resync: Duration,
    work: Option<Version>,
    applied: Option<Version>,
}

impl Known {
    fn find(&self, place: &Place) -> Result<usize, usize> {
        self.objects
            .binary_search_by(|object| object.place.cmp(place))
    }
}

/// Tells one state of an object from another, also where works come from a broker that counts generations only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// `metadata.resourceVersion`.
    pub resource: Option<String>,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Whether there is a `metadata.deletionTimestamp`.
    pub deleting: bool,
}

impl Version {
    /// The version of the object with this metadata.
    pub fn of(meta: &ObjectMeta) -> Self {
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

    /// How long nothing has to be looked at, because everything is as it was when nothing was left to do, as far as the watches tell:
    /// they tell when that changes.
    pub fn settled_for(
        &self,
        key: &Key,
        work: Option<&Version>,
        applied: Option<&AppliedManifestWork>,
        watches: &Watches,
    ) -> Option<Duration> {
        let known = self.known();
        let known = known.get(key)?;
        let settled = known.settled.as_ref()?;
        let left = settled.resync.checked_sub(settled.at.elapsed())?;
        let same = settled.work.as_ref() == work
            && settled.applied == applied.map(|applied| Version::of(&applied.metadata))
            && known
                .objects
                .iter()
                .all(|object| watches.is_at(&object.place, &object.version));
        same.then_some(left)
    }

    /// Remembers that nothing is left to do while the objects have these versions; none when some have no version. Rights of an
    /// executor, of which no watch tells, are not trusted for long.
    pub fn settle(
        &self,
        key: &Key,
        work: Option<Version>,
        applied: Option<&AppliedManifestWork>,
        objects: Option<Vec<(Place, String)>>,
        executor: bool,
    ) {
        let mut known = self.known();
        let known = known.entry(key.clone()).or_default();
        known.settled = None;
        let Some(mut objects) = objects else { return };
        objects.sort();
        objects.dedup_by(|one, other| one.0 == other.0);
        let mut before = std::mem::take(&mut known.objects).into_iter().peekable();
        let all = objects.into_iter().map(|(place, version)| {
            while before.next_if(|object| object.place < place).is_some() {}
            let same =
                before.next_if(|object| object.place == place && *object.version == *version);
            Object {
                place,
                version: version.into(),
                print: same.and_then(|object| object.print),
            }
        });
        known.objects = all.collect();
        known.settled = Some(Settled {
            at: Instant::now(),
            resync: spread(key, if executor { RESYNC_OF_EXECUTOR } else { RESYNC }),
            work,
            applied: applied.map(|applied| Version::of(&applied.metadata)),
        });
    }

    /// Remembers what was written, by its print, and the version that came of it.
    pub fn wrote(&self, key: &Key, place: Place, print: String, version: &str) {
        let mut known = self.known();
        let known = known.entry(key.clone()).or_default();
        // What follows a write is not done yet.
        known.settled = None;
        let found = known.find(&place);
        let object = Object {
            place,
            version: version.into(),
            print: Some(print.into()),
        };
        match found {
            Ok(at) => known.objects[at] = object,
            Err(at) => known.objects.insert(at, object),
        }
    }

    /// Whether the object is still what came of writing this: then writing it again changes nothing, even where the API server
    /// keeps a value in another form.
    pub fn was_written(&self, key: &Key, place: &Place, print: &str, version: &str) -> bool {
        let known = self.known();
        let written = known.get(key).and_then(|known| {
            let at = known.find(place).ok()?;
            known.objects.get(at)
        });
        written.is_some_and(|object| {
            object.print.as_deref() == Some(print) && &*object.version == version
        })
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

    fn place(name: &str) -> Place {
        Place {
            group: String::new(),
            version: "v1".to_owned(),
            resource: "configmaps".to_owned(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_remembered_while_its_version_stands() {
        let (memory, key) = (Memory::default(), Key::Work("w".to_owned()));
        for name in ["c", "a", "b"] {
            memory.wrote(&key, place(name), format!("print of {name}"), "1");
        }
        let check = |name: &str, print: &str, version: &str, expected: bool| {
            let found = memory.was_written(&key, &place(name), print, version);
            assert_eq!(found, expected, "{name} {print} {version}");
        };
        let settle = |objects: &[(&str, &str)]| {
            let object = |(name, version): &(&str, &str)| (place(name), (*version).to_owned());
            let objects = objects.iter().map(object).collect();
            memory.settle(&key, None, None, Some(objects), false);
        };
        check("a", "print of a", "1", true);
        check("a", "print of b", "1", false);
        settle(&[("c", "1"), ("a", "1"), ("b", "2"), ("d", "1")]);
        check("a", "print of a", "1", true);
        check("c", "print of c", "1", true);
        // Somebody else wrote it since.
        check("b", "print of b", "2", false);
        check("d", "", "1", false);
        settle(&[("c", "1")]);
        check("a", "print of a", "1", false);
        check("c", "print of c", "1", true);
    }

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
