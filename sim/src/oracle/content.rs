//! The content of a database as an application sees it: its tables, their columns, and their rows
//! as a multiset, bit for bit. Neither rowids nor the order of rows count, nor indexes, triggers
//! and views, nor what belongs to SQLite (`sqlite_*`) or to the node (`_holdfast*`). Generated
//! columns count as any: who reads the mirror reads them too.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;
use std::fmt;

/// What a whole database held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub u128);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0 >> 80)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The names of its columns, in their order.
    pub columns: Vec<String>,
    /// How many rows it has.
    pub rows: u64,
    /// The sum of the hashes of all rows.
    pub sum: u128,
}

/// All tables of a database, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The tables.
    pub tables: BTreeMap<String, Table>,
}

impl Content {
    /// Whether there is not one table.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The hash of all.
    pub fn hash(&self) -> ContentHash {
        hash_tables(self.tables.iter())
    }
}

/// Reads all of a database, in one read snapshot.
///
/// # Errors
/// SQLite's.
pub fn read(connection: &Connection) -> rusqlite::Result<Content> {
    in_snapshot(connection, |connection| {
        let mut content = Content::default();
        for Shape { name, columns, .. } in shapes(connection)? {
            let mut table = Table { columns, ..Table::default() };
            let mut select = connection.prepare(&format!("SELECT * FROM {}", quoted(&name)))?;
            let mut rows = select.query([])?;
            let mut hasher = RowHasher::default();
            while let Some(row) = rows.next()? {
                table.rows += 1;
                table.sum = table.sum.wrapping_add(hasher.hash(row, 0, table.columns.len())?);
            }
            content.tables.insert(name, table);
        }
        Ok(content)
    })
}

/// Does something in one read snapshot: the transaction that is open, or one of its own.
pub(super) fn in_snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    if !connection.is_autocommit() {
        return work(connection);
    }
    let transaction = connection.unchecked_transaction()?;
    let done = work(&transaction)?;
    transaction.finish()?;
    Ok(done)
}

pub(super) fn hash_tables<'a>(
    tables: impl Iterator<Item = (&'a String, &'a Table)>,
) -> ContentHash {
    let mut bytes = Vec::with_capacity(1024);
    for (name, table) in tables {
        put(&mut bytes, b'T', name.as_bytes());
        for column in &table.columns {
            put(&mut bytes, b'C', column.as_bytes());
        }
        put(&mut bytes, b'N', &table.rows.to_le_bytes());
        put(&mut bytes, b'S', &table.sum.to_le_bytes());
    }
    ContentHash(short(&bytes))
}

/// A table as the schema has it.
#[derive(Debug)]
pub(super) struct Shape {
    pub name: String,
    pub columns: Vec<String>,
    pub without_rowid: bool,
}

/// All tables of applications.
pub(super) fn shapes(connection: &Connection) -> rusqlite::Result<Vec<Shape>> {
    // Reading the schema's table makes SQLite notice that another connection moved it.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut list = connection.prepare(
        "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table'",
    )?;
    let found = list
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(String, bool)>>>()?;
    let mut shapes = Vec::new();
    for (name, without_rowid) in found.into_iter().filter(|(name, _)| counts(name)) {
        let select = connection.prepare(&format!("SELECT * FROM {}", quoted(&name)))?;
        let columns = select.column_names().map(str::to_owned).collect();
        shapes.push(Shape { name, columns, without_rowid });
    }
    Ok(shapes)
}

/// Whether a table of that name is an application's.
pub(super) fn counts(table: &str) -> bool {
    !table.starts_with("sqlite_") && !table.starts_with("_holdfast")
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Hashes rows, one after another.
#[derive(Debug, Default)]
pub(super) struct RowHasher(Vec<u8>);

impl RowHasher {
    /// So many columns of a row, from the `first` on.
    pub fn hash(&mut self, row: &Row<'_>, first: usize, columns: usize) -> rusqlite::Result<u128> {
        self.0.clear();
        for column in first..first + columns {
            match row.get_ref(column)? {
                ValueRef::Null => self.0.push(b'0'),
                ValueRef::Integer(value) => put(&mut self.0, b'i', &value.to_le_bytes()),
                ValueRef::Real(value) => put(&mut self.0, b'r', &value.to_bits().to_le_bytes()),
                ValueRef::Text(text) => put(&mut self.0, b't', text),
                ValueRef::Blob(blob) => put(&mut self.0, b'b', blob),
            }
        }
        Ok(short(&self.0))
    }
}

/// What kind of thing, how long, and the thing: no two contents look alike.
fn put(bytes: &mut Vec<u8>, kind: u8, part: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
    bytes.extend_from_slice(part);
}

fn short(bytes: &[u8]) -> u128 {
    let hash = blake3::hash(bytes);
    u128::from_le_bytes(hash.as_bytes()[..16].try_into().unwrap())
}
