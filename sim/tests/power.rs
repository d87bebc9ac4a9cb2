//! What the power, `kill -9` and bad disks do to whole sites: the node comes back, the application
//! loses nothing that it was told is safe, and runs repeat. F10, F15, F18, F62, F63.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use node::demo::compare::compare;
use node::demo::shop::Shop;
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

/// Switches a computer on, however often the power goes while it comes up. A node that finds all
/// in order writes nothing then; what it catches up with comes right afterwards.
async fn boot(world: &mut World, site: &str) -> u64 {
    let mut fell = 0;
    loop {
        match world.boot(site).await {
            Ok(()) => world.run_for(Duration::from_secs(3)).await,
            Err(error) => assert!(matches!(error, BootError::Fallen), "{error}"),
        }
        if !world.is_fallen(site) {
            return fell;
        }
        world.power_off(site).await;
        fell += 1;
    }
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
        shop = Shop::open(random.draw());
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

#[test]
fn a_killed_node_comes_back_beside_an_application_that_went_on() {
    run(1, async |world: &mut World| {
        let (till, mut shop) = shop(world).await;
        for round in 0..6 {
            till.run(|connection| {
                connection.execute_batch("BEGIN").unwrap();
                shop.sell(connection).ok();
            });
            let _ = round;
            world.run_for(Duration::from_millis(700 * round)).await;
            world.kill("downtown").await;
            assert!(!world.is_fallen("downtown"), "the computer is on");
            till.run(|connection| {
                if !connection.is_autocommit() {
                    connection.execute_batch("COMMIT").unwrap();
                }
                shop.sell(connection).unwrap();
            });
            world.boot("downtown").await.unwrap();
        }
        settle(world).await;
    });
}

#[test]
fn a_killed_application_leaves_nothing_half() {
    run(1, async |world: &mut World| {
        let (till, mut shop) = shop(world).await;
        let count = |till: &Application| {
            till.run(|c| c.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, i64>(0)))
        };
        let before = count(&till).unwrap();
        for _ in 0..5 {
            till.run(|connection| {
                connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM orders").unwrap();
            });
            till.kill();
            till.run(|connection| shop.sell(connection)).unwrap();
        }
        assert_eq!(count(&till).unwrap(), before + 5);
        settle(world).await;
    });
}

#[test]
fn who_shuts_down_properly_loses_nothing() {
    run(1, async |world: &mut World| {
        let (till, mut shop) = shop(world).await;
        till.run(|connection| connection.execute_batch("PRAGMA synchronous = OFF")).unwrap();
        for _ in 0..20 {
            assert!(sell(&till, &mut shop));
        }
        assert!(world.shut_down("downtown").await);
        assert_eq!(world.disk("downtown").struck().damage.values().map(|d| d.lost).sum::<u64>(), 0);
        assert!(till.try_run(|_| ()).is_err(), "the power is off");
        world.boot("downtown").await.unwrap();
        settle(world).await;
    });
}

/// F62, F63, and errors now and then: the application may be told, the node gets over it.
#[test]
fn a_bad_disk_is_survived() {
    let mut struck = Vec::new();
    for (number, site) in [(1, "downtown"), (2, "uptown")] {
        run(number, async |world: &mut World| {
            let (till, mut shop) = shop(world).await;
            let kinds = [Some(Kind::Journal), None];
            for only in kinds {
                let faults = [
                    Faults { only, sync: 30_000, ..Faults::default() },
                    Faults { only, write: 30_000, ..Faults::default() },
                    Faults { only, slow: Duration::from_secs(5), ..Faults::default() },
                ];
                for faults in faults {
                    world.disk(site).set_faults(faults);
                    for _ in 0..40 {
                        sell(&till, &mut shop);
                        world.run_for(Duration::from_secs(2)).await;
                    }
                    world.disk(site).set_faults(Faults::default());
                    world.run_for(Duration::from_secs(60)).await;
                }
            }
            world.disk(site).set_free(Some(0));
            for _ in 0..10 {
                sell(&till, &mut shop);
                world.run_for(Duration::from_secs(2)).await;
            }
            world.disk(site).set_free(None);
            world.shut_down(site).await;
            world.boot(site).await.unwrap();
            sell(&till, &mut shop);
            settle(world).await;
            struck.push(world.disk(site).struck());
        });
    }
    assert!(struck.iter().all(|s| s.sync > 0 && s.write > 0 && s.slow > 0 && s.full > 0));
}

#[test]
fn between_two_steps_of_the_node_an_application_may_write() {
    run(1, async |world: &mut World| {
        let (till, mut shop) = shop(world).await;
        let steps = Arc::new(Mutex::new(Vec::new()));
        let (noted, program) = (Arc::clone(&steps), till.clone());
        let work = move |step: &'static str| {
            noted.lock().unwrap().push(step);
            sell(&program, &mut shop);
        };
        world.set_between_steps("downtown", Some(Box::new(work)));
        world.run_for(Duration::from_secs(600)).await;
        world.set_between_steps("downtown", None);
        let count = steps.lock().unwrap().len();
        assert!((5..500).contains(&count), "{count}");
        settle(world).await;
    });
}

#[test]
fn what_a_failed_sync_left_counts_only_once_it_is_durable() {
    run(7, async |world: &mut World| {
        let (till, mut shop) = shop(world).await;
        let none = Faults { only: Some(Kind::Journal), ..Faults::default() };
        world.disk("uptown").set_faults(Faults { sync: 1_000_000, ..none });
        assert!(sell(&till, &mut shop));
        world.run_for(Duration::from_secs(30)).await;
        assert!(world.disk("uptown").struck().sync > 0);
        // The process ends with that; what it wrote is still in the system's memory.
        world.kill("uptown").await;
        world.disk("uptown").set_faults(Faults::default());
        world.boot("uptown").await.unwrap();
        assert!(sell(&till, &mut shop));
        settle(world).await;
        let (disk, path) = (world.disk("uptown"), world.node_db("uptown"));
        let held = |connection: rusqlite::Connection| -> i64 {
            connection.query_row("SELECT max(held) FROM branch", [], |row| row.get(0)).unwrap()
        };
        let (now, durable) = (disk.look(&path).unwrap(), disk.look_durable(&path).unwrap());
        assert_eq!(held(durable), held(now));
    });
}
