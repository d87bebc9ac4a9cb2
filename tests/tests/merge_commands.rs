//! What people see of a shared database and do with it: conflicts, rules, status, detach.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use tests::shop::{Shop, wait_until_alike};
use tests::site::Home;
use tests::wait::{PATIENCE, wait_until};

const CLUB: &str = "
    CREATE TABLE member (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, card TEXT UNIQUE);
    CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER NOT NULL, shelf TEXT);
    INSERT INTO member (name, card) VALUES ('Ann', 'A1'), ('Bob', 'B1');
    INSERT INTO stock VALUES ('tea', 10, 'A'), ('salt', 5, 'B');";

/// Two shops that edited one value while uptown's node was off; gives the conflict's number at
/// each.
fn edited_apart(home: &Home) -> (Shop, Shop, [i64; 2]) {
    let (downtown, mut uptown) = Shop::two(home, CLUB);
    uptown.site.stop();
    downtown.run("UPDATE member SET name = 'Anna' WHERE id = 1");
    wait_until("it is numbered", PATIENCE, || {
        let club = downtown.club();
        club["pending_changes"] == 0 && club["safe"] == false
    });
    uptown.run("UPDATE member SET name = 'Anne' WHERE id = 1");
    uptown.site.run();
    wait_until_alike(&[&downtown, &uptown]);
    let ids = [&downtown, &uptown].map(|shop| {
        let conflicts = shop.conflicts();
        let [told] = &conflicts[..] else { panic!("{conflicts:#?}") };
        assert_eq!(
            (&told["database"], &told["table"], &told["key"], &told["column"], &told["kind"]),
            (&json!("club"), &json!("member"), &json!([1]), &json!("name"), &json!("edit")),
        );
        assert_eq!(
            (&told["winner"]["value"], &told["loser"]["value"]),
            (&json!("Anne"), &json!("Anna"))
        );
        assert_eq!(
            (&told["winner"]["site"], &told["loser"]["site"]),
            (&json!("uptown"), &json!("downtown"))
        );
        assert_eq!(told["decided"], false);
        told["id"].as_i64().unwrap()
    });
    (downtown, uptown, ids)
}

fn name_of_ann(shop: &Shop) -> String {
    shop.rows("SELECT name FROM member WHERE id = 1").remove(0)
}

#[test]
fn what_lost_is_shown_and_can_be_kept_at_both_sites() {
    let home = Home::new();
    let (downtown, uptown, [id, _]) = edited_apart(&home);
    assert_eq!(name_of_ann(&downtown), "Anne");
    let id = id.to_string();
    let text = downtown.site.done(&["conflicts", "show", &id]);
    for word in ["Anna", "Anne", "downtown", "uptown", "member 1 name", &format!("keep {id}")] {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    let shown = downtown.site.command(&["conflicts", "show", &id, "--json"]);
    assert_eq!(shown.json()["loser"]["value"], "Anna", "{shown:?}");
    assert!(downtown.site.done(&["conflicts"]).contains("Anna"));
    assert!(downtown.site.done(&["status"]).contains("1 to look at with `conflicts`"));

    let kept = downtown.site.command(&["conflicts", "keep", &id, "loser", "--json"]);
    assert_eq!(kept.code, 0, "{kept:?}");
    assert_eq!((&kept.json()["database"], &kept.json()["kept"]), (&json!("club"), &json!("loser")));
    for shop in [&downtown, &uptown] {
        wait_until("what lost counts", PATIENCE, || name_of_ann(shop) == "Anna");
    }
    wait_until_alike(&[&downtown, &uptown]);
    assert_eq!((downtown.conflicts().len(), downtown.club()["conflicts"].as_i64()), (0, Some(0)));
    // Decided is decided.
    assert_eq!(downtown.site.command(&["conflicts", "keep", &id, "loser"]).code, 1);
    assert_eq!(downtown.site.command(&["conflicts", "show", "99999"]).code, 2);
}

#[test]
fn what_lost_can_be_kept_while_the_node_is_off() {
    let home = Home::new();
    let (downtown, mut uptown, [_, id]) = edited_apart(&home);
    uptown.site.stop();
    let id = id.to_string();
    uptown.site.done(&["conflicts", "keep", &id, "loser"]);
    assert_eq!(uptown.conflicts(), [Value::Null; 0]);
    uptown.site.run();
    for shop in [&downtown, &uptown] {
        wait_until("what lost counts", PATIENCE, || name_of_ann(shop) == "Anna");
    }
    wait_until_alike(&[&downtown, &uptown]);
}

#[test]
fn a_deleted_row_can_be_brought_back_and_a_mark_be_accepted() {
    let home = Home::new();
    let (downtown, mut uptown) = Shop::two(&home, CLUB);
    uptown.site.stop();
    downtown.run(
        "UPDATE stock SET shelf = 'Z' WHERE sku = 'salt';
         INSERT INTO member (name, card) VALUES ('Cid', 'C1')",
    );
    wait_until("it is numbered", PATIENCE, || {
        let club = downtown.club();
        club["pending_changes"] == 0 && club["safe"] == false
    });
    uptown.run(
        "DELETE FROM stock WHERE sku = 'salt';
         INSERT INTO member (name, card) VALUES ('Dora', 'C1')",
    );
    uptown.site.run();
    wait_until_alike(&[&downtown, &uptown]);
    assert_eq!(uptown.kinds(), ["delete-edit", "marked"]);
    assert_eq!(uptown.rows("SELECT count(*) FROM stock"), ["1"]);
    let id = |kind: &str| {
        let conflicts = uptown.conflicts();
        let found = conflicts.iter().find(|told| told["kind"] == kind).unwrap();
        found["id"].as_i64().unwrap().to_string()
    };
    uptown.site.done(&["conflicts", "keep", &id("delete-edit"), "loser"]);
    for shop in [&downtown, &uptown] {
        wait_until("the row is back", PATIENCE, || {
            shop.rows("SELECT n || shelf FROM stock WHERE sku = 'salt'") == ["5Z"]
        });
    }
    let marked = uptown.rows("SELECT card FROM member WHERE name = 'Dora'").remove(0);
    assert!(marked.starts_with("C1~uptown~"), "{marked}");
    uptown.site.done(&["conflicts", "keep", &id("marked"), "loser"]);
    // The mark is the meaning now: it stays when the value is free.
    downtown.run("DELETE FROM member WHERE name = 'Cid'");
    wait_until_alike(&[&downtown, &uptown]);
    for shop in [&downtown, &uptown] {
        assert_eq!(shop.rows("SELECT card FROM member WHERE name = 'Dora'"), [marked.as_str()]);
        assert!(!shop.kinds().contains(&"marked".to_owned()));
    }
}

#[test]
fn rules_are_shown_set_and_known_at_every_site() {
    let home = Home::new();
    let (downtown, uptown) = Shop::two(&home, CLUB);
    let rules = |shop: &Shop| {
        let ended = shop.site.command(&["policy", "club", "--json"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.json()
    };
    let before = rules(&downtown);
    assert_eq!(before["database"], "club");
    assert!(before["policy"].as_array().unwrap().iter().all(|rule| rule["default"] == true));
    let set = downtown.site.command(&["policy", "club", "stock.n", "counter", "--json"]);
    assert_eq!(set.code, 0, "{set:?}");
    uptown.site.done(&["policy", "club", "member", "whole-row"]);
    for shop in [&downtown, &uptown] {
        wait_until("both rules are there", PATIENCE, || {
            let rules = rules(shop);
            let has = |table: &str, column: Value, words: &str| {
                rules["policy"].as_array().unwrap().iter().any(|rule| {
                    rule["table"] == table
                        && rule["column"] == column
                        && rule["rule"] == words
                        && rule["default"] == false
                })
            };
            has("stock", json!("n"), "counter") && has("member", Value::Null, "whole-row")
        });
        let text = shop.site.done(&["policy", "club"]);
        assert!(text.contains("counter") && text.contains("whole-row"), "{text}");
    }
    for (wrong, code) in [
        (&["policy", "club", "stock.n", "sum"][..], 2),
        (&["policy", "club", "stock.weight", "counter"], 2),
        (&["policy", "club", "shelf", "same-key", "merge"], 2),
        (&["policy", "unknown"], 2),
    ] {
        let ended = downtown.site.command(wrong);
        assert_eq!(ended.code, code, "{wrong:?}: {ended:?}");
    }
    wait_until_alike(&[&downtown, &uptown]);
}

#[test]
fn status_tells_what_the_contract_says_of_a_shared_database() {
    let home = Home::new();
    let (downtown, uptown) = Shop::two(&home, CLUB);
    uptown.run("UPDATE stock SET n = 9 WHERE sku = 'tea'");
    wait_until("uptown's change is at downtown", PATIENCE, || {
        downtown.rows("SELECT n FROM stock WHERE sku = 'tea'") == ["9"]
    });
    wait_until_alike(&[&downtown, &uptown]);
    let (here, there) = (downtown.club(), uptown.club());
    assert_eq!(here["database_id"], there["database_id"]);
    for (club, other, shop) in [(&here, &there, &downtown), (&there, &here, &uptown)] {
        let name = if shop.site.name == "downtown" { "uptown" } else { "downtown" };
        assert_eq!(club["name"], "club");
        assert_eq!(
            (&club["mode"], &club["site"], &club["writer"]),
            (&json!("shared"), &Value::Null, &Value::Null)
        );
        assert_eq!(club["path"], json!(shop.path.to_str().unwrap()));
        assert_eq!(club["epoch"], 1);
        assert_eq!((&club["pending_changes"], &club["safe"]), (&json!(0), &json!(true)));
        assert_eq!(
            (&club["conflicts"], &club["parked"], &club["alarms"]),
            (&json!(0), &json!(0), &json!([]))
        );
        let [origin] = &club["origins"].as_array().unwrap()[..] else { panic!("{club:#}") };
        assert_eq!(origin["site"], name);
        assert_eq!(
            (&origin["sequence"], &origin["applied_sequence"]),
            (&other["sequence"], &other["sequence"])
        );
        let [copy] = &club["copies"].as_array().unwrap()[..] else { panic!("{club:#}") };
        assert_eq!(copy["site"], name);
        assert_eq!(
            (&copy["durable_sequence"], &copy["applied_sequence"]),
            (&club["sequence"], &club["sequence"])
        );
        assert!(copy["as_of"].is_string() && copy["behind_s"] == 0.0, "{copy}");
        let text = shop.site.done(&["status"]);
        assert!(text.contains("club  SAFE"), "{text}");
        assert_eq!(shop.site.command(&["status", "--check"]).code, 0);
    }
}

#[test]
fn detach_leaves_the_file_clean_and_what_it_holds() {
    let home = Home::new();
    let (downtown, mut uptown) = Shop::two(&home, CLUB);
    uptown.run("INSERT INTO member (name, card) VALUES ('Eve', 'E1')");
    wait_until_alike(&[&downtown, &uptown]);
    uptown.site.done(&["detach", "club"]);
    uptown.site.stop();
    downtown.site.done(&["detach", "club"]);
    for shop in [&downtown, &uptown] {
        let ours = "SELECT count(*) FROM sqlite_master WHERE name LIKE '\\_holdfast%' ESCAPE '\\'
                    OR sql LIKE '%\\_holdfast%' ESCAPE '\\'";
        assert_eq!(shop.rows(ours), ["0"]);
        assert_eq!(
            shop.rows("SELECT count(*) FROM sqlite_sequence WHERE name LIKE '\\_h%' ESCAPE '\\'"),
            ["0"]
        );
        shop.check();
        shop.run("INSERT INTO member (name, card) VALUES ('Fay', 'F1'); DELETE FROM stock");
        assert_eq!(
            shop.rows("SELECT name FROM member ORDER BY name"),
            ["Ann", "Bob", "Eve", "Fay"]
        );
    }
}
