//! What a shared database costs its application in BUSY errors: transactions that read before they
//! write, and such that say BEGIN IMMEDIATE, with busy timeouts of 0 and 5 s, beside a node that
//! writes what a peer sends steadily; and the same beside a second connection of the application's
//! own that writes as often, without a node. Real nodes, files and sockets; nothing here passes or
//! fails.
//!
//! `cargo run --release -p tests --example busy_cost [TRANSACTIONS] [MILLISECONDS BETWEEN
//! SENDS] [MICROSECONDS THAT THE APPLICATION RESTS BETWEEN TWO TRANSACTIONS]`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "an example stops where it fails")]

use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::shop::Shop;
use tests::site::{Home, Site};

const SHOP: &str = "
    CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER, at TEXT);
    CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER NOT NULL);
    INSERT INTO stock VALUES ('tea', 0), ('salt', 0);";

/// How long the application rests after an error.
const AFTER_ERROR: Duration = Duration::from_millis(20);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse().expect("a number"));
    let transactions = arguments.next().unwrap_or(10_000);
    let between = Duration::from_millis(arguments.next().unwrap_or(20));
    let rest = Duration::from_micros(arguments.next().unwrap_or(1000));
    let home = Home::new();
    let (mut downtown, mut uptown) = home.two();
    for site in [&mut downtown, &mut uptown] {
        hurry(site);
    }
    let (downtown, uptown) = Shop::both(&home, (downtown, uptown), SHOP);
    let alone = home.path("alone.db");
    open(&alone, 0).execute_batch(SHOP).expect("a schema");

    println!(
        "BUSY errors in {transactions} transactions; the peer sends every {between:?}, \
         the application rests {rest:?}"
    );
    for begin in ["BEGIN", "BEGIN IMMEDIATE"] {
        for seconds in [0, 5] {
            let stop = AtomicBool::new(false);
            let before = writes(&downtown.site);
            let (beside_node, took) = std::thread::scope(|scope| {
                scope.spawn(|| write_steadily(&uptown.path, between, &stop));
                let done = work(&downtown.path, begin, seconds, transactions, rest);
                stop.store(true, Ordering::Relaxed);
                done
            });
            let written = writes(&downtown.site) - before;
            let pace = written as f64 / took.as_secs_f64();

            let stop = AtomicBool::new(false);
            let often = took.div_f64(written.max(1) as f64);
            let (beside_own, _) = std::thread::scope(|scope| {
                scope.spawn(|| write_steadily(&alone, often, &stop));
                let done = work(&alone, begin, seconds, transactions, rest);
                stop.store(true, Ordering::Relaxed);
                done
            });
            let ratio = match (beside_node, beside_own) {
                (0, 0) => "none in either".to_owned(),
                (_, 0) => "none beside its own".to_owned(),
                (node, own) => format!("ratio {:.2}", f64::from(node) / f64::from(own)),
            };
            println!(
                "{begin:15} timeout {seconds} s: {beside_node:5} beside the node, {beside_own:5} \
                 beside a second connection ({ratio}; {pace:.0} writes/s of either)"
            );
        }
    }
}

/// Batches are closed at once, so that each write of the peer is one here.
fn hurry(site: &mut Site) {
    site.stop();
    site.set_batch_interval("0");
    site.run();
}

fn open(path: &Path, seconds: u64) -> Connection {
    let connection = Connection::open(path).expect("an application's connection");
    connection.busy_timeout(Duration::from_secs(seconds)).expect("a busy timeout");
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        .expect("settings");
    connection
}

/// How often the node has written to the application's file.
fn writes(site: &Site) -> i64 {
    let store = Connection::open_with_flags(
        site.dir.join("node.db"),
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .expect("the node's own database");
    store.busy_timeout(Duration::from_secs(5)).expect("a busy timeout");
    store
        .query_row("SELECT coalesce(sum(count), 0) FROM written", [], |row| row.get(0))
        .expect("a count")
}

fn write_steadily(path: &Path, often: Duration, stop: &AtomicBool) {
    let other = open(path, 60);
    let begun = Instant::now();
    let mut next = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        other
            .execute_batch(
                "BEGIN IMMEDIATE; INSERT INTO sale (cents, at) VALUES (1, '');
                 UPDATE stock SET n = n + 1 WHERE sku = 'salt'; COMMIT",
            )
            .expect("the other's sale");
        next += often;
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
    }
}

/// Errors, and how long it took.
fn work(
    path: &Path,
    begin: &str,
    seconds: u64,
    transactions: u64,
    rest: Duration,
) -> (u32, Duration) {
    let shop = open(path, seconds);
    let begun = Instant::now();
    let mut errors = 0;
    for _ in 0..transactions {
        let result = transaction(&shop, begin);
        if let Err(error) = result {
            assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy), "{error}");
            errors += 1;
            if !shop.is_autocommit() {
                shop.execute_batch("ROLLBACK").expect("it is taken back");
            }
            // Whoever fails tells a person, and does not meet the same write again at once.
            std::thread::sleep(AFTER_ERROR);
        }
        std::thread::sleep(rest);
    }
    (errors, begun.elapsed())
}

fn transaction(shop: &Connection, begin: &str) -> rusqlite::Result<()> {
    shop.prepare_cached(begin)?.execute([])?;
    let n: i64 = shop
        .prepare_cached("SELECT n FROM stock WHERE sku = 'tea'")?
        .query_row([], |row| row.get(0))?;
    shop.prepare_cached("UPDATE stock SET n = ? WHERE sku = 'tea'")?.execute([n + 1])?;
    shop.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}
