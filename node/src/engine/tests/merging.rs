//! Three engines that share a database, each beside a real file: what they merge, and what the
//! application sees of it.

use super::*;
use rusqlite::Connection;

const SCHEMA: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE customer (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, phone TEXT);
    CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, customer INTEGER REFERENCES customer(id),
                       number TEXT UNIQUE, total REAL);
    CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER NOT NULL);
    INSERT INTO customer (name, phone) VALUES ('Ann', '1'), ('Bob', '2');
    INSERT INTO sale (customer, number, total) VALUES (1, 'INV-1', 9.5);
    INSERT INTO stock VALUES ('tea', 10)";

/// A place with its application.
pub(super) struct Shop {
    pub(super) place: Place,
    application: Connection,
    pub(super) number: DatabaseNumber,
}

impl Shop {
    pub(super) async fn founded(name: &str) -> Self {
        let place = Place::founded(name).await;
        let application = Connection::open(place.file("club.db")).unwrap();
        application.execute_batch(SCHEMA).unwrap();
        Self::sharing(place, application).await
    }

    async fn sharing(place: Place, application: Connection) -> Self {
        place.attach_as(place.request("club.db")).await.unwrap();
        let number = place.rows().await[0].number;
        place.merge(number).await;
        let shop = Self { place, application, number };
        shop.settle().await;
        shop
    }

    /// A further site, from nothing.
    pub(super) async fn joining(&self, name: &str, others: &[&Self]) -> Self {
        let place = self.place.joining(name).await;
        place.hears_all(&self.place).await;
        for other in others {
            place.hears_all(&other.place).await;
        }
        place.attach_as(place.request("club.db")).await.unwrap();
        let number = place.rows().await[0].number;
        let application = Connection::open(place.file("club.db")).unwrap();
        let shop = Self { place, application, number };
        shop.settle().await;
        shop
    }

    pub(super) fn run(&self, sql: &str) {
        self.application.execute_batch(sql).unwrap();
    }

    pub(super) fn rows(&self, sql: &str) -> Vec<String> {
        let mut statement = self.application.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Harvests, merges and writes until nothing is left.
    pub(super) async fn settle(&self) {
        for _ in 0..100 {
            self.place.harvest_whole(self.number).await;
            let number = self.number;
            match self.place.step(move |engine| engine.step_shared(number)).await {
                SharedStep::Moved(_) => {}
                SharedStep::Even => return,
                other => panic!("{other:?}"),
            }
        }
        panic!("it does not come to rest");
    }

    /// Takes everything that another site has.
    pub(super) async fn meets(&self, other: &Self) {
        let records = other.place.step(|engine| Ok(engine.store.member_records()?)).await;
        self.place.step(move |engine| engine.merge_members(records)).await.unwrap();
        self.place.hears_all(&other.place).await;
    }

    fn content(&self) -> Vec<String> {
        let mut content =
            self.rows("SELECT printf('%d %s %s', id, name, phone) FROM customer ORDER BY id");
        content.extend(self.rows(
            "SELECT printf('%d %d %s %s', id, customer, number, total) FROM sale ORDER BY id",
        ));
        content.extend(self.rows("SELECT printf('%s %d', sku, n) FROM stock ORDER BY sku"));
        content
    }
}

/// Everybody hears everything and settles, twice: what settling makes is heard too.
pub(super) async fn exchange(shops: &[&Shop]) {
    for _ in 0..2 {
        for shop in shops {
            shop.settle().await;
        }
        for shop in shops {
            for other in shops {
                shop.meets(other).await;
            }
            shop.settle().await;
        }
    }
}

pub(super) fn assert_alike(shops: &[&Shop]) {
    for shop in shops {
        assert_eq!(shop.content(), shops[0].content());
        assert_eq!(shop.rows("SELECT \"table\" FROM pragma_foreign_key_check"), [""; 0]);
        assert_eq!(shop.rows("PRAGMA integrity_check"), ["ok"]);
    }
}

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
    let marked = ["INV-2~downtown~2", "INV-2~uptown~64"];
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
