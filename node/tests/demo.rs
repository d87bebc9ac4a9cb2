//! The demo as a person starts it, with the shortest sales: real processes, killed and cut off,
//! and every copy its original's equal at the end.

#![allow(clippy::expect_used, reason = "a test ends where it fails")]

use serde_json::Value;
use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_node"))
        .arg("demo")
        .args(arguments)
        .env_remove("NODE_DIR")
        .output()
}

#[test]
fn every_copy_is_identical_at_the_end() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("demo");
    let output = demo(&["--seconds", "1", "--json", "--dir", dir.to_str().unwrap()]).unwrap();
    let story = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{story}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["identical"], true, "{told}");
    let copies = told["copies"].as_array().unwrap();
    assert_eq!(copies.len(), 6);
    for copy in copies {
        assert_eq!(copy["identical"], true, "{copy}");
        assert_eq!(copy["orders"], copy["booked_orders"], "{copy}");
        assert!(copy["rows"].as_u64() > Some(800), "{copy}");
    }
    let sites = told["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 3);
    assert!(sites.iter().all(|site| site["safe"] == true), "{told}");
    let acts = told["acts"].as_array().unwrap();
    assert_eq!(acts.len(), 5);
    assert!(acts[1]["sales"].as_u64() > Some(5), "{told}");
    assert!(acts[1]["measured"].as_u64() >= acts[1]["sales"].as_u64(), "{told}");
    // While one was off, cut off or dead, the others did sell.
    assert!(acts[2]["missing_sales"].as_u64() > Some(0), "{told}");
    assert!(acts[3]["missing_sales"].as_u64() > Some(0), "{told}");
    assert!(acts[4]["sales_without_node"].as_u64() > Some(0), "{told}");
    assert!(!story.contains('\x1b') && !story.contains('\r'), "codes without a terminal: {story}");
    // What was asked for is kept: the judge's files among it.
    assert!(dir.join("uptown/mirrors/downtown/pos.db").is_file());

    // And never touched again.
    let again = demo(&["--dir", dir.to_str().unwrap()]).unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"));
}
