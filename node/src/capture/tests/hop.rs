//! The hop beside real applications: whatever way rows are inserted, their numbers are this site's
//! own, and the application sees what it would see without.

use super::world::World;
use crate::capture::{Hop, OwnNumbers, Polite};
use crate::sql::quoted;
use protocol::change::Operation;
use protocol::membership::Residues;
use rusqlite::Connection;

/// Blocks of four numbers; every fourth is this site's own.
const OWN: OwnNumbers =
    OwnNumbers { residues: Residues(0x1111_1111_1111_1111_1111_1111_1111_1111), block: 4 };

/// Halves that differ, so that either counts; the last number of all is own.
const UNEVEN: OwnNumbers =
    OwnNumbers { residues: Residues(0x8000_0000_0000_0006_0000_0000_0000_0001), block: 4 };

const REQUIRED: &str = "CREATE TABLE \"a t\"(\"its id\" INTEGER PRIMARY KEY AUTOINCREMENT,
    v TEXT NOT NULL, u TEXT UNIQUE);";
const BARE: &str = "CREATE TABLE \"a t\"(\"its id\" INTEGER PRIMARY KEY AUTOINCREMENT,
    v TEXT DEFAULT 'none', u TEXT UNIQUE, w TEXT UNIQUE DEFAULT 'the one', CHECK (v <> 'none'));";
const CLAUSES: [&str; 6] = ["", "OR REPLACE", "OR IGNORE", "OR ABORT", "OR FAIL", "OR ROLLBACK"];

fn world(sql: &str, own: OwnNumbers) -> World {
    let mut world = World::unattached(&format!("PRAGMA journal_mode = WAL; {sql}"));
    world.capture.set_own_numbers(own);
    world.attach();
    world
}

fn is_own(own: OwnNumbers, number: i64) -> bool {
    own.residues.0 >> (number / own.block % 128) & 1 == 1
}

fn numbers(application: &Connection, sql: &str) -> Vec<i64> {
    let mut statement = application.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn number(application: &Connection, sql: &str) -> i64 {
    numbers(application, sql)[0]
}

const IDS: &str = "SELECT \"its id\" FROM \"a t\" ORDER BY 1";

/// Hops of this table there are.
fn hops(application: &Connection) -> Vec<String> {
    let mut statement = application
        .prepare("SELECT sql FROM sqlite_schema WHERE name LIKE '%hop%' ORDER BY name")
        .unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn whatever_way_rows_are_inserted_their_numbers_are_own_and_nothing_else_is_seen() {
    for (sql, own) in [(REQUIRED, OWN), (BARE, OWN), (REQUIRED, UNEVEN), (BARE, UNEVEN)] {
        for (clause, recursive) in CLAUSES.iter().flat_map(|clause| [(clause, 0), (clause, 1)]) {
            let mut world = world(sql, own);
            world.sql(&format!("PRAGMA recursive_triggers = {recursive}"));
            let db = &world.application;
            let mut given = Vec::new();
            let insert = format!("INSERT {clause} INTO \"a t\"(v, u, w) VALUES(?1, ?2, ?3)");
            let insert = match sql.contains("w TEXT") {
                true => insert,
                false => insert.replace(", w)", ")").replace(", ?3)", ")"),
            };
            let width = insert.matches('?').count();
            for row in 0..30 {
                let values = [format!("v{row}"), format!("u{row}"), format!("w{row}")];
                let changed =
                    db.execute(&insert, rusqlite::params_from_iter(&values[..width])).unwrap();
                assert_eq!((changed, number(db, "SELECT changes()")), (1, 1));
                given.push(db.last_insert_rowid());
            }
            assert_eq!(numbers(db, IDS), given);
            let from = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
                        WHERE i < 10000)";
            let w = if width == 3 { ", w" } else { "" };
            let i = if width == 3 { ", 'bulk' || i" } else { "" };
            let bulk = format!(
                "{from} INSERT {clause} INTO \"a t\"(v, u{w})
                 SELECT 'bulk', i{i} FROM n"
            );
            assert_eq!(db.execute(&bulk, []).unwrap(), 10_000);
            let all = numbers(db, IDS);
            assert_eq!((all.len(), all.last()), (10_030, Some(&db.last_insert_rowid())));
            let values = (0..9).map(|n| match width {
                3 => format!("('r', 'r{n}', 'r{n}')"),
                _ => format!("('r', 'r{n}')"),
            });
            let returning = format!(
                "INSERT {clause} INTO \"a t\"(v, u{w}) VALUES {} RETURNING \"its id\"",
                values.collect::<Vec<_>>().join(", ")
            );
            let returned = numbers(db, &returning);
            assert_eq!(returned.len(), 9, "{clause}");
            let all = numbers(db, IDS);
            assert!(all.ends_with(&returned));
            let other = all.iter().find(|number| !is_own(own, **number));
            assert_eq!(other, None, "{clause}");
            assert_eq!(number(db, "SELECT hopping FROM _holdfast_marker"), 0);
            // Each row is one new row to whoever only gets the changes.
            let changes = world.harvest();
            assert_eq!(changes.len(), 10_039);
            assert!(changes.iter().all(|c| matches!(c.operation, Operation::Insert(_))));
            // Those at the ends of blocks go like any other.
            let db = &world.application;
            for last in all.iter().filter(|number| !is_own(own, **number + 1)).take(3) {
                let sql = "DELETE FROM \"a t\" WHERE \"its id\" = ?1";
                assert_eq!(db.execute(sql, [last]).unwrap(), 1);
            }
            assert_eq!(db.execute("DELETE FROM \"a t\"", []).unwrap(), 10_036);
            assert_eq!(number(db, "SELECT count(*) FROM \"a t\""), 0);
            assert_eq!(world.harvest().len(), 10_039);
        }
    }
}

#[test]
fn replaced_and_upserted_rows_have_own_numbers_too() {
    let mut world = world(REQUIRED, OWN);
    let db = &world.application;
    for round in 0..50 {
        let sql =
            "INSERT OR REPLACE INTO \"a t\"(v, u) VALUES('a', 'one'), ('b', 'two'), ('c', ?1)";
        assert_eq!(db.execute(sql, [round]).unwrap(), 3);
    }
    assert_eq!(number(db, "SELECT count(*) FROM \"a t\""), 52);
    // What is left out or updated uses up numbers that no trigger is told of: the first row behind
    // them may have another's, those after it have not.
    for _ in 0..7 {
        let sql =
            "INSERT INTO \"a t\"(v, u) VALUES('x', 'one') ON CONFLICT(u) DO UPDATE SET v = 'y'";
        assert_eq!(db.execute(sql, []).unwrap(), 1);
        db.execute("INSERT OR IGNORE INTO \"a t\"(v, u) VALUES('x', 'one')", []).unwrap();
    }
    db.execute_batch("INSERT INTO \"a t\"(v) VALUES('a'), ('b'), ('c')").unwrap();
    let last = numbers(db, IDS).split_off(50);
    assert!(last[3..].iter().all(|number| is_own(OWN, *number)), "{last:?}");
    world.harvest();
}

#[test]
fn numbers_that_the_application_chooses_stay_as_they_are() {
    for sql in [REQUIRED, "CREATE TABLE \"a t\"(\"its id\" INTEGER PRIMARY KEY AUTOINCREMENT, v);"]
    {
        let mut world = world(sql, OWN);
        let db = &world.application;
        let choose = |number: i64| {
            let sql = "INSERT INTO \"a t\"(\"its id\", v) VALUES(?1, 'chosen')";
            assert_eq!(db.execute(sql, [number]).unwrap(), 1);
            assert_eq!(db.last_insert_rowid(), number);
        };
        let next = || {
            db.execute_batch("INSERT INTO \"a t\"(v) VALUES('next')").unwrap();
            db.last_insert_rowid()
        };
        for number in [-9, 0, 2, 3] {
            choose(number);
        }
        assert_eq!(next(), 16, "the last number of a block was chosen");
        choose(1);
        assert_eq!(next(), 17);
        // In a block of others: on to the next own one at once.
        for number in (100..108).rev() {
            choose(number);
        }
        assert_eq!(next(), 112);
        choose(9_000_000_000_000_000_000);
        assert!(is_own(OWN, next()));
        // Near the end of all numbers nothing is tried.
        let last = i64::MAX - 7;
        choose(last);
        assert_eq!(next(), last + 1);
        choose(i64::MAX);
        let full = db.execute("INSERT INTO \"a t\"(v) VALUES('none is left')", []).unwrap_err();
        assert_eq!(full.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
        world.harvest();
    }
}

#[test]
fn rows_that_refer_to_the_new_one_are_not_touched() {
    let mut world = world(
        "CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, v NOT NULL,
           up REFERENCES parent ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
         CREATE TABLE child(id INTEGER PRIMARY KEY AUTOINCREMENT,
           of NOT NULL REFERENCES parent ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
         CREATE TABLE strict(id INTEGER PRIMARY KEY AUTOINCREMENT, of NOT NULL REFERENCES parent,
           n INT NOT NULL CHECK (n > 0)) STRICT;"
            .replace("of NOT NULL REFERENCES parent,", "of INT NOT NULL REFERENCES parent,")
            .as_str(),
        OWN,
    );
    // Children of parents to be: of one that hops, and of the number that it hops over.
    world.sql(
        "BEGIN; INSERT INTO child(of) VALUES(3), (15);
         INSERT INTO parent(id, v, up) VALUES(3, 'p', 3), (15, 'q', 3); COMMIT;
         INSERT INTO strict(of, n) SELECT 3, 1 FROM child a, child b, child c;",
    );
    let db = &world.application;
    assert_eq!(numbers(db, "SELECT of FROM child"), [3, 15]);
    assert_eq!(number(db, "SELECT count(*) FROM strict WHERE id / 4 % 4 <> 0"), 0);
    assert_eq!(numbers(db, "SELECT count(*) FROM pragma_foreign_key_check"), [0]);
    assert_eq!(world.harvest().len(), 12);
}

#[test]
fn where_the_application_might_notice_there_is_no_hop() {
    let audit = "CREATE TABLE audit(id INTEGER PRIMARY KEY, said); ";
    let bare = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v);";
    let required = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v NOT NULL);";
    let trigger = |when: &str| {
        format!("CREATE TRIGGER spy {when} ON T BEGIN INSERT INTO audit(said) VALUES('x'); END;")
    };
    let child = |more: &str| format!("CREATE TABLE child(of REFERENCES T {more});");
    for (sql, reason) in [
        (format!("{bare} {}", trigger("AFTER INSERT")), Some("trigger spy")),
        (format!("{bare} {}", trigger("DELETE")), Some("trigger spy")),
        (format!("{bare} {}", trigger("AFTER UPDATE OF v")), None),
        (format!("{required} {}", trigger("AFTER INSERT")), None),
        (format!("{required} {}", trigger("AFTER DELETE")), None),
        (format!("{required} {}", trigger("BEFORE DELETE")), Some("trigger spy")),
        (format!("{required} {}", trigger("INSERT")), Some("trigger spy")),
        (format!("{required} {}", trigger("").replace("spy", "after INSERT")), Some("after")),
        (
            format!("{required} {}", trigger("").replace("spy", "main.after INSERT")),
            Some("trigger after"),
        ),
        (
            format!("{required} {}", trigger("AFTER INSERT").replace("spy", "IF NOT EXISTS after")),
            None,
        ),
        (bare.replace(", v", ", v, w AS (v || 'w')"), Some("generated")),
        (format!("{bare} CREATE INDEX i ON t(lower(v))"), Some("expression")),
        (format!("{required} CREATE INDEX i ON t(lower(v))"), None),
        (format!("{bare} {}", child("ON DELETE CASCADE")), None),
        (format!("{bare} {}", child("DEFERRABLE INITIALLY DEFERRED")), None),
        (
            format!("{bare} {}", child("ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED")),
            Some("child"),
        ),
        (format!("{required} {}", child("ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED")), None),
    ] {
        let mut world = world(&format!("{audit} {sql}"), OWN);
        let inspection = world.capture.inspect().unwrap();
        let at = inspection.schema.find("t").unwrap();
        let found = inspection.table(at).unwrap().1.hop.clone();
        match (reason, &found) {
            (None, Hop::Safe) => {}
            (Some(reason), Hop::Unsafe(why)) => assert!(why.contains(reason), "{why}"),
            _ => panic!("{sql}: {found:?}"),
        }
        assert_eq!(hops(&world.application).len(), if reason.is_none() { 2 } else { 0 }, "{sql}");
        let seen = "SELECT count(*) FROM audit";
        let db = &world.application;
        let inserts = usize::from(sql.contains("AFTER INSERT"));
        for row in 0..9 {
            db.execute("INSERT INTO t(v) VALUES(?1)", [row]).unwrap();
        }
        if reason.is_none() {
            assert_eq!(number(db, seen), 9 * inserts as i64, "{sql}");
            assert_eq!(numbers(db, "SELECT id FROM t"), [1, 2, 3, 16, 17, 18, 19, 32, 33]);
        }
        let audit = inspection.schema.find("audit").unwrap();
        assert_eq!(inspection.table(audit).unwrap().1.hop, Hop::Uncounted);
        world.harvest();
    }
}

#[test]
fn the_schema_can_be_altered() {
    let mut world = world(
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a NOT NULL, b NOT NULL, c);",
        OWN,
    );
    let mut rows = 0;
    for (alter, insert) in [
        ("", "t(a, b) VALUES('a', 'b')"),
        ("ALTER TABLE t DROP COLUMN b", "t(a) VALUES('a')"),
        ("ALTER TABLE t ADD COLUMN d NOT NULL DEFAULT 4", "t(a) VALUES('a')"),
        ("ALTER TABLE t ADD COLUMN e AS (a || 'e')", "t(a) VALUES('a')"),
        ("ALTER TABLE t DROP COLUMN e", "t(a) VALUES('a')"),
        ("ALTER TABLE t RENAME COLUMN a TO z", "t(z) VALUES('a')"),
        ("ALTER TABLE t RENAME COLUMN id TO number", "t(z) VALUES('a')"),
        ("ALTER TABLE t RENAME TO other", "other(z) VALUES('a')"),
        (
            "CREATE TABLE new(id INTEGER PRIMARY KEY AUTOINCREMENT, z);
             INSERT INTO new SELECT number, z FROM other; DROP TABLE other;
             ALTER TABLE new RENAME TO t",
            "t(z) VALUES('a')",
        ),
    ] {
        for harvested in [false, true] {
            if !harvested {
                world.sql(alter);
            }
            for _ in 0..9 {
                assert_eq!(
                    world.application.execute(&format!("INSERT INTO {insert}"), []).unwrap(),
                    1,
                    "{alter}"
                );
            }
            rows += 9;
            world.harvest();
        }
    }
    let db = &world.application;
    assert_eq!(number(db, "SELECT count(*) FROM t"), rows);
    // The rebuilt table had none before the node saw it: one row went on where those stood.
    assert_eq!(hops(db).len(), 2);
    let last = numbers(db, "SELECT id FROM t ORDER BY id DESC LIMIT 8");
    assert!(last.iter().all(|number| is_own(OWN, *number)), "{last:?}");
}

#[test]
fn other_numbers_are_hopped_to_without_comparing_anything_and_gone_when_detached() {
    let sql = format!(
        "{REQUIRED} CREATE TABLE plain(id INTEGER PRIMARY KEY, v);
         CREATE TABLE keyed(k TEXT PRIMARY KEY, v) WITHOUT ROWID;"
    );
    let all = OwnNumbers { residues: Residues::ALL, ..OWN };
    let mut world = world(&sql, all);
    assert!(hops(&world.application).is_empty(), "all numbers are own");
    for own in [OWN, UNEVEN, OWN, OwnNumbers { residues: Residues::default(), ..OWN }, OWN] {
        world.sql("INSERT INTO \"a t\"(v) VALUES('noted before')");
        world.capture.set_own_numbers(own);
        let Polite::Done(moved) = world.capture.put_hops(&world.position).unwrap() else {
            panic!("busy")
        };
        assert!(moved.is_some());
        assert_eq!(world.capture.put_hops(&world.position).unwrap(), Polite::Done(None));
        assert_eq!(hops(&world.application).len(), if own.residues.0 == 0 { 0 } else { 2 });
        assert_eq!((world.harvest().len(), world.refreshes), (1, 0));
    }
    // The schema moved meanwhile: that is the refresh's.
    world.sql("CREATE TABLE more(id INTEGER PRIMARY KEY AUTOINCREMENT, v)");
    assert_eq!(world.capture.put_hops(&world.position).unwrap(), Polite::Done(None));
    world.harvest();
    assert_eq!((world.refreshes, hops(&world.application).len()), (1, 4));
    assert_eq!(world.capture.put_hops(&world.position).unwrap(), Polite::Done(None));
    // A new start finds what is there.
    world.restart();
    world.capture.set_own_numbers(OWN);
    assert_eq!(world.capture.put_hops(&world.position).unwrap(), Polite::Done(None));
    world.harvest();
    assert_eq!(world.refreshes, 1);

    assert_eq!(world.capture.uninstall().unwrap(), Polite::Done(()));
    let ours = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_holdfast%' ESCAPE '\\'";
    assert_eq!(number(&world.application, ours), 0);
}

#[test]
fn a_marker_of_before_there_were_hops_is_completed() {
    let mut world = World::new(REQUIRED);
    world.sql("ALTER TABLE _holdfast_marker DROP COLUMN hopping");
    world.capture.set_own_numbers(OWN);
    world.harvest();
    assert_eq!(hops(&world.application).len(), 2);
    world.sql("INSERT INTO \"a t\"(v) VALUES(1), (2), (3), (4), (5), (6), (7), (8)");
    assert!(numbers(&world.application, IDS).iter().all(|number| is_own(OWN, *number)));
    world.harvest();
}

#[test]
fn names_are_quoted() {
    let table = "it's \"the\" [table]";
    let mut world = world(
        &format!(
            "CREATE TABLE {}({} INTEGER PRIMARY KEY AUTOINCREMENT, v NOT NULL)",
            quoted(table),
            quoted("NEW.\"id")
        ),
        OWN,
    );
    for _ in 0..9 {
        world.sql(&format!("INSERT INTO {}(v) VALUES(1)", quoted(table)));
    }
    let sql = format!("SELECT {} FROM {}", quoted("NEW.\"id"), quoted(table));
    assert!(numbers(&world.application, &sql).iter().all(|number| is_own(OWN, *number)));
    world.harvest();
}
