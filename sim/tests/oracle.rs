//! The tills do what a seed says, and the oracle knows what they committed: at every commit, by
//! what it saw alone. What it is to notice is planted here, each kind by itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests; figures are shown"
)]

use rusqlite::Connection;
use sim::oracle::{Content, Found, History, Loss, Verdict, Watcher, Witness, content, difference};
use sim::workload::{Acted, Journal, Mix, Operation, Outcome, Till};
use sim::{World, run};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn in_world<T>(seed: u64, work: impl FnOnce(&World) -> T) -> T {
    run(seed, async |world: &mut World| {
        world.site("downtown").await;
        work(world)
    })
}

/// So many acts without a node; after each the oracle must hold the very content.
fn acts_checked(seed: u64, journal: Journal, mix: Mix, times: u64) -> BTreeMap<Operation, u64> {
    in_world(seed, |world| {
        let mut till = Till::open_with(world, ("downtown", "till.db"), "till", journal);
        till.set_mix(mix);
        let mut done = BTreeMap::new();
        for time in 0..times {
            let Acted { operation, outcome } = till.act();
            assert!(till.violations().is_empty(), "seed {seed}: {}", till.violations()[0]);
            assert!(!matches!(outcome, Outcome::DiskFailed(_) | Outcome::Waits), "{outcome:?}");
            if let Err(apart) = till.check().unwrap() {
                panic!("seed {seed}, act {time}, {operation:?} {outcome:?}: {apart}");
            }
            if matches!(outcome, Outcome::Committed(_)) {
                *done.entry(operation).or_default() += 1;
            }
        }
        let rows: u64 = till.history().content().tables.values().map(|table| table.rows).sum();
        println!("seed {seed}: {rows} rows, {} commits, {done:?}", till.history().latest().0);
        assert!(rows < 12_000, "the database does not stay small");
        done
    })
}

#[test]
fn what_the_oracle_saw_is_what_the_database_holds_f42_f44_f46() {
    let mut all = BTreeMap::new();
    for seed in 0..12 {
        let journal = if seed % 3 == 2 { Journal::Delete } else { Journal::Wal };
        let mix = if seed % 2 == 0 { Mix::usual() } else { Mix::even() };
        for (operation, times) in acts_checked(seed, journal, mix, 400) {
            *all.entry(operation).or_insert(0) += times;
        }
    }
    let silent = [
        Operation::RollBack,
        Operation::Vacuum,
        Operation::Checkpoint,
        Operation::Read,
        Operation::Restart,
    ];
    for operation in Operation::ALL.into_iter().filter(|operation| !silent.contains(operation)) {
        assert!(all.get(&operation).is_some_and(|times| *times > 3), "{operation:?}: {all:?}");
    }
}

#[test]
fn a_seed_decides_what_a_till_does() {
    let story = |seed| {
        in_world(seed, |world| {
            let mut till = Till::open(world, "downtown", "till.db", "till");
            let acts: Vec<Acted> = (0..300).map(|_| till.act()).collect();
            (acts, till.history().latest().1.hash())
        })
    };
    assert_eq!(story(1), story(1));
    assert_ne!(story(1).1, story(2).1);
}

const SAMPLE: &str = "
CREATE TABLE keyed (id INTEGER PRIMARY KEY, v, b BLOB);
CREATE TABLE bare (a, b);
INSERT INTO keyed VALUES (1, 1, x'0001'), (2, 0.0, NULL), (3, 'a', x'');
INSERT INTO bare VALUES (1, 2), (1, 2), (3, 4);
CREATE TABLE _holdfast_log (x);
";

fn sample() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(SAMPLE).unwrap();
    connection
}

#[test]
fn every_kind_of_difference_is_noticed_and_told() {
    let planted = [
        ("UPDATE keyed SET b = x'0000' WHERE id = 1", "x'0000'"),
        ("UPDATE keyed SET v = 1.0 WHERE id = 1", "1.0"),
        ("UPDATE keyed SET v = 0 WHERE id = 2", "2 | 0 | NULL"),
        ("UPDATE keyed SET v = CAST('a' AS BLOB) WHERE id = 3", "x'61'"),
        ("UPDATE keyed SET b = x'' WHERE id = 2", "x''"),
        ("UPDATE keyed SET v = 'a' || char(0) WHERE id = 3", "\\0"),
        ("DELETE FROM keyed WHERE id = 3", "3 | \"a\""),
        ("INSERT INTO bare VALUES (1, 2)", "1 rows only at the copy"),
        ("UPDATE bare SET a = 1, b = 2", "3 | 4"),
        ("UPDATE bare SET a = b, b = a", "2 | 1"),
        ("ALTER TABLE keyed RENAME COLUMN v TO w", "id, w, b"),
        ("CREATE TABLE more (x)", "more (0 rows) is at the copy only"),
        ("DROP TABLE bare", "bare (3 rows) is at the origin only"),
    ];
    let origin = sample();
    for (sql, told) in planted {
        let copy = sample();
        assert_eq!(content::read(&origin).unwrap(), content::read(&copy).unwrap());
        copy.execute_batch(sql).unwrap();
        notices(&origin, &copy, sql, told);
    }
    let copy = sample();
    copy.execute("UPDATE keyed SET v = ?1 WHERE id = 2", [-0.0]).unwrap();
    notices(&origin, &copy, "-0.0", "-0.0");
    let copy = sample();
    copy.execute_batch("UPDATE bare SET rowid = rowid + 7; INSERT INTO _holdfast_log VALUES (1)")
        .unwrap();
    assert_eq!(content::read(&origin).unwrap().hash(), content::read(&copy).unwrap().hash());
    assert_eq!(difference(("the origin", &origin), ("the copy", &copy), 3).unwrap(), "");
}

fn notices(origin: &Connection, copy: &Connection, sql: &str, told: &str) {
    let (a, b) = (content::read(origin).unwrap(), content::read(copy).unwrap());
    assert_ne!(a.hash(), b.hash(), "{sql}");
    let text = difference(("the origin", origin), ("the copy", copy), 3).unwrap();
    assert!(text.contains(told), "{sql}: {text}");
}

/// A database with a history, changed by plain SQL.
struct Kept {
    connection: Connection,
    witness: Witness,
    history: History,
}

impl Kept {
    fn new() -> Self {
        let mut connection = sample();
        let witness = Witness::default();
        witness.watch(&mut connection).unwrap();
        let history = History::begin(&connection, tokio::time::Instant::now()).unwrap();
        Self { connection, witness, history }
    }

    fn prepare(&mut self, sql: &str) {
        self.connection.execute_batch("BEGIN").unwrap();
        self.connection.execute_batch(sql).unwrap();
        self.history.prepare(&self.connection, &self.witness).unwrap();
    }

    /// What the database holds after it.
    fn commit(&mut self, sql: &str) -> Content {
        self.prepare(sql);
        self.connection.execute_batch("COMMIT").unwrap();
        self.history.committed();
        self.history.check(&self.connection).unwrap().unwrap();
        content::read(&self.connection).unwrap()
    }
}

#[test]
fn the_watcher_notices_a_mirror_that_goes_back_or_mixes_commits() {
    let mut kept = Kept::new();
    let first = content::read(&kept.connection).unwrap();
    let second = kept.commit("INSERT INTO keyed VALUES (4, 'b', NULL)");
    let third = kept.commit("INSERT INTO bare VALUES (5, 6)");
    let mut watcher = Watcher::new("the mirror");
    assert_eq!(watcher.judge(&kept.history, None), Verdict::NotYet);
    assert_eq!(watcher.judge(&kept.history, Some(&Content::default())), Verdict::NotYet);
    let shows = |oldest, newest| Verdict::Shows { oldest, newest };
    assert_eq!(watcher.judge(&kept.history, Some(&second)), shows(1, 1));
    assert_eq!(watcher.judge(&kept.history, Some(&third)), shows(2, 2));
    assert_eq!(watcher.judge(&kept.history, Some(&third)), shows(2, 2));
    let violation = |verdict: Verdict, about: &str| match verdict {
        Verdict::Violation(text) => assert!(text.contains(about), "{text}"),
        other => panic!("{other:?} instead of: {about}"),
    };
    violation(watcher.judge(&kept.history, Some(&second)), "went back");
    violation(watcher.judge(&kept.history, None), "is gone");

    // The row of the third commit without that of the second.
    let mixed = sample();
    mixed.execute_batch("INSERT INTO bare VALUES (5, 6)").unwrap();
    let mixed_content = content::read(&mixed).unwrap();
    let mut other = Watcher::new("the mirror");
    assert_eq!(other.judge(&kept.history, Some(&first)), shows(0, 0));
    violation(other.judge(&kept.history, Some(&mixed_content)), "never had");
    let text = other.explain(&kept.connection, &mixed).unwrap();
    assert!(text.contains("4 | \"b\" | NULL"), "{text}");

    // A state that recurs is not going back.
    let fourth = kept.commit("DELETE FROM bare WHERE a = 5");
    assert_eq!(fourth, second);
    assert_eq!(kept.history.position(fourth.hash()), [1, 3]);
    assert_eq!(watcher.judge(&kept.history, Some(&fourth)), shows(3, 3));
    assert_eq!(other.judge(&kept.history, Some(&fourth)), shows(1, 3));
}

#[test]
fn after_a_crash_only_the_latest_or_what_was_in_flight_may_be_there() {
    let sql = "UPDATE keyed SET v = 'new' WHERE id = 2";
    let look = |kept: &mut Kept, loss| kept.history.after_crash(&kept.connection, loss).unwrap();

    let mut kept = Kept::new();
    kept.commit("INSERT INTO bare VALUES (7, 7)");
    assert_eq!(look(&mut kept, Loss::Forbidden), Ok(Found::Latest));

    kept.prepare(sql);
    assert!(kept.history.is_uncertain());
    kept.connection.execute_batch("ROLLBACK").unwrap();
    assert_eq!(look(&mut kept, Loss::Forbidden), Ok(Found::Latest));
    assert_eq!(kept.history.latest().0, 1);

    kept.prepare(sql);
    kept.connection.execute_batch("COMMIT").unwrap();
    assert!(matches!(look(&mut kept, Loss::Forbidden), Ok(Found::InFlight(_))));
    assert_eq!(kept.history.latest().0, 2);
    kept.history.check(&kept.connection).unwrap().unwrap();

    // A commit that is lost, and one that nobody made.
    kept.commit("INSERT INTO bare VALUES (8, 8)");
    kept.connection.execute_batch("DELETE FROM bare WHERE a = 8").unwrap();
    let undone = look(&mut kept, Loss::Forbidden).unwrap_err();
    assert!(undone.0.contains("the state of commit 2"), "{undone:?}");
    assert!(matches!(look(&mut kept, Loss::Allowed), Ok(Found::WentBack(_))));
    assert_eq!(kept.history.latest().0, 4);
    kept.connection.execute_batch("DELETE FROM keyed").unwrap();
    assert!(look(&mut kept, Loss::Allowed).unwrap_err().0.contains("a state it never had"));
}

/// Not a test of anything but that it ends: what a till costs, with the oracle.
#[test]
fn figures() {
    in_world(1, |world| {
        for (journal, label) in [(Journal::Wal, "wal"), (Journal::Delete, "delete")] {
            let file = format!("{label}.db");
            let mut till = Till::open_with(world, ("downtown", &file), label, journal);
            till.set_mix(Mix::usual().without(&[Operation::BulkImport]));
            let begun = Instant::now();
            let times = 2000;
            for _ in 0..times {
                let _ = till.act();
            }
            let each = begun.elapsed().as_secs_f64() / f64::from(times) * 1e6;
            let begun = Instant::now();
            for _ in 0..100 {
                let _ = till.look(content::read).unwrap();
            }
            let scan = begun.elapsed().as_secs_f64() / 100.0 * 1e6;
            println!("{label}: {each:.0} µs an act, {scan:.0} µs a scan");
            assert!(till.violations().is_empty());
        }
    });
}

fn is_send<T: Send>(_: &T) {}

#[test]
fn a_till_keeps_locks_and_snapshots_over_time_f43() {
    run(1, async |world: &mut World| {
        world.site("downtown").await;
        let mut till = Till::open_with(world, ("downtown", "till.db"), "till", Journal::Wal);
        is_send(&till);
        assert_eq!(till.begin_reading(), Outcome::Nothing);
        assert_eq!(till.hold_lock(), Outcome::Nothing);
        world.run_for(Duration::from_secs(600)).await;
        assert_eq!(till.perform(Operation::Sale).outcome, Outcome::Blocked);
        assert!(matches!(till.let_go(true), Outcome::Committed(1)));
        assert_eq!(till.end_reading(), Outcome::Nothing);
        assert_eq!(till.begin_thinking(), Outcome::Nothing);
        assert!(matches!(till.perform(Operation::Sale).outcome, Outcome::Committed(2)));
        // Its own program has written in between.
        assert_eq!(till.finish_thinking(), Outcome::Blocked);
        assert_eq!(till.begin_thinking(), Outcome::Nothing);
        assert!(matches!(till.finish_thinking(), Outcome::Committed(3)));
        till.check().unwrap().unwrap();
        assert!(till.violations().is_empty(), "{:?}", till.violations());

        world.power_off("downtown").await;
        world.boot("downtown").await.unwrap();
        assert_eq!(till.recover(Loss::Forbidden), Outcome::Recovered(Found::Latest));
        assert!(matches!(till.perform(Operation::Sale).outcome, Outcome::Committed(4)));
    });
}
