//! What happens to the schema and the file: upgrades, rebuilds, restores, replacements.
#![allow(clippy::disallowed_methods)]

use super::world::{World, marker, open};
use crate::capture::*;
use std::sync::Arc;

const ITEMS: &str = "CREATE TABLE item(id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INTEGER);
    INSERT INTO item VALUES(1, 'a', 10), (2, 'b', 20), (3, 'c', 30);";

#[test]
fn f36_trap_6_an_added_column_makes_no_traffic() {
    let mut world = World::new(ITEMS);
    world.sql(
        "ALTER TABLE item ADD COLUMN note TEXT;
               ALTER TABLE item ADD COLUMN price REAL NOT NULL DEFAULT 1;
               UPDATE item SET price = 2 WHERE id = 1",
    );
    assert_eq!(world.changes(), ["item [1] update price=2.0"]);
    world.sql("UPDATE item SET note = 'x' WHERE id = 2");
    assert_eq!(world.changes(), ["item [2] update note=\"x\""]);
    // A rebuild with another default: what rows had before must not be read by the new one.
    world.sql(
        "BEGIN; CREATE TABLE new(id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INTEGER,
                 note TEXT, price REAL NOT NULL DEFAULT 5);
               INSERT INTO new SELECT id, code, n, note, 5 FROM item;
               DROP TABLE item; ALTER TABLE new RENAME TO item; COMMIT",
    );
    assert_eq!(
        world.changes(),
        ["item [1] update price=5.0", "item [2] update price=5.0", "item [3] update price=5.0"]
    );
}

#[test]
fn trap_6_columns_dropped_and_renamed() {
    let mut world = World::new(ITEMS);
    world.sql("UPDATE item SET n = 11 WHERE id = 1; ALTER TABLE item DROP COLUMN n");
    assert!(world.changes().is_empty());
    world.sql("ALTER TABLE item RENAME COLUMN code TO sku; UPDATE item SET sku = 'z' WHERE id = 3");
    assert_eq!(world.harvest().len(), 3);
    world.sql("ALTER TABLE item RENAME COLUMN id TO number; ALTER TABLE item RENAME TO things");
    assert_eq!(world.harvest().len(), 3);
    world.sql("REPLACE INTO things VALUES(9, 'z')");
    assert_eq!(world.changes(), ["things [3] delete", "things [9] insert [\"z\"]"]);
}

#[test]
fn f38_trap_6_a_rebuilt_table_loses_its_triggers_and_is_compared() {
    let mut world = World::new(ITEMS);
    world.sql(
        "BEGIN; CREATE TABLE new(n INTEGER, id INTEGER PRIMARY KEY, code TEXT UNIQUE);
               INSERT INTO new SELECT n, id, code FROM item;
               DROP TABLE item; ALTER TABLE new RENAME TO item; COMMIT;
               UPDATE item SET n = 99 WHERE id = 2; DELETE FROM item WHERE id = 1;
               INSERT INTO item VALUES(40, 4, 'd')",
    );
    assert_eq!(
        world.changes(),
        ["item [1] delete", "item [2] update n=99", "item [4] insert [40, \"d\"]"]
    );
    assert_eq!(world.refreshes, 1);
    world.sql("UPDATE item SET n = 1 WHERE id = 4"); // the triggers are back
    assert_eq!(world.changes(), ["item [4] update n=1"]);
    world.sql("DROP TRIGGER _holdfast_on_1_update; UPDATE item SET n = 7");
    assert_eq!(world.harvest().len(), 3);
}

#[test]
fn traps_1_and_6_a_unique_index_that_came_and_went_unseen() {
    let removed = ["item [2] delete", "item [9] insert [\"z\", 20]"];
    let unseen = "BEGIN; CREATE UNIQUE INDEX i ON item(n); REPLACE INTO item VALUES(9, 'z', 20);
                  DROP INDEX i; COMMIT";
    let mut world = World::new(ITEMS);
    world.sql(unseen);
    assert_eq!(world.changes(), removed);
    // Killed after any of the steps, and with more notes than one reading takes.
    for kill in 1..5 {
        let mut world = World::new(ITEMS);
        world.limits.notes = 1;
        world.sql(unseen);
        let mut changes = Vec::new();
        for _ in 0..kill {
            world.step(&mut changes);
        }
        world.restart();
        changes.extend(world.harvest());
        assert_eq!(world.told(&changes), removed, "killed after {kill} steps");
    }
}

#[test]
fn a_refresh_whose_commit_is_lost_is_repeated() {
    let mut world = World::new(ITEMS);
    world.sql(
        "CREATE TABLE more(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID; INSERT INTO more VALUES(1, 1);
         DROP TRIGGER _holdfast_on_1_delete; DELETE FROM item WHERE id = 1;
         ALTER TABLE item DROP COLUMN n",
    );
    assert!(matches!(world.capture.read(&world.position, world.limits, None), Ok(Reading::Moved)));
    {
        let transaction = world.node.unchecked_transaction().unwrap();
        let images = Images::new(&transaction, 1);
        let refreshed = world.capture.refresh(&images, &world.position, false).unwrap();
        let Polite::Done(refreshed) = refreshed else { panic!("busy") };
        assert_eq!(refreshed.position.schema_version, None);
    } // the triggers are in the file, the node's own database forgot
    world.sql("INSERT INTO more VALUES(2, 2); INSERT INTO item VALUES(5, 'e')");
    world.restart();
    assert_eq!(
        world.changes(),
        [
            "item [1] delete",
            "item [5] insert [\"e\"]",
            "more [1, 1] insert []",
            "more [2, 2] insert []"
        ]
    );
}

#[test]
fn trap_6_another_key_means_another_table() {
    let mut world = World::new(ITEMS);
    world.sql(
        "BEGIN; CREATE TABLE new(id INTEGER, code TEXT NOT NULL PRIMARY KEY, n INTEGER);
               INSERT INTO new SELECT id, code, n FROM item;
               DROP TABLE item; ALTER TABLE new RENAME TO item; COMMIT",
    );
    assert_eq!(world.harvest().len(), 3); // model and images were emptied before: checked inside
    world.sql(
        "BEGIN; CREATE TABLE wide(a, b, c, PRIMARY KEY(a, b, c)) WITHOUT ROWID;
               DROP TABLE item; INSERT INTO wide VALUES(1, 2, 3); COMMIT",
    );
    assert_eq!(world.changes(), ["wide [1, 2, 3] insert []"]);
    world.sql("UPDATE wide SET b = 5");
    assert_eq!(world.changes(), ["wide [1, 2, 3] delete", "wide [1, 5, 3] insert []"]);
}

#[test]
fn trap_6_a_column_whose_old_values_cannot_be_known() {
    let mut world = World::new(ITEMS);
    world.sql(
        "BEGIN; CREATE TABLE new(id INTEGER PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP);
               INSERT INTO new(id) SELECT id FROM item;
               DROP TABLE item; ALTER TABLE new RENAME TO item; COMMIT",
    );
    assert_eq!(world.harvest().len(), 3);
}

#[test]
fn a_rescan_in_slices_of_one_row_survives_a_kill_between_any_two() {
    for kill in 0..14 {
        let mut world = World::new(
            "CREATE TABLE item(id INTEGER PRIMARY KEY, code); CREATE TABLE plain(v);
             CREATE TABLE keyed(a COLLATE NOCASE, b, v, PRIMARY KEY(a, b)) WITHOUT ROWID;
             INSERT INTO item VALUES(1, 'a'), (2, 'b'), (3, 'c');
             INSERT INTO plain VALUES(1), (2), (3);
             INSERT INTO keyed VALUES('a', 1, 1), ('A', 2, 2), ('b', 1, 3), ('B', 2, 4);",
        );
        world.limits = Limits { notes: 2, rows: 1, bytes: 1 };
        world.sql(
            "DROP TRIGGER _holdfast_on_1_update; DROP TRIGGER _holdfast_on_1_delete;
                   DROP TRIGGER _holdfast_on_2_update; DROP TRIGGER _holdfast_on_2_delete;
                   DROP TRIGGER _holdfast_on_3_delete;
                   UPDATE item SET code = 'z' WHERE id = 3; DELETE FROM item WHERE id = 2;
                   DELETE FROM keyed WHERE b = 2; INSERT INTO keyed VALUES('c', 1, 1);
                   DELETE FROM plain WHERE v = 2; INSERT INTO item VALUES(5, 'e'), (6, 'f')",
        );
        let mut changes = Vec::new();
        for _ in 0..kill {
            world.step(&mut changes);
        }
        world.sql("UPDATE item SET code = 'y' WHERE id = 1; INSERT INTO plain VALUES(9)");
        world.restart();
        changes.extend(world.harvest());
        assert_eq!(changes.len(), 10, "{:?}", world.told(&changes));
        assert!(world.position.schema_version.is_some());
    }
}

#[test]
fn new_pragmas_are_a_new_schema_without_a_rescan() {
    let mut world = World::new(ITEMS);
    world.sql("PRAGMA user_version = 7; PRAGMA application_id = 9");
    assert!(world.harvest().is_empty());
    assert_eq!((world.model_schema.user_version, world.model_schema.application_id), (7, 9));
    assert_eq!(world.refreshes, 1);
}

#[test]
fn trap_10_what_is_not_carried() {
    let mut world = World::unattached(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE b(id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT);
         CREATE TABLE A(id INTEGER PRIMARY KEY);
         CREATE VIRTUAL TABLE search USING fts5(body, content='b', content_rowid='id');
         CREATE VIEW w AS SELECT * FROM b; CREATE INDEX b_body ON b(body);
         CREATE TRIGGER b_search AFTER INSERT ON B BEGIN
           INSERT INTO search(rowid, body) VALUES(NEW.id, NEW.body); END;
         CREATE TRIGGER w_insert INSTEAD OF INSERT ON w BEGIN SELECT 1; END; ANALYZE;",
    );
    let before = world.capture.inspect().unwrap();
    world.attach();
    world.sql("INSERT INTO b(body) VALUES('hello')");
    assert_eq!(world.changes(), ["b [1] insert [\"hello\"]"]);
    let inspection = world.capture.inspect().unwrap();
    assert_eq!(inspection.schema, before.schema);
    let names: Vec<&str> =
        inspection.schema.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["A", "b"]);
    let objects: Vec<&str> =
        inspection.schema.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(objects, ["A", "b", "b_body", "w", "b_search", "w_insert", "search"]);
    assert!(inspection.findings.iter().any(|finding| finding.table.as_deref() == Some("search")));
}

#[test]
fn what_cannot_be_kept_is_refused_with_the_reason() {
    let mut world = World::unattached("CREATE TABLE t(rowid, oid, _rowid_)");
    let inspection = world.capture.inspect().unwrap();
    assert!(inspection.refusal().unwrap().what.contains("nothing that tells them apart"));
    let images = Images::new(&world.node, 1);
    assert!(matches!(world.capture.install(&images, false), Err(CaptureError::Refused { .. })));
    let mut world = World::unattached("CREATE TABLE x(a)");
    world.sql(
        "CREATE TABLE t(k TEXT COLLATE NOCASE NOT NULL PRIMARY KEY);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'MINE') WHERE name = 't';
         PRAGMA writable_schema = OFF",
    );
    let inspection = world.capture.inspect().unwrap();
    assert!(
        inspection.refusal().is_some_and(|refusal| refusal.what.contains("MINE")),
        "{inspection:?}"
    );
}

#[test]
fn a_file_attached_by_another_is_refused_unless_taken_over() {
    let mut world = World::new(ITEMS);
    let node = &world.node;
    let mut other = Application::new(
        Arc::new(crate::environment::production::Production::new()),
        world.path(),
        marker(7),
        Captured::default(),
    );
    let images = Images::new(node, 2);
    assert!(matches!(
        other.install(&images, false),
        Err(CaptureError::AttachedElsewhere(_, site)) if site == marker(1).site
    ));
    assert!(matches!(other.install(&images, true), Ok(Polite::Done(_))));
    assert!(matches!(
        world.capture.read(&world.position, world.limits, None),
        Err(CaptureError::NotAttached(_))
    ));
}

#[test]
fn install_and_uninstall_can_be_repeated_and_leave_nothing() {
    let mut world = World::new(ITEMS);
    let images = Images::new(&world.node, 1);
    assert!(matches!(world.capture.install(&images, false), Ok(Polite::Done(_))));
    world.sql("DROP TRIGGER _holdfast_on_1_update; DROP TABLE _holdfast_marker");
    for _ in 0..2 {
        assert_eq!(world.capture.uninstall().unwrap(), Polite::Done(()));
        let left: i64 = world
            .application
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%holdfast%'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(left, 0);
    }
}

#[test]
fn f35_a_file_that_is_missing_or_empty_or_new_is_no_delete() {
    let mut world = World::new(ITEMS);
    let path = world.path();
    world.application = rusqlite::Connection::open_in_memory().unwrap();
    world.capture.close();
    let kept = path.with_extension("kept");
    std::fs::copy(&path, &kept).unwrap();
    std::fs::remove_file(&path).unwrap();
    let read = |world: &mut World| world.capture.read(&world.position, world.limits, None);
    assert!(matches!(read(&mut world), Err(CaptureError::Missing(_))));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(read(&mut world), Err(CaptureError::NotAttached(_))));
    std::fs::write(&path, [7; 4096]).unwrap();
    world.capture.close();
    assert!(matches!(read(&mut world), Err(CaptureError::NotADatabase(_))));
    std::fs::remove_file(&path).unwrap();
    open(&path).execute_batch(ITEMS).unwrap(); // the application begins anew
    assert!(matches!(read(&mut world), Err(CaptureError::NotAttached(_))));
    std::fs::rename(&kept, &path).unwrap();
    world.application = open(&path);
    assert!(world.harvest().is_empty()); // it came back: compared, nothing differs
}

#[test]
fn f29_f32_a_file_from_an_older_copy_is_noticed() {
    let mut world = World::new(ITEMS);
    let (path, copy) = (world.path(), world.directory.path().join("copy.db"));
    world.sql("UPDATE item SET n = 1");
    world.harvest();
    world.application.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    world.sql("UPDATE item SET n = 2; INSERT INTO item VALUES(8, 'h', 8)");
    world.harvest();
    world.application = rusqlite::Connection::open_in_memory().unwrap();
    world.capture.close();
    std::fs::rename(&copy, &path).unwrap();
    world.application = open(&path);
    // Ids are used again, as many as were lost, by other changes.
    world.sql("UPDATE item SET n = 3; UPDATE item SET n = 3 WHERE id = 1");
    let last: i64 = world
        .application
        .query_row("SELECT max(id) FROM _holdfast_log", [], |row| row.get(0))
        .unwrap();
    assert_eq!(last, world.position.fence.id);
    assert!(matches!(
        world.capture.read(&world.position, world.limits, None),
        Ok(Reading::WentBack)
    ));
    assert_eq!(world.capture.trim(&world.position.fence, 1, 100).unwrap(), Polite::Done(false));
    assert_eq!(
        world.changes(),
        ["item [1] update n=3", "item [2] update n=3", "item [3] update n=3", "item [8] delete"]
    );
}

#[test]
fn trap_6_a_restore_in_place_is_noticed() {
    let mut world = World::new(ITEMS);
    let (path, old) = (world.path(), world.directory.path().join("old.db"));
    open(&old).execute_batch(ITEMS).unwrap();
    world.application = rusqlite::Connection::open_in_memory().unwrap();
    world.capture.close();
    std::fs::copy(&old, &path).unwrap(); // the same file, other content
    assert!(matches!(
        world.capture.read(&world.position, world.limits, None),
        Err(CaptureError::NotAttached(_))
    ));
}
