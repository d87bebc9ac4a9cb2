//! `attach --merge`: a shop that kept books of its own joins with them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use tests::application::execute;
use tests::shop::{Shop, wait_until_alike};
use tests::site::Home;
use tests::wait::{PATIENCE, wait_until};

/// Bills are harvested before the customers that they refer to.
const SCHEMA: &str = "
    CREATE TABLE customer (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL);
    CREATE TABLE bill (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT UNIQUE,
                       customer INTEGER NOT NULL REFERENCES customer (id), what TEXT);
    CREATE TABLE item (sku TEXT PRIMARY KEY NOT NULL, price INTEGER, n INTEGER);";

const DOWNTOWN: &str = "
    INSERT INTO customer (name) VALUES ('Smith'), ('Same');
    INSERT INTO bill (code, customer, what) VALUES ('X1', 1, 'shoes');
    INSERT INTO item VALUES ('tea', 3, 10), ('salt', 1, 10);";

const UPTOWN: &str = "
    INSERT INTO customer (name) VALUES ('Miller'), ('Same'), ('Jones');
    INSERT INTO bill (code, customer, what) VALUES ('X1', 1, 'hats'), ('Y2', 2, 'gloves'),
                                                   ('Y3', 3, 'scarves');
    INSERT INTO item VALUES ('tea', 4, 10), ('milk', 2, 5);";

const BILLS: &str = "SELECT what || ' for ' || name || ' ' || code FROM bill
                     JOIN customer ON customer.id = bill.customer ORDER BY what";
const ITEMS: &str = "SELECT sku || ' ' || price || ' ' || n FROM item ORDER BY sku";

#[test]
fn books_of_its_own_become_a_part_of_the_groups() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let downtown =
        Shop::sharing(downtown, home.path("downtown.db"), &format!("{SCHEMA}{DOWNTOWN}"));
    let path = home.path("uptown.db");
    execute(&path, "PRAGMA journal_mode = WAL");
    execute(&path, &format!("{SCHEMA}{UPTOWN}"));
    wait_until("the first copy is there", PATIENCE, || {
        let club = uptown.database("club");
        !club.is_null() && club["first_copy"].is_null()
    });
    let attach = |more: &[&str]| {
        let words: Vec<&OsStr> = ["attach", "club"].iter().chain(more).map(OsStr::new).collect();
        uptown.command(&[&words[..], &[path.as_os_str()]].concat())
    };
    let refused = attach(&[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let attached = attach(&["--merge"]);
    assert_eq!(attached.code, 0, "{attached:?}");
    for told in ["item: 1 row had other values", "customer: 1 row had a number", "bill: 1 row"] {
        assert!(attached.stdout.contains(told), "{told}: {}", attached.stdout);
    }

    let uptown = Shop { site: uptown, path };
    wait_until("all books are one at both", PATIENCE, || {
        [&downtown, &uptown]
            .iter()
            .all(|shop| shop.rows(BILLS).len() == 4 && shop.rows(ITEMS).len() == 3)
            && uptown.club()["pending_changes"] == 0
    });
    wait_until_alike(&[&downtown, &uptown]);
    for shop in [&downtown, &uptown] {
        let bills = shop.rows(BILLS);
        assert_eq!(bills[0], "gloves for Same Y2");
        assert!(bills[1].starts_with("hats for Miller X1~uptown~"), "{bills:?}");
        assert_eq!(bills[2..], ["scarves for Jones Y3", "shoes for Smith X1"]);
        assert_eq!(shop.rows(ITEMS), ["milk 2 5", "salt 1 10", "tea 3 10"]);
        assert_eq!(shop.rows("SELECT name FROM customer ORDER BY name").len(), 4);
        shop.check();
    }

    // What the group's values took the place of is listed, and can be had back.
    let listed = uptown.conflicts();
    let lost = listed.iter().find(|one| one["table"] == "item").unwrap();
    let id = lost["id"].to_string();
    uptown.site.done(&["conflicts", "keep", id.trim_matches('"'), "loser"]);
    wait_until("the price is back at both", PATIENCE, || {
        [&downtown, &uptown].iter().all(|shop| shop.rows(ITEMS)[2] == "tea 4 10")
    });

    // From here on it is one database.
    uptown.run("INSERT INTO customer (name) VALUES ('New')");
    downtown.run("UPDATE bill SET what = 'boots' WHERE code = 'X1'");
    wait_until_alike(&[&downtown, &uptown]);
    downtown.check();
}

#[test]
fn another_schema_is_refused() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let downtown = Shop::sharing(downtown, home.path("downtown.db"), SCHEMA);
    let path = home.path("uptown.db");
    execute(&path, "CREATE TABLE item (sku TEXT PRIMARY KEY NOT NULL, price INTEGER)");
    wait_until("the first copy is there", PATIENCE, || {
        let club = uptown.database("club");
        !club.is_null() && club["first_copy"].is_null()
    });
    let words: Vec<&OsStr> = ["attach", "club", "--merge"].map(OsStr::new).to_vec();
    let refused = uptown.command(&[&words[..], &[path.as_os_str()]].concat());
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("one version of the application"), "{}", refused.stderr);
    drop(downtown);
}
