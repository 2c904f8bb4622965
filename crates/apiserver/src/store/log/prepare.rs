//! The folder and the file before anything is read from it: whose they are, and whether they can be
//! trusted.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use rusqlite::Connection;

use super::{FORMAT, OpenError, PAGE, refuse, unwritable};

/// The name of the lock beside it.
const LOCK: &str = "drover.lock";
/// `PRAGMA application_id`: "Drvr".
const APPLICATION: i64 = 0x4472_7672;
/// Pages (of 4 KiB) in the write-ahead log that make SQLite move them into the file.
const CHECKPOINT_PAGES: u32 = 4000;
/// Bytes that the write-ahead log keeps at most when it is empty.
const LOG_BYTES: i64 = 64 << 20;
const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE store (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL);
    CREATE TABLE object (
        store INTEGER NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        revision INTEGER NOT NULL, value TEXT NOT NULL,
        UNIQUE (store, resource, namespace, name));
    INSERT INTO meta VALUES ('clean', 1);";

/// The lock on a folder.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing the file is not enough: a process that is being started at this moment has a copy of
    /// the handle until it runs its own program, and the lock lives as long as any copy.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "failed to release the lock of a database");
        }
    }
}

/// Takes the folder for this process.
pub(super) fn lock(folder: &Path) -> Result<Lock, OpenError> {
    let path = folder.join(LOCK);
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = open.map_err(|error| unwritable(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // The number is a courtesy: some systems do not let us read a locked file.
            let pid = file
                .read_to_string(&mut text)
                .ok()
                .and_then(|_| text.trim().parse().ok());
            return Err(OpenError::Locked {
                folder: folder.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(unwritable(&path, &error)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| unwritable(&path, &error))?;
    Ok(Lock(file))
}

/// Sees that there is a file, and that it is one of SQLite's. A new one is made beside its place
/// and moved there when it is complete, so an empty file is always a damaged one.
pub(super) fn prepare(file: &Path) -> Result<(), OpenError> {
    let corrupt = |why: &str| OpenError::Corrupt {
        file: file.to_owned(),
        why: why.to_owned(),
    };
    let mut head = Vec::new();
    match File::open(file) {
        Ok(found) => {
            found
                .take(16)
                .read_to_end(&mut head)
                .map_err(|error| unwritable(file, &error))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if file.with_extension("db-wal").exists() {
                return Err(corrupt(
                    "only its write-ahead log is there, the file itself is missing",
                ));
            }
            return create(file);
        }
        Err(error) => return Err(unwritable(file, &error)),
    }
    if head.len() < 16 {
        return Err(corrupt("it is too short"));
    }
    if head != b"SQLite format 3\0" {
        return Err(OpenError::Foreign {
            file: file.to_owned(),
            why: "not an SQLite file".to_owned(),
        });
    }
    Ok(())
}

fn create(file: &Path) -> Result<(), OpenError> {
    let draft = file.with_extension("new");
    for leftover in [
        draft.clone(),
        file.with_extension("new-wal"),
        file.with_extension("new-shm"),
    ] {
        match fs::remove_file(&leftover) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unwritable(&leftover, &error)),
        }
    }
    let refuse = |error: rusqlite::Error| refuse(&draft, &error);
    let connection = Connection::open(&draft).map_err(refuse)?;
    connection
        .execute_batch(&format!(
            "PRAGMA page_size = {PAGE}; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA synchronous = FULL;
             BEGIN; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};
             COMMIT;"
        ))
        .map_err(refuse)?;
    connection.close().map_err(|(_, error)| refuse(error))?;
    fs::rename(&draft, file).map_err(|error| unwritable(file, &error))?;
    sync_folder(file)
}

/// Makes a rename durable.
#[cfg(unix)]
fn sync_folder(file: &Path) -> Result<(), OpenError> {
    let Some(folder) = file.parent() else {
        return Ok(());
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| unwritable(folder, &error))
}

/// Other systems make renames durable by themselves.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), OpenError> {
    Ok(())
}

pub(super) fn identify(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    let read = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(|error| refuse(file, &error))
    };
    let application = read("application_id")?;
    if application != APPLICATION {
        let why = format!("its application id is {application:#x}");
        return Err(OpenError::Foreign {
            file: file.to_owned(),
            why,
        });
    }
    let format = read("user_version")?;
    if format > FORMAT {
        return Err(OpenError::Newer {
            file: file.to_owned(),
            format,
        });
    }
    Ok(())
}

pub(super) fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
    Ok(())
}

/// After anything but a clean close the whole file is checked.
pub(super) fn verify(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    let refuse = |error: rusqlite::Error| refuse(file, &error);
    let clean: i64 = connection
        .query_row("SELECT value FROM meta WHERE name = 'clean'", [], |row| {
            row.get(0)
        })
        .map_err(refuse)?;
    if clean == 1 {
        return Ok(());
    }
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(refuse)?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(OpenError::Corrupt {
        file: file.to_owned(),
        why: verdict,
    })
}
