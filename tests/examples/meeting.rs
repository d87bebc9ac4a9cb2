//! How long sites take that meet again: three that sold apart, one that was away while another sold
//! much, and three of which each sold a little while nodes were off. Real nodes, files and sockets
//! on one machine; nothing here passes or fails, but that nothing is lost is checked.
//!
//! `cargo run --release -p tests --example meeting [SALES OF EACH APART] [SALES WHILE AWAY]`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "an example stops where it fails")]

use std::time::{Duration, Instant};
use tests::sales::{check, sell, three};
use tests::shop::{Shop, wait_until_alike_within};
use tests::site::Home;

const LIMIT: Duration = Duration::from_secs(3600);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse().expect("a number"));
    let apart = arguments.next().unwrap_or(10_000);
    let away = arguments.next().unwrap_or(30_000);
    let home = Home::new();
    let mut shops = three(&home);

    let meet = |shops: &mut [Shop; 3], from: i64, sales: [i64; 3]| -> (f64, f64) {
        for shop in &mut *shops {
            shop.site.stop();
        }
        let begun = Instant::now();
        for (shop, sales) in shops.iter().zip(sales) {
            sell(shop, from, sales);
        }
        let sold = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        for shop in &mut *shops {
            shop.site.run();
        }
        wait_until_alike_within(&shops.each_ref(), LIMIT);
        (sold, begun.elapsed().as_secs_f64())
    };

    let (sold, met) = meet(&mut shops, 0, [apart; 3]);
    for shop in &shops {
        check(shop, apart);
    }
    println!(
        "{apart} sales at each of three sites apart, {} rows in all: sold in {sold:.1} s, alike \
         {met:.1} s after the nodes started (ratio {:.2})",
        apart * 9 + apart / 10 * 3,
        met / sold
    );
    let (sold, met) = meet(&mut shops, apart, [20, 20, 20]);
    println!("20 sales at each apart: sold in {sold:.2} s, alike {met:.2} s after the start");
    let (sold, met) = meet(&mut shops, apart + 20, [away, 0, 0]);
    println!(
        "{away} sales at one site while two are away: sold in {sold:.1} s, alike {met:.1} s after \
         the start (ratio {:.2})",
        met / sold
    );
}
