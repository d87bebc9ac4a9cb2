//! The write that shared mode makes to an application's file: what stands under some keys is
//! removed, and rows are put there, in one polite transaction that counts itself in the marker. In
//! it the file is asked and read first, so that nothing is written over what was not harvested.

use super::application::{Application, Open, last_note};
use super::error::CaptureError;
use super::harvest::{Limits, Reading};
use super::images::{Captured, Position};
use super::install::{Fault, Polite};
use super::triggers::{LOG, MARKER};
use crate::sql::bind;
use conflict::Value;
use protocol::schema::TableIndex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use std::collections::BTreeSet;
use std::path::Path;

/// What stands under a key from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// The table.
    pub table: TableIndex,
    /// The key; one that SQLite takes for the same is the same.
    pub key: Vec<Value>,
    /// The row; `None`: none.
    pub row: Option<Vec<Value>>,
}

/// The application's file while this node alone can write it.
#[derive(Debug)]
pub struct Held<'a> {
    application: &'a mut Application,
    open: &'a Open,
}

impl Application {
    /// Runs `work` with the file held; what it writes is committed durably if it says so.
    ///
    /// # Errors
    /// The file can't be opened or written; those of `work`.
    pub fn write<T, E: From<CaptureError>>(
        &mut self,
        work: impl FnOnce(&mut Held<'_>) -> Result<Polite<T>, E>,
    ) -> Result<Polite<T>, E> {
        if self.tables_missing() {
            self.with_open(|application, open| application.load(&open.connection))??;
        }
        self.write_politely("FULL", |application, open| {
            // Takes the write lock before anything is decided.
            let lock = format!("UPDATE main.{MARKER} SET writes = writes");
            open.connection.prepare_cached(&lock)?.raw_execute()?;
            let mut held = Held { application, open };
            work(&mut held).map_err(Fault::Other)
        })
    }

    /// How many writes of the node the file has seen.
    ///
    /// # Errors
    /// The file can't be read, or is not attached.
    pub fn writes(&mut self) -> Result<i64, CaptureError> {
        let path = self.path.clone();
        if self.marker()? != Some(self.marker) {
            return Err(CaptureError::NotAttached(path));
        }
        self.reading(count)
    }
}

impl Held<'_> {
    /// Its schema, as last refreshed.
    pub fn captured(&self) -> &Captured {
        &self.application.captured
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.application.path()
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.open.connection
    }

    /// How many writes of the node the file has seen.
    ///
    /// # Errors
    /// It can't be read.
    pub fn writes(&self) -> Result<i64, CaptureError> {
        count(&self.open.connection).map_err(|error| self.failed(error))
    }

    /// What was committed since the last harvest.
    ///
    /// # Errors
    /// As [`Application::read`].
    pub fn read(&mut self, position: &Position) -> Result<Reading, CaptureError> {
        self.application.read_on(self.open, position, Limits::default(), None)
    }

    /// Puts the rows in their places, and says that this is the write of that number. In the tables
    /// `with_triggers` the application's triggers run as if it had written the rows itself.
    ///
    /// # Errors
    /// A row is refused ([`CaptureError::Trigger`]: by a trigger), or the file can't be written.
    pub fn put(
        &mut self,
        forms: &[Form],
        with_triggers: &BTreeSet<TableIndex>,
        number: i64,
    ) -> Result<(), CaptureError> {
        let (followed, silent): (Vec<&Form>, Vec<&Form>) =
            forms.iter().partition(|form| with_triggers.contains(&form.table));
        let connection = &self.open.connection;
        let newest = last_note(connection).map_err(|error| self.failed(error))?;
        // All that must go, before anything comes: rows may swap unique values.
        for step in [Self::remove, Self::insert] {
            for form in &silent {
                step(self, form).map_err(|error| self.failed(error))?;
            }
            if !followed.is_empty() {
                self.with_triggers(|| followed.iter().try_for_each(|form| step(self, form)))?;
            }
        }
        let count = || {
            if !followed.is_empty() {
                // Our own triggers ran too, and what they noted is what was written here.
                let newest = newest.map_or(0, |newest| newest.id);
                let sql = format!("DELETE FROM main.{LOG} WHERE id > ?1");
                connection.prepare_cached(&sql)?.execute([newest])?;
            }
            let sql = format!("UPDATE main.{MARKER} SET writes = ?1");
            connection.prepare_cached(&sql)?.execute([number]).map(drop)
        };
        count().map_err(|error| self.failed(error))
    }

    fn remove(&self, form: &Form) -> rusqlite::Result<()> {
        let table = self.application.tables.get(form.table.0 as usize);
        let Some(table) = table else { return Ok(()) };
        let mut delete = self.open.connection.prepare_cached(&table.delete)?;
        bind(&mut delete, &form.key)?;
        delete.raw_execute().map(drop)
    }

    fn insert(&self, form: &Form) -> rusqlite::Result<()> {
        let table = self.application.tables.get(form.table.0 as usize);
        let (Some(table), Some(row)) = (table, &form.row) else { return Ok(()) };
        let mut insert = self.open.connection.prepare_cached(&table.insert)?;
        bind(&mut insert, row)?;
        match insert.raw_execute()? {
            1 => Ok(()),
            // RAISE(IGNORE) of a trigger: the row would count as one that the application removed.
            inserted => Err(rusqlite::Error::StatementChangedRows(inserted)),
        }
    }

    /// Does something with the application's triggers at work.
    fn with_triggers(
        &self,
        work: impl FnOnce() -> rusqlite::Result<()>,
    ) -> Result<(), CaptureError> {
        let switch = |on| {
            let switched =
                self.open.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, on);
            switched.map(drop).map_err(|error| self.failed(error))
        };
        switch(true)?;
        // A full-text table that is not as its triggers think says that it is damaged.
        let derived = |error: &rusqlite::Error| {
            let code = error.sqlite_error().map(|error| error.extended_code);
            code == Some(rusqlite::ffi::SQLITE_CORRUPT_VTAB)
        };
        let done = work().map_err(|error| match error.sqlite_error_code() {
            _ if derived(&error) => {
                CaptureError::Trigger(self.application.path().to_owned(), error.to_string())
            }
            // What a trigger says by RAISE, lacks, or breaks; the rest is the file's.
            None | Some(ErrorCode::ConstraintViolation | ErrorCode::Unknown) => {
                CaptureError::Trigger(self.application.path().to_owned(), error.to_string())
            }
            Some(_) => self.failed(error),
        });
        switch(false)?;
        done
    }

    fn failed(&self, error: rusqlite::Error) -> CaptureError {
        CaptureError::application(self.application.path(), error)
    }
}

fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(&format!("SELECT writes FROM main.{MARKER}"))?
        .query_row([], |row| row.get(0))
}
