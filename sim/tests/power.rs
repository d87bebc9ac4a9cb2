//! What the power, `kill -9` and bad disks do to whole sites: the node comes back, the application
//! loses nothing that it was told is safe, and runs repeat. F10, F15, F18, F62, F63.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use node::demo::compare::compare;
use node::demo::shop::Shop;
use rusqlite::Connection;
use sim::disk::{Faults, Kind};
use sim::{Application, BootError, World, run};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Ample for anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(900);

/// A shop at `downtown`, mirrored at `uptown`, and its till.
async fn shop(world: &mut World) -> (Application, Shop) {
    world.site("downtown").await;
    world.site("uptown").await;
    let till = world.application("downtown", "shop.db");
    let shop = till.run(|connection| Shop::create(connection, 1, 20)).unwrap();
    world.attach("downtown", "shop.db", "shop").await.unwrap();
    settle(world).await;
    (till, shop)
}

async fn settle(world: &World) {
    world
        .run_until("all is safe and shown", PATIENCE, async |world| {
            world.is_settled("downtown").await
        })
        .await;
    let original = world.disk("downtown").copied(&world.file("downtown", "shop.db")).unwrap();
    let mirror = world.mirror("uptown", "downtown", "shop");
    let mirror = world.disk("uptown").copied(&mirror).unwrap();
    let comparison = compare(original.path(), mirror.path()).unwrap();
    assert!(comparison.identical(), "{comparison:#?}");
}

/// A transaction of the shop's, which the power may end.
fn sell(till: &Application, shop: &mut Shop) -> bool {
    matches!(till.try_run(|connection| shop.sell(connection)), Ok(Ok(_)))
}

/// Switches a computer on, however often the power goes meanwhile.
async fn boot(world: &mut World, site: &str) -> u64 {
    let mut fell = 0;
    while let Err(error) = world.boot(site).await {
        assert!(matches!(error, BootError::Fallen), "{error}");
        world.power_off(site).await;
        fell += 1;
    }
    fell
}

async fn fuses(world: &mut World) -> (u64, u64) {
    let (till, mut shop) = shop(world).await;
    let mut random = world.random("fuses");
    let (mut cuts, mut in_boot) = (0, 0);
    for _ in 0..12 {
        let site = if random.happens(6000) { "downtown" } else { "uptown" };
        world.set_fuse(site, 1 + random.below(80));
        for _ in 0..20 {
            if world.is_fallen(site) {
                break;
            }
            sell(&till, &mut shop);
            let time = Duration::from_millis(random.below(2000));
            tokio::select! {
                biased;
                name = world.fallen() => assert_eq!(name, site),
                () = world.run_for(time) => {}
            }
        }
        cuts += u64::from(world.is_fallen(site));
        world.power_off(site).await;
        if random.happens(5000) {
            world.set_fuse(site, 1 + random.below(15));
        }
        in_boot += boot(world, site).await;
        world.disk(site).clear_fuse();
        // What the shop's program remembers of its own may be of what is lost.
        shop = till.run(|connection| Shop::open(connection, random.draw())).unwrap();
    }
    settle(world).await;
    (cuts, in_boot)
}

#[test]
fn fuses_fall_in_the_node_in_the_shop_and_in_repair() {
    let (mut cuts, mut in_boot) = (0, 0);
    for seed in 1..=3 {
        let told = run(seed, fuses);
        cuts += told.0;
        in_boot += told.1;
    }
    assert!(cuts > 15 && in_boot > 3, "{cuts} {in_boot}");
    let told = || {
        run(4, async |world: &mut World| {
            fuses(world).await;
            (world.trace_hash(), world.content_hash())
        })
    };
    assert_eq!(told(), told());
}
