//! The program: its options, its exit codes, what it prints and writes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use sim::outcome::Outcome;
use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_lists_scenarios_and_faults() {
    let listed = sim(&["--list"]);
    assert!(listed.status.success());
    let listed = text(&listed.stdout);
    for word in ["morning-rush", "power-cut", "F10", "F64", "failover"] {
        assert!(listed.contains(word), "{word} in {listed}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_to_do() {
    for (arguments, says) in [
        (&["--scenario", "tornado"][..], "--list names all"),
        (&["--sites", "1"], "2 to 20 sites"),
        (&["--days", "0"], "1 to 1000 days"),
        (&["--breakage", "none-such"], "defect"),
    ] {
        let output = sim(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
}

#[test]
fn a_run_is_told_drawn_and_handed_on_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("run.html");
    let asked = ["--seed", "5", "--scenario", "partition", "--days", "1", "--sites", "2"];
    let told = sim(&[&asked[..], &["--html", picture.to_str().unwrap()]].concat());
    let story = text(&told.stdout);
    assert!(told.status.success(), "{story}");
    for word in ["day 1 08:00", "fault ", "F2", "CPU seconds", "trace ", "nothing broke"] {
        assert!(story.contains(word), "{word} in {story}");
    }
    let drawn = std::fs::read_to_string(&picture).unwrap();
    assert!(drawn.contains("<svg") && drawn.contains("uptown") && drawn.contains("nothing broke"));

    let json = sim(&[&asked[..], &["--json"]].concat());
    let outcome: Outcome = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(outcome.failure, None);
    assert!(story.contains(&outcome.trace), "both runs are the same");
}

#[test]
fn a_swarm_sums_up() {
    let asked = ["swarm", "--seeds", "2", "--jobs", "2", "--days", "1", "--sites", "2"];
    let swarm = sim(&[&asked[..], &["--scenario", "quiet"]].concat());
    let sum = text(&swarm.stdout);
    assert!(swarm.status.success(), "{sum}");
    assert!(sum.contains("2 runs, 0 failed"), "{sum}");
    assert!(sum.contains("F46"), "{sum}");
}
