//! The clocks of computers: the node, SQLite and the applications read the same one, and what the
//! power does to it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use sim::{World, run, start_of_year};
use std::time::Duration;

/// What SQLite's `'now'` says to an application, in whole seconds from 1970.
fn sqlite_now(world: &World, site: &str) -> i64 {
    world
        .application(site, "some.db")
        .run(|connection| {
            connection
                .query_row("SELECT CAST(strftime('%s', 'now') AS INTEGER)", [], |row| row.get(0))
        })
        .unwrap()
}

#[test]
fn everybody_at_a_computer_reads_its_clock_and_nobody_elses() {
    run(1, async |world: &mut World| {
        world.site("downtown").await;
        world.site("uptown").await;
        let hour = Duration::from_secs(3600);
        let same = |world: &World| {
            let told = world.wall_clock("downtown").0.div_euclid(1000);
            assert_eq!(sqlite_now(world, "downtown"), told);
            told
        };
        world.set_clock("downtown", start_of_year(2036));
        world.run_for(hour).await;
        assert_eq!(same(world), start_of_year(2036).0 / 1000 + 3600);
        assert!((world.wall_clock("uptown").0 - world.true_time().0).abs() <= 3000);
        world.step_clock("downtown", -3_600_000);
        assert_eq!(same(world), start_of_year(2036).0 / 1000);
        world.freeze_clock("downtown");
        world.run_for(hour).await;
        assert_eq!(same(world), start_of_year(2036).0 / 1000);
        world.thaw_clock("downtown");
        world.drift_clock("downtown", -500_000);
        world.run_for(hour).await;
        assert_eq!(same(world), start_of_year(2036).0 / 1000 + 1800);

        world.drift_clock("downtown", 0);
        world.set_clock_error("downtown", 0);
        world.take_battery("downtown");
        world.stop("downtown").await;
        world.boot("downtown").await.unwrap();
        assert_eq!(same(world), world.true_time().0 / 1000, "only the node was stopped");
        world.power_off("downtown").await;
        world.run_for(hour).await;
        world.boot("downtown").await.unwrap();
        assert!(same(world) < 60);
        world.run_for(hour).await;
        assert!((3600..3660).contains(&same(world)));
        world.replace_battery("downtown");
        world.power_off("downtown").await;
        world.boot("downtown").await.unwrap();
        assert!((3600..3660).contains(&same(world)));
    });
}
