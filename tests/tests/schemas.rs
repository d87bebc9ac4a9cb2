//! What applications and people do to the schema and the file of an attached database.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use tests::application::{execute, number, sqlite3};
use tests::site::{Home, Site};
use tests::wait::{PATIENCE, wait_until};

struct Pair {
    home: Home,
    downtown: Site,
    uptown: Site,
    pos: PathBuf,
}

fn attached(before: &str) -> Pair {
    attached_at("pos.db", before)
}

fn attached_at(file: &str, before: &str) -> Pair {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let pos = home.path(file);
    execute(&pos, &format!("PRAGMA journal_mode = WAL; {before}"));
    downtown.attach("pos", &pos);
    Pair { home, downtown, uptown, pos }
}

impl Pair {
    /// Runs each statement by itself and compares the mirror after each.
    fn follow(&self, steps: &[&str], rows: u64) {
        for step in steps {
            execute(&self.pos, step);
            self.uptown.wait_for_mirror("downtown", "pos", &self.pos, 0);
        }
        self.uptown.wait_for_mirror("downtown", "pos", &self.pos, rows);
        self.downtown.wait_until_safe("pos");
    }

    fn no_alarms(&self) {
        for site in [&self.downtown, &self.uptown] {
            assert_eq!(site.status()["alarms"], serde_json::json!([]), "{}", site.name);
        }
    }
}

#[test]
fn every_kind_of_alter_and_drop_is_followed() {
    let pair = attached(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b TEXT DEFAULT 'x', u UNIQUE);
        CREATE TABLE other (id INTEGER PRIMARY KEY, t REFERENCES t (id));
        INSERT INTO t VALUES (1, 1, 'one', 1), (2, 2, 'two', 2);",
    );
    pair.follow(
        &[
            "ALTER TABLE t RENAME COLUMN a TO alpha; UPDATE t SET alpha = 10 WHERE id = 1",
            "ALTER TABLE t RENAME TO things; INSERT INTO things VALUES (3, 3, 'three', 3)",
            "INSERT INTO other VALUES (1, 3); ALTER TABLE things DROP COLUMN b",
            "ALTER TABLE things ADD COLUMN c INT NOT NULL DEFAULT 7; DELETE FROM things WHERE id = 2",
            "CREATE INDEX i ON things (alpha); CREATE VIEW v AS SELECT alpha FROM things",
            "CREATE TRIGGER g AFTER INSERT ON things BEGIN UPDATE things SET c = 8 WHERE id = new.id; END",
            "INSERT INTO things (id, u) VALUES (5, 5)",
            "DROP INDEX i; DROP VIEW v; DROP TRIGGER g; CREATE UNIQUE INDEX j ON things (c, alpha)",
            "DROP TABLE other; CREATE TABLE other (name TEXT PRIMARY KEY, w) WITHOUT ROWID",
            "INSERT INTO other VALUES ('a', 1); REPLACE INTO things (id, alpha, u, c) VALUES (9, 3, 9, 7)",
            "PRAGMA user_version = 12; PRAGMA application_id = 99; REINDEX; ANALYZE",
            "BEGIN; CREATE TABLE gone (x); INSERT INTO gone VALUES (1); ROLLBACK",
            "BEGIN; INSERT INTO other VALUES ('b', 2); SAVEPOINT s; DELETE FROM other;
                ROLLBACK TO s; RELEASE s; COMMIT",
        ],
        4,
    );
    pair.no_alarms();
}

#[test]
fn odd_names_and_nulls_in_keys_are_followed() {
    let pair = attached_at(
        "Käse & Co? 100% #1 'x'.db",
        "CREATE TABLE n (k TEXT PRIMARY KEY, v); INSERT INTO n VALUES ('a', 1), (NULL, 2), (NULL, 3);
        CREATE TABLE rowid_taken (rowid TEXT, oid TEXT); INSERT INTO rowid_taken VALUES ('a', 'b');
        CREATE TABLE \"sel'ect\" (\"\" INTEGER PRIMARY KEY, \"\"\"\" TEXT);",
    );
    pair.follow(
        &[
            "INSERT INTO n VALUES (NULL, 4); UPDATE n SET v = 20 WHERE v = 2; DELETE FROM n WHERE v = 3",
            "UPDATE n SET k = 'was null' WHERE k IS NULL AND v = 4",
            "INSERT INTO rowid_taken VALUES ('c', 'd'); UPDATE rowid_taken SET oid = 1 WHERE rowid = 'a'",
            "INSERT INTO \"sel'ect\" VALUES (1, 'x'); UPDATE \"sel'ect\" SET \"\"\"\" = 'y'",
        ],
        6,
    );
}

#[test]
fn a_switch_between_journal_modes_loses_nothing() {
    let pair = attached("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    pair.follow(&["INSERT INTO t VALUES (1, 1)"], 1);
    // SQLite refuses while the node has the file open; an application that insists stops it.
    let mut pair = pair;
    pair.downtown.stop();
    execute(&pair.pos, "PRAGMA journal_mode = DELETE; INSERT INTO t VALUES (2, 2)");
    assert_eq!(sqlite3(&pair.pos, "PRAGMA journal_mode"), "delete");
    pair.downtown.run();
    pair.follow(
        &[
            "INSERT INTO t VALUES (3, 3)",
            "PRAGMA journal_mode = WAL",
            "INSERT INTO t VALUES (4, 4)",
        ],
        4,
    );
}

/// F29, F32: somebody puts a backup back while the node is off. Nothing old is published over the
/// newer, and it is never called safe.
#[test]
fn a_backup_put_back_is_told_and_not_safe() {
    let mut pair =
        attached("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 1)");
    pair.follow(&["INSERT INTO t VALUES (2, 2)"], 2);
    let backup = pair.home.path("backup.db");
    sqlite3(&pair.pos, &format!(".backup '{}'", backup.display()));
    pair.follow(&["INSERT INTO t VALUES (3, 3); UPDATE t SET v = 10 WHERE id = 1"], 3);
    pair.downtown.stop();
    sqlite3(&pair.pos, &format!(".restore '{}'", backup.display()));
    assert_eq!(pair.downtown.database("pos@downtown")["safe"], false);
    pair.downtown.run();
    wait_until("it is told", PATIENCE, || {
        pair.downtown.status()["alarms"] != serde_json::json!([])
    });
    execute(&pair.pos, "INSERT INTO t VALUES (4, 4)");
    assert_eq!(pair.downtown.database("pos@downtown")["safe"], false);
    assert_eq!(number(&pair.uptown.mirror("downtown", "pos"), "SELECT sum(v) FROM t"), 15);
    // What the alarm advises: take the old one as it is.
    pair.downtown.done(&["detach", "pos"]);
    pair.downtown.attach("pos", &pair.pos);
    pair.follow(&["INSERT INTO t VALUES (5, 5)"], 4);
    pair.no_alarms();
}

/// What no trigger saw is not called safe either.
#[test]
fn a_table_made_while_the_node_is_off_is_not_safe() {
    let mut pair = attached("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    pair.follow(&["INSERT INTO t VALUES (2, 2)"], 1);
    pair.downtown.stop();
    assert_eq!(pair.downtown.database("pos@downtown")["safe"], true);
    execute(
        &pair.pos,
        "CREATE TABLE unseen (id INTEGER PRIMARY KEY); INSERT INTO unseen VALUES (1)",
    );
    assert_eq!(pair.downtown.database("pos@downtown")["safe"], false);
    pair.downtown.run();
    pair.follow(&["INSERT INTO unseen VALUES (2)"], 3);
}

#[test]
fn a_database_in_utf_16_is_followed() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let pos = home.path("pos.db");
    execute(
        &pos,
        "PRAGMA encoding = 'UTF-16'; PRAGMA journal_mode = WAL;
        CREATE TABLE t (name TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('Grüße', 1)",
    );
    downtown.attach("pos", &pos);
    execute(
        &pos,
        "INSERT INTO t VALUES ('木 🏪', 2), ('', 'x'); UPDATE t SET v = '\u{e9}' WHERE v = 1",
    );
    let query = "SELECT quote(name), quote(v) FROM t ORDER BY length(name)";
    let mirror = uptown.mirror("downtown", "pos");
    wait_until("the mirror says the same", PATIENCE, || {
        mirror.exists() && sqlite3(&mirror, query) == sqlite3(&pos, query)
    });
    downtown.wait_until_safe("pos");
}

fn refused(before: &str, code: i32, word: &str) {
    let home = Home::new();
    let downtown = home.found("downtown");
    let pos = home.path("pos.db");
    execute(&pos, before);
    let ended = downtown.command(&["attach", "pos", path(&pos)]);
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(ended.stderr.contains(word), "{ended:?}");
    assert_eq!(
        number(&pos, "SELECT count(*) FROM sqlite_master WHERE name LIKE '\\_hold%' ESCAPE '\\'"),
        0
    );
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_cannot_be_kept_safe_is_refused_with_a_reason() {
    // No name is left for what tells its rows apart.
    refused("CREATE TABLE t (rowid TEXT, _rowid_ TEXT, oid TEXT)", 1, "primary key");
}
