//! What capture costs: the application's writes with and without triggers, interleaved in one
//! run, as ratios of wall and of processor time (the latter is steady on a busy machine), and the
//! pace of harvest and rescan.
//!
//! `cargo run --release -p node --example capture_cost [ROUNDS] [DIRECTORY]`
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

use conflict::{SiteId, Timestamp};
use node::capture::{
    Application, Captured, Images, Limits, Marker, Polite, Position, Reading, Rescan, fold,
};
use node::environment::production::Production;
use protocol::DatabaseId;
use protocol::schema::TableIndex;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const SHOP: &str = "
    CREATE TABLE product(id INTEGER PRIMARY KEY, sku TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
      price INTEGER NOT NULL, stock INTEGER NOT NULL);
    CREATE TABLE sale(id INTEGER PRIMARY KEY AUTOINCREMENT, number TEXT NOT NULL UNIQUE,
      at TEXT NOT NULL, total INTEGER NOT NULL);
    CREATE TABLE sale_line(id INTEGER PRIMARY KEY, sale INTEGER NOT NULL REFERENCES sale(id),
      product INTEGER NOT NULL, quantity INTEGER NOT NULL, price INTEGER NOT NULL);
    CREATE INDEX sale_line_sale ON sale_line(sale);
    CREATE INDEX sale_line_product ON sale_line(product);
    CREATE TABLE payment(id INTEGER PRIMARY KEY, sale INTEGER NOT NULL REFERENCES sale(id),
      kind TEXT NOT NULL, amount INTEGER NOT NULL);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
      INSERT INTO product SELECT i, 'SKU-' || i, 'Article number ' || i, i * 10, 1000 FROM n;";

const BULK: usize = 100_000;

/// Wall and processor seconds.
#[derive(Clone, Copy)]
struct Cost([f64; 2]);

fn cost(work: impl FnOnce()) -> Cost {
    let processor = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
    };
    let (wall, before) = (Instant::now(), processor());
    work();
    Cost([wall.elapsed().as_secs_f64(), processor() - before])
}

struct Captor {
    application: Application,
    node: Connection,
    position: Position,
}

impl Captor {
    fn attach(path: &Path) -> Self {
        let node = Connection::open(path.with_extension("node")).unwrap();
        node.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").unwrap();
        node.execute_batch(include_str!("../src/store/schema.sql")).unwrap();
        let marker = Marker {
            database: DatabaseId(uuid::Uuid::from_u128(1)),
            site: SiteId::new(uuid::Uuid::from_u128(2)),
        };
        let files = Arc::new(Production::new());
        let mut application = Application::new(files, path.to_owned(), marker, Captured::default());
        let Polite::Done(position) = application.install(&Images::new(&node, 1), false).unwrap()
        else {
            panic!("busy")
        };
        let mut captor = Self { application, node, position };
        let schema = captor.application.captured().schema.clone();
        let images = Images::new(&captor.node, 1);
        images.store_schema(&position, &schema, protocol::Sequence::ZERO).unwrap();
        captor.drain(Rescan::fresh((0..schema.tables.len()).map(|at| TableIndex(at as u32))));
        captor
    }

    /// Rows read.
    fn drain(&mut self, mut rescan: Rescan) -> usize {
        let limits = Limits::default();
        let stamp = Timestamp::try_from(1 << 40).unwrap();
        let mut rows = 0;
        loop {
            let transaction = self.node.unchecked_transaction().unwrap();
            let images = Images::new(&transaction, 1);
            let captured = self.application.captured().clone();
            let work = rescan.next(&captured, &images, limits).unwrap();
            match self.application.read(&self.position, limits, work.as_ref()).unwrap() {
                Reading::Nothing => return rows,
                Reading::Notes(notes) => {
                    rows += notes.rows.len();
                    let folded = fold(&notes, &captured, &images, stamp).unwrap();
                    images.store_position(&notes.position).unwrap();
                    transaction.commit().unwrap();
                    self.application.harvested(&notes);
                    rescan.advance(&notes, &folded);
                    self.position = notes.position;
                }
                moved => panic!("{moved:?}"),
            }
        }
    }
}

/// One row, a sale, bulk insert one by one, bulk insert at once, bulk update; then the harvest.
fn round(path: &Path, synchronous: &str, captured: bool) -> Vec<Cost> {
    let shop = Connection::open(path).unwrap();
    shop.set_prepared_statement_cache_capacity(64);
    shop.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    shop.execute_batch(SHOP).unwrap();
    shop.execute_batch(&format!("PRAGMA synchronous = {synchronous}")).unwrap();
    let mut captor = captured.then(|| Captor::attach(path));
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        shop.prepare_cached(sql).unwrap().execute(values).unwrap();
    };
    let times = if synchronous == "FULL" { 200 } else { 3000 };
    let mut costs = vec![cost(|| {
        for i in 0..times {
            run("UPDATE product SET price = price + 1 WHERE id = ?1", &[&(i * 7 % 10_000 + 1)]);
        }
    })];
    costs.push(cost(|| {
        for i in 0..times {
            run("BEGIN IMMEDIATE", &[]);
            run(
                "INSERT INTO sale(number, at, total) VALUES(?1, '2026-11-20T10:00:00', 1000)",
                &[&format!("INV-{i}")],
            );
            let sale = shop.last_insert_rowid();
            for line in 0..4 {
                let product = (i * 31 + line * 977) % 10_000 + 1;
                run(
                    "INSERT INTO sale_line(sale, product, quantity, price) VALUES(?1, ?2, 1, 250)",
                    &[&sale, &product],
                );
                run("UPDATE product SET stock = stock - 1 WHERE id = ?1", &[&product]);
            }
            run("INSERT INTO payment(sale, kind, amount) VALUES(?1, 'card', 1000)", &[&sale]);
            run("COMMIT", &[]);
        }
    }));
    costs.push(cost(|| {
        run("BEGIN", &[]);
        for i in 0..BULK {
            run(
                "INSERT INTO sale_line(sale, product, quantity, price) VALUES(?1, ?2, 1, 250)",
                &[&((i % 100 + 1) as i64), &((i % 5000 + 1) as i64)],
            );
        }
        run("COMMIT", &[]);
    }));
    costs.push(cost(|| {
        run(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO sale_line(sale, product, quantity, price)
             SELECT i % 100 + 1, i % 5000 + 1, 1, 250 FROM n",
            &[],
        );
    }));
    costs.push(cost(|| {
        run(
            "UPDATE sale_line SET price = price + 1, product = product + 1 WHERE id <= 110000",
            &[],
        );
    }));
    if let Some(captor) = &mut captor {
        let mut rows = 0;
        let harvest = cost(|| rows = captor.drain(Rescan::default()));
        costs.push(Cost(harvest.0.map(|seconds| rows as f64 / seconds)));
        let tables = (0..4).map(TableIndex);
        let rescan = cost(|| rows = captor.drain(Rescan::of(tables)));
        costs.push(Cost(rescan.0.map(|seconds| rows as f64 / seconds)));
    }
    costs
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(5, |rounds| rounds.parse().unwrap());
    let base = arguments.next().unwrap_or_else(|| ".".to_owned());
    println!("time with capture / without, median of {rounds}: wall (processor)");
    for synchronous in ["NORMAL", "FULL"] {
        let mut ratios = vec![vec![Vec::new(); 2]; 5];
        let mut paces = vec![Vec::new(); 2];
        for number in 0..rounds * 2 {
            // A file each: none is warmer than the other. The order alternates.
            let mut pair = [Vec::new(), Vec::new()];
            for turn in 0..2 {
                let captured = (turn + number) % 2;
                let directory = tempfile::tempdir_in(&base).unwrap();
                let path = directory.path().join("shop.db");
                pair[captured] = round(&path, synchronous, captured == 1);
            }
            let [without, with] = pair;
            for (at, ratio) in ratios.iter_mut().enumerate() {
                for (kind, values) in ratio.iter_mut().enumerate() {
                    values.push(with[at].0[kind] / without[at].0[kind]);
                }
            }
            for (at, pace) in paces.iter_mut().enumerate() {
                pace.push(with[5 + at].0[0]);
            }
        }
        let names = ["one row", "a sale", "100k inserts", "100k at once", "110k update"];
        for (name, ratio) in names.iter().zip(ratios) {
            let [wall, processor] = [0, 1].map(|kind: usize| median(ratio[kind].clone()));
            println!("{synchronous:7} {name:13} {wall:5.2} ({processor:.2})");
        }
        let [harvest, rescan] = [0, 1].map(|at: usize| median(paces[at].clone()));
        println!("{synchronous:7} rows/s: harvest {harvest:.0}, rescan {rescan:.0}");
    }
}
