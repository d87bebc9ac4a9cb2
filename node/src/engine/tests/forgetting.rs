//! Engines that share a database, and what becomes of the rows that were deleted.

use super::shop::{Shop, assert_alike, exchange};
use super::*;

impl Shop {
    /// What the node does now and then; how many batches it numbers.
    async fn tidy(&self) -> usize {
        let number = self.number;
        let mut numbered = 0;
        while let SharedStep::Moved(_) = self.place.step(move |e| e.tidy_shared(number)).await {
            numbered += 1;
            assert!(numbered < 10, "it does not come to rest");
        }
        numbered
    }

    /// The rows that `node.db` remembers.
    async fn remembered(&self) -> i64 {
        let count = "SELECT count(*) FROM merged_row JOIN captured_table ON
                       (captured_table.database, captured_table.number) =
                       (merged_row.database, merged_row.tbl)
                     WHERE captured_table.name IN ('stock', 'customer', 'sale')";
        self.place
            .step(move |engine| {
                Ok(engine.store.connection().query_row(count, [], |row| row.get(0))?)
            })
            .await
    }

    /// The bytes of the longest row that `node.db` has.
    async fn longest(&self) -> i64 {
        let longest = "SELECT max(length(state)) FROM merged_row";
        self.place
            .step(move |engine| {
                Ok(engine.store.connection().query_row(longest, [], |row| row.get(0))?)
            })
            .await
    }

    /// Leaves everything as the merge decided it.
    async fn decide_all(&self) {
        let undecided = "SELECT id FROM conflict WHERE decided = 0 AND NOT lasting";
        self.place
            .step(move |engine| {
                let mut statement = engine.store.connection().prepare(undecided)?;
                let ids = statement.query_map([], |row| row.get(0))?;
                let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
                drop(statement);
                assert!(!ids.is_empty());
                ids.iter().try_for_each(|id| engine.keep(*id, Choose::Winner).map(drop))
            })
            .await;
    }

    async fn held(&self) -> u64 {
        self.place.branches().await.iter().map(|branch| branch.holding.held.0).sum()
    }
}

/// Time goes by, and everybody is there.
async fn go_by(shops: &[&Shop]) {
    for _ in 0..4 {
        for shop in shops {
            shop.tidy().await;
        }
        exchange(shops).await;
    }
}

#[tokio::test]
async fn a_deleted_row_is_forgotten_everywhere_and_may_come_again() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    b.run("INSERT INTO stock VALUES ('salt', 4); UPDATE stock SET n = 5 WHERE sku = 'salt'");
    exchange(&[&a, &b]).await;
    assert_eq!((a.remembered().await, b.remembered().await), (5, 5));
    a.run("DELETE FROM stock WHERE sku = 'salt'; DELETE FROM sale; DELETE FROM customer");
    exchange(&[&a, &b]).await;
    assert_eq!((a.remembered().await, b.remembered().await), (5, 5));
    go_by(&[&a, &b]).await;
    assert_eq!((a.remembered().await, b.remembered().await), (1, 1));
    assert_alike(&[&a, &b]);
    // What is over is not talked of any more.
    let held = a.held().await;
    go_by(&[&a, &b]).await;
    assert_eq!((a.held().await, b.held().await), (held, held));

    b.run("INSERT INTO stock VALUES ('salt', 7)");
    a.run("INSERT INTO customer VALUES (2, 'Bob again', '3')");
    exchange(&[&a, &b]).await;
    b.run("UPDATE stock SET n = n - 1 WHERE sku = 'salt'");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.rows("SELECT sku || n FROM stock ORDER BY sku"), ["salt6", "tea10"]);
    // Who comes later has it from the journal, and forgets it likewise.
    let c = a.joining("harbour", &[&b]).await;
    assert_alike(&[&a, &c]);
    assert_eq!((a.remembered().await, c.remembered().await), (3, 3));
    for shop in [&a, &b, &c] {
        assert_eq!(shop.place.alarms().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_kept_parent_is_forgotten_when_its_last_child_is_gone() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    b.run("INSERT INTO sale (customer, number, total) VALUES (2, 'INV-9', 1)");
    a.run("DELETE FROM customer WHERE id = 2");
    exchange(&[&a, &b]).await;
    go_by(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.rows("SELECT name FROM customer WHERE id = 2"), ["Bob"]);
    assert_eq!(a.remembered().await, 5);
    a.run("DELETE FROM sale WHERE number = 'INV-9'");
    exchange(&[&a, &b]).await;
    assert_eq!(a.rows("SELECT name FROM customer WHERE id = 2"), [""; 0]);
    go_by(&[&a, &b]).await;
    assert_eq!((a.remembered().await, b.remembered().await), (3, 3));
    assert_alike(&[&a, &b]);
}

#[tokio::test]
async fn a_site_that_is_away_is_waited_for_until_it_is_removed() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    let c = a.joining("harbour", &[&b]).await;
    // The one that will be away is not the one that has the others forget.
    let least = c.place.me < a.place.me.min(b.place.me);
    let (b, c) = if least { (c, b) } else { (b, c) };
    a.run("INSERT INTO stock VALUES ('salt', 1), ('milk', 2)");
    exchange(&[&a, &b, &c]).await;

    // c is away, and its application goes on with what the others delete.
    a.run("DELETE FROM stock WHERE sku = 'salt'");
    c.run("UPDATE stock SET n = 3 WHERE sku = 'salt'");
    go_by(&[&a, &b]).await;
    assert_eq!((a.remembered().await, b.remembered().await), (6, 6));
    exchange(&[&a, &b, &c]).await;
    assert_alike(&[&a, &b, &c]);

    for shop in [&a, &b, &c] {
        shop.decide_all().await;
    }

    // It has heard of a delete, and stays away while the row is forgotten.
    b.run("DELETE FROM stock WHERE sku IN ('milk', 'salt')");
    exchange(&[&a, &b, &c]).await;
    c.tidy().await;
    exchange(&[&a, &b, &c]).await;
    c.run("UPDATE stock SET n = 8 WHERE sku = 'milk'; INSERT INTO stock VALUES ('salt', 9)");
    c.settle().await;
    go_by(&[&a, &b]).await;
    assert_eq!((a.remembered().await, b.remembered().await), (4, 4));
    exchange(&[&a, &b, &c]).await;
    assert_alike(&[&a, &b, &c]);
    assert_eq!(a.rows("SELECT sku || n FROM stock ORDER BY sku"), ["salt9", "tea10"]);
    assert_eq!((a.remembered().await, c.remembered().await), (5, 5));

    // One that has left the group is not waited for.
    let site = c.place.me;
    a.run("DELETE FROM stock WHERE sku = 'salt'");
    exchange(&[&a, &b]).await;
    go_by(&[&a, &b]).await;
    assert_eq!((a.remembered().await, b.remembered().await), (5, 5));
    let group = a.place.step(move |engine| Ok(engine.membership.group())).await;
    let removed = a.place.step(move |engine| {
        let removal = Removal { group, site, by: engine.identity.site, removed: engine.now() };
        let record = SignedRecord::sign(&Record::Removal(removal), &engine.key).unwrap();
        engine.merge_members(vec![record])
    });
    removed.await.unwrap();
    exchange(&[&a, &b]).await;
    go_by(&[&a, &b]).await;
    assert_eq!((a.remembered().await, b.remembered().await), (4, 4));
    assert_alike(&[&a, &b]);
}

#[tokio::test]
async fn a_row_is_not_forgotten_that_still_stands_in_an_application_s_table() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    a.run("DELETE FROM stock");
    a.settle().await;
    b.meets(&a).await;
    // Merged, and not yet written: somebody is at the file.
    b.run("BEGIN IMMEDIATE");
    let number = b.number;
    while let SharedStep::Moved(_) = b.place.step(move |engine| engine.step_shared(number)).await {}
    b.tidy().await;
    for shop in [&a, &b] {
        shop.tidy().await;
        a.meets(&b).await;
        b.meets(&a).await;
    }
    a.tidy().await;
    b.tidy().await;
    assert_eq!((a.remembered().await, b.remembered().await), (4, 4));
    b.run("UPDATE stock SET n = 3; COMMIT");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.rows("SELECT sku || n FROM stock"), ["tea3"], "an edit that came later");
}

#[tokio::test]
async fn a_row_is_not_forgotten_while_a_person_may_want_it_back() {
    let a = Shop::founded("downtown").await;
    let b = a.joining("uptown", &[]).await;
    exchange(&[&a, &b]).await;
    b.run("UPDATE stock SET n = 3");
    b.settle().await;
    a.run("DELETE FROM stock");
    exchange(&[&a, &b]).await;
    go_by(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.rows("SELECT sku FROM stock"), [""; 0]);
    assert_eq!((a.remembered().await, b.remembered().await), (4, 4));
    a.decide_all().await;
    b.decide_all().await;
    go_by(&[&a, &b]).await;
    assert_eq!((a.remembered().await, b.remembered().await), (3, 3));
    assert_alike(&[&a, &b]);
}

#[tokio::test]
async fn what_was_added_long_ago_is_folded() {
    let a = Shop::founded("downtown").await;
    let name: Name = "club".parse().unwrap();
    let choose = a.place.step(move |engine| engine.choose_rule(&name, "stock.n", "counter"));
    choose.await;
    a.settle().await;
    let b = a.joining("uptown", &[]).await;
    for _ in 0..20 {
        a.run("UPDATE stock SET n = n - 1");
        a.settle().await;
    }
    exchange(&[&a, &b]).await;
    let (before, there) = (a.longest().await, b.longest().await);
    for _ in 0..2 {
        // Whoever has heard of them says so by what it does.
        b.run("UPDATE stock SET n = n + 100");
        exchange(&[&a, &b]).await;
        a.tidy().await;
        b.tidy().await;
    }
    a.run("UPDATE stock SET n = n - 1");
    exchange(&[&a, &b]).await;
    assert_alike(&[&a, &b]);
    assert_eq!(a.rows("SELECT CAST(n AS TEXT) FROM stock"), ["189"]);
    let after = (a.longest().await, b.longest().await);
    assert!(after.0 < before / 2 && after.1 < there / 2, "{after:?} of {before} and {there}");
}

#[tokio::test]
async fn a_row_is_forgotten_once_its_conflict_is_decided_at_whichever_site() {
    for the_greater_decides in [false, true] {
        let a = Shop::founded("downtown").await;
        let b = a.joining("uptown", &[]).await;
        exchange(&[&a, &b]).await;
        b.run("UPDATE stock SET n = 3");
        b.settle().await;
        a.run("DELETE FROM stock");
        exchange(&[&a, &b]).await;
        go_by(&[&a, &b]).await;
        assert_eq!((a.remembered().await, b.remembered().await), (4, 4));
        let greater = if a.place.me > b.place.me { [&a, &b] } else { [&b, &a] };
        greater[usize::from(!the_greater_decides)].decide_all().await;
        go_by(&[&a, &b]).await;
        assert_eq!((a.remembered().await, b.remembered().await), (3, 3));
    }
}
