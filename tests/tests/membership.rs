//! Who gets into a group and who does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use protocol::invitation::{Invitation, Secret};
use serde_json::Value;
use tests::application::execute;
use tests::relay::Relay;
use tests::site::{Ended, Home, Site};
use tests::wait::{PATIENCE, wait_until};

/// `join` in a directory of the home, whatever comes of it.
fn try_join(home: &Home, name: &str, code: &str) -> Ended {
    let site = Site::at(home.path(name), name);
    site.command(&["join", "--site", name, "--listen", "127.0.0.1:0", code])
}

fn assert_refused(ended: &Ended, code: i32, word: &str) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(ended.stderr.contains(word), "{word:?} is not in {ended:?}");
    assert_eq!(ended.stdout, "");
}

fn names(site: &Site) -> Vec<String> {
    let status = site.status();
    let peers = status["peers"].as_array().unwrap();
    let mut names: Vec<_> =
        peers.iter().map(|peer| peer["site"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_code_admits_one_site_once() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    let code = downtown.invite();
    let mut uptown = home.join("uptown", &code);
    assert_refused(&try_join(&home, "harbour", &code), 1, "used already");
    uptown.run();
    downtown.wait_until_connected("uptown");
    assert_eq!(names(&downtown), ["uptown"]);
    assert_eq!(names(&uptown), ["downtown"]);
    // The directory of a failed join is good for another code, and even for another name.
    let again = Site::at(home.path("harbour"), "harbour");
    let code = uptown.invite();
    again.done(&["join", "--site", "harbour-2", "--listen", "127.0.0.1:0", &code]);
    // One that holds a site is not.
    assert_refused(&try_join(&home, "harbour", &downtown.invite()), 2, "already");
}

#[test]
fn a_garbled_code_is_bad_input() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    let code = downtown.invite();
    let mut garbled = code.clone();
    let last = garbled.pop().unwrap();
    garbled.push(if last == 'a' { 'b' } else { 'a' });
    assert_refused(&try_join(&home, "uptown", &garbled), 2, "garbled");
    assert_refused(&try_join(&home, "uptown", &code[..code.len() - 9]), 2, "garbled");
    assert_refused(&try_join(&home, "uptown", "hello"), 2, "not an invitation code");
    // Capitals and broken lines are what mail programs do.
    let (front, back) = code.split_at(30);
    home.join("uptown", &format!("{}\n {back} ", front.to_uppercase()));
}

#[test]
fn an_expired_code_is_refused() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    let code = downtown.done(&["invite", "--expires", "10ms"]);
    // By the time that another process has started it is over.
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_refused(&try_join(&home, "uptown", code.trim()), 1, "expired");
    assert_eq!(names(&downtown), Vec::<String>::new());
}

#[test]
fn three_wrong_tries_burn_a_code() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    let code = downtown.invite();
    let right: Invitation = code.parse().unwrap();
    let wrong = Invitation { secret: Secret([7; 16]), ..right };
    for _ in 0..3 {
        assert_refused(&try_join(&home, "thief", &wrong.to_string()), 1, "not valid");
    }
    assert_refused(&try_join(&home, "uptown", &code), 1, "not valid");
    // Another code is none the worse for it.
    home.join("uptown", &downtown.invite());
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_code_stays_good() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    let code = downtown.invite();
    let site = Site::at(home.path("second"), "second");
    let join =
        |name: &str| site.command(&["join", "--site", name, "--listen", "127.0.0.1:0", &code]);
    assert_refused(&join("downtown"), 1, "name");
    assert_refused(&join("No Name"), 2, "Name");
    assert_eq!(join("second").code, 0);
}

#[test]
fn a_join_that_found_nobody_is_repeated_with_the_same_code() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    let code = downtown.invite();
    downtown.stop();
    assert_refused(&try_join(&home, "uptown", &code), 3, "reached");
    downtown.run();
    let mut uptown = home.join("uptown", &code);
    uptown.run();
    uptown.wait_until_connected("downtown");
}

/// Somebody else answers at the address: its key is not the one in the code.
#[test]
fn a_strangers_node_at_the_address_learns_nothing_and_admits_nobody() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    let code = downtown.invite();
    let address = downtown.address.unwrap().to_string();
    downtown.stop();
    let mut stranger = home.found_with("stranger", &["--listen", &address]);
    stranger.run();
    assert_refused(&try_join(&home, "uptown", &code), 3, "reached");
    assert_eq!(names(&stranger), Vec::<String>::new());
}

/// A member whose address is taken over by a stranger's node is not confused with it.
#[test]
fn a_strangers_node_at_a_members_address_gets_no_data() {
    let home = Home::new();
    let relay = Relay::open().unwrap();
    let (listen, address) = (home.listen(), relay.address().to_string());
    let mut downtown = home.found_with("downtown", &["--listen", &listen, "--address", &address]);
    downtown.run();
    relay.set_target(downtown.address.unwrap());
    let mut uptown = home.join("uptown", &downtown.invite());
    uptown.run();
    downtown.wait_until_connected("uptown");
    downtown.stop();
    wait_until("uptown notices", PATIENCE, || uptown.peer("downtown")["state"] != "connected");
    let mut stranger = home.found_with("stranger", &["--listen", &listen]);
    stranger.run();
    relay.set_target(stranger.address.unwrap());
    let answered = relay.carried().1.datagrams;
    let club = home.path("club.db");
    execute(&club, "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY)");
    uptown.attach("club", &club);
    execute(&club, "INSERT INTO t VALUES (1)");
    wait_until("uptown is answered by the stranger", PATIENCE, || {
        relay.carried().1.datagrams > answered
    });
    assert_ne!(uptown.peer("downtown")["state"], "connected");
    assert_eq!(uptown.database("club@uptown")["safe"], false);
    assert_eq!(stranger.status()["databases"], Value::Array(Vec::new()));
    stranger.stop();
    downtown.run();
    downtown.wait_for_mirror("uptown", "club", &club, 1);
}

#[test]
fn two_members_invite_at_once_and_all_know_all() {
    let home = Home::new();
    let (downtown, uptown) = home.two();
    let (by_downtown, by_uptown) = (downtown.invite(), uptown.invite());
    let (mut harbour, mut station) = std::thread::scope(|scope| {
        let harbour = scope.spawn(|| home.join("harbour", &by_downtown));
        let station = scope.spawn(|| home.join("station", &by_uptown));
        (harbour.join().unwrap(), station.join().unwrap())
    });
    harbour.run();
    station.run();
    let sites = [&downtown, &harbour, &station, &uptown];
    for site in sites {
        for peer in sites.iter().filter(|peer| peer.name != site.name) {
            site.wait_until_connected(&peer.name);
        }
        assert_eq!(names(site).len(), 3);
    }
}

/// An address is looked up and tried afresh: a site that comes to be reachable elsewhere says so.
#[test]
fn a_site_that_is_reached_at_another_address_than_where_it_listens_is_found() {
    let home = Home::new();
    let relay = Relay::open().unwrap();
    let (listen, address) = (home.listen(), relay.address().to_string());
    let mut downtown = home.found_with("downtown", &["--listen", &listen, "--address", &address]);
    // Before it ever ran: the code holds what --address said.
    let code = downtown.invite();
    assert_eq!(code.parse::<Invitation>().unwrap().addresses, [address]);
    downtown.run();
    relay.set_target(downtown.address.unwrap());
    let mut uptown = home.join("uptown", &code);
    uptown.run();
    uptown.wait_until_connected("downtown");
    assert!(relay.carried().0.bytes > 0, "the way led round the relay");
}

#[test]
fn a_removed_site_is_refused_everywhere() {
    let home = Home::new();
    let mut downtown = home.found("downtown");
    downtown.run();
    let mut uptown = home.join("uptown", &downtown.invite());
    uptown.run();
    let mut harbour = home.join("harbour", &downtown.invite());
    harbour.run();
    uptown.wait_until_connected("harbour");
    downtown.wait_until_connected("harbour");
    assert_refused(&downtown.command(&["remove", "nowhere"]), 2, "no site nowhere");
    assert_refused(&downtown.command(&["remove", "downtown"]), 1, "itself");
    downtown.done(&["remove", "harbour"]);
    let state = |site: &Site| {
        let status = site.status();
        let peers = status["peers"].as_array().unwrap();
        let harbour = peers.iter().find(|peer| peer["site"] == "harbour").unwrap();
        harbour["state"].as_str().unwrap().to_owned()
    };
    for site in [&downtown, &uptown] {
        wait_until("harbour is removed", PATIENCE, || state(site) == "removed");
    }
    // It is refused, whoever it dials; and its name is free.
    wait_until("harbour is alone", PATIENCE, || {
        let status = harbour.status();
        let peers = status["peers"].as_array().unwrap();
        peers.iter().all(|peer| peer["state"] != "connected")
    });
    assert_refused(&downtown.command(&["remove", "harbour"]), 2, "no site harbour");
}
