//! Statements, and real files with other programs at them.
#![allow(clippy::disallowed_methods)]

use super::*;
use crate::capture::{Weight, inspect};
use crate::shared::{Policy, fit};
use protocol::membership::Residues;
use std::path::Path;
use std::time::Duration;

#[test]
fn autoincrement_stands_behind_the_key() {
    for (sql, new) in [
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
            "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)",
        ),
        (
            "CREATE TABLE t(id integer constraint pk primary key asc on conflict replace not null)",
            "CREATE TABLE t(id integer constraint pk primary key asc on conflict replace \
             AUTOINCREMENT not null)",
        ),
        (
            "CREATE TABLE t(a CHECK (a <> 'PRIMARY KEY'), \"PRIMARY\" INTEGER /* PRIMARY KEY, */ \
             PRIMARY--\n KEY-- (the key)\n)",
            "CREATE TABLE t(a CHECK (a <> 'PRIMARY KEY'), \"PRIMARY\" INTEGER /* PRIMARY KEY, */ \
             PRIMARY--\n KEY AUTOINCREMENT-- (the key)\n)",
        ),
        (
            "CREATE TABLE t([a PRIMARY KEY] DEFAULT 'it''s PRIMARY KEY', id INTEGER, PRIMARY KEY \
             (id /* ) */) ON CONFLICT IGNORE, UNIQUE (id))",
            "CREATE TABLE t([a PRIMARY KEY] DEFAULT 'it''s PRIMARY KEY', id INTEGER, PRIMARY KEY \
             (id AUTOINCREMENT /* ) */) ON CONFLICT IGNORE, UNIQUE (id))",
        ),
        (
            "CREATE TABLE t(`i)d` INTEGER, CONSTRAINT k PRIMARY KEY(`i)d` DESC))",
            "CREATE TABLE t(`i)d` INTEGER, CONSTRAINT k PRIMARY KEY(`i)d` DESC AUTOINCREMENT))",
        ),
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY REFERENCES t(id) ON DELETE CASCADE) STRICT",
            "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT REFERENCES t(id) ON DELETE \
             CASCADE) STRICT",
        ),
    ] {
        assert_eq!(converted("t", sql).unwrap(), new);
        assert!(!says_autoincrement(sql) && says_autoincrement(new));
        // What was done once is not done again.
        assert!(converted("t", new).is_err(), "{new}");
    }
}

#[test]
fn what_can_not_be_converted_is_told() {
    for sql in [
        "CREATE TABLE t(a)",
        "CREATE TABLE t(a TEXT PRIMARY KEY)",
        "CREATE TABLE t(id INTEGER PRIMARY KEY DESC)",
        "CREATE TABLE t(id INTEGER PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a CHECK (only_the_application_knows(a)))",
        "CREATE TABLE t(a, b, PRIMARY KEY (a, b))",
    ] {
        assert!(matches!(converted("t", sql), Err(ConvertError::Statement { .. })), "{sql}");
    }
}

#[test]
fn pieces_are_sqlites() {
    let sql = "a.b_$ [c d]\"e\"\"f\"'g''' --h\n(é,/*i*/1) /*/j*/ -k /* l";
    let pieces: Vec<&str> = tokens(sql).into_iter().map(|token| token.text(sql)).collect();
    let expected =
        ["a", ".", "b_$", "[c d]", "\"e\"\"f\"", "'g'''", "(", "é", ",", "1", ")", "-", "k"];
    assert_eq!(pieces, expected);
    assert_eq!(tokens("-- to the end").len(), 0);
    assert_eq!(tokens("'no end").len(), 1);
}

const SHOP: &str = "
    CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, at DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE sale (number INTEGER, customer INTEGER REFERENCES customer ON DELETE SET NULL,
                       total REAL CHECK (total >= 0), twice REAL AS (total * 2),
                       PRIMARY KEY (number DESC)) STRICT;
    CREATE TABLE line (id INTEGER PRIMARY KEY AUTOINCREMENT, sale INTEGER REFERENCES sale(number)
                       ON UPDATE CASCADE ON DELETE CASCADE, text UNIQUE);
    CREATE TABLE \"odd \"\"name\" (rowid INTEGER PRIMARY KEY ON CONFLICT REPLACE, v);
    CREATE TABLE code (code TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;
    CREATE TABLE back (id INTEGER PRIMARY KEY DESC NOT NULL, v);
    CREATE UNIQUE INDEX customer_name ON customer(name COLLATE NOCASE) WHERE name <> 'AUTOINCREMENT';
    CREATE VIEW totals AS SELECT c.name, sum(s.total) AS total FROM customer c
        JOIN sale s ON s.customer = c.id GROUP BY c.id;
    CREATE TABLE log (id INTEGER PRIMARY KEY, what);
    CREATE TRIGGER on_sale AFTER INSERT ON sale BEGIN INSERT INTO log(what) VALUES(new.number); END;
    CREATE TRIGGER on_view INSTEAD OF INSERT ON totals
        BEGIN INSERT INTO customer(name) VALUES(new.name); END;
    INSERT INTO customer(id, name, at) VALUES (-3, 'old', 0), (5, 'Ann', 0), (9, 'Bob', 0);
    INSERT INTO sale VALUES (4, 5, 1.5), (40, 9, 2);
    INSERT INTO line(sale, text) VALUES (4, 'a'), (40, 'b'), (NULL, NULL);
    INSERT INTO \"odd \"\"name\" VALUES (9223372036854775000, 'far');
    INSERT INTO code VALUES ('x');
    INSERT INTO back VALUES (3, 'y');";

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_millis(1)).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    connection
}

/// All rows with their rowids, and all of the schema but the statements of tables.
fn content(connection: &Connection) -> Vec<String> {
    let mut content = Vec::new();
    for question in [
        "SELECT rowid, * FROM customer",
        "SELECT rowid, * FROM sale",
        "SELECT rowid, * FROM line",
        "SELECT * FROM \"odd \"\"name\"",
        "SELECT * FROM code",
        "SELECT rowid, * FROM back",
        "SELECT rowid, * FROM log",
        "SELECT * FROM totals",
        "SELECT type, name, tbl_name, rootpage, iif(type = 'table', '', sql) FROM sqlite_schema
         WHERE name <> 'sqlite_sequence' ORDER BY type, name",
        "PRAGMA foreign_key_check",
        "PRAGMA integrity_check",
    ] {
        let mut statement = connection.prepare(question).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<_> = (0..columns).map(|at| row.get_ref(at).unwrap()).collect();
            content.push(format!("{values:?}"));
        }
    }
    content
}

fn insert(connection: &Connection, sql: &str) -> i64 {
    connection.prepare_cached(sql).unwrap().execute([]).unwrap();
    connection.last_insert_rowid()
}

#[test]
fn a_file_is_converted_under_an_application() {
    for journal in ["WAL", "DELETE"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        let application = open(&path);
        application.execute_batch(&format!("PRAGMA journal_mode = {journal}; {SHOP}")).unwrap();
        // Statements that were prepared before must work after.
        let customer = "INSERT INTO customer(name) VALUES (hex(randomblob(8)))";
        let newest = insert(&application, customer);
        assert_eq!(newest, 10);
        let node = open(&path);
        let inspection = inspect(&node, None).unwrap();
        let (before, rows) = (content(&node), version(&node).unwrap());
        let names = convert(&node, &inspection).unwrap();
        assert_eq!(names, ["customer", "log", "odd \"name", "sale"], "{journal}");
        assert!(version(&node).unwrap() > rows);

        for connection in [&node, &application, &open(&path)] {
            assert_eq!(content(connection), before, "{journal}");
            let found = inspect(connection, None).unwrap();
            let counted: Vec<String> = found
                .schema
                .tables
                .iter()
                .zip(fit::autoincrements(&found.schema))
                .filter(|(_, counted)| *counted)
                .map(|(table, _)| table.name.clone())
                .collect();
            assert_eq!(counted, ["customer", "line", "log", "odd \"name", "sale"]);
            let findings =
                fit::findings(connection, &found, false, Residues::ALL, &Policy::default())
                    .unwrap();
            assert!(findings.iter().all(|found| found.weight != Weight::Refusal), "{findings:?}");
        }
        // The application counts on, and no number comes twice.
        assert_eq!(insert(&application, customer), 11);
        application.execute_batch("DELETE FROM customer WHERE id = 11").unwrap();
        assert_eq!(insert(&application, customer), 12);
        assert_eq!(insert(&application, "INSERT INTO sale(customer, total) VALUES (12, 3)"), 41);
        assert_eq!(
            insert(&application, "INSERT INTO \"odd \"\"name\"(v) VALUES (0)"),
            i64::MAX - 806
        );
        application.execute_batch("INSERT INTO totals(name) VALUES ('by view')").unwrap();
        application.execute_batch("DELETE FROM sale WHERE number = 40").unwrap();
        let one = |sql: &str| application.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(one("SELECT count(*) FROM line"), 2, "the cascade");
        assert_eq!(one("SELECT count(*) FROM log"), 3, "the trigger");
        assert_eq!(one("SELECT id FROM customer WHERE name = 'by view'"), 13);
        assert!(application.execute_batch("INSERT INTO customer(name) VALUES ('ANN')").is_err());
        assert!(application.execute_batch("INSERT INTO sale VALUES (1, 99, 1)").is_err());
        // A second time there is nothing to do, and nothing is done.
        let again = inspect(&node, None).unwrap();
        assert_eq!(convert(&node, &again).unwrap(), [""; 0]);
        assert_eq!(version(&node).unwrap(), again.schema_version);
        // The schema goes on living.
        application
            .execute_batch(
                "ALTER TABLE customer RENAME COLUMN at TO since;
                 ALTER TABLE customer ADD COLUMN more;
                 ALTER TABLE customer RENAME TO person;
                 VACUUM;
                 DELETE FROM person WHERE id = 13;",
            )
            .unwrap();
        assert_eq!(insert(&application, "INSERT INTO person(name) VALUES ('new')"), 14);
        let sound: String = node.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
    }
}

#[test]
fn what_goes_wrong_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let (application, node) = (open(&path), open(&path));
    application
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v);
             INSERT INTO t VALUES (1, 0)",
        )
        .unwrap();
    let inspection = inspect(&node, None).unwrap();
    let unchanged = || {
        assert!(node.is_autocommit());
        let version = version(&node).unwrap();
        // The node's own connection has not kept what was taken back.
        node.execute_batch("DELETE FROM t WHERE id = 2; INSERT INTO t (v) VALUES (0)").unwrap();
        assert_eq!(node.last_insert_rowid(), 2);
        let again = inspect(&node, None).unwrap();
        assert_eq!(fit::autoincrements(&again.schema), [false]);
        let exists = "SELECT count(*) FROM sqlite_schema";
        let objects: i64 = node.query_row(exists, [], |row| row.get(0)).unwrap();
        assert_eq!(objects, 1);
        // No longer may anybody write the schema.
        assert!(node.execute_batch("UPDATE sqlite_schema SET sql = ''").is_err());
        version
    };
    let version = unchanged();

    application.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = convert(&node, &inspection).unwrap_err();
    application.execute_batch("ROLLBACK").unwrap();
    let ConvertError::Sqlite(error) = error else { panic!("{error}") };
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    assert_eq!(unchanged(), version);

    // Within a transaction of the caller, which is taken back.
    node.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (3, 0)").unwrap();
    assert_eq!(convert(&node, &inspection).unwrap(), ["t"]);
    let found = inspect(&node, None).unwrap();
    assert_eq!(fit::autoincrements(&found.schema), [true]);
    node.execute_batch("ROLLBACK").unwrap();
    assert_eq!(unchanged(), version);

    // SQLite refuses when a part is done; the caller's transaction goes on without that part.
    let defensive = rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE;
    node.set_db_config(defensive, true).unwrap();
    node.execute_batch("BEGIN IMMEDIATE; DELETE FROM t WHERE id = 3").unwrap();
    assert!(matches!(convert(&node, &inspection), Err(ConvertError::Sqlite(_))));
    node.execute_batch("COMMIT").unwrap();
    node.set_db_config(defensive, false).unwrap();
    assert_eq!(unchanged(), version);

    // One table that can't be converted: none is, and what the caller did stays.
    let other = Connection::open(directory.path().join("other.db")).unwrap();
    other
        .execute_batch(
            "CREATE TABLE a (id INTEGER PRIMARY KEY, v);
             CREATE TABLE b (id INTEGER PRIMARY KEY, v CHECK (abs(v)));
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, 'abs', 'known');
             PRAGMA writable_schema = RESET;
             BEGIN IMMEDIATE; INSERT INTO a VALUES (1, 0)",
        )
        .unwrap();
    let inspection = inspect(&other, None).unwrap();
    assert!(matches!(convert(&other, &inspection), Err(ConvertError::Statement { .. })));
    other.execute_batch("COMMIT").unwrap();
    let found = inspect(&other, None).unwrap();
    assert_eq!(fit::autoincrements(&found.schema), [false, false]);
    assert_eq!(super::version(&other).unwrap(), inspection.schema_version);
    let rows: i64 = other.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);

    // A schema that moved since it was looked at.
    application.execute_batch("CREATE TABLE u (a)").unwrap();
    let stale = inspect(&node, None).unwrap();
    application.execute_batch("DROP TABLE u").unwrap();
    assert!(matches!(convert(&node, &stale), Err(ConvertError::Moved)));
    unchanged();
}
