//! What happens to rows: REPLACE, cascades, keys of all kinds, values bit for bit.

use super::world::World;
use crate::capture::Reading;

const ITEMS: &str = "CREATE TABLE item(id INTEGER PRIMARY KEY, code TEXT UNIQUE, n INTEGER);
    INSERT INTO item VALUES(1, 'a', 10), (2, 'b', 20), (3, 'c', 30);";

#[test]
fn inserts_updates_and_deletes_arrive_once_and_in_final_form() {
    let mut world = World::new(ITEMS);
    assert!(world.harvest().is_empty());
    world.sql(
        "INSERT INTO item VALUES(4, 'd', 1); UPDATE item SET n = n + 1 WHERE id = 4;
               UPDATE item SET n = 21 WHERE id = 2; UPDATE item SET n = n WHERE id = 1;
               DELETE FROM item WHERE id = 3; INSERT INTO item VALUES(9, 'x', 1);
               DELETE FROM item WHERE id = 9;",
    );
    assert_eq!(
        world.changes(),
        ["item [2] update n=21", "item [3] delete", "item [4] insert [\"d\", 2]"]
    );
    assert!(world.harvest().is_empty());
    world.sql("BEGIN; UPDATE item SET n = 0; ROLLBACK");
    assert!(world.harvest().is_empty());
}

#[test]
fn a_row_that_was_gone_in_between_is_told_apart() {
    let mut world = World::new(ITEMS);
    world.sql(
        "DELETE FROM item WHERE id = 1; INSERT INTO item VALUES(1, 'a', 11);
         UPDATE item SET n = 21 WHERE id = 2",
    );
    let reading = world.capture.read(&world.position, world.limits, None).unwrap();
    let Reading::Notes(notes) = reading else { panic!("{reading:?}") };
    let kept: Vec<bool> = notes.rows.values().map(|row| row.kept).collect();
    assert_eq!(kept, [false, true]);
}

#[test]
fn f42_trap_1_replace_through_a_unique_index_removes_the_other_row() {
    let mut world = World::new(ITEMS);
    world.sql("INSERT OR REPLACE INTO item VALUES(7, 'a', 70)");
    assert_eq!(world.changes(), ["item [1] delete", "item [7] insert [\"a\", 70]"]);
    world.sql("UPDATE OR REPLACE item SET code = 'b' WHERE id = 3");
    assert_eq!(world.changes(), ["item [2] delete", "item [3] update code=\"b\""]);
    world.sql("REPLACE INTO item VALUES(3, 'a', 1)"); // through both indexes at once
    assert_eq!(world.changes(), ["item [3] update code=\"a\" n=1", "item [7] delete"]);
    world.sql("INSERT INTO item VALUES(3, 'z', 5) ON CONFLICT(id) DO UPDATE SET n = 5");
    assert_eq!(world.changes(), ["item [3] update n=5"]);
    world.sql("INSERT OR IGNORE INTO item VALUES(3, 'z', 5)");
    assert!(world.harvest().is_empty());
}

#[test]
fn f42_trap_1_several_indexes_collations_and_partial_indexes() {
    let mut world = World::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE UNIQUE, b, c, live, gone);
         CREATE UNIQUE INDEX t_bc ON t(b, c);
         CREATE UNIQUE INDEX t_rtrim ON t(c COLLATE RTRIM) WHERE live = 1 AND gone IS NULL;
         INSERT INTO t VALUES(1, 'One', 1, 'x', 0, NULL), (2, 'Two', 2, 'y', 1, NULL),
                             (3, 'Three', 3, 'z', 1, NULL), (4, 'Four', 4, 'y ', 0, NULL);",
    );
    world.sql("REPLACE INTO t VALUES(10, 'ONE', 3, 'z', 0, NULL)");
    assert_eq!(world.harvest().len(), 3); // 1 and 3 gone, 10 there
    // The row enters the partial index without a change of the indexed column.
    world.sql("UPDATE OR REPLACE t SET live = 1 WHERE id = 4");
    assert_eq!(world.changes(), ["t [2] delete", "t [4] update live=1"]);
    world.sql("UPDATE OR REPLACE t SET a = 'four', b = 9 WHERE id = 10");
    assert_eq!(world.changes(), ["t [10] update a=\"four\" b=9", "t [4] delete"]);
}

#[test]
fn trap_1_the_remedy_uses_the_indexes() {
    let world = World::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE UNIQUE, b, live);
         CREATE UNIQUE INDEX t_b ON t(b) WHERE live = 1;",
    );
    for (values, used) in [
        ("a = ?1 COLLATE NOCASE", "sqlite_autoindex_t_1"),
        ("b = ?1 COLLATE BINARY AND (live = 1)", "t_b"),
    ] {
        let plan: String = world
            .application
            .query_row(&format!("EXPLAIN QUERY PLAN SELECT id FROM t WHERE {values}"), ["x"], |r| {
                r.get(3)
            })
            .unwrap();
        assert!(plan.contains(used), "{plan}");
    }
    let triggers: String = world
        .application
        .query_row("SELECT group_concat(sql) FROM sqlite_schema WHERE type='trigger'", [], |r| {
            r.get(0)
        })
        .unwrap();
    assert!(triggers.contains("\"a\" = NEW.\"a\" COLLATE \"NOCASE\""), "{triggers}");
    assert!(triggers.contains("\"b\" = NEW.\"b\" COLLATE \"BINARY\" AND (live = 1)"));
}

#[test]
fn f42_trap_1_an_index_on_an_expression_or_generated_column_is_counted() {
    for index in ["lower(code)", "folded"] {
        let mut world = World::new(&format!(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, code, folded AS (lower(code)));
             CREATE UNIQUE INDEX t_lower ON t({index});
             INSERT INTO t VALUES(1, 'a'), (2, 'b'), (3, 'c');"
        ));
        world.sql("REPLACE INTO t VALUES(9, 'A')");
        assert_eq!(world.changes(), ["t [1] delete", "t [9] insert [\"A\"]"]);
        world.sql("UPDATE OR REPLACE t SET code = 'B' WHERE id = 3");
        let mut changes = Vec::new();
        assert!(world.step(&mut changes)); // the node is killed before it looks for the vanished
        world.restart();
        changes.extend(world.harvest());
        assert_eq!(world.told(&changes), ["t [2] delete", "t [3] update code=\"B\""]);
        assert!(world.rescan.is_done());
    }
}

#[test]
fn f42_trap_1_replace_through_a_key_that_ignores_case() {
    let mut world = World::new(
        "CREATE TABLE t(code TEXT COLLATE NOCASE NOT NULL PRIMARY KEY, n) ;
         CREATE TABLE u(code TEXT COLLATE NOCASE PRIMARY KEY, n) WITHOUT ROWID;
         INSERT INTO t VALUES('abc', 1); INSERT INTO u VALUES('abc', 1);",
    );
    world.sql("REPLACE INTO t VALUES('ABC', 2); REPLACE INTO u VALUES('ABC', 2)");
    assert_eq!(
        world.changes(),
        [
            "t [\"ABC\"] insert [2]",
            "t [\"abc\"] delete",
            "u [\"ABC\"] insert [2]",
            "u [\"abc\"] delete"
        ]
    );
    // Trap 17: a key that only changes its case is a delete and an insert.
    world.sql("UPDATE t SET code = 'Abc'; UPDATE u SET code = 'Abc'");
    assert_eq!(world.harvest().len(), 4);
    world.sql("UPDATE t SET n = 5 WHERE code = 'ABC'");
    assert_eq!(world.changes(), ["t [\"Abc\"] update n=5"]);
}

#[test]
fn trap_2_cascades_and_set_null_are_noted() {
    let mut world = World::new(
        "CREATE TABLE p(id INTEGER PRIMARY KEY);
         CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE s(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE SET NULL);
         INSERT INTO p VALUES(1), (2); INSERT INTO c VALUES(1, 1), (2, 2);
         INSERT INTO s VALUES(1, 1);",
    );
    world.sql("DELETE FROM p WHERE id = 1; UPDATE p SET id = 7 WHERE id = 2");
    assert_eq!(
        world.changes(),
        [
            "c [1] delete",
            "c [2] update p=7",
            "p [1] delete",
            "p [2] delete",
            "p [7] insert []",
            "s [1] update p=NULL"
        ]
    );
}

#[test]
fn trap_3_updates_of_the_key_by_whatever_name() {
    let mut world = World::new(ITEMS);
    world.sql("UPDATE item SET id = 11 WHERE id = 1; UPDATE item SET rowid = 12 WHERE id = 2");
    assert_eq!(
        world.changes(),
        [
            "item [11] insert [\"a\", 10]",
            "item [12] insert [\"b\", 20]",
            "item [1] delete",
            "item [2] delete"
        ]
    );
    world.sql("UPDATE OR REPLACE item SET id = 12 WHERE id = 11");
    assert_eq!(world.changes(), ["item [11] delete", "item [12] update code=\"a\" n=10"]);
}

#[test]
fn trap_4_composite_keys_and_tables_without_rowid() {
    let mut world = World::new(
        "CREATE TABLE a(x TEXT NOT NULL, y INTEGER NOT NULL, v, PRIMARY KEY(y, x));
         CREATE TABLE b(v, x, y, PRIMARY KEY(x, y DESC)) WITHOUT ROWID;
         CREATE TABLE d(id INTEGER PRIMARY KEY DESC, v);
         INSERT INTO a VALUES('p', 1, 0); INSERT INTO b VALUES(0, 'p', 1);
         INSERT INTO d VALUES(5, 5);",
    );
    world.sql(
        "UPDATE a SET v = 1; UPDATE b SET v = 1; UPDATE b SET y = 2;
               INSERT INTO a VALUES('q', 1, 3); UPDATE d SET id = 6",
    );
    assert_eq!(
        world.changes(),
        [
            "a [1, \"p\"] update v=1",
            "a [1, \"q\"] insert [3]",
            "b [\"p\", 1] delete",
            "b [\"p\", 2] insert [1]",
            "d [5] delete",
            "d [6] insert [5]"
        ]
    );
}

#[test]
fn trap_4_keyless_tables_go_by_rowid_and_survive_vacuum() {
    let mut world = World::new(
        "CREATE TABLE t(v); CREATE TABLE r(rowid TEXT, _rowid_ TEXT);
         INSERT INTO t VALUES('a'), ('b'), ('c'), ('d'); INSERT INTO r VALUES('x', 'y');",
    );
    world.sql(
        "DELETE FROM t WHERE v = 'b'; UPDATE t SET v = 'C' WHERE v = 'c';
               UPDATE r SET rowid = 'z'",
    );
    assert_eq!(
        world.changes(),
        ["r [1] update rowid=\"z\"", "t [2] delete", "t [3] update v=\"C\""]
    );
    world.sql("VACUUM");
    let told = world.changes();
    assert!(world.refreshes == 1 && (told.is_empty() || told.len() == 3), "{told:?}");
    assert!(world.harvest().is_empty());
}

#[test]
fn trap_4_a_null_in_the_key_makes_the_table_go_by_rowid() {
    let mut world = World::new(
        "CREATE TABLE t(code TEXT PRIMARY KEY, v); INSERT INTO t VALUES('a', 1), ('b', 2);
         CREATE TABLE n(code TEXT PRIMARY KEY, v); INSERT INTO n VALUES('a', 1), (NULL, 2);",
    );
    world.sql("UPDATE n SET v = 3 WHERE code IS NULL; UPDATE t SET v = 2 WHERE code = 'a'");
    assert_eq!(world.changes(), ["n [2] update v=3", "t [\"a\"] update v=2"]);
    world.sql("INSERT INTO t VALUES(NULL, 9); DELETE FROM t WHERE code IS NULL");
    assert!(world.harvest().is_empty());
    assert_eq!(world.refreshes, 0);
    world.sql("INSERT INTO t VALUES(NULL, 3)");
    assert_eq!(world.harvest().len(), 3);
    assert_eq!(world.refreshes, 1);
    world.sql("DELETE FROM t WHERE code IS NULL; CREATE TABLE more(x)");
    assert_eq!(world.changes(), ["t [3] delete"]); // and it stays by rowid
    // Noted while the node was off, and found at the start.
    let mut world = World::new("CREATE TABLE t(code TEXT PRIMARY KEY, v)");
    world.sql("INSERT INTO t VALUES(NULL, 1), ('a', 2)");
    world.restart();
    assert_eq!(world.harvest().len(), 2);
}

#[test]
fn trap_4_equal_to_sqlite_but_other_bits() {
    let mut world = World::new(
        "CREATE TABLE t(k PRIMARY KEY NOT NULL, v COLLATE NOCASE);
         INSERT INTO t VALUES(1, 'a'), (0.0, 1), ('x', 0.0);",
    );
    world.sql(
        "UPDATE t SET k = 1.0 WHERE k = 1; UPDATE t SET v = 1.0 WHERE v = 1;
               UPDATE t SET v = -0.0 WHERE k = 'x'",
    );
    assert_eq!(
        world.changes(),
        [
            "t [\"x\"] update v=-0.0",
            "t [0.0] update v=1.0",
            "t [1.0] insert [\"a\"]",
            "t [1] delete"
        ]
    );
    world.sql("UPDATE t SET v = 'A' WHERE k = 1; REPLACE INTO t VALUES(0, 1.0)");
    assert_eq!(world.changes(), ["t [0.0] delete", "t [0] insert [1.0]", "t [1.0] update v=\"A\""]);
}

#[test]
fn trap_5_generated_columns_and_strict_tables() {
    let mut world = World::new(
        "CREATE TABLE g(a AS (b * 2), id INTEGER PRIMARY KEY, s AS (b + 1) STORED, b INTEGER);
         CREATE TABLE t(code TEXT PRIMARY KEY, any ANY) STRICT;
         INSERT INTO g(b) VALUES(1); INSERT INTO t VALUES('x', '1');",
    );
    world.sql("UPDATE g SET b = 2; UPDATE t SET any = 1; INSERT INTO g(b) VALUES(5)");
    assert_eq!(world.changes(), ["g [1] update b=2", "g [2] insert [5]", "t [\"x\"] update any=1"]);
}

#[test]
fn trap_8_a_table_emptied_in_one_statement() {
    let mut world = World::new(ITEMS);
    world.sql("DELETE FROM item");
    assert_eq!(world.changes(), ["item [1] delete", "item [2] delete", "item [3] delete"]);
}

#[test]
fn f46_trap_9_values_arrive_bit_for_bit() {
    let mut world = World::new(
        "CREATE TABLE t(k PRIMARY KEY NOT NULL, v);
         INSERT INTO t VALUES(x'', 9e999), ('', -9e999), (9223372036854775807, NULL),
           (-9223372036854775808, x''), (9007199254740993, -0.0),
           ('a' || char(0) || 'b', 'c' || char(0)), (CAST(x'ff00fe' AS TEXT), CAST(x'c3' AS TEXT)),
           (x'ff00fe', ''), (9223372036854775808.0, 5e-324), (-9e999, 1.7976931348623157e308);",
    );
    assert_eq!(world.model["t"].len(), 10);
    world.sql(
        "UPDATE t SET k = k, v = CASE WHEN typeof(v) = 'text' THEN CAST(v AS BLOB) ELSE v END",
    );
    assert_eq!(world.harvest().len(), 3);
    world.sql("DELETE FROM t");
    assert_eq!(world.harvest().len(), 10);
}

#[test]
fn trap_17_swaps_come_out_as_final_forms() {
    let mut world = World::new(ITEMS);
    world.sql(
        "BEGIN; UPDATE item SET code = 'tmp' WHERE id = 1;
               UPDATE item SET code = 'a' WHERE id = 2; UPDATE item SET code = 'b' WHERE id = 1;
               COMMIT; BEGIN; UPDATE item SET id = -1 WHERE id = 2;
               UPDATE item SET id = 2 WHERE id = 3; UPDATE item SET id = 3 WHERE id = -1; COMMIT",
    );
    assert_eq!(
        world.changes(),
        [
            "item [1] update code=\"b\"",
            "item [2] update code=\"c\" n=30",
            "item [3] update code=\"a\" n=20"
        ]
    );
}

#[test]
fn names_that_need_quotes() {
    let mut world = World::new(
        "CREATE TABLE \"a \"\"b\"\" ]'\"(\"k \"\"1\" TEXT NOT NULL PRIMARY KEY, \"select\" UNIQUE);
         INSERT INTO \"a \"\"b\"\" ]'\" VALUES('x', 1);",
    );
    world.sql(
        "UPDATE \"a \"\"b\"\" ]'\" SET \"select\" = 2;
               REPLACE INTO \"a \"\"b\"\" ]'\" VALUES('y', 2)",
    );
    assert_eq!(world.harvest().len(), 2);
}
