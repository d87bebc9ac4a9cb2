//! What a schema's statements say of columns beyond their names, as far as rules depend on it. Read
//! from an empty database in memory; a table that can't be made there has plain columns.

use crate::sql::{perform, quoted};
use protocol::schema::{ObjectKind, RowIdentity, Schema};
use rusqlite::Connection;
use std::collections::BTreeSet;

/// One table, in the order of the schema.
#[derive(Clone, Debug, Default)]
pub(super) struct TableShape {
    /// In the order of the schema's table.
    pub columns: Vec<ColumnShape>,
    /// SQLite hands out its keys.
    pub numbered: bool,
    /// Other tables with foreign keys to it.
    pub referred_by: Vec<String>,
}

/// One column.
#[derive(Clone, Debug, Default)]
pub(super) struct ColumnShape {
    /// It takes numbers as numbers.
    pub numeric: bool,
    /// It makes text of numbers.
    pub text: bool,
    /// It must have a value, and has none by itself.
    pub required: bool,
    /// It is part of the key.
    pub key: bool,
    /// It is part of a foreign key.
    pub refers: bool,
    /// It is part of a UNIQUE index beside the key.
    pub unique: bool,
    /// An expression or the condition of a UNIQUE index names it.
    pub in_expression: bool,
}

/// Reads the tables of a schema.
pub(super) fn read(schema: &Schema) -> rusqlite::Result<Vec<TableShape>> {
    let connection = Connection::open_in_memory()?;
    for object in &schema.objects {
        if matches!(object.kind, ObjectKind::Table | ObjectKind::Index)
            && let Err(error) = connection.execute_batch(&object.sql)
        {
            // A function or a collation that only the application has: no more is known.
            tracing::debug!(object = object.name, %error, "has no shape");
        }
    }
    let mut shapes = Vec::new();
    for table in &schema.tables {
        let mut shape = TableShape::default();
        for column in &table.columns {
            shape.columns.push(ColumnShape {
                refers: exists(
                    &connection,
                    "SELECT 1 FROM pragma_foreign_key_list(?1)
                     WHERE \"from\" = ?2 COLLATE NOCASE",
                    [&table.name, column],
                )?,
                unique: exists(
                    &connection,
                    "SELECT 1 FROM pragma_index_list(?1) AS list
                     JOIN pragma_index_info(list.name) AS info
                     WHERE list.\"unique\" AND list.origin <> 'pk' AND info.name = ?2",
                    [&table.name, column],
                )?,
                in_expression: in_unique_expression(&connection, [&table.name, column])?,
                ..declared(&connection, [&table.name, column])?
            });
        }
        if let RowIdentity::Key(key) = &table.identity {
            for index in key {
                if let Some(column) = shape.columns.get_mut(index.0 as usize) {
                    column.key = true;
                }
            }
        }
        shape.numbered = exists(
            &connection,
            "SELECT 1 FROM pragma_table_info(?1) WHERE pk AND type = 'INTEGER' COLLATE NOCASE
             AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?2) WHERE origin = 'pk')",
            [&table.name, &table.name],
        )?;
        let referring: BTreeSet<&String> = schema
            .tables
            .iter()
            .map(|other| {
                let refers = "SELECT 1 FROM pragma_foreign_key_list(?1)
                              WHERE \"table\" = ?2 COLLATE NOCASE";
                let found = other.name != table.name
                    && exists(&connection, refers, [&other.name, &table.name])?;
                Ok(found.then_some(&other.name))
            })
            .filter_map(Result::transpose)
            .collect::<rusqlite::Result<_>>()?;
        shape.referred_by = referring.into_iter().cloned().collect();
        shapes.push(shape);
    }
    Ok(shapes)
}

fn exists(connection: &Connection, sql: &str, of: [&String; 2]) -> rusqlite::Result<bool> {
    connection.prepare_cached(sql)?.exists(of)
}

/// Whether an expression or the condition of a UNIQUE index names a column: then SQLite writes the
/// index anew where the column gets another name.
fn in_unique_expression(
    connection: &Connection,
    [table, column]: [&String; 2],
) -> rusqlite::Result<bool> {
    let written = || {
        let mut statement = connection.prepare_cached(
            "SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND name IN
               (SELECT name FROM pragma_index_list(?1) WHERE \"unique\") ORDER BY name",
        )?;
        let rows = statement.query_map([table], |row| row.get::<_, Option<String>>(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let before = written()?;
    let (table, column) = (quoted(table), quoted(column));
    perform(connection, "SAVEPOINT named")?;
    let rename = format!("ALTER TABLE {table} RENAME COLUMN {column} TO _holdfast_named");
    let renamed = connection.execute_batch(&rename).and_then(|()| written());
    perform(connection, "ROLLBACK TO named")?;
    perform(connection, "RELEASE named")?;
    // A table that could not be made here can't be altered either.
    Ok(renamed.is_ok_and(|after| after != before))
}

fn declared(connection: &Connection, of: [&String; 2]) -> rusqlite::Result<ColumnShape> {
    let mut statement = connection.prepare_cached(
        "SELECT type, \"notnull\", dflt_value IS NOT NULL FROM pragma_table_xinfo(?1)
         WHERE name = ?2",
    )?;
    let mut rows = statement.query(of)?;
    let Some(row) = rows.next()? else { return Ok(ColumnShape::default()) };
    let (kind, not_null, default): (String, bool, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (numeric, text) = affinity(&kind);
    Ok(ColumnShape { numeric, text, required: not_null && !default, ..ColumnShape::default() })
}

/// Whether a type is for numbers, and whether it is for text: by the rules of
/// <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>.
fn affinity(kind: &str) -> (bool, bool) {
    let kind = kind.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| kind.contains(part));
    if has(&["INT"]) {
        return (true, false);
    }
    if has(&["CHAR", "CLOB", "TEXT"]) {
        return (false, true);
    }
    // What is left is NUMERIC, which dates and truth values are too.
    let number = has(&["REAL", "FLOA", "DOUB", "NUM", "DEC", "MONEY", "CURRENCY"]);
    (number && !has(&["BLOB"]), false)
}
