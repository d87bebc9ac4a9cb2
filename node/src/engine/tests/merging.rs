//! Three engines that share a database, each beside a real file: what they merge, and what the
//! application sees of it.

use super::shop::{Shop, assert_alike, exchange};
use super::*;
use crate::shared::owed::Owed;
use rusqlite::Connection;

#[tokio::test]
async fn three_sites_write_and_end_alike() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    let c = a.joining("harbour", &[&b]).await;
    assert_alike(&[&a, &b, &c]);
    assert_eq!(c.content().len(), 4);

    // Apart: different columns of one row, one unique value, deletes against edits.
    a.run("UPDATE customer SET name = 'Anna' WHERE id = 1");
    b.run("UPDATE customer SET phone = '11' WHERE id = 1");
    a.run("INSERT INTO sale (customer, number, total) VALUES (1, 'INV-2', 1)");
    b.run("INSERT INTO sale (customer, number, total) VALUES (2, 'INV-2', 2)");
    c.run("DELETE FROM customer WHERE id = 2");
    a.run("INSERT INTO customer (name, phone) VALUES ('Cid', '3')");
    b.run("INSERT INTO customer (name, phone) VALUES ('Dora', '4')");
    exchange(&[&a, &b, &c]).await;
    assert_alike(&[&a, &b, &c]);
    let names = a.rows("SELECT name || phone FROM customer ORDER BY id");
    assert_eq!(names[..2], ["Anna11", "Bob2"], "a parent that a child needs stays");
    assert_eq!(names.len(), 4);
    // Who was first keeps the number; which of them that is, their clocks decide.
    let numbers = a.rows("SELECT number FROM sale WHERE number LIKE 'INV-2%' ORDER BY number");
    let marked = ["INV-2~downtown~2", "INV-2~uptown~256"];
    assert!(numbers[0] == "INV-2" && marked.contains(&numbers[1].as_str()), "{numbers:?}");
    // Each counts on in its own numbers.
    let ids = a.rows("SELECT CAST(id AS TEXT) FROM customer ORDER BY id");
    assert_eq!(ids.len(), 4);
    for shop in [&a, &b, &c] {
        assert_eq!(shop.place.alarms().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_counter_counts_what_every_site_sold() {
    let a = Shop::founded("downtown").await;
    let number = a.number;
    let name: Name = "club".parse().unwrap();
    a.place
        .step(move |engine| {
            engine.choose_rule(&name, "stock.n", "counter")?;
            assert!(matches!(engine.step_shared(number)?, SharedStep::Even));
            Ok(())
        })
        .await;
    let b = a.joining("uptown", &[]).await;
    a.run("UPDATE stock SET n = n - 1");
    b.run("UPDATE stock SET n = 7");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.rows("SELECT CAST(n AS TEXT) FROM stock"), ["6"]);
}

#[tokio::test]
async fn status_tells_of_rows_that_wait() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    a.run("INSERT INTO customer VALUES (500, 'Smith', '5')");
    b.run("INSERT INTO customer VALUES (500, 'Miller', '6'), (501, 'Jones', '7')");
    b.run("UPDATE stock SET n = 3");
    a.run("UPDATE stock SET n = 4");
    for shop in [&a, &b] {
        shop.settle().await;
    }
    let number = a.number;
    a.meets(&b).await;
    b.meets(&a).await;
    let told = async |shop: &Shop| crate::status::render(&shop.place.status().await);
    // Merged, and nothing that follows of it.
    for shop in [&a, &b] {
        while !told(shop).await.contains("all merged") {
            shop.place.step(move |engine| engine.step_shared(number)).await;
        }
    }
    let (at_a, at_b) = (told(&a).await, told(&b).await);
    for text in [&at_a, &at_b] {
        assert!(
            text.contains("club  SAFE  shared  batch")
                || text.contains("club  NOT SAFE  shared  batch"),
            "{text}"
        );
        assert!(text.contains("1 row held back from the application"), "{text}");
        assert!(text.contains("to be written into the application's file"), "{text}");
    }
    let waits = |text: &str| text.contains("1 row to be given another number");
    assert!(waits(&at_a) != waits(&at_b), "{at_a}{at_b}");
    exchange(&[&a, &b]).await;
    exchange(&[&a, &b]).await;
    for text in [told(&a).await, told(&b).await] {
        assert!(text.contains("1 to look at with `conflicts`"), "{text}");
        assert!(!text.contains("row held") && !text.contains("to be"), "{text}");
    }
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_taken_note_of() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    b.run("UPDATE stock SET n = 3; INSERT INTO stock VALUES ('salt', 1)");
    b.settle().await;
    a.meets(&b).await;
    let number = a.number;
    // The file has the write; node.db knows only that it was intended.
    let cut = "CREATE TEMP TRIGGER cut AFTER DELETE ON main.intent BEGIN
                 SELECT raise(ABORT, 'the power fails'); END";
    let failed = a
        .place
        .step(move |engine| {
            engine.store.connection().execute_batch(cut)?;
            loop {
                match engine.step_shared(number) {
                    Ok(SharedStep::Moved(_)) => {}
                    other => break Ok(other.is_err()),
                }
            }
        })
        .await;
    assert!(failed);
    let mend =
        |engine: &mut Engine| Ok(engine.store.connection().execute_batch("DROP TRIGGER cut")?);
    a.place.step(mend).await;
    assert_eq!(a.rows("SELECT CAST(n AS TEXT) FROM stock ORDER BY sku"), ["1", "3"]);
    a.run("UPDATE stock SET n = 2 WHERE sku = 'salt'");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(b.rows("SELECT CAST(n AS TEXT) FROM stock ORDER BY sku"), ["2", "3"]);
}

#[tokio::test]
async fn one_number_given_out_twice_becomes_two() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    a.run("INSERT INTO customer VALUES (500, 'Smith', '5'); INSERT INTO sale VALUES (500, 500, 'A', 1)");
    b.run("INSERT INTO customer VALUES (500, 'Miller', '6'); INSERT INTO sale VALUES (501, 500, 'B', 2)");
    exchange(&[&a, &b]).await;
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    let sales = a.rows(
        "SELECT number || ' ' || name FROM sale JOIN customer ON customer.id = sale.customer
         ORDER BY number",
    );
    assert_eq!(sales, ["A Smith", "B Miller", "INV-1 Ann"]);
}

#[tokio::test]
async fn a_number_given_out_again_before_the_first_row_is_seen_becomes_two() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    a.run("INSERT INTO customer VALUES (500, 'Smith', '5')");
    a.settle().await;
    b.meets(&a).await;
    // Merged, and not yet in the application's file.
    let number = b.number;
    let step = b.place.step(move |engine| engine.step_shared(number)).await;
    assert!(matches!(step, SharedStep::Moved(_)), "{step:?}");
    assert_eq!(b.rows("SELECT name FROM customer WHERE id = 500"), [""; 0]);
    b.run("INSERT INTO customer VALUES (500, 'Miller', '6')");
    b.run("INSERT INTO sale VALUES (501, 500, 'B', 2)");
    exchange(&[&a, &b]).await;
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    let names = a.rows("SELECT name FROM customer WHERE phone IN ('5', '6') ORDER BY phone");
    assert_eq!(names, ["Smith", "Miller"]);
    let sale = "SELECT name FROM sale JOIN customer ON customer.id = sale.customer
                WHERE number = 'B'";
    assert_eq!(b.rows(sale), ["Miller"]);
}

#[tokio::test]
async fn a_row_to_which_more_refer_than_one_batch_bears_gets_another_number() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    b.run("INSERT INTO customer VALUES (500, 'Miller', '6')");
    b.settle().await;
    a.run(
        "INSERT INTO customer VALUES (500, 'Smith', '5');
         WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 10500)
         INSERT INTO sale (customer, total) SELECT 500, x FROM c",
    );
    a.place.harvest_whole(a.number).await;
    a.meets(&b).await;
    // Until the row begins anew: then it is not at its end yet.
    let begun = "SELECT count(*) FROM rekeyed";
    let number = a.number;
    while a.count(begun).await == 0 {
        let step = a.place.step(move |engine| engine.step_shared(number)).await;
        assert!(matches!(step, SharedStep::Moved(_)), "{step:?}");
    }
    assert_eq!(a.count("SELECT count(*) FROM owed").await, 1);
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    for shop in [&a, &b] {
        let sales = shop.rows(
            "SELECT name || ' ' || count(*) FROM sale JOIN customer ON customer.id = sale.customer
             WHERE number IS NULL GROUP BY customer.id",
        );
        assert_eq!(sales, ["Smith 10500"]);
        let names = shop.rows("SELECT name FROM customer WHERE phone > '4' ORDER BY phone");
        assert_eq!(names, ["Smith", "Miller"]);
        assert_eq!(shop.place.alarms().await, [""; 0]);
    }
    assert_eq!(a.count("SELECT count(*) FROM owed").await, 0);
}

#[tokio::test]
async fn rows_born_before_their_table_merged_equal_keys_are_still_referred_to() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    a.run("PRAGMA foreign_keys = OFF; INSERT INTO sale (customer, total) VALUES (700, 1)");
    b.run("INSERT INTO customer VALUES (700, 'Zoe', '7')");
    exchange(&[&a, &b]).await;
    let sale = "SELECT name FROM sale JOIN customer ON customer.id = sale.customer
                WHERE number IS NULL";
    assert_eq!(b.rows(sale), ["Zoe"]);
    let name: Name = "club".parse().unwrap();
    a.place.step(move |engine| engine.choose_rule(&name, "customer", "same-key merge")).await;
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!((a.rows(sale), b.rows(sale)), (vec!["Zoe".into()], vec!["Zoe".into()]));
    // A row deleted and entered again is the one that it was.
    b.run(
        "PRAGMA foreign_keys = OFF; DELETE FROM customer WHERE id = 700;
           INSERT INTO customer VALUES (700, 'Zoe', '8')",
    );
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.rows("SELECT phone FROM customer WHERE id = 700"), ["8"]);
    assert_eq!(a.rows(sale), ["Zoe"]);
}

#[tokio::test]
async fn who_loses_a_value_of_some_rows_or_of_an_expression_shows_it_marked() {
    let place = Place::founded("downtown").await;
    let application = Connection::open(place.file("club.db")).unwrap();
    application
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE doc (id TEXT PRIMARY KEY, number TEXT, state TEXT NOT NULL DEFAULT 'open');
             CREATE UNIQUE INDEX part ON doc (number) WHERE state = 'open';
             CREATE TABLE low (id TEXT PRIMARY KEY, number TEXT);
             CREATE UNIQUE INDEX lowered ON low (lower(number));",
        )
        .unwrap();
    let a = Shop::sharing(place, application).await;
    let b = a.joining("uptown", &[]).await;
    for (shop, id) in [(&a, "a"), (&b, "b")] {
        shop.run(&format!("INSERT INTO doc VALUES ('{id}', 'INV-7', 'open')"));
        shop.run(&format!("INSERT INTO low VALUES ('{id}', 'INV-7')"));
    }
    exchange(&[&a, &b]).await;
    for table in ["doc", "low"] {
        let shown = |shop: &Shop| {
            shop.rows(&format!("SELECT id || ' ' || number FROM {table} ORDER BY id"))
        };
        let rows = shown(&a);
        assert_eq!(rows, shown(&b));
        assert_eq!(rows[0], "a INV-7");
        assert!(rows[1].starts_with("b INV-7~uptown"), "{rows:?}");
    }
}

const HOPS: &str = "SELECT name FROM sqlite_schema WHERE name LIKE '%\\_hop' ESCAPE '\\'";

#[tokio::test]
async fn thousands_of_rows_inserted_at_once_while_apart_keep_their_numbers() {
    let a = Shop::founded("downtown").await;
    // All numbers are a lone site's own.
    assert_eq!(a.rows(HOPS), [""; 0]);
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    let c = a.joining("harbour", &[&b]).await;
    exchange(&[&a, &b, &c]).await;
    let shops = [("a", &a), ("b", &b), ("c", &c)];
    for (_, shop) in shops {
        assert_eq!(shop.rows(HOPS).len(), 2);
    }
    let mut given = Vec::new();
    for (tag, shop) in shops {
        shop.run(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
             INSERT INTO customer (name, phone) SELECT '{tag}', i FROM n;
             INSERT INTO sale (customer, number, total)
             SELECT id, name || phone, 1 FROM customer WHERE name = '{tag}'"
        ));
        let ids = "SELECT printf('%d %s%s', id, name, phone) FROM customer WHERE name = ";
        given.extend(shop.rows(&format!("{ids} '{tag}'")));
        assert_eq!(shop.rows("SELECT CAST(hopping AS TEXT) FROM _holdfast_marker"), ["0"]);
    }
    exchange(&[&a, &b, &c]).await;
    assert_alike(&[&a, &b, &c]);
    let mut ids = a.rows(
        "SELECT printf('%d %s%s', id, name, phone) FROM customer WHERE name IN ('a', 'b', 'c')",
    );
    ids.sort();
    given.sort();
    assert_eq!((ids.len(), ids == given), (1800, true));
    let wrong = "SELECT number FROM sale JOIN customer c ON c.id = customer WHERE c.id > 2 AND
                 number <> name || phone";
    assert_eq!(a.rows(wrong), [""; 0]);
    for (_, shop) in shops {
        let kept = shop
            .place
            .step(|engine| {
                let count =
                    "SELECT (SELECT count(*) FROM rekeyed) + (SELECT count(*) FROM conflict)";
                Ok(engine.store.connection().query_row(count, [], |row| row.get::<_, i64>(0))?)
            })
            .await;
        assert_eq!(kept, 0);
        assert_eq!(shop.place.alarms().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_row_for_which_there_is_no_number_is_kept_and_told() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    let last = i64::MAX - 5;
    a.run(&format!("INSERT INTO customer VALUES ({last}, 'Smith', '5')"));
    b.run(&format!("INSERT INTO customer VALUES ({last}, 'Miller', '6')"));
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    let kept = a.rows("SELECT name FROM customer WHERE phone IN ('5', '6')");
    let loser = if kept == ["Smith"] { &b } else { &a };
    let owed = || {
        let number = loser.number;
        loser
            .place
            .step(move |engine| Ok(Owed::Numberless.count(engine.store.connection(), number)?))
    };
    assert_eq!(owed().await, 1);
    let subject = format!("numberless:{}", loser.number.0);
    assert_eq!(loser.place.alarms().await, std::slice::from_ref(&subject));
    // Nothing else waits for it.
    a.run("UPDATE customer SET phone = '77' WHERE id = 1");
    b.run("UPDATE customer SET name = 'Bobby' WHERE id = 2");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(b.rows("SELECT phone || name FROM customer WHERE id < 3"), ["77Ann", "2Bobby"]);
    // It is tried again when this site looks at the database anew.
    let number = loser.number;
    let forget = move |engine: &mut Engine| {
        engine.forget_shared(number);
        Ok(())
    };
    loser.place.step(forget).await;
    loser.settle().await;
    assert_eq!((owed().await, loser.place.alarms().await), (1, vec![subject]));
}

#[tokio::test]
async fn a_person_is_told_when_numbers_of_32_bits_run_out() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    a.run("INSERT INTO customer VALUES (1900000000, 'Smith', '5')");
    exchange(&[&a, &b]).await;
    assert_eq!(b.place.alarms().await, [""; 0]);
    a.run("INSERT INTO customer VALUES (2000000000, 'Smith', '5')");
    exchange(&[&a, &b]).await;
    for shop in [&a, &b] {
        let alarms = shop.place.view().await.alarms;
        assert_eq!(alarms.len(), 1);
        assert_eq!(alarms[0].subject, format!("numbers:{}", shop.number.0));
        assert!(alarms[0].what.contains("numbers of customer"), "{}", alarms[0].what);
    }
    // An application that goes beyond takes them.
    b.run("INSERT INTO customer VALUES (5000000000, 'Smith', '5')");
    exchange(&[&a, &b]).await;
    assert_eq!((a.place.alarms().await, b.place.alarms().await), (vec![], vec![]));
}

#[tokio::test]
async fn a_file_in_use_is_waited_for() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    b.run("UPDATE stock SET n = 3");
    b.settle().await;
    a.meets(&b).await;
    a.run("BEGIN IMMEDIATE; UPDATE customer SET phone = '5' WHERE id = 2");
    let number = a.number;
    let busy = a
        .place
        .step(move |engine| {
            loop {
                match engine.step_shared(number)? {
                    SharedStep::Moved(_) => {}
                    step => break Ok(matches!(step, SharedStep::Busy)),
                }
            }
        })
        .await;
    assert!(busy);
    a.run("COMMIT");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(b.rows("SELECT phone FROM customer WHERE id = 2"), ["5"]);
    assert_eq!(a.rows("SELECT CAST(n AS TEXT) FROM stock"), ["3"]);
}

#[test]
fn what_the_disk_does_is_no_fault_of_a_row() {
    use crate::shared::DeskError;
    use rusqlite::ffi;
    let failure = |code| {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        EngineError::from(DeskError::from(error))
    };
    for code in [ffi::SQLITE_IOERR_READ, ffi::SQLITE_FULL, ffi::SQLITE_CORRUPT, ffi::SQLITE_BUSY] {
        assert!(matches!(failure(code), EngineError::Store(_)), "{code} is tried again");
    }
    for code in [ffi::SQLITE_CONSTRAINT_CHECK, ffi::SQLITE_MISMATCH, ffi::SQLITE_ERROR] {
        assert!(matches!(failure(code), EngineError::Desk(_)), "{code} sets a batch aside");
    }
}
