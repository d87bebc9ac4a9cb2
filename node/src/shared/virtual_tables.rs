//! Virtual tables in a file that is made here: which can be had at all, and how they are filled.
//! What an application adds to one later is its own triggers' affair.

use crate::capture::virtual_module;
use crate::sql::quoted;
use protocol::schema::{ObjectKind, Schema, SchemaObject};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

/// Full-text modules, whose tables can build themselves anew.
const FULL_TEXT: [&str; 3] = ["fts3", "fts4", "fts5"];
/// What shows the words of full-text tables, and has no content of its own.
const VOCABULARIES: [&str; 2] = ["fts5vocab", "fts4aux"];
/// Others that are part of SQLite and keep their content in the database itself.
const OTHERS: [&str; 3] = ["rtree", "rtree_i32", "geopoly"];

/// Makes one; `Err`: why it can't be had here, in words.
///
/// # Errors
/// SQLite's, beyond that it does not understand the statement.
pub fn make(
    connection: &Connection,
    object: &SchemaObject,
) -> rusqlite::Result<Result<(), String>> {
    let module = module(&object.sql);
    if ![&FULL_TEXT[..], &VOCABULARIES, &OTHERS].concat().contains(&&*module) {
        return Ok(Err(format!("it needs the module {module:?}")));
    }
    match connection.execute(&object.sql, []) {
        Ok(_) => Ok(Ok(())),
        // A tokenizer of the application's own, for instance.
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// The module of a virtual table, in small letters.
fn module(sql: &str) -> String {
    virtual_module(sql).unwrap_or_default().to_ascii_lowercase()
}

/// Whether a virtual table has no content of its own that could go stale.
pub fn is_vocabulary(sql: &str) -> bool {
    VOCABULARIES.contains(&&*module(sql))
}

/// Makes all of a schema, and fills them from the rows that are there: by the triggers of the
/// tables in `followed`, which write those that are `written`; else as full-text tables fill
/// themselves. What is not as at other sites, a sentence each.
///
/// # Errors
/// SQLite's.
pub fn complete(
    connection: &Connection,
    schema: &Schema,
    followed: &[String],
    written: impl Fn(&str) -> bool,
) -> rusqlite::Result<Vec<String>> {
    let mut told = Vec::new();
    let objects = schema.objects.iter().filter(|object| object.kind == ObjectKind::Virtual);
    for object in objects {
        let name = &object.name;
        if let Err(why) = make(connection, object)? {
            told.push(format!("{name} can't be made here and is left out: {why}."));
            continue;
        }
        if written(name) || is_vocabulary(&object.sql) {
            continue;
        }
        let table = quoted(name);
        let rebuild = format!("INSERT INTO {table}({table}) VALUES('rebuild')");
        let full_text = FULL_TEXT.contains(&&*module(&object.sql));
        let rebuilt = full_text && connection.execute(&rebuild, []).is_ok();
        let filled = connection.prepare(&format!("SELECT 1 FROM {table}"))?.exists([])?;
        if !rebuilt || !filled {
            told.push(format!("{name} is empty: only the application can fill it."));
        }
    }
    for table in followed {
        connection.execute_batch("SAVEPOINT followed")?;
        if let Err(error) = run_triggers_for_all(connection, schema, table) {
            connection.execute_batch("ROLLBACK TO followed")?;
            told.push(format!("the triggers of {table} do not take its rows: {error}."));
        }
        connection.execute_batch("RELEASE followed")?;
    }
    Ok(told)
}

/// Has every row of a table come anew, with the triggers that look after what follows from it.
fn run_triggers_for_all(
    connection: &Connection,
    schema: &Schema,
    table: &str,
) -> rusqlite::Result<()> {
    let Some(shape) = schema.find(table).and_then(|index| schema.table(index)) else {
        return Ok(());
    };
    let columns: Vec<String> = shape.columns.iter().map(|column| quoted(column)).collect();
    let (columns, table) = (columns.join(", "), quoted(table));
    connection.execute_batch(&format!(
        "CREATE TEMP TABLE _holdfast_rows AS SELECT {columns} FROM main.{table};
         DELETE FROM main.{table}"
    ))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
    let filled = connection.execute_batch(&format!(
        "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM temp._holdfast_rows"
    ));
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    filled?;
    connection.execute_batch("DROP TABLE temp._holdfast_rows")
}
