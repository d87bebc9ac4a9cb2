//! Real nodes in virtual time: the stories end well, and runs of one seed are the same.
#![allow(clippy::panic, clippy::print_stdout, reason = "helpers of tests; figures are shown")]

use sim::trace::Packet;
use sim::{World, run, stories};

/// What must be the same in two runs of one seed.
#[derive(PartialEq, Eq)]
struct Outcome {
    packets: Vec<Packet>,
    trace: blake3::Hash,
    content: blake3::Hash,
}

/// CPU seconds of this thread so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

fn tell(seed: u64, story: impl AsyncFnOnce(&mut World)) -> Outcome {
    let begun = cpu();
    let (outcome, figures) = run(seed, async |world: &mut World| {
        world.trace().keep();
        story(world).await;
        let outcome = Outcome {
            packets: world.trace().packets(),
            trace: world.trace_hash(),
            content: world.content_hash(),
        };
        (outcome, world.figures())
    });
    println!(
        "seed {seed}: {} packets, {} bytes, {:.1} virtual seconds, {:.2} CPU seconds, trace {}",
        figures.packets,
        figures.bytes,
        figures.time.as_secs_f64(),
        cpu() - begun,
        outcome.trace.to_hex()
    );
    outcome
}

fn assert_same(first: &Outcome, second: &Outcome) {
    let apart = first.packets.iter().zip(&second.packets).position(|(a, b)| a != b);
    if let Some(at) = apart {
        panic!("packet {at} differs: {} and {}", first.packets[at], second.packets[at]);
    }
    assert_eq!(first.packets.len(), second.packets.len());
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.content, second.content, "the same packets, and other databases");
}

#[test]
fn a_mirror_outlives_a_cut_and_a_power_off_and_runs_repeat() {
    let first = tell(1, stories::spine);
    let again = tell(1, stories::spine);
    assert_same(&first, &again);
    let other = tell(2, stories::spine);
    assert_ne!(first.trace, other.trace);
    assert_ne!(first.content, other.content);
}

/// Seed 3 is a regression: a site that came back before its peer had missed it was never asked
/// again for what it had, since the new session stood in the old one's place unnoticed.
#[test]
fn a_peer_carries_what_its_origin_no_longer_can() {
    let first = tell(3, stories::relay);
    let again = tell(3, stories::relay);
    assert_same(&first, &again);
}

#[test]
fn misfortunes_end_well_under_several_seeds() {
    for seed in 1..=4 {
        tell(seed, stories::misfortunes);
    }
    let first = tell(5, stories::misfortunes);
    let again = tell(5, stories::misfortunes);
    assert_same(&first, &again);
}

#[test]
fn attaching_and_the_first_copy_are_cut_off_and_come_to_an_end() {
    tell(2, stories::beginnings);
}
