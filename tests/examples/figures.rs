//! Measures two real nodes on loopback and prints what it saw: commit to visible at the peer,
//! errors of an application beside a busy node, and resident memory. Figures of this machine at
//! this moment, for comparing within one run; nothing here passes or fails.
//!
//! `cargo run --release -p tests --example figures`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "an example stops where it fails")]

use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::site::{Home, Site};
use tests::wait::wait_until;

const COMMITS: usize = 500;
const SCHEMA: &str = "
    CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER, at TEXT);
    CREATE TABLE stock (id INTEGER PRIMARY KEY, n INTEGER);
    INSERT INTO stock VALUES (1, 1000000);";

fn main() {
    let home = Home::new();
    let (mut downtown, mut uptown) = home.two();
    downtown.stop();
    downtown.set_batch_interval("0");
    downtown.run();
    let path = home.path("shop.db");
    let shop = application(&path);
    shop.execute_batch(SCHEMA).expect("a schema");
    downtown.attach("pos", &path);
    let mirror = uptown.mirror("downtown", "pos");
    wait_until("the first copy", Duration::from_secs(60), || mirror.exists());
    downtown.wait_until_safe("pos");

    memory("idle, downtown", &downtown);
    memory("idle, uptown", &uptown);
    latency(&shop, &mirror, "one by one", Duration::from_millis(20));
    latency(&shop, &mirror, "back to back", Duration::ZERO);
    let alone = home.path("alone.db");
    application(&alone).execute_batch(SCHEMA).expect("a schema");
    busy(&path, "beside a busy node");
    busy(&alone, "without a node");
    bulk(&shop);
    downtown.wait_until_safe("pos");
    memory("after 200,000 rows, downtown", &downtown);
    memory("after 200,000 rows, uptown", &uptown);
    downtown.stop();
    uptown.stop();
}

fn application(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("an application's connection");
    connection.busy_timeout(Duration::from_secs(5)).expect("a busy timeout");
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
        .expect("settings");
    connection
}

fn latency(shop: &Connection, mirror: &Path, how: &str, pause: Duration) {
    let reader = Connection::open_with_flags(mirror, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .expect("a reader of the mirror");
    let newest = |connection: &Connection| -> i64 {
        connection
            .query_row("SELECT coalesce(max(id), 0) FROM sale", [], |row| row.get(0))
            .expect("the newest sale")
    };
    let mut took: Vec<Duration> = (0..COMMITS)
        .map(|_| {
            let id = newest(shop) + 1;
            shop.execute("INSERT INTO sale VALUES (?, 250, '2026-11-23 10:00:00')", [id])
                .expect("a sale");
            let committed = Instant::now();
            while newest(&reader) < id {
                assert!(committed.elapsed() < Duration::from_secs(60), "sale {id} never came");
            }
            let took = committed.elapsed();
            std::thread::sleep(pause);
            took
        })
        .collect();
    took.sort();
    let at = |share: usize| took[COMMITS * share / 100].as_secs_f64() * 1000.0;
    println!(
        "commit to visible at the peer, {how}: p50 {:.1} ms, p99 {:.1} ms ({COMMITS} commits)",
        at(50),
        at(99)
    );
}

/// An application that begins by reading and then writes, beside another of its kind that writes
/// steadily. Back to back it finds a write between its reading and its writing now and then: how
/// often without a node is the baseline.
fn busy(path: &Path, how: &str) {
    let stop = AtomicBool::new(false);
    let (mut done, mut errors) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let other = application(path);
            while !stop.load(Ordering::Relaxed) {
                other
                    .execute("INSERT INTO sale (cents, at) VALUES (1, '')", [])
                    .expect("the busy one's sale");
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let mut shop = application(path);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            let result = shop.transaction().and_then(|transaction| {
                let n: i64 =
                    transaction.query_row("SELECT n FROM stock WHERE id = 1", [], |r| r.get(0))?;
                transaction.execute("UPDATE stock SET n = ? WHERE id = 1", [n - 1])?;
                transaction.commit()
            });
            match result {
                Ok(()) => done += 1,
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    errors += 1;
                }
                Err(error) => println!("another error: {error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("BEGIN, SELECT, UPDATE {how}: {errors} BUSY in {} transactions", done + errors);
}

fn bulk(shop: &Connection) {
    shop.execute_batch(
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
         INSERT INTO sale (cents, at) SELECT i * 7 % 5000, '2026-11-23 10:00:00' FROM n",
    )
    .expect("a bulk insert");
}

fn memory(when: &str, site: &Site) {
    let status = std::fs::read_to_string(format!(
        "/proc/{}/status",
        site.process_id().expect("a running node")
    ))
    .expect("the process's status");
    let of = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
            .unwrap_or(f64::NAN)
            / 1024.0
    };
    println!("resident memory, {when}: {:.1} MB (peak {:.1})", of("VmRSS:"), of("VmHWM:"));
}
