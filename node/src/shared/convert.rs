//! `--convert-keys`: tables with an INTEGER PRIMARY KEY get AUTOINCREMENT, without which their
//! numbers can't be sent to blocks ([`super::blocks`]).
//!
//! AUTOINCREMENT changes nothing in how SQLite stores a table, so its statement alone is rewritten
//! in `sqlite_schema`, as <https://www.sqlite.org/lang_altertable.html> describes for such changes
//! ("Making Other Kinds Of Table Schema Changes"). Rows, indexes, triggers, views and foreign keys
//! are not touched. The new statement is first tried in memory: the table must be the same in all
//! that SQLite tells of it.

use super::blocks::provide_sequence;
use crate::capture::{InspectedTable, Inspection, tokens};
use protocol::schema::{RowIdentity, Table};
use rusqlite::{Connection, OptionalExtension};
use thiserror::Error;

/// Why keys were not converted; then nothing has changed.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The statement that makes a table can't be rewritten.
    #[error("AUTOINCREMENT can't be added to {table}: {why}")]
    Statement {
        /// The table.
        table: String,
        /// What is in the way.
        why: String,
    },
    /// The schema is another one than that which was inspected.
    #[error("the schema changed while its keys were being converted")]
    Moved,
    /// SQLite fails; perhaps because somebody else writes.
    #[error("converting keys: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Gives AUTOINCREMENT to every table of `inspection` whose key is an INTEGER PRIMARY KEY without
/// it. All or none, in the caller's transaction, or in one of its own if there is none. The names
/// of the tables; after it the schema must be inspected anew.
///
/// # Errors
/// See [`ConvertError`].
pub fn convert(
    connection: &Connection,
    inspection: &Inspection,
) -> Result<Vec<String>, ConvertError> {
    let keyed = || inspection.schema.tables.iter().zip(&inspection.tables);
    let by_rowid = keyed().filter(|(table, inspected)| is_rowid(table, inspected));
    let names: Vec<&str> = by_rowid.map(|(table, _)| table.name.as_str()).collect();
    connection.execute_batch("SAVEPOINT convert_keys")?;
    let done = within(connection, inspection.schema_version, &names).and_then(|converted| {
        // Outside of a transaction this is the commit.
        connection.execute_batch("RELEASE convert_keys")?;
        Ok(converted)
    });
    // Some failures have SQLite take everything back by itself.
    if done.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK TO convert_keys; RELEASE convert_keys")?;
    }
    done
}

/// Whether the key of a table is its rowid: an INTEGER PRIMARY KEY, with AUTOINCREMENT or not.
pub(super) fn is_rowid(table: &Table, inspected: &InspectedTable) -> bool {
    // Every other key has an index, and with it collations.
    matches!(&table.identity, RowIdentity::Key(_)) && inspected.collations.is_empty()
}

/// Whether the statement that makes a table says AUTOINCREMENT: no name can be written that way
/// without quotes.
pub(super) fn says_autoincrement(sql: &str) -> bool {
    tokens(sql).iter().any(|token| token.is(sql, "AUTOINCREMENT"))
}

/// The statement with AUTOINCREMENT, tried in memory.
///
/// # Errors
/// It can't be added, or SQLite refuses the statement, or the table would be another one.
pub(super) fn converted(table: &str, sql: &str) -> Result<String, ConvertError> {
    let refused = |why: String| ConvertError::Statement { table: table.to_owned(), why };
    let new = with_autoincrement(sql)
        .ok_or_else(|| refused("its statement is written in an unknown way".into()))?;
    let (before, after) = (Connection::open_in_memory()?, Connection::open_in_memory()?);
    for (memory, statement) in [(&before, sql), (&after, new.as_str())] {
        memory
            .execute_batch(statement)
            .map_err(|error| refused(format!("SQLite refuses its statement: {error}")))?;
    }
    let counted: bool = after.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence')",
        [],
        |row| row.get(0),
    )?;
    if !counted || shape(&before, table)? != shape(&after, table)? {
        return Err(refused("it would not be the same table".into()));
    }
    Ok(new)
}

fn within(
    connection: &Connection,
    schema_version: i64,
    names: &[&str],
) -> Result<Vec<String>, ConvertError> {
    if version(connection)? != schema_version {
        return Err(ConvertError::Moved);
    }
    let mut plan = Vec::new();
    for name in names {
        let sql: Option<String> = connection
            .query_row(
                "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?1",
                [name],
                |row| row.get(0),
            )
            .optional()?;
        let sql = sql.ok_or(ConvertError::Moved)?;
        if !says_autoincrement(&sql) {
            plan.push((*name, converted(name, &sql)?, shape(connection, name)?));
        }
    }
    if plan.is_empty() {
        return Ok(Vec::new());
    }
    provide_sequence(connection)?;
    connection.execute_batch("PRAGMA writable_schema = ON")?;
    let written = write(connection, &plan);
    // Forgets the schema, so that it is read again from the file.
    connection.execute_batch("PRAGMA writable_schema = RESET")?;
    written?;
    for (name, _, before) in &plan {
        if shape(connection, name)? != *before {
            let why = "it would not be the same table".into();
            return Err(ConvertError::Statement { table: (*name).to_owned(), why });
        }
    }
    Ok(plan.into_iter().map(|(name, ..)| name.to_owned()).collect())
}

fn write(
    connection: &Connection,
    plan: &[(&str, String, Vec<String>)],
) -> Result<(), ConvertError> {
    let mut update = connection
        .prepare("UPDATE main.sqlite_schema SET sql = ?2 WHERE type = 'table' AND name = ?1")?;
    for (name, sql, _) in plan {
        if update.execute((name, sql))? != 1 {
            return Err(ConvertError::Moved);
        }
    }
    // Every other connection reads the schema anew: as SQLite counts, in 32 bits.
    let next = (version(connection)? as i32).wrapping_add(1);
    connection.execute_batch(&format!("PRAGMA main.schema_version = {next}"))?;
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA main.schema_version", [], |row| row.get(0))
}

/// All that SQLite tells of a table: kind, columns, indexes with their columns, foreign keys.
fn shape(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut shape = Vec::new();
    for question in [
        "SELECT type, ncol, wr, strict FROM pragma_table_list
         WHERE schema = 'main' AND name = ?1",
        "SELECT * FROM pragma_table_xinfo(?1, 'main') ORDER BY cid",
        "SELECT i.name, i.\"unique\", i.origin, i.partial, x.*
         FROM pragma_index_list(?1, 'main') i, pragma_index_xinfo(i.name, 'main') x
         ORDER BY i.name, x.seqno",
        "SELECT * FROM pragma_foreign_key_list(?1, 'main') ORDER BY id, seq",
    ] {
        let mut statement = connection.prepare(question)?;
        let columns = statement.column_count();
        let mut rows = statement.query([table])?;
        while let Some(row) = rows.next()? {
            let values: Result<Vec<_>, _> = (0..columns).map(|at| row.get_ref(at)).collect();
            shape.push(format!("{:?}", values?));
        }
    }
    Ok(shape)
}

/// The statement of a table with AUTOINCREMENT behind its PRIMARY KEY. `None`: it has none, or is
/// written in a way that is not understood here.
fn with_autoincrement(sql: &str) -> Option<String> {
    let tokens = tokens(sql);
    // PRIMARY is no name without quotes, and a table has one primary key.
    let primary = tokens.iter().position(|token| token.is(sql, "PRIMARY"))?;
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is(sql, word));
    let mut last = primary + 1;
    if !is(last, "KEY") {
        return None;
    }
    if is(last + 1, "(") {
        // PRIMARY KEY (column …): behind the last word in the parentheses.
        let mut depth = 0_usize;
        let close = tokens.iter().enumerate().skip(last + 1).find(|(_, token)| {
            depth += usize::from(token.is(sql, "("));
            depth -= usize::from(token.is(sql, ")"));
            depth == 0
        });
        last = close?.0 - 1;
    } else {
        // column … PRIMARY KEY [ASC | DESC] [ON CONFLICT way]
        last += usize::from(is(last + 1, "ASC") || is(last + 1, "DESC"));
        last += if is(last + 1, "ON") && is(last + 2, "CONFLICT") { 3 } else { 0 };
    }
    let end = tokens.get(last)?.end;
    Some(format!("{} AUTOINCREMENT{}", sql.get(..end)?, sql.get(end..)?))
}

#[cfg(test)]
mod tests;
