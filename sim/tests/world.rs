//! What the world itself promises: time, randomness, politeness towards readers, power.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use node::demo::shop::Shop;
use rusqlite::{Connection, ErrorCode};
use sim::{World, run};
use std::time::Duration;

/// Ample for anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(600);

fn one<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// What an application sees of time and chance, twice an hour apart.
async fn look(world: &mut World) -> Vec<(i64, f64)> {
    world.site("downtown").await;
    let program = world.application("downtown", "some.db");
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(program.run(|connection| {
            (one(connection, "SELECT random()"), one(connection, "SELECT julianday('now')"))
        }));
        world.run_for(Duration::from_secs(3600)).await;
    }
    seen
}

#[test]
fn sqlite_has_the_time_and_the_dice_of_the_world() {
    let first = run(1, look);
    assert_eq!(first, run(1, look));
    assert_ne!(first, run(2, look));
    let ((_, then), (_, later)) = (first[0], first[1]);
    assert!(((later - then) * 24.0 - 1.0).abs() < 1e-6, "an hour is an hour: {then} {later}");
    // 2026-03-02 08:00 UTC, give or take the error of that computer's clock.
    assert!((then - 2_461_101.833_333).abs() < 0.001, "{then}");
}

#[test]
fn real_time_does_not_count() {
    let begun = std::time::Instant::now();
    run(1, async |world: &mut World| {
        world.site("downtown").await;
        world.run_for(Duration::from_secs(24 * 3600)).await;
        assert!(world.figures().time >= Duration::from_secs(24 * 3600));
    });
    assert!(begun.elapsed() < Duration::from_secs(60));
}

/// CAPTURE.md's first trap: whoever has read in a transaction must still be able to write in it.
#[test]
fn a_program_that_has_read_can_write_however_long_it_thinks() {
    run(1, async |world: &mut World| {
        world.site("downtown").await;
        let till = world.application("downtown", "shop.db");
        let mut shop = till.run(|connection| Shop::create(connection, 1, 10)).unwrap();
        world.attach("downtown", "shop.db", "shop").await.unwrap();
        let log = async |world: &World| {
            world.application("downtown", "shop.db").run(|connection| {
                one::<i64>(connection, "SELECT count(*) FROM _holdfast_log") <= 64
            })
        };
        world.run_for(Duration::from_secs(10)).await;
        till.run(|connection| {
            for _ in 0..50 {
                shop.sell(connection).unwrap();
            }
            connection.execute_batch("BEGIN").unwrap();
            assert!(one::<i64>(connection, "SELECT count(*) FROM products") > 0);
        });
        // Meanwhile the node harvests, and would trim its log.
        world.run_for(Duration::from_secs(60)).await;
        assert!(!log(world).await, "it trimmed beside a reader, or had nothing to trim");
        till.run(|connection| {
            connection.execute_batch("UPDATE products SET name = 'thought over'; COMMIT").unwrap();
        });
        world.run_until("the log is trimmed", PATIENCE, log).await;
    });
}

#[test]
fn a_power_off_takes_what_was_not_committed_and_nothing_else() {
    run(1, async |world: &mut World| {
        world.site("downtown").await;
        let program = world.application("downtown", "some.db");
        program.run(|connection| {
            one::<String>(connection, "PRAGMA journal_mode = WAL");
            connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
            connection.execute_batch("BEGIN; INSERT INTO t VALUES (2)").unwrap();
        });
        let other = world.application("downtown", "some.db");
        let busy = other.run(|connection| connection.execute_batch("BEGIN IMMEDIATE"));
        assert_eq!(busy.unwrap_err().sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
        world.power_off("downtown").await;
        let wal = world.file("downtown", "some.db-wal");
        assert!(world.disk("downtown").exists(&wal), "closed cleanly, so no crash");
        world.boot("downtown").await.unwrap();
        let left = other.run(|connection| one::<i64>(connection, "SELECT sum(x) FROM t"));
        assert_eq!(left, 1);
    });
}

#[test]
fn nothing_passes_a_cut_and_all_again_once_it_is_mended() {
    run(1, async |world: &mut World| {
        world.site("downtown").await;
        world.site("uptown").await;
        let connected = async |world: &World| {
            world.status("downtown").await.peers.iter().all(|peer| peer.state == "connected")
        };
        world.run_until("they meet", PATIENCE, connected).await;
        world.cut("downtown", "uptown");
        world
            .run_until("they miss each other", PATIENCE, async |world| !connected(world).await)
            .await;
        world.run_for(Duration::from_secs(3600)).await;
        assert!(!connected(world).await);
        world.heal("downtown", "uptown");
        world.run_until("they meet again", PATIENCE, connected).await;
    });
}

#[test]
fn a_sale_more_shows_in_the_content_and_a_look_does_not() {
    let told = |sales: u32| {
        run(1, async |world: &mut World| {
            world.site("downtown").await;
            let till = world.application("downtown", "shop.db");
            let mut shop = till.run(|connection| Shop::create(connection, 1, 10)).unwrap();
            for _ in 0..sales {
                till.run(|connection| shop.sell(connection)).unwrap();
            }
            let hash = world.content_hash();
            assert_eq!(hash, world.content_hash());
            till.quit();
            assert_eq!(hash, world.content_hash(), "how it lies on the disk does not count");
            hash
        })
    };
    assert_eq!(told(1), told(1));
    assert_ne!(told(1), told(2));
}
