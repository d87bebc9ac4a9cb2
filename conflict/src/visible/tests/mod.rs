//! Tests of what is visible: examples, random walks of merged state, and random histories of
//! sites. Steps are checked against f computed from scratch, against the letter of its
//! definition (written out a second time), and against the constraints.
//!
//! `VISIBLE_CASES` in the environment sets how many random cases each test runs, and has every
//! step checked; `VISIBLE_SEED` sets the first.

mod books;
mod checks;
mod examples;
mod histories;
mod letter;
mod schema;
mod site;
mod walks;

use crate::{SiteId, Timestamp, Version};
use std::sync::LazyLock;

/// A seeded generator (splitmix64): one seed, one case.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `bound` - 1.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True in `percent` of cases.
    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Names the seed of a case that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed: VISIBLE_SEED={}", self.0);
        }
    }
}

/// Whether each step is checked, and not only some and the last: in runs of a chosen length.
static THOROUGH: LazyLock<bool> = LazyLock::new(|| std::env::var("VISIBLE_CASES").is_ok());

/// How many cases to run.
fn cases(usual: u64) -> u64 {
    std::env::var("VISIBLE_CASES").map_or(usual, |count| count.parse().unwrap())
}

/// The first of the seeds.
fn first_seed() -> u64 {
    std::env::var("VISIBLE_SEED").map_or(0, |seed| seed.parse().unwrap())
}

fn site_id(site: usize) -> SiteId {
    SiteId::from_bytes([site as u8; 16])
}

fn version(time: u64, site: usize) -> Version {
    Version { timestamp: Timestamp::try_from(time).unwrap(), origin: site_id(site) }
}
