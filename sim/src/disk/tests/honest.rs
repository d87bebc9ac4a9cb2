//! As long as nothing goes wrong, SQLite gets what it gets from any file system.

use super::{Program, assert_code, path, with_disk};
use node::environment::Readers;
use rusqlite::ErrorCode;

const ROWS: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 4000)
    INSERT INTO t(y) SELECT randomblob(300) FROM n";

#[test]
fn everything_that_programs_do_in_both_modes() {
    for mode in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
        with_disk(1, |disk| {
            let program = Program::start(disk, "some.db");
            let set: String = program.one(&format!("PRAGMA journal_mode = {mode}")).unwrap();
            assert_eq!(set, mode.to_lowercase());
            program.run("CREATE TABLE t (x INTEGER PRIMARY KEY, y); CREATE INDEX i ON t (y)");
            // Far more than fits into the cache: it spills, before the commit and into files.
            program.run("PRAGMA cache_size = 10; PRAGMA temp_store = FILE");
            program.run(&format!("BEGIN; {ROWS}; SAVEPOINT s; {ROWS}; ROLLBACK TO s; COMMIT"));
            program.run("CREATE TEMP TABLE u AS SELECT * FROM t ORDER BY y");
            assert_eq!(program.number("SELECT count(*) FROM u JOIN t USING (x)"), 4000);
            program.run(&format!("BEGIN; {ROWS}; ROLLBACK"));
            program.run("DELETE FROM t WHERE x % 2; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
            let other = Program::start(disk, "some.db");
            assert_eq!(other.number("SELECT count(*) FROM t"), 2000);
            assert_eq!(other.one::<String>("PRAGMA integrity_check").unwrap(), "ok");
            let size = disk.read(&path("some.db")).unwrap().len();
            assert!((600_000..2_000_000).contains(&size), "{mode}: {size}");
            drop((program, other));
            let left = disk.list();
            let kept = usize::from(mode == "TRUNCATE" || mode == "PERSIST");
            assert_eq!(left.len(), 1 + kept, "{mode}: closed cleanly: {left:?}");
        });
    }
}

#[test]
fn a_database_over_two_files_commits_through_a_super_journal() {
    with_disk(1, |disk| {
        let program = Program::start(disk, "a.db");
        program.run("ATTACH '/disk/box/b.db' AS b; CREATE TABLE t (x); CREATE TABLE b.u (x)");
        program.run("BEGIN; INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); COMMIT");
        drop(program);
        assert_eq!(disk.list(), [path("a.db"), path("b.db")]);
        assert_code(
            Program::start(disk, "a.db").try_run("ATTACH '/disk/other/b.db' AS c"),
            ErrorCode::CannotOpen,
        );
    });
}

#[test]
fn locks_hold_between_programs() {
    with_disk(1, |disk| {
        let (a, b) = (Program::start(disk, "some.db"), Program::start(disk, "some.db"));
        a.run("CREATE TABLE t (x); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)");
        assert_code(b.try_run("BEGIN IMMEDIATE"), ErrorCode::DatabaseBusy);
        b.run("BEGIN");
        assert_eq!(b.number("SELECT count(*) FROM t"), 0, "one may read meanwhile");
        assert_code(a.try_run("COMMIT"), ErrorCode::DatabaseBusy);
        let late = Program::start(disk, "some.db");
        assert_code(late.one::<i64>("SELECT count(*) FROM t"), ErrorCode::DatabaseBusy);
        b.run("COMMIT");
        a.run("COMMIT");
        assert_eq!(late.number("SELECT count(*) FROM t"), 1);

        drop((b, late));
        let mode: String = a.one("PRAGMA journal_mode = WAL").unwrap();
        assert_eq!(mode, "wal");
        let b = Program::start(disk, "some.db");
        b.run("BEGIN");
        assert_eq!(b.number("SELECT count(*) FROM t"), 1);
        a.run("INSERT INTO t VALUES (2)");
        assert_eq!(b.number("SELECT count(*) FROM t"), 1, "it has its snapshot");
        assert_code(b.try_run("INSERT INTO t VALUES (3)"), ErrorCode::DatabaseBusy);
        let busy = a.number("PRAGMA wal_checkpoint(TRUNCATE)");
        assert_eq!(busy, 1, "somebody reads");
        b.run("COMMIT");
        assert_eq!(b.number("SELECT count(*) FROM t"), 2);
        assert_eq!(a.number("PRAGMA wal_checkpoint(TRUNCATE)"), 0);
        assert!(disk.read(&path("some.db-wal")).unwrap().is_empty());
    });
}

#[test]
fn what_is_written_while_the_log_is_held_is_appended() {
    with_disk(1, |disk| {
        let us = Program::start(disk, "some.db");
        let (database, process) = (path("some.db"), &us.process);
        us.one::<String>("PRAGMA journal_mode = WAL").unwrap();
        us.run("CREATE TABLE t (x); INSERT INTO t VALUES (1)");
        let frames = || -> i64 {
            us.with(|connection| {
                connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
            })
            .unwrap()
        };
        for held in [true, false] {
            let before = frames();
            if held {
                assert_eq!(disk.hold_log(process, &database).unwrap(), Readers::None);
            }
            us.run("BEGIN");
            us.number("SELECT x FROM t");
            disk.release_log(process, &database).unwrap();
            us.run("INSERT INTO t VALUES (2); COMMIT");
            assert_eq!(frames() > before, held);
        }
    });
}

#[test]
fn readers_of_others_are_seen_and_shut_out() {
    with_disk(1, |disk| {
        let (us, them) = (Program::start(disk, "some.db"), Program::start(disk, "some.db"));
        let (database, process) = (path("some.db"), &us.process);
        let readers = || disk.readers(process, &database).unwrap();
        assert_eq!(disk.shut_readers_out(process, &database).unwrap(), Readers::Unknown);
        us.one::<String>("PRAGMA journal_mode = WAL").unwrap();
        us.run("CREATE TABLE t (x); INSERT INTO t VALUES (1); BEGIN");
        us.number("SELECT x FROM t");
        assert_eq!(readers(), Readers::None, "our own are invisible");
        them.run("BEGIN");
        them.number("SELECT x FROM t");
        assert_eq!(readers(), Readers::Some);
        assert_eq!(disk.shut_readers_out(process, &database).unwrap(), Readers::Some);
        them.run("COMMIT");
        us.run("COMMIT; BEGIN IMMEDIATE");
        assert_eq!(disk.shut_readers_out(process, &database).unwrap(), Readers::None);
        let state = disk.state();
        let shm = state.names.find("/disk/box/some.db-shm").unwrap();
        drop(state);
        let lock = |program: &Program, handle| {
            let owner = super::super::process::Owner { process: program.process.id, handle };
            let mut state = disk.state();
            let shm = state.file_mut(shm).unwrap().shm.as_mut().unwrap();
            shm.attach(owner);
            let locked = shm.lock(owner, 0b1000, false).is_ok();
            shm.detach(owner);
            locked
        };
        assert!(!lock(&them, 1000), "they wait");
        assert!(lock(&us, 1001));
        us.run("INSERT INTO t VALUES (2); COMMIT");
        disk.let_readers_in(process, &database).unwrap();
        assert!(lock(&them, 1000));
        assert_eq!(them.number("SELECT count(*) FROM t"), 2);
    });
}

#[test]
fn a_killed_program_leaves_what_it_wrote_and_no_lock() {
    for mode in ["WAL", "DELETE"] {
        with_disk(1, |disk| {
            let (a, b) = (Program::start(disk, "some.db"), Program::start(disk, "some.db"));
            a.one::<String>(&format!("PRAGMA journal_mode = {mode}")).unwrap();
            a.run("CREATE TABLE t (x INTEGER PRIMARY KEY, y); INSERT INTO t(y) VALUES (1)");
            b.number("SELECT count(*) FROM t");
            a.run("PRAGMA cache_size = 10");
            a.run(&format!("BEGIN IMMEDIATE; {}", super::honest::ROWS));
            assert_code(b.try_run("BEGIN IMMEDIATE"), ErrorCode::DatabaseBusy);
            a.kill();
            assert_code(a.try_run("COMMIT"), ErrorCode::SystemIoFailure);
            let before = disk.mutations(&path("some.db"));
            drop(a);
            assert_eq!(disk.mutations(&path("some.db")), before, "the dead change nothing");
            assert_eq!(b.number("SELECT count(*) FROM t"), 1, "{mode}");
            b.run("INSERT INTO t(y) VALUES (2)");
            assert_eq!(b.one::<String>("PRAGMA integrity_check").unwrap(), "ok");
        });
    }
}

#[test]
fn while_a_killed_writer_is_not_buried_nobody_else_writes() {
    with_disk(1, |disk| {
        let (a, b) = (Program::start(disk, "some.db"), Program::start(disk, "some.db"));
        a.one::<String>("PRAGMA journal_mode = WAL").unwrap();
        a.run("CREATE TABLE t (x); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)");
        b.number("SELECT count(*) FROM t");
        a.kill();
        assert_code(b.try_run("INSERT INTO t VALUES (2)"), ErrorCode::DatabaseBusy);
        drop(a);
        b.run("INSERT INTO t VALUES (2)");
        assert_eq!(b.number("SELECT sum(x) FROM t"), 2);
    });
}
