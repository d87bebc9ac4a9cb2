//! Reading conflicts back, and marking one as decided. Numbers of tables and columns become names
//! here; what is said of them to people is the engine's and the command's.

use super::{Context, DROPPED, Detail, Kind};
use crate::shared::MergedId;
use crate::store::{DatabaseNumber, StoreError};
use conflict::WallTime;
use conflict::row::Column;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// One conflict.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// Its number, by which people name it.
    pub id: i64,
    /// The database.
    pub database: DatabaseNumber,
    /// The row.
    pub row: MergedId,
    /// The name of its table.
    pub table: String,
    /// What was to be decided.
    pub kind: Kind,
    /// Both sides.
    pub detail: Detail,
    /// Since when it stands.
    pub since: WallTime,
    /// Whether a person has decided it.
    pub decided: bool,
}

/// How many conflicts a database has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Undecided ones.
    pub undecided: u64,
    /// Rows that are parked, decided or not.
    pub parked: u64,
    /// Undecided ones that were dropped, since there were too many.
    pub dropped: u64,
}

const COLUMNS: &str = "SELECT c.id, c.database, c.tbl, c.key, c.birth, c.kind, c.detail,
                              c.since_ms, c.decided, ifnull(t.name, '')
                       FROM conflict AS c LEFT JOIN captured_table AS t
                         ON t.database = c.database AND t.number = c.tbl";

fn conflict(row: &Row<'_>) -> Result<Conflict, StoreError> {
    let (kind, detail): (String, Vec<u8>) = (row.get(5)?, row.get(6)?);
    Ok(Conflict {
        id: row.get(0)?,
        database: DatabaseNumber(row.get(1)?),
        row: MergedId { table: row.get(2)?, key: row.get(3)?, birth: row.get(4)? },
        table: row.get(9)?,
        kind: Kind::read(&kind)?,
        detail: rmp_serde::from_slice(&detail)
            .map_err(|error| StoreError::Damaged(format!("a conflict: {error}")))?,
        since: WallTime(row.get(7)?),
        decided: row.get(8)?,
    })
}

/// The undecided conflicts of all databases, the oldest first.
///
/// # Errors
/// See [`StoreError`].
pub fn undecided(connection: &Connection) -> Result<Vec<Conflict>, StoreError> {
    let sql = format!("{COLUMNS} WHERE c.decided = 0 AND c.kind <> ? ORDER BY c.id");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([DROPPED])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(conflict(row)?);
    }
    Ok(found)
}

/// One conflict.
///
/// # Errors
/// See [`StoreError`].
pub fn find(connection: &Connection, id: i64) -> Result<Option<Conflict>, StoreError> {
    let sql = format!("{COLUMNS} WHERE c.id = ? AND c.kind <> ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![id, DROPPED])?;
    rows.next()?.map(conflict).transpose()
}

/// How many conflicts a database has.
///
/// # Errors
/// See [`StoreError`].
pub fn counts(connection: &Connection, database: DatabaseNumber) -> Result<Counts, StoreError> {
    let count = |sql: &str| {
        connection.prepare_cached(sql)?.query_row([database.0], |row| row.get::<_, i64>(0))
    };
    Ok(Counts {
        undecided: count(
            "SELECT count(*) FROM conflict
             WHERE database = ? AND lasting IN (0, 1) AND decided = 0",
        )?
        .unsigned_abs(),
        parked: count(
            "SELECT count(*) FROM conflict WHERE database = ? AND lasting = 1
             AND kind = 'parked'",
        )?
        .unsigned_abs(),
        dropped: dropped(connection, database)?,
    })
}

/// How many undecided conflicts of a database were dropped, ever.
///
/// # Errors
/// See [`StoreError`].
pub fn dropped(connection: &Connection, database: DatabaseNumber) -> Result<u64, StoreError> {
    let packed: Option<Vec<u8>> = connection
        .prepare_cached("SELECT detail FROM conflict WHERE database = ? AND tbl = 0 AND kind = ?")?
        .query_row(params![database.0, DROPPED], |row| row.get(0))
        .optional()?;
    let count = packed.map(|packed| rmp_serde::from_slice(&packed)).transpose();
    let count = count.map_err(|error| StoreError::Damaged(format!("a count: {error}")))?;
    Ok(count.unwrap_or_default())
}

/// Remembers that a person decided a conflict.
///
/// # Errors
/// See [`StoreError`].
pub fn set_decided(context: Context<'_>, id: i64) -> Result<(), StoreError> {
    super::set_decided(context, "id = ?", params![id])
}

/// The name of a column of a table (`captured_table.number`), if it has one.
///
/// # Errors
/// See [`StoreError`].
pub fn column_name(
    connection: &Connection,
    database: DatabaseNumber,
    table: i64,
    column: Column,
) -> Result<Option<String>, StoreError> {
    Ok(connection
        .prepare_cached(
            "SELECT name FROM merged_column WHERE database = ? AND tbl = ? AND number = ?",
        )?
        .query_row(params![database.0, table, column.0], |row| row.get(0))
        .optional()?)
}
