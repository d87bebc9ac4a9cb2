//! What the tests need: files for an environment, an origin that turns SQL into batches by
//! comparing all rows before and after, and a pair of it and its mirror.

#![expect(clippy::disallowed_methods, reason = "the tests' environment is made here")]

use crate::apply::{Applied, ApplyError, Incoming, Mirror};
use crate::demo::compare::compare;
use crate::environment::{
    BoxFuture, Environment, Executor, FileIdentity, FileWatch, Readers, TaskHandle,
};
use crate::sql::{from_sql, quoted};
use conflict::{Timestamp, Value, WallTime};
use protocol::change::{Assignment, Body, Operation, RowChange, SchemaReference};
use protocol::schema::{
    ColumnIndex, ObjectKind, RowIdentity, Schema, SchemaObject, Table, TableIndex,
};
use protocol::{BranchId, DatabaseId, Sequence};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

/// Files and databases, and nothing else of the world.
#[derive(Debug)]
pub(super) struct Files;

impl Environment for Files {
    fn open_database(
        &self,
        path: &Path,
        flags: rusqlite::OpenFlags,
    ) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        Ok(connection)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn wall_clock(&self) -> WallTime {
        unreachable!("a mirror needs files alone")
    }
    fn fill_random(&self, _: &mut [u8]) {
        unreachable!("a mirror needs files alone")
    }
    fn spawn(&self, _: BoxFuture<'static, ()>) -> Box<dyn TaskHandle> {
        unreachable!("a mirror needs files alone")
    }
    fn executor(&self, _: &'static str) -> Arc<dyn Executor> {
        unreachable!("a mirror needs files alone")
    }
    fn quic_runtime(&self) -> Arc<dyn quinn::Runtime> {
        unreachable!("a mirror needs files alone")
    }
    fn bind(&self, _: SocketAddr) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        unreachable!("a mirror needs files alone")
    }
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        unreachable!("a mirror needs files alone")
    }
    fn interfaces(&self) -> io::Result<Vec<IpAddr>> {
        unreachable!("a mirror needs files alone")
    }
    fn watch(&self, _: &Path) -> io::Result<Box<dyn FileWatch>> {
        unreachable!("a mirror needs files alone")
    }
    fn readers(&self, _: &Path) -> io::Result<Readers> {
        unreachable!("a mirror needs files alone")
    }
    fn sync_committed(&self, _: &Path) -> io::Result<()> {
        unreachable!("a mirror needs files alone")
    }
    fn rewrite_wal(&self, _: &Path) -> io::Result<()> {
        unreachable!("a mirror needs files alone")
    }
    fn file_identity(&self, _: &Path) -> io::Result<Option<FileIdentity>> {
        unreachable!("a mirror needs files alone")
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        unreachable!("a mirror needs files alone")
    }
    fn read_file(&self, _: &Path) -> io::Result<Option<Vec<u8>>> {
        unreachable!("a mirror needs files alone")
    }
    fn write_file(&self, _: &Path, _: &[u8], _: bool) -> io::Result<()> {
        unreachable!("a mirror needs files alone")
    }
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        unreachable!("a mirror needs files alone")
    }
    fn list_directory(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        unreachable!("a mirror needs files alone")
    }
}

pub(super) const DATABASE: DatabaseId = DatabaseId(Uuid::from_u128(7));
pub(super) const BRANCH: BranchId = BranchId([3; 32]);

/// The rows of a table, by packed key: key and all columns.
type Rows = BTreeMap<Vec<u8>, (Vec<Value>, Vec<Value>)>;

/// A plain database, and what its last batch left of it.
pub(super) struct Origin {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) schema: Schema,
    images: Vec<Rows>,
    pub(super) sequence: Sequence,
    pub(super) schema_at: Sequence,
}

impl Origin {
    pub(super) fn new(path: PathBuf) -> Self {
        let connection = Connection::open(&path).unwrap();
        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; \
                       PRAGMA foreign_keys = ON;";
        connection.execute_batch(pragmas).unwrap();
        Self {
            path,
            connection,
            schema: Schema::default(),
            images: Vec::new(),
            sequence: Sequence::ZERO,
            schema_at: Sequence::ZERO,
        }
    }

    /// Runs SQL and gives what it changed.
    pub(super) fn batch(&mut self, sql: &str) -> Incoming {
        self.connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        self.harvest()
    }

    /// What changed since the last batch.
    pub(super) fn harvest(&mut self) -> Incoming {
        let schema = read_schema(&self.connection);
        let images: Vec<Rows> =
            schema.tables.iter().map(|table| read_rows(&self.connection, table)).collect();
        let mut body = Body::default();
        for ((index, table), rows) in (0..).map(TableIndex).zip(&schema.tables).zip(&images) {
            let before = self.schema.find(&table.name).and_then(|index| {
                let old = &self.schema.tables[index.0 as usize];
                Some((
                    old,
                    translate(&self.connection, old, table, &self.images[index.0 as usize])?,
                ))
            });
            match before {
                Some((_, before)) => diff(index, table, &before, rows, &mut body.changes),
                None => {
                    body.cleared.push(index);
                    diff(index, table, &Rows::new(), rows, &mut body.changes);
                }
            }
        }
        self.sequence = self.sequence.next();
        body.schema = if schema == self.schema && self.schema_at > Sequence::ZERO {
            SchemaReference::At(self.schema_at)
        } else {
            self.schema_at = self.sequence;
            SchemaReference::Here(Box::new(schema.clone()))
        };
        (self.schema, self.images) = (schema, images);
        incoming(self.sequence, body)
    }
}

pub(super) fn incoming(sequence: Sequence, body: Body) -> Incoming {
    let timestamp = Timestamp::try_from(1000 + sequence.0).unwrap();
    Incoming { sequence, timestamp, body, more: false }
}

/// Cuts a batch into a run of batches with `size` changes each, in reverse order, so that what
/// makes room comes last. Numbers go on from the batch's.
pub(super) fn cut(batch: Incoming, size: usize) -> Vec<Incoming> {
    let Body { schema, cleared, changes, .. } = batch.body;
    let mut changes: Vec<RowChange> = changes;
    changes.reverse();
    let count = changes.len().div_ceil(size).max(1) as u64;
    let mut run = Vec::new();
    let mut schema_at = SchemaReference::At(batch.sequence);
    if let SchemaReference::At(_) = schema {
        schema_at = schema.clone();
    }
    let mut schema = Some(schema);
    let mut cleared = Some(cleared);
    for number in 0..count {
        let rest = changes.split_off(size.min(changes.len()));
        let body = Body {
            dependencies: Vec::new(),
            schema: schema.take().unwrap_or_else(|| schema_at.clone()),
            cleared: cleared.take().unwrap_or_default(),
            changes: std::mem::replace(&mut changes, rest),
        };
        let mut part = incoming(Sequence(batch.sequence.0 + number), body);
        part.more = number + 1 < count;
        run.push(part);
    }
    run
}

/// An origin and its mirror.
pub(super) struct Pair {
    pub(super) origin: Origin,
    pub(super) mirror: Mirror,
    pub(super) path: PathBuf,
    pub(super) directory: TempDir,
}

impl Pair {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirror.db");
        let mut mirror = Mirror::open(&Files, &path).unwrap();
        mirror.start(DATABASE, BRANCH).unwrap();
        let origin = Origin::new(directory.path().join("origin.db"));
        Self { origin, mirror, path, directory }
    }

    /// Does `sql` at the origin, applies it to the mirror, and compares the two.
    pub(super) fn step(&mut self, sql: &str) -> Applied {
        let batch = self.origin.batch(sql);
        let applied = self.mirror.apply([batch]).unwrap_or_else(|error| panic!("{sql}: {error}"));
        self.assert_identical(sql);
        applied
    }

    /// The same, but the changes come in a run of small batches.
    pub(super) fn step_in_parts(&mut self, sql: &str, size: usize) -> Applied {
        let run = cut(self.origin.batch(sql), size);
        self.origin.sequence = run.last().unwrap().sequence;
        let applied = self.mirror.apply(run).unwrap_or_else(|error| panic!("{sql}: {error}"));
        self.assert_identical(sql);
        applied
    }

    pub(super) fn assert_identical(&self, after: &str) {
        let comparison = compare(&self.origin.path, &self.path).unwrap();
        assert!(comparison.identical(), "after {after}: {:#?}", comparison.differences);
        assert_eq!(self.mirror.integrity().unwrap(), Vec::<String>::new(), "after {after}");
    }

    /// Applies a batch that must fail, and sees that nothing of it is in the mirror.
    pub(super) fn fails(&mut self, batch: Incoming) -> ApplyError {
        let before = *self.mirror.marker().unwrap();
        let error = self.mirror.apply([batch]).unwrap_err();
        assert_eq!(*self.mirror.marker().unwrap(), before);
        self.assert_identical(&error.to_string());
        error
    }
}

pub(super) fn names<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> Vec<T> {
    let mut select = connection.prepare(sql).unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

pub(super) fn read_schema(connection: &Connection) -> Schema {
    let carried = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
                   AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let names: Vec<String> = names(connection, carried);
    let mut objects = Vec::new();
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql NOT NULL";
    let mut select = connection.prepare(sql).unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let kind = match row.get::<_, String>(0).unwrap().as_str() {
            "table" => ObjectKind::Table,
            "index" => ObjectKind::Index,
            "view" => ObjectKind::View,
            _ => ObjectKind::Trigger,
        };
        let (name, table): (String, String) = (row.get(1).unwrap(), row.get(2).unwrap());
        if !name.starts_with("sqlite_") && (kind != ObjectKind::Table || names.contains(&name)) {
            objects.push(SchemaObject { kind, name, table, sql: row.get(3).unwrap() });
        }
    }
    objects.sort();
    let number = |name| connection.query_row(name, [], |row| row.get(0)).unwrap();
    Schema {
        tables: names.iter().map(|name| read_table(connection, name)).collect(),
        objects,
        user_version: number("PRAGMA user_version"),
        application_id: number("PRAGMA application_id"),
    }
}

fn read_table(connection: &Connection, name: &str) -> Table {
    let mut columns: Vec<String> = Vec::new();
    let mut key = BTreeMap::new();
    let sql = "SELECT name, pk FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid";
    let mut select = connection.prepare(sql).unwrap();
    let mut rows = select.query([name]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let place: i64 = row.get(1).unwrap();
        if place > 0 {
            key.insert(place, ColumnIndex(columns.len() as u32));
        }
        columns.push(row.get(0).unwrap());
    }
    let key: Vec<ColumnIndex> = key.into_values().collect();
    let null = |column: &ColumnIndex| {
        let column = &columns[column.0 as usize];
        let sql = format!("SELECT count(*) FROM {} WHERE {} IS NULL", quoted(name), quoted(column));
        connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0
    };
    let identity = if key.is_empty() || key.iter().any(null) {
        let free = ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|name| !columns.iter().any(|column| column.eq_ignore_ascii_case(name)));
        RowIdentity::Rowid(free.unwrap().to_owned())
    } else {
        RowIdentity::Key(key)
    };
    Table { name: name.to_owned(), columns, identity }
}

fn read_rows(connection: &Connection, table: &Table) -> Rows {
    let mut columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
    if let RowIdentity::Rowid(name) = &table.identity {
        columns.push(name.clone());
    }
    let sql = format!("SELECT {} FROM {}", columns.join(","), quoted(&table.name));
    let mut select = connection.prepare(&sql).unwrap();
    let mut rows = select.query([]).unwrap();
    let mut images = Rows::new();
    while let Some(row) = rows.next().unwrap() {
        let values: Vec<Value> =
            (0..columns.len()).map(|column| from_sql(row.get_ref(column).unwrap())).collect();
        let key: Vec<Value> = match &table.identity {
            RowIdentity::Key(key) => key.iter().map(|i| values[i.0 as usize].clone()).collect(),
            RowIdentity::Rowid(_) => vec![values.last().unwrap().clone()],
        };
        let values = values[..table.columns.len()].to_vec();
        images.insert(rmp_serde::to_vec(&key).unwrap(), (key, values));
    }
    images
}

/// The rows of a table's old form as its new form has them before anything was done to them;
/// `None` where something else tells them apart in it.
fn translate(connection: &Connection, old: &Table, new: &Table, rows: &Rows) -> Option<Rows> {
    if old == new {
        return Some(rows.clone());
    }
    let place = |name: &String| old.columns.iter().position(|column| column == name);
    let key = |table: &Table| match &table.identity {
        RowIdentity::Key(key) => {
            Some(key.iter().map(|i| table.columns[i.0 as usize].clone()).collect::<Vec<_>>())
        }
        RowIdentity::Rowid(_) => None,
    };
    if key(old) != key(new) {
        return None;
    }
    let default = |name: &String| {
        let sql = "SELECT dflt_value FROM pragma_table_info(?1) WHERE name = ?2";
        let text: Option<String> =
            connection.query_row(sql, [&new.name, name], |row| row.get(0)).unwrap();
        text.map_or(Value::Null, |text| {
            let sql = format!("SELECT {text}");
            let value = |row: &rusqlite::Row<'_>| row.get_ref(0).map(from_sql);
            connection.query_row(&sql, [], value).unwrap()
        })
    };
    let mut images = Rows::new();
    for (key, values) in rows.values() {
        let values: Vec<Value> = new
            .columns
            .iter()
            .map(|name| place(name).map_or_else(|| default(name), |i| values[i].clone()))
            .collect();
        images.insert(rmp_serde::to_vec(key).unwrap(), (key.clone(), values));
    }
    Some(images)
}

fn diff(
    index: TableIndex,
    table: &Table,
    before: &Rows,
    after: &Rows,
    changes: &mut Vec<RowChange>,
) {
    let others: Vec<ColumnIndex> = table.other_columns().collect();
    for (packed, (key, _)) in before {
        if !after.contains_key(packed) {
            changes.push(RowChange::plain(index, key.clone(), Operation::Delete));
        }
    }
    for (packed, (key, values)) in after {
        let value = |column: &ColumnIndex| values[column.0 as usize].clone();
        let operation = match before.get(packed) {
            None => Operation::Insert(others.iter().map(value).collect()),
            Some((_, old)) if old == values => continue,
            Some((_, old)) => Operation::Update(
                others
                    .iter()
                    .filter(|column| old[column.0 as usize] != values[column.0 as usize])
                    .map(|column| (*column, Assignment::Set(value(column))))
                    .collect(),
            ),
        };
        changes.push(RowChange::plain(index, key.clone(), operation));
    }
}
