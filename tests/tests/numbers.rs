//! Numbers that SQLite hands out at sites of a shared database that are apart: each row keeps the
//! number that its application was given, however many there are, with the node off.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tests::application::open;
use tests::shop::{Shop, wait_until_alike};
use tests::site::Home;

const SHOP: &str = "
    CREATE TABLE customer (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE);
    CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, number TEXT NOT NULL UNIQUE,
                       customer INTEGER NOT NULL REFERENCES customer (id));
    CREATE TABLE line (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL,
                       sale INTEGER NOT NULL REFERENCES sale (id) ON DELETE CASCADE);
    CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, said TEXT NOT NULL);
    CREATE TRIGGER sold AFTER INSERT ON sale BEGIN
      INSERT INTO audit (said) VALUES ('sold ' || NEW.number); END;";

const TABLES: [&str; 4] = [
    "SELECT id || ' ' || name FROM customer ORDER BY 1",
    "SELECT id || ' ' || number || ' ' || customer FROM sale ORDER BY 1",
    "SELECT id || ' ' || what || ' ' || sale FROM line ORDER BY 1",
    "SELECT id || ' ' || said FROM audit ORDER BY 1",
];

/// Thousands of customers at once, sales and lines to every tenth, and some one by one as their
/// numbers are told.
fn work(shop: &Shop, round: u32, customers: u32) {
    let tag = format!("{}-{round}-", shop.site.name);
    shop.run(&format!(
        "BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {customers})
         INSERT INTO customer (name) SELECT '{tag}' || i FROM n;
         INSERT INTO sale (number, customer) SELECT name, id FROM customer
         WHERE name GLOB '{tag}*0';
         INSERT OR REPLACE INTO line (what, sale) SELECT number, id FROM sale
         WHERE number GLOB '{tag}*';
         COMMIT;"
    ));
    let application = open(&shop.path);
    let connection = application.unchecked_transaction().unwrap();
    for single in 0..SINGLE {
        let number = format!("{tag}s{single}");
        connection.execute("INSERT INTO customer (name) VALUES (?)", [&number]).unwrap();
        let customer = connection.last_insert_rowid();
        let sale: i64 = connection
            .query_row(
                "INSERT OR ABORT INTO sale (number, customer) VALUES (?, ?) RETURNING id",
                (&number, customer),
                |row| row.get(0),
            )
            .unwrap();
        connection.execute("INSERT INTO line (what, sale) VALUES (?, ?)", (&number, sale)).unwrap();
    }
    connection.commit().unwrap();
}

const SINGLE: u32 = 100;

fn content(shop: &Shop) -> Vec<String> {
    TABLES.iter().flat_map(|sql| shop.rows(sql)).collect()
}

#[test]
fn rows_that_two_sites_insert_by_the_thousand_while_apart_keep_their_numbers() {
    let home = Home::new();
    let (downtown, mut uptown) = Shop::two(&home, SHOP);
    for (round, customers) in [(0, 5000), (1, 600)] {
        uptown.site.stop();
        let before = content(&downtown);
        assert_eq!(before, content(&uptown));
        let rows = customers + 3 * (customers / 10) + 4 * SINGLE;
        // One beside its node, one with the node off.
        work(&downtown, round, customers);
        work(&uptown, round, customers);
        let mut all = [content(&downtown), content(&uptown)].concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), before.len() + 2 * rows as usize);
        uptown.site.run();
        wait_until_alike(&[&downtown, &uptown]);
        let mut now = content(&downtown);
        now.sort();
        assert!(now == all, "a row has another number than its application was given");
        for shop in [&downtown, &uptown] {
            assert_eq!(shop.kinds(), [""; 0]);
            assert_eq!(shop.site.status()["alarms"].as_array().unwrap().len(), 0);
        }
    }
    // What is left of it all in the application's file goes with a detach.
    downtown.site.done(&["detach", "club"]);
    let ours = "SELECT name FROM sqlite_schema WHERE name LIKE '%holdfast%'";
    assert_eq!(downtown.rows(ours), [""; 0]);
}
