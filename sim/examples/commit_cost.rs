//! What a small commit costs on the simulated disk: `cargo run --release -p sim --example
//! commit_cost`. Not a test: it only measures.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program says what it found")]

use sim::{World, run};
use std::time::Instant;

const COMMITS: u32 = 200_000;

fn main() {
    for mode in ["WAL", "DELETE"] {
        run(1, async |world: &mut World| {
            world.site("downtown").await;
            let program = world.application("downtown", "some.db");
            let spent = program.run(|connection| {
                let set = format!("PRAGMA journal_mode = {mode}");
                connection.query_row(&set, [], |_| Ok(())).unwrap();
                connection
                    .execute_batch("PRAGMA synchronous = FULL; CREATE TABLE t (x, y)")
                    .unwrap();
                let mut insert = connection.prepare("INSERT INTO t VALUES (?1, ?2)").unwrap();
                let begun = Instant::now();
                for number in 0..COMMITS {
                    insert.execute((number, [7_u8; 300])).unwrap();
                }
                begun.elapsed()
            });
            let each = spent.as_secs_f64() * 1e6 / f64::from(COMMITS);
            println!("{mode}: {each:.1} µs a commit of 300 bytes at FULL");
        });
    }
}
