//! Real nodes on bad networks.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests; figures are shown")]

use node::demo::shop::Shop;
use sim::{Access, Application, Line, World, run};
use std::time::Duration;

/// Ample for anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(900);
/// Longer than a link lasts without a word, and a dial after it.
const A_WHILE: Duration = Duration::from_secs(120);

/// A shop at a site, under sync.
async fn shop(world: &mut World, site: &str, products: u32) -> (Application, Shop) {
    let till = world.application(site, "shop.db");
    let shop = till.run(|connection| Shop::create(connection, 1, products)).unwrap();
    world.attach(site, "shop.db", "shop").await.unwrap();
    (till, shop)
}

async fn settled(world: &World, site: &str) -> Duration {
    world
        .run_until("all is safe and shown", PATIENCE, async |world| {
            let status = world.status(site).await;
            status.databases.iter().all(|database| database.safe == Some(true))
                && world.is_settled(site).await
        })
        .await
}

async fn connected(world: &World, site: &str) -> usize {
    let status = world.status(site).await;
    status.peers.iter().filter(|peer| peer.state == "connected").count()
}

/// F1, F4 and F3.
#[test]
fn a_shop_gets_through_storms_crawls_and_flapping() {
    for line in
        [Line::STORM, Line::CRAWL, Line { flaps: Some(Duration::from_secs(5)), ..Line::CLEAN }]
    {
        run(1, async |world: &mut World| {
            world.site("downtown").await;
            world.site("uptown").await;
            let (till, mut shop) = shop(world, "downtown", 30).await;
            settled(world, "downtown").await;
            world.set_line(line);
            world.run_for(A_WHILE).await;
            for _ in 0..20 {
                till.run(|connection| shop.sell(connection)).unwrap();
                world.run_for(Duration::from_secs(5)).await;
            }
            let took = settled(world, "downtown").await;
            let counts = world.counts();
            println!("{took:?} {counts:?} {line:?}");
            assert_eq!(line.lost > 0, counts.lost > 50);
            assert_eq!(line.flaps.is_some(), counts.cut > 0);
        });
    }
}

/// F7: changes travel only through a third site.
#[test]
fn two_sites_behind_nats_meet_at_a_third() {
    run(1, async |world: &mut World| {
        world.site("hub").await;
        let idle = Duration::from_secs(30);
        world.site_with("downtown", Access::Nat { idle }).await;
        world.site_with("uptown", Access::Nat { idle }).await;
        let (till, mut shop) = shop(world, "downtown", 30).await;
        settled(world, "downtown").await;
        till.run(|connection| shop.sell(connection)).unwrap();
        settled(world, "downtown").await;
        assert_eq!(connected(world, "hub").await, 2);
        assert_eq!(connected(world, "downtown").await, 1);
        assert!(world.counts_from("hub", "uptown").bytes > 10_000);
        assert_eq!(world.counts_from("downtown", "uptown").packets, 0, "there is no way");
        assert_eq!(world.rebindings("downtown"), 0, "the link keeps the mapping alive");

        // A NAT that forgets faster than the link keeps it: the link moves, and lives.
        world.set_nat_idle("downtown", Duration::from_secs(5));
        world.run_for(A_WHILE).await;
        assert!(world.rebindings("downtown") > 3);
        assert_eq!(connected(world, "hub").await, 2);
        till.run(|connection| shop.sell(connection)).unwrap();
        settled(world, "downtown").await;
    });
}

/// F5.
#[test]
fn addresses_change_and_the_sites_find_one_another() {
    run(1, async |world: &mut World| {
        world.site_with("downtown", Access::Named).await;
        world.site_with("uptown", Access::Nat { idle: Duration::from_secs(60) }).await;
        let (till, mut shop) = shop(world, "downtown", 30).await;
        for site in ["uptown", "downtown"] {
            till.run(|connection| shop.sell(connection)).unwrap();
            let before = world.outside_address(site);
            world.new_address(site, A_WHILE);
            assert_ne!(world.outside_address(site), before);
            settled(world, "downtown").await;
        }
        assert!(world.counts().nowhere > 0, "nobody used the old address any more");
    });
}

/// F5, without names: each says its new address to whom it reaches, and a third passes it on.
#[test]
fn sites_whose_addresses_both_change_while_apart_meet_again() {
    run(1, async |world: &mut World| {
        for site in ["hub", "downtown", "uptown"] {
            world.site(site).await;
        }
        world.run_for(A_WHILE).await;
        assert_eq!(connected(world, "downtown").await, 2);
        world.cut("downtown", "uptown");
        world.run_for(A_WHILE).await;
        for site in ["downtown", "uptown"] {
            world.new_address(site, A_WHILE);
        }
        world.run_for(2 * A_WHILE).await;
        assert_eq!(connected(world, "downtown").await, 1);
        world.heal("downtown", "uptown");
        world.run_for(2 * A_WHILE).await;
        for site in ["hub", "downtown", "uptown"] {
            assert_eq!(connected(world, site).await, 2, "{site}");
        }
    });
}

/// F2 and F6.
#[test]
fn a_way_back_alone_is_no_link_and_names_alone_are_none() {
    run(1, async |world: &mut World| {
        world.site_with("downtown", Access::Named).await;
        world.site_with("uptown", Access::Named).await;
        let (till, mut shop) = shop(world, "downtown", 30).await;
        settled(world, "downtown").await;
        world.cut_one_way("uptown", "downtown");
        world.run_for(A_WHILE).await;
        till.run(|connection| shop.sell(connection)).unwrap();
        world.run_for(A_WHILE).await;
        assert!(!world.is_settled("downtown").await);
        assert_eq!(world.counts_from("downtown", "uptown").cut, 0);
        assert!(world.counts_from("uptown", "downtown").cut > 0);
        world.heal("downtown", "uptown");
        settled(world, "downtown").await;

        for site in ["downtown", "uptown"] {
            world.block_udp(site);
            world.run_for(A_WHILE).await;
            assert_eq!(connected(world, "downtown").await, 0);
            world.reconnect(site);
            world.isolate(site);
            till.run(|connection| shop.sell(connection)).unwrap();
            world.run_for(A_WHILE).await;
            assert!(!world.is_settled("downtown").await);
            world.heal_all();
            settled(world, "downtown").await;
        }
    });
}

/// F12 every night: a site that is off costs the others' lines next to nothing.
#[test]
fn who_is_off_is_dialled_seldom() {
    run(1, async |world: &mut World| {
        for site in ["downtown", "hub", "uptown"] {
            world.site(site).await;
        }
        world.run_for(A_WHILE).await;
        world.power_off("uptown").await;
        let before = world.counts_from("downtown", "uptown");
        world.run_for(Duration::from_secs(12 * 3600)).await;
        let after = world.counts_from("downtown", "uptown");
        let (packets, bytes) = (after.packets - before.packets, after.bytes - before.bytes);
        println!("{packets} packets, {bytes} bytes");
        assert!((50..250).contains(&packets), "{packets}");
    });
}

/// F2 and F7: once the far site is reached by anyone, the one that only can dial does it at once.
#[test]
fn whom_a_peer_has_met_is_dialled_at_once() {
    run(1, async |world: &mut World| {
        world.site("hub").await;
        world.site_with("downtown", Access::Nat { idle: Duration::from_secs(60) }).await;
        world.site("uptown").await;
        world.run_for(A_WHILE).await;
        assert_eq!(connected(world, "downtown").await, 2);
        world.isolate("uptown");
        world.run_for(Duration::from_secs(6 * 3600)).await;
        assert_eq!(connected(world, "downtown").await, 1);
        world.reconnect("uptown");
        let both = async |world: &World| connected(world, "hub").await == 2;
        world.run_until("the hub has met it", PATIENCE, both).await;
        let both = async |world: &World| connected(world, "downtown").await == 2;
        let took = world.run_until("downtown has met it", PATIENCE, both).await;
        println!("{took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
}
