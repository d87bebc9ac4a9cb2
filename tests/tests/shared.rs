//! Databases that the group shares, seen from outside: who may attach what, and what is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::path::Path;
use tests::application::{execute, sqlite3};
use tests::site::{Ended, Home, Site};
use tests::wait::{PATIENCE, wait_until, wait_until_equal};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn database(path: &Path, rows: u32) {
    execute(
        path,
        "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
    );
    for id in 0..rows {
        execute(path, &format!("INSERT INTO t VALUES ({id}, {id})"));
    }
}

fn assert_fails(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, code, "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in {ended:?}");
    }
}

/// Waits until the first content of a shared database is at a site that only keeps it.
fn wait_until_kept(site: &Site, name: &str) {
    wait_until("the first copy is there", PATIENCE, || {
        let database = site.database(name);
        !database.is_null() && database["first_copy"].is_null()
    });
}

#[test]
fn the_words_of_attach_fit_together() {
    let home = Home::new();
    let site = home.found("downtown");
    let club = home.path("club.db");
    database(&club, 1);
    let attach = |more: &[&str]| {
        let mut all = vec!["attach", "club", text(&club)];
        all.extend(more);
        site.command(&all)
    };
    assert_fails(&attach(&["--mode", "both"]), 2, &["both"]);
    assert_fails(&attach(&["--mode", "shared", "--adopt", "--merge"]), 2, &["--merge"]);
    assert_fails(&attach(&["--convert-keys"]), 2, &["--mode shared"]);
    assert_fails(&attach(&["--mode", "shared", "--adopt"]), 1, &["shares no database", "--adopt"]);
    assert_fails(&attach(&["--merge"]), 1, &["shares no database"]);
    assert_eq!(site.status()["databases"], json!([]));
    let missing = home.path("missing.db");
    let ended = site.command(&["attach", "club", text(&missing), "--mode", "shared"]);
    assert_fails(&ended, 2, &["missing.db"]);
    assert!(!missing.exists());
}

#[test]
fn a_database_is_shared_joined_left_and_joined_again() {
    let home = Home::new();
    let (mut downtown, mut uptown) = home.two();
    let (club, copy) = (home.path("club.db"), home.path("copy.db"));
    database(&club, 3);
    let attached = downtown.command(&["attach", "club", text(&club), "--mode", "shared", "--json"]);
    assert_eq!((attached.code, &attached.json()["mode"]), (0, &json!("shared")), "{attached:?}");

    wait_until_kept(&uptown, "club");
    let kept = uptown.database("club");
    assert_eq!((&kept["mode"], &kept["path"]), (&json!("shared"), &json!("")));
    assert_eq!((&kept["site"], &kept["writer"]), (&Value::Null, &Value::Null));
    assert_eq!((kept.get("safe"), kept.get("copies")), (None, None));
    assert_eq!(
        kept["origins"],
        json!([{"site": "downtown", "sequence": 1, "applied_sequence": 0}])
    );
    wait_until("it is safe", PATIENCE, || downtown.database("club")["safe"] == true);
    let own = downtown.database("club");
    assert_eq!(
        (&own["site"], &own["writer"], &own["epoch"]),
        (&Value::Null, &Value::Null, &json!(1))
    );
    assert_eq!((&own["conflicts"], &own["parked"]), (&json!(0), &json!(0)));
    assert_eq!(own["origins"], json!([]));
    assert_eq!(own["copies"][0]["site"], "uptown");
    assert_eq!(own["path"], text(&club));
    let told = uptown.done(&["status"]);
    assert!(told.contains("kept here"), "{told}");

    // Neither its name nor its content may be something else.
    let other = home.path("other.db");
    database(&other, 4);
    let mirror = uptown.command(&["attach", "club", text(&other), "--mode", "mirror"]);
    assert_fails(&mirror, 1, &["shares", "--mode shared"]);
    let refused = uptown.command(&["attach", "club", text(&other)]);
    assert_fails(&refused, 1, &["4 rows", "3 in the group's", "--adopt"]);
    let both = ["attach", "club", text(&other), "--merge", "--adopt"];
    assert_fails(&uptown.command(&both), 2, &["--adopt"]);

    uptown.done(&["attach", "club", text(&copy)]);
    wait_until_equal(&club, &copy, 3);
    let joined = uptown.database("club");
    assert_eq!(&joined["path"], &json!(text(&copy)));
    wait_until("it is heard of", PATIENCE, || {
        downtown.database("club")["origins"][0]["site"] == "uptown"
    });
    let sequence = |site: &Site| site.database("club")["sequence"].as_u64().unwrap();
    let before = sequence(&uptown);
    execute(&copy, "UPDATE t SET v = 'new' WHERE id = 0");
    wait_until("it is numbered", PATIENCE, || {
        sequence(&uptown) > before && uptown.database("club")["safe"] == true
    });

    uptown.done(&["detach", "club"]);
    assert_eq!(uptown.database("club")["path"], "");
    let left =
        sqlite3(&copy, "SELECT count(*) FROM sqlite_master WHERE name LIKE '\\_h%' ESCAPE '\\'");
    assert_eq!(left, "0");

    // With the node off as well, and with the former file set aside.
    uptown.stop();
    let adopted = uptown.command(&["attach", "club", text(&other), "--adopt", "--json"]);
    assert_eq!(adopted.code, 0, "{adopted:?}");
    let aside = adopted.json()["set_aside"].as_str().unwrap().to_owned();
    assert_eq!(sqlite3(Path::new(&aside), "SELECT count(*) FROM t"), "4");
    uptown.run();
    let again = uptown.database("club");
    assert_eq!((&again["epoch"], &again["path"]), (&json!(2), &json!(text(&other))));
    // What it had written before it left is there again.
    wait_until_equal(&club, &other, 3);
    let before = sequence(&uptown);
    execute(&other, "UPDATE t SET v = 'newer' WHERE id = 0");
    wait_until("it is numbered", PATIENCE, || sequence(&uptown) > before);
    wait_until("it is at downtown", PATIENCE, || {
        sqlite3(&club, "SELECT v FROM t WHERE id = 0") == "newer"
    });

    // Attached once more in one run of the node, it is looked after as before.
    uptown.done(&["detach", "club"]);
    let third = home.path("third.db");
    uptown.done(&["attach", "club", text(&third)]);
    wait_until_equal(&club, &third, 3);
    execute(&third, "UPDATE t SET v = 'newest' WHERE id = 0");
    wait_until("it is at downtown", PATIENCE, || {
        sqlite3(&club, "SELECT v FROM t WHERE id = 0") == "newest"
    });
    assert_eq!(downtown.status()["alarms"], json!([]));
    downtown.stop();
    uptown.stop();
}

#[test]
fn what_has_not_come_yet_can_t_be_joined() {
    let home = Home::new();
    let (mut downtown, mut uptown) = home.two();
    let club = home.path("club.db");
    database(&club, 1);
    uptown.stop();
    downtown.done(&["attach", "club", text(&club), "--mode", "shared"]);
    // As far as uptown knows, nobody shares it.
    let copy = home.path("copy.db");
    assert_fails(&uptown.command(&["attach", "club", text(&copy)]), 2, &["copy.db"]);
    uptown.run();
    wait_until_kept(&uptown, "club");
    uptown.stop();
    uptown.done(&["attach", "club", text(&copy)]);
    assert_eq!(sqlite3(&copy, "SELECT count(*) FROM t"), "1");
    downtown.stop();
}
