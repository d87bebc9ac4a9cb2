//! A site that is invited where no key residues are left to hand over.

use super::shop::{Shop, assert_alike, exchange};
use super::*;

impl Shop {
    fn share(&self) -> impl Future<Output = Vec<SignedRecord>> {
        self.place.step(Engine::share_residues)
    }

    async fn residues(&self) -> u32 {
        self.place.step(|engine| Ok(engine.residues().count())).await
    }

    /// Hears from another how far that one is.
    async fn hears_progress(&self, of: &Self) {
        let who = of.place.me;
        for local in of.place.branches().await {
            self.place.step(move |engine| Ok(engine.note_progress(who, &local.holding)?)).await;
        }
    }

    async fn hears_records(&self, records: &[SignedRecord]) {
        let records = records.to_vec();
        self.place.step(move |engine| engine.merge_members(records)).await.unwrap();
    }

    /// The number that its next customer gets.
    fn sells(&self) -> i64 {
        self.run("INSERT INTO customer (name) VALUES ('new')");
        self.application.last_insert_rowid()
    }
}

#[tokio::test]
async fn a_site_without_residues_gets_some_once_it_is_in_step() {
    let founder = Shop::founded("downtown").await;
    let second = founder.joining("uptown", &[]).await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        founder.place.joining(name).await;
    }
    let last = founder.joining("harbour", &[&second]).await;
    exchange(&[&founder, &second, &last]).await;
    assert_eq!(
        (founder.residues().await, second.residues().await, last.residues().await),
        (1, 64, 0)
    );
    assert_eq!(founder.share().await, [], "it has nothing to give itself");
    assert_eq!(second.share().await, [], "it has not heard how far the other is");
    second.hears_progress(&last).await;
    second.sells();
    second.settle().await;
    assert_eq!(second.share().await, [], "the other lacks a row");
    exchange(&[&founder, &second, &last]).await;
    second.hears_progress(&last).await;

    let handed = second.share().await;
    assert_eq!(handed.len(), 1);
    assert_eq!(second.share().await, [], "once is enough");
    for shop in [&founder, &last] {
        shop.hears_records(&handed).await;
    }
    assert_eq!((second.residues().await, last.residues().await), (56, 8));
    exchange(&[&founder, &second, &last]).await;

    // Apart, they give their rows numbers that never meet.
    let mut given: Vec<i64> =
        (0..300).flat_map(|_| [&founder, &second, &last].map(Shop::sells)).collect();
    exchange(&[&founder, &second, &last]).await;
    assert_alike(&[&founder, &second, &last]);
    let rows = last.rows("SELECT CAST(id AS TEXT) FROM customer WHERE name = 'new' ORDER BY id");
    let there: Vec<i64> = rows.iter().map(|id| id.parse().unwrap()).collect();
    given.sort_unstable();
    assert_eq!(there[1..], given, "each row keeps its number");
}
