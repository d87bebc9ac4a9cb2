//! The hard cases of MERGE.md, one by one.

use super::site::{Site, site_id};
use super::{assert_alike, exchange};
use crate::shared::Policy;
use crate::shared::policy::{Choice, Entry};
use conflict::{Timestamp, Value, Version};
use protocol::change::{Operation, RowChange};

fn text(text: &str) -> Value {
    Value::text(text)
}

fn int(integer: i64) -> Value {
    Value::Integer(integer)
}

fn pair(sql: &str) -> Vec<Site> {
    Site::group(2, sql, &Policy::default())
}

fn settled(sites: &mut [Site]) {
    exchange(sites);
    assert_alike(sites);
    sites.iter().for_each(Site::check);
}

#[test]
fn edits_of_different_columns_of_one_row_are_both_kept() {
    let mut sites = pair("CREATE TABLE c (id TEXT PRIMARY KEY, name TEXT, phone TEXT)");
    sites[0].run("INSERT INTO c VALUES ('a', 'Ann', '1')");
    settled(&mut sites);
    sites[0].run("UPDATE c SET name = 'Anna'");
    sites[1].run("UPDATE c SET phone = '2'");
    settled(&mut sites);
    assert_eq!(sites[0].rows("c"), [[text("a"), text("Anna"), text("2")]]);
}

#[test]
fn one_unique_value_at_two_sites_leaves_both_rows_visible() {
    let mut sites = pair("CREATE TABLE i (id TEXT PRIMARY KEY, number TEXT UNIQUE)");
    sites[0].run("INSERT INTO i VALUES ('a', 'INV-7')");
    sites[1].run("INSERT INTO i VALUES ('b', 'INV-7')");
    settled(&mut sites);
    let rows = sites[0].rows("i");
    assert_eq!(rows[0], [text("a"), text("INV-7")]);
    assert_eq!(rows[1], [text("b"), text("INV-7~s1~b")]);
    // A whole-row save of the marked form does not turn the mark into the meaning.
    sites[1].run("UPDATE i SET number = number WHERE id = 'b'");
    sites[0].run("DELETE FROM i WHERE id = 'a'");
    settled(&mut sites);
    assert_eq!(sites[1].rows("i"), [[text("b"), text("INV-7")]]);
}

#[test]
fn a_parent_that_a_child_needs_stays() {
    let mut sites = pair(
        "CREATE TABLE p (id TEXT PRIMARY KEY, name TEXT);
         CREATE TABLE c (id TEXT PRIMARY KEY, parent TEXT REFERENCES p(id))",
    );
    sites[0].run("INSERT INTO p VALUES ('p', 'shelf')");
    settled(&mut sites);
    sites[0].run("DELETE FROM p");
    sites[1].run("INSERT INTO c VALUES ('c', 'p')");
    settled(&mut sites);
    assert_eq!(sites[0].rows("p").len(), 1);
    sites[0].run("DELETE FROM c");
    settled(&mut sites);
    assert!(sites[1].rows("p").is_empty());
}

#[test]
fn one_number_handed_out_twice_is_two_rows() {
    let mut sites = pair(
        "CREATE TABLE o (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT);
         CREATE TABLE l (id INTEGER PRIMARY KEY AUTOINCREMENT, o INTEGER REFERENCES o(id), what TEXT)",
    );
    sites[0].run("INSERT INTO o VALUES (1, 'Smith'); INSERT INTO l VALUES (1, 1, 'tea')");
    sites[1].run("INSERT INTO o VALUES (1, 'Miller'); INSERT INTO l VALUES (9, 1, 'salt')");
    settled(&mut sites);
    // The lesser rank keeps the number; Smith's order never gets Miller's line.
    assert_eq!(sites[0].rows("o"), [[int(1), text("Smith")], [int(33024), text("Miller")]]);
    assert_eq!(
        sites[0].rows("l"),
        [[int(1), int(1), text("tea")], [int(9), int(33024), text("salt")]]
    );
}

#[test]
fn a_mark_may_stay() {
    let stay = Entry::new("i", Some("number"), Choice::KeepMark);
    let policy = Policy::from_entries([stay], site_id(0));
    let sql = "CREATE TABLE i (id TEXT PRIMARY KEY, number TEXT UNIQUE)";
    let mut sites = Site::group(2, sql, &policy);
    sites[0].run("INSERT INTO i VALUES ('a', 'INV-7')");
    sites[1].run("INSERT INTO i VALUES ('b', 'INV-7')");
    settled(&mut sites);
    sites[0].run("DELETE FROM i WHERE id = 'a'");
    settled(&mut sites);
    assert_eq!(sites[1].rows("i"), [[text("b"), text("INV-7~s1~b")]]);
}

#[test]
fn an_update_against_a_delete_keeps_the_row() {
    let mut sites = pair("CREATE TABLE c (id TEXT PRIMARY KEY, name TEXT, phone TEXT)");
    sites[0].run("INSERT INTO c VALUES ('a', 'Ann', '1')");
    settled(&mut sites);
    sites[0].run("DELETE FROM c");
    sites[1].clock += 10;
    sites[1].run("UPDATE c SET phone = '2'");
    settled(&mut sites);
    assert_eq!(sites[0].rows("c"), [[text("a"), text("Ann"), text("2")]]);
}

#[test]
fn a_child_may_be_parked_instead_of_its_parent_kept() {
    let park = Entry::new("c", None, Choice::ParkChild);
    let policy = Policy::from_entries([park], site_id(0));
    let sql = "CREATE TABLE p (id TEXT PRIMARY KEY, name TEXT);
               CREATE TABLE c (id TEXT PRIMARY KEY, parent TEXT REFERENCES p(id))";
    let mut sites = Site::group(2, sql, &policy);
    sites[0].run("INSERT INTO p VALUES ('p', 'shelf')");
    settled(&mut sites);
    sites[0].run("DELETE FROM p");
    sites[1].run("INSERT INTO c VALUES ('c', 'p')");
    settled(&mut sites);
    assert!(sites[0].rows("p").is_empty() && sites[1].rows("c").is_empty());
    // The child loses nothing: it is back with its parent.
    sites[0].run("INSERT INTO p VALUES ('p', 'shelf')");
    settled(&mut sites);
    assert_eq!(sites[0].rows("c"), [[text("c"), text("p")]]);
}

#[test]
fn rows_may_swap_unique_values() {
    let mut sites = pair("CREATE TABLE s (id TEXT PRIMARY KEY, place INTEGER UNIQUE)");
    sites[0].run("INSERT INTO s VALUES ('a', 1), ('b', 2)");
    settled(&mut sites);
    sites[0].run(
        "UPDATE s SET place = 3 WHERE id = 'a'; UPDATE s SET place = 1 WHERE id = 'b';
         UPDATE s SET place = 2 WHERE id = 'a'",
    );
    settled(&mut sites);
    assert_eq!(sites[1].rows("s"), [[text("a"), int(2)], [text("b"), int(1)]]);
}

const ORDERS: &str = "
    CREATE TABLE l (id INTEGER PRIMARY KEY AUTOINCREMENT, o INTEGER REFERENCES o(id), what TEXT);
    CREATE TABLE o (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT, before INTEGER REFERENCES o(id))";

/// Who ordered what, and after whose order, whatever the numbers are.
fn orders(site: &Site) -> Vec<String> {
    let mut statement = site
        .app
        .prepare(
            "SELECT what || ' ' || o.who || ' ' || ifnull(b.who, '-') FROM l JOIN o ON o.id = l.o
             LEFT JOIN o AS b ON b.id = o.before ORDER BY 1",
        )
        .unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn rows_that_lose_their_numbers_together_still_belong_together() {
    let mut sites = pair(ORDERS);
    for (site, who) in ["Smith", "Miller"].iter().enumerate() {
        for id in 1..=3 {
            let before = if id == 1 { "NULL".to_owned() } else { (id - 1).to_string() };
            sites[site].run(&format!(
                "INSERT INTO o VALUES ({id}, '{who}{id}', {before});
                 INSERT INTO l VALUES ({id}, {id}, 'tea{id}')"
            ));
        }
    }
    settled(&mut sites);
    let all = [
        "Miller1 -",
        "Smith1 -",
        "Miller2 Miller1",
        "Smith2 Smith1",
        "Miller3 Miller2",
        "Smith3 Smith2",
    ];
    let expected: Vec<String> = all
        .iter()
        .map(|row| format!("tea{} {row}", row.chars().find(char::is_ascii_digit).unwrap()))
        .collect();
    assert_eq!(orders(&sites[1]), expected);
    // Three numbers of one block each, not a block each.
    let numbers = |table: &str| -> Vec<i64> {
        let rows = sites[0].rows(table).into_iter();
        let mut numbers: Vec<i64> = rows
            .map(|row| match row[0] {
                Value::Integer(id) => id,
                _ => panic!("{row:?}"),
            })
            .collect();
        numbers.drain(..3);
        numbers
    };
    for table in ["o", "l"] {
        let [first, second, third] = numbers(table)[..] else { panic!("{:?}", numbers(table)) };
        assert_eq!((second, third), (first + 1, first + 2));
    }
}

#[test]
fn who_refers_to_a_number_that_was_given_up_meanwhile_is_led_to_the_new_one() {
    let mut sites = Site::group(3, ORDERS, &Policy::default());
    sites[0].run("INSERT INTO o VALUES (1, 'Smith', NULL)");
    sites[1].run("INSERT INTO o VALUES (1, 'Miller', NULL)");
    sites[0].harvest();
    sites[1].clock += 10;
    sites[1].harvest();
    // The third knows Miller only, while Miller gets another number.
    let miller = sites[1].made.clone();
    assert!(sites[2].receive_all(&miller));
    sites[2].run("INSERT INTO l VALUES (500, 1, 'salt')");
    sites[2].clock += 20;
    sites[2].harvest();
    let smith = sites[0].made.clone();
    sites[1].waits = true;
    assert!(sites[1].receive_all(&smith));
    assert!(sites[1].follow_up());
    sites[1].waits = false;
    settled(&mut sites);
    for site in &sites {
        assert_eq!(orders(site), ["salt Miller -"]);
        assert_eq!(site.rows("o").len(), 2);
    }
}

#[test]
fn a_number_handed_out_before_the_row_that_has_it_is_seen_is_another_row() {
    let mut sites = pair(ORDERS);
    sites[0].run("INSERT INTO o VALUES (1, 'Smith', NULL), (2, 'Jones', NULL)");
    sites[0].harvest();
    let batches = sites[0].made.clone();
    // Merged, but not in the application's table yet.
    sites[1].merge(&batches[0]);
    sites[1].run("INSERT INTO o VALUES (1, 'Miller', NULL), (2, 'Jones', NULL)");
    settled(&mut sites);
    let mut names: Vec<Value> =
        sites[0].rows("o").into_iter().map(|mut row| row.swap_remove(1)).collect();
    names.sort_by_key(|name| format!("{name:?}"));
    assert_eq!(names, [text("Jones"), text("Miller"), text("Smith")]);
}

#[test]
fn a_child_that_came_before_its_parent_belongs_to_the_parent_of_its_site() {
    let mut sites = Site::group(3, ORDERS, &Policy::default());
    // A reference to a number that nobody has given out yet.
    sites[1].run("PRAGMA foreign_keys = OFF");
    sites[1].run("INSERT INTO l VALUES (500, 7, 'salt')");
    sites[1].harvest();
    let lines = sites[1].made.clone();
    assert!(sites[2].receive_all(&lines));
    assert!(sites[2].rows("l").is_empty() && sites[1].rows("l").is_empty());
    // Meanwhile another site gives it out; that one's order does not get the line for good.
    sites[0].run("INSERT INTO o VALUES (7, 'Smith', NULL)");
    sites[0].harvest();
    let smith = sites[0].made.clone();
    assert!(sites[2].receive_all(&smith));
    assert_eq!(orders(&sites[2]), ["salt Smith -"]);
    sites[2].check();
    sites[1].clock += 10;
    sites[1].run("INSERT INTO o VALUES (7, 'Miller', NULL)");
    sites[1].harvest();
    assert_eq!(orders(&sites[1]), ["salt Miller -"]);
    settled(&mut sites);
    for site in &sites {
        assert_eq!(orders(site), ["salt Miller -"]);
    }
}

#[test]
fn a_reference_in_a_key_finds_its_parent() {
    let mut sites = pair(
        "CREATE TABLE o (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT);
         CREATE TABLE l (o INTEGER NOT NULL REFERENCES o(id), line INTEGER, what TEXT,
                         PRIMARY KEY (o, line)) WITHOUT ROWID",
    );
    sites[0].run("INSERT INTO o VALUES (1, 'Smith'); INSERT INTO l VALUES (1, 1, 'tea')");
    settled(&mut sites);
    assert_eq!(sites[1].rows("l"), [[int(1), int(1), text("tea")]]);
}

#[test]
fn keys_and_unique_values_of_another_class_are_parked() {
    let mut sites = pair(
        "CREATE TABLE o (id INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER UNIQUE);
         CREATE TABLE i (id TEXT PRIMARY KEY, name TEXT)",
    );
    sites[0].run("INSERT INTO o VALUES (1, 5); INSERT INTO i VALUES ('1', 'tea')");
    sites[0].harvest();
    // A member gone bad, whose changes are older than all others.
    sites[1].clock = 0;
    let bad = |table: &str, key: Value, value: Value| {
        let index = sites[1].table(table);
        let birth = (table == "o").then(|| Version {
            timestamp: Timestamp::try_from(1 << 20).unwrap(),
            origin: site_id(1),
        });
        let insert = Operation::Insert(vec![value]);
        RowChange { birth, ..RowChange::plain(index, vec![key], insert) }
    };
    let changes = vec![
        bad("o", text("1"), Value::Null),
        bad("o", Value::Real(1.0), Value::Null),
        bad("o", text("one"), Value::Null),
        bad("o", Value::Blob(vec![1]), Value::Null),
        bad("o", int(9), text("5")),
        bad("i", int(1), Value::Null),
        bad("i", Value::Real(1.0), Value::Null),
    ];
    sites[1].forge(changes);
    let forged = sites[1].made.clone();
    assert!(sites[0].receive_all(&forged));
    sites[0].check();
    assert_eq!(sites[0].rows("o"), [[int(1), int(5)]]);
    assert_eq!(sites[0].rows("i"), [[text("1"), text("tea")]]);
    assert!(!sites[0].harvest(), "what was written came back as a change");
    let parked: i64 = sites[0]
        .store
        .query_row("SELECT count(*) FROM conflict WHERE kind = 'parked'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(parked, 7);
}

#[test]
fn a_row_made_before_the_same_one_of_others_is_seen_is_made_at_both() {
    let counts = Entry::new("s", Some("n"), Choice::Counter);
    let policy = Policy::from_entries([counts], site_id(0));
    let sql = "CREATE TABLE s (id TEXT PRIMARY KEY, n INTEGER)";
    let mut sites = Site::group(2, sql, &policy);
    sites[0].run("INSERT INTO s VALUES ('salt', 5), ('tea', 5)");
    sites[0].harvest();
    let made = sites[0].made.clone();
    sites[1].merge(&made[0]);
    sites[0].run("DELETE FROM s WHERE id = 'salt'; UPDATE s SET n = 4 WHERE id = 'tea'");
    sites[0].harvest();
    // Not written here yet: it is no change of those rows, be it equal to them.
    sites[1].clock += 10;
    assert!(sites[1].run("INSERT INTO s VALUES ('salt', 5), ('tea', 7)"));
    settled(&mut sites);
    assert_eq!(sites[0].rows("s"), [[text("salt"), int(5)], [text("tea"), int(7)]]);
    assert_eq!(sites[1].store.query_row("SELECT count(*) FROM unwritten", [], |r| r.get(0)), Ok(0));
}

#[test]
fn a_parent_of_many_goes_with_the_last_of_them() {
    let mut sites = pair(
        "CREATE TABLE p (id TEXT PRIMARY KEY, name TEXT);
         CREATE TABLE c (id INTEGER PRIMARY KEY AUTOINCREMENT, p TEXT REFERENCES p(id))",
    );
    sites[0].run("INSERT INTO p VALUES ('p', 'shelf'), ('q', 'box')");
    for id in 1..=200 {
        sites[0].run(&format!("INSERT INTO c VALUES ({id}, 'p')"));
    }
    settled(&mut sites);
    sites[1].run("PRAGMA foreign_keys = OFF");
    sites[1].run("DELETE FROM p WHERE id = 'p'; DELETE FROM c WHERE id < 200");
    settled(&mut sites);
    assert_eq!((sites[0].rows("p").len(), sites[0].rows("c").len()), (2, 1));
    sites[0].run("UPDATE c SET p = 'q'");
    settled(&mut sites);
    assert_eq!((sites[1].rows("p").len(), sites[1].rows("c").len()), (1, 1));
}
