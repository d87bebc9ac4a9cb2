//! What a day costs on which nothing goes wrong: every site has a small database, mirrored at all
//! others, and commits something once a minute for twelve hours; then the computers are off for
//! ten. `cargo run --release -p sim --example quiet_day -- [SITES] [DAYS] [SEED]
//! [MINUTES]`, the last being how long the sites are open.
#![allow(clippy::unwrap_used, reason = "a failed measurement is none")]
#![allow(clippy::print_stdout, reason = "a program says what it found")]

use sim::{Application, World, run};
use std::collections::BTreeMap;
use std::time::Duration;

/// From a commit to the next.
const PAUSE: Duration = Duration::from_secs(60);
const NIGHT: Duration = Duration::from_secs(10 * 3600);

/// What has been spent so far: CPU seconds of this thread, packets, bytes, leaps of the clock.
#[derive(Clone, Copy, Default)]
struct Spent(f64, u64, u64, u64);

impl Spent {
    fn so_far(world: &World) -> Self {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let ns = stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0);
        let leaps = tokio::runtime::Handle::current().metrics().worker_park_count(0);
        let figures = world.figures();
        Self(ns / 1e9, figures.packets, figures.bytes, leaps)
    }
}

/// What was spent since the last time.
fn tell(what: &str, world: &World, before: &mut Spent) {
    let now = Spent::so_far(world);
    println!(
        "{what:<10}{:>8.3} CPU s {:>8} packets {:>10} bytes {:>9} leaps of the clock",
        now.0 - before.0,
        now.1 - before.1,
        now.2 - before.2,
        now.3 - before.3
    );
    *before = now;
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(default, |word| word.parse().unwrap());
    let (sites, days, seed, minutes) = (number(3), number(1), number(1), number(12 * 60));
    let names: Vec<String> = (1..=sites).map(|number| format!("shop{number}")).collect();
    run(seed, async |world: &mut World| {
        let mut before = Spent::so_far(world);
        for name in &names {
            world.site(name).await;
        }
        let mut tills: Vec<Application> = Vec::new();
        for name in &names {
            let till = world.application(name, "till.db");
            let schema = "CREATE TABLE sales (id INTEGER PRIMARY KEY, total INTEGER, at TEXT)";
            till.run(|connection| connection.execute_batch(schema)).unwrap();
            world.attach(name, "till.db", &format!("till-{name}")).await.unwrap();
            tills.push(till);
        }
        world.run_for(PAUSE).await;
        tell("beginning", world, &mut before);
        for day in 1..=days {
            for commit in 0..minutes {
                for till in &tills {
                    let sql = "INSERT INTO sales (total, at) VALUES (?1, datetime('now'))";
                    till.run(|connection| connection.execute(sql, [commit.cast_signed() * 7]))
                        .unwrap();
                }
                world.run_for(PAUSE).await;
            }
            for name in &names {
                assert!(world.is_settled(name).await, "{name} has something to do yet");
            }
            tell(&format!("day {day}"), world, &mut before);
            for name in &names {
                world.power_off(name).await;
            }
            world.run_for(NIGHT).await;
            for name in &names {
                world.boot(name).await.unwrap();
            }
            world.run_for(PAUSE).await;
            tell(&format!("night {day}"), world, &mut before);
        }
        println!("trace {}\nsteps of all nodes:", world.trace_hash().to_hex());
        let mut steps: BTreeMap<&str, (u64, Duration)> = BTreeMap::new();
        for (step, (times, took)) in names.iter().flat_map(|name| world.steps(name)) {
            let all = steps.entry(step).or_default();
            *all = (all.0 + times, all.1 + took);
        }
        for (step, (times, took)) in steps {
            println!("  {step:<20} {times:>8} {:>7.3} s", took.as_secs_f64());
        }
    });
}
