//! Databases that the group shares: their branches, who may join how, and what is told of them.
//! What merging makes of the sites' changes is tested elsewhere.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use super::*;
use crate::demo::compare::compare;
use crate::engine::OwnContent;
use crate::failure::FailureKind;
use crate::status::{Status, render};
use crate::store::DatabaseState;
use protocol::Epoch;
use protocol::branch::Opening;
use rusqlite::Connection;

const NOT_AT_ONCE: &str = "CREATE INDEX item_name ON item (name);
     CREATE VIEW names AS SELECT name FROM item;
     CREATE TRIGGER upper AFTER INSERT ON item WHEN new.name = 'x' BEGIN
       UPDATE item SET name = 'X' WHERE id = new.id; END;
     PRAGMA user_version = 7; PRAGMA application_id = 99";

impl Place {
    pub(super) fn request(&self, file: &str) -> AttachRequest {
        let mode = Some(Mode::Shared);
        AttachRequest { mode, ..AttachRequest::new("club".parse().unwrap(), self.file(file)) }
    }

    pub(super) async fn attach_as(&self, request: AttachRequest) -> Result<Attached, Failure> {
        let attached = attach(&self.engine, request, Duration::ZERO).await;
        attached.map(|(_, _, attached)| attached).map_err(Failure::from)
    }

    async fn refused(&self, request: AttachRequest, words: &[&str]) -> FailureKind {
        let failure = self.attach_as(request).await.unwrap_err();
        for word in words {
            assert!(failure.what.contains(word), "{word:?} is not in {failure}");
        }
        failure.kind
    }

    /// Its own opening of a database of another's, as `change` makes it.
    async fn opens(
        &self,
        like: &SignedOpening,
        change: impl FnOnce(&mut Opening) + Send + 'static,
    ) -> SignedOpening {
        let mut opening = like.opening().clone();
        self.step(move |engine| {
            opening.origin = engine.identity.site;
            opening.base = false;
            change(&mut opening);
            Ok(SignedOpening::open(opening, &engine.key).unwrap())
        })
        .await
    }

    pub(super) async fn rows(&self) -> Vec<DatabaseRow> {
        self.step(|engine| Ok(engine.databases()?)).await
    }

    /// Takes all that another site has, openings included.
    pub(super) async fn hears_all(&self, from: &Self) {
        for local in from.branches().await {
            if local.opening.opening().origin != self.me {
                self.admit(SignedOpening::clone(&local.opening)).await;
                self.take(from, local.holding.branch).await;
            }
        }
    }

    /// A whole harvest, after which nothing is left to compare.
    pub(super) async fn harvest_whole(&self, number: DatabaseNumber) {
        loop {
            match self.step(move |engine| engine.read_harvest(number)).await {
                Harvest::Nothing => return,
                Harvest::Moved => drop(self.step(move |e| e.refresh_capture(number)).await),
                Harvest::Notes(notes) => {
                    self.step(move |engine| engine.commit_harvest(number, &notes)).await;
                }
                // Settled anew first.
                Harvest::Busy => drop(self.step(move |engine| engine.step_shared(number)).await),
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) async fn merge(&self, number: DatabaseNumber) {
        while let SharedStep::Moved(_) = self.step(move |e| e.step_shared(number)).await {}
    }

    /// How many row changes this site's newest branch has.
    pub(super) async fn changes(&self) -> usize {
        self.step(|engine| {
            let own = engine.identity.site;
            let branches = engine.store.branches()?;
            let branch = branches.iter().rfind(|branch| branch.origin() == own).unwrap();
            let batches = engine.store.batches_after(branch.number, Sequence::ZERO, 99, 1 << 20)?;
            let count = |batch: &crate::store::journal::BatchRow| {
                protocol::Frame::decode_body(&batch.frame, &engine.limits).unwrap().changes.len()
            };
            Ok(batches.iter().map(count).sum())
        })
        .await
    }

    pub(super) async fn status(&self) -> Status {
        self.step(|engine| {
            let view = engine.view()?;
            Ok(Status::new(engine.identity(), &view, None))
        })
        .await
    }
}

/// A founder of a shared database with some content, and another site that knows of it and has
/// its first content.
async fn club() -> (Place, Place, Connection) {
    let founder = Place::founded("downtown").await;
    let other = founder.joining("uptown").await;
    let application = founder.application("club.db");
    application.execute_batch(NOT_AT_ONCE).unwrap();
    founder.attach_as(founder.request("club.db")).await.unwrap();
    founder.merge(founder.rows().await[0].number).await;
    other.hears_all(&founder).await;
    (founder, other, application)
}

fn ours(path: &Path) -> bool {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name GLOB '_holdfast*'";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0
}

#[tokio::test]
async fn the_branches_of_a_shared_database_are_taken_in_any_order() {
    let (founder, other, _application) = club().await;
    let third = founder.joining("harbour").await;
    other.attach_as(other.request("club.db")).await.unwrap();
    third.hears_all(&other).await;
    let openings = [&founder, &other].map(async |place| {
        let local = place.branches().await.pop().unwrap();
        SignedOpening::clone(&local.opening)
    });
    let [first, second] = openings;
    let (first, second) = (first.await, second.await);
    assert_eq!((first.opening().base, second.opening().base), (true, false));
    for (name, order) in [("a", [&first, &second]), ("b", [&second, &first])] {
        let peer = founder.joining(name).await;
        // Who joined last knows all members.
        for opening in order {
            peer.admit(opening.clone()).await.unwrap();
        }
        let row = peer.rows().await.remove(0);
        assert_eq!((row.state, row.site), (DatabaseState::Kept, founder.me));
        assert_eq!(row.path, PathBuf::new());
        let followed = peer.step(move |engine| Ok(engine.branch_of(&row)?.id)).await;
        assert_eq!(followed, first.id());
        assert_eq!((peer.rows().await.len(), peer.branches().await.len()), (1, 2));
        assert_eq!(peer.alarms().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_branch_that_does_not_fit_is_not_taken() {
    let (founder, other, _application) = club().await;
    let opening = SignedOpening::clone(&founder.branches().await[0].opening);
    let good = other.opens(&opening, |_| {}).await;
    founder.admit(good.clone()).await.unwrap();
    let odd: [fn(&mut Opening); 4] = [
        |opening| opening.base = true,
        |opening| opening.mode = Mode::Mirror,
        |opening| opening.opened = WallTime(1),
        |opening| opening.name = "pub".parse().unwrap(),
    ];
    let mut alarms = Vec::new();
    for change in odd {
        let bad = other.opens(&opening, change).await;
        assert!(founder.admit(bad.clone()).await.is_none());
        alarms.push(format!("second-branch:{}", bad.id()));
        assert_eq!(founder.alarms().await, alarms);
    }
    // A site that detached it and attaches it again has a branch of a later epoch.
    let again = other.opens(&opening, |opening| opening.epoch = Epoch(2)).await;
    founder.admit(again).await.unwrap();
    assert_eq!(founder.branches().await.len(), 3);
}

#[tokio::test]
async fn a_name_is_of_one_mode() {
    let (founder, other, _application) = club().await;
    let third = founder.joining("harbour").await;
    let _application = third.application("own.db");
    let mirror = AttachRequest::new("club".parse().unwrap(), third.file("own.db"));
    // It has not heard of the other one yet.
    third.attach_as(mirror.clone()).await.unwrap();
    let opening = SignedOpening::clone(&third.branches().await[0].opening);
    let records = third.step(|engine| Ok(engine.membership.records().cloned().collect())).await;
    other.step(move |engine| Ok(engine.merge_members(records)?.unwrap())).await;
    assert!(other.admit(opening.clone()).await.is_none());
    let shared = SignedOpening::clone(&founder.branches().await[0].opening);
    assert!(third.admit(shared.clone()).await.is_none());
    assert_eq!(other.alarms().await, [format!("name-taken:{}", opening.id())]);
    assert_eq!(third.alarms().await, [format!("name-taken:{}", shared.id())]);
    assert_eq!((other.rows().await.len(), third.rows().await.len()), (1, 1));
    // Once one of them is gone, the other is taken.
    third.detach("club").await;
    assert!(third.admit(shared).await.is_some());
    assert_eq!(third.alarms().await, [""; 0]);

    let mode = Some(Mode::Mirror);
    let kind = third.refused(AttachRequest { mode, ..mirror.clone() }, &["shares"]).await;
    assert_eq!(kind, FailureKind::Refused);
    // Said nothing, it means the one that the group shares.
    let kind = third.refused(mirror, &["first copy"]).await;
    assert_eq!(kind, FailureKind::Unable);

    let lone = Place::founded("lone").await;
    let peer = lone.joining("peer").await;
    let _application = lone.application("club.db");
    lone.attach("club", "club.db").await;
    peer.hears_all(&lone).await;
    let _application = peer.application("club.db");
    let kind = peer.refused(peer.request("club.db"), &["lone", "of its own"]).await;
    assert_eq!(kind, FailureKind::Refused);
}

#[tokio::test]
async fn two_shared_databases_of_one_name_stay_two() {
    let (founder, other, _application) = club().await;
    let third = founder.joining("harbour").await;
    let fourth = founder.joining("summit").await;
    let _application = third.application("club.db");
    third.attach_as(third.request("club.db")).await.unwrap();
    fourth.hears_all(&founder).await;
    fourth.admit(SignedOpening::clone(&third.branches().await[0].opening)).await.unwrap();
    assert_eq!(fourth.rows().await.len(), 2);
    assert_eq!(fourth.alarms().await, [""; 0]);
    let kind = fourth.refused(fourth.request("club.db"), &["several", "downtown", "harbour"]).await;
    assert_eq!(kind, FailureKind::Refused);
    drop(other);
}

#[tokio::test]
async fn a_file_is_made_of_what_the_group_shares() {
    let (founder, other, application) = club().await;
    let attached = other.attach_as(AttachRequest { mode: None, ..other.request("club.db") }).await;
    let attached = attached.unwrap();
    assert_eq!((&attached.mode[..], attached.tables[0].rows), ("shared", 2));
    let compared = compare(&founder.file("club.db"), &other.file("club.db")).unwrap();
    assert!(compared.identical() && compared.rows == 2, "{:?}", compared.differences);
    assert!(!other.file("club.db.holdfast-new").exists());
    let mode: String = Connection::open(other.file("club.db"))
        .unwrap()
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");

    let row = other.rows().await.remove(0);
    assert_eq!((row.state, row.site), (DatabaseState::Attached, founder.me));
    let own = other.branches().await.remove(1);
    assert_eq!(own.opening.opening().origin, other.me);
    assert_eq!(own.opening.opening().database, row.id);
    // The first harvest compares all, and finds that nothing was changed.
    other.harvest_whole(row.number).await;
    assert_eq!(other.changes().await, 0);
    assert_eq!(other.view().await.databases[0].pending, Some(0));
    let written = Connection::open(other.file("club.db")).unwrap();
    written.execute("INSERT INTO item (name) VALUES ('milk')", []).unwrap();
    other.harvest_whole(row.number).await;
    assert_eq!(other.changes().await, 1);
    let kind = other.refused(other.request("club.db"), &["already"]).await;
    assert_eq!(kind, FailureKind::Refused);
    drop(application);
}

#[tokio::test]
async fn a_file_with_the_same_content_joins_as_it_is() {
    use std::os::unix::fs::MetadataExt;
    let (founder, other, application) = club().await;
    application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let file = other.file("club.db");
    std::fs::copy(founder.file("club.db"), &file).unwrap();
    let copy = Connection::open(&file).unwrap();
    let left = "SELECT group_concat('DROP ' || type || ' ' || name, ';') FROM sqlite_schema
                WHERE name GLOB '_holdfast*' AND type <> 'index' ORDER BY type DESC";
    let drop_ours: String = copy.query_row(left, [], |row| row.get(0)).unwrap();
    let mut statements: Vec<&str> = drop_ours.split(';').collect();
    statements.sort_by_key(|sql| !sql.starts_with("DROP trigger"));
    copy.execute_batch(&statements.join(";")).unwrap();
    let before = std::fs::metadata(&file).unwrap().ino();
    let attached = other.attach_as(other.request("club.db")).await.unwrap();
    assert_eq!((attached.tables[0].rows, attached.set_aside), (2, None));
    assert_eq!(std::fs::metadata(&file).unwrap().ino(), before);
    // What is written after the comparison is a change like any.
    let number = other.rows().await[0].number;
    copy.execute("UPDATE item SET name = 'pepper' WHERE id = 2", []).unwrap();
    other.harvest_whole(number).await;
    assert_eq!(other.changes().await, 1);
    assert_eq!(names(&file), ["tea", "pepper"]);
}

#[tokio::test]
async fn other_content_is_refused_or_set_aside() {
    let (founder, other, _application) = club().await;
    let file = other.file("club.db");
    let own = other.application("club.db");
    own.execute("INSERT INTO item (name) VALUES ('mine')", []).unwrap();
    own.execute_batch(NOT_AT_ONCE).unwrap();
    let refused = async |words: &[&str]| {
        let kind = other.refused(other.request("club.db"), words).await;
        assert_eq!(kind, FailureKind::Refused);
        assert!(!ours(&file), "nothing of ours is in it");
        assert_eq!(other.rows().await[0].state, DatabaseState::Kept);
        assert_eq!(other.branches().await.len(), 1);
        assert_eq!(other.branches().await[0].holding.applied, Sequence::ZERO);
    };
    refused(&["item", "3 rows", "2 in the group's"]).await;
    own.execute("DELETE FROM item WHERE name = 'tea'", []).unwrap();
    refused(&["item", "2 rows", "not the same"]).await;
    own.execute_batch("CREATE TABLE more (id INTEGER PRIMARY KEY)").unwrap();
    refused(&["table more"]).await;
    own.execute_batch("DROP TABLE more; ALTER TABLE item ADD COLUMN price").unwrap();
    refused(&["item", "columns"]).await;
    own.execute_batch("DROP VIEW names; DROP TABLE item").unwrap();
    refused(&["no table item"]).await;
    own.execute_batch("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)").unwrap();
    own.execute("INSERT INTO item (name) VALUES ('mine')", []).unwrap();

    let adopt = AttachRequest { content: OwnContent::SetAside, ..other.request("club.db") };
    let kind = other.refused(adopt.clone(), &["open in another program"]).await;
    assert_eq!(kind, FailureKind::Unable);
    assert_eq!(names(&file), ["mine"]);
    drop(own);
    let attached = other.attach_as(adopt).await.unwrap();
    let aside = PathBuf::from(attached.set_aside.unwrap());
    assert_eq!(names(&aside), ["mine"]);
    assert!(!ours(&aside));
    let compared = compare(&founder.file("club.db"), &file).unwrap();
    assert!(compared.identical(), "{:?}", compared.differences);
}

#[tokio::test]
async fn what_can_t_be_joined_is_said() {
    let (founder, other, _application) = club().await;
    let third = founder.joining("harbour").await;
    let adopt = AttachRequest { content: OwnContent::SetAside, ..third.request("club.db") };
    assert_eq!(third.refused(adopt, &["shares no database"]).await, FailureKind::Refused);
    third.admit(SignedOpening::clone(&founder.branches().await[0].opening)).await;
    let kind = third.refused(third.request("club.db"), &["first copy", "nothing"]).await;
    assert_eq!(kind, FailureKind::Unable);
    assert!(!third.file("club.db").exists());

    let nowhere = other.request("nowhere/club.db");
    assert_eq!(other.refused(nowhere, &["nowhere"]).await, FailureKind::Usage);
    std::fs::write(other.file("letter.txt"), "Dear customer, ".repeat(100)).unwrap();
    let letter = other.request("letter.txt");
    assert_eq!(other.refused(letter, &["letter.txt"]).await, FailureKind::Usage);
    std::fs::write(other.file("club.db-wal"), "perhaps data").unwrap();
    let kind = other.refused(other.request("club.db"), &["club.db-wal"]).await;
    assert_eq!(kind, FailureKind::Refused);
    assert!(!other.file("club.db").exists());
    let inside = other.request("site/club.db");
    assert_eq!(other.refused(inside, &["own files"]).await, FailureKind::Refused);
}

#[tokio::test]
async fn a_join_that_was_cut_off_is_done_again() {
    let (founder, other, _application) = club().await;
    let file = other.file("club.db");
    let new = other.file("club.db.holdfast-new");
    let number = other.rows().await[0].number;
    let (at, beside) = (file.clone(), new.clone());
    other
        .step(move |engine| {
            engine.begin_join(number, &at)?;
            let filling = engine.begin_filling(number, &beside)?;
            engine.fill_some(number, filling).map(drop)
        })
        .await;
    assert!(new.exists() && !file.exists());
    other.step(Engine::look_for_interrupted_attaches).await;
    assert_eq!(other.alarms().await, ["attach:club"]);
    let kind = other.refused(other.request("elsewhere.db"), &["interrupted"]).await;
    assert_eq!(kind, FailureKind::Refused);
    // Undone, it is only kept, and nothing of it is left.
    other.detach("club").await;
    assert_eq!(other.rows().await[0].state, DatabaseState::Kept);
    assert!(!new.exists());
    assert_eq!(other.alarms().await, [""; 0]);

    // Cut off at the very end: the file is in place, and the application writes to it.
    let (at, beside) = (file.clone(), new.clone());
    let begun = at.clone();
    other.step(move |engine| engine.begin_join(number, &begun)).await;
    other.merge(number).await;
    other
        .step(move |engine| {
            let mut filling = engine.begin_filling(number, &beside)?;
            loop {
                let (back, done) = engine.fill_some(number, filling)?;
                filling = back;
                if done {
                    break;
                }
            }
            filling.finish()?;
            engine.install_joined(number, &beside, false)?.unwrap();
            assert_eq!(engine.put_in_place(&at, false)?, None);
            Ok(())
        })
        .await;
    let written = Connection::open(&file).unwrap();
    written.execute("INSERT INTO item (name) VALUES ('milk')", []).unwrap();
    other.attach_as(other.request("club.db")).await.unwrap();
    other.harvest_whole(number).await;
    assert_eq!(other.changes().await, 1);
    assert_eq!(names(&file), ["tea", "salt", "milk"]);
    drop(founder);
}

#[tokio::test]
async fn a_site_that_detaches_goes_on_keeping_and_may_join_again() {
    let (founder, other, _application) = club().await;
    other.attach_as(other.request("club.db")).await.unwrap();
    let number = other.rows().await[0].number;
    other
        .step(move |engine| {
            let sql = "INSERT INTO conflict (database, tbl, key, birth, kind, lasting, subject,
                       detail, since_ms) VALUES (?1, 1, x'', x'', 'parked', 1, x'', x'', 0)";
            engine.store.connection().execute(sql, [number.0])?;
            Ok(())
        })
        .await;
    let shared = other.view().await.databases.remove(0).shared.unwrap();
    assert_eq!((shared.conflicts, shared.parked), (1, 1));
    other.detach("club").await;
    let row = other.rows().await.remove(0);
    assert_eq!((row.state, row.path), (DatabaseState::Kept, PathBuf::new()));
    assert!(!ours(&other.file("club.db")));
    assert!(other.branches().await.iter().all(|b| b.holding.applied == Sequence::ZERO));
    let shared = other.view().await.databases.remove(0).shared.unwrap();
    assert_eq!(shared.conflicts, 0);
    founder.hears_all(&other).await;

    let attached = other.attach_as(other.request("club.db")).await.unwrap();
    assert_eq!(attached.tables[0].rows, 2);
    let own = other.branches().await.remove(2);
    assert_eq!(own.opening.opening().epoch, Epoch(2));
    assert_eq!(other.rows().await[0].number, number);
    founder.hears_all(&other).await;
    assert_eq!(founder.branches().await.len(), 3);
    assert_eq!(founder.alarms().await, [""; 0]);
    let origins = founder.status().await.databases.remove(0).origins.unwrap();
    assert_eq!(origins.len(), 1, "one entry a site");
}

#[tokio::test]
async fn a_database_that_nobody_shares_any_more_makes_room_for_another() {
    let (founder, other, _application) = club().await;
    founder.detach("club").await;
    other.hears_all(&founder).await;
    assert!(other.status().await.databases.is_empty());
    founder.attach_as(founder.request("club.db")).await.unwrap();
    let rows = founder.rows().await;
    assert_eq!(rows.len(), 2);
    assert_ne!(rows[0].id, rows[1].id);
    assert_eq!(founder.status().await.databases.len(), 1);
}

#[tokio::test]
async fn status_tells_what_is_shared() {
    let (founder, other, _application) = club().await;
    let kept = other.status().await.databases.remove(0);
    assert_eq!((&kept.mode[..], &kept.path[..], kept.safe), ("shared", "", None));
    assert_eq!((&kept.site, &kept.writer), (&None, &None));
    assert!(kept.copies.is_none() && kept.applied_sequence.is_none());
    let origin = &kept.origins.as_ref().unwrap()[0];
    assert_eq!((&origin.site[..], origin.sequence, origin.applied_sequence), ("downtown", 1, 0));
    assert!(render(&other.status().await).contains("kept here"));

    // Who only keeps it lacks nothing by applying nothing.
    let holding = other.branches().await[0].holding;
    founder.hears(other.me, holding).await;
    let own = founder.status().await.databases.remove(0);
    assert_eq!((own.safe, &own.site, own.origins.as_ref().unwrap().len()), (Some(true), &None, 0));
    let copy = &own.copies.as_ref().unwrap()[0];
    assert_eq!((copy.durable_sequence, copy.applied_sequence, copy.behind_s), (1, 0, 0.0));
    assert!(render(&founder.status().await).contains("has everything"));

    other.attach_as(other.request("club.db")).await.unwrap();
    founder.hears_all(&other).await;
    let own = founder.status().await.databases.remove(0);
    assert_eq!((own.conflicts, own.parked), (Some(0), Some(0)));
    assert_eq!(own.origins.unwrap()[0].site, "uptown");
    let joined = other.status().await.databases.remove(0);
    assert_eq!((joined.sequence, joined.safe), (1, Some(false)));
    assert_eq!(joined.path, other.file("club.db").display().to_string());
}
