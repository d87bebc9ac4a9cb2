//! `node.db`: the site's own SQLite database, in which everything is durable that the site must
//! not forget. Each file here is one subject's queries; what they mean together is the engine's.

pub mod alarms;
pub mod databases;
pub mod journal;
pub mod members;
pub mod progress;
pub mod settings;

use crate::breakage::Breakage;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::sql::Begun;
use protocol::{BranchId, Sequence, SignedOpening};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

pub use databases::{BranchNumber, BranchRow, DatabaseNumber, DatabaseRow, DatabaseState};

/// The layout of `node.db` that this program writes.
pub const FORMAT: i32 = 1;
/// `PRAGMA application_id` of a `node.db`: "Hfst".
const APPLICATION_ID: i32 = 0x4866_7374;

/// What goes wrong in `node.db`.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite says so.
    #[error("node.db: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file is of a program newer than this one.
    #[error("node.db has format {0}, this program knows {FORMAT}")]
    Newer(i32),
    /// The file is not a `node.db`.
    #[error("node.db is not a Holdfast database")]
    Foreign,
    /// A row holds what this program can't have written.
    #[error("node.db is damaged: {0}")]
    Damaged(String),
    /// The journal does not hold a batch as it came: its disk is damaged, or somebody wrote there.
    #[error("batch {1} is damaged in the journal")]
    Rotten(BranchNumber, Sequence),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let remedy = match &error {
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(cause, _)) => match cause.code {
                rusqlite::ErrorCode::DiskFull => "Free some space on its disk; nothing is lost.",
                rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase => {
                    "Keep the file for inspection and join the group anew with --replace; \
                     the other sites hold what was safe."
                }
                _ => "Look at the disk and the permissions of the site's directory.",
            },
            StoreError::Sqlite(_) => {
                "Look at the disk and the permissions of the site's directory."
            }
            StoreError::Newer(_) => "Run the newer program on this directory.",
            StoreError::Foreign => "Name the directory that `init` or `join` made.",
            StoreError::Damaged(_) | StoreError::Rotten(..) => {
                "Keep the file for inspection and join the group anew with --replace; \
                 the other sites hold what was safe."
            }
        };
        Self::unable(format!("{error}."), remedy)
    }
}

/// `node.db`, open.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    openings: RefCell<Openings>,
}

/// Opening records that were read already.
type Openings = BTreeMap<BranchId, Arc<SignedOpening>>;

impl Store {
    /// Opens `node.db`, or makes it if `create` and it does not exist.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(
        environment: &dyn Environment,
        path: &Path,
        create: bool,
    ) -> Result<Self, StoreError> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let mut connection = environment.open_database(path, flags)?;
        // EXTRA before the switch to WAL: where a power cut can undo the unlinking of a rollback
        // journal, the switch itself can wipe committed data even at FULL.
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        let synchronous = if Breakage::JournalAtNormal.is_on() { "NORMAL" } else { "FULL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // A bounded cache: 8 MiB.
        connection.pragma_update(None, "cache_size", -8192)?;
        connection.set_prepared_statement_cache_capacity(128);
        let format: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let kind: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        match (kind, format) {
            (0, 0) if create => {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                transaction.execute_batch(include_str!("schema.sql"))?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", FORMAT)?;
                transaction.commit()?;
            }
            (APPLICATION_ID, FORMAT) => {}
            (APPLICATION_ID, newer) if newer > FORMAT => return Err(StoreError::Newer(newer)),
            _ => return Err(StoreError::Foreign),
        }
        Ok(Self { connection, openings: RefCell::default() })
    }

    /// One durable step: everything that `work` does, or nothing.
    ///
    /// # Errors
    /// Those of `work`, and of committing.
    pub fn transaction<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let begun = Begun::begin(&self.connection, "BEGIN IMMEDIATE").map_err(StoreError::from)?;
        let result = work(&self.connection)?;
        begun.commit().map_err(StoreError::from)?;
        Ok(result)
    }

    /// For reading outside a transaction.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Moves what is in the `-wal` into the file, as far as nobody reads it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

/// Reads 16 or 32 bytes.
pub(crate) fn fixed<const N: usize>(what: &str, bytes: Vec<u8>) -> Result<[u8; N], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Damaged(format!("{what} is not {N} bytes long")))
}

/// Sequences and timestamps are below 2^63; SQLite has signed integers.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The reverse of [`stored`].
pub(crate) fn loaded(what: &str, number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Damaged(format!("{what} is negative")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::production::Production;

    fn open(create: bool, path: &Path) -> Result<Store, StoreError> {
        Store::open(&Production::default(), path, create)
    }

    #[test]
    fn what_is_committed_survives_a_power_cut() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(true, &folder.path().join("node.db")).unwrap();
        let pragma = |name: &str| -> String {
            let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
            store.connection().query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!((pragma("journal_mode"), pragma("synchronous")), ("wal".into(), "2".into()));
    }

    #[test]
    fn a_newer_or_foreign_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.db");
        let store = open(true, &path).unwrap();
        store.connection().pragma_update(None, "user_version", FORMAT + 1).unwrap();
        drop(store);
        assert!(matches!(open(false, &path), Err(StoreError::Newer(2))));
        let other = folder.path().join("other.db");
        let foreign = Production::default()
            .open_database(
                &other,
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            )
            .unwrap();
        foreign.execute_batch("PRAGMA user_version = 7").unwrap();
        drop(foreign);
        assert!(matches!(open(true, &other), Err(StoreError::Foreign)));
        assert!(matches!(open(false, &folder.path().join("none.db")), Err(StoreError::Sqlite(_))));
    }
}
