//! What rots on the disk of a site, in a base or in the journal: it is neither shown nor merged, and
//! fetched again where it can be.

use super::shop::{Shop, assert_alike, exchange};
use super::*;

#[tokio::test]
async fn a_base_that_rotted_on_the_disk_is_not_shown() {
    let (shop, peer, _application, _) = shop().await;
    let local = shop.branches().await.remove(0);
    let branch = local.holding.branch;
    let admitted = peer.admit(SignedOpening::clone(&local.opening)).await.unwrap();
    peer.take(&shop, branch).await;
    let chunks = peer.file(&format!("site/snapshots/{branch}.db"));
    let chunks = rusqlite::Connection::open(chunks).unwrap();
    let flip = "UPDATE chunk SET bytes = CAST(replace(bytes, 'tea', 'sea') AS BLOB)";
    assert_eq!(chunks.execute(flip, []).unwrap(), 1);
    let step = peer.step(move |engine| engine.step_mirror(admitted.database)).await;
    assert!(matches!(step, MirrorStep::Stuck), "{step:?}");
    assert_eq!(peer.alarms().await, [format!("mirror:{branch}")]);
}

#[tokio::test]
async fn a_batch_that_rotted_on_the_disk_is_not_shown_and_fetched_again() {
    let (shop, peer, application, _) = shop().await;
    let number = shop.view().await.databases[0].row.number;
    application.execute("INSERT INTO item (name) VALUES ('milk')", []).unwrap();
    shop.harvest(number).await;
    let local = shop.branches().await.remove(0);
    let branch = local.holding.branch;
    let admitted = peer.admit(SignedOpening::clone(&local.opening)).await.unwrap();
    peer.take(&shop, branch).await;
    let journal = rusqlite::Connection::open(peer.file("site/node.db")).unwrap();
    let flip = "UPDATE batch SET frame = CAST(replace(frame, 'milk', 'silk') AS BLOB)
                WHERE instr(frame, CAST('milk' AS BLOB))";
    assert_eq!(journal.execute(flip, []).unwrap(), 1);
    peer.learns_of(&shop).await;
    let step = loop {
        match peer.step(move |engine| engine.step_mirror(admitted.database)).await {
            MirrorStep::Moved(_) => {}
            step => break step,
        }
    };
    let MirrorStep::Refill(local) = step else { panic!("{step:?}") };
    let whole = shop.branches().await.remove(0).holding;
    assert!(local.holding.held < whole.held, "{:?}", local.holding);
    assert_eq!(names(&peer.file("site/mirrors/downtown/pos.db")), ["tea", "salt"]);
    assert_eq!(peer.alarms().await, [format!("rotten:{branch}")]);
    // The origin sends it again.
    peer.take(&shop, branch).await;
    peer.apply(admitted.database).await;
    assert_eq!(names(&peer.file("site/mirrors/downtown/pos.db")), ["tea", "salt", "milk"]);
    let taken = peer.branches().await.remove(0).holding;
    assert_eq!((taken.held, taken.hash), (whole.held, whole.hash));
}

#[tokio::test]
async fn a_batch_that_rotted_on_the_disk_keeps_nothing_else_from_being_told() {
    let (shop, peer, application, _) = shop().await;
    let number = shop.view().await.databases[0].row.number;
    application.execute("INSERT INTO item (name) VALUES ('milk')", []).unwrap();
    shop.harvest(number).await;
    let journal = rusqlite::Connection::open(shop.file("site/node.db")).unwrap();
    let rot = "UPDATE batch SET frame = x'c1' WHERE sequence = (SELECT max(sequence) FROM batch)";
    assert_eq!(journal.execute(rot, []).unwrap(), 1);
    let database = shop.view().await.databases.remove(0);
    let copy = database.copies.iter().find(|copy| copy.site == peer.me).unwrap();
    assert_eq!(copy.lacks_since, Some(copy.as_of), "it lacks the batch since then at least");
}

/// Damages the last batch of a site's journal that holds this, so that it decodes all the same.
fn rot(place: &Place, whole: &str, rotten: &str) {
    let journal = rusqlite::Connection::open(place.file("site/node.db")).unwrap();
    let flip = "UPDATE batch SET frame = CAST(replace(frame, ?1, ?2) AS BLOB)
                WHERE (branch, sequence) = (SELECT branch, max(sequence) FROM batch
                                            WHERE instr(frame, CAST(?1 AS BLOB)))";
    assert_eq!(journal.execute(flip, [whole, rotten]).unwrap(), 1);
}

#[tokio::test]
async fn a_batch_that_rots_before_it_is_merged_is_fetched_again() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    a.run("INSERT INTO customer (name, phone) VALUES ('Cid', '3')");
    a.settle().await;
    b.meets(&a).await;
    rot(&b.place, "Cid", "Sid");
    let number = b.number;
    let step = || b.place.step(move |engine| engine.step_shared(number));
    // Nobody else is known to have it: it is kept.
    assert!(matches!(step().await, SharedStep::Moved(_)));
    let stuck = b.place.alarms().await;
    assert!(stuck.len() == 1 && !stuck[0].starts_with("rotten:"), "{stuck:?}");
    assert_eq!(b.rows("SELECT name FROM customer ORDER BY id").len(), 2, "it is not merged");
    b.place.learns_of(&a.place).await;
    b.place.step(move |engine| engine.tidy_shared(number)).await;
    let step = step().await;
    let SharedStep::Refill(local) = step else { panic!("{step:?}") };
    assert!(b.place.alarms().await.contains(&format!("rotten:{}", local.holding.branch)));
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(b.rows("SELECT name FROM customer WHERE phone = '3'"), ["Cid"]);
}

#[tokio::test]
async fn what_rots_after_it_was_merged_and_is_read_again_is_fetched_again() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    // The batch that brings a schema is needed to read those after it.
    a.run("ALTER TABLE customer ADD COLUMN note; INSERT INTO customer VALUES (900, 'Cid', '3', 0)");
    exchange(&[&a, &b]).await;
    let before = b.rows("SELECT name FROM customer ORDER BY id");
    let own = a.place.branches().await.into_iter();
    let own = own.map(|local| (local.opening.opening().origin, local.holding.branch));
    let (_, branch) = own.into_iter().find(|(origin, _)| *origin == a.place.me).unwrap();
    let journal = rusqlite::Connection::open(b.place.file("site/node.db")).unwrap();
    let rot = "UPDATE batch SET frame = zeroblob(length(frame))
               WHERE branch = (SELECT number FROM branch WHERE branch = ?)";
    assert!(journal.execute(rot, [branch.0]).unwrap() > 2);
    let number = b.number;
    b.place
        .step(move |engine| {
            engine.forget_shared(number);
            Ok(())
        })
        .await;
    a.run("INSERT INTO customer (name, phone) VALUES ('Dora', '4')");
    a.settle().await;
    b.meets(&a).await;
    b.place.learns_of(&a.place).await;
    let step = loop {
        match b.place.step(move |engine| engine.step_shared(number)).await {
            SharedStep::Moved(_) => {}
            step => break step,
        }
    };
    let SharedStep::Refill(local) = step else { panic!("{step:?}") };
    assert!(local.holding.held < local.holding.applied, "{:?}", local.holding);
    // Until it is back nothing is merged, and nothing is lost.
    b.settle().await;
    assert_eq!(b.rows("SELECT name FROM customer ORDER BY id"), before);
    b.meets(&a).await;
    b.settle().await;
    a.meets(&b).await;
    a.settle().await;
    assert_alike(&[&a, &b]);
    assert_eq!(b.rows("SELECT name FROM customer WHERE phone = '4'"), ["Dora"]);
}
