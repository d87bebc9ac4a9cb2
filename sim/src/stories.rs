//! Stories with a fixed plot: what happens between which steps is the seed's. Tests and the
//! program run the same ones.

use crate::world::World;
use crate::world::application::Application;
use node::demo::compare::compare;
use node::demo::shop::Shop;
use node::status::Status;
use std::time::Duration;

/// Ample for anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(600);

/// A till: the shop's program and its database.
struct Till {
    shop: Shop,
    program: Application,
}

impl Till {
    fn open(world: &World, site: &str, products: u32) -> Self {
        let program = world.application(site, "shop.db");
        let seed = world.random("shop").draw();
        let shop = program.run(|connection| Shop::create(connection, seed, products)).unwrap();
        Self { shop, program }
    }

    /// So many things happen at the shop, one after another, some right behind one another.
    async fn trade(&mut self, world: &World, times: u64, label: &str) {
        let mut random = world.random(label);
        for _ in 0..times {
            self.program.run(|connection| match random.below(10) {
                0 => drop(self.shop.return_goods(connection).unwrap()),
                1 | 2 => drop(self.shop.edit(connection).unwrap()),
                3 => drop(self.shop.new_product(connection).unwrap()),
                _ => drop(self.shop.sell(connection).unwrap()),
            });
            world.run_for(Duration::from_millis(random.below(3000))).await;
        }
    }

    /// Trades until a site has lost its power, so many times at most; whether it has.
    async fn trade_until_struck(
        &mut self,
        world: &World,
        site: &str,
        times: u64,
        label: &str,
    ) -> bool {
        for time in 0..times {
            if world.is_struck(site) {
                return true;
            }
            self.trade(world, 1, &format!("{label} {time}")).await;
        }
        world.is_struck(site)
    }
}

/// Two sites, one shop: sales while all is well, on both sides of a cut, and while the receiver
/// has lost its power in the middle of catching up. At the end the mirror is the original.
pub async fn spine(world: &mut World) {
    world.site("downtown").await;
    world.site("uptown").await;
    let mut till = Till::open(world, "downtown", 30);
    world.attach("downtown", "shop.db", "shop").await.unwrap();
    till.trade(world, 20, "a day like any").await;
    settle(world, "downtown").await;
    same(world, "downtown", "uptown");

    world.cut("downtown", "uptown");
    till.trade(world, 30, "alone").await;
    world.run_for(Duration::from_secs(60)).await;
    assert!(!world.is_settled("downtown").await, "nothing got through, yet all is safe");

    let mut random = world.random("strike");
    let (step, within) =
        if random.happens(5000) { ("flight.receive", 3) } else { ("mirror.step", 6) };
    world.strike("uptown", Some(step), 1 + random.below(within));
    world.heal("downtown", "uptown");
    assert!(till.trade_until_struck(world, "uptown", 200, "healed").await, "no {step} came");
    world.power_off("uptown").await;
    till.trade(world, 10, "dark").await;
    world.boot("uptown").await.unwrap();
    till.trade(world, 5, "light").await;

    settle(world, "downtown").await;
    same(world, "downtown", "uptown");
    assert_eq!(world.waits_in_sqlite(), 0, "somebody waited inside SQLite");
}

/// Three sites: the origin's batches reach one peer, the origin goes dark, and the peer carries
/// them to the third.
pub async fn relay(world: &mut World) {
    world.site("downtown").await;
    world.site("uptown").await;
    world.site("harbour").await;
    let mut till = Till::open(world, "downtown", 30);
    world.attach("downtown", "shop.db", "shop").await.unwrap();
    till.trade(world, 10, "all three").await;
    settle(world, "downtown").await;

    world.power_off("harbour").await;
    till.trade(world, 20, "two of them").await;
    world
        .run_until("uptown shows everything", PATIENCE, async |world| {
            let status = world.status("downtown").await;
            let newest = sequence(&status);
            status.databases.iter().all(|database| database.pending_changes == Some(0))
                && sequence(&status) > 1
                && shown(&world.status("uptown").await) == Some(newest)
        })
        .await;
    let newest = sequence(&world.status("downtown").await);
    world.power_off("downtown").await;
    world.boot("harbour").await.unwrap();
    world
        .run_until("uptown has carried it to the harbour", PATIENCE, async |world| {
            shown(&world.status("harbour").await) == Some(newest)
        })
        .await;
    same(world, "downtown", "uptown");
    same(world, "downtown", "harbour");

    world.boot("downtown").await.unwrap();
    till.trade(world, 5, "all again").await;
    settle(world, "downtown").await;
    same(world, "downtown", "uptown");
    same(world, "downtown", "harbour");
    assert_eq!(world.waits_in_sqlite(), 0, "somebody waited inside SQLite");
}

/// Three sites, one shop, and one misfortune after another: the plug is pulled at any site before
/// some step of its node, a node is stopped and started, a line is cut and mended. In between,
/// and meanwhile, the shop goes on.
pub async fn misfortunes(world: &mut World) {
    let sites = ["downtown", "uptown", "harbour"];
    for site in sites {
        world.site(site).await;
    }
    let mut till = Till::open(world, "downtown", 30);
    world.attach("downtown", "shop.db", "shop").await.unwrap();
    let mut random = world.random("misfortunes");
    for round in 0..10 {
        let site = sites[random.below(3) as usize];
        let other = sites.into_iter().find(|other| *other != site).unwrap();
        let times = random.below(8);
        match random.below(5) {
            0 => {
                world.cut(site, other);
                till.trade(world, times, &format!("cut {round}")).await;
                world.run_for(Duration::from_secs(random.below(90))).await;
                world.heal(site, other);
            }
            1 => {
                world.stop(site).await;
                till.trade(world, times, &format!("stopped {round}")).await;
                world.boot(site).await.unwrap();
            }
            _ => {
                world.strike(site, None, 1 + random.below(60));
                till.trade_until_struck(world, site, 20, &format!("struck {round}")).await;
                world.power_off(site).await;
                world.run_for(Duration::from_secs(random.below(90))).await;
                world.boot(site).await.unwrap();
            }
        }
        till.trade(world, times, &format!("well {round}")).await;
    }
    settle(world, "downtown").await;
    same(world, "downtown", "uptown");
    same(world, "downtown", "harbour");
    assert_eq!(world.waits_in_sqlite(), 0, "somebody waited inside SQLite");
}

/// A shop that is large when it is put under sync, and trades meanwhile: attaching is cut off and
/// begun again, and so is the first copy, at either end.
pub async fn beginnings(world: &mut World) {
    let sites = ["downtown", "uptown"];
    for site in sites {
        world.site(site).await;
    }
    let mut random = world.random("beginnings");
    let mut till = Till::open(world, "downtown", 2500);
    world.strike("downtown", None, 1 + random.below(40));
    let attached = world.attach("downtown", "shop.db", "shop").await;
    till.trade_until_struck(world, "downtown", 60, "first").await;
    world.power_off("downtown").await;
    world.boot("downtown").await.unwrap();
    till.trade(world, 3, "between").await;
    if attached.is_none() && world.status("downtown").await.databases.is_empty() {
        world.attach("downtown", "shop.db", "shop").await.unwrap();
    }
    for round in 0..3 {
        let site = sites[random.below(2) as usize];
        world.strike(site, None, 1 + random.below(25));
        till.trade_until_struck(world, site, 20, &format!("copying {round}")).await;
        world.power_off(site).await;
        world.run_for(Duration::from_secs(random.below(60))).await;
        world.boot(site).await.unwrap();
    }
    settle(world, "downtown").await;
    same(world, "downtown", "uptown");
    assert_eq!(world.waits_in_sqlite(), 0, "somebody waited inside SQLite");
}

/// Waits until everything written at the site is safe, and shown by every copy.
async fn settle(world: &World, site: &str) {
    world
        .run_until("all is safe and shown", PATIENCE, async |world| world.is_settled(site).await)
        .await;
    let status = world.status(site).await;
    assert!(status.databases.iter().all(|database| database.safe == Some(true)), "{status:#?}");
}

/// The newest batch of the only database that a site knows of.
fn sequence(status: &Status) -> u64 {
    status.databases.iter().map(|database| database.sequence).sum()
}

/// The batch that a site's only mirror shows.
fn shown(status: &Status) -> Option<u64> {
    status.databases.first()?.applied_sequence
}

fn same(world: &World, origin: &str, site: &str) {
    let (original, mirror) = (world.file(origin, "shop.db"), world.mirror(site, origin, "shop"));
    let original = world.disk(origin).copied(&original).unwrap();
    let mirror = world.disk(site).copied(&mirror).unwrap();
    let comparison = compare(original.path(), mirror.path()).unwrap();
    assert!(comparison.identical(), "{comparison:#?}");
    assert!(comparison.rows > 100, "nothing was compared: {comparison:?}");
}
