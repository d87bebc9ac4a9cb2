//! A shop that sells: sales with lines, customers and stock, whose numbers SQLite hands out, and what
//! must be true of them once all sites have met.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use crate::application::{number, open};
use crate::shop::{Shop, wait_until_alike};
use crate::site::Home;
use crate::wait::{PATIENCE, wait_until};
use rusqlite::params;

/// The shop.
pub const SHOP: &str = "
    CREATE TABLE customer (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL);
    CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT,
                       customer INTEGER NOT NULL REFERENCES customer (id),
                       number TEXT NOT NULL UNIQUE, total INTEGER NOT NULL);
    CREATE TABLE line (id INTEGER PRIMARY KEY AUTOINCREMENT,
                       sale INTEGER NOT NULL REFERENCES sale (id) ON DELETE CASCADE,
                       sku TEXT NOT NULL REFERENCES stock (sku), quantity INTEGER NOT NULL);
    CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER NOT NULL);
    CREATE INDEX line_sale ON line (sale);
    CREATE INDEX line_sku ON line (sku);
    INSERT INTO stock VALUES ('tea', 100000), ('salt', 100000), ('milk', 100000);
    INSERT INTO customer (name) VALUES ('Ann'), ('Bob');";

/// Sells, offline or not: one in ten sales is to a new customer; each has two lines and takes two things from stock.
///
/// # Panics
/// SQLite refuses.
pub fn sell(shop: &Shop, from: i64, sales: i64) {
    let mut connection = open(&shop.path);
    let site = &shop.site.name;
    for sale in from..from + sales {
        let transaction = connection.transaction().unwrap();
        let customer = if sale % 10 == 0 {
            let name = format!("{site} {sale}");
            transaction.execute("INSERT INTO customer (name) VALUES (?)", [name]).unwrap();
            transaction.last_insert_rowid()
        } else {
            1 + sale % 2
        };
        transaction
            .execute(
                "INSERT INTO sale (customer, number, total) VALUES (?, ?, ?)",
                params![customer, format!("{site}-{sale}"), sale],
            )
            .unwrap();
        let id = transaction.last_insert_rowid();
        for sku in [["tea", "salt"], ["salt", "milk"], ["milk", "tea"]][sale as usize % 3] {
            transaction
                .execute(
                    "INSERT INTO line (sale, sku, quantity) VALUES (?, ?, 1)",
                    params![id, sku],
                )
                .unwrap();
            transaction.execute("UPDATE stock SET n = n - 1 WHERE sku = ?", [sku]).unwrap();
        }
        transaction.commit().unwrap();
    }
}

/// Looks whether a shop has everything that three shops sold, `sales` each.
///
/// # Panics
/// Something is lost or torn.
pub fn check(shop: &Shop, sales: i64) {
    let count = |sql: &str| number(&shop.path, sql);
    assert_eq!(count("SELECT count(*) FROM sale"), 3 * sales);
    assert_eq!(count("SELECT count(DISTINCT number) FROM sale"), 3 * sales);
    assert_eq!(count("SELECT count(*) FROM line"), 6 * sales);
    assert_eq!(count("SELECT count(*) FROM customer"), 2 + 3 * (sales / 10));
    assert_eq!(count("SELECT sum(n) FROM stock"), 300_000 - 6 * sales);
    // Every sale has its own lines and its own customer still.
    let torn = "SELECT count(*) FROM sale WHERE
        (SELECT count(*) FROM line WHERE line.sale = sale.id) <> 2
        OR (total % 10 = 0) <> (SELECT name = replace(number, '-', ' ')
                                FROM customer WHERE customer.id = sale.customer)
        OR (total % 10 <> 0 AND customer <> 1 + total % 2)";
    assert_eq!(count(torn), 0);
    assert_eq!(shop.kinds(), [""; 0]);
    let club = shop.club();
    assert_eq!((&club["parked"], &club["safe"]), (&0.into(), &true.into()), "{club:#}");
    assert_eq!(shop.site.status()["alarms"].as_array().unwrap().len(), 0);
}

/// Three shops that share it, with stock as a counter.
///
/// # Panics
/// Something fails.
pub fn three(home: &Home) -> [Shop; 3] {
    let (downtown, uptown) = Shop::two(home, SHOP);
    downtown.site.done(&["policy", "club", "stock.n", "counter"]);
    let mut harbour = home.join("harbour", &uptown.site.invite());
    harbour.run();
    let harbour = Shop::joining(harbour, home.path("harbour.db"));
    let shops = [downtown, uptown, harbour];
    for shop in &shops {
        wait_until("the rule is there", PATIENCE, || {
            shop.site.done(&["policy", "club"]).contains("counter")
        });
    }
    wait_until_alike(&shops.each_ref());
    shops
}
