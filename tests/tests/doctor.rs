//! `doctor`: what it finds in a file that is not attached, and in what is; by itself, of a resting
//! site and of a running one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::Path;
use tests::application::execute;
use tests::site::{Ended, Home, run_node};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The findings of that severity about a table.
fn about<'a>(told: &'a Value, severity: &str, table: &str) -> Vec<&'a str> {
    let findings = told["findings"].as_array().unwrap();
    findings
        .iter()
        .filter(|found| found["severity"] == severity && found["table"] == table)
        .map(|found| found["what"].as_str().unwrap())
        .collect()
}

fn assert_each_has_a_remedy(told: &Value) {
    for found in told["findings"].as_array().unwrap() {
        let severe = found["severity"] != "info";
        assert!(!severe || !found["remedy"].as_str().unwrap().is_empty(), "{found}");
    }
}

#[test]
fn a_file_is_looked_at_before_there_is_a_site() {
    let home = Home::new();
    let file = home.path("shop.db");
    execute(
        &file,
        "PRAGMA journal_mode = WAL;
         CREATE TABLE note (text);
         CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, total REAL)",
    );
    let before = std::fs::read(&file).unwrap();
    let ended = run_node(&["doctor", text(&file), "--json"]);
    assert_eq!(ended.code, 0, "a mirror can have it: {ended:?}");
    let told = ended.json();
    assert_each_has_a_remedy(&told);
    assert_eq!(told["examined"][0]["mode"], Value::Null);
    let keyless = about(&told, "warning", "note");
    assert!(
        keyless
            .iter()
            .any(|what| what.contains("in shared mode: the table note has no primary key")),
        "{told}"
    );
    let both = about(&told, "warning", "customer");
    assert!(both.iter().any(|what| what.contains("without AUTOINCREMENT")), "{told}");
    let room = about(&told, "info", "sale");
    assert!(room.iter().any(|what| what.contains("numbers below 2^31")), "{told}");
    assert_eq!(std::fs::read(&file).unwrap(), before, "it only reads");

    execute(
        &file,
        "CREATE TABLE odd (id INTEGER PRIMARY KEY AUTOINCREMENT);
         INSERT INTO odd VALUES (2000000000)",
    );
    let ended = run_node(&["doctor", text(&file)]);
    let line = ended.stdout.lines().find(|line| line.contains("reached 2000000000")).unwrap();
    assert!(line.starts_with("warning ") && line.contains("Ask its maker"), "{line}");
    assert_eq!(run_node(&["doctor", text(&home.path("missing.db"))]).code, 2);
    let letter = home.path("letter.txt");
    std::fs::write(&letter, "Dear customer".repeat(100)).unwrap();
    assert_eq!(run_node(&["doctor", text(&letter)]).code, 2);
    assert_eq!(run_node(&["doctor"]).code, 2, "neither a file nor a site");
}

#[test]
fn what_is_attached_is_looked_at_whether_the_node_runs_or_not() {
    let home = Home::new();
    let mut site = home.found("downtown");
    assert!(site.done(&["doctor"]).contains("No database is attached"));
    let (club, pos) = (home.path("club.db"), home.path("pos.db"));
    execute(
        &club,
        "PRAGMA journal_mode = WAL;
         CREATE TABLE member (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
         CREATE TABLE visit (
             id INTEGER PRIMARY KEY AUTOINCREMENT, member INTEGER REFERENCES member)",
    );
    execute(&pos, "PRAGMA journal_mode = WAL; CREATE TABLE note (text)");
    site.done(&["attach", "club", text(&club), "--mode", "shared"]);
    site.done(&["attach", "pos", text(&pos)]);
    let ask = |site: &tests::site::Site| -> (Ended, Value) {
        let ended = site.command(&["doctor", "--json"]);
        let told = ended.json();
        assert_each_has_a_remedy(&told);
        (ended, told)
    };
    let (resting, told) = ask(&site);
    assert_eq!(resting.code, 0, "{resting:?}");
    let modes: Vec<&str> = told["examined"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["mode"].as_str().unwrap())
        .collect();
    assert_eq!(modes, ["shared", "mirror"]);
    assert!(about(&told, "info", "member")[0].contains("numbers below 2^31"), "{told}");
    assert!(about(&told, "warning", "note").is_empty(), "a mirror needs no key: {told}");

    site.run();
    assert_eq!(ask(&site).1, told, "a running node says the same");
    // SQLite looks for no parent unless the application asks for it.
    execute(&club, "PRAGMA foreign_keys = OFF; INSERT INTO visit (member) VALUES (77)");
    let (broken, told) = ask(&site);
    assert_eq!(broken.code, 1, "{broken:?}");
    assert!(about(&told, "critical", "visit")[0].contains("no row of member"), "{told}");
    assert_eq!(site.command(&["doctor", text(&pos)]).code, 0, "the other one is well");
    std::fs::rename(&pos, home.path("gone.db")).unwrap();
    let gone = site.command(&["doctor"]);
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(gone.stdout.contains("critical  pos: "), "{gone:?}");
}
