//! Waiting for a condition. Time limits are generous: a slow machine is no failure, and a test that
//! passes does not use them up.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use node::demo::compare::{Comparison, compare};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long anything may take that has no limit of its own.
pub const PATIENCE: Duration = Duration::from_secs(90);

const BETWEEN: Duration = Duration::from_millis(40);

/// Waits until `condition` gives something.
///
/// # Panics
/// It gives nothing within `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        if begun.elapsed() > limit {
            panic!("not within {} s: {what}", limit.as_secs());
        }
        std::thread::sleep(BETWEEN);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// It does not within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}

/// Waits until a mirror has the same content as its origin, bit for bit; `rows` are to be compared
/// at the least.
///
/// # Panics
/// It has not in time, or has fewer rows.
pub fn wait_until_equal(origin: &Path, mirror: &Path, rows: u64) -> Comparison {
    let begun = Instant::now();
    loop {
        let compared = if mirror.exists() {
            compare(origin, mirror).map_err(|error| error.to_string())
        } else {
            Err(format!("{} does not exist", mirror.display()))
        };
        match compared {
            Ok(comparison) if comparison.identical() => {
                assert!(comparison.rows >= rows, "{comparison:?}, expected {rows} rows");
                return comparison;
            }
            last if begun.elapsed() > PATIENCE => {
                panic!("{} is not like {}: {last:#?}", mirror.display(), origin.display())
            }
            _ => std::thread::sleep(BETWEEN),
        }
    }
}
