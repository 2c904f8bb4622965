//! Whole systems in one thread: sources, agents and what lies between them, with loss, duplicates, delay, reordering, cut
//! links, crashes and wrong clocks, all from a seed. After each step nothing may be wrong; after the network heals, everybody
//! must agree.
//!
//! `cargo xtask sim` runs worlds for as long as one likes. A failure prints its seed and the shortest history that shows it.

mod prng;
mod scenario;
mod oracle;
mod hub;
mod world;
mod sabotage;
mod steps;
mod run;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use run::Failure;
use scenario::Sabotage;

/// Seeds that every change must pass.
const SEEDS: u64 = 10_000;

/// Runs the seeds from `first` on until `enough` says so. Returns how many, or the history of one that failed.
fn run_all(first: u64, enough: impl Fn(u64) -> bool + Sync) -> Result<u64, String> {
    let next = AtomicU64::new(first);
    let done = AtomicU64::new(0);
    let take = || {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        (!enough(seed)).then_some(seed)
    };
    match run::many(take, &done) {
        None => Ok(done.into_inner()),
        Some(failure) => Err(tell(&failure)),
    }
}

fn tell(failure: &Failure) -> String {
    let Failure { seed, what } = failure;
    let replay = run::replay(*seed, Sabotage::None);
    format!("{what}\n{replay}again: cargo xtask sim --seed {seed}")
}

#[test]
fn worlds_heal() {
    match run_all(1, |seed| seed > SEEDS) {
        Ok(done) => assert_eq!(done, SEEDS),
        Err(history) => panic!("{history}"),
    }
}

/// For `cargo xtask sim`: `SIM_SEED`, or `SIM_FROM` with `SIM_TO` or `SIM_SECONDS`.
#[test]
#[ignore = "runs as long as it is told to"]
fn as_long_as_asked() {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .expect("the variables of a simulation are numbers"),
        )
    };
    if let Some(seed) = number("SIM_SEED") {
        if let Err(failure) = run::check(seed, Sabotage::None) {
            panic!("{}", tell(&failure));
        }
        return;
    }
    let first = number("SIM_FROM").unwrap_or(1);
    let last = number("SIM_TO").unwrap_or(u64::MAX);
    let seconds = number("SIM_SECONDS").map(Duration::from_secs);
    let start = Instant::now();
    let done = run_all(first, |seed| {
        if seed % 10_000 == 0 {
            let seconds = start.elapsed().as_secs();
            println!("{} worlds healed, {seconds} s", seed - first);
        }
        seed > last || seconds.is_some_and(|seconds| start.elapsed() >= seconds)
    });
    match done {
        Ok(done) => println!(
            "{done} worlds from seed {first} on healed in {} s",
            start.elapsed().as_secs()
        ),
        Err(history) => panic!("{history}"),
    }
}

/// Without the rule that `sabotage` undoes, some world of a few hundred must go wrong, in the way that `expected` says.
#[track_caller]
fn check_noticed(sabotage: Sabotage, expected: &str) {
    let noticed = (1..=600).filter_map(|seed| run::check(seed, sabotage).err());
    let failures: Vec<String> = noticed.take(20).map(|failure| failure.what).collect();
    assert!(
        failures.iter().any(|what| what.contains(expected)),
        "{sabotage:?}: no world says {expected:?}, but {failures:#?}"
    );
}

#[test]
fn worlds_notice_that_sequence_ids_are_not_compared() {
    check_noticed(Sabotage::StatusesLookNew, "went back from sequence");
}

#[test]
fn worlds_notice_that_generations_are_not_compared() {
    check_noticed(Sabotage::SpecsLookNew, "the spec of");
}

#[test]
fn worlds_notice_that_sources_are_not_told_apart() {
    check_noticed(Sabotage::EverybodyOwns, "by nobody");
}

#[test]
fn worlds_notice_that_clusters_are_not_told_apart() {
    check_noticed(Sabotage::EverybodyIsMeant, "holds");
}

#[test]
fn worlds_notice_that_nobody_asks_for_what_was_missed() {
    check_noticed(Sabotage::NobodyAsks, "misses");
}

#[test]
fn worlds_notice_that_a_transport_lies() {
    check_noticed(Sabotage::LyingTransport, "for ever");
}

#[test]
fn worlds_notice_that_an_agent_begins_its_sequence_anew() {
    check_noticed(Sabotage::ForgottenSequences, "the owner knows status");
}
