//! Real nodes between tills: at every instant each mirror shows a state that its origin had, never
//! an older one than before, and at rest the newest.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

use rusqlite::Connection;
use sim::oracle::{Loss, Verdict, Watcher};
use sim::workload::{Acted, Mix, Operation, Outcome, Till};
use sim::{World, run};
use std::time::Duration;

const SITES: [&str; 2] = ["downtown", "uptown"];

/// A till, the site that mirrors it, and what is known of the mirror.
struct Pair {
    site: &'static str,
    other: &'static str,
    till: Till,
    watcher: Watcher,
    shown: u64,
}

impl Pair {
    fn mirror(&self, world: &World) -> Option<Connection> {
        let path = world.mirror(self.other, self.site, &format!("{}-shop", self.site));
        let disk = world.disk(self.other);
        disk.exists(&path).then(|| disk.look(&path).unwrap())
    }

    /// Looks at the mirror; gives what is wrong.
    fn look(&mut self, world: &World) -> Result<Verdict, String> {
        let mirror = self.mirror(world);
        let verdict = self.watcher.look(self.till.history(), mirror.as_ref()).unwrap();
        if let Verdict::Shows { newest, .. } = verdict {
            self.shown += u64::from(newest > 0);
        }
        match (&verdict, &mirror) {
            (Verdict::Violation(text), Some(mirror)) if !world.is_struck(self.site) => {
                let apart = self.till.look(|origin| self.watcher.explain(origin, mirror)).unwrap();
                Err(format!("{text}\n{apart}"))
            }
            (Verdict::Violation(text), _) => Err(text.clone()),
            _ => Ok(verdict),
        }
    }
}

/// Whether the power goes now and then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    Stays,
    Goes,
}

async fn story(world: &mut World, mix: Mix, acts: u64, power: Power) {
    let seed = world.seed();
    let mut random = world.random("tills");
    let mut pairs = Vec::new();
    for site in SITES {
        world.site(site).await;
    }
    for (site, other) in [(SITES[0], SITES[1]), (SITES[1], SITES[0])] {
        let mut till = Till::open(world, site, "till.db", "till");
        till.set_mix(mix.clone());
        let wal = till.journal() == sim::workload::Journal::Wal;
        world.attach_as(site, "till.db", &format!("{site}-shop"), wal).await.unwrap();
        let watcher = Watcher::new(&format!("the mirror of {site} at {other}"));
        pairs.push(Pair { site, other, till, watcher, shown: 0 });
    }
    let mut log: Vec<String> = Vec::new();
    let mut cut = false;
    for act in 0..acts {
        if random.happens(if cut { 1000 } else { 200 }) {
            cut = !cut;
            if cut { world.cut(SITES[0], SITES[1]) } else { world.heal(SITES[0], SITES[1]) }
        }
        while let Some(site) = SITES.into_iter().find(|site| world.is_struck(site)) {
            world.power_off(site).await;
            world.run_for(Duration::from_secs(random.below(60))).await;
            world.boot(site).await.unwrap();
            for pair in &mut pairs {
                if pair.site == site {
                    let found = pair.till.recover(Loss::Forbidden);
                    log.push(format!("{site} power off and on, {found:?}"));
                } else {
                    // A mirror may be that of some moments ago: its journal brings the rest again.
                    pair.watcher.begin_anew();
                }
            }
        }
        if power == Power::Goes && random.happens(500) {
            world.strike(SITES[random.below(2) as usize], None, 1 + random.below(60));
        }
        let pair = &mut pairs[random.below(2) as usize];
        let Acted { operation, outcome } = pair.till.act();
        log.push(format!("{} {operation:?} {outcome:?}", pair.site));
        let last = || log[log.len().saturating_sub(30)..].join("\n  ");
        if let Some(violation) = pair.till.violations().first() {
            panic!("seed {seed}, act {act}: {violation}\n  {}", last());
        }
        match random.below(4) {
            // Between two steps of the nodes.
            0 => {
                for _ in 0..random.below(12) {
                    tokio::task::yield_now().await;
                }
            }
            1 => world.run_for(Duration::from_millis(random.below(40))).await,
            _ => world.run_for(Duration::from_millis(random.below(4000))).await,
        }
        for pair in pairs.iter_mut().filter(|pair| !world.is_struck(pair.other)) {
            if let Err(violation) = pair.look(world) {
                panic!("seed {seed}, act {act}: {violation}\n  {}", last());
            }
        }
    }
    if power == Power::Goes {
        // What is planned does not come any more.
        for pair in &mut pairs {
            world.power_off(pair.site).await;
            world.boot(pair.site).await.unwrap();
            pair.watcher.begin_anew();
            let found = pair.till.recover(Loss::Forbidden);
            assert!(matches!(found, Outcome::Recovered(_)), "{found:?}");
        }
    }
    if cut {
        world.heal(SITES[0], SITES[1]);
    }
    // Mirrors that lost their last moments bring them up again, and say so.
    world.run_for(Duration::from_secs(60)).await;
    for pair in &mut pairs {
        let till = &mut pair.till;
        let ended = (till.let_go(true), till.end_reading(), till.finish_thinking());
        assert!(!matches!(ended.0, Outcome::Violated), "{:?}", till.violations());
        till.check().unwrap().unwrap_or_else(|apart| panic!("seed {seed}: {apart}"));
    }
    for pair in &mut pairs {
        world
            .run_until("all is safe and shown", Duration::from_secs(900), async |world| {
                world.is_settled(pair.site).await
            })
            .await;
        let verdict = pair.look(world);
        let (latest, state) = pair.till.history().latest();
        match verdict {
            Ok(Verdict::Shows { newest, .. }) if newest == latest => {}
            _ => {
                let mirror = pair.mirror(world).unwrap();
                let apart = pair.till.look(|origin| pair.watcher.explain(origin, &mirror)).unwrap();
                panic!(
                    "seed {seed}: at rest {} {verdict:?} instead of commit {latest} {state:?}\n\
                     {apart}\n  {}",
                    pair.site,
                    log[log.len().saturating_sub(60)..].join("\n  ")
                );
            }
        }
        assert!(latest > acts / 4 && pair.shown > acts / 10, "{latest} {}", pair.shown);
        println!(
            "seed {seed}, {}: {:?}, {latest} commits, {} waits",
            pair.site,
            pair.till.journal(),
            pair.till.waits()
        );
    }
    assert_eq!(world.waits_in_sqlite(), 0, "somebody waited inside SQLite");
}

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let range = std::env::var("SEEDS").ok().and_then(|text| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    range.unwrap_or(default)
}

#[test]
fn mirrors_show_what_tills_committed_f16_f42_f44_f46_f47() {
    for seed in seeds(0..4) {
        run(seed, async |world: &mut World| story(world, Mix::usual(), 200, Power::Stays).await);
    }
}

#[test]
fn mirrors_show_what_tills_committed_when_all_is_equally_likely_f36_f38_f39() {
    for seed in seeds(10..13) {
        run(seed, async |world: &mut World| story(world, Mix::even(), 150, Power::Stays).await);
    }
}

#[test]
fn mirrors_show_what_tills_committed_when_the_power_goes_f11() {
    for seed in seeds(40..43) {
        run(seed, async |world: &mut World| story(world, Mix::usual(), 200, Power::Goes).await);
    }
}

#[test]
fn a_schema_that_moves_all_the_time_arrives() {
    let mut mix = Mix::usual();
    for operation in [
        Operation::AddColumn,
        Operation::DropColumn,
        Operation::RenameColumn,
        Operation::CreateTable,
        Operation::DropTable,
        Operation::CreateIndex,
        Operation::DropIndex,
        Operation::Rebuild,
        Operation::Vacuum,
    ] {
        mix = mix.with(operation, 60);
    }
    for seed in seeds(20..22) {
        run(seed, async |world: &mut World| story(world, mix.clone(), 150, Power::Stays).await);
    }
}
