//! What is found in schemas and rows that are hard to share.

use super::*;
use crate::capture::inspect;

fn open(sql: &str) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

fn found(sql: &str, convert_keys: bool) -> Vec<Finding> {
    let connection = open(sql);
    findings(
        &connection,
        &inspect(&connection, None).unwrap(),
        convert_keys,
        Residues::ALL,
        &Policy::default(),
    )
    .unwrap()
}

fn of_weight(weight: Weight, sql: &str) -> Vec<String> {
    let found = found(sql, false).into_iter();
    found.filter(|finding| finding.weight == weight).map(|finding| finding.what).collect()
}

fn refusals(sql: &str) -> Vec<String> {
    of_weight(Weight::Refusal, sql)
}

#[test]
fn a_schema_that_can_be_shared_is_not_refused() {
    let sql = "
        CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, sku TEXT UNIQUE);
        CREATE TABLE c (a TEXT NOT NULL, b INT NOT NULL, p REFERENCES P(ID), q REFERENCES p,
                        PRIMARY KEY (a, b));
        CREATE TABLE d (a, b, e TEXT PRIMARY KEY NOT NULL, FOREIGN KEY (a, b) REFERENCES c);
        CREATE TABLE w (id INTEGER PRIMARY KEY, v) WITHOUT ROWID;
        CREATE TABLE n (id INTEGER PRIMARY KEY DESC NOT NULL, v);
        CREATE TABLE i (id INT NOT NULL PRIMARY KEY, v);
        INSERT INTO p VALUES (7, 'x'); INSERT INTO c VALUES ('a', 1, 7, NULL);
        INSERT INTO d VALUES ('a', 1, 'e'), ('z', NULL, 'f');";
    for convert_keys in [false, true] {
        let found = found(sql, convert_keys);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].weight, found[0].table.as_deref()), (Weight::Note, Some("p")));
        assert!(found[0].what.contains("blocks of 256"), "{found:?}");
    }
    assert_eq!(found("", false), []);
}

#[test]
fn rows_without_a_key_are_refused() {
    assert_eq!(
        refusals("CREATE TABLE t (a); CREATE TABLE u (a PRIMARY KEY); INSERT INTO u VALUES (NULL)"),
        [
            "the table t has no primary key, so two sites can't mean the same row of it",
            "the primary key of u holds NULL, or did when it was attached, so two sites can't \
             mean the same row of it"
        ]
    );
    let nullable = "CREATE TABLE u (a PRIMARY KEY, b); INSERT INTO u VALUES (1, 1)";
    assert_eq!(refusals(nullable), [""; 0]);
    assert_eq!(of_weight(Weight::Note, nullable).len(), 1);
}

#[test]
fn integer_keys_are_refused_or_converted() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, a); -- AUTOINCREMENT
        CREATE TABLE u (id INTEGER, a DEFAULT 'AUTOINCREMENT', \"AUTOINCREMENT\",
                        PRIMARY KEY (id /* AUTOINCREMENT */));";
    let refused: Vec<Finding> =
        found(sql, false).into_iter().filter(|f| f.weight == Weight::Refusal).collect();
    let tables: Vec<Option<&str>> = refused.iter().map(|found| found.table.as_deref()).collect();
    assert_eq!(tables, [Some("t"), Some("u")]);
    assert!(refused.iter().all(|found| found.remedy.contains("--convert-keys")), "{refused:?}");
    let converted = found(sql, true);
    assert!(converted.iter().all(|found| found.weight == Weight::Note), "{converted:?}");
    assert_eq!(converted.len(), 4);
}

#[test]
fn autoincrement_is_told_by_the_word_alone() {
    let connection = open(
        "CREATE TABLE a (id INTEGER PRIMARY KEY autoIncrement);
         CREATE TABLE b (id INTEGER PRIMARY KEY /* AUTOINCREMENT */);
         CREATE TABLE c (id INTEGER PRIMARY KEY, x CHECK (x <> ' AUTOINCREMENT '));
         CREATE TABLE d (id INTEGER PRIMARY KEY, [ AUTOINCREMENT ], `AUTOINCREMENT`);
         CREATE TABLE \"e AUTOINCREMENT\" (id INTEGER PRIMARY KEY -- ' AUTOINCREMENT
            );
         CREATE TABLE f (x DEFAULT '--', id INTEGER, PRIMARY KEY(id/**/AUTOINCREMENT));
         CREATE TABLE g (x, id INTEGER PRIMARY KEY, AUTOINCREMENTé, no_AUTOINCREMENT)",
    );
    let schema = inspect(&connection, None).unwrap().schema;
    let names: Vec<&str> = schema.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e AUTOINCREMENT", "f", "g"]);
    assert_eq!(autoincrements(&schema), [true, false, false, false, false, true, false]);
}

#[test]
fn foreign_keys_must_refer_to_keys_that_are_there() {
    let refused = refusals(
        "CREATE TABLE p (id TEXT PRIMARY KEY NOT NULL, sku UNIQUE);
         CREATE TABLE two (a NOT NULL, b NOT NULL, PRIMARY KEY (a, b));
         CREATE VIEW v AS SELECT id FROM p;
         CREATE TABLE c (id TEXT PRIMARY KEY NOT NULL, sku REFERENCES p(sku), x REFERENCES gone,
                         y REFERENCES v(id), z REFERENCES two, p REFERENCES p, a, b,
                         FOREIGN KEY (b, a) REFERENCES two(b, a),
                         FOREIGN KEY (a, b) REFERENCES two(a, b));
         INSERT INTO c(id, p) VALUES ('c', 'no such');",
    );
    assert_eq!(
        refused,
        [
            "the foreign key of c (b, a) does not refer to the primary key of two (a, b)",
            "the foreign key of c (sku) does not refer to the primary key of p (id)",
            "the foreign key of c (x) refers to gone, which is no table of this database",
            "the foreign key of c (y) refers to v, which is no table of this database",
            "the foreign key of c (z) does not refer to the primary key of two (a, b)",
        ]
    );
}

#[test]
fn rows_that_refer_to_nothing_are_counted() {
    let refused = refusals(
        "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT);
         CREATE TABLE c (a TEXT NOT NULL, b INT NOT NULL, p REFERENCES p, q REFERENCES p,
                         rowid, PRIMARY KEY (a, b));
         CREATE TABLE w (id TEXT PRIMARY KEY, p REFERENCES p) WITHOUT ROWID;
         INSERT INTO p VALUES (1);
         INSERT INTO c VALUES ('it''s', 7, 2, 1, 0), ('y', 8, 3, NULL, 0), ('z', 9, 1, 4, 0);
         INSERT INTO w VALUES ('w', 5);",
    );
    assert_eq!(
        refused,
        [
            "1 row refers from c (q) to no row of p, the first of them 'z', 9",
            "2 rows refer from c (p) to no row of p, the first of them 'it''s', 7",
            "1 row refers from w (p) to no row of p",
        ]
    );
}

#[test]
fn what_only_the_application_knows_is_refused_table_by_table() {
    let connection = open(
        "CREATE TABLE a (id TEXT PRIMARY KEY NOT NULL, v CHECK (abs(v)));
         CREATE TABLE b (id TEXT PRIMARY KEY NOT NULL, v COLLATE NOCASE UNIQUE);
         CREATE TABLE c (id TEXT PRIMARY KEY NOT NULL, v);
         CREATE UNIQUE INDEX c_v ON c(abs(v));
         CREATE TABLE d (v);
         CREATE TABLE e (id TEXT PRIMARY KEY NOT NULL, d REFERENCES d(v));
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(replace(sql, 'abs', 'known'), 'NOCASE', 'local');
         PRAGMA writable_schema = RESET",
    );
    let inspection = inspect(&connection, None).unwrap();
    let found =
        findings(&connection, &inspection, false, Residues::ALL, &Policy::default()).unwrap();
    let refused: Vec<(Option<&str>, &str)> = found
        .iter()
        .filter(|finding| finding.weight == Weight::Refusal)
        .map(|finding| (finding.table.as_deref(), finding.what.as_str()))
        .collect();
    let tables: Vec<Option<&str>> = refused.iter().map(|(table, _)| *table).collect();
    assert_eq!(tables, [Some("a"), Some("b"), Some("c"), Some("d")], "{refused:?}");
    assert!(refused[0].1.contains("known") && refused[1].1.contains("local"), "{refused:?}");
    assert!(found.iter().all(|finding| !finding.what.is_empty()), "{found:?}");
}

#[test]
fn triggers_and_derived_tables_are_told() {
    let sql = "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v);
        CREATE TRIGGER one AFTER INSERT ON T BEGIN SELECT 1; END;
        CREATE TRIGGER two AFTER DELETE ON t BEGIN SELECT 1; END;
        CREATE VIEW v AS SELECT * FROM t;
        CREATE TRIGGER three INSTEAD OF INSERT ON v BEGIN SELECT 1; END;
        CREATE VIRTUAL TABLE words USING \"fts5\"(v, content='t');
        CREATE VIRTUAL TABLE terms USING fts5vocab(words, row);
        CREATE VIRTUAL TABLE place USING rtree(id, a, b);";
    assert_eq!(
        of_weight(Weight::Note, sql),
        ["triggers of t (one, two) stay silent when rows of other sites are written"]
    );
    assert_eq!(
        of_weight(Weight::Warning, sql),
        [
            "the table place (rtree) goes stale: it does not follow rows of other sites",
            "the table words (fts5) goes stale: it does not follow rows of other sites",
        ]
    );
    assert_eq!(refusals(sql), [""; 0]);
}

#[test]
fn full_text_that_triggers_keep_up_is_no_reason_to_worry() {
    let sql = "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v);
        CREATE VIRTUAL TABLE words USING fts5(v);
        CREATE TRIGGER one AFTER INSERT ON t BEGIN INSERT INTO words VALUES (new.v); END;";
    assert_eq!(
        of_weight(Weight::Note, sql),
        ["triggers of t (one) run for rows of other sites too"]
    );
    assert_eq!(of_weight(Weight::Warning, sql), [""; 0]);
}

#[test]
fn numbers_that_run_out_are_told() {
    let warnings = |number: i64| {
        of_weight(
            Weight::Warning,
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v);
                 INSERT INTO t VALUES ({number}, 0); DELETE FROM t"
            ),
        )
    };
    assert_eq!(warnings(LIMIT / 2 - 1), [""; 0]);
    assert!(warnings(LIMIT / 2)[0].contains("32 bits"));
    assert!(warnings(LIMIT - 1)[0].contains("32 bits"));
    assert_eq!(warnings(LIMIT), [""; 0]);
    assert!(warnings(i64::MAX)[0].contains("no block is left"));
}
