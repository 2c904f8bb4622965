//! What CI runs, and what a developer runs before a commit.

use std::io::Write;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{peers, tidy};

/// Crates with tests against real peers.
const WITH_PEERS: &[&str] = &[
    "drover",
    "drover-api",
    "drover-apiserver",
    "drover-client",
    "drover-testkit",
    "drover-transport",
];

/// Features that are off by default and need no peer.
const OPTIONAL: &[&str] = &[
    "drover-client/sqlite",
    "drover/otel",
    "drover-client/mqtt",
    "drover-client/kafka",
];

/// Runs every check; stops at the first that fails.
pub(crate) fn ci(fast: bool) -> Result<()> {
    let start = Instant::now();
    let features: Vec<String> = WITH_PEERS
        .iter()
        .map(|name| format!("{name}/peers"))
        .chain(OPTIONAL.iter().map(|&name| name.to_owned()))
        .collect();
    let features = features.join(",");
    cargo("format", &["fmt", "--all", "--", "--check"], &[])?;
    step("tidy");
    tidy::check()?;
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        &features,
        "--",
        "-D",
        "warnings",
    ];
    cargo("lints", &lints, &[])?;
    if fast {
        let tests = ["test", "--workspace", "--features", &OPTIONAL.join(",")];
        cargo("tests", &tests, &[])?;
        say(&format!(
            "fast: everything but the tests against real peers is green after {} s; `cargo xtask ci` runs those too",
            start.elapsed().as_secs()
        ));
        return Ok(());
    }
    for transport in ["grpc", "mqtt", "kafka"] {
        let alone = [
            "check",
            "-p",
            "drover-transport",
            "--no-default-features",
            "--features",
            transport,
        ];
        cargo(&format!("transport {transport} alone"), &alone, &[])?;
    }
    let deny = [("RUSTDOCFLAGS", "-D warnings")];
    cargo(
        "documentation",
        &[
            "doc",
            "--workspace",
            "--no-deps",
            "--features",
            &OPTIONAL.join(","),
        ],
        &deny,
    )?;
    step("peers");
    let folder = peers::install()?;
    let folder = folder
        .to_str()
        .context("the cache folder's name is not UTF-8")?
        .to_owned();
    let tests = ["test", "--workspace", "--features", &features];
    cargo(
        "tests, with real peers",
        &tests,
        &[("DROVER_PEERS", &folder)],
    )?;
    say(&format!("all green after {} s", start.elapsed().as_secs()));
    Ok(())
}

/// Rewrites golden files; with peers also those that say what became of peers, by tests named `…_compatibility`.
pub(crate) fn golden(with_peers: bool) -> Result<()> {
    let mut env = vec![("UPDATE_GOLDEN", "1"), ("INSTA_UPDATE", "always")];
    cargo("golden files", &["test", "--workspace", "golden"], &env)?;
    if !with_peers {
        return Ok(());
    }
    let features = peer_features();
    let folder = peers::install()?;
    let folder = folder
        .to_str()
        .context("the cache folder's name is not UTF-8")?;
    env.push(("DROVER_PEERS", folder));
    let tests = [
        "test",
        "--workspace",
        "--features",
        &features,
        "compatibility",
    ];
    cargo("golden files of peers", &tests, &env)
}

fn peer_features() -> String {
    let features: Vec<String> = WITH_PEERS
        .iter()
        .map(|name| format!("{name}/peers"))
        .collect();
    features.join(",")
}

fn cargo(what: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    step(what);
    let status = Command::new(env!("CARGO"))
        .args(args)
        .envs(env.iter().copied())
        .status()
        .with_context(|| format!("failed to run cargo for {what}"))?;
    if !status.success() {
        bail!("{what}: `cargo {}` failed", args.join(" "));
    }
    Ok(())
}

fn step(what: &str) {
    say(&format!("== {what}"));
}

/// Prints a line.
pub(crate) fn say(text: &str) {
    // A closed pipe is the reader's wish; there is nobody left to tell.
    writeln!(std::io::stdout(), "{text}").ok();
}
