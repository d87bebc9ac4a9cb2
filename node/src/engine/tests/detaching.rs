//! What becomes of changes and alarms of a database that is detached.

use super::shop::Shop;
use super::*;
use crate::failure::FailureKind;
use rusqlite::Connection;

#[tokio::test]
async fn what_was_written_before_the_first_content_is_merged_is_published() {
    let place = Place::founded("downtown").await;
    let application = Connection::open(place.file("club.db")).unwrap();
    application
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER);
             WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000)
             INSERT INTO stock SELECT 's' || x, 1 FROM c",
        )
        .unwrap();
    place.attach_as(place.request("club.db")).await.unwrap();
    application.execute_batch("INSERT INTO stock VALUES ('salt', 2)").unwrap();
    place.detach("club").await;
    assert_eq!(place.changes().await, 1);
}

#[tokio::test]
async fn what_was_written_while_a_new_rule_settles_is_published() {
    let shop = Shop::founded("downtown").await;
    shop.run(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000)
         INSERT INTO stock SELECT 's' || x, 1 FROM c",
    );
    shop.settle().await;
    let name: Name = "club".parse().unwrap();
    shop.place.step(move |engine| engine.choose_rule(&name, "stock.n", "counter")).await;
    shop.run("INSERT INTO stock VALUES ('salt', 2)");
    let before = shop.place.changes().await;
    shop.place.detach("club").await;
    assert_eq!(shop.place.changes().await, before + 1);
}

#[tokio::test]
async fn a_file_that_can_t_be_read_for_its_application_stays_under_sync() {
    let place = Place::founded("downtown").await;
    let application = Connection::open(place.file("club.db")).unwrap();
    application.execute_batch("CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER)").unwrap();
    let shop = Shop::sharing(place, application).await;
    shop.run("BEGIN EXCLUSIVE; INSERT INTO stock VALUES ('salt', 2)");
    let name = "club".parse().unwrap();
    let within = super::super::detach::within(&shop.place.engine, name, Duration::ZERO).await;
    let failure = Failure::from(within.unwrap_err());
    assert_eq!(failure.kind, FailureKind::Unable, "{failure}");
    assert!(failure.what.contains("in use without a pause"), "{failure}");
    shop.run("COMMIT");
    shop.place.detach("club").await;
    assert_eq!(shop.place.changes().await, 1);
}

#[tokio::test]
async fn what_could_not_be_published_is_told() {
    let (shop, peer, application, holding) = shop().await;
    // Another site holds more of the branch than this one: nothing is numbered meanwhile.
    let durable = holding.durable.next();
    shop.hears(peer.me, Holding { held: durable, durable, ..holding }).await;
    for name in ["milk", "rice"] {
        application.execute("INSERT INTO item (name) VALUES (?)", [name]).unwrap();
    }
    let detached = detach(&shop.engine, "pos".parse().unwrap()).await.unwrap();
    let [warning] = detached.warnings.as_slice() else { panic!("{detached:?}") };
    assert!(warning.starts_with("2 changes were not published"), "{warning}");
}

#[tokio::test]
async fn alarms_end_with_what_they_are_about() {
    let shop = Shop::founded("downtown").await;
    let number = shop.number;
    shop.place
        .step(move |engine| {
            engine.triggers_refused.insert(number);
            for subject in ["triggers:1", "merge:some", "rotten:some", "fork:some:other"] {
                let (what, of) = (subject.to_owned(), Some(number));
                engine.raise(what, alarms::Severity::Critical, of, "It is so.".into(), "Look.")?;
            }
            Ok(engine.raise("own".into(), alarms::Severity::Info, None, "So.".into(), "Look.")?)
        })
        .await;
    shop.place.detach("club").await;
    // What is wrong with batches that are kept stays.
    assert_eq!(shop.place.alarms().await, ["rotten:some", "fork:some:other", "own"]);
    assert!(shop.place.step(|engine| Ok(engine.triggers_refused.is_empty())).await);
}
