//! Rules that are set at an engine that shares a database, and when they can't be.

use super::shop::Shop;
use super::*;
use crate::failure::FailureKind;
use rusqlite::Connection;

impl Place {
    async fn choose(&self, subject: &'static str, rule: &'static str) -> Result<String, Failure> {
        let name: Name = "club".parse().unwrap();
        let set = self.engine.step("test", move |engine| engine.choose_rule(&name, subject, rule));
        Ok(set.await?.0.rule)
    }

    async fn cannot_choose(&self, words: &str) {
        let failure = self.choose("stock.n", "counter").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unable, "{failure}");
        assert!(failure.what.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn rules_can_be_set_one_after_another() {
    let shop = Shop::founded("downtown").await;
    shop.run(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000)
         INSERT INTO stock SELECT 's' || x, 1 FROM c",
    );
    shop.settle().await;
    for rule in ["counter", "last-writer", "counter"] {
        assert_eq!(shop.place.choose("stock.n", rule).await.unwrap(), rule);
    }
}

#[tokio::test]
async fn why_no_rule_can_be_set_is_told() {
    let place = Place::founded("downtown").await;
    let application = Connection::open(place.file("club.db")).unwrap();
    application
        .execute_batch("CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER); INSERT INTO stock VALUES ('tea', 1)")
        .unwrap();
    place.attach_as(place.request("club.db")).await.unwrap();
    place.cannot_choose("began with is not merged yet").await;
    let number = place.rows().await[0].number;
    place.merge(number).await;
    let shop = Shop { place, application, number };
    shop.settle().await;

    // More than one batch has room for: the rest of the run is still to be read.
    shop.run(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 6)
         INSERT INTO stock SELECT 's' || x, zeroblob(1000000) FROM c",
    );
    let more = shop
        .place
        .step(move |engine| match engine.read_harvest(number)? {
            Harvest::Notes(notes) => Ok(engine.commit_harvest(number, &notes)?.more),
            other => panic!("{other:?}"),
        })
        .await;
    assert!(more);
    shop.place.cannot_choose("is being harvested").await;
    shop.settle().await;

    shop.run("BEGIN EXCLUSIVE");
    shop.place.cannot_choose("is in use").await;
    shop.run("COMMIT");
    assert_eq!(shop.place.choose("stock.n", "counter").await.unwrap(), "counter");

    let other = shop.place.joining("uptown").await;
    other.hears_all(&shop.place).await;
    other.attach_as(other.request("club.db")).await.unwrap();
    other.detach("club").await;
    other.cannot_choose("not here").await;
}
