//! A source is killed by the operating system again and again, at no chosen moment, and each time goes on where it stopped.
//!
//! The program starts itself as the source: it changes works, and writes a line for every change that is on disk and, before
//! that, one for every event that leaves. What survives must be at least as new as either.
#![expect(clippy::print_stdout, reason = "the lines are for the parent")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use drover_client::{DriverConfig, SourceOptions, SourceWorks, Work, WorkSpec};
use drover_protocol::CloudEvent;
use drover_protocol::raw::Raw;
use drover_transport::{Link, Publisher, Subscription, Transport, TransportError};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

const FILE: &str = "KILL_TEST_FILE";
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ROUNDS: u32 = 12;

/// A broker that takes everything and says which generation it saw.
#[derive(Clone)]
struct Printer;

impl Transport for Printer {
    fn open(&self, _: Subscription) -> BoxFuture<'_, Result<Link, TransportError>> {
        Box::pin(async {
            Ok(Link {
                publisher: Arc::new(Self),
                events: futures::stream::pending().boxed(),
            })
        })
    }
}

impl Publisher for Printer {
    fn publish(&self, event: CloudEvent) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move {
            if let (Some(uid), Ok(version)) = (
                event.resource_id(),
                drover_protocol::codec::integer_version(&event),
            ) {
                let gone = event.is_deletion();
                say(&format!("sent {uid} {version} {gone}"));
            }
            Ok(())
        })
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever does not hear any more killed us.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

fn options() -> SourceOptions {
    SourceOptions {
        driver: DriverConfig {
            rate: None,
            ..DriverConfig::default()
        },
        ..SourceOptions::new("hub-a")
    }
}

fn work(name: &str, value: u64) -> anyhow::Result<Work> {
    let manifest = serde_json::json!({"kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"value": value.to_string()}});
    let mut work = Work {
        spec: Arc::new(WorkSpec {
            manifests: vec![Raw::of(&manifest)?],
            ..WorkSpec::default()
        }),
        ..Work::default()
    };
    name.clone_into(&mut work.metadata.name);
    "c1".clone_into(&mut work.metadata.namespace);
    Ok(work)
}

/// The process that is killed.
#[tokio::main]
async fn source(file: &Path) -> anyhow::Result<()> {
    let (works, driver) = SourceWorks::persistent(options(), file, Arc::new(Printer))?;
    tokio::spawn(driver.run(CancellationToken::new()));
    for number in 0_u64.. {
        let name = NAMES[(number % 4) as usize];
        match works.get("c1", name) {
            None => {
                let made = works.create(work(name, number)?)?;
                works.flush().await?;
                say(&format!(
                    "kept {} {} false",
                    made.metadata.uid, made.metadata.generation
                ));
            }
            Some(old) if number % 3 == 0 => {
                works.delete("c1", name);
                works.flush().await?;
                say(&format!(
                    "kept {} {} true",
                    old.metadata.uid, old.metadata.generation
                ));
            }
            Some(_) => {
                let made = works.update(work(name, number)?)?;
                works.flush().await?;
                say(&format!(
                    "kept {} {} false",
                    made.metadata.uid, made.metadata.generation
                ));
            }
        }
    }
    Ok(())
}

/// Newest known of each uid: generation, and whether it was deleted at that.
type Seen = BTreeMap<String, (i64, bool)>;

/// Runs the source until it wrote so many lines, kills it, and notes what it said.
fn run_and_kill(file: &Path, lines: usize, seen: &mut Seen) -> anyhow::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("there is no output")?;
    let mut said = BufReader::new(stdout).lines();
    let mut heard = Vec::new();
    for line in said.by_ref().take(lines) {
        heard.push(line?);
    }
    child.kill()?;
    child.wait()?;
    // What was written before it died counts too, but for a line that it did not finish.
    heard.extend(said.map_while(Result::ok));
    ensure!(heard.len() >= lines, "the source ended by itself");
    for line in heard {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, uid, version, gone] = words[..] else {
            continue;
        };
        let (Ok(version), Ok(gone)) = (version.parse::<i64>(), gone.parse::<bool>()) else {
            continue;
        };
        let newest = seen.entry(uid.to_owned()).or_default();
        *newest = (*newest).max((version, gone));
    }
    Ok(())
}

/// What is on disk is at least as new as everything that was said.
#[tokio::main(flavor = "current_thread")]
async fn check(file: &Path, seen: &Seen) -> anyhow::Result<()> {
    let bus = Arc::new(drover_transport::memory::MemoryBus::new());
    let (works, _driver) = SourceWorks::persistent(options(), file, bus)?;
    for (uid, (version, gone)) in seen {
        let Some(work) = works.get_uid(uid) else {
            // Deleted since, or lost: making it again tells, below.
            continue;
        };
        let stored = work.metadata.generation;
        ensure!(
            stored > *version || (stored == *version && !gone),
            "{uid} is at {stored}, but {version} (deleted: {gone}) was sent or promised"
        );
    }
    for name in NAMES {
        // The next generation of whatever was deleted must be newer than all that anybody saw of it.
        if works.get("c1", name).is_none() {
            let made = works.create(work(name, 0)?)?;
            let newest = seen.get(&made.metadata.uid).copied().unwrap_or_default();
            ensure!(
                made.metadata.generation > newest.0,
                "{name} is made again as {}, but {newest:?} was seen",
                made.metadata.generation
            );
        }
    }
    ensure!(works.stats().disk_failures == 0, "the disk failed");
    works.flush().await?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    if let Some(file) = std::env::var_os(FILE) {
        return source(Path::new(&file));
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("source.db");
    let mut seen = Seen::new();
    for round in 0..ROUNDS {
        // Primes, so that the deaths fall on different steps.
        let lines = 7 + (round as usize * 13) % 31;
        run_and_kill(&file, lines, &mut seen).with_context(|| format!("round {round}"))?;
        check(&file, &seen).with_context(|| format!("round {round}"))?;
    }
    ensure!(
        seen.len() == NAMES.len(),
        "every work was changed: {seen:?}"
    );
    println!("{ROUNDS} deaths, nothing lost");
    Ok(())
}
