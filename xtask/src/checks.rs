//! What CI runs, and what a developer runs before a commit.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
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
    tests_with_peers(&features, &folder)?;
    say(&format!("all green after {} s", start.elapsed().as_secs()));
    Ok(())
}

/// Runs all tests, and the targets that fail once more, one test at a time: dozens of real brokers, API servers and agents
/// on few cores are late now and then. Whatever fails twice fails; whatever does not is named at the end.
fn tests_with_peers(features: &str, folder: &str) -> Result<()> {
    step("tests, with real peers");
    let all = ["test", "--workspace", "--features", features];
    let mut child = Command::new(env!("CARGO"))
        .args(all)
        .arg("--no-fail-fast")
        .env("DROVER_PEERS", folder)
        .env("CARGO_TERM_COLOR", "never")
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to run cargo for the tests")?;
    let said = child.stderr.take().context("cargo has no stderr")?;
    let mut failed = Vec::new();
    for line in BufReader::new(said).lines() {
        let line = line?;
        writeln!(std::io::stderr(), "{line}").ok();
        failed.extend(failed_target(&line));
    }
    if child.wait()?.success() {
        return Ok(());
    }
    // Doctests need no peer, and what does not compile fails for good.
    if failed.is_empty() || failed.iter().any(|target| target[0] == "--doc") {
        bail!("tests, with real peers: `cargo {}` failed", all.join(" "));
    }
    for target in &failed {
        let mut again = all.to_vec();
        again.extend(target.iter().map(String::as_str));
        again.extend(["--", "--test-threads", "1"]);
        let what = format!("second try of {}", target.join(" "));
        cargo(&what, &again, &[("DROVER_PEERS", folder)])?;
    }
    for target in failed {
        say(&format!(
            "UNSTEADY: {} failed at first and passed alone",
            target.join(" ")
        ));
    }
    Ok(())
}

/// How to run a target again that cargo lists as failed: "    `-p drover-transport --test mqtt`".
fn failed_target(line: &str) -> Option<Vec<String>> {
    let command = line.strip_prefix("    `-p ")?.strip_suffix('`')?;
    let target = command.split_whitespace().skip(1);
    Some(target.map(str::to_owned).collect()).filter(|target: &Vec<String>| !target.is_empty())
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

#[cfg(test)]
mod tests {
    use super::failed_target;

    #[test]
    fn failed_targets_are_read_from_what_cargo_says() {
        let check = |line: &str, expected: Option<&[&str]>| {
            let found = failed_target(line);
            let expected = expected.map(|words| {
                words
                    .iter()
                    .map(|&word| word.to_owned())
                    .collect::<Vec<_>>()
            });
            assert_eq!(found, expected, "{line}");
        };
        check(
            "    `-p drover-transport --test mqtt`",
            Some(&["--test", "mqtt"]),
        );
        check("    `-p drover-core --lib`", Some(&["--lib"]));
        check("    `-p drover-core --doc`", Some(&["--doc"]));
        check("error: 2 targets failed:", None);
        check("test result: FAILED. 16 passed; 1 failed", None);
    }
}
