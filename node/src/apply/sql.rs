//! SQL text and values: quoting names, and carrying values into and out of statements bit for bit.

use conflict::Value;
use rusqlite::Statement;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

/// A name as SQL takes it, whatever is in it.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A value on its way into a statement. Text goes as its bytes, UTF-8 or not.
struct Bound<'a>(&'a Value);

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
pub(super) fn bind<'a>(
    statement: &mut Statement<'_>,
    values: impl IntoIterator<Item = &'a Value>,
) -> rusqlite::Result<()> {
    for (parameter, value) in (1..).zip(values) {
        statement.raw_bind_parameter::<usize, _>(parameter, Bound(value))?;
    }
    Ok(())
}

/// A value as a statement gave it.
pub(super) fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
