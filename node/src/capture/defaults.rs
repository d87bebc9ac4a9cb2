//! What rows have in a column that was added after them: its default, if that is a constant.
//! Found by letting SQLite itself add such a column, in memory.

use crate::sql::{from_sql, quoted};
use conflict::Value;
use protocol::schema::{ObjectKind, Schema, Table, TableIndex};
use rusqlite::Connection;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The defaults of one schema's tables, found when they are first asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults(RefCell<BTreeMap<TableIndex, Arc<[Option<Value>]>>>);

impl Defaults {
    /// Those of a table; the schema is the same each time.
    pub fn of(&self, schema: &Schema, index: TableIndex, table: &Table) -> Arc<[Option<Value>]> {
        let mut known = self.0.borrow_mut();
        Arc::clone(known.entry(index).or_insert_with(|| defaults(schema, table).into()))
    }
}

/// They follow from the schema.
impl PartialEq for Defaults {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Defaults {}

/// Per column of a table, what rows have that were there before the column. None where SQLite
/// would not add such a column to a table with rows, or where this can't be known.
pub(super) fn defaults(schema: &Schema, table: &Table) -> Vec<Option<Value>> {
    let statement = schema
        .objects
        .iter()
        .find(|object| object.kind == ObjectKind::Table && object.name == table.name);
    let known = statement.and_then(|object| read(&object.sql, &table.name).ok());
    let known = known.unwrap_or_default();
    table
        .columns
        .iter()
        .map(|column| {
            known.iter().find(|(name, _)| name == column).and_then(|(_, value)| value.clone())
        })
        .collect()
}

fn read(sql: &str, table: &str) -> rusqlite::Result<Vec<(String, Option<Value>)>> {
    let memory = Connection::open_in_memory()?;
    memory.execute_batch(sql)?;
    let strict: bool = memory.query_row(
        "SELECT strict FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
        [table],
        |row| row.get(0),
    )?;
    let strict = if strict { "STRICT" } else { "" };
    let columns = memory
        .prepare("SELECT name, type, dflt_value FROM pragma_table_xinfo(?1) WHERE hidden = 0")?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(String, String, Option<String>)>>>()?;
    let probe = quoted(&format!("{table} probe"));
    columns
        .into_iter()
        .map(|(name, kind, default)| {
            let Some(default) = default else { return Ok((name, Some(Value::Null))) };
            // A default that is an expression needs parentheses, one that is a name bears none.
            let value = [default.clone(), format!("({default})")].into_iter().find_map(|default| {
                let added = memory.execute_batch(&format!(
                    "DROP TABLE IF EXISTS {probe}; CREATE TABLE {probe}(a INT) {strict};
                     INSERT INTO {probe} VALUES(1);
                     ALTER TABLE {probe} ADD COLUMN b {kind} DEFAULT {default};"
                ));
                added.ok()?;
                memory
                    .query_row(&format!("SELECT b FROM {probe}"), [], |row| {
                        Ok(from_sql(row.get_ref(0)?))
                    })
                    .ok()
            });
            Ok((name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_has_the_form_that_old_rows_show() {
        let sql = "CREATE TABLE t(id INTEGER PRIMARY KEY, n, r REAL DEFAULT 1, i INTEGER DEFAULT \
                   '7', s TEXT DEFAULT 'it''s', m DEFAULT -1, w DEFAULT word, \
                   c TEXT DEFAULT CURRENT_TIMESTAMP, e DEFAULT (1 + 1), b DEFAULT x'00')";
        let found: Vec<Option<Value>> =
            read(sql, "t").unwrap().into_iter().skip(1).map(|(_, value)| value).collect();
        assert_eq!(
            found,
            [
                Some(Value::Null),
                Some(Value::Real(1.0)),
                Some(Value::Integer(7)),
                Some(Value::text("it's")),
                Some(Value::Integer(-1)),
                Some(Value::text("word")),
                None,
                None,
                Some(Value::Blob(vec![0])),
            ]
        );
    }
}
