//! Others read while a mirror is written, and the node is killed while it writes.

#![expect(clippy::disallowed_methods, reason = "readers and killers are no part of the node")]

use super::world::{Files, Pair, cut};
use crate::apply::Mirror;
use crate::demo::compare::compare;
use crate::demo::shop::{BALANCE, Shop};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn readable(path: &Path) -> Connection {
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    reader
}

#[test]
fn no_reader_ever_sees_half_a_batch() {
    let mut pair = Pair::new();
    let mut shop = Shop::create(&mut pair.origin.connection, 1, 30).unwrap();
    let first = pair.origin.harvest();
    pair.mirror.apply([first]).unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(AtomicU64::new(0));
    let reader = {
        let (path, done, seen) = (pair.path.clone(), Arc::clone(&done), Arc::clone(&seen));
        std::thread::spawn(move || {
            let keeps = readable(&path);
            let mut totals = std::collections::BTreeSet::new();
            while !done.load(Ordering::Acquire) {
                let opens = readable(&path);
                for connection in [&keeps, &opens] {
                    let sql = format!("SELECT ({BALANCE}), (SELECT sum(total_cents) FROM orders)");
                    let (balance, total): (i64, i64) = connection
                        .query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
                        .unwrap();
                    assert_eq!(balance, 0);
                    totals.insert(total);
                }
                seen.store(totals.len() as u64, Ordering::Release);
            }
        })
    };
    let mut steps = 0;
    // Until the reader has seen many states; each sale moves both sides of the balance.
    while seen.load(Ordering::Acquire) < 40 && steps < 3000 && !reader.is_finished() {
        shop.sell(&mut pair.origin.connection).unwrap();
        if steps % 3 == 0 {
            shop.return_goods(&mut pair.origin.connection).unwrap();
        }
        let run = cut(pair.origin.harvest(), 2);
        pair.origin.sequence = run.last().unwrap().sequence;
        pair.mirror.apply(run).unwrap();
        steps += 1;
    }
    done.store(true, Ordering::Release);
    reader.join().unwrap();
    assert!(seen.load(Ordering::Acquire) >= 40);
    pair.assert_identical("all sales");
}

#[test]
fn a_reader_in_its_snapshot_hinders_nothing() {
    let mut pair = Pair::new();
    pair.step("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 1)");
    let reader = readable(&pair.path);
    reader.execute_batch("BEGIN").unwrap();
    let value = |reader: &Connection| {
        reader.query_row("SELECT v FROM t", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(value(&reader), 1);
    pair.step("UPDATE t SET v = 2");
    pair.step("ALTER TABLE t ADD COLUMN w");
    assert_eq!(value(&reader), 1);
    let Pair { origin, mirror, path, directory } = pair;
    mirror.close().unwrap();
    assert_eq!(value(&reader), 1);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(value(&reader), 2);
    drop(reader);
    let mirror = Mirror::open(&Files, &path).unwrap();
    Pair { origin, mirror, path, directory }.step("UPDATE t SET w = 3");
}

#[test]
fn the_command_line_shell_reads_a_mirror_open_or_closed() {
    let mut pair = Pair::new();
    pair.step("CREATE TABLE t (v); INSERT INTO t VALUES ('hello')");
    let ask = || {
        let output = Command::new("sqlite3")
            .arg("-readonly")
            .arg(&pair.path)
            .arg("SELECT v FROM t")
            .output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // Where there is no shell there is nothing to ask.
    let Ok(open) = ask() else { return };
    assert_eq!(open, "hello\n");
    pair.mirror.close().unwrap();
    assert!(!beside(&pair.path, "-wal").exists());
    let closed = Command::new("sqlite3")
        .arg("-readonly")
        .arg(&pair.path)
        .arg("SELECT v FROM t")
        .output()
        .unwrap();
    assert_eq!(closed.stdout, b"hello\n");
}

/// A copy of file and `-wal` between two calls is what a kill leaves; a writer that dies inside a
/// transaction leaves frames in the `-wal` that nobody has committed.
#[test]
fn a_killed_mirror_goes_on_where_its_marker_stands() {
    let mut pair = Pair::new();
    let mut shop = Shop::create(&mut pair.origin.connection, 2, 200).unwrap();
    let mut batches = vec![pair.origin.harvest()];
    for step in 0..30 {
        shop.sell(&mut pair.origin.connection).unwrap();
        shop.edit(&mut pair.origin.connection).unwrap();
        if step == 20 {
            pair.origin.connection.execute_batch("ALTER TABLE orders ADD COLUMN note").unwrap();
        }
        batches.push(pair.origin.harvest());
    }
    for kill in 0..batches.len() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("killed.db");
        let mut mirror = Mirror::open(&Files, &path).unwrap();
        mirror.start(super::world::DATABASE, super::world::BRANCH).unwrap();
        mirror.apply(batches[..kill].iter().cloned()).unwrap();
        let copy = directory.path().join("copy.db");
        let snatch = || {
            std::fs::copy(&path, &copy).unwrap();
            std::fs::copy(beside(&path, "-wal"), beside(&copy, "-wal")).unwrap();
        };
        // In the middle of the rest: the iterator runs inside the transaction.
        let rest = batches[kill..].iter().cloned().enumerate().map(|(number, batch)| {
            if number == 3 {
                snatch();
            }
            batch
        });
        mirror.apply(rest).unwrap();
        if batches.len() - kill <= 3 {
            snatch();
        }
        let mut mirror = Mirror::open(&Files, &copy).unwrap();
        let applied = mirror.apply(batches.iter().cloned()).unwrap();
        let expected = if batches.len() - kill <= 3 { batches.len() } else { kill };
        assert_eq!(applied.skipped, expected as u64);
        let comparison = compare(&pair.origin.path, &copy).unwrap();
        assert!(comparison.identical(), "killed at {kill}: {:#?}", comparison.differences);
        assert!(mirror.integrity().unwrap().is_empty());
    }
}
