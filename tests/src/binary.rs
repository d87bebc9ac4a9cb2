//! Finds the program under test, and builds it first: once a run, whichever test comes first.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program `node`, built with the profile of this test.
///
/// # Panics
/// It can't be built.
pub fn node() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(build)
}

fn build() -> PathBuf {
    // TARGET/PROFILE/deps/TEST-HASH
    let test = std::env::current_exe().expect("a test is a program");
    let profile_dir = test.ancestors().nth(2).expect("tests lie in TARGET/PROFILE/deps");
    let target = profile_dir.parent().expect("the target folder");
    let binary = profile_dir.join(format!("node{}", std::env::consts::EXE_SUFFIX));
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} has no profile", profile_dir.display()),
    };
    // One builds while the others wait. cargo-nextest starts a process for every test: those of
    // one run need not ask cargo again.
    let mut stamp = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(profile_dir.join("node.built-for-tests"))
        .expect("the target folder can be written");
    stamp.lock().expect("a lock");
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_default();
    let mut built = String::new();
    stamp.read_to_string(&mut built).expect("the stamp can be read");
    if !run.is_empty() && built == run && binary.exists() {
        return binary;
    }
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells this test of its own package; build scripts would see it as a change.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "NEXTEST"];
        if told.iter().any(|prefix| text.starts_with(prefix)) || text == "LD_LIBRARY_PATH" {
            cargo.env_remove(&name);
        }
    }
    let status = cargo
        .args(["build", "--quiet", "-p", "node", "--bin", "node", "--profile", profile])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "the node can't be built");
    stamp.set_len(0).expect("the stamp can be written");
    stamp.rewind().expect("the stamp can be written");
    stamp.write_all(run.as_bytes()).expect("the stamp can be written");
    binary
}
