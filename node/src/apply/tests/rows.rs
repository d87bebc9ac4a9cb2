//! Rows: everything that stands in the way of writing final forms one by one.

use super::world::{BRANCH, DATABASE, Files, Origin, Pair, cut, incoming};
use crate::apply::{ApplyError, Mirror};
use conflict::Value;
use protocol::change::{Assignment, Body, Operation, RowChange, SchemaReference};
use protocol::schema::{ColumnIndex, TableIndex};
use protocol::{BranchId, Sequence};

fn body(pair: &Pair, changes: Vec<RowChange>) -> Body {
    Body { schema: SchemaReference::At(pair.origin.schema_at), changes, ..Body::default() }
}

#[test]
fn every_value_arrives_bit_for_bit() {
    let mut pair = Pair::new();
    pair.step("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b TEXT, c REAL, d INTEGER, e NUMERIC)");
    pair.step(
        "INSERT INTO t (a) VALUES (NULL), (1), (1.0), (-0.0), (0.0), (9223372036854775807),
           (-9223372036854775808), (9e999), (-9e999), (5e-324), (''), (x''), ('a' || char(0) || 'b'),
           (CAST(x'fffe00c328' AS TEXT)), (x'fffe00c328'), ('😀'), ('1'), ('1.0'), (randomblob(70000));
         INSERT INTO t (b) SELECT a FROM t; INSERT INTO t (c) SELECT a FROM t WHERE b IS NULL;
         INSERT INTO t (d, e) SELECT a, a FROM t WHERE b IS NULL AND c IS NULL;",
    );
    pair.step("UPDATE t SET a = b, b = c, c = d, d = e, e = a");
    pair.step("UPDATE t SET a = CAST(CAST(a AS BLOB) AS TEXT) WHERE typeof(a) = 'blob'");
}

#[test]
fn every_kind_of_table_is_written() {
    let mut pair = Pair::new();
    pair.step(
        "CREATE TABLE composite (b TEXT, a INTEGER, v, PRIMARY KEY (a, b));
         CREATE TABLE compact (k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID;
         CREATE TABLE keyless (v);
         CREATE TABLE named (rowid TEXT, v);
         CREATE TABLE bare (k TEXT PRIMARY KEY) WITHOUT ROWID;
         CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, v);
         CREATE TABLE made (id INTEGER PRIMARY KEY, v, w AS (v * 2) STORED, x AS (v + w));
         CREATE INDEX made_w ON made (w);
         CREATE TABLE strict (id INTEGER PRIMARY KEY, i INTEGER, t TEXT, a ANY) STRICT;
         CREATE TABLE \"quo\"\"ted 'name'\" (\"the \"\" key\" PRIMARY KEY, \"select\");
         CREATE TABLE checked (id INTEGER PRIMARY KEY, v CHECK (v > 0));
         CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (id INTEGER PRIMARY KEY, p REFERENCES parent ON DELETE CASCADE);",
    );
    let tables = ["composite", "compact", "keyless", "named", "counted", "made", "strict"];
    pair.step(
        "INSERT INTO composite VALUES ('x', 1, 1), ('X', 1, 2), ('x', 2, 3);
         INSERT INTO compact VALUES ('a', 1), ('b', 2);
         INSERT INTO keyless VALUES (1), (1), (2);
         INSERT INTO named VALUES ('r', 1), ('r', 1);
         INSERT INTO bare VALUES ('only');
         INSERT INTO counted (v) VALUES (1), (2);
         INSERT INTO made (v) VALUES (1), (2);
         INSERT INTO strict VALUES (1, 1, 't', 'any'), (2, NULL, NULL, 1.0);
         INSERT INTO \"quo\"\"ted 'name'\" VALUES ('k', 1);
         INSERT INTO checked VALUES (1, 1);
         INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1), (2, 2);",
    );
    for table in tables {
        pair.step(
            &format!("UPDATE {table} SET v = v + 10")
                .replace("strict SET v = v", "strict SET i = i"),
        );
    }
    pair.step(
        "UPDATE \"quo\"\"ted 'name'\" SET \"select\" = 2; UPDATE composite SET b = b || 'y', a = a + 1",
    );
    pair.step("PRAGMA ignore_check_constraints = ON; UPDATE checked SET v = -1;");
    pair.step("DELETE FROM parent WHERE id = 1; DELETE FROM bare; INSERT INTO bare VALUES ('new')");
    for table in tables {
        pair.step(
            &format!("DELETE FROM {table} WHERE rowid = 1")
                .replace("compact WHERE rowid = 1", "compact WHERE k = 'A'"),
        );
    }
    pair.step("UPDATE keyless SET rowid = rowid + 100; VACUUM");
}

const UNIQUE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE, v);
    INSERT INTO t VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3), (4, 'four', 4);";

#[test]
fn rows_that_swap_a_unique_value_or_their_keys_change_places() {
    let mut pair = Pair::new();
    pair.step(UNIQUE);
    let swap = "UPDATE t SET u = 'x' WHERE id = 1; UPDATE t SET u = 'one' WHERE id = 2;
                UPDATE t SET u = 'two' WHERE id = 1;";
    assert!(pair.step(swap).waited > 0, "the swap must have been in its own way");
    pair.step("UPDATE t SET id = -id; UPDATE t SET id = 5 + id;");
    pair.step("UPDATE t SET u = 't' || u; UPDATE t SET u = (SELECT 'x' || id); ");
    // A chain: each takes what the next one gives up.
    pair.step("DELETE FROM t; INSERT INTO t (id, u) VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)");
    let chain = "UPDATE t SET u = -u - 1; UPDATE t SET u = -u;";
    assert!(pair.step(chain).waited >= 4);
    pair.step_in_parts("UPDATE t SET u = -u + 1; UPDATE t SET u = -u;", 1);
    pair.step_in_parts("UPDATE t SET id = -id; UPDATE t SET id = 1 - id;", 1);
    pair.step_in_parts("UPDATE t SET u = -u; UPDATE t SET u = id", 2);
}

#[test]
fn a_key_that_changes_case_or_type_moves() {
    let mut pair = Pair::new();
    pair.step(
        "CREATE TABLE n (k TEXT COLLATE NOCASE PRIMARY KEY, v); INSERT INTO n VALUES ('abc', 1);
         CREATE TABLE w (k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID;
         INSERT INTO w VALUES ('abc', 1); CREATE TABLE a (k PRIMARY KEY, v);
         INSERT INTO a VALUES (1, 1), (2.5, 2);",
    );
    let moves = |to: &str, number: &str| {
        format!(
            "UPDATE n SET k = '{to}'; UPDATE w SET k = '{to}'; UPDATE a SET k = {number} WHERE v = 1;"
        )
    };
    pair.step(&moves("ABC", "1.0"));
    // The new form before the old one goes: it must not be taken for it.
    pair.step_in_parts(&moves("aBc", "1"), 1);
    pair.step_in_parts(&moves("abc", "1.0"), 1);
}

#[test]
fn conflict_clauses_of_the_schema_drop_nothing() {
    let mut pair = Pair::new();
    pair.step(
        "CREATE TABLE r (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, u UNIQUE ON CONFLICT REPLACE);
         CREATE TABLE i (id INTEGER PRIMARY KEY ON CONFLICT IGNORE, u UNIQUE ON CONFLICT IGNORE);
         INSERT INTO r VALUES (1, 1), (2, 2); INSERT INTO i VALUES (1, 1), (2, 2);",
    );
    let swap = "UPDATE r SET u = 3 WHERE id = 1; UPDATE r SET u = 1 WHERE id = 2; \
                UPDATE r SET u = 2 WHERE id = 1;";
    pair.step(&format!("{swap}{}", swap.replace("UPDATE r", "UPDATE i")));
    pair.step_in_parts(&format!("{swap}{}", swap.replace("UPDATE r", "UPDATE i")), 1);
}

#[test]
fn triggers_and_foreign_keys_of_the_application_stay_silent() {
    let mut pair = Pair::new();
    pair.step(
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE log (x);
         CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TRIGGER noted AFTER INSERT ON p BEGIN INSERT INTO log VALUES (new.id); END;
         CREATE TRIGGER refused BEFORE DELETE ON p WHEN old.id = 9 BEGIN SELECT RAISE(ABORT, 'no'); END;
         INSERT INTO p VALUES (1), (2), (3); INSERT INTO c VALUES (1, 1), (2, 2);",
    );
    pair.step("UPDATE p SET id = 10 WHERE id = 1; DELETE FROM p WHERE id = 2;");
    pair.step("PRAGMA foreign_keys = OFF; DELETE FROM p WHERE id = 10;");
}

#[test]
fn an_insert_over_an_existing_row_is_its_final_form() {
    let mut pair = Pair::new();
    pair.step(UNIQUE);
    // The plain database does by REPLACE what the batch says by inserting.
    pair.origin.batch("UPDATE t SET v = 'new', u = 'four' || u WHERE id IN (1, 4)");
    let insert = |id, u: &str| {
        let values = vec![Value::text(u), Value::text("new")];
        RowChange::plain(TableIndex(0), vec![Value::Integer(id)], Operation::Insert(values))
    };
    let body = body(&pair, vec![insert(1, "fourone"), insert(4, "fourfour")]);
    pair.mirror.apply([incoming(pair.origin.sequence, body)]).unwrap();
    pair.assert_identical("inserts over rows");
}

#[test]
fn a_cleared_table_is_emptied_before_its_rows_come() {
    let mut pair = Pair::new();
    pair.step(UNIQUE);
    let mut batch = pair.origin.batch("DELETE FROM t; INSERT INTO t VALUES (4, 'one', 0)");
    batch.body.changes.retain(|change| !matches!(change.operation, Operation::Delete));
    let insert = Operation::Insert(vec![Value::text("one"), Value::Integer(0)]);
    batch.body.changes = vec![RowChange::plain(TableIndex(0), vec![Value::Integer(4)], insert)];
    batch.body.cleared = vec![TableIndex(0)];
    pair.mirror.apply([batch]).unwrap();
    pair.assert_identical("clearing");
}

#[test]
fn what_can_not_be_applied_stops_and_leaves_no_trace() {
    let mut pair = Pair::new();
    pair.step(UNIQUE);
    let next = pair.origin.sequence.next();
    let row = |id, operation| RowChange::plain(TableIndex(0), vec![Value::Integer(id)], operation);
    let set = |value| Operation::Update(vec![(ColumnIndex(2), Assignment::Set(value))]);
    let good = || row(1, set(Value::Integer(99)));

    let lacking = vec![good(), row(77, set(Value::Null))];
    let error = pair.fails(incoming(next, body(&pair, lacking)));
    assert!(
        matches!(&error, ApplyError::MissingRow { table, key }
        if table == "t" && key == &[Value::Integer(77)]),
        "{error}"
    );
    assert_eq!(error.to_string(), "table t has no row [77], which the batch updates");

    let twice = vec![
        good(),
        row(8, Operation::Insert(vec![Value::text("same"), Value::Null])),
        row(9, Operation::Insert(vec![Value::text("same"), Value::Null])),
    ];
    let error = pair.fails(incoming(next, body(&pair, twice)));
    assert!(matches!(&error, ApplyError::Refused { .. }), "{error}");

    let gap = incoming(next.next(), body(&pair, vec![good()]));
    assert!(matches!(pair.fails(gap), ApplyError::Gap { .. }));
    let mut other = body(&pair, vec![good()]);
    other.schema = SchemaReference::At(Sequence(99));
    assert!(matches!(pair.fails(incoming(next, other)), ApplyError::OtherSchema { .. }));

    let add = Operation::Update(vec![(ColumnIndex(2), Assignment::Add(Value::Integer(1)))]);
    for malformed in [
        row(1, add),
        row(1, Operation::Update(vec![(ColumnIndex(9), Assignment::Set(Value::Null))])),
        row(1, Operation::Update(vec![(ColumnIndex(0), Assignment::Set(Value::Null))])),
        row(1, Operation::Insert(vec![Value::Null])),
        RowChange::plain(TableIndex(5), vec![Value::Null], Operation::Delete),
        RowChange::plain(TableIndex(0), Vec::new(), Operation::Delete),
    ] {
        let error = pair.fails(incoming(next, body(&pair, vec![good(), malformed])));
        assert!(matches!(error, ApplyError::Malformed(_)), "{error}");
    }
    // And the next good one goes in.
    pair.step("UPDATE t SET v = 99 WHERE id = 1");
}

#[test]
fn runs_before_a_wrong_one_are_applied_and_batches_come_again_harmlessly() {
    let mut pair = Pair::new();
    let first = pair.origin.batch(UNIQUE);
    let second = pair.origin.batch("UPDATE t SET v = v + 1");
    let mut wrong = body(
        &pair,
        vec![RowChange::plain(
            TableIndex(0),
            vec![Value::Integer(50)],
            Operation::Update(vec![(ColumnIndex(2), Assignment::Set(Value::Null))]),
        )],
    );
    wrong
        .changes
        .insert(0, RowChange::plain(TableIndex(0), vec![Value::Integer(1)], Operation::Delete));
    let wrong = incoming(Sequence(3), wrong);
    let all = [first.clone(), second.clone(), wrong];
    assert!(matches!(pair.mirror.apply(all), Err(ApplyError::MissingRow { .. })));
    assert_eq!(pair.mirror.marker().unwrap().sequence, Sequence(2));
    pair.assert_identical("two good runs and a wrong one");

    let applied = pair.mirror.apply([first, second]).unwrap();
    assert_eq!((applied.batches, applied.skipped), (0, 2));
    pair.assert_identical("the same again");
}

#[test]
fn a_run_without_its_end_is_left_out_until_it_comes_whole() {
    let mut pair = Pair::new();
    let first = pair.origin.batch(UNIQUE);
    let run = cut(pair.origin.batch("UPDATE t SET u = 'x' || u; DELETE FROM t WHERE id = 2"), 1);
    assert!(run.len() > 3);
    let part: Vec<_> = std::iter::once(first).chain(run[..2].iter().cloned()).collect();
    assert_eq!(pair.mirror.apply(part).unwrap().batches, 1);
    assert_eq!(pair.mirror.marker().unwrap().sequence, Sequence(1));
    assert_eq!(pair.mirror.apply(run[..3].to_vec()).unwrap().batches, 0);
    assert_eq!(pair.mirror.apply(run).unwrap().batches, 4);
    pair.assert_identical("the whole run");
}

#[test]
fn the_marker_lives_in_the_file_and_follows_a_new_branch() {
    let mut pair = Pair::new();
    pair.step(UNIQUE);
    let marker = *pair.mirror.marker().unwrap();
    assert_eq!((marker.database_id, marker.branch), (DATABASE, BRANCH));
    assert_eq!((marker.sequence, marker.schema_at), (Sequence(1), Sequence(1)));
    assert!(matches!(pair.mirror.start(DATABASE, BRANCH), Err(ApplyError::AlreadyStarted { .. })));
    let next = BranchId([9; 32]);
    assert!(matches!(pair.mirror.follow(next, Sequence(0)), Err(ApplyError::Beyond { .. })));
    pair.mirror.follow(next, Sequence(1)).unwrap();
    pair.mirror.close().unwrap();
    for ending in ["-wal", "-shm"] {
        let mut beside = pair.path.clone().into_os_string();
        beside.push(ending);
        assert!(!std::path::Path::new(&beside).exists());
    }
    pair.mirror = Mirror::open(&Files, &pair.path).unwrap();
    assert_eq!(pair.mirror.marker().unwrap().branch, next);
    assert_eq!(pair.mirror.schema(), Some(&pair.origin.schema));
    pair.step("UPDATE t SET v = NULL");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the very bytes of the file")]
fn a_file_that_is_no_mirror_is_not_touched() {
    let pair = Pair::new();
    let theirs = pair.directory.path().join("theirs.db");
    let plain = Origin::new(theirs.clone());
    plain.connection.execute_batch("PRAGMA journal_mode = DELETE; CREATE TABLE t (x)").unwrap();
    let before = std::fs::read(&theirs).unwrap();
    assert!(matches!(Mirror::open(&Files, &theirs), Err(ApplyError::NotAMirror)));
    assert_eq!(std::fs::read(&theirs).unwrap(), before);
    let new = pair.directory.path().join("new.db");
    let mut mirror = Mirror::open(&Files, &new).unwrap();
    assert!(matches!(mirror.apply([]), Err(ApplyError::NotStarted)));
}

/// Random statements on tables that are all in their own way, in random cuts.
#[test]
fn random_work_arrives() {
    let mut pair = Pair::new();
    pair.step(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, u INTEGER UNIQUE, n TEXT COLLATE NOCASE UNIQUE, v);
         CREATE TABLE w (a INTEGER, b TEXT COLLATE NOCASE, u UNIQUE, PRIMARY KEY (b, a)) WITHOUT ROWID;
         CREATE TABLE k (v, u UNIQUE); CREATE UNIQUE INDEX partial ON t (v) WHERE v > 3;",
    );
    let mut state: u64 = 42;
    let mut random = |bound: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % bound
    };
    for round in 0..150 {
        let mut sql = String::from("BEGIN;");
        for _ in 0..1 + random(12) {
            let (x, y, z) = (random(9), random(9), random(9));
            let letter = ["a", "A", "b", "B", "c"][random(5) as usize];
            sql += &match random(10) {
                0 => format!("INSERT OR IGNORE INTO t VALUES ({x}, {y}, '{letter}{z}', {z});"),
                1 => format!("INSERT OR REPLACE INTO t VALUES ({x}, {y}, '{letter}{z}', {x});"),
                2 => format!("UPDATE OR REPLACE t SET u = {y}, v = {z} WHERE id = {x};"),
                3 => format!("UPDATE OR IGNORE t SET id = {y}, n = '{letter}{x}' WHERE u = {x};"),
                4 => format!("DELETE FROM t WHERE id = {x};"),
                5 => format!("INSERT OR REPLACE INTO w VALUES ({x}, '{letter}', {y});"),
                6 => format!("UPDATE OR REPLACE w SET a = {y}, b = '{letter}' WHERE u = {x};"),
                7 => format!(
                    "INSERT OR REPLACE INTO k VALUES ({x}, {y}); DELETE FROM k WHERE u = {z};"
                ),
                8 => format!(
                    "UPDATE OR REPLACE k SET u = (u + {x}) % 9, rowid = {y} + 1 WHERE u = {z};"
                ),
                _ => "UPDATE OR IGNORE t SET u = u + 1; UPDATE OR IGNORE w SET u = u - 1;".into(),
            };
        }
        sql += "COMMIT;";
        match round % 3 {
            0 => pair.step(&sql),
            part => pair.step_in_parts(&sql, part),
        };
    }
    assert!(pair.mirror.marker().unwrap().sequence > Sequence(150));
}
