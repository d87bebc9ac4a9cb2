//! The worst a status could say is "safe" where it is not: what happens to the application's file
//! behind the node's back, with the node off.

use std::fs;
use std::path::PathBuf;
use tests::application::{execute, open};
use tests::site::{Home, Site};

/// A safe database whose node is off, and a copy of its file taken before its newest change.
fn resting(home: &Home) -> (Site, Site, PathBuf, PathBuf) {
    let (mut downtown, uptown) = home.two();
    let path = home.path("shop.db");
    execute(&path, "CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER)");
    downtown.attach("pos", &path);
    execute(&path, "INSERT INTO sale (cents) VALUES (100)");
    downtown.wait_until_safe("pos");
    let older = home.path("older.db");
    let connection = open(&path);
    connection.execute("VACUUM INTO ?", [older.to_str().unwrap()]).unwrap();
    drop(connection);
    for cents in 0..20 {
        execute(&path, &format!("INSERT INTO sale (cents) VALUES ({cents})"));
    }
    downtown.wait_until_safe("pos");
    downtown.stop();
    assert_eq!(downtown.database("pos@downtown")["safe"], true);
    (downtown, uptown, path, older)
}

#[test]
fn an_older_copy_put_in_its_place_is_not_called_safe() {
    let home = Home::new();
    let (mut downtown, _uptown, path, older) = resting(&home);
    for ending in ["-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(ending);
        let _ = fs::remove_file(name);
    }
    fs::copy(&older, &path).unwrap();
    execute(&path, "INSERT INTO sale (cents) VALUES (777)");
    assert_eq!(downtown.database("pos@downtown")["safe"], false, "with the node off");
    downtown.run();
    tests::wait::wait_until("the alarm", std::time::Duration::from_secs(60), || {
        let status = downtown.status();
        status["alarms"].as_array().is_some_and(|alarms| !alarms.is_empty())
    });
    assert_eq!(downtown.database("pos@downtown")["safe"], false, "with the node running");
    assert_eq!(downtown.command(&["status", "--check"]).code, 1);
}

#[test]
fn changes_behind_a_schema_that_moved_are_not_called_safe() {
    let home = Home::new();
    let (mut downtown, _uptown, path, _) = resting(&home);
    // Rebuilding the table drops our triggers: what is written then leaves no note.
    execute(
        &path,
        "CREATE TABLE new (id INTEGER PRIMARY KEY, cents INTEGER, at TEXT);
         INSERT INTO new SELECT id, cents, NULL FROM sale;
         DROP TABLE sale;
         ALTER TABLE new RENAME TO sale;
         INSERT INTO sale (cents) VALUES (778)",
    );
    assert_eq!(downtown.database("pos@downtown")["safe"], false, "with the node off");
    downtown.run();
    downtown.wait_until_safe("pos");
    assert_eq!(downtown.database("pos@downtown")["pending_changes"], 0);
}
