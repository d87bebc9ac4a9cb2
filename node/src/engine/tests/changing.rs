//! Engines that share a database while what they share it under changes: rules, schemas, decisions
//! of people; and while there is much of it.

use super::shop::{Shop, assert_alike, exchange};
use super::*;
use crate::engine::Choose;
use crate::store::alarms::Severity;
use rusqlite::Connection;

#[tokio::test]
async fn rows_that_stay_here_are_left_as_the_application_has_them() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    a.place.step(|engine| engine.choose_rule(&"club".parse().unwrap(), "stock", "local")).await;
    exchange(&[&a, &b]).await;
    let stock = "SELECT printf('%s %d', sku, n) FROM stock ORDER BY sku";
    assert_eq!((a.rows(stock), b.rows(stock)), (vec!["tea 10".into()], vec!["tea 10".into()]));
    a.run("DELETE FROM stock");
    b.run("UPDATE stock SET n = 3; INSERT INTO stock VALUES ('salt', 1)");
    exchange(&[&a, &b]).await;
    // Another schema has everything settled anew.
    for shop in [&a, &b] {
        shop.run("ALTER TABLE customer ADD COLUMN mail TEXT");
    }
    exchange(&[&a, &b]).await;
    assert_eq!(a.rows(stock), [""; 0]);
    assert_eq!(b.rows(stock), ["salt 1", "tea 3"]);
    let back = a.place.step(|engine| {
        Ok(engine.choose_rule(&"club".parse().unwrap(), "stock", "last-writer").is_err())
    });
    assert!(back.await, "what was written meanwhile would be lost");
    // Who joins has none, and who comes back keeps what is its own.
    let c = a.joining("harbour", &[&b]).await;
    assert_eq!(c.rows(stock), [""; 0]);
    assert_eq!(c.rows("SELECT name FROM customer ORDER BY id"), ["Ann", "Bob"]);
}

#[tokio::test]
async fn what_an_application_does_to_rows_that_only_come_is_undone_and_told() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    a.place
        .step(|engine| engine.choose_rule(&"club".parse().unwrap(), "stock", "append-only"))
        .await;
    exchange(&[&a, &b]).await;
    let stock = "SELECT printf('%s %d', sku, n) FROM stock";
    let told = |kind: &'static str| {
        a.count(match kind {
            "set" => "SELECT count(*) FROM conflict WHERE kind = 'first-writer' AND decided = 0",
            _ => "SELECT count(*) FROM conflict WHERE kind = 'delete-edit' AND decided = 0",
        })
    };
    a.run("UPDATE stock SET n = 3");
    exchange(&[&a, &b]).await;
    assert_eq!((a.rows(stock), b.rows(stock)), (vec!["tea 10".into()], vec!["tea 10".into()]));
    assert_eq!((told("set").await, told("gone").await), (1, 0));
    a.run("DELETE FROM stock");
    exchange(&[&a, &b]).await;
    assert_eq!((a.rows(stock), b.rows(stock)), (vec!["tea 10".into()], vec!["tea 10".into()]));
    assert_eq!((told("set").await, told("gone").await), (1, 1));
    // The other site has nothing to decide.
    assert_eq!(b.count("SELECT count(*) FROM conflict").await, 0);
}

#[tokio::test]
async fn what_was_deleted_while_a_key_got_another_name_stays_deleted() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    b.run("UPDATE customer SET phone = '9' WHERE id = 1");
    a.run("ALTER TABLE customer RENAME COLUMN id TO number; DELETE FROM customer WHERE number = 2");
    exchange(&[&a, &b]).await;
    let names = "SELECT name || phone FROM customer";
    assert_eq!((a.rows(names), b.rows(names)), (vec!["Ann9".into()], vec!["Ann9".into()]));
    b.run("ALTER TABLE customer RENAME COLUMN id TO number");
    b.run("INSERT INTO customer (name, phone) VALUES ('Cid', '3')");
    exchange(&[&a, &b]).await;
    assert_eq!((a.rows(names).len(), b.rows(names).len()), (2, 2));
    for shop in [&a, &b] {
        assert_eq!(shop.place.alarms().await, [""; 0]);
    }
}

#[tokio::test]
async fn rows_of_a_key_that_a_table_has_no_more_wait() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    let rebuilt = |other: &str| {
        format!(
            "CREATE TABLE new (place TEXT, sku TEXT, n INTEGER NOT NULL, PRIMARY KEY (place, sku));
             INSERT INTO new SELECT '{other}', sku, n FROM stock;
             DROP TABLE stock; ALTER TABLE new RENAME TO stock"
        )
    };
    a.run(&rebuilt("shop"));
    exchange(&[&a, &b]).await;
    // Who has not come so far keeps what it has.
    assert_eq!(b.rows("SELECT sku || n FROM stock"), ["tea10"]);
    b.run(&rebuilt("shop"));
    exchange(&[&a, &b]).await;
    for shop in [&a, &b] {
        assert_eq!(shop.rows("SELECT place || ' ' || sku || n FROM stock"), ["shop tea10"]);
        assert_eq!(shop.place.alarms().await, [""; 0]);
    }
}

#[tokio::test]
async fn what_was_found_by_comparing_beats_no_newer_edit_whatever_was_noted_beside_it() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    a.run("INSERT INTO stock VALUES ('salt', 1)");
    exchange(&[&a, &b]).await;
    b.run("UPDATE stock SET n = 3 WHERE sku = 'tea'; UPDATE stock SET n = 4 WHERE sku = 'salt'");
    b.settle().await;
    // Changed while nothing took note of it; when, nobody can know.
    let triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'stock'";
    for name in a.rows(triggers) {
        a.run(&format!("DROP TRIGGER \"{name}\""));
    }
    a.run("UPDATE stock SET n = 99");
    a.run("UPDATE customer SET phone = '7' WHERE id = 1");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.rows("SELECT sku || n FROM stock ORDER BY sku"), ["salt4", "tea3"]);
    assert_eq!(b.rows("SELECT phone FROM customer WHERE id = 1"), ["7"]);
}

#[tokio::test]
async fn what_one_site_decides_is_decided_everywhere() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    let c = a.joining("harbour", &[&b]).await;
    let shops = [&a, &b, &c];
    exchange(&shops).await;
    a.run("UPDATE customer SET name = 'Anna', phone = '5' WHERE id = 1");
    b.run("UPDATE customer SET name = 'Anne', phone = '6' WHERE id = 1");
    a.run("INSERT INTO sale (customer, number, total) VALUES (1, 'INV-2', 1)");
    b.run("INSERT INTO sale (customer, number, total) VALUES (1, 'INV-2', 2)");
    exchange(&shops).await;
    let open = async |shop: &Shop| shop.place.step(|e| Ok(e.conflicts()?.conflicts)).await;
    for shop in shops {
        let kinds: Vec<String> = open(shop).await.into_iter().map(|found| found.kind).collect();
        assert_eq!(kinds, ["edit", "edit", "marked"]);
    }
    // Each at another site: what counts is to stay, what lost is to count, the mark is to stay.
    let decisions = [(&a, "name", Choose::Winner), (&b, "phone", Choose::Loser)];
    for (shop, column, choose) in decisions {
        let mut found = open(shop).await.into_iter();
        let found = found.find(|found| found.column.as_deref() == Some(column)).unwrap();
        shop.place.step(move |engine| engine.keep(found.id, choose)).await;
    }
    let marked = open(&c).await.pop().unwrap();
    c.place.step(move |engine| engine.keep(marked.id, Choose::Winner)).await;
    exchange(&shops).await;
    assert_alike(&shops);
    for shop in shops {
        assert!(open(shop).await.is_empty(), "{:?}", open(shop).await);
    }
    // Settling everything anew, which another schema brings with it, leaves it decided.
    for shop in shops {
        shop.run("ALTER TABLE customer ADD COLUMN mail TEXT");
    }
    exchange(&shops).await;
    for shop in shops {
        assert!(open(shop).await.is_empty(), "{:?}", open(shop).await);
    }
    // What lost counts, and what won counts on: of one of both sites each.
    let row = a.rows("SELECT name || phone FROM customer WHERE id = 1").remove(0);
    assert!(["Anna6", "Anne5"].contains(&row.as_str()), "{row}");
    // What is not known to be decided is told.
    a.run("UPDATE customer SET phone = '7' WHERE id = 2");
    c.run("UPDATE customer SET phone = '8' WHERE id = 2");
    exchange(&shops).await;
    for shop in shops {
        assert_eq!(open(shop).await.len(), 1);
    }
}

#[tokio::test]
async fn sites_on_different_versions_of_the_application_go_on() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    a.run(
        "ALTER TABLE customer ADD COLUMN mail TEXT; CREATE TABLE note (id TEXT PRIMARY KEY, t TEXT);
         UPDATE customer SET mail = 'a@x' WHERE id = 1; INSERT INTO note VALUES ('n', 'hello')",
    );
    b.run("UPDATE customer SET phone = '9' WHERE id = 1");
    exchange(&[&a, &b]).await;
    assert_eq!(a.content(), b.content());
    b.run(
        "CREATE TABLE note (id TEXT PRIMARY KEY, t TEXT); ALTER TABLE customer ADD COLUMN mail TEXT",
    );
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(b.rows("SELECT mail || phone FROM customer WHERE id = 1"), ["a@x9"]);
    assert_eq!(b.rows("SELECT t FROM note"), ["hello"]);
}

#[tokio::test]
async fn who_joins_after_an_upgrade_has_what_it_brought() {
    let a = Shop::founded("downtown").await;
    // A column and tables before and behind those that are there, and a rebuild whose new column
    // has a default that no old row can be known to have.
    a.run(
        "ALTER TABLE customer ADD COLUMN mail TEXT; CREATE TABLE a (id TEXT PRIMARY KEY, t TEXT);
         INSERT INTO a VALUES ('x', 'y'); UPDATE customer SET mail = 'm' WHERE id = 1",
    );
    a.settle().await;
    a.run(
        "CREATE TABLE new_sale (id INTEGER PRIMARY KEY AUTOINCREMENT,
           customer INTEGER REFERENCES customer(id), number TEXT UNIQUE, total REAL,
           at TEXT NOT NULL DEFAULT (datetime('now')));
         INSERT INTO new_sale (id, customer, number, total) SELECT * FROM sale;
         DROP TABLE sale; ALTER TABLE new_sale RENAME TO sale",
    );
    a.settle().await;
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(b.rows("SELECT mail FROM customer WHERE id = 1"), ["m"]);
    assert_eq!(b.rows("SELECT t FROM a"), ["y"]);
    assert_eq!(b.rows("SELECT number FROM sale WHERE at IS NOT NULL"), ["INV-1"]);
    b.run("UPDATE a SET t = 'z'; UPDATE customer SET phone = '7' WHERE id = 1");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.rows("SELECT t FROM a"), ["z"]);
}

#[tokio::test]
async fn much_at_once_is_merged_and_settled_in_short_steps() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    let mut rows = String::from("BEGIN;");
    for at in 0..250 {
        rows += &format!("INSERT INTO customer VALUES ({}, 'n{at}', '');", 70_000 + at);
        rows += &format!("INSERT INTO sale VALUES ({0}, {0}, 'S{at}', 1);", 70_000 + at);
    }
    b.run(&(rows + "COMMIT"));
    b.settle().await;
    a.meets(&b).await;
    let number = a.number;
    // Harvesting goes on between the steps, and nothing is lost of what the application does.
    let mut merged = 0;
    loop {
        let state = a.place.step(move |engine| {
            let connection = engine.store.connection();
            let sql = "SELECT count(*), (SELECT count(*) FROM merged_part) FROM merged_row";
            Ok(connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?)
        });
        let (rows, begun): (i64, i64) = state.await;
        assert!(rows - merged <= 101, "{rows} rows after {merged}");
        merged = rows;
        if begun == 1 {
            a.run("UPDATE customer SET phone = phone || '1' WHERE id = 1");
            a.place.harvest_whole(number).await;
        }
        match a.place.step(move |engine| engine.step_shared(number)).await {
            SharedStep::Moved(_) => {}
            _ => break,
        }
    }
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.content().len(), 504);
    assert_eq!(b.rows("SELECT phone FROM customer WHERE id = 1"), ["11111"]);
    // Another schema: in steps too, each of which may be the last before a crash.
    a.run("ALTER TABLE customer ADD COLUMN mail TEXT");
    let moved = a.place.step(move |engine| engine.read_harvest(number)).await;
    assert!(matches!(moved, Harvest::Moved), "{moved:?}");
    a.place.step(move |engine| engine.refresh_capture(number)).await;
    let mut steps = 0;
    let settling = |engine: &mut Engine| {
        engine.shared.clear(); // as after a crash
        let sql = "SELECT count(*) FROM settling";
        Ok(engine.store.connection().query_row(sql, [], |row| row.get::<_, i64>(0))?)
    };
    while steps == 0 || a.place.step(settling).await == 1 {
        steps += 1;
        a.place.step(move |engine| engine.step_shared(number)).await;
    }
    assert!(steps >= 5, "{steps}");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
}

#[tokio::test]
async fn what_was_written_before_a_detach_is_in_the_branch() {
    let place = Place::founded("downtown").await;
    let application = Connection::open(place.file("club.db")).unwrap();
    let schema = "PRAGMA journal_mode = WAL; CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER);
                  INSERT INTO stock VALUES ('tea', 1)";
    application.execute_batch(schema).unwrap();
    place.attach_as(place.request("club.db")).await.unwrap();
    application.execute_batch("INSERT INTO stock VALUES ('salt', 2)").unwrap();
    // Nothing is merged yet of what there was at first.
    place.detach("club").await;
    let changes = place.step(|engine| {
        let branch = engine.store.branches()?.pop().unwrap();
        let batches = engine.store.batches_after(branch.number, Sequence::ZERO, 99, 1 << 20)?;
        let changes = batches.iter().map(|batch| {
            let body = protocol::Frame::decode_body(&batch.frame, &engine.limits).unwrap();
            body.changes.len()
        });
        Ok(changes.sum::<usize>())
    });
    assert!(changes.await >= 1);
}

#[tokio::test]
async fn rules_are_set_one_after_another_while_nothing_else_runs() {
    let a = Shop::founded("downtown").await;
    a.run(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1500)
         INSERT INTO stock SELECT 's' || x, 1 FROM c",
    );
    a.settle().await;
    for rule in ["counter", "last-writer", "counter"] {
        let name: Name = "club".parse().unwrap();
        a.place.step(move |engine| engine.choose_rule(&name, "stock.n", rule)).await;
    }
}

#[tokio::test]
async fn alarms_of_a_database_end_with_it() {
    let a = Shop::founded("downtown").await;
    let number = a.number;
    a.place
        .step(move |engine| {
            let subject = format!("triggers:{}", number.0);
            engine.raise(subject, Severity::Warning, Some(number), "x".into(), "y")?;
            Ok(engine.raise("site:x".into(), Severity::Warning, None, "z".into(), "y")?)
        })
        .await;
    a.place.detach("club").await;
    assert_eq!(a.place.alarms().await.len(), 1);
}
