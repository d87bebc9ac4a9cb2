//! Rows of which this site is to say something of its own, which nobody else would: kept from when
//! that is settled until it is said. What is said is told in `rekey` and `keep_mark`.

use super::MergedId;
use crate::store::{DatabaseNumber, StoreError, loaded};
use rusqlite::{Connection, params};

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// A row whose number another site's row has goes on under another.
    Number,
    /// It should, and there is no number to give it.
    Numberless,
    /// A mark that is to stay is meant.
    Mark,
}

impl Owed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Numberless => "numberless",
            Self::Mark => "mark",
        }
    }

    /// Whether any row waits for it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn is_due(
        self,
        connection: &Connection,
        database: DatabaseNumber,
    ) -> Result<bool, StoreError> {
        Ok(connection
            .prepare_cached("SELECT 1 FROM owed WHERE database = ?1 AND what = ?2 LIMIT 1")?
            .exists(params![database.0, self.as_str()])?)
    }

    /// How many rows wait for it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn count(
        self,
        connection: &Connection,
        database: DatabaseNumber,
    ) -> Result<u64, StoreError> {
        let count = connection
            .prepare_cached("SELECT count(*) FROM owed WHERE database = ?1 AND what = ?2")?
            .query_row(params![database.0, self.as_str()], |row| row.get(0))?;
        loaded("rows that wait", count)
    }

    /// A row waits for it.
    pub(super) fn note(
        self,
        connection: &Connection,
        database: i64,
        row: &MergedId,
    ) -> Result<(), StoreError> {
        connection
            .prepare_cached("INSERT OR IGNORE INTO owed VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![database, self.as_str(), row.table, row.key, row.birth])?;
        Ok(())
    }

    /// Up to `limit` rows that waited for it; they do no more.
    pub(super) fn take(
        self,
        connection: &Connection,
        database: i64,
        limit: usize,
    ) -> Result<Vec<MergedId>, StoreError> {
        let waiting: Vec<MergedId> = connection
            .prepare_cached(
                "SELECT tbl, key, birth FROM owed WHERE database = ?1 AND what = ?2 LIMIT ?3",
            )?
            .query_map(params![database, self.as_str(), limit as i64], |row| {
                Ok(MergedId { table: row.get(0)?, key: row.get(1)?, birth: row.get(2)? })
            })?
            .collect::<Result<_, _>>()?;
        let mut done = connection.prepare_cached(
            "DELETE FROM owed
             WHERE database = ?1 AND what = ?2 AND tbl = ?3 AND key = ?4 AND birth = ?5",
        )?;
        for row in &waiting {
            done.execute(params![database, self.as_str(), row.table, row.key, row.birth])?;
        }
        Ok(waiting)
    }

    /// Rows for which there was no number wait for one again: there may be one now.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn try_again(connection: &Connection, database: DatabaseNumber) -> Result<(), StoreError> {
        for row in Self::Numberless.take(connection, database.0, usize::MAX >> 1)? {
            Self::Number.note(connection, database.0, &row)?;
        }
        Ok(())
    }
}
