//! Measures how fast batches are written into a mirror, as a ratio to plain SQLite doing the same
//! rows by prepared statements in the same transactions. Decoding of batches is not part of it.
//!
//! `cargo run --release -p node --example apply_rate [-- ROWS]`

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "an example, not the node")]

use anyhow::Context;
use conflict::{Timestamp, Value};
use node::apply::{Incoming, Mirror};
use protocol::change::{Assignment, Body, Operation, RowChange, SchemaReference};
use protocol::schema::{
    ColumnIndex, ObjectKind, RowIdentity, Schema, SchemaObject, Table, TableIndex,
};
use protocol::{BranchId, DatabaseId, Sequence};
use rusqlite::{Connection, OpenFlags, params};
use std::path::Path;
use std::time::Instant;

const TABLE: &str = "CREATE TABLE lines (id INTEGER PRIMARY KEY, sku TEXT NOT NULL, \
     quantity INTEGER NOT NULL, cents INTEGER NOT NULL, vat REAL, at TEXT)";
const INDEX: &str = "CREATE INDEX lines_by_sku ON lines (sku)";
const ROUNDS: u64 = 5;

fn main() -> anyhow::Result<()> {
    let rows = match std::env::args().nth(1) {
        Some(rows) => rows.parse().context("ROWS is a number")?,
        None => 50_000,
    };
    let directory = std::env::temp_dir().join(format!("apply-rate-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    println!("{rows} rows, medians of {ROUNDS} rounds, rows a second");
    println!("{:>10} {:>8} {:>12} {:>12} {:>6}", "batch", "", "plain", "mirror", "ratio");
    for batch in [10, 100, 1_000, 10_000] {
        // One-sale batches make a transaction each; fewer of them say as much.
        let rows = rows.min(batch * 1_000);
        let mut plain = Vec::new();
        let mut mirror = Vec::new();
        for round in 0..ROUNDS {
            let file = |name: &str| directory.join(format!("{name}-{batch}-{round}.db"));
            plain.push(plain_sqlite(&file("plain"), rows, batch)?);
            mirror.push(through_a_mirror(&file("mirror"), rows, batch)?);
        }
        for (number, what) in ["insert", "update", "delete"].into_iter().enumerate() {
            let rate = |times: &[[f64; 3]]| {
                let mut times: Vec<f64> = times.iter().map(|times| times[number]).collect();
                times.sort_by(f64::total_cmp);
                rows as f64 / times[times.len() / 2]
            };
            let (plain, mirror) = (rate(&plain), rate(&mirror));
            println!("{batch:>10} {what:>8} {plain:>12.0} {mirror:>12.0} {:>6.2}", mirror / plain);
        }
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn sku(row: i64) -> String {
    format!("SKU{:07}", row.wrapping_mul(7919) % 100_003)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = OFF; \
         PRAGMA cache_size = -8192",
    )?;
    Ok(connection)
}

fn plain_sqlite(path: &Path, rows: i64, batch: i64) -> anyhow::Result<[f64; 3]> {
    let connection = open(path)?;
    connection.execute_batch(&format!("{TABLE}; {INDEX}"))?;
    let in_batches = |work: &mut dyn FnMut(i64) -> rusqlite::Result<()>| -> anyhow::Result<f64> {
        let start = Instant::now();
        for first in (0..rows).step_by(batch as usize) {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            (first..(first + batch).min(rows)).try_for_each(&mut *work)?;
            connection.execute_batch("COMMIT")?;
        }
        Ok(start.elapsed().as_secs_f64())
    };
    let mut insert = connection.prepare("INSERT INTO lines VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut update =
        connection.prepare("UPDATE lines SET quantity = ?2, cents = ?3 WHERE id = ?1")?;
    let mut delete = connection.prepare("DELETE FROM lines WHERE id = ?1")?;
    Ok([
        in_batches(&mut |row| {
            insert
                .execute(params![row, sku(row), row % 9, row * 3, 0.19, "2026-03-02 08:00:00"])
                .map(drop)
        })?,
        in_batches(&mut |row| update.execute([row, row % 7, row * 5]).map(drop))?,
        in_batches(&mut |row| delete.execute([row]).map(drop))?,
    ])
}

fn through_a_mirror(path: &Path, rows: i64, batch: i64) -> anyhow::Result<[f64; 3]> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut mirror = Mirror::on(Connection::open_with_flags(path, flags)?)?;
    mirror.start(DatabaseId(uuid::Uuid::nil()), BranchId([0; 32]))?;
    let object = |kind, name: &str, sql: &str| SchemaObject {
        kind,
        name: name.to_owned(),
        table: "lines".to_owned(),
        sql: sql.to_owned(),
    };
    let schema = Schema {
        tables: vec![Table {
            name: "lines".to_owned(),
            columns: ["id", "sku", "quantity", "cents", "vat", "at"].map(str::to_owned).to_vec(),
            identity: RowIdentity::Key(vec![ColumnIndex(0)]),
        }],
        objects: vec![
            object(ObjectKind::Table, "lines", TABLE),
            object(ObjectKind::Index, "lines_by_sku", INDEX),
        ],
        user_version: 0,
        application_id: 0,
    };
    let body = Body { schema: SchemaReference::Here(Box::new(schema)), ..Body::default() };
    mirror.apply([incoming(1, body)])?;
    let mut sequence = 1;
    let mut in_batches = |operation: &dyn Fn(i64) -> Operation| -> anyhow::Result<f64> {
        let mut batches = Vec::new();
        for first in (0..rows).step_by(batch as usize) {
            let change =
                |row| RowChange::plain(TableIndex(0), vec![Value::Integer(row)], operation(row));
            let changes = (first..(first + batch).min(rows)).map(change).collect();
            let schema = SchemaReference::At(Sequence(1));
            sequence += 1;
            batches.push(incoming(sequence, Body { schema, changes, ..Body::default() }));
        }
        let start = Instant::now();
        for batch in batches {
            mirror.apply([batch])?;
        }
        Ok(start.elapsed().as_secs_f64())
    };
    let set = |column, value| (ColumnIndex(column), Assignment::Set(Value::Integer(value)));
    Ok([
        in_batches(&|row| {
            Operation::Insert(vec![
                Value::text(&sku(row)),
                Value::Integer(row % 9),
                Value::Integer(row * 3),
                Value::Real(0.19),
                Value::text("2026-03-02 08:00:00"),
            ])
        })?,
        in_batches(&|row| Operation::Update(vec![set(2, row % 7), set(3, row * 5)]))?,
        in_batches(&|_| Operation::Delete)?,
    ])
}

fn incoming(sequence: u64, body: Body) -> Incoming {
    Incoming { sequence: Sequence(sequence), timestamp: Timestamp::ZERO, body, more: false }
}
