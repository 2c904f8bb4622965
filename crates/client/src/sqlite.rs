//! The rows of a source in one SQLite file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drover_protocol::session::{Row, Unsent};
use drover_protocol::{Action, DataType, Resource};
use rusqlite::{Connection, ErrorCode, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::journal::{Disk, DiskError};

/// `PRAGMA user_version`: the format that this version writes.
const FORMAT: i64 = 1;

const TABLES: &str = "
    CREATE TABLE owner (source TEXT NOT NULL, data_type TEXT NOT NULL);
    CREATE TABLE objects (uid TEXT PRIMARY KEY, object BLOB NOT NULL);
    CREATE TABLE graves (uid TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE unsent (uid TEXT PRIMARY KEY, action TEXT NOT NULL, cluster TEXT, version INTEGER) WITHOUT ROWID;
";

/// A file that one process uses at a time. Every write is on the disk when it returns (`synchronous=FULL`).
pub struct SqliteDisk<R> {
    path: PathBuf,
    connection: Connection,
    /// What is stored, by identity: an object that only was sent is not written again.
    stored: HashMap<Arc<str>, Arc<R>>,
}

impl<R> SqliteDisk<R> {
    /// Opens or makes the file of a source.
    pub fn open(path: &Path, source: &str, data_type: &DataType) -> Result<Self, DiskError> {
        let wrong = |why: String| DiskError {
            place: path.display().to_string(),
            why,
        };
        let connection = prepare(path).map_err(|e| wrong(words(&e)))?;
        let format: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|e| wrong(words(&e)))?;
        if format > FORMAT {
            return Err(wrong(format!(
                "it has format {format}, this version knows {FORMAT}: use a newer version"
            )));
        }
        let data_type = data_type.to_string();
        let (its_source, its_type) =
            owner(&connection, format, source, &data_type).map_err(|e| wrong(words(&e)))?;
        if (its_source.as_str(), its_type.as_str()) != (source, data_type.as_str()) {
            return Err(wrong(format!(
                "it belongs to the source {its_source:?} and holds {its_type}: use another file for {source:?} and {data_type}"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            connection,
            stored: HashMap::new(),
        })
    }

    fn wrong(&self, why: String) -> DiskError {
        DiskError {
            place: self.path.display().to_string(),
            why,
        }
    }
}

fn prepare(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

/// Whose file it is; a new one is ours.
fn owner(
    connection: &Connection,
    format: i64,
    source: &str,
    data_type: &str,
) -> Result<(String, String), rusqlite::Error> {
    if format == 0 {
        let make = connection.unchecked_transaction()?;
        make.execute_batch(TABLES)?;
        make.execute("INSERT INTO owner VALUES (?1, ?2)", [source, data_type])?;
        make.pragma_update(None, "user_version", FORMAT)?;
        make.commit()?;
    }
    connection.query_row("SELECT source, data_type FROM owner", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

fn words(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process uses it: stop that, or choose another file".to_owned()
        }
        Some(ErrorCode::NotADatabase) => {
            "it is no database: choose another file, or move it away".to_owned()
        }
        _ => error.to_string(),
    }
}

impl<R: Resource + Serialize + DeserializeOwned> Disk<R> for SqliteDisk<R> {
    fn load(&mut self) -> Result<Vec<(String, Row<R>)>, DiskError> {
        let mut stored = HashMap::new();
        let rows = load(&self.connection, &mut stored).map_err(|e| self.wrong(words(&e)))?;
        self.stored = stored;
        Ok(rows)
    }

    fn store(&mut self, rows: &HashMap<Arc<str>, Row<R>>) -> Result<(), DiskError> {
        let written = write(&self.connection, &self.stored, rows);
        written.map_err(|e| self.wrong(words(&e)))?;
        for (uid, row) in rows {
            match row {
                Row::Owned { object, .. } => {
                    drop(self.stored.insert(Arc::clone(uid), Arc::clone(object)));
                }
                Row::Buried { .. } | Row::Nothing => drop(self.stored.remove(uid)),
            }
        }
        Ok(())
    }
}

type Owed = (String, Option<String>, Option<i64>);

fn load<R: DeserializeOwned>(
    connection: &Connection,
    stored: &mut HashMap<Arc<str>, Arc<R>>,
) -> Result<Vec<(String, Row<R>)>, rusqlite::Error> {
    let mut owed: HashMap<String, Owed> = connection
        .prepare("SELECT uid, action, cluster, version FROM unsent")?
        .query_map([], |row| {
            Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)))
        })?
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    let mut objects = connection.prepare("SELECT uid, object FROM objects")?;
    let mut objects = objects.query([])?;
    while let Some(row) = objects.next()? {
        let uid: String = row.get(0)?;
        let json = row.get_ref(1)?.as_blob()?;
        let object: R = serde_json::from_slice(json).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, Box::new(e))
        })?;
        let object = Arc::new(object);
        stored.insert(uid.as_str().into(), Arc::clone(&object));
        let unsent = owed
            .remove(&uid)
            .map(|(action, ..)| Action::from(action.as_str()));
        rows.push((uid, Row::Owned { object, unsent }));
    }
    let mut order = |uid: &str| {
        let (_, cluster, version) = owed.remove(uid)?;
        Some(Unsent {
            cluster: cluster?,
            version: version?,
        })
    };
    let mut graves = connection.prepare("SELECT uid, generation FROM graves")?;
    let mut graves = graves.query([])?;
    while let Some(row) = graves.next()? {
        let uid: String = row.get(0)?;
        let generation = Some(row.get(1)?);
        let unsent = order(&uid);
        rows.push((uid, Row::Buried { generation, unsent }));
    }
    // Orders to agents that hold what was never known here.
    for (uid, (_, cluster, version)) in owed {
        if let (Some(cluster), Some(version)) = (cluster, version) {
            let unsent = Some(Unsent { cluster, version });
            let generation = None;
            rows.push((uid, Row::Buried { generation, unsent }));
        }
    }
    Ok(rows)
}

fn write<R: Serialize>(
    connection: &Connection,
    stored: &HashMap<Arc<str>, Arc<R>>,
    rows: &HashMap<Arc<str>, Row<R>>,
) -> Result<(), rusqlite::Error> {
    let batch = connection.unchecked_transaction()?;
    for (uid, row) in rows {
        match row {
            Row::Owned { object, unsent } => {
                let same = stored.get(uid).is_some_and(|old| Arc::ptr_eq(old, object));
                if !same {
                    let json = serde_json::to_vec(&**object)
                        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
                    batch
                        .prepare_cached("INSERT INTO objects VALUES (?1, ?2) ON CONFLICT (uid) DO UPDATE SET object = ?2")?
                        .execute(params![&**uid, json])?;
                    remove(&batch, "DELETE FROM graves WHERE uid = ?1", uid)?;
                }
                owe(
                    &batch,
                    uid,
                    unsent.as_ref().map(|action| (action.as_str(), None)),
                )?;
            }
            Row::Buried { generation, unsent } => {
                remove(&batch, "DELETE FROM objects WHERE uid = ?1", uid)?;
                match generation {
                    Some(generation) => drop(
                        batch
                            .prepare_cached("INSERT OR REPLACE INTO graves VALUES (?1, ?2)")?
                            .execute(params![&**uid, generation])?,
                    ),
                    None => remove(&batch, "DELETE FROM graves WHERE uid = ?1", uid)?,
                }
                let action = Action::Delete;
                owe(
                    &batch,
                    uid,
                    unsent.as_ref().map(|order| (action.as_str(), Some(order))),
                )?;
            }
            Row::Nothing => {
                remove(&batch, "DELETE FROM objects WHERE uid = ?1", uid)?;
                remove(&batch, "DELETE FROM graves WHERE uid = ?1", uid)?;
                owe(&batch, uid, None)?;
            }
        }
    }
    batch.commit()
}

fn remove(batch: &Transaction<'_>, sql: &str, uid: &str) -> Result<(), rusqlite::Error> {
    batch.prepare_cached(sql)?.execute([uid]).map(drop)
}

fn owe(
    batch: &Transaction<'_>,
    uid: &str,
    unsent: Option<(&str, Option<&Unsent>)>,
) -> Result<(), rusqlite::Error> {
    let Some((action, order)) = unsent else {
        return remove(batch, "DELETE FROM unsent WHERE uid = ?1", uid);
    };
    let (cluster, version) = (
        order.map(|order| &order.cluster),
        order.map(|order| order.version),
    );
    batch
        .prepare_cached("INSERT OR REPLACE INTO unsent VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![uid, action, cluster, version])
        .map(drop)
}

#[cfg(test)]
mod tests;
