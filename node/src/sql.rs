//! Values between SQLite and [`conflict::Value`], bit for bit, and names as SQL writes them. No
//! statement of anybody stands here.

use conflict::Value;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Statement, ToSql};

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
