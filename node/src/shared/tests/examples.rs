//! The hard cases of MERGE.md, one by one.

use super::site::{Site, site_id};
use super::{assert_alike, exchange};
use crate::shared::Policy;
use crate::shared::policy::{Choice, Entry};
use conflict::Value;

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
    assert_eq!(sites[0].rows("o"), [[int(1), text("Smith")], [int(2001), text("Miller")]]);
    assert_eq!(
        sites[0].rows("l"),
        [[int(1), int(1), text("tea")], [int(9), int(2001), text("salt")]]
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
