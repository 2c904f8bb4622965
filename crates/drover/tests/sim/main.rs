//! A hub and its agents, whole, on embedded APIs in memory, through whatever may go wrong, by a seed: APIs that answer 429, 500, 409
//! or never, agents and hubs that are killed, a broker that is cut and loses events, clocks ten minutes apart, a definition that
//! vanishes under works, a namespace that does not go away.
//!
//! All the while no status goes back, and no cluster has what is not meant for it. After everything is well again, works, statuses and
//! objects are what was wanted, and nothing else is left. The same seed gives the same accidents, though not the same interleaving.
//! `cargo xtask sim --of works` runs it for as long as one likes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod accidents;
mod oracle;
mod parts;
mod trouble;
mod world;

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};

use world::World;

/// Seeds that every change must pass.
const SEEDS: u64 = 24;
/// Worlds at a time.
const AT_ONCE: usize = 8;

/// Says what happens, if `DROVER_LOG` asks for it.
fn log() {
    if let Ok(filter) = std::env::var("DROVER_LOG") {
        // Another test of this process did it before.
        drover_runtime::telemetry::init(&filter, drover_runtime::telemetry::Format::Text).ok();
    }
}

/// Runs the worlds of these seeds; the answer is how many healed.
async fn run(seeds: impl Iterator<Item = u64>) -> u64 {
    let worlds = stream::iter(seeds).map(|seed| async move {
        if let Err(wrong) = World::live(seed).await {
            panic!("{wrong}\nagain: cargo xtask sim --of works --seed {seed}");
        }
    });
    worlds.buffer_unordered(AT_ONCE).count().await as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn works_survive_what_goes_wrong_around_them() {
    log();
    assert_eq!(run(1..=SEEDS).await, SEEDS);
}

/// For `cargo xtask sim --of works`: `SIM_SEED`, or `SIM_FROM` with `SIM_TO` or `SIM_SECONDS`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as long as it is told to"]
async fn as_long_as_asked() {
    log();
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} is no number")),
        )
    };
    if let Some(seed) = number("SIM_SEED") {
        run(std::iter::once(seed)).await;
        println!("the world of seed {seed} healed");
        return;
    }
    let first = number("SIM_FROM").unwrap_or(SEEDS + 1);
    let last = number("SIM_TO").unwrap_or(u64::MAX);
    let (start, limit) = (
        Instant::now(),
        number("SIM_SECONDS").map(Duration::from_secs),
    );
    let open = |_: &u64| limit.is_none_or(|limit| start.elapsed() < limit);
    let done = run((first..=last).take_while(open)).await;
    println!(
        "{done} worlds from seed {first} on healed in {} s",
        start.elapsed().as_secs()
    );
}
