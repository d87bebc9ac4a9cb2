//! Worse than a plug pulled once: large transfers and transactions killed half-way, applications that
//! die, files that people touch, readers that stay.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::application::{TILL, Till, check_sales, execute, number, open, sqlite3};
use tests::site::Home;
use tests::wait::{PATIENCE, wait_until};

fn till_database(path: &Path, mode: &str) {
    execute(path, &format!("PRAGMA journal_mode = {mode}"));
    execute(path, TILL);
}

fn sold(path: &Path) -> i64 {
    number(path, "SELECT sales FROM total")
}

fn fill(path: &Path, rows: i64) {
    execute(
        path,
        &format!(
            "BEGIN; CREATE TABLE bulk (id INTEGER PRIMARY KEY, v BLOB);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
            INSERT INTO bulk SELECT i, randomblob(120) FROM n; COMMIT"
        ),
    );
}

/// C, E: a kill at any moment of a first copy.
#[test]
fn a_first_copy_killed_on_both_sides_is_finished() {
    let home = Home::new();
    let (mut downtown, mut uptown) = home.two();
    let pos = home.path("pos.db");
    till_database(&pos, "WAL");
    fill(&pos, 60_000);
    downtown.attach("pos", &pos);
    let mirror = uptown.mirror("downtown", "pos");
    let till = Till::open(&pos, Duration::from_millis(5));
    for round in 0..8u64 {
        // Kills spread over the fetching and the loading.
        std::thread::sleep(Duration::from_millis(60 + 37 * round));
        uptown.kill();
        if round % 2 == 1 {
            downtown.kill();
            downtown.run();
        }
        uptown.run();
    }
    let sales = till.close();
    uptown.wait_for_mirror("downtown", "pos", &pos, 60_000);
    check_sales(&mirror, sales);
    downtown.wait_until_safe("pos");
    assert_eq!(sqlite3(&mirror, "PRAGMA integrity_check"), "ok");
}

/// E: a reader of the mirror never sees a part of a transaction.
#[test]
fn a_large_transaction_is_seen_whole_or_not_at_all_through_kills() {
    let home = Home::new();
    let (mut downtown, mut uptown) = home.two();
    let pos = home.path("pos.db");
    execute(&pos, "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)");
    downtown.attach("pos", &pos);
    execute(&pos, "INSERT INTO t VALUES (0, x'')");
    uptown.wait_for_mirror("downtown", "pos", &pos, 1);
    let mirror = uptown.mirror("downtown", "pos");
    execute(
        &pos,
        "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80000)
        INSERT INTO t SELECT i, randomblob(100) FROM n; COMMIT",
    );
    let seen = || {
        let reader =
            Connection::open_with_flags(&mirror, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        reader.busy_timeout(Duration::from_secs(10)).unwrap();
        let count: i64 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert!(count == 1 || count == 80_001, "{count} rows are seen");
        count
    };
    for round in 0..6u64 {
        std::thread::sleep(Duration::from_millis(50 + 90 * round));
        seen();
        downtown.kill();
        seen();
        uptown.kill();
        seen();
        downtown.run();
        uptown.run();
    }
    wait_until("all of it is seen", PATIENCE, || seen() > 1);
    uptown.wait_for_mirror("downtown", "pos", &pos, 80_001);
}

#[test]
fn nodes_killed_beside_an_application_in_delete_mode() {
    let home = Home::new();
    let (mut downtown, mut uptown) = home.two();
    downtown.set_batch_interval("10ms");
    let pos = home.path("pos.db");
    till_database(&pos, "DELETE");
    downtown.attach("pos", &pos);
    let till = Till::open(&pos, Duration::from_millis(2));
    wait_until("the till sells", PATIENCE, || sold(&pos) > 0);
    for round in 1..=6 {
        let before = sold(&pos);
        downtown.kill();
        downtown.run();
        uptown.kill();
        uptown.run();
        wait_until("the till sells on", PATIENCE, || sold(&pos) > before + 7 * round);
    }
    let sales = till.close();
    uptown.wait_for_mirror("downtown", "pos", &pos, sales as u64);
    check_sales(&uptown.mirror("downtown", "pos"), sales);
}

/// An application killed with a transaction half-way, again and again, some of them spilt to disk.
#[test]
fn an_application_that_dies_takes_only_its_own_transaction_along() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let pos = home.path("pos.db");
    till_database(&pos, "WAL");
    downtown.attach("pos", &pos);
    let program = "import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
db.execute('PRAGMA cache_size = 10')
n = db.execute('SELECT sales FROM total').fetchone()[0]
while True:
    db.execute('BEGIN IMMEDIATE')
    n += 1
    for i in range(40):
        db.execute('INSERT INTO sales (number, what) VALUES (?, hex(randomblob(300)))', (n * 100 + i,))
    db.execute('UPDATE total SET sales = ?', (n,))
    db.execute('COMMIT')
    print(n, flush=True)
";
    for _ in 0..5 {
        let before = sold(&pos);
        let mut application = Command::new("python3")
            .args(["-c", program])
            .arg(&pos)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("it writes", PATIENCE, || sold(&pos) > before + 5);
        application.kill().unwrap();
        application.wait().unwrap();
    }
    let sales = sold(&pos);
    assert_eq!(number(&pos, "SELECT count(*) FROM sales"), 40 * sales);
    uptown.wait_for_mirror("downtown", "pos", &pos, 40 * sales as u64);
}

/// A report that takes long keeps an old state of the mirror in view; the mirror goes on beside it.
#[test]
fn a_long_reader_of_a_mirror_holds_nothing_up() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let pos = home.path("pos.db");
    till_database(&pos, "WAL");
    downtown.attach("pos", &pos);
    execute(&pos, "INSERT INTO sales VALUES (1, 1, 'x')");
    uptown.wait_for_mirror("downtown", "pos", &pos, 2);
    let mirror = uptown.mirror("downtown", "pos");
    let reader = Connection::open_with_flags(&mirror, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM sales").unwrap();
    let count =
        || -> i64 { reader.query_row("SELECT count(*) FROM sales", [], |row| row.get(0)).unwrap() };
    assert_eq!(count(), 1);
    execute(&pos, "INSERT INTO sales VALUES (2, 2, 'y')");
    uptown.wait_for_mirror("downtown", "pos", &pos, 3);
    assert_eq!(count(), 1);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), 2);
}

/// Somebody deletes the mirror to see what happens.
#[test]
fn a_mirror_that_was_deleted_comes_back() {
    let home = Home::new();
    let (downtown, mut uptown) = home.two();
    let (pos, empty) = (home.path("pos.db"), home.path("empty.db"));
    till_database(&pos, "WAL");
    downtown.attach("pos", &pos);
    // One without a base, too.
    execute(&empty, "PRAGMA journal_mode = WAL");
    downtown.attach("empty", &empty);
    execute(&empty, "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)");
    execute(&pos, "INSERT INTO sales VALUES (1, 1, 'x')");
    uptown.wait_for_mirror("downtown", "pos", &pos, 2);
    uptown.wait_for_mirror("downtown", "empty", &empty, 1);
    uptown.stop();
    std::fs::remove_dir_all(uptown.dir.join("mirrors")).unwrap();
    uptown.run();
    uptown.wait_for_mirror("downtown", "pos", &pos, 2);
    uptown.wait_for_mirror("downtown", "empty", &empty, 1);
    execute(&pos, "INSERT INTO sales VALUES (2, 2, 'y')");
    uptown.wait_for_mirror("downtown", "pos", &pos, 3);
}

/// F35: a file that is gone is no mass delete, and comes back without harm.
#[test]
fn a_database_whose_file_is_gone_deletes_nothing_elsewhere() {
    let home = Home::new();
    let (mut downtown, uptown) = home.two();
    let pos = home.path("pos.db");
    till_database(&pos, "WAL");
    downtown.attach("pos", &pos);
    execute(&pos, "INSERT INTO sales VALUES (1, 1, 'x')");
    uptown.wait_for_mirror("downtown", "pos", &pos, 2);
    let mirror = uptown.mirror("downtown", "pos");
    let aside = home.path("aside");
    std::fs::create_dir(&aside).unwrap();
    let move_all = |from: &Path, to: &Path| {
        for name in ["pos.db", "pos.db-wal", "pos.db-shm"] {
            if from.join(name).exists() {
                std::fs::rename(from.join(name), to.join(name)).unwrap();
            }
        }
    };
    let folder = pos.parent().unwrap();
    for running in [true, false] {
        if !running {
            downtown.stop();
        }
        move_all(folder, &aside);
        if !running {
            downtown.run();
        }
        wait_until("somebody is told", PATIENCE, || {
            !downtown.status()["alarms"].as_array().unwrap().is_empty()
        });
        assert_eq!(downtown.database("pos@downtown")["safe"], false);
        assert_eq!(number(&mirror, "SELECT count(*) FROM sales"), 1);
        assert!(!pos.exists(), "the node made a database of its own");
        move_all(&aside, folder);
        let next = sold(&pos) + 2;
        execute(&pos, &format!("UPDATE total SET sales = {next}"));
        uptown.wait_for_mirror("downtown", "pos", &pos, 2);
        wait_until("the alarm is over", PATIENCE, || {
            downtown.status()["alarms"].as_array().unwrap().is_empty()
        });
    }
}

#[test]
fn many_databases_at_one_site_are_followed_side_by_side() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let files: Vec<_> = (0..12).map(|n| home.path(&format!("pos-{n}.db"))).collect();
    for (n, file) in files.iter().enumerate() {
        till_database(file, "WAL");
        downtown.attach(&format!("pos-{n}"), file);
    }
    let connections: Vec<_> = files.iter().map(|file| open(file)).collect();
    for n in 1..=20i64 {
        for connection in &connections {
            connection.execute("INSERT INTO sales (number, what) VALUES (?1, 'x')", [n]).unwrap();
        }
    }
    for (n, file) in files.iter().enumerate() {
        uptown.wait_for_mirror("downtown", &format!("pos-{n}"), file, 21);
    }
    wait_until("all are safe", PATIENCE, || downtown.command(&["status", "--check"]).code == 0);
}
