//! Runs a story in the simulator: `cargo run --release -p sim -- --seed N [--twice]
//! [--story spine|relay|misfortunes|beginnings]`. With `--twice`, fails unless both runs were the same.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program says what it found")]

use sim::{Figures, World, stories};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Clone, Copy)]
enum Story {
    Spine,
    Relay,
    Misfortunes,
    Beginnings,
}

struct Arguments {
    seed: u64,
    twice: bool,
    story: Story,
}

fn arguments() -> Option<Arguments> {
    let mut found = Arguments { seed: 1, twice: false, story: Story::Spine };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => found.seed = words.next()?.parse().ok()?,
            "--twice" => found.twice = true,
            "--story" => {
                found.story = match words.next()?.as_str() {
                    "spine" => Story::Spine,
                    "relay" => Story::Relay,
                    "misfortunes" => Story::Misfortunes,
                    "beginnings" => Story::Beginnings,
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    Some(found)
}

/// What must be the same in two runs of one seed.
#[derive(PartialEq, Eq)]
struct Outcome {
    trace: blake3::Hash,
    content: blake3::Hash,
    figures: Figures,
}

fn tell(arguments: &Arguments) -> Outcome {
    let begun = Instant::now();
    let outcome = sim::run(arguments.seed, async |world: &mut World| {
        match arguments.story {
            Story::Spine => stories::spine(world).await,
            Story::Relay => stories::relay(world).await,
            Story::Misfortunes => stories::misfortunes(world).await,
            Story::Beginnings => stories::beginnings(world).await,
        }
        Outcome {
            trace: world.trace_hash(),
            content: world.content_hash(),
            figures: world.figures(),
        }
    });
    let Figures { packets, bytes, time } = outcome.figures;
    println!(
        "seed {}: {packets} packets, {bytes} bytes, {:.1} virtual seconds in {:.2} real ones\n  \
         trace {}\n  content {}",
        arguments.seed,
        time.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        outcome.trace.to_hex(),
        outcome.content.to_hex(),
    );
    outcome
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: sim [--seed N] [--twice] [--story spine|relay|misfortunes|beginnings]");
        return ExitCode::from(2);
    };
    let first = tell(&arguments);
    if arguments.twice && tell(&arguments) != first {
        eprintln!("the two runs differ: something reaches round the Environment");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
