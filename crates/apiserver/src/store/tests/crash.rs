//! The power goes, again and again: a child writes and says what was acknowledged, the parent kills
//! it at any moment, opens what is left, and compares.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::{Database, Key, Store};
use super::{object, text};

/// The folder that a child writes to; set by the parent.
const FOLDER: &str = "STORE_CRASH_FOLDER";
const SEED: &str = "STORE_CRASH_SEED";
const ROUNDS: u64 = 60;
const WRITERS: u32 = 4;
const KEYS: u32 = 12;

/// What a child said about a key: the revision of its last acknowledged write, and its text unless
/// that was a delete.
type Acknowledged = BTreeMap<String, (u64, Option<String>)>;

/// Not a case of its own: the body of the child.
#[test]
fn child() {
    let (Ok(folder), Ok(seed)) = (std::env::var(FOLDER), std::env::var(SEED)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let database = Database::open(Path::new(&folder)).unwrap();
        let store = database.store("hub").unwrap();
        let seed: u64 = seed.parse().unwrap();
        let writers = (0..WRITERS).map(|n| write_for_ever(&store, n, seed));
        futures::future::join_all(writers).await;
    });
}

/// Each writer has its own keys, so what it was told last is what must be there.
async fn write_for_ever(store: &Store, writer: u32, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ u64::from(writer) << 32);
    loop {
        let name = format!("{writer}-{}", random.random_range(0..KEYS));
        let key = Key::new("/configmaps", "default", &*name);
        let number: u64 = random.random();
        // Long enough to span pages.
        let content = number.to_string().repeat(random.random_range(1..300));
        let (done, content) = match store.get(&key) {
            None => (store.create(key, object(&content)).await, Some(number)),
            Some(live) if random.random_ratio(1, 4) => {
                (store.delete(key, live.revision).await, None)
            }
            Some(live) => (
                store.update(key, live.revision, object(&content)).await,
                Some(number),
            ),
        };
        let revision = done.unwrap().revision;
        let content = content.map_or("-".to_owned(), |number| number.to_string());
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {name} {revision} {content}")
            .and_then(|()| out.flush())
            .unwrap();
    }
}

/// Runs a child until it has said something and `life` is over.
fn run_child(folder: &Path, seed: u64, life: Duration, said: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::tests::crash::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut deadline = None;
    loop {
        line.clear();
        if lines.read_line(&mut line).unwrap() == 0 {
            break;
        }
        // The harness may have put its own words in front; the last line may be half.
        if let (Some(start), true) = (line.find("ack "), line.ends_with('\n')) {
            let mut words = line[start..].split_whitespace().skip(1);
            let mut word = || words.next().unwrap().to_owned();
            let (name, revision, content) = (word(), word().parse().unwrap(), word());
            said.insert(name, (revision, (content != "-").then_some(content)));
            let end = *deadline.get_or_insert_with(|| std::time::Instant::now() + life);
            if std::time::Instant::now() >= end {
                // SIGKILL on Unix. What is in the pipe already was acknowledged too.
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(deadline.is_some(), "the child wrote nothing");
}

fn check(store: &Store, said: &Acknowledged, seed: u64) {
    let newest = said
        .values()
        .map(|(revision, _)| *revision)
        .max()
        .unwrap_or_default();
    assert!(
        store.revision() >= newest,
        "seed {seed}: a revision was lost"
    );
    for (name, (revision, content)) in said {
        let live = store.get(&Key::new("/configmaps", "default", &**name));
        let unit = |text: &str, unit: &str| !unit.is_empty() && text.replace(unit, "").is_empty();
        match (&live, content) {
            (None, None) => {}
            (Some(live), Some(content)) if live.revision == *revision => {
                assert!(
                    unit(&text(live), content),
                    "seed {seed}: {name} has another content"
                );
            }
            // A later write that was made durable but not acknowledged in time.
            (Some(live), _) if live.revision > *revision => {}
            (None, Some(_)) if store.revision() > newest => {}
            (live, _) => panic!("seed {seed}: {name} was acknowledged at {revision}, is {live:?}"),
        }
        assert!(live.is_none_or(
            |live| live.value()["metadata"]["resourceVersion"] == live.revision.to_string()
        ));
    }
}

#[test]
fn no_acknowledged_write_is_lost_however_often_the_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(20_261_121);
    let mut said = Acknowledged::new();
    let mut last = 1;
    for round in 0..ROUNDS {
        let life = Duration::from_micros(random.random_range(0..60_000));
        run_child(folder.path(), round, life, &mut said);
        let database = Database::open(folder.path()).unwrap();
        let store = database.store("hub").unwrap();
        check(&store, &said, round);
        assert!(
            store.revision() > last,
            "the child went on where the last one ended"
        );
        last = store.revision();
        // What is there now is what the next round starts from.
        for (name, entry) in &mut said {
            let live = store.get(&Key::new("/configmaps", "default", &**name));
            entry.0 = live.as_ref().map_or(last, |live| live.revision);
            if live.is_none() {
                entry.1 = None;
            } else if let Some(live) = live {
                entry.1 = Some(text(&live));
            }
        }
        if round % 2 == 0 {
            database.close().unwrap();
        }
    }
}
