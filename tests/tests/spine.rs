//! What is committed at one site is at the others: attaching, writing, detaching, with several
//! kinds of applications.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use node::demo::shop::Shop;
use rusqlite::Connection;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tests::application::{TILL, Till, check_sales, execute, number, open, python, sqlite3};
use tests::site::Home;
use tests::wait::{PATIENCE, wait_until, wait_until_equal};

/// A sample shop of about 500 rows.
fn shop(path: &Path) -> (Connection, Shop) {
    let mut connection = open(path);
    let shop = Shop::create(&mut connection, 7, 30).unwrap();
    (connection, shop)
}

fn work(connection: &mut Connection, shop: &mut Shop, rounds: usize) {
    for _ in 0..rounds {
        shop.sell(connection).unwrap();
        shop.edit(connection).unwrap();
        shop.return_goods(connection).unwrap();
        shop.new_product(connection).unwrap();
    }
}

#[test]
fn what_two_sites_write_is_at_the_other() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let (pos, club) = (home.path("pos.db"), home.path("club.db"));
    let (mut at_downtown, mut downtown_shop) = shop(&pos);
    downtown.attach("pos", &pos);
    let (mut at_uptown, mut uptown_shop) = shop(&club);
    uptown.attach("pos", &club);
    work(&mut at_downtown, &mut downtown_shop, 20);
    work(&mut at_uptown, &mut uptown_shop, 20);
    uptown.wait_for_mirror("downtown", "pos", &pos, 400);
    downtown.wait_for_mirror("uptown", "pos", &club, 400);
    downtown.wait_until_safe("pos");
    uptown.wait_until_safe("pos");
    assert_eq!(downtown.command(&["status", "--check"]).code, 0);
}

#[test]
fn three_sites_hold_all_three_databases() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let mut harbour = home.join("harbour", &uptown.invite());
    harbour.run();
    let sites = [&downtown, &uptown, &harbour];
    let files = ["a.db", "b.db", "c.db"].map(|name| home.path(name));
    for (site, file) in sites.iter().zip(&files) {
        let (mut connection, mut till) = shop(file);
        site.attach("till", file);
        work(&mut connection, &mut till, 5);
    }
    for (origin, file) in sites.iter().zip(&files) {
        for site in sites.iter().filter(|site| site.name != origin.name) {
            site.wait_for_mirror(&origin.name, "till", file, 400);
        }
        origin.wait_until_safe("till");
        wait_until("both copies are whole", PATIENCE, || {
            let database = origin.database(&format!("till@{}", origin.name));
            let copies = database["copies"].as_array().cloned().unwrap_or_default();
            copies.len() == 2
                && copies.iter().all(|copy| copy["applied_sequence"] == database["sequence"])
        });
    }
}

#[test]
fn the_sqlite3_program_is_an_application() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let pos = home.path("pos.db");
    sqlite3(&pos, "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, w TEXT)");
    downtown.attach("pos", &pos);
    sqlite3(&pos, "INSERT INTO t (w) VALUES ('one'), ('two'), ('three')");
    sqlite3(
        &pos,
        "BEGIN; DELETE FROM t WHERE w = 'two'; UPDATE t SET w = 'drei' WHERE id = 3; COMMIT",
    );
    uptown.wait_for_mirror("downtown", "pos", &pos, 2);
    let mirror = uptown.mirror("downtown", "pos");
    assert_eq!(sqlite3(&mirror, "SELECT group_concat(w) FROM t"), "one,drei");
}

const PYTHON_APPLICATION: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
assert db.execute("PRAGMA journal_mode").fetchone()[0] == sys.argv[2]
for n in range(60):
    with db:
        cursor = db.execute("INSERT INTO notes (what) VALUES (?)", ("note %d" % n,))
        assert cursor.rowcount == 1
        assert db.execute("SELECT max(id) FROM notes").fetchone()[0] == cursor.lastrowid
    if n % 3 == 0:
        with db:
            assert db.execute("UPDATE notes SET what = what || '!' WHERE id = ?", (n + 1,)).rowcount == 1
    if n % 5 == 4:
        with db:
            assert db.execute("DELETE FROM notes WHERE id = ?", (n,)).rowcount == 1
print(db.execute("SELECT count(*) FROM notes").fetchone()[0])
"#;

fn python_in(mode: &str) {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let pos = home.path("pos.db");
    sqlite3(
        &pos,
        &format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE notes (id INTEGER PRIMARY KEY, what TEXT)"
        ),
    );
    downtown.attach("pos", &pos);
    assert_eq!(python(PYTHON_APPLICATION, &[&pos, Path::new(mode)]), "48");
    uptown.wait_for_mirror("downtown", "pos", &pos, 48);
}

#[test]
fn pythons_sqlite_is_an_application_in_wal_mode() {
    python_in("wal");
}

#[test]
fn pythons_sqlite_is_an_application_in_delete_mode() {
    python_in("delete");
}

#[test]
fn attach_switches_to_a_write_ahead_log_when_told_to() {
    let home = Home::new();
    let downtown = home.found("downtown");
    let pos = home.path("pos.db");
    sqlite3(&pos, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    downtown.done(&["attach", "pos", pos.to_str().unwrap(), "--wal"]);
    assert_eq!(sqlite3(&pos, "PRAGMA journal_mode"), "wal");
}

#[test]
fn a_database_with_content_is_attached_while_it_is_written() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let pos = home.path("pos.db");
    execute(&pos, "PRAGMA journal_mode = WAL");
    execute(&pos, TILL);
    execute(
        &pos,
        "CREATE TABLE stock (id INTEGER PRIMARY KEY, what TEXT, blob BLOB);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO stock SELECT i, 'thing ' || i, randomblob(60) FROM n",
    );
    let till = Till::open(&pos, Duration::from_millis(3));
    wait_until("the till sells", PATIENCE, || number(&pos, "SELECT sales FROM total") > 5);
    downtown.attach("pos", &pos);
    let at_attach = number(&pos, "SELECT sales FROM total");
    wait_until("it sells on", PATIENCE, || {
        number(&pos, "SELECT sales FROM total") > at_attach + 50
    });
    let sales = till.close();
    uptown.wait_for_mirror("downtown", "pos", &pos, 20_000);
    check_sales(&uptown.mirror("downtown", "pos"), sales);
    downtown.wait_until_safe("pos");
}

#[test]
fn a_database_is_attached_while_the_node_is_off() {
    let home = Home::new();
    let (mut downtown, uptown) = home.two();
    downtown.stop();
    let pos = home.path("pos.db");
    let (mut connection, mut till) = shop(&pos);
    downtown.attach("pos", &pos);
    work(&mut connection, &mut till, 5);
    assert_eq!(downtown.database("pos@downtown")["safe"], false);
    downtown.run();
    uptown.wait_for_mirror("downtown", "pos", &pos, 400);
    downtown.wait_until_safe("pos");
}

/// Everything in the file's schema that is the node's.
const OURS: &str = "SELECT count(*) FROM sqlite_master WHERE name LIKE '\\_holdfast%' ESCAPE '\\' \
    OR sql LIKE '%\\_holdfast%' ESCAPE '\\'";

#[test]
fn detach_leaves_nothing_and_the_application_works_on() {
    let home = Home::new();
    let (mut downtown, uptown) = home.two();
    let pos = home.path("pos.db");
    let (mut connection, mut till) = shop(&pos);
    let schema = sqlite3(&pos, ".schema --nosys");
    downtown.attach("pos", &pos);
    assert!(number(&pos, OURS) > 0);
    work(&mut connection, &mut till, 5);
    uptown.wait_for_mirror("downtown", "pos", &pos, 400);
    downtown.done(&["detach", "pos"]);
    assert_eq!(number(&pos, OURS), 0);
    assert_eq!(sqlite3(&pos, ".schema --nosys"), schema);
    work(&mut connection, &mut till, 5);
    assert_eq!(sqlite3(&pos, "PRAGMA integrity_check"), "ok");
    assert_eq!(downtown.database("pos@downtown"), Value::Null);

    // And so it does while the node is off.
    downtown.attach("again", &pos);
    downtown.stop();
    downtown.done(&["detach", "again"]);
    assert_eq!(number(&pos, OURS), 0);
    work(&mut connection, &mut till, 1);
}

#[test]
fn a_database_attached_again_under_its_name_is_followed_by_the_mirror() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let (first, second) = (home.path("first.db"), home.path("second.db"));
    let (mut connection, mut till) = shop(&first);
    downtown.attach("pos", &first);
    work(&mut connection, &mut till, 3);
    uptown.wait_for_mirror("downtown", "pos", &first, 400);
    downtown.done(&["detach", "pos"]);
    // What is written in between was never noted.
    work(&mut connection, &mut till, 3);
    downtown.attach("pos", &first);
    work(&mut connection, &mut till, 3);
    uptown.wait_for_mirror("downtown", "pos", &first, 400);

    downtown.done(&["detach", "pos"]);
    execute(&second, "PRAGMA journal_mode = WAL; CREATE TABLE other (id INTEGER PRIMARY KEY, w)");
    downtown.attach("pos", &second);
    execute(&second, "INSERT INTO other (w) VALUES ('new'), (x'00'), (1.5)");
    wait_until_equal(&second, &uptown.mirror("downtown", "pos"), 3);
    downtown.wait_until_safe("pos");
}

#[test]
fn a_file_made_at_the_place_of_a_mirror_too_early_does_not_pass_for_it() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let pos = home.path("pos.db");
    let (_connection, _till) = shop(&pos);
    let mirror = uptown.mirror("downtown", "pos");
    // As every SQLite does that is told to open what does not exist yet.
    std::fs::create_dir_all(mirror.parent().unwrap()).unwrap();
    assert_eq!(sqlite3(&mirror, "PRAGMA user_version"), "0");
    std::fs::write(&mirror, "").unwrap();
    downtown.attach("pos", &pos);
    uptown.wait_for_mirror("downtown", "pos", &pos, 400);
}
