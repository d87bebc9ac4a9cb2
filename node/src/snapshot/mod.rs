//! The chunks of a base on disk, one SQLite database a branch in `DIR/snapshots`: kept by the
//! origin and by every site that has them, so that any of these can serve them. Chunks arrive in
//! order; an interrupted transfer goes on behind the last. What is in a chunk, and whether the
//! manifest is the origin's, is not known here.

use crate::environment::Environment;
use crate::store::StoreError;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::path::Path;

/// The chunks of one base.
#[derive(Debug)]
pub struct BaseFile {
    connection: Connection,
}

impl BaseFile {
    /// Opens the file of a base, or makes it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(environment: &dyn Environment, path: &Path) -> Result<Self, StoreError> {
        let connection = environment.open_database(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -2048)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS chunk (
               number INTEGER PRIMARY KEY,
               bytes  BLOB NOT NULL
             )",
        )?;
        Ok(Self { connection })
    }

    /// Forgets all chunks: those of another manifest never mix with this one's.
    ///
    /// # Errors
    /// SQLite's.
    pub fn clear(&mut self) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM chunk", [])?;
        Ok(())
    }

    /// Adds the next chunks, durably; returns how many there are now.
    ///
    /// # Errors
    /// SQLite's.
    pub fn append<'a>(
        &mut self,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<u32, StoreError> {
        let first = self.count()?;
        let transaction = self.connection.transaction()?;
        let mut count = first;
        for chunk in chunks {
            transaction
                .prepare_cached("INSERT INTO chunk (number, bytes) VALUES (?, ?)")?
                .execute(params![count, chunk])?;
            count += 1;
        }
        transaction.commit()?;
        Ok(count)
    }

    /// How many chunks there are: those before this number.
    ///
    /// # Errors
    /// SQLite's.
    pub fn count(&self) -> Result<u32, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT coalesce(max(number) + 1, 0) FROM chunk")?
            .query_row([], |row| row.get(0))?)
    }

    /// One chunk.
    ///
    /// # Errors
    /// SQLite's.
    pub fn chunk(&self, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT bytes FROM chunk WHERE number = ?")?
            .query_row([number], |row| row.get(0))
            .optional()?)
    }
}
