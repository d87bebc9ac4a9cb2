//! Power cuts at any operation, by the hundred: what SQLite promises for each setting holds, and
//! what it does not promise is really lost. F10, F18, F20.

use super::{Program, path, with_disk};
use crate::disk::Disk;
use crate::random::Random;
use std::sync::Arc;

/// What became of one run that ended with the power.
#[derive(Debug, Default)]
struct Told {
    runs: u64,
    /// A transaction that was acknowledged is gone.
    lost: u64,
    /// So are two.
    lost_more: u64,
    /// The database is broken, or half a transaction is there.
    corrupt: u64,
    /// Writes lost, and torn.
    writes: (u64, u64),
    /// The power went again while SQLite repaired.
    again: u64,
}

/// Transactions of three rows each until the power goes; returns how many were acknowledged.
fn work(disk: &Arc<Disk>, mode: &str, synchronous: &str, begun: &mut bool) -> i64 {
    let Ok(program) = Program::try_start(disk, "some.db") else { return 0 };
    let prepare = format!("PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = 8");
    // The switch to a write-ahead log is safe with EXTRA alone.
    let ready = program
        .try_run("PRAGMA synchronous = EXTRA")
        .and_then(|()| program.one::<String>(&format!("PRAGMA journal_mode = {mode}")))
        .and_then(|_| program.try_run(&prepare))
        .and_then(|()| program.try_run("CREATE TABLE IF NOT EXISTS t (n, part, stuff)"));
    if ready.is_err() {
        return 0;
    }
    *begun = true;
    for n in 1.. {
        let sql = format!(
            "BEGIN; INSERT INTO t VALUES ({n}, 1, randomblob(100)), ({n}, 2, randomblob(900)),
             ({n}, 3, randomblob(2000)); UPDATE t SET stuff = randomblob(50) WHERE n = {n} - 7;
             COMMIT"
        );
        if program.try_run(&sql).is_err() {
            return n - 1;
        }
    }
    unreachable!()
}

fn many(runs: u64, mode: &str, synchronous: &str) -> Told {
    let mut told = Told::default();
    for seed in 0..runs {
        with_disk(seed, |disk| {
            let mut random = Random::new(seed, "fuses");
            disk.set_fuse(1 + random.below(300));
            let mut begun = false;
            let acknowledged = work(disk, mode, synchronous, &mut begun);
            assert!(!disk.is_on());
            for damage in disk.struck().damage.values() {
                told.writes.0 += damage.lost;
                told.writes.1 += damage.torn;
            }
            told.runs += 1;
            // Repairing is cut off as well, sometimes.
            let found = loop {
                disk.power_on();
                if random.happens(3000) {
                    disk.set_fuse(1 + random.below(12));
                }
                let found = Program::try_start(disk, "some.db").map(|program| look(&program));
                if disk.is_on() {
                    disk.clear_fuse();
                    break found.unwrap();
                }
                told.again += 1;
            };
            match found {
                // The table itself was never acknowledged.
                Ok(_) if !begun => {}
                Ok(last) => {
                    told.lost += u64::from(last < acknowledged);
                    told.lost_more += u64::from(last + 1 < acknowledged);
                    assert!(last <= acknowledged + 1);
                }
                Err(_) => told.corrupt += 1,
            }
        });
    }
    println!("{mode} {synchronous}: {told:?}");
    told
}

/// The last transaction, if the database is whole and it and those before are there, wholly.
fn look(program: &Program) -> Result<i64, String> {
    let wrong = |error: rusqlite::Error| error.to_string();
    let whole: String = program.one("PRAGMA integrity_check").map_err(wrong)?;
    if whole != "ok" {
        return Err(whole);
    }
    if program.one::<i64>("SELECT count(*) FROM sqlite_schema").map_err(wrong)? == 0 {
        return Ok(0);
    }
    let last: i64 = program.one("SELECT ifnull(max(n), 0) FROM t").map_err(wrong)?;
    let parts: i64 = program.one("SELECT count(*) FROM t").map_err(wrong)?;
    // Makes what was repaired last, and has something to write for a fuse to fall at.
    program.try_run("PRAGMA user_version = 1").map_err(wrong)?;
    if parts == 3 * last { Ok(last) } else { Err(format!("{parts} parts of {last}")) }
}

#[test]
fn a_log_at_full_keeps_all_that_was_acknowledged() {
    let told = many(400, "WAL", "FULL");
    assert_eq!((told.lost, told.corrupt), (0, 0), "{told:?}");
    assert!(told.writes.0 > 100 && told.writes.1 > 30 && told.again > 30, "{told:?}");
}

#[test]
fn a_log_at_normal_loses_its_end_and_nothing_else() {
    let told = many(300, "WAL", "NORMAL");
    assert_eq!(told.corrupt, 0, "{told:?}");
    assert!(told.lost * 6 > told.runs, "{told:?}");
}

#[test]
fn a_rollback_journal_at_extra_keeps_all_that_was_acknowledged() {
    let told = many(300, "DELETE", "EXTRA");
    assert_eq!((told.lost, told.corrupt), (0, 0), "{told:?}");
    assert!(told.writes.0 > 100 && told.writes.1 > 30, "{told:?}");
}

/// At FULL the journal's removal, which is the commit, is not synced: the power may take it back.
#[test]
fn a_rollback_journal_at_full_may_lose_the_last_transaction_alone() {
    let told = many(300, "DELETE", "FULL");
    assert_eq!((told.lost_more, told.corrupt), (0, 0), "{told:?}");
    assert!(told.lost > 0, "{told:?}");
}

#[test]
fn without_syncs_databases_break() {
    assert!(many(100, "WAL", "OFF").corrupt > 5);
    assert!(many(100, "DELETE", "OFF").corrupt > 30);
}

#[test]
fn runs_of_one_seed_are_the_same() {
    let told = |seed| {
        with_disk(seed, |disk| {
            disk.set_fuse(150);
            work(disk, "WAL", "NORMAL", &mut false);
            let files = disk.list().into_iter().map(|path| (disk.read(&path).unwrap(), path));
            (files.collect::<Vec<_>>(), disk.struck())
        })
    };
    assert_eq!(told(3), told(3));
    assert_ne!(told(3), told(4));
    let _ = path("some.db");
}
