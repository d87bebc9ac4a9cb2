//! Values between SQLite and [`conflict::Value`], bit for bit, names as SQL writes them, and
//! transactions. What statements are about is not known here.

use conflict::Value;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, ToSql};

/// A statement that is needed again and again: parsed once.
///
/// # Errors
/// SQLite's.
pub fn perform(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.raw_execute().map(drop)
}

/// A transaction, whose statements are parsed once. It is taken back unless it is committed.
#[derive(Debug)]
pub struct Begun<'c>(&'c Connection);

impl<'c> Begun<'c> {
    /// Begins one, in the words of `sql`.
    ///
    /// # Errors
    /// SQLite's; nothing is begun then.
    pub fn begin(connection: &'c Connection, sql: &str) -> rusqlite::Result<Self> {
        perform(connection, sql)?;
        Ok(Self(connection))
    }

    /// Ends it with all that was done in it.
    ///
    /// # Errors
    /// SQLite's; it is taken back then.
    pub fn commit(self) -> rusqlite::Result<()> {
        perform(self.0, "COMMIT")
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit()
            && let Err(error) = perform(self.0, "ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be taken back");
        }
    }
}

/// A value as a parameter. Text goes as its bytes, UTF-8 or not.
#[derive(Debug)]
pub struct Bound<'a>(pub &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(bytes) => ValueRef::Text(bytes),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Binds `values` to the parameters from `?1` on.
///
/// # Errors
/// The statement has fewer parameters.
pub fn bind<'a>(
    statement: &mut Statement<'_>,
    values: impl IntoIterator<Item = &'a Value>,
) -> rusqlite::Result<()> {
    for (parameter, value) in (1..).zip(values) {
        statement.raw_bind_parameter::<usize, _>(parameter, Bound(value))?;
    }
    Ok(())
}

/// A value as SQLite hands it out.
pub fn from_sql(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// The values of `columns` consecutive columns of a row, from column `first`.
///
/// # Errors
/// The row has fewer columns.
pub fn row_values(
    row: &rusqlite::Row<'_>,
    first: usize,
    columns: usize,
) -> rusqlite::Result<Vec<Value>> {
    (first..first + columns).map(|column| Ok(from_sql(row.get_ref(column)?))).collect()
}

/// A name as SQL writes it, whatever characters it has.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
