//! The schema moves: whatever an application's upgrade does, the mirror ends with its text.

use super::world::{Pair, incoming, names};
use crate::apply::ApplyError;
use conflict::Value;
use protocol::change::{Body, Operation, RowChange, SchemaReference};
use protocol::schema::{ObjectKind, Schema, SchemaObject, TableIndex};

const START: &str = "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
    CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p (id), v);
    CREATE INDEX c_v ON c (v); CREATE VIEW both AS SELECT * FROM p JOIN c ON c.p = p.id;
    CREATE TRIGGER c_in AFTER INSERT ON c BEGIN UPDATE p SET name = name || '+' WHERE id = new.p; END;
    CREATE TRIGGER both_in INSTEAD OF INSERT ON both BEGIN SELECT 1; END;
    INSERT INTO p VALUES (1, 'a'), (2, 'b'), (9, 'c'); DELETE FROM p WHERE id = 9;
    INSERT INTO c VALUES (1, 1, 'x'), (2, 2, 'x'), (3, 2, 'z'); PRAGMA user_version = 1;";

#[test]
fn an_upgrade_step_by_step() {
    let mut pair = Pair::new();
    let applied = pair.step(START);
    assert_eq!(applied.left_out, Some(Vec::new()));
    for sql in [
        "ALTER TABLE c ADD COLUMN extra TEXT NOT NULL DEFAULT 'it''s'; UPDATE c SET extra = 'y' WHERE id = 1",
        "ALTER TABLE c ADD COLUMN n INTEGER DEFAULT (-5); ALTER TABLE c ADD COLUMN m",
        "ALTER TABLE c RENAME COLUMN v TO w",
        "ALTER TABLE c DROP COLUMN m",
        "ALTER TABLE c RENAME TO d",
        "CREATE TABLE   IF NOT EXISTS  fresh(a,b , /* odd */ c); INSERT INTO fresh VALUES (1,2,3)",
        "DROP INDEX c_v; CREATE  UNIQUE INDEX IF NOT EXISTS main.by_n ON d (n , id) WHERE n > 0 ;",
        "DROP VIEW both; CREATE VIEW both AS SELECT 1 AS one",
        "DROP TRIGGER c_in; INSERT INTO d (id, p, w) VALUES (10, 1, 'q')",
        "PRAGMA user_version = 2; PRAGMA application_id = 77",
        "CREATE TABLE copied AS SELECT * FROM d",
        "DROP TABLE fresh; CREATE VIEW fresh AS SELECT 2",
        "DROP VIEW fresh; CREATE TABLE fresh (id INTEGER PRIMARY KEY) STRICT; INSERT INTO fresh VALUES (5)",
        "PRAGMA foreign_keys = OFF; DROP TABLE copied; DROP TABLE p; DROP VIEW both",
    ] {
        pair.step(sql);
    }
}

/// The twelve steps of <https://sqlite.org/lang_altertable.html>, with constraints that only the
/// final rows meet.
const REBUILD: &str = "PRAGMA foreign_keys = OFF; BEGIN;
    CREATE TABLE new_c (id INTEGER PRIMARY KEY, v TEXT NOT NULL UNIQUE, p INTEGER REFERENCES p (id),
        rank INTEGER NOT NULL, CHECK (rank > 0));
    INSERT INTO new_c SELECT id, v || id, p, id * 10 FROM c;
    DROP TABLE c; ALTER TABLE new_c RENAME TO c; CREATE UNIQUE INDEX c_v ON c (v COLLATE NOCASE);
    CREATE UNIQUE INDEX p_name ON p (substr(name, 1, 1)); DELETE FROM c WHERE id = 3; COMMIT;";

#[test]
fn a_rebuilt_table_needs_only_its_final_rows_to_fit() {
    let mut pair = Pair::new();
    pair.step(START);
    pair.step("DROP VIEW both; DROP TRIGGER c_in");
    pair.step(REBUILD);
    let mut pair = Pair::new();
    pair.step(START);
    pair.step("DROP VIEW both; DROP TRIGGER c_in");
    pair.step_in_parts(REBUILD, 1);
}

#[test]
fn keys_change_and_tables_gain_and_lose_them() {
    let mut pair = Pair::new();
    pair.step(
        "CREATE TABLE t (a, b TEXT, c INTEGER); INSERT INTO t VALUES (1, 'x', 3), (2, 'y', 4)",
    );
    let rebuild = |form: &str| {
        format!(
            "ALTER TABLE t RENAME TO o; CREATE TABLE t {form}; INSERT INTO t SELECT * FROM o; \
             DROP TABLE o"
        )
    };
    pair.step(&rebuild("(a, b TEXT, c INTEGER PRIMARY KEY)"));
    pair.step(&rebuild("(a, b TEXT PRIMARY KEY, c INTEGER) WITHOUT ROWID"));
    pair.step(&rebuild("(a TEXT, b TEXT COLLATE NOCASE, c REAL, PRIMARY KEY (c, b))"));
    pair.step(&rebuild("(a, b, c)"));
    pair.step("ALTER TABLE t ADD COLUMN d DEFAULT 1.5; UPDATE t SET rowid = rowid + 7");
    pair.step(
        "DROP TABLE t; CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1)",
    );
    // NULL in the key: from now on the rowid tells the rows apart; and back.
    pair.step("INSERT INTO t VALUES (NULL, 2), (NULL, 3)");
    pair.step("DELETE FROM t WHERE k IS NULL");
    pair.step("ALTER TABLE t RENAME COLUMN k TO key; UPDATE t SET v = 5");
}

/// A comparison of all rows finds the row that a REPLACE removed unseen (traps 1 and 6) last;
/// meanwhile the schema moves, and moves again.
#[test]
fn the_schema_moves_while_rows_stand_in_each_others_way() {
    let moves = [
        &["CREATE INDEX by_v ON t (v)"] as &[&str],
        &["PRAGMA user_version = 7"],
        &["CREATE TABLE a (x); INSERT INTO a VALUES (1)", "DROP TABLE a"],
        &["ALTER TABLE t ADD COLUMN w DEFAULT 5", "UPDATE t SET w = 6 WHERE id = 1"],
        &[
            "ALTER TABLE t RENAME COLUMN v TO w",
            "CREATE TABLE a (x)",
            "ALTER TABLE t DROP COLUMN w",
        ],
        &["CREATE TABLE o (id INTEGER PRIMARY KEY, u TEXT COLLATE NOCASE UNIQUE, v); \
           INSERT INTO o SELECT * FROM t; DROP TABLE t; ALTER TABLE o RENAME TO t"],
        &["CREATE UNIQUE INDEX t_u ON t (u)", "DROP INDEX t_u; ALTER TABLE k ADD COLUMN y"],
        &["ALTER TABLE t RENAME TO r; CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE)"],
        &["ALTER TABLE k ADD COLUMN y", "ALTER TABLE k ADD COLUMN z; DELETE FROM k WHERE x = 'b'"],
    ];
    for moves in moves {
        for replace in [
            "UPDATE OR REPLACE t SET u = 'two' WHERE id = 1",
            "REPLACE INTO t VALUES (1, 'two', 9)",
        ] {
            let mut pair = Pair::new();
            pair.step(
                "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, u UNIQUE, v); \
                 CREATE TABLE k (x); INSERT INTO k VALUES ('a'), ('b'); \
                 INSERT INTO t VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3), (9, 'x', 4)",
            );
            pair.step("DELETE FROM t WHERE id = 9");
            let mut first = pair.origin.batch(replace);
            let (unseen, seen) = first
                .body
                .changes
                .into_iter()
                .partition(|change| change.operation == Operation::Delete);
            first.body.changes = seen;
            let mut run = vec![first];
            run.extend(moves.iter().map(|sql| pair.origin.batch(sql)));
            run.iter_mut().for_each(|batch| batch.more = true);
            let mut changes: Vec<RowChange> = unseen;
            let table = pair.origin.schema.find("t").unwrap();
            changes.iter_mut().for_each(|change| change.table = table);
            pair.origin.sequence = pair.origin.sequence.next();
            let schema = SchemaReference::At(pair.origin.schema_at);
            run.push(incoming(pair.origin.sequence, Body { schema, changes, ..Body::default() }));
            let applied =
                pair.mirror.apply(run).unwrap_or_else(|error| panic!("{moves:?}: {error}"));
            assert_eq!(applied.waited, 1, "{moves:?}");
            pair.assert_identical(moves[0]);
            pair.step("INSERT INTO t (u) VALUES ('after'); DELETE FROM t WHERE id = 1");
        }
    }
}

#[test]
fn whole_rows_may_come_for_those_of_a_rebuilt_table() {
    let mut pair = Pair::new();
    pair.step(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'x'), (2, 'y')",
    );
    let mut batch = pair
        .origin
        .batch("ALTER TABLE t ADD COLUMN w DEFAULT 5; UPDATE t SET v = 'z' WHERE id = 2");
    let whole = Operation::Insert(vec![Value::text("z"), Value::Integer(5)]);
    batch.body.changes = vec![RowChange::plain(TableIndex(0), vec![Value::Integer(2)], whole)];
    pair.mirror.apply([batch]).unwrap();
    pair.assert_identical("a whole row");
}

#[test]
fn a_table_with_another_key_must_be_sent_anew() {
    let mut pair = Pair::new();
    pair.step("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1)");
    let good = pair.origin.batch("ALTER TABLE t RENAME COLUMN k TO key");
    let mut wrong = good.clone();
    wrong.body.cleared.clear();
    let error = pair.mirror.apply([wrong]).unwrap_err();
    assert!(matches!(error, ApplyError::Malformed(_)), "{error}");
    pair.mirror.apply([good]).unwrap();
    pair.assert_identical("sent anew");
}

#[test]
fn deleted_ids_stay_used_in_a_rebuilt_table() {
    let mut pair = Pair::new();
    pair.step(START);
    let reached = "SELECT seq FROM sqlite_sequence WHERE name = 'p'";
    pair.mirror.apply([]).unwrap();
    let read = |pair: &Pair| {
        let file = rusqlite::Connection::open_in_memory().unwrap();
        file.execute("ATTACH ?1 AS m", [pair.path.to_str().unwrap()]).unwrap();
        names::<i64>(&file, &reached.replace("sqlite_sequence", "m.sqlite_sequence"))
    };
    let before = read(&pair);
    pair.step("INSERT INTO p VALUES (50, 'high')");
    pair.step("DELETE FROM p WHERE id = 50");
    assert!(before < read(&pair));
    pair.step("ALTER TABLE p ADD COLUMN more");
    assert_eq!(read(&pair), [50]);
}

#[test]
fn triggers_that_feed_a_virtual_table_are_made_all_the_same() {
    let mut pair = Pair::new();
    pair.step(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
         CREATE VIRTUAL TABLE words USING fts5 (text, content = 'notes', content_rowid = 'id');
         CREATE TRIGGER notes_words AFTER INSERT ON notes BEGIN
           INSERT INTO words (rowid, text) VALUES (new.id, new.text); END;
         CREATE VIEW found AS SELECT * FROM words;
         INSERT INTO notes VALUES (1, 'milk');",
    );
    // They don't hinder what comes later either.
    pair.step("ALTER TABLE notes ADD COLUMN priority INTEGER DEFAULT 3; CREATE TABLE other (x)");
    pair.step("INSERT INTO notes VALUES (2, 'eggs', 1); DROP TABLE other");
}

#[test]
fn what_can_not_be_made_here_is_left_out_and_said() {
    let mut pair = Pair::new();
    pair.step("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'x')");
    let mut schema = pair.origin.schema.clone();
    let index = SchemaObject {
        kind: ObjectKind::Index,
        name: "t_own".into(),
        table: "t".into(),
        sql: "CREATE INDEX t_own ON t (v COLLATE their_own)".into(),
    };
    schema.objects.push(index.clone());
    let next = pair.origin.sequence.next();
    let here = |schema: Schema| Body {
        schema: SchemaReference::Here(Box::new(schema)),
        ..Body::default()
    };
    let left_out = pair.mirror.apply([incoming(next, here(schema))]).unwrap().left_out.unwrap();
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].object, index);
    assert!(left_out[0].reason.contains("their_own"), "{}", left_out[0].reason);
    pair.assert_identical("an index was left out");
}

#[test]
fn a_schema_that_is_not_one_is_refused() {
    let mut pair = Pair::new();
    pair.step("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'x')");
    let table = |name: &str, sql: &str| SchemaObject {
        kind: ObjectKind::Table,
        name: name.into(),
        table: name.into(),
        sql: sql.into(),
    };
    for object in [
        table("x", "DROP TABLE t"),
        table("x", "CREATE VIRTUAL TABLE x USING fts5 (y)"),
        table("x", "CREATE TABLE y (z)"),
        table("x", "CREATE TABLE x (z); DROP TABLE t"),
        table("x", "create table x (z)"),
        table("_holdfast_marker", "CREATE TABLE _holdfast_marker (z)"),
        table("x", "CREATE TABLE x (nonsense"),
    ] {
        let mut schema = pair.origin.schema.clone();
        schema.objects.push(object.clone());
        let schema = SchemaReference::Here(Box::new(schema));
        let body = Body { schema, ..Body::default() };
        let error = pair.fails(incoming(pair.origin.sequence.next(), body));
        let fits = matches!(error, ApplyError::Malformed(_) | ApplyError::Object { .. });
        assert!(fits, "{object:?}: {error}");
    }
    let mut schema = pair.origin.schema.clone();
    schema.tables[0].columns.push("imagined".into());
    let body = Body { schema: SchemaReference::Here(Box::new(schema)), ..Body::default() };
    let error = pair.fails(incoming(pair.origin.sequence.next(), body));
    assert!(matches!(error, ApplyError::Malformed(_)), "{error}");
}
