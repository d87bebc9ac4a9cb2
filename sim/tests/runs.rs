//! Whole runs through the drive: they end well, repeat, and say what they did.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use sim::drive;
use sim::outcome::Outcome;
use sim::plan::{Request, SCENARIOS, Scenario};
use std::collections::BTreeSet;

fn request(seed: u64, scenario: &str, days: u32, sites: usize) -> Request {
    let scenario = Scenario::named(scenario).unwrap().name;
    Request { seed, scenario, days, sites, without: BTreeSet::new() }
}

fn run(request: &Request) -> Outcome {
    let (outcome, chronicle) = drive::run(request, None, false).unwrap();
    if let Some(failure) = &outcome.failure {
        let story: Vec<&str> = chronicle.entries.iter().map(|entry| &*entry.text).collect();
        panic!("{request:?}\n{}\n{failure}", story.join("\n"));
    }
    outcome
}

#[test]
fn a_day_of_everything_repeats_to_the_last_packet() {
    let (first, again) = (run(&request(1, "mix", 1, 2)), run(&request(1, "mix", 1, 2)));
    assert_eq!(first, again);
    let other = run(&request(2, "mix", 1, 2));
    assert_ne!(first.trace, other.trace);
    assert_ne!(first.content, other.content);
}

/// F10: the power fails at an I/O, and the run says so.
#[test]
fn a_fault_that_was_asked_for_fires_and_is_counted() {
    let outcome = run(&request(1, "power-cut", 1, 2));
    assert!(outcome.fired.values().sum::<u64>() > 0, "{outcome:?}");
    let figures = &outcome.figures;
    assert!(figures.commits > 50 && figures.batches > 30, "{figures:?}");
    assert!(figures.looks > 20, "nobody looked: {figures:?}");
    assert!(figures.virtual_ms > 12 * 3_600_000, "{figures:?}");
}

#[test]
fn faults_are_left_out_by_their_numbers() {
    let whole = request(4, "partition", 1, 2);
    let numbers: BTreeSet<usize> =
        sim::plan::Plan::new(whole.clone()).unwrap().events.iter().map(|e| e.number).collect();
    assert!(!numbers.is_empty());
    let none = run(&Request { without: numbers, ..whole });
    // Only what applications do by themselves is left.
    assert!(!none.fired.contains_key(&2), "{none:?}");
}

#[test]
fn every_scenario_is_told_apart_by_its_name() {
    let names: BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), SCENARIOS.len());
    for asked in [
        "nightly-shutdown",
        "partition",
        "power-cut",
        "bad-clock",
        "flapping-link",
        "long-absence",
        "app-power-cut",
        "relay-only",
        "morning-rush",
    ] {
        assert!(names.contains(asked), "{asked}");
    }
}
