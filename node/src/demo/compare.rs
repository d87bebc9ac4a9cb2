//! Comparing two SQLite files, content for content: the judge of the demo and of tests.
//!
//! It shares no code with what makes copies, so that it can't share their mistakes: it asks SQLite
//! for tables, columns and keys itself, reads both files row by row in the order of the key, and
//! compares values bit for bit. What counts as content is `verify`'s definition: not the layout of
//! the file, not rowids of tables with a key, nothing named `sqlite_*` or `_holdfast*`, and no
//! virtual tables.

use conflict::Value;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Differences beyond this many are counted, not kept.
const KEPT: usize = 20;

/// What comparing two files found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Tables that both files have and whose rows were compared.
    pub tables: u64,
    /// Rows compared; one that only one file has counts as well.
    pub rows: u64,
    /// How many differences there are.
    pub found: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Whether the two have the same content.
    pub fn identical(&self) -> bool {
        self.found == 0
    }

    fn add(&mut self, difference: Difference) {
        self.found += 1;
        if self.differences.len() < KEPT {
            self.differences.push(difference);
        }
    }
}

/// One difference. `a` is what the first file has, `b` the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// `user_version` or `application_id`.
    Number {
        /// Which of them.
        name: &'static str,
        /// In the first file.
        a: i64,
        /// In the second file.
        b: i64,
    },
    /// A statement of the schema.
    Object {
        /// `table`, `index`, `view` or `trigger`, and the object's name.
        name: (String, String),
        /// In the first file.
        a: Option<String>,
        /// In the second file.
        b: Option<String>,
    },
    /// A table's columns or key; its rows are not compared.
    Columns {
        /// The table.
        table: String,
    },
    /// A row.
    Row {
        /// The table.
        table: String,
        /// What tells the row apart, as the first file that has it says.
        key: Vec<Value>,
        /// The row's values in the first file.
        a: Option<BTreeMap<String, Value>>,
        /// The row's values in the second file.
        b: Option<BTreeMap<String, Value>>,
    },
}

/// Why two files could not be compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// SQLite could not read a file.
    #[error("{path} could not be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The order of UTF-16 text is another one.
    #[error("{path} keeps text in {encoding}; only UTF-8 can be compared")]
    Encoding {
        /// The file.
        path: PathBuf,
        /// Its encoding.
        encoding: String,
    },
}

/// One file, read as it is at one moment.
struct Side<'p> {
    path: &'p Path,
    connection: Connection,
}

/// A table as SQLite describes it.
#[derive(PartialEq, Eq)]
struct Shape {
    columns: Vec<String>,
    key: Vec<String>,
}

/// Compares the content of two SQLite files, each as it is at one moment. Neither is written to;
/// both may be in use.
///
/// # Errors
/// A file can't be read or holds UTF-16.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison, CompareError> {
    let (a, b) = (Side::open(a)?, Side::open(b)?);
    let mut comparison = Comparison::default();
    for name in ["user_version", "application_id"] {
        let (in_a, in_b) = (a.number(name)?, b.number(name)?);
        if in_a != in_b {
            comparison.add(Difference::Number { name, a: in_a, b: in_b });
        }
    }
    // What one file knows as a part of a virtual table is none of the content of the other.
    let mut uncarried = a.uncarried()?;
    uncarried.extend(b.uncarried()?);
    let (objects_a, objects_b) = (a.objects(&uncarried)?, b.objects(&uncarried)?);
    let names: BTreeSet<_> = objects_a.keys().chain(objects_b.keys()).collect();
    for name in names {
        let (in_a, in_b) = (objects_a.get(name), objects_b.get(name));
        if in_a != in_b {
            comparison.add(Difference::Object {
                name: name.clone(),
                a: in_a.cloned(),
                b: in_b.cloned(),
            });
        }
        if name.0 == "table" && in_a.is_some() && in_b.is_some() {
            compare_table(&a, &b, &name.1, &mut comparison)?;
        }
    }
    Ok(comparison)
}

fn compare_table(
    a: &Side<'_>,
    b: &Side<'_>,
    table: &str,
    comparison: &mut Comparison,
) -> Result<(), CompareError> {
    let shape = a.shape(table)?;
    if shape != b.shape(table)? {
        comparison.add(Difference::Columns { table: table.to_owned() });
        return Ok(());
    }
    comparison.tables += 1;
    // A key with NULL in it tells nothing apart: then the rowid is what there is.
    let by_rowid =
        shape.key.is_empty() || a.has_null(table, &shape)? || b.has_null(table, &shape)?;
    let rowid = ["rowid", "_rowid_", "oid"]
        .into_iter()
        .find(|name| !shape.columns.iter().any(|column| column.eq_ignore_ascii_case(name)));
    let key: Vec<&str> = match rowid {
        Some(rowid) if by_rowid => vec![rowid],
        _ => shape.key.iter().map(String::as_str).collect(),
    };
    let columns: Vec<&str> =
        key.iter().copied().chain(shape.columns.iter().map(String::as_str)).collect();
    let sql = format!(
        "SELECT {} FROM {} ORDER BY {}",
        columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "),
        quoted(table),
        (1..=key.len()).map(|n| format!("{n} COLLATE BINARY")).collect::<Vec<_>>().join(", ")
    );
    let mut statement_a = a.connection.prepare(&sql).map_err(|e| a.unreadable(e))?;
    let mut statement_b = b.connection.prepare(&sql).map_err(|e| b.unreadable(e))?;
    let mut rows_a = statement_a.query([]).map_err(|e| a.unreadable(e))?;
    let mut rows_b = statement_b.query([]).map_err(|e| b.unreadable(e))?;
    let mut row_a = rows_a.next().map_err(|e| a.unreadable(e))?;
    let mut row_b = rows_b.next().map_err(|e| b.unreadable(e))?;
    loop {
        let order = match (row_a, row_b) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(in_a), Some(in_b)) => {
                let mut order = Ordering::Equal;
                for index in 0..key.len() {
                    let x = in_a.get_ref(index).map_err(|e| a.unreadable(e))?;
                    let y = in_b.get_ref(index).map_err(|e| b.unreadable(e))?;
                    order = order.then_with(|| in_order_of_sqlite(x, y));
                }
                order
            }
        };
        comparison.rows += 1;
        let same = order == Ordering::Equal
            && match (row_a, row_b) {
                (Some(in_a), Some(in_b)) => {
                    let mut same = true;
                    for index in 0..columns.len() {
                        let x = in_a.get_ref(index).map_err(|e| a.unreadable(e))?;
                        let y = in_b.get_ref(index).map_err(|e| b.unreadable(e))?;
                        same = same && same_bits(x, y);
                    }
                    same
                }
                _ => false,
            };
        if !same {
            let values = |side: &Side<'_>, row: Option<&Row<'_>>| {
                row.map(|row| values_of(row, &columns).map_err(|e| side.unreadable(e))).transpose()
            };
            let in_a = if order.is_le() { values(a, row_a)? } else { None };
            let in_b = if order.is_ge() { values(b, row_b)? } else { None };
            let named = in_a.as_ref().or(in_b.as_ref());
            let key = key.iter().filter_map(|name| named?.get(*name).cloned()).collect();
            comparison.add(Difference::Row { table: table.to_owned(), key, a: in_a, b: in_b });
        }
        if order.is_le() {
            row_a = rows_a.next().map_err(|e| a.unreadable(e))?;
        }
        if order.is_ge() {
            row_b = rows_b.next().map_err(|e| b.unreadable(e))?;
        }
    }
}

impl<'p> Side<'p> {
    fn open(path: &'p Path) -> Result<Self, CompareError> {
        let unreadable = |source| CompareError::Unreadable { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        #[expect(clippy::disallowed_methods, reason = "the judge relies on nothing of the node")]
        let connection = Connection::open_with_flags(path, flags).map_err(unreadable)?;
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)
            .and_then(|_| connection.busy_timeout(std::time::Duration::from_secs(5)))
            .and_then(|()| connection.execute_batch("PRAGMA cache_size = -8192; BEGIN"))
            .map_err(unreadable)?;
        let encoding: String =
            connection.query_row("PRAGMA encoding", [], |row| row.get(0)).map_err(unreadable)?;
        if encoding != "UTF-8" {
            return Err(CompareError::Encoding { path: path.to_owned(), encoding });
        }
        Ok(Self { path, connection })
    }

    fn unreadable(&self, source: rusqlite::Error) -> CompareError {
        CompareError::Unreadable { path: self.path.to_owned(), source }
    }

    fn number(&self, pragma: &str) -> Result<i64, CompareError> {
        self.connection
            .query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
            .map_err(|e| self.unreadable(e))
    }

    /// The names of virtual tables and of the tables beneath them.
    fn uncarried(&self) -> Result<BTreeSet<String>, CompareError> {
        let sql = "SELECT name FROM pragma_table_list \
                   WHERE schema = 'main' AND type IN ('virtual', 'shadow')";
        let names = || {
            let mut select = self.connection.prepare(sql)?;
            select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()
        };
        names().map_err(|e| self.unreadable(e))
    }

    /// The schema: kind and name to statement.
    fn objects(
        &self,
        uncarried: &BTreeSet<String>,
    ) -> Result<BTreeMap<(String, String), String>, CompareError> {
        let read = || {
            let mut select = self.connection.prepare(
                "SELECT type, name, sql, tbl_name FROM sqlite_schema WHERE sql NOT NULL",
            )?;
            let mut rows = select.query([])?;
            let mut objects = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
                let lower = name.to_ascii_lowercase();
                let owner: String = row.get(3)?;
                if !lower.starts_with("sqlite_")
                    && !lower.starts_with("_holdfast")
                    && !uncarried.contains(&name)
                    && !uncarried.contains(&owner)
                {
                    objects.insert((kind, name), row.get(2)?);
                }
            }
            Ok(objects)
        };
        read().map_err(|e| self.unreadable(e))
    }

    fn shape(&self, table: &str) -> Result<Shape, CompareError> {
        let read = || {
            let mut select = self
                .connection
                .prepare("SELECT name, pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1")?;
            let mut rows = select.query([table])?;
            let mut columns = Vec::new();
            let mut key = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (name, place): (String, i64) = (row.get(0)?, row.get(1)?);
                if place > 0 {
                    key.insert(place, name.clone());
                }
                columns.push(name);
            }
            Ok(Shape { columns, key: key.into_values().collect() })
        };
        read().map_err(|e| self.unreadable(e))
    }

    fn has_null(&self, table: &str, shape: &Shape) -> Result<bool, CompareError> {
        let any = shape
            .key
            .iter()
            .map(|column| format!("{} IS NULL", quoted(column)))
            .collect::<Vec<_>>()
            .join(" OR ");
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {any})", quoted(table));
        self.connection.query_row(&sql, [], |row| row.get(0)).map_err(|e| self.unreadable(e))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn values_of(row: &Row<'_>, columns: &[&str]) -> rusqlite::Result<BTreeMap<String, Value>> {
    let mut values = BTreeMap::new();
    for (index, name) in columns.iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(integer) => Value::Integer(integer),
            ValueRef::Real(real) => Value::Real(real),
            ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        };
        values.insert((*name).to_owned(), value);
    }
    Ok(values)
}

fn same_bits(a: ValueRef<'_>, b: ValueRef<'_>) -> bool {
    match (a, b) {
        (ValueRef::Null, ValueRef::Null) => true,
        (ValueRef::Integer(a), ValueRef::Integer(b)) => a == b,
        (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
        (ValueRef::Text(a), ValueRef::Text(b)) | (ValueRef::Blob(a), ValueRef::Blob(b)) => a == b,
        _ => false,
    }
}

/// The order of `ORDER BY … COLLATE BINARY`: NULL, numbers by value, text, blobs.
fn in_order_of_sqlite(a: ValueRef<'_>, b: ValueRef<'_>) -> Ordering {
    use ValueRef::{Blob, Integer, Null, Real, Text};
    let class = |value| match value {
        Null => 0,
        Integer(_) | Real(_) => 1,
        Text(_) => 2,
        Blob(_) => 3,
    };
    match (a, b) {
        (Integer(a), Integer(b)) => a.cmp(&b),
        (Real(a), Real(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (Integer(a), Real(b)) => integer_to_real(a, b),
        (Real(a), Integer(b)) => integer_to_real(b, a).reverse(),
        (Text(a), Text(b)) | (Blob(a), Blob(b)) => a.cmp(b),
        (a, b) => class(a).cmp(&class(b)),
    }
}

/// Compares exactly: a double can't hold every integer.
fn integer_to_real(integer: i64, real: f64) -> Ordering {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if real >= BEYOND {
        return Ordering::Less;
    }
    if real < -BEYOND {
        return Ordering::Greater;
    }
    let whole = real.trunc();
    integer.cmp(&(whole as i64)).then_with(|| {
        if whole < real {
            Ordering::Less
        } else if whole > real {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    })
}

#[cfg(test)]
mod tests;
