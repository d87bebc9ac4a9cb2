//! What is seen from outside: exit codes, errors that say what to do, JSON.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tests::application::{execute, sqlite3};
use tests::binary;
use tests::site::{Ended, Home, Site, run_node};
use tests::wait::{PATIENCE, wait_until};

/// An error is one sentence that says what is wrong and one that says what to do.
fn assert_fails(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert_eq!(ended.stdout, "");
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in {ended:?}");
    }
    let error = ended.stderr.trim_end();
    assert!(!error.contains('\n'), "{error}");
    assert!(error.ends_with('.'), "{error}");
    let sentences = error.matches(". ").count() + 1;
    assert!(sentences >= 2, "no remedy: {error}");
    let first = error.split(' ').next().unwrap();
    // The name of a file may stand first as it is.
    assert!(first.contains('.') || !first.starts_with(char::is_lowercase), "{error}");
    assert!(!error.contains("Error(") && !error.contains("Os {"), "{error}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn database(path: &Path) {
    execute(path, "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
}

#[test]
fn bad_input_ends_with_2_and_says_what_would_be_right() {
    let home = Home::new();
    let site = home.found("downtown");
    let pos = home.path("pos.db");
    database(&pos);

    let missing = home.path("missing.db");
    let ended = site.command(&["attach", "pos", text(&missing)]);
    assert_fails(&ended, 2, &["missing.db"]);
    assert!(!missing.exists(), "attach made the file");

    let no_database = home.path("letter.txt");
    std::fs::write(&no_database, "Dear customer, this is a letter and no database.".repeat(50))
        .unwrap();
    assert_fails(&site.command(&["attach", "pos", text(&no_database)]), 2, &["letter.txt"]);
    assert_fails(&site.command(&["attach", "pos", text(&home.path(""))]), 2, &[]);

    let elsewhere = home.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for command in [&["status"][..], &["run"], &["invite"], &["attach", "pos", text(&pos)]] {
        for dir in [&elsewhere, &home.path("nowhere")] {
            let ended = Site::at(dir.clone(), "nobody").command(command);
            assert_fails(&ended, 2, &["not a site's directory", "init"]);
        }
    }
    assert!(!home.path("nowhere").exists());
    assert_fails(&run_node(&["status"]), 2, &["--dir", "NODE_DIR"]);
    assert_fails(&site.command(&["detach", "unknown"]), 2, &["unknown", "status"]);
    assert_fails(&site.command(&["init", "--site", "again"]), 2, &["downtown"]);
}

#[test]
fn wrong_usage_ends_with_2() {
    let home = Home::new();
    let site = home.found("downtown");
    for arguments in [
        &["statsu"][..],
        &[],
        &["status", "--frobnicate"],
        &["attach"],
        &["attach", "UPPER", "x.db"],
        &["attach", "has space", "x.db"],
        &["attach", "-dash", "x.db"],
        &["attach", "con", "x.db"],
        &["attach", "0123456789012345678901234567890x", "x.db"],
        &["invite", "--expires", "soon"],
        &["join", "--site", "uptown"],
    ] {
        let ended = site.command(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
    assert!(site.command(&["statsu"]).stderr.contains("status"), "the nearest command is named");
    for name in ["", "Down Town", "con", "../up", "-x", "nul", "a.b"] {
        let ended = Site::at(home.path("other"), "other").command(&["init", "--site", name]);
        assert_eq!(ended.code, 2, "{name:?}: {ended:?}");
    }
    for address in ["nonsense", "host:", ":1", "host:0", "host:99999"] {
        let arguments = ["init", "--site", "x", "--address", address];
        let ended = Site::at(home.path("other"), "other").command(&arguments);
        assert_fails(&ended, 2, &["HOST:PORT"]);
    }
    assert!(!home.path("other").exists(), "nothing is made for bad input");
    for help in [&["--help"][..], &["--version"], &["attach", "--help"]] {
        let ended = run_node(help);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{help:?}");
    }
}

#[test]
fn what_a_rule_refuses_ends_with_1() {
    let home = Home::new();
    let (mut downtown, uptown) = home.two();
    let (pos, other) = (home.path("pos.db"), home.path("other.db"));
    database(&pos);
    database(&other);
    downtown.attach("pos", &pos);
    let refused = |site: &Site| {
        assert_fails(&site.command(&["attach", "pos", text(&other)]), 1, &["pos", "detach"]);
        assert_fails(&site.command(&["attach", "again", text(&pos)]), 1, &["already", "pos"]);
    };
    refused(&downtown);
    uptown.wait_for_mirror("downtown", "pos", &pos, 0);
    let mirror = uptown.mirror("downtown", "pos");
    assert_fails(&uptown.command(&["attach", "mine", text(&mirror)]), 1, &["mirror"]);
    // A link to it is the same file.
    let link = home.path("link.db");
    std::os::unix::fs::symlink(&pos, &link).unwrap();
    assert_fails(&downtown.command(&["attach", "again", text(&link)]), 1, &["already"]);
    downtown.stop();
    refused(&downtown);
    let stranger = home.found("stranger");
    assert_fails(&stranger.command(&["attach", "pos", text(&pos)]), 1, &[]);
}

#[test]
fn what_cannot_be_done_ends_with_3() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    assert_fails(&downtown.command(&["run"]), 3, &["Another process"]);
    assert!(downtown.is_alive());
    let address = downtown.address.unwrap().to_string();
    let second = home.found_with("second", &["--listen", &address]);
    assert_fails(&second.command(&["run"]), 3, &[&address]);

    // A file that an application never lets go.
    let pos = home.path("pos.db");
    database(&pos);
    let connection = rusqlite::Connection::open(&pos).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_fails(&downtown.command(&["attach", "pos", text(&pos)]), 3, &["pos.db"]);
    connection.execute_batch("COMMIT").unwrap();
    // Once it is let go, the same command works.
    downtown.attach("pos", &pos);
}

#[test]
fn the_port_of_the_first_run_is_kept() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    let first = downtown.address;
    downtown.stop();
    downtown.run();
    assert_eq!(downtown.address, first);
}

#[test]
fn an_unknown_setting_is_refused_with_the_nearest() {
    let home = Home::new();
    let site = home.found("downtown");
    let settings = site.dir.join("node.toml");
    std::fs::write(&settings, "[link]\nbatch_intervall = \"1s\"\n").unwrap();
    assert_fails(&site.command(&["run"]), 2, &["batch_intervall", "link.batch_interval"]);
    std::fs::write(&settings, "[link]\nbatch_interval = \"never\"\n").unwrap();
    assert_fails(&site.command(&["run"]), 2, &["never", "node.toml"]);
}

#[test]
fn init_makes_a_private_key_and_commented_settings() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let site = Site::at(home.path("downtown"), "downtown");
    site.done(&["init", "--site", "downtown"]);
    let mode = std::fs::metadata(site.dir.join("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let settings = std::fs::read_to_string(site.dir.join("node.toml")).unwrap();
    assert!(settings.contains("# batch_interval = \"1s\""), "{settings}");
}

#[test]
fn the_directory_may_be_named_by_the_environment() {
    let home = Home::new();
    let site = home.found("downtown");
    let output = Command::new(binary::node())
        .env("NODE_DIR", &site.dir)
        .args(["status", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["site"], "downtown");
}

#[test]
fn every_command_prints_one_json_document() {
    let home = Home::new();
    let mut site = Site::at(home.path("downtown"), "downtown");
    let pos = home.path("pos.db");
    database(&pos);
    let json = |site: &Site, arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.push("--json");
        let ended = site.command(&all);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
        ended.json()
    };
    let made = json(&site, &["init", "--site", "downtown", "--listen", "127.0.0.1:0"]);
    assert_eq!(made["site"], "downtown");
    for running in [false, true] {
        if running {
            site.run();
        }
        let attached = json(&site, &["attach", "pos", text(&pos)]);
        assert_eq!(attached["database"], "pos");
        assert_eq!(attached["tables"][0]["name"], "t");
        assert_eq!(json(&site, &["status"])["running"], running);
        assert_eq!(json(&site, &["detach", "pos"])["database"], "pos");
        let failed = site.command(&["detach", "pos", "--json"]);
        assert_eq!((failed.code, failed.stdout.lines().count()), (2, 1));
        assert_eq!(failed.json()["error"]["kind"], "usage");
    }
    let code = json(&site, &["invite"])["code"].as_str().unwrap().to_owned();
    let other = Site::at(home.path("uptown"), "uptown");
    let joined = json(&other, &["join", "--site", "uptown", "--listen", "127.0.0.1:0", &code]);
    assert_eq!(joined["group_id"], made["group_id"]);
    assert_ne!(joined["site_id"], made["site_id"]);
}

/// Whether `value` looks like `like`: the same fields at the least, of the same types; what is a
/// word ending in `?` there may be null.
fn assert_like(value: &Value, like: &Value, at: &str) {
    match (value, like) {
        (Value::Object(value), Value::Object(like)) => {
            for (key, like) in like {
                let (key, optional) = match key.strip_suffix('?') {
                    Some(key) => (key, true),
                    None => (key.as_str(), false),
                };
                match value.get(key) {
                    Some(Value::Null) if optional => {}
                    Some(field) => assert_like(field, like, &format!("{at}.{key}")),
                    None => panic!("{at}.{key} is missing"),
                }
            }
        }
        (Value::Array(values), Value::Array(likes)) => {
            if let Some(like) = likes.first() {
                assert!(!values.is_empty(), "{at} is empty");
                for (index, value) in values.iter().enumerate() {
                    assert_like(value, like, &format!("{at}[{index}]"));
                }
            }
        }
        (Value::String(value), Value::String(like)) if like == "TIME" => {
            let parts = value.len() >= 20 && value.ends_with('Z') && &value[10..11] == "T";
            assert!(parts, "{at}: {value} is no time in UTC");
        }
        (Value::Number(value), Value::Number(like)) => {
            assert!(like.is_f64() || !value.is_f64(), "{at}: {value}");
        }
        (value, like) => assert_eq!(
            std::mem::discriminant(value),
            std::mem::discriminant(like),
            "{at}: {value} is not like {like}"
        ),
    }
}

#[test]
fn status_tells_what_the_contract_says() {
    let home = Home::new();
    let (mut downtown, mut uptown) = home.two();
    let (pos, club) = (home.path("pos.db"), home.path("club.db"));
    database(&pos);
    database(&club);
    downtown.attach("pos", &pos);
    uptown.attach("club", &club);
    execute(&pos, "INSERT INTO t VALUES (1, 1)");
    execute(&club, "INSERT INTO t VALUES (1, 1)");
    uptown.wait_for_mirror("downtown", "pos", &pos, 1);
    downtown.wait_for_mirror("uptown", "club", &club, 1);
    downtown.wait_until_safe("pos");
    wait_until("the copy is told to be applied", PATIENCE, || {
        downtown.database("pos@downtown")["copies"][0]["as_of"].is_string()
    });
    let status = downtown.status();
    let like = json!({
        "site": "", "site_id": "", "group_id": "", "version": "", "running": true, "listen": "",
        "clock": {"offset_ms": 0, "ok": true}, "databases": [], "alarms": [],
        "peers": [{"site": "", "site_id": "", "state": "", "address": "", "rtt_ms": 0.5,
            "sent_bytes": 0, "received_bytes": 0, "last_seen": "TIME", "clock_offset_ms": 0}],
    });
    assert_like(&status, &like, "status");
    let any = json!({"name": "", "database_id": "", "mode": "", "site": "", "path": "",
        "writer": "", "epoch": 0, "sequence": 0, "alarms": []});
    let own = json!({"pending_changes": 0, "safe": true, "copies": [
        {"site": "", "durable_sequence": 0, "applied_sequence": 0, "as_of": "TIME", "behind_s": 0.5}]});
    let mirror = json!({"applied_sequence": 0, "as_of": "TIME", "behind_s": 0.5});
    let (pos_status, club_status) =
        (downtown.database("pos@downtown"), downtown.database("club@uptown"));
    assert_like(&pos_status, &any, "pos");
    assert_like(&pos_status, &own, "pos");
    assert_like(&club_status, &any, "club");
    assert_like(&club_status, &mirror, "club");
    assert_eq!(status["databases"].as_array().unwrap().len(), 2);
    assert_eq!(pos_status["mode"], "mirror");
    assert_eq!(pos_status["writer"], "downtown");
    assert_eq!(pos_status["path"], text(&pos));
    assert_eq!(club_status["path"], text(&downtown.mirror("uptown", "club")));
    assert_eq!(status["listen"], downtown.address.unwrap().to_string());
    assert_eq!(status["peers"][0]["state"], "connected");
    assert_eq!(downtown.command(&["status", "--check"]).code, 0);

    // The other site off: what is written here now is on one disk only.
    uptown.stop();
    wait_until("it is seen to be off", PATIENCE, || {
        downtown.peer("uptown")["state"] != "connected"
    });
    assert_eq!(downtown.command(&["status", "--check"]).code, 0, "what was sent is safe still");
    execute(&pos, "INSERT INTO t VALUES (2, 2)");
    wait_until("it is counted", PATIENCE, || downtown.database("pos@downtown")["safe"] == false);
    assert_eq!(downtown.command(&["status", "--check"]).code, 1);
    wait_until("it is numbered", PATIENCE, || {
        downtown.database("pos@downtown")["pending_changes"] == 0
    });
    assert_eq!(downtown.database("pos@downtown")["safe"], false);
    let behind = downtown.database("pos@downtown")["copies"][0]["behind_s"].as_f64().unwrap();
    assert!(behind > 0.0);
    assert_eq!(downtown.status()["peers"][0]["rtt_ms"], Value::Null);

    // This node off, too.
    downtown.stop();
    execute(&pos, "INSERT INTO t VALUES (3, 3); INSERT INTO t VALUES (4, 4)");
    let off = downtown.status();
    assert_eq!((&off["running"], &off["listen"]), (&json!(false), &Value::Null));
    let database = downtown.database("pos@downtown");
    assert_eq!(database["safe"], false);
    assert_eq!(database["pending_changes"], 2);
    assert_eq!(downtown.command(&["status", "--check"]).code, 1);
}

#[test]
fn status_watch_prints_a_document_a_line() {
    use std::io::{BufRead, BufReader};
    let home = Home::new();
    let site = home.found("downtown");
    let mut watch = Command::new(binary::node())
        .arg("--dir")
        .arg(&site.dir)
        .args(["status", "--watch", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines().take(2);
    let documents: Vec<Value> =
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[1]["site"], "downtown");
}

#[test]
fn a_damaged_store_is_told_and_not_run_on() {
    let home = Home::new();
    let mut site = home.found("downtown");
    site.run();
    site.stop();
    let mut store = OpenOptions::new().write(true).open(site.dir.join("node.db")).unwrap();
    store.write_all(&[0x5a; 4096]).unwrap();
    drop(store);
    assert_fails(&site.command(&["run"]), 3, &["node.db"]);
    assert_fails(&site.command(&["status"]), 3, &["node.db"]);
}

#[test]
fn an_interrupted_attach_is_told_and_repeated() {
    let home = Home::new();
    let mut site = home.found("downtown");
    let pos = home.path("pos.db");
    database(&pos);
    execute(
        &pos,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
        INSERT INTO t SELECT i, i FROM n",
    );
    let mut attach = Command::new(binary::node())
        .arg("--dir")
        .arg(&site.dir)
        .args(["attach", "pos", text(&pos)])
        .spawn()
        .unwrap();
    wait_until("the triggers are in", PATIENCE, || {
        sqlite3(
            &pos,
            "SELECT count(*) FROM sqlite_master WHERE name LIKE '\\_holdfast%' ESCAPE '\\'",
        ) != "0"
    });
    attach.kill().unwrap();
    assert!(!attach.wait().unwrap().success(), "it was too fast to be interrupted");
    site.run();
    let alarm = &site.status()["alarms"][0];
    assert_eq!(alarm["severity"], "critical");
    assert!(alarm["remedy"].as_str().unwrap().contains("attach"), "{alarm}");
    assert_eq!(site.command(&["status", "--check"]).code, 1);
    site.attach("pos", &pos);
    assert_eq!(site.status()["alarms"], json!([]));
}
