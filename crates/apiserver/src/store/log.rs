//! The file: current objects and the revision counter of each store, in SQLite.
//!
//! History is not here: after a restart, watches from older revisions are told that it is gone.
//! `synchronous=FULL` is not negotiable: with less, a power cut loses acknowledged writes, the next
//! boot issues their revisions again with other content, and every informer is silently wrong.

mod prepare;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use self::prepare::{Lock, identify, lock, prepare, tune, verify};
use super::memory::State;
use super::{Key, Object};

/// The name of the file in its folder.
const FILE: &str = "drover.db";
/// `PRAGMA user_version`: the format that this build writes.
const FORMAT: i64 = 1;
/// The most pages that SQLite can have.
const ALL_PAGES: i64 = 4_294_967_294;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// Why a database could not be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has the folder.
    #[error("the folder {} is in use by another process{}: stop it, or choose another folder", folder.display(), by(*pid))]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// Who, when it left its number.
        pid: Option<u32>,
    },
    /// The folder or the file cannot be written.
    #[error("failed to write {}: {why}; check its permissions and the free space of its disk", path.display())]
    Unwritable {
        /// What could not be written.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The file is damaged.
    #[error("the database {} is damaged: {why}; restore it from a backup, or move it away to start empty", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file is not ours.
    #[error("the file {} is no database of this program ({why}): move it away, or choose another folder", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// The file was written by a later version.
    #[error("the database {} has format {format}, this version reads up to {FORMAT}: use a newer version", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        format: i64,
    },
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

/// A store as it was found in the file.
pub(super) struct Loaded {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) state: State,
}

/// The open file and the lock on its folder.
#[derive(Debug)]
pub(super) struct Log {
    connection: Connection,
    file: PathBuf,
    /// Held as long as the log lives.
    lock: Lock,
}

impl Log {
    /// Opens or makes the file of a folder and reads everything in it. `advance` is added to each
    /// revision counter.
    pub(super) fn open(folder: &Path, advance: u64) -> Result<(Self, Vec<Loaded>), OpenError> {
        fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
        let lock = lock(folder)?;
        let file = folder.join(FILE);
        prepare(&file)?;
        let refuse = |error: rusqlite::Error| refuse(&file, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&file, flags).map_err(refuse)?;
        identify(&connection, &file)?;
        tune(&connection).map_err(refuse)?;
        verify(&connection, &file)?;
        // A file that cannot be used is left as it was found, so the first write comes last.
        let stores = load(&connection, &file, advance)?;
        connection
            .execute("UPDATE meta SET value = 0 WHERE name = 'clean'", [])
            .map_err(refuse)?;
        if advance > 0 {
            let mut count = connection
                .prepare("UPDATE store SET revision = ?2 WHERE id = ?1")
                .map_err(refuse)?;
            for store in &stores {
                count
                    .execute(params![store.id, store.state.revision() as i64])
                    .map_err(refuse)?;
            }
        }
        Ok((
            Self {
                connection,
                file,
                lock,
            },
            stores,
        ))
    }

    /// Makes a batch durable, whole or not at all. `stores` are those that it touches, with their
    /// new revisions.
    pub(super) fn commit<'a>(
        &mut self,
        stores: impl Iterator<Item = (i64, &'a str, u64)>,
        objects: impl Iterator<Item = (i64, &'a Key, Option<&'a Object>)>,
    ) -> Result<(), String> {
        let result = self.try_commit(stores, objects);
        if result.is_err() && !self.connection.is_autocommit() {
            // When even this fails the transaction stays open, and every later one is refused.
            if let Err(error) = self.connection.execute_batch("ROLLBACK") {
                tracing::error!(%error, "failed to roll back");
            }
        }
        result.map_err(|error| error.to_string())
    }

    fn try_commit<'a>(
        &self,
        stores: impl Iterator<Item = (i64, &'a str, u64)>,
        objects: impl Iterator<Item = (i64, &'a Key, Option<&'a Object>)>,
    ) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut count = self.connection.prepare_cached(
            "INSERT INTO store (id, name, revision) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision",
        )?;
        let mut put = self.connection.prepare_cached(
            "INSERT INTO object (store, resource, namespace, name, revision, value)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (store, resource, namespace, name)
             DO UPDATE SET revision = excluded.revision, value = excluded.value",
        )?;
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM object WHERE store = ?1 AND resource = ?2 AND namespace = ?3 AND name = ?4",
        )?;
        for (id, name, revision) in stores {
            count.execute(params![id, name, revision as i64])?;
        }
        for (id, key, object) in objects {
            let (resource, namespace, name) = (&*key.resource, &*key.namespace, &*key.name);
            match object {
                Some(object) => {
                    let text = rusqlite::types::ValueRef::Text(&object.json);
                    let text = rusqlite::types::ToSqlOutput::Borrowed(text);
                    put.execute(params![
                        id,
                        resource,
                        namespace,
                        name,
                        object.revision as i64,
                        text
                    ])?;
                }
                None => {
                    delete.execute(params![id, resource, namespace, name])?;
                }
            }
        }
        self.connection.execute_batch("COMMIT")
    }

    /// Refuses to grow beyond so many bytes.
    pub(super) fn limit(&self, bytes: Option<u64>) -> Result<(), String> {
        let pages = bytes.map_or(ALL_PAGES, |bytes| (bytes / PAGE).max(1) as i64);
        self.connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .map_err(|error| error.to_string())
    }

    /// Moves everything into the file and marks it as cleanly closed.
    pub(super) fn close(self) -> Result<(), OpenError> {
        let Self {
            connection,
            file,
            lock,
        } = self;
        let refuse = |error: rusqlite::Error| refuse(&file, &error);
        connection
            .execute_batch("PRAGMA incremental_vacuum(4096)")
            .map_err(refuse)?;
        connection
            .execute("UPDATE meta SET value = 1 WHERE name = 'clean'", [])
            .map_err(refuse)?;
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(refuse)?;
        connection.close().map_err(|(_, error)| refuse(error))?;
        drop(lock);
        Ok(())
    }
}

fn load(connection: &Connection, file: &Path, advance: u64) -> Result<Vec<Loaded>, OpenError> {
    let refuse = |error: rusqlite::Error| refuse(file, &error);
    let corrupt = |why: String| OpenError::Corrupt {
        file: file.to_owned(),
        why,
    };
    let mut stores: HashMap<i64, Loaded> = HashMap::new();
    let mut query = connection
        .prepare("SELECT id, name, revision FROM store")
        .map_err(refuse)?;
    let mut rows = query.query([]).map_err(refuse)?;
    while let Some(row) = rows.next().map_err(refuse)? {
        let (id, name, revision): (i64, String, i64) = row.try_into().map_err(refuse)?;
        let revision = u64::try_from(revision).unwrap_or_default().max(1);
        let state = State::new(revision.saturating_add(advance).min(i64::MAX as u64 / 2));
        stores.insert(id, Loaded { id, name, state });
    }
    let mut names = Names::default();
    let mut query = connection
        .prepare("SELECT store, resource, namespace, name, revision, value FROM object")
        .map_err(refuse)?;
    let mut rows = query.query([]).map_err(refuse)?;
    while let Some(row) = rows.next().map_err(refuse)? {
        let (id, object) = read_object(row, &mut names).map_err(|error| match error {
            RowError::Sqlite(error) => refuse(error),
            RowError::Json(key, error) => corrupt(format!(
                "{} {}/{} is not readable: {error}",
                key.resource, key.namespace, key.name
            )),
        })?;
        let store = stores.get_mut(&id).ok_or_else(|| {
            corrupt(format!(
                "an object belongs to store {id}, which is not there"
            ))
        })?;
        if object.revision > store.state.revision() {
            let why = format!("an object of {:?} is newer than its store", store.name);
            return Err(corrupt(why));
        }
        store.state.load(object);
    }
    Ok(stores.into_values().collect())
}

enum RowError {
    Sqlite(rusqlite::Error),
    Json(Key, serde_json::Error),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn read_object(row: &rusqlite::Row<'_>, names: &mut Names) -> Result<(i64, Object), RowError> {
    let text = |column: usize| {
        row.get_ref(column)?.as_str().map_err(|error| {
            let kind = rusqlite::types::Type::Text;
            RowError::Sqlite(rusqlite::Error::FromSqlConversionFailure(
                column,
                kind,
                Box::new(error),
            ))
        })
    };
    let key = Key {
        resource: names.share(text(1)?),
        namespace: names.share(text(2)?),
        name: text(3)?.into(),
    };
    let revision = u64::try_from(row.get::<_, i64>(4)?).unwrap_or_default();
    let json = Bytes::copy_from_slice(text(5)?.as_bytes());
    let object = Object::decode(key.clone(), revision, json);
    Ok((
        row.get(0)?,
        object.map_err(|error| RowError::Json(key, error))?,
    ))
}

/// Names of resources and namespaces, each kept once.
#[derive(Default)]
struct Names(HashMap<Box<str>, Arc<str>>);

impl Names {
    fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = name.into();
        self.0.insert(name.into(), Arc::clone(&shared));
        shared
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Unwritable {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

/// What an error of SQLite means for the one who opens the file.
fn refuse(file: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, why) = (file.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { file: path, why },
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::PermissionDenied
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked,
        ) => OpenError::Unwritable { path, why },
        _ => OpenError::Corrupt { file: path, why },
    }
}
