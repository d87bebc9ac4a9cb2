//! Full-text tables of a shared database, which the application's own triggers keep up to date:
//! they are made and filled where a site joins, and follow the rows of other sites.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tests::shop::{Shop, wait_until_alike};
use tests::site::Home;
use tests::wait::{PATIENCE, wait_until};

const SCHEMA: &str = "
    CREATE TABLE note (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT);
    CREATE VIRTUAL TABLE words USING fts5 (body, content = 'note', content_rowid = 'id');
    CREATE VIRTUAL TABLE own USING fts4 (body);
    CREATE TRIGGER note_in AFTER INSERT ON note BEGIN
        INSERT INTO words (rowid, body) VALUES (new.id, new.body);
        INSERT INTO own (docid, body) VALUES (new.id, new.body);
    END;
    CREATE TRIGGER note_out AFTER DELETE ON note BEGIN
        INSERT INTO words (words, rowid, body) VALUES ('delete', old.id, old.body);
        DELETE FROM own WHERE docid = old.id;
    END;
    CREATE TRIGGER note_new AFTER UPDATE ON note BEGIN
        INSERT INTO words (words, rowid, body) VALUES ('delete', old.id, old.body);
        INSERT INTO words (rowid, body) VALUES (new.id, new.body);
        UPDATE own SET body = new.body WHERE docid = new.id;
    END;
    INSERT INTO note (body) VALUES ('fresh coffee'), ('green tea');";

/// What a search finds in both full-text tables.
fn found(shop: &Shop, word: &str) -> Vec<String> {
    let of = |table: &str| {
        shop.rows(&format!(
            "SELECT body FROM note WHERE id IN (SELECT rowid FROM {table} WHERE {table} MATCH \
             '{word}') ORDER BY body"
        ))
    };
    assert_eq!(of("words"), of("own"));
    of("words")
}

#[test]
fn full_text_search_is_right_at_every_site() {
    let home = Home::new();
    let (downtown, uptown) = Shop::two(&home, SCHEMA);
    assert_eq!(found(&uptown, "coffee"), ["fresh coffee"], "filled where a site joins");

    uptown.run("INSERT INTO note (body) VALUES ('cold coffee')");
    downtown.run(
        "UPDATE note SET body = 'black tea' WHERE body = 'green tea';
         INSERT INTO note (body) VALUES ('hot milk'); DELETE FROM note WHERE body = 'hot milk'",
    );
    wait_until_alike(&[&downtown, &uptown]);
    uptown.run("DELETE FROM note WHERE body = 'fresh coffee'");
    wait_until_alike(&[&downtown, &uptown]);
    for shop in [&downtown, &uptown] {
        assert_eq!(found(shop, "coffee"), ["cold coffee"]);
        assert_eq!(found(shop, "tea"), ["black tea"]);
        assert_eq!(found(shop, "green OR milk"), [""; 0]);
        // Compares the index with the rows, too.
        shop.run("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)");
        assert_eq!(shop.site.status()["alarms"], serde_json::json!([]));
    }
}

#[test]
fn a_trigger_that_refuses_rows_of_others_is_told_and_stands_in_nobodys_way() {
    let home = Home::new();
    let (downtown, uptown) = Shop::two(&home, SCHEMA);
    uptown.run(
        "CREATE TRIGGER no_beer BEFORE INSERT ON note WHEN new.body = 'beer' BEGIN
             SELECT RAISE(ABORT, 'no beer here'); END",
    );
    downtown.run("INSERT INTO note (body) VALUES ('beer')");
    wait_until("the row is there nevertheless", PATIENCE, || {
        bodies(&uptown) == ["beer", "fresh coffee", "green tea"]
    });
    wait_until("an alarm tells what the trigger says", PATIENCE, || {
        uptown.site.status()["alarms"].to_string().contains("no beer here")
    });
}

fn bodies(shop: &Shop) -> Vec<String> {
    shop.rows("SELECT body FROM note ORDER BY body")
}
