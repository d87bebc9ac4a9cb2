//! Prints what a change costs in bytes, on a schema that the dictionary never saw.
//!
//! `cargo run --release -p protocol --example bytes_per_change`
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/shop/mod.rs"]
mod shop;

fn main() {
    println!("sales a batch  changes a sale  raw  body bytes a change  header a batch");
    for (sales, batches) in [(1, 1_000), (5, 200), (300, 10), (10_000, 1)] {
        let cost = shop::measure(7, sales, batches);
        let a_change = |bytes: usize| bytes as f64 / cost.changes as f64;
        println!(
            "{sales:>13}  {:>14.1}  {:>3.0}  {:>19.2}  {:>14.1}",
            cost.changes as f64 / (sales * batches) as f64,
            a_change(cost.raw),
            a_change(cost.body),
            cost.header as f64 / batches as f64,
        );
    }
}
