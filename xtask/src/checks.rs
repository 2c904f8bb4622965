//! What CI runs, and what a developer runs before a commit.

use std::io::Write;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{peers, tidy};

/// Runs every check; stops at the first that fails.
pub(crate) fn ci(fast: bool) -> Result<()> {
    let start = Instant::now();
    cargo("format", &["fmt", "--all", "--", "--check"], &[])?;
    step("tidy");
    tidy::check()?;
    let deny = [("RUSTFLAGS", "-D warnings")];
    cargo(
        "lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    )?;
    if fast {
        cargo("tests", &["test", "--workspace"], &[])?;
        say(&format!(
            "fast: everything but the tests against real peers is green after {} s; `cargo xtask ci` runs those too",
            start.elapsed().as_secs()
        ));
        return Ok(());
    }
    cargo(
        "documentation",
        &["doc", "--workspace", "--no-deps"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    step("peers");
    let folder = peers::install()?;
    let folder = folder
        .to_str()
        .context("the cache folder's name is not UTF-8")?
        .to_owned();
    let env = [deny[0], ("DROVER_PEERS", folder.as_str())];
    cargo(
        "tests, with real peers",
        &["test", "--workspace"],
        &env[1..],
    )?;
    say(&format!("all green after {} s", start.elapsed().as_secs()));
    Ok(())
}

/// Rewrites golden files.
pub(crate) fn golden() -> Result<()> {
    let env = [("UPDATE_GOLDEN", "1"), ("INSTA_UPDATE", "always")];
    cargo("golden files", &["test", "--workspace", "golden"], &env)
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
