//! Runs worlds: one, many at once, and one again and again with fewer steps until only those are left that matter.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::scenario::{Sabotage, Scenario};
use crate::world::World;

/// What went wrong in a world.
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) what: String,
}

/// Runs one world without the steps in `skipped`. Returns what went wrong, and its history if asked for.
fn one(
    seed: u64,
    sabotage: Sabotage,
    skipped: &BTreeSet<usize>,
    traced: bool,
) -> (Option<String>, Vec<String>) {
    let run = || {
        let scenario = Scenario::of(seed, sabotage);
        let mut world = World::new(seed, scenario, traced);
        for step in (0..scenario.steps).filter(|step| !skipped.contains(step)) {
            world.happen(step);
            if world.oracle.violation.is_some() {
                break;
            }
        }
        if world.oracle.violation.is_none() {
            world.heal();
        }
        if world.oracle.violation.is_none() {
            world.check_converged();
        }
        (world.oracle.violation, world.trace.unwrap_or_default())
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        (
            Some(format!("panic: {}", text.unwrap_or_default())),
            Vec::new(),
        )
    })
}

/// Runs one world.
pub(crate) fn check(seed: u64, sabotage: Sabotage) -> Result<(), Failure> {
    match one(seed, sabotage, &BTreeSet::new(), false).0 {
        None => Ok(()),
        Some(what) => Err(Failure { seed, what }),
    }
}

/// Runs worlds on all processors until `next` has no more seeds, or one fails.
pub(crate) fn many(next: impl Fn() -> Option<u64> + Sync, done: &AtomicU64) -> Option<Failure> {
    let failure = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = next()
                    && !stop.load(Ordering::Relaxed)
                {
                    done.fetch_add(1, Ordering::Relaxed);
                    if let Err(found) = check(seed, Sabotage::None) {
                        stop.store(true, Ordering::Relaxed);
                        failure
                            .lock()
                            .expect("nobody panics with it")
                            .get_or_insert(found);
                    }
                }
            });
        }
    });
    failure.into_inner().expect("nobody panics with it")
}

/// The history of a failing world, cut down to the steps without which it would not fail.
pub(crate) fn replay(seed: u64, sabotage: Sabotage) -> String {
    let scenario = Scenario::of(seed, sabotage);
    let mut skipped = BTreeSet::new();
    let mut size = scenario.steps;
    while size > 0 {
        for start in (0..scenario.steps).step_by(size) {
            let mut fewer = skipped.clone();
            fewer.extend(start..(start + size).min(scenario.steps));
            if fewer.len() > skipped.len() && one(seed, sabotage, &fewer, false).0.is_some() {
                skipped = fewer;
            }
        }
        size /= 2;
    }
    let (what, history) = one(seed, sabotage, &skipped, true);
    let what = what.unwrap_or_default();
    let left = scenario.steps - skipped.len();
    let history = history.join("\n");
    format!("seed {seed}: {what}\n{scenario:?}\n{left} of its steps suffice:\n{history}\n{what}\n")
}
