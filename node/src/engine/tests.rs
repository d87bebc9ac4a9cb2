//! Engines of two sites beside real files, handed by the tests what the line would carry.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use super::members::{found, joined, new_store, read_or_make_key};
use super::*;
use crate::environment::production::Production;
use conflict::SiteId;
use protocol::invitation::{JoinReply, JoinRequest};
use protocol::membership::{Record, Removal, SignedRecord};
use protocol::message::{Holding, Report};
use protocol::session::LocalBranch;
use protocol::{BranchId, ChainHash, Mode, Name, Sequence, SignedOpening};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

mod changing;
mod choosing;
mod detaching;
mod forgetting;
mod merging;
mod residues;
mod rotting;
mod shared;
mod shop;

const LISTEN: &str = "127.0.0.1:4433";

struct Place {
    folder: TempDir,
    engine: EngineWorker,
    me: SiteId,
}

fn environment() -> Arc<dyn Environment> {
    Arc::new(Production::default())
}

fn open(path: &Path) -> EngineWorker {
    let engine = Engine::open(environment(), Directory::new(path)).unwrap();
    EngineWorker::new(&*environment(), engine)
}

impl Place {
    async fn founded(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let directory = Directory::new(folder.path().join("site"));
        let name = name.parse().unwrap();
        let address = ["localhost:4433".to_owned()];
        let who =
            found(&*environment(), &directory, &name, LISTEN.parse().unwrap(), &address).unwrap();
        Self { engine: open(directory.path()), folder, me: who.site }
    }

    /// A second member, as `join` makes one.
    async fn joining(&self, name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let directory = Directory::new(folder.path().join("site"));
        let mut store = new_store(&*environment(), &directory).unwrap();
        let key = read_or_make_key(&*environment(), &directory).unwrap().public();
        let invitation = self.step(|engine| engine.invite(60_000)).await;
        let request = JoinRequest {
            id: invitation.id,
            secret: invitation.secret.clone(),
            site: members::fresh_site(&*environment()),
            name: name.parse().unwrap(),
        };
        let asked = request.clone();
        let welcome = self.step(move |engine| engine.admit(&asked, key)).await;
        let JoinReply::Welcome { records, .. } = welcome.reply else { panic!("not admitted") };
        let listen = LISTEN.parse().unwrap();
        joined(&mut store, &invitation, &request, records, listen, &[]).unwrap();
        drop(store);
        Self { engine: open(directory.path()), folder, me: request.site }
    }

    async fn step<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<R, EngineError> + Send + 'static,
    ) -> R {
        self.engine.step("test", work).await.unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An application's database with some content.
    fn application(&self, name: &str) -> rusqlite::Connection {
        let application = rusqlite::Connection::open(self.file(name)).unwrap();
        application
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
                 INSERT INTO item (name) VALUES ('tea'), ('salt')",
            )
            .unwrap();
        application
    }

    async fn attach(&self, name: &str, file: &str) -> DatabaseNumber {
        let path = self.file(file);
        let request = AttachRequest::new(name.parse().unwrap(), path);
        attach(&self.engine, request, Duration::ZERO).await.unwrap().0
    }

    async fn detach(&self, name: &str) {
        let name: Name = name.parse().unwrap();
        detach(&self.engine, name).await.unwrap();
    }

    async fn harvest(&self, number: DatabaseNumber) {
        self.step(move |engine| {
            while let Harvest::Notes(notes) = engine.read_harvest(number)? {
                engine.commit_harvest(number, &notes)?;
            }
            Ok(())
        })
        .await;
    }

    async fn branches(&self) -> Vec<LocalBranch> {
        self.step(|engine| Ok(engine.local_branches()?)).await
    }

    async fn admit(&self, opening: SignedOpening) -> Option<Admitted> {
        self.step(move |engine| engine.admit_branch(opening)).await.unwrap()
    }

    /// Takes everything of a branch that another site holds, its base too.
    async fn take(&self, from: &Self, branch: BranchId) {
        let read = move |engine: &mut Engine| engine.read_flight(branch, Sequence::ZERO);
        let flight = from.step(read).await.unwrap();
        let receipt = self.step(move |engine| engine.receive_flight(&flight)).await;
        assert!(matches!(receipt, Receipt::Stored(_) | Receipt::Known), "{receipt:?}");
        self.take_base(from, branch).await;
    }

    async fn take_base(&self, from: &Self, branch: BranchId) {
        let Some(manifest) = from.step(move |engine| engine.read_manifest(branch)).await else {
            return;
        };
        let step = self.step(move |engine| engine.receive_manifest(&manifest)).await;
        let BaseStep::Want(wanted) = step else { return };
        for index in wanted.from..wanted.from + wanted.count {
            let chunk = from.step(move |engine| engine.read_chunk(&wanted, index)).await.unwrap();
            self.step(move |engine| engine.receive_chunk(&chunk)).await;
        }
    }

    /// Learns how far another site is in everything.
    async fn learns_of(&self, other: &Self) {
        for local in other.branches().await {
            self.hears(other.me, local.holding).await;
        }
    }

    async fn apply(&self, number: DatabaseNumber) {
        loop {
            match self.step(move |engine| engine.step_mirror(number)).await {
                MirrorStep::Moved(_) => {}
                MirrorStep::Done(_) | MirrorStep::Even => return,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn view(&self) -> View {
        self.step(Engine::view).await
    }

    async fn safe(&self) -> bool {
        self.view().await.databases[0].safe()
    }

    async fn hears(&self, peer: SiteId, holding: Holding) {
        self.step(move |engine| Ok(engine.note_progress(peer, &holding)?)).await;
    }

    async fn alarms(&self) -> Vec<String> {
        self.view().await.alarms.into_iter().map(|alarm| alarm.subject).collect()
    }
}

fn names(path: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT name FROM item ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A shop whose database a peer holds whole, by what the shop was told.
async fn shop() -> (Place, Place, rusqlite::Connection, Holding) {
    let shop = Place::founded("downtown").await;
    let peer = shop.joining("uptown").await;
    let application = shop.application("pos.db");
    shop.attach("pos", "pos.db").await;
    let holding = shop.branches().await[0].holding;
    shop.hears(peer.me, holding).await;
    assert!(shop.safe().await);
    (shop, peer, application, holding)
}

#[tokio::test]
async fn an_attach_that_was_cut_off_leaves_nothing_behind_once_it_is_undone() {
    let shop = Place::founded("downtown").await;
    let _application = shop.application("pos.db");
    for name in ["first", "second"] {
        let path = shop.file("pos.db");
        shop.step(move |engine| {
            let name = name.parse().unwrap();
            engine.begin_attach(&AttachRequest::new(name, path), Mode::Mirror)?;
            engine.look_for_interrupted_attaches()
        })
        .await;
        assert_eq!(shop.alarms().await, [format!("attach:{name}")]);
    }
    shop.detach("second").await;
    assert_eq!(shop.alarms().await, [""; 0]);
    assert!(shop.branches().await.is_empty(), "nobody is told of what never was");
    shop.attach("pos", "pos.db").await;
    assert_eq!(shop.view().await.databases[0].pending, Some(0));
}

#[tokio::test]
async fn what_was_committed_before_a_detach_is_in_the_branch() {
    let shop = Place::founded("downtown").await;
    let peer = shop.joining("uptown").await;
    let application = shop.application("pos.db");
    shop.attach("pos", "pos.db").await;
    application.execute("INSERT INTO item (name) VALUES ('milk')", []).unwrap();
    shop.detach("pos").await;
    let local = shop.branches().await.remove(0);
    let admitted = peer.admit(SignedOpening::clone(&local.opening)).await.unwrap();
    peer.take(&shop, local.holding.branch).await;
    peer.apply(admitted.database).await;
    let row = peer.step(move |engine| Ok(engine.store().database(admitted.database)?)).await;
    assert_eq!(names(&row.path), ["tea", "salt", "milk"]);
}

#[tokio::test]
async fn of_two_databases_of_one_name_the_present_one_is_mirrored_in_whatever_order_they_come() {
    let shop = Place::founded("downtown").await;
    let _application = shop.application("pos.db");
    shop.attach("pos", "pos.db").await;
    shop.detach("pos").await;
    shop.attach("pos", "pos.db").await;
    let openings: Vec<SignedOpening> =
        shop.branches().await.iter().map(|local| SignedOpening::clone(&local.opening)).collect();
    let present = openings[1].opening().database;
    for order in [[0, 1], [1, 0]] {
        let peer = shop.joining(&format!("uptown-{}", order[0])).await;
        for at in order {
            peer.admit(openings[at].clone()).await.unwrap();
        }
        let view = peer.view().await;
        let shown: Vec<_> = view.databases.iter().map(|database| database.row.id).collect();
        assert_eq!(shown, [present]);
        assert!(view.databases[0].row.path.ends_with("mirrors/downtown/pos.db"));
    }
}

#[tokio::test]
async fn a_former_mirror_takes_its_write_ahead_log_along() {
    let shop = Place::founded("downtown").await;
    let peer = shop.joining("uptown").await;
    let _application = shop.application("pos.db");
    shop.attach("pos", "pos.db").await;
    let former = shop.branches().await.remove(0);
    let admitted = peer.admit(SignedOpening::clone(&former.opening)).await.unwrap();
    peer.take(&shop, former.holding.branch).await;
    peer.apply(admitted.database).await;
    let path = peer.file("site/mirrors/downtown/pos.db");
    // Somebody reads it, so that its -wal stays.
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.query_row("SELECT count(*) FROM item", [], |_| Ok(())).unwrap();
    let wal = peer.file("site/mirrors/downtown/pos.db-wal");
    assert!(wal.exists());
    shop.detach("pos").await;
    shop.attach("pos", "pos.db").await;
    let present = shop.branches().await.remove(1);
    let admitted = peer.admit(SignedOpening::clone(&present.opening)).await.unwrap();
    assert!(!wal.exists(), "it would be read as the new mirror's");
    peer.take(&shop, present.holding.branch).await;
    peer.apply(admitted.database).await;
    assert_eq!(names(&path), ["tea", "salt"]);
}

#[tokio::test]
async fn an_empty_file_where_the_base_belongs_is_not_taken_for_a_mirror() {
    let shop = Place::founded("downtown").await;
    let peer = shop.joining("uptown").await;
    let _application = shop.application("pos.db");
    shop.attach("pos", "pos.db").await;
    let local = shop.branches().await.remove(0);
    let admitted = peer.admit(SignedOpening::clone(&local.opening)).await.unwrap();
    peer.take(&shop, local.holding.branch).await;
    let path = peer.file("site/mirrors/downtown/pos.db");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, []).unwrap();
    peer.apply(admitted.database).await;
    assert_eq!(names(&path), ["tea", "salt"]);
}

#[tokio::test]
async fn mirrors_move_with_the_directory() {
    let (shop, peer, _application, _) = shop().await;
    let local = shop.branches().await.remove(0);
    let admitted = peer.admit(SignedOpening::clone(&local.opening)).await.unwrap();
    peer.engine.close().await.unwrap();
    let moved = peer.file("elsewhere");
    std::fs::rename(peer.file("site"), &moved).unwrap();
    let peer = Place { engine: open(&moved), ..peer };
    peer.take(&shop, local.holding.branch).await;
    peer.apply(admitted.database).await;
    assert_eq!(names(&moved.join("mirrors/downtown/pos.db")), ["tea", "salt"]);
    assert!(!peer.file("site").exists());
}

#[tokio::test]
async fn a_file_that_went_back_or_changed_unseen_is_not_safe() {
    let (shop, _peer, application, _) = shop().await;
    application.execute_batch("CREATE TABLE more (id INTEGER PRIMARY KEY)").unwrap();
    assert_eq!(shop.view().await.databases[0].pending, Some(1), "nothing is noted of it");
    assert!(!shop.safe().await);

    let (shop, peer, application, _) = self::shop().await;
    application.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let copy = shop.file("copy.db");
    std::fs::copy(shop.file("pos.db"), &copy).unwrap();
    application.execute("INSERT INTO item (name) VALUES ('milk')", []).unwrap();
    let number = shop.view().await.databases[0].row.number;
    shop.harvest(number).await;
    shop.hears(peer.me, shop.branches().await[0].holding).await;
    assert!(shop.safe().await);
    drop(application);
    shop.engine.close().await.unwrap();
    std::fs::copy(&copy, shop.file("pos.db")).unwrap();
    let shop = Place { engine: open(&shop.file("site")), ..shop };
    assert_eq!(shop.view().await.databases[0].pending, None);
    assert!(!shop.safe().await);
}

#[tokio::test]
async fn a_peer_that_lost_what_it_had_is_no_copy_any_more() {
    let (shop, peer, _application, holding) = shop().await;
    let lost = Holding { durable: Sequence::ZERO, held: Sequence::ZERO, ..holding };
    let me = peer.me;
    for vector in [vec![lost], Vec::new()] {
        shop.hears(me, holding).await;
        assert!(shop.safe().await);
        shop.step(move |engine| Ok(engine.note_vector(me, &vector)?)).await;
        assert!(!shop.safe().await);
    }
}

#[tokio::test]
async fn a_peer_with_another_line_is_no_copy() {
    let (shop, peer, _application, holding) = shop().await;
    let me = peer.me;
    let other = Holding { hash: ChainHash([7; 32]), ..holding };
    let compare =
        async |holding: Holding| shop.step(move |engine| Ok(engine.compare_lines(&holding)?)).await;
    let Lines::Apart(fork) = compare(other).await else { panic!("another hash, one line") };
    shop.step(move |engine| Ok(engine.note_fork(&fork, me)?)).await;
    assert!(!shop.safe().await);
    let has_copy = async || {
        let copies = shop.view().await.databases.remove(0).copies;
        copies.iter().any(|copy| copy.site == me && copy.durable > Sequence::ZERO)
    };
    assert!(!has_copy().await, "what it had said counts no longer");
    // It is put right: its line is this site's, and it says so.
    assert_eq!(compare(holding).await, Lines::Alike);
    shop.step(move |engine| {
        engine.clear_fork(holding.branch, me)?;
        Ok(engine.note_progress(me, &holding)?)
    })
    .await;
    assert!(has_copy().await && shop.safe().await);
    let claims = [holding.hash, ChainHash([7; 32])].map(|hash| protocol::message::Fork {
        branch: holding.branch,
        sequence: holding.held,
        hash,
    });
    let real = shop.step(move |engine| Ok(claims.map(|fork| engine.is_fork(&fork).unwrap()))).await;
    assert_eq!(real, [false, true]);
}

#[tokio::test]
async fn a_removed_site_is_no_copy() {
    let (shop, peer, _application, _) = shop().await;
    let site = peer.me;
    shop.step(move |engine| {
        let group = engine.identity.group;
        let removal = Removal { group, site, by: engine.identity.site, removed: engine.now() };
        let record = SignedRecord::sign(&Record::Removal(removal), &engine.key).unwrap();
        assert_eq!(engine.merge_members(vec![record])?.unwrap().len(), 1);
        Ok(())
    })
    .await;
    assert!(!shop.safe().await);
}

#[tokio::test]
async fn hearsay_does_not_stop_a_site_and_a_peer_s_own_word_only_while_it_stands() {
    let (shop, peer, application, holding) = shop().await;
    let number = shop.view().await.databases[0].row.number;
    let ahead = Sequence(99);
    let (site, branch) = (peer.me, holding.branch);
    let report = Report { site, branch, durable: ahead, applied: ahead, as_of: WallTime(0) };
    shop.step(move |engine| Ok(engine.note_report(&report)?)).await;
    application.execute("INSERT INTO item (name) VALUES ('milk')", []).unwrap();
    shop.harvest(number).await;
    assert_eq!(shop.branches().await[0].holding.held, holding.held.next());

    shop.hears(site, Holding { held: ahead, durable: ahead, ..holding }).await;
    assert!(!shop.safe().await);
    assert_eq!(shop.alarms().await, [format!("own-branch-behind:{branch}")]);
    let read = shop.step(move |engine| engine.read_harvest(number)).await;
    assert!(matches!(read, Harvest::Stopped));
    shop.step(move |engine| Ok(engine.note_vector(site, &[holding])?)).await;
    shop.harvest(number).await;
    assert_eq!(shop.alarms().await, [""; 0]);
}

#[tokio::test]
async fn nobody_opens_a_branch_of_another_s_database() {
    let (shop, peer, _application, holding) = shop().await;
    let taken = shop.branches().await[0].opening.opening().clone();
    let forged = peer
        .step(move |engine| {
            let origin = engine.identity.site;
            let opening = protocol::branch::Opening { origin, ..taken };
            Ok(SignedOpening::open(opening, &engine.key).unwrap())
        })
        .await;
    let id = forged.id();
    assert!(shop.admit(forged).await.is_none());
    assert_eq!(shop.alarms().await, [format!("second-branch:{id}")]);
    assert_eq!(shop.branches().await[0].holding, holding);
    assert!(shop.safe().await, "it still writes its own branch");
}

#[tokio::test]
async fn a_long_run_is_shown_only_once_its_end_has_come() {
    let shop = Place::founded("downtown").await;
    let peer = shop.joining("uptown").await;
    let application = shop.application("pos.db");
    let number = shop.attach("pos", "pos.db").await;
    let sql = "WITH RECURSIVE n(id) AS (VALUES (3) UNION ALL SELECT id + 1 FROM n LIMIT 35000)
               INSERT INTO item SELECT id, 'salt ' || id FROM n";
    application.execute(sql, []).unwrap();
    shop.harvest(number).await;
    let local = shop.branches().await.remove(0);
    let (branch, held) = (local.holding.branch, local.holding.held);
    assert_eq!(held, Sequence(5), "the schema, and a run of four");
    let admitted = peer.admit(SignedOpening::clone(&local.opening)).await.unwrap();
    peer.take_base(&shop, branch).await;
    loop {
        let after = peer.branches().await[0].holding.held;
        peer.apply(admitted.database).await;
        let applied = peer.branches().await[0].holding.applied;
        let whole = if after == held { held } else { after.min(Sequence(1)) };
        assert_eq!(applied, whole);
        if after == held {
            break;
        }
        let read = move |engine: &mut Engine| {
            let mut flight = engine.read_flight(branch, after)?.unwrap();
            flight.frames.truncate(1);
            let row = engine.store.branch(branch)?.unwrap();
            let hash = engine.store.hash_at(&row, after.next())?.unwrap();
            flight.signature = protocol::flight::sign(&engine.key, branch, after.next(), hash);
            Ok(flight)
        };
        let flight = shop.step(read).await;
        peer.step(move |engine| engine.receive_flight(&flight)).await;
    }
    let path = peer.file("site/mirrors/downtown/pos.db");
    assert_eq!(names(&path).len(), 35_002);
}

#[tokio::test]
async fn a_schema_is_not_shown_before_the_rows_that_came_with_it() {
    let shop = Place::founded("downtown").await;
    let peer = shop.joining("uptown").await;
    let application = shop.application("pos.db");
    let number = shop.attach("pos", "pos.db").await;
    let local = shop.branches().await.remove(0);
    let branch = local.holding.branch;
    let admitted = peer.admit(SignedOpening::clone(&local.opening)).await.unwrap();
    let sql = "BEGIN; ALTER TABLE item ADD COLUMN price DEFAULT 1; UPDATE item SET price = 2;
               UPDATE item SET name = 'white ' || name; COMMIT";
    application.execute_batch(sql).unwrap();
    let moved = shop.step(move |engine| engine.read_harvest(number)).await;
    assert!(matches!(moved, Harvest::Moved), "{moved:?}");
    let refreshed = shop.step(move |engine| engine.refresh_capture(number)).await;
    assert!(matches!(&refreshed, Refresh::Done(done) if done.numbered.is_some()), "{refreshed:?}");
    let mirror = peer.file("site/mirrors/downtown/pos.db");
    for (expected, columns) in [(["tea", "salt"], 2), (["white tea", "white salt"], 3)] {
        peer.take(&shop, branch).await;
        peer.apply(admitted.database).await;
        assert_eq!(names(&mirror), expected);
        let reader = rusqlite::Connection::open(&mirror).unwrap();
        assert_eq!(reader.prepare("SELECT * FROM item").unwrap().column_count(), columns);
        shop.harvest(number).await;
    }
    let compared = crate::demo::compare::compare(&shop.file("pos.db"), &mirror).unwrap();
    assert!(compared.identical(), "{:?}", compared.differences);
}

/// Trap 4: to SQLite it is the same key, so no trigger tells that the old one went.
#[tokio::test]
async fn a_key_that_becomes_equal_in_other_bits_moves_in_the_mirror() {
    let shop = Place::founded("downtown").await;
    let peer = shop.joining("uptown").await;
    let application = shop.application("pos.db");
    let sql = "DROP TABLE item; CREATE TABLE item (id PRIMARY KEY NOT NULL, name) ";
    application.execute_batch(sql).unwrap();
    let sql = "INSERT INTO item VALUES (1, 'tea'), (2.0, 'salt'), (-0.0, 'oil')";
    application.execute_batch(sql).unwrap();
    let number = shop.attach("pos", "pos.db").await;
    let branch = shop.branches().await[0].holding.branch;
    let opening = SignedOpening::clone(&shop.branches().await[0].opening);
    let admitted = peer.admit(opening).await.unwrap();
    for sql in [
        "UPDATE item SET id = 1.0 WHERE id = 1",
        "REPLACE INTO item VALUES (2, 'salt'); UPDATE item SET id = 0.0 WHERE id = 0",
        "UPDATE item SET id = id + 0.0; UPDATE item SET id = 0 WHERE id = 0",
        "DELETE FROM item WHERE id = 1; INSERT INTO item VALUES (1, 'milk')",
    ] {
        application.execute_batch(sql).unwrap();
        shop.harvest(number).await;
        peer.take(&shop, branch).await;
        peer.apply(admitted.database).await;
        let mirror = peer.file("site/mirrors/downtown/pos.db");
        let compared = crate::demo::compare::compare(&shop.file("pos.db"), &mirror).unwrap();
        assert!(compared.identical(), "{sql}: {:?}", compared.differences);
    }
}
