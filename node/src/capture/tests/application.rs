//! What the application notices of capture: nothing.
#![allow(clippy::disallowed_methods)]

use super::world::{World, open, stamp};
use crate::capture::*;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const ITEMS: &str = "CREATE TABLE item(id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INTEGER);
    INSERT INTO item VALUES(1, 'a', 10), (2, 'b', 20), (3, 'c', 30);";

/// Names the database to the process that plays the application.
const VARIABLE: &str = "HOLDFAST_TEST_APPLICATION";

/// Not a test of its own: the application of the next test, in a process of its own, since a
/// process does not see its own locks.
#[test]
fn application_process() {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let application = open(&PathBuf::from(path));
    let mut busy = 0;
    for round in 0..400 {
        let done = application
            .execute_batch("BEGIN")
            .and_then(|()| {
                application.query_row("SELECT sum(n) FROM item", [], |row| row.get::<_, i64>(0))
            })
            .and_then(|sum| {
                application.execute(
                    "UPDATE item SET n = ?1 WHERE id = ?2",
                    [sum % 1000 + 1, round % 3 + 1],
                )
            })
            .and_then(|_| application.execute_batch("COMMIT"));
        if done.is_err() {
            busy += 1;
            let _ = application.execute_batch("ROLLBACK");
        }
    }
    println!("busy {busy}");
}

#[test]
fn a_file_that_only_the_node_writes_has_a_short_wal() {
    let mut world = World::new(ITEMS);
    let wal = PathBuf::from(format!("{}-wal", world.path().display()));
    let mut longest = 0;
    for _ in 0..3000 {
        let done: Result<_, CaptureError> = world.capture.write_politely("NORMAL", |_, open| {
            open.connection.execute("UPDATE item SET n = n + 1", [])?;
            Ok(Polite::Done(()))
        });
        assert_eq!(done.unwrap(), Polite::Done(()));
        longest = longest.max(std::fs::metadata(&wal).unwrap().len());
    }
    let page: u32 =
        open(&world.path()).query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    assert!(longest < 1100 * u64::from(page), "{longest} bytes");
}

#[test]
fn trap_0_an_application_that_reads_then_writes_gets_no_new_errors() {
    let mut world = World::new(ITEMS);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["capture::tests::application::application_process", "--exact", "--nocapture"])
        .env(VARIABLE, world.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut trims, mut changes) = (0, Vec::new());
    while child.try_wait().unwrap().is_none() {
        while world.step(&mut changes) {}
        let before = world.capture.trim(&world.position.fence, 1, 1000).unwrap();
        trims += usize::from(before != Polite::Busy);
    }
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("busy 0\n"), "{told}");
    assert!(trims > 0 && !changes.is_empty());
    world.harvest();
}

#[test]
fn trap_13_results_that_the_application_sees_are_unchanged() {
    let plain = World::unattached(ITEMS);
    let world = World::new(ITEMS);
    let results = |application: &rusqlite::Connection| {
        let mut seen = Vec::new();
        for sql in [
            "INSERT INTO item(code, n) VALUES('x', 1), ('y', 2)",
            "REPLACE INTO item(code, n) VALUES('a', 5)",
            "UPDATE item SET n = n + 1 WHERE id > 1",
            "DELETE FROM item WHERE id = 2",
        ] {
            let changed = application.execute(sql, []).unwrap() as i64;
            seen.extend([changed, application.last_insert_rowid()]);
        }
        let returned: i64 = application
            .query_row("INSERT INTO item(n) VALUES(9) RETURNING id", [], |row| row.get(0))
            .unwrap();
        seen.push(returned);
        seen
    };
    assert_eq!(results(&world.application), results(&plain.application));
}

#[test]
fn trap_16_the_application_file_holds_nothing_newer_than_sqlite_3_8() {
    let world = World::new(
        "CREATE TABLE t(a TEXT COLLATE NOCASE, b NOT NULL, c UNIQUE, live, PRIMARY KEY(a, b));
         CREATE UNIQUE INDEX p ON t(live) WHERE c > 1; CREATE TABLE k(v UNIQUE);",
    );
    let all: String = world
        .application
        .query_row(
            "SELECT upper(group_concat(sql, ';')) FROM sqlite_schema WHERE name LIKE '%holdfast%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(all.contains("CREATE TRIGGER"));
    for newer in [
        "RETURNING",
        "ON CONFLICT",
        "STRICT",
        "JSON",
        "->",
        "OVER",
        "UNIXEPOCH",
        "IIF",
        "FILTER",
        "IS DISTINCT",
        "GENERATED",
        "NULLS",
        "MATERIALIZED",
        "TRUE",
        "FALSE",
        " UPDATE SET",
        "UPSERT",
    ] {
        assert!(!all.contains(newer), "{newer} in {all}");
    }
    assert!(!all.contains("AUTOINCREMENT"));
}

#[test]
fn trap_7_a_rollback_journal_is_served_too() {
    let mut world = World::with(ITEMS);
    world.sql("UPDATE item SET n = 1");
    assert_eq!(world.harvest().len(), 3);
    assert_eq!(world.capture.trim(&world.position.fence, 1, 100).unwrap(), Polite::Done(false));
    world.sql("BEGIN; SELECT * FROM item; UPDATE item SET n = 2; COMMIT");
    assert_eq!(world.harvest().len(), 3);
    assert_eq!(world.capture.inspect().unwrap().journal, JournalMode::Rollback);
    world.capture.switch_to_wal().unwrap();
    world.sql("UPDATE item SET n = 3");
    assert_eq!(world.harvest().len(), 3);
    assert_eq!(world.capture.inspect().unwrap().journal, JournalMode::Wal);
    world.capture.checkpoint().unwrap();
}

#[test]
fn a_database_that_another_program_locks_is_told_apart() {
    let mut world = World::with(ITEMS);
    world.capture.close();
    world.sql("PRAGMA locking_mode = EXCLUSIVE; UPDATE item SET n = 5");
    let error = world.capture.read(&world.position, world.limits, None).unwrap_err();
    assert!(error.is_busy());
    let failure = crate::failure::Failure::from(error);
    assert_eq!(failure.kind, crate::failure::FailureKind::Unable);
}

#[test]
fn f16_what_was_committed_while_the_node_was_off_is_read_later() {
    let mut world = World::new(ITEMS);
    world.sql("UPDATE item SET n = 5; PRAGMA wal_checkpoint(TRUNCATE)");
    world.restart();
    assert_eq!(world.capture.pending(&world.position).unwrap(), Some(3));
    assert_eq!(world.harvest().len(), 3);
    assert_eq!(world.capture.pending(&world.position).unwrap(), Some(0));
}

#[test]
fn trimming_keeps_the_fence_and_what_is_not_harvested() {
    let mut world = World::new(ITEMS);
    world.sql("UPDATE item SET n = 1; UPDATE item SET n = 2; UPDATE item SET n = 3");
    world.harvest();
    world.sql("UPDATE item SET n = 4 WHERE id = 1");
    assert_eq!(world.capture.trim(&world.position.fence, 1, 4).unwrap(), Polite::Done(true));
    while world.capture.trim(&world.position.fence, 1, 4).unwrap() == Polite::Done(true) {}
    let left: i64 = world
        .application
        .query_row("SELECT count(*) FROM _holdfast_log", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 2);
    assert_eq!(world.changes(), ["item [1] update n=4"]);
}

#[test]
fn a_fold_that_was_rolled_back_gives_the_same_again() {
    let mut world = World::new(ITEMS);
    world.sql("REPLACE INTO item VALUES(9, 'a', 1); UPDATE item SET n = 7 WHERE id = 2");
    let captured = world.capture.captured().clone();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let Reading::Notes(notes) =
            world.capture.read(&world.position, world.limits, None).unwrap()
        else {
            panic!("nothing noted")
        };
        assert!(notes.written.is_some() && !notes.more);
        let transaction = world.node.unchecked_transaction().unwrap();
        let images = Images::new(&transaction, 1);
        seen.push(fold(&notes, &captured, &images, stamp()).unwrap().changes);
        // Folding twice finds nothing: the images have it.
        assert!(fold(&notes, &captured, &images, stamp()).unwrap().changes.is_empty());
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], world.harvest());
    assert_eq!(seen[0].len(), 3);
}

#[test]
fn f44_a_huge_transaction_is_read_in_bounded_pieces() {
    let mut world = World::new(ITEMS);
    world.limits = Limits { notes: 100, rows: 100, bytes: 1000 };
    world.sql(
        "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 1009)
               INSERT INTO item SELECT i, 'code ' || i, i FROM n",
    );
    let mut changes = Vec::new();
    let mut steps = 0;
    while world.step(&mut changes) {
        steps += 1;
    }
    assert!(steps >= 10 && changes.len() == 1000);
    world.check();
}

#[test]
fn notes_carry_the_wall_clock() {
    let mut world = World::new(ITEMS);
    world.sql("UPDATE item SET n = 1");
    let seconds: i64 = world
        .application
        .query_row("SELECT strftime('%s', 'now')", [], |row| row.get::<_, String>(0))
        .unwrap()
        .parse()
        .unwrap();
    let Ok(Reading::Notes(notes)) = world.capture.read(&world.position, world.limits, None) else {
        panic!("nothing noted")
    };
    let (earliest, latest) = notes.written.unwrap();
    assert!(earliest <= latest);
    assert!((latest.0 - seconds * 1000).abs() < 60_000, "{latest:?} {seconds}");
}
