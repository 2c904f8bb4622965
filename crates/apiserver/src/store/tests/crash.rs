//! The power goes, again and again: a child writes and says what was acknowledged, the parent kills
//! it at any moment, opens what is left, and compares.

use std::collections::{BTreeMap, BTreeSet};
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

/// What a child said.
#[derive(Default)]
struct Acknowledged {
    /// About each key: the revision of its last write, and its text unless that was a delete.
    keys: BTreeMap<String, (u64, Option<String>)>,
    /// All revisions of this round.
    revisions: BTreeSet<u64>,
}

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
            said.keys
                .insert(name, (revision, (content != "-").then_some(content)));
            said.revisions.insert(revision);
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

/// Compares what is there with what was said. Each writer may have had one write on its way that
/// became durable but was not acknowledged in time; nothing else may differ.
fn check(store: &Store, said: &Acknowledged, first: u64, round: u64) {
    let mut silent: BTreeSet<u64> = (first + 1..=store.revision()).collect();
    let newest = said.revisions.last().copied().unwrap_or_default();
    assert!(
        store.revision() >= newest,
        "round {round}: a revision was lost"
    );
    silent.retain(|revision| !said.revisions.contains(revision));
    assert!(
        silent.len() <= WRITERS as usize,
        "round {round}: {silent:?}"
    );
    let listed = store.list("/configmaps", None).items;
    let live: BTreeMap<&str, _> = listed
        .iter()
        .map(|object| (&*object.key.name, object))
        .collect();
    let names: BTreeSet<&str> = live
        .keys()
        .copied()
        .chain(said.keys.keys().map(String::as_str))
        .collect();
    let mut removals = 0;
    for name in names {
        let (revision, content) = said.keys.get(name).cloned().unwrap_or((0, None));
        match (live.get(name), content) {
            (None, None) => {}
            (None, Some(_)) => removals += 1,
            (Some(live), content) => {
                let version = live.value()["metadata"]["resourceVersion"].clone();
                assert_eq!(version, live.revision.to_string());
                let text = text(live);
                match content {
                    Some(content) if live.revision == revision => {
                        let whole = text.replace(&content, "").is_empty() && !text.is_empty();
                        assert!(whole, "round {round}: {name} has another content");
                    }
                    _ => {
                        assert!(live.revision > revision, "round {round}: {name} went back");
                        assert!(
                            silent.remove(&live.revision),
                            "round {round}: {name} is unexplained"
                        );
                    }
                }
            }
        }
    }
    assert!(
        removals <= silent.len(),
        "round {round}: an acknowledged write was lost"
    );
}

#[test]
fn no_acknowledged_write_is_lost_however_often_the_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(20_261_121);
    let mut said = Acknowledged::default();
    let mut last = 1;
    for round in 0..ROUNDS {
        let life = Duration::from_micros(random.random_range(0..60_000));
        run_child(folder.path(), round, life, &mut said);
        let database = Database::open(folder.path()).unwrap();
        let store = database.store("hub").unwrap();
        check(&store, &said, last, round);
        assert!(
            store.revision() > last,
            "the child went on where the last one ended"
        );
        last = store.revision();
        // What is there now is what the next round starts from.
        said.revisions.clear();
        said.keys = store
            .list("/configmaps", None)
            .items
            .iter()
            .map(|live| (live.key.name.to_string(), (live.revision, Some(text(live)))))
            .collect();
        if round % 2 == 0 {
            database.close().unwrap();
        }
    }
}
