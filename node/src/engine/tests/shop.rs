//! An engine that shares a database, beside a real file, for tests of several.

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
    pub(super) application: Connection,
    pub(super) number: DatabaseNumber,
}

impl Shop {
    pub(super) async fn founded(name: &str) -> Self {
        let place = Place::founded(name).await;
        let application = Connection::open(place.file("club.db")).unwrap();
        application.execute_batch(SCHEMA).unwrap();
        Self::sharing(place, application).await
    }

    pub(super) async fn sharing(place: Place, application: Connection) -> Self {
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

    /// What `node.db` counts.
    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        let count = move |engine: &mut Engine| {
            Ok(engine.store.connection().query_row(sql, [], |row| row.get(0))?)
        };
        self.place.step(count).await
    }

    /// Harvests, merges and writes until nothing is left.
    pub(super) async fn settle(&self) {
        for _ in 0..1000 {
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

    pub(super) fn content(&self) -> Vec<String> {
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
