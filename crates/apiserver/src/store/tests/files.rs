//! What is in the folder when it opens, and what is not.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::super::{Database, Expired, Key, OpenError, Options, WriteError};
use super::{key, object, text};

fn open(folder: &Path) -> Database {
    Database::open(folder).unwrap()
}

fn refusal(folder: &Path) -> OpenError {
    Database::open(folder).map(drop).unwrap_err()
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_revisions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("deep/folder"));
    let store = database.store("hub").unwrap();
    store.create(key("a"), object("1")).await.unwrap();
    let b = store.create(key("b"), object("2")).await.unwrap();
    let gone = store.delete(key("b"), b.revision).await.unwrap();
    drop(database.store("never written").unwrap());
    database.close().unwrap();
    drop(database);

    let database = open(&folder.path().join("deep/folder"));
    assert_eq!(database.stores(), ["hub".into()]);
    let store = database.store("hub").unwrap();
    assert_eq!(
        store.revision(),
        gone.revision,
        "the last write was a delete"
    );
    assert_eq!(text(&store.get(&key("a")).unwrap()), "1");
    assert!(store.get(&key("b")).is_none());
    assert_eq!(
        store.watch("/configmaps", 3).unwrap_err(),
        Expired { oldest: 4 }
    );
    assert!(store.watch("/configmaps", 4).is_ok());
    assert!(store.list_at("/configmaps", None, 3, None, None).is_err());
    let next = store.create(key("b"), object("3")).await.unwrap();
    assert_eq!(next.revision, gone.revision + 1);
    let other = database.store("other").unwrap();
    other.create(key("a"), object("4")).await.unwrap();
    assert_eq!(text(&store.get(&key("a")).unwrap()), "1");
}

#[tokio::test]
async fn restored_backups_can_jump_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    database
        .store("hub")
        .unwrap()
        .create(key("a"), object("1"))
        .await
        .unwrap();
    drop(database);
    let options = Options {
        advance_revisions: 1_000_000_000,
        ..Options::default()
    };
    let database = Database::open_with(folder.path(), options).unwrap();
    assert_eq!(database.store("hub").unwrap().revision(), 1_000_000_002);
    drop(database);
    assert_eq!(
        open(folder.path()).store("hub").unwrap().revision(),
        1_000_000_002
    );
}

#[test]
fn a_folder_belongs_to_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let error = refusal(folder.path());
    let pid = std::process::id();
    assert!(
        matches!(error, OpenError::Locked { pid: Some(found), .. } if found == pid),
        "{error}"
    );
    let says =
        format!("is in use by another process (process {pid}): stop it, or choose another folder");
    assert!(error.to_string().contains(&says), "{error}");
    drop(first);
    open(folder.path());
}

#[test]
fn a_folder_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = refusal(&folder.path().join("file/folder"));
    assert!(matches!(error, OpenError::Unwritable { .. }), "{error}");
    assert!(
        error.to_string().contains("check its permissions"),
        "{error}"
    );
}

/// Fills a database, lets `harm` loose on its file, and expects to be refused with these words.
async fn harmed(harm: impl FnOnce(&Path), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    let store = database.store("hub").unwrap();
    for n in 0..50 {
        store
            .create(key(&n.to_string()), object(&"x".repeat(500)))
            .await
            .unwrap();
    }
    drop(database);
    let file = folder.path().join("drover.db");
    harm(&file);
    let before = fs::read(&file).ok();
    let error = refusal(folder.path()).to_string();
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("drover.db"), "{error}");
    assert!(
        fs::read(&file).ok() == before,
        "a refused file is not touched"
    );
}

fn sql(file: &Path, statement: &str) {
    Connection::open(file)
        .unwrap()
        .execute_batch(statement)
        .unwrap();
}

#[tokio::test]
async fn damaged_files_are_refused() {
    harmed(
        |file| fs::write(file, "").unwrap(),
        "is damaged: it is too short",
    )
    .await;
    harmed(
        |file| fs::write(file, "SQL").unwrap(),
        "is damaged: it is too short",
    )
    .await;
    harmed(
        |file| fs::write(file, "something else entirely").unwrap(),
        "not an SQLite file",
    )
    .await;
    harmed(
        |file| {
            fs::write(file.with_extension("db-wal"), "x").unwrap();
            fs::remove_file(file).unwrap();
        },
        "the file itself is missing",
    )
    .await;
    harmed(
        |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        },
        "is damaged",
    )
    .await;
    harmed(
        |file| sql(file, "UPDATE object SET value = substr(value, 1, 40)"),
        "is not readable",
    )
    .await;
    harmed(
        |file| sql(file, "UPDATE object SET revision = 1000"),
        "is newer than its store",
    )
    .await;
    harmed(
        |file| sql(file, "DELETE FROM store"),
        "store 1, which is not there",
    )
    .await;
    harmed(|file| sql(file, "DROP TABLE object"), "no such table").await;
}

#[tokio::test]
async fn pages_of_noise_are_found_when_the_last_end_was_unclean() {
    harmed(
        |file| {
            sql(file, "UPDATE meta SET value = 0 WHERE name = 'clean'");
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2 / 4096 * 4096;
            bytes[middle..middle + 4096].fill(0xa5);
            fs::write(file, bytes).unwrap();
        },
        "is damaged",
    )
    .await;
}

#[tokio::test]
async fn files_of_others_are_refused() {
    harmed(
        |file| sql(file, "PRAGMA application_id = 7"),
        "its application id is 0x7",
    )
    .await;
    harmed(
        |file| sql(file, "PRAGMA user_version = 2"),
        "has format 2, this version reads up to 1",
    )
    .await;
}

#[tokio::test]
async fn a_draft_that_was_left_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("drover.new"), "half").unwrap();
    let database = open(folder.path());
    database
        .store("hub")
        .unwrap()
        .create(key("a"), object("1"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        max_bytes: Some(200_000),
        ..Options::default()
    };
    let database = Database::open_with(folder.path(), options).unwrap();
    let store = database.store("hub").unwrap();
    let mut watch = store.watch("/configmaps", 1).unwrap();
    let mut made = 0_u32;
    let error = loop {
        match store
            .create(key(&made.to_string()), object(&"x".repeat(5000)))
            .await
        {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, WriteError::Unwritable(why) if why.contains("full")),
        "{error}"
    );
    assert!(made > 10);
    // Readers and watchers saw what was acknowledged and nothing else.
    let refused = key(&made.to_string());
    assert!(store.get(&refused).is_none());
    assert_eq!(store.list("/configmaps", None).items.len(), made as usize);
    assert_eq!(store.revision(), u64::from(made) + 1);
    for n in 0..made {
        assert_eq!(watch.next().await.unwrap().revision, u64::from(n) + 2);
    }
    assert!(watch.try_next().unwrap().is_none());
    // With space again, writes go on with the next revision.
    database.limit(None).await.unwrap();
    let next = store.create(refused.clone(), object("fits")).await.unwrap();
    assert_eq!(next.revision, u64::from(made) + 2);
    assert_eq!(watch.next().await.unwrap().revision, next.revision);
    drop(database);
    let store = open(folder.path()).store("hub").unwrap();
    assert_eq!(
        store.list("/configmaps", None).items.len(),
        made as usize + 1
    );
    assert_eq!(text(&store.get(&refused).unwrap()), "fits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_stores_share_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    let writes = (0..100).map(|n| {
        let store = database.store(&format!("hub{n}")).unwrap();
        async move {
            store
                .create(Key::new("/pods", "a", "b"), object(&n.to_string()))
                .await
                .unwrap();
        }
    });
    futures::future::join_all(writes).await;
    drop(database);
    let database = open(folder.path());
    for n in 0..100 {
        let store = database.store(&format!("hub{n}")).unwrap();
        let found = store.get(&Key::new("/pods", "a", "b")).unwrap();
        assert_eq!((store.revision(), text(&found)), (2, n.to_string()));
    }
}
