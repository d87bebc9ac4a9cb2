//! The judge judged: what is the same, and the least that is not.

#![expect(clippy::disallowed_methods, reason = "a test makes its files itself")]

use super::*;

const BASE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v);
    CREATE TABLE keyed (k TEXT COLLATE NOCASE, n, v, PRIMARY KEY (k, n)) WITHOUT ROWID;
    CREATE TABLE loose (v);
    CREATE INDEX t_v ON t (v);
    INSERT INTO t VALUES (1, 1), (2, 'two'), (3, 0.0), (4, x'00'), (5, NULL), (6, 2.5);
    INSERT INTO keyed VALUES ('b', 1, 1), ('A', 2, 2), ('a', 1.5, 3), ('C', x'01', 4);
    INSERT INTO loose VALUES (1), (1), (2);
    PRAGMA user_version = 7;";

/// Compares the base with itself after `change`, both ways round.
fn after(change: &str) -> Comparison {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a.db"), directory.path().join("b.db"));
    Connection::open(&a).unwrap().execute_batch(BASE).unwrap();
    let other = Connection::open(&b).unwrap();
    other.execute_batch(BASE).unwrap();
    other.execute_batch(change).unwrap();
    drop(other);
    let there = compare(&a, &b).unwrap();
    assert_eq!(compare(&b, &a).unwrap().found, there.found);
    there
}

fn only_row(change: &str) -> (String, Vec<Value>) {
    let comparison = after(change);
    assert_eq!(comparison.found, 1, "{change}: {comparison:?}");
    match comparison.differences.into_iter().next() {
        Some(Difference::Row { table, key, .. }) => (table, key),
        other => panic!("{change}: {other:?}"),
    }
}

#[test]
fn equal_content_in_another_layout_is_equal() {
    let comparison = after(
        "CREATE TABLE _holdfast_log (x); INSERT INTO _holdfast_log VALUES (1);
         CREATE TRIGGER _holdfast_t AFTER INSERT ON t BEGIN SELECT 1; END;
         UPDATE t SET v = 'x' WHERE id = 2; UPDATE t SET v = 'two' WHERE id = 2;
         DELETE FROM keyed; INSERT INTO keyed VALUES
           ('C', x'01', 4), ('a', 1.5, 3), ('A', 2, 2), ('b', 1, 1);
         ANALYZE; VACUUM;",
    );
    assert!(comparison.identical(), "{comparison:?}");
    assert_eq!((comparison.tables, comparison.rows), (3, 13));
}

#[test]
fn virtual_tables_are_no_content() {
    let comparison = after("CREATE VIRTUAL TABLE words USING fts5 (word);");
    assert!(comparison.identical(), "{comparison:?}");
}

#[test]
fn one_differing_value_is_found_with_its_key() {
    let row = |table: &str, key: &[Value]| (table.to_owned(), key.to_vec());
    let one = row("t", &[Value::Integer(1)]);
    assert_eq!(only_row("UPDATE t SET v = 1.0 WHERE id = 1"), one);
    assert_eq!(only_row("UPDATE t SET v = '1' WHERE id = 1"), one);
    let zero = row("t", &[Value::Integer(3)]);
    assert_eq!(only_row("UPDATE t SET v = -0.0 WHERE id = 3"), zero);
    let broken = "UPDATE t SET v = CAST(x'ff' AS TEXT) WHERE id = 2";
    assert_eq!(only_row(broken), row("t", &[Value::Integer(2)]));
    let case = row("keyed", &[Value::text("A"), Value::Integer(2)]);
    assert_eq!(only_row("UPDATE keyed SET v = 9 WHERE n = 2"), case);
    assert_eq!(only_row("UPDATE keyed SET n = 2.0 WHERE n = 2"), case);
    assert_eq!(
        only_row("UPDATE loose SET v = 3 WHERE rowid = 3"),
        row("loose", &[Value::Integer(3)])
    );
}

#[test]
fn missing_and_additional_rows_are_found() {
    assert_eq!(only_row("DELETE FROM t WHERE id = 4").1, [Value::Integer(4)]);
    assert_eq!(only_row("INSERT INTO t VALUES (0, 0)").1, [Value::Integer(0)]);
    assert_eq!(only_row("INSERT INTO t VALUES (99, 0)").1, [Value::Integer(99)]);
    let moved = after("UPDATE keyed SET k = 'a' WHERE n = 2");
    assert_eq!(moved.found, 2, "another case is another key: {moved:?}");
}

#[test]
fn the_same_broken_text_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a.db"), directory.path().join("b.db"));
    for path in [&a, &b] {
        let text = "CREATE TABLE t (k TEXT PRIMARY KEY);
            INSERT INTO t VALUES (CAST(x'ff00fe' AS TEXT)), ('ok'), (NULL), (NULL);";
        Connection::open(path).unwrap().execute_batch(text).unwrap();
    }
    let comparison = compare(&a, &b).unwrap();
    assert!(comparison.identical(), "{comparison:?}");
    assert_eq!(comparison.rows, 4);
}

#[test]
fn the_schema_and_its_numbers_are_content() {
    for (change, expected) in [
        ("CREATE INDEX more ON t (id, v)", "more"),
        ("DROP INDEX t_v", "t_v"),
        ("CREATE VIEW seen AS SELECT 1", "seen"),
        ("CREATE TABLE u (x)", "u"),
        ("DROP TABLE loose", "loose"),
    ] {
        let comparison = after(change);
        assert_eq!(comparison.found, 1, "{change}");
        match comparison.differences.first() {
            Some(Difference::Object { name, .. }) => assert_eq!(name.1, expected),
            other => panic!("{change}: {other:?}"),
        }
    }
    let more = after("ALTER TABLE t ADD COLUMN w");
    assert!(more.differences.contains(&Difference::Columns { table: "t".into() }), "{more:?}");
    let version = after("PRAGMA user_version = 8").differences;
    assert_eq!(version, [Difference::Number { name: "user_version", a: 7, b: 8 }]);
    let application = after("PRAGMA application_id = 1").differences;
    assert_eq!(application, [Difference::Number { name: "application_id", a: 0, b: 1 }]);
}

#[test]
fn integers_and_reals_are_ordered_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a.db"), directory.path().join("b.db"));
    for (path, rows) in [
        (&a, "(9007199254740993), (9007199254740992.0), (-9223372036854775808), (9e18), (1e300)"),
        (&b, "(1e300), (9e18), (9007199254740993), (-9223372036854775808), (9007199254740992.0)"),
    ] {
        let sql = format!("CREATE TABLE t (k PRIMARY KEY); INSERT INTO t VALUES {rows}");
        Connection::open(path).unwrap().execute_batch(&sql).unwrap();
    }
    assert!(compare(&a, &b).unwrap().identical());
    let b = Connection::open(&b).unwrap();
    b.execute_batch("DELETE FROM t WHERE k = 9007199254740993").unwrap();
    assert_eq!(compare(&a, Path::new(b.path().unwrap())).unwrap().found, 1);
}

#[test]
fn a_file_that_is_no_database_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let a = directory.path().join("a.db");
    Connection::open(&a).unwrap().execute_batch(BASE).unwrap();
    assert!(compare(&a, &directory.path().join("none.db")).is_err());
}
