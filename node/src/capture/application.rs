//! Our connection to an application's database: opened, and opened anew when another file stands
//! at the path; who the file says it belongs to. What is read and written is told elsewhere.

use super::error::CaptureError;
use super::hop::OwnNumbers;
use super::images::{Captured, Fence, Position};
use super::inspect::{Inspection, inspect};
use super::triggers::{LOG, MARKER};
use crate::environment::{Environment, FileIdentity};
use crate::sql::Begun;
use conflict::SiteId;
use protocol::DatabaseId;
use protocol::schema::TableIndex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whose database a file is, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The database.
    pub database: DatabaseId,
    /// The site that attached it.
    pub site: SiteId,
}

/// An application's database and what we know of it.
///
/// Its steps must be followed by a commit of the node's own database before the next one; after a
/// commit that failed, make a new value from what that database holds.
#[derive(Debug)]
pub struct Application {
    pub(super) environment: Arc<dyn Environment>,
    pub(super) path: PathBuf,
    pub(super) marker: Marker,
    pub(super) captured: Captured,
    /// The `schema_version` and file that `captured` is known to describe.
    pub(super) known: Option<(i64, FileIdentity)>,
    pub(super) tables: Vec<super::harvest::TableSql>,
    /// Tables whose rows must be counted, since some may have gone unseen: those with an index on
    /// an expression (trap 1), and all when the schema moved.
    pub(super) uncounted: BTreeSet<TableIndex>,
    /// Where numbers may hop; nowhere without.
    pub(super) own_numbers: Option<OwnNumbers>,
    open: Option<Open>,
    openings: u64,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: Connection,
    pub(super) file: FileIdentity,
}

impl Application {
    /// The database at `path`. `captured` is what the last harvest knew of it; empty before
    /// [`Application::install`]. Opens nothing yet.
    pub fn new(
        environment: Arc<dyn Environment>,
        path: PathBuf,
        marker: Marker,
        captured: Captured,
    ) -> Self {
        Self {
            environment,
            path,
            marker,
            captured,
            known: None,
            tables: Vec::new(),
            uncounted: BTreeSet::new(),
            own_numbers: None,
            open: None,
            openings: 0,
        }
    }

    /// Says which numbers the site may hand out in it, several sites handing them out. Takes effect
    /// with the next of [`Application::install`], [`Application::refresh`] and
    /// [`Application::put_hops`].
    pub fn set_own_numbers(&mut self, own_numbers: OwnNumbers) {
        self.own_numbers = Some(own_numbers);
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its schema and the numbers of its tables, as last refreshed.
    pub fn captured(&self) -> &Captured {
        &self.captured
    }

    /// Closes the connection; the next step opens it anew.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// How often the file was opened, and a number that is another one after every commit of
    /// anybody else while it stays open. Costs microseconds: for a slow poll.
    ///
    /// # Errors
    /// The file can't be opened or read.
    pub fn data_version(&mut self) -> Result<(u64, i64), CaptureError> {
        let path = self.path.clone();
        let open = self.open()?;
        let version = super::inspect::pragma(&open.connection, "data_version")
            .map_err(|error| CaptureError::application(&path, error))?;
        Ok((self.openings, version))
    }

    /// Reads the shape of the database.
    ///
    /// # Errors
    /// The file can't be opened or read.
    pub fn inspect(&mut self) -> Result<Inspection, CaptureError> {
        let previous = self.captured.schema.clone();
        self.reading(|connection| inspect(connection, Some(&previous)))
    }

    /// Who attached the file, if anybody did.
    ///
    /// # Errors
    /// The file can't be opened or read.
    pub fn marker(&mut self) -> Result<Option<Marker>, CaptureError> {
        self.reading(read_marker)
    }

    /// The connection to the file that stands at the path now.
    pub(super) fn open(&mut self) -> Result<&Open, CaptureError> {
        let identity = |application: &Self| {
            application
                .environment
                .file_identity(&application.path)
                .map_err(|error| CaptureError::File(application.path.clone(), error))
        };
        let now = identity(self)?;
        if self.open.as_ref().map(|open| open.file) != now {
            // A file that was renamed away keeps its own -wal: SQLite sees that it moved.
            self.open = None;
        }
        let file = now.ok_or_else(|| CaptureError::Missing(self.path.clone()))?;
        if self.open.is_none() {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = self
                .environment
                .open_database(&self.path, flags)
                .and_then(|connection| {
                    connection.set_prepared_statement_cache_capacity(512);
                    connection.execute_batch(
                        "PRAGMA foreign_keys = OFF; PRAGMA wal_autocheckpoint = 0;",
                    )?;
                    // What we write is no new change, and its effects come as changes themselves.
                    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
                    // Reads the file: whatever it is, it shows here.
                    connection
                        .query_row("SELECT 1 FROM main.sqlite_schema", [], |_| Ok(()))
                        .optional()?;
                    Ok(connection)
                })
                .map_err(|error| CaptureError::application(&self.path, error))?;
            if identity(self)? != Some(file) {
                return Err(CaptureError::Locked(self.path.clone())); // swapped just now
            }
            self.openings += 1;
            self.open = Some(Open { connection, file });
        }
        self.open.as_ref().ok_or_else(|| CaptureError::Missing(self.path.clone()))
    }

    /// Runs `work` with the connection to the file that stands at the path now.
    pub(super) fn with_open<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &Open) -> T,
    ) -> Result<T, CaptureError> {
        self.open()?;
        let Some(open) = self.open.take() else {
            return Err(CaptureError::Missing(self.path.clone()));
        };
        let result = work(self, &open);
        self.open = Some(open);
        Ok(result)
    }

    /// Runs `work` in one read snapshot.
    ///
    /// # Errors
    /// The file can't be opened or read.
    pub fn reading<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CaptureError> {
        let path = self.path.clone();
        let open = self.open()?;
        let snapshot = || {
            let begun = Begun::begin(&open.connection, "BEGIN")?;
            let result = work(&open.connection)?;
            begun.commit()?;
            Ok(result)
        };
        snapshot().map_err(|error| CaptureError::application(&path, error))
    }
}

/// Whether the file has a log and a marker, and whose.
pub(super) fn read_marker(connection: &Connection) -> rusqlite::Result<Option<Marker>> {
    let ours: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name IN (?1, ?2)",
        )?
        .query_row([LOG, MARKER], |row| row.get(0))?;
    if ours != 2 {
        return Ok(None);
    }
    let found = connection
        .prepare_cached("SELECT database_id, site_id FROM main._holdfast_marker")?
        .query_row([], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, [u8; 16]>(1)?)))
        .optional()?;
    Ok(found.map(|(database, site)| Marker {
        database: DatabaseId(uuid::Uuid::from_bytes(database)),
        site: SiteId::from_bytes(site),
    }))
}

/// The newest note.
pub(super) fn last_note(connection: &Connection) -> rusqlite::Result<Option<Fence>> {
    connection
        .prepare_cached("SELECT id, nonce FROM main._holdfast_log ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| Ok(Fence { id: row.get(0)?, nonce: row.get(1)? }))
        .optional()
}

/// Whether the log still holds the note that a harvest ended with.
pub(super) fn holds(connection: &Connection, fence: &Fence) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM main._holdfast_log WHERE id = ?1 AND nonce = ?2")?
        .exists([fence.id, fence.nonce])
}

impl Position {
    /// The same place with a rescan due.
    pub fn unsettled(self) -> Self {
        Self { schema_version: None, ..self }
    }
}
