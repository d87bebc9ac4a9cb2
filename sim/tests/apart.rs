//! Faults that the mix leaves out, each in a run of the scenario that has it: they fire, and nothing
//! breaks that the node is to keep up today.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use sim::drive;
use sim::plan::{KINDS, Plan, Request, Scenario};
use std::collections::BTreeSet;

/// Runs so many days, leaving out whatever else the scenario draws; those numbers must fire.
fn fires(scenario: &str, (seed, days, sites): (u64, u32, usize), numbers: &[u8]) {
    let scenario = Scenario::named(scenario).unwrap().name;
    let mut request = Request { seed, scenario, days, sites, without: BTreeSet::new() };
    let plan = Plan::new(request.clone()).unwrap();
    let others = plan
        .events
        .iter()
        .filter(|event| !event.fault.numbers().iter().any(|number| numbers.contains(number)));
    request.without = others.map(|event| event.number).collect();
    let (outcome, chronicle) = drive::run(&request, None, false).unwrap();
    if let Some(failure) = &outcome.failure {
        let story: Vec<&str> = chronicle.entries.iter().map(|entry| &*entry.text).collect();
        panic!("{request:?}\n{}\n{failure}", story.join("\n"));
    }
    for number in numbers {
        assert!(outcome.fired.contains_key(number), "F{number} did not fire: {:?}", outcome.fired);
    }
}

#[test]
fn a_batch_and_a_base_that_rot_are_not_taken_f13() {
    fires("rot", (4, 1, 2), &[13]);
}

#[test]
fn what_was_called_safe_outlives_a_disk_f19() {
    fires("disk-lost", (4, 1, 3), &[19]);
}

#[test]
fn a_database_that_goes_back_is_told_and_not_taken_f20_f29() {
    fires("going-back", (3, 1, 2), &[20, 29]);
}

#[test]
fn a_database_or_a_node_put_back_alone_is_told_and_not_taken_f32() {
    fires("going-back", (5, 1, 2), &[32]);
}

#[test]
fn a_whole_machine_that_goes_back_is_told_and_not_taken_f34() {
    fires("going-back", (2, 1, 2), &[34]);
}

#[test]
fn a_clone_is_told_f31() {
    fires("cloned", (4, 1, 2), &[31]);
}

#[test]
fn the_mix_draws_none_of_them() {
    let mix = Scenario::named("mix").unwrap().kinds();
    assert!(mix.iter().all(|kind| kind.in_mix));
    assert_eq!(mix.len(), KINDS.iter().filter(|kind| kind.in_mix).count());
    for kind in KINDS.iter().filter(|kind| !kind.in_mix) {
        let scenarios = sim::plan::SCENARIOS.iter();
        let mut named = scenarios.filter(|scenario| scenario.kinds.contains(&kind.name));
        assert!(named.next().is_some(), "{}", kind.name);
    }
}
