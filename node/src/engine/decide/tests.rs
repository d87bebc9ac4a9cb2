//! What people are shown and what their decisions become, on an engine with a shared database.

use super::*;
use crate::directory::Directory;
use crate::engine::members::found;
use crate::environment::Environment;
use crate::environment::production::Production;
use crate::failure::FailureKind;
use crate::shared::MergedId;
use crate::shared::conflicts::{note_lost, note_shown};
use crate::store::databases::add_database;
use conflict::row::{Assignment, Change, RowState};
use conflict::visible::{Mark, Shown};
use conflict::{Timestamp, WallTime};
use protocol::{DatabaseId, Sequence};
use serde_json::json;
use std::sync::Arc;
use tempfile::TempDir;

const NAME: Column = Column(0);
const STOCK: Column = Column(1);

struct Desk {
    _folder: TempDir,
    engine: Engine,
    database: DatabaseNumber,
    table: i64,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let directory = Directory::new(folder.path().join("site"));
        let environment: Arc<dyn Environment> = Arc::new(Production::default());
        let listen = "127.0.0.1:4433".parse().unwrap();
        let name = "downtown".parse().unwrap();
        let who = found(&*environment, &directory, &name, listen, &[]).unwrap();
        let engine = Engine::open(environment, directory).unwrap();
        let row = |id: u8, name: &str, mode| DatabaseRow {
            number: DatabaseNumber(0),
            id: DatabaseId(uuid::Uuid::from_bytes([id; 16])),
            name: name.parse().unwrap(),
            site: who.site,
            mode,
            state: DatabaseState::Attached,
            path: folder.path().join(name),
            branch: None,
        };
        let connection = engine.store.connection();
        add_database(connection, &row(1, "pos", Mode::Mirror)).unwrap();
        let database = add_database(connection, &row(2, "club", Mode::Shared)).unwrap();
        let application = Connection::open_in_memory().unwrap();
        application
            .execute_batch(
                "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, stock INTEGER);
                 CREATE TABLE session (id TEXT PRIMARY KEY)",
            )
            .unwrap();
        let schema = crate::capture::inspect(&application, None).unwrap().schema;
        let images = Images::new(connection, database.0);
        let captured = images.number_tables(&schema).unwrap();
        let table = captured.number(schema.find("item").unwrap()).unwrap();
        let position = crate::capture::Position {
            fence: crate::capture::Fence { id: 0, nonce: 0 },
            schema_version: None,
            file: crate::environment::FileIdentity { device: 0, inode: 0 },
        };
        images.store_schema(&position, &schema, Sequence(1)).unwrap();
        for (number, name) in [(NAME, "name"), (STOCK, "stock")] {
            connection
                .execute(
                    "INSERT INTO merged_column VALUES (?, ?, ?, ?)",
                    rusqlite::params![database.0, table, number.0, name],
                )
                .unwrap();
        }
        Self { _folder: folder, engine, database, table }
    }

    fn context(&self) -> Context<'_> {
        let connection = self.engine.store.connection();
        Context { connection, database: self.database, now: WallTime(0) }
    }

    fn row(&self) -> MergedId {
        let key = crate::capture::pack(&[Value::Integer(7)]);
        MergedId { table: self.table, key, birth: Vec::new() }
    }

    /// Merges changes of which only the first was seen by the others.
    fn merge(&self, changes: Vec<(Version, Change)>) {
        let born = changes[0].0;
        let mut state = RowState::new();
        for (version, change) in changes {
            let lost = state.merge(version, &change);
            note_lost(self.context(), &self.row(), Some(&state), &lost, &|lost, _| lost == born)
                .unwrap();
        }
    }

    fn only(&self) -> ConflictView {
        let mut view = self.engine.conflicts().unwrap();
        assert_eq!(view.conflicts.len(), 1, "{view:?}");
        view.conflicts.remove(0)
    }

    /// What keeping the loser of the only conflict takes.
    fn loser(&self) -> Result<OwnOperation, EngineError> {
        let conflict = self.engine.find_conflict(self.only().id).unwrap();
        let change = self.engine.change_for(&conflict)?;
        assert_eq!((change.table.as_str(), change.birth), ("item", None));
        assert_eq!(change.key, [Value::Integer(7)]);
        Ok(change.operation)
    }
}

fn name(name: &str) -> Name {
    name.parse().unwrap()
}

fn version(time: u64, site: u8) -> Version {
    let timestamp = Timestamp::try_from(time << 22).unwrap();
    Version { timestamp, origin: SiteId::from_bytes([site; 16]) }
}

fn set(value: i64, rule: Rule) -> Change {
    Change::Update(vec![(STOCK, Assignment::Set(Value::Integer(value), rule))])
}

fn born() -> (Version, Change) {
    let rule = Rule::LastWriter;
    let columns = vec![(NAME, Value::text("tea"), rule), (STOCK, Value::Null, rule)];
    (version(1, 1), Change::Insert(columns))
}

fn failure<T: std::fmt::Debug>(result: Result<T, EngineError>) -> Failure {
    Failure::from(result.unwrap_err())
}

#[test]
fn rules_are_shown_with_proposals_for_shared_databases_alone() {
    let desk = Desk::new();
    let view = desk.engine.policy(&name("club")).unwrap();
    let rules: Vec<_> = view
        .policy
        .iter()
        .map(|rule| (rule.table.as_str(), rule.rule.as_str(), rule.default))
        .collect();
    assert_eq!(rules, [("item", "last-writer", true), ("session", "last-writer", true)]);
    let commands: Vec<_> = view.proposals.iter().map(|of| of.command.as_str()).collect();
    assert_eq!(commands, ["node policy club item.stock counter", "node policy club session local"]);
    assert_eq!(failure(desk.engine.policy(&name("pos"))).kind, FailureKind::Refused);
    assert_eq!(failure(desk.engine.policy(&name("none"))).kind, FailureKind::Usage);
}

#[test]
fn a_wrong_rule_is_refused_before_anything_is_numbered() {
    let mut desk = Desk::new();
    let mut choose =
        |subject, rule| failure(desk.engine.choose_rule(&name("club"), subject, rule)).to_string();
    assert!(choose("item.stok", "counter").contains("nearest is stock"));
    assert!(choose("item.stock", "site-priority dwntown").contains("site-priority downtown"));
}

#[test]
fn an_edit_that_lost_is_shown_and_can_be_kept() {
    let desk = Desk::new();
    let rule = Rule::LastWriter;
    desk.merge(vec![born(), (version(5, 2), set(5, rule)), (version(7, 3), set(7, rule))]);
    let shown = serde_json::to_value(desk.only()).unwrap();
    let site = |site: u8| SiteId::from_bytes([site; 16]).to_string();
    assert_eq!(
        shown,
        json!({
            "id": 1, "database": "club", "table": "item", "key": [7], "kind": "edit",
            "column": "stock",
            "winner": {"value": 7, "site": site(3), "at": "2024-01-01T00:00:00.007Z"},
            "loser": {"value": 5, "site": site(2), "at": "2024-01-01T00:00:00.005Z"},
            "since": "1970-01-01T00:00:00Z", "decided": false
        })
    );
    let expected = OwnOperation::Set(vec![("stock".into(), Value::Integer(5), rule)]);
    assert_eq!(desk.loser().unwrap(), expected);
}

#[test]
fn what_is_decided_is_not_decided_again() {
    let mut desk = Desk::new();
    let rule = Rule::LastWriter;
    desk.merge(vec![born(), (version(5, 2), set(5, rule)), (version(7, 3), set(7, rule))]);
    let id = desk.only().id;
    list::set_decided(desk.context(), id).unwrap();
    assert!(desk.engine.conflicts().unwrap().conflicts.is_empty());
    assert!(desk.engine.conflict(id).unwrap().decided);
    for choose in [Choose::Winner, Choose::Loser] {
        assert_eq!(failure(desk.engine.keep(id, choose)).kind, FailureKind::Refused);
    }
    assert_eq!(failure(desk.engine.keep(id + 1, Choose::Winner)).kind, FailureKind::Usage);
}

#[test]
fn each_loser_becomes_a_change_that_makes_it_count() {
    let desk = Desk::new();
    let rule = Rule::LastWriter;
    desk.merge(vec![born(), (version(5, 2), set(5, rule)), (version(7, 3), Change::Delete)]);
    assert!(desk.only().winner.deleted);
    assert_eq!(desk.only().loser.value, json!({"stock": 5}));
    let expected = OwnOperation::Revive(vec![("stock".into(), Value::Integer(5), rule)]);
    assert_eq!(desk.loser().unwrap(), expected);

    let desk = Desk::new();
    desk.merge(vec![born(), (version(5, 2), Change::Delete), (version(7, 3), set(5, rule))]);
    assert_eq!(desk.loser().unwrap(), OwnOperation::Delete);

    let add = |amount| Change::Update(vec![(STOCK, Assignment::Add(Value::Integer(amount)))]);
    let desk = Desk::new();
    desk.merge(vec![born(), (version(5, 2), add(-3)), (version(7, 3), set(5, rule))]);
    assert!(desk.only().loser.added);
    assert_eq!(desk.loser().unwrap(), OwnOperation::Add("stock".into(), Value::Integer(-3)));

    let desk = Desk::new();
    desk.merge(vec![born(), (version(5, 2), Change::Delete), (version(7, 3), add(-3))]);
    assert_eq!(desk.only().column.as_deref(), Some("stock"));
    assert_eq!(desk.loser().unwrap(), OwnOperation::Revive(Vec::new()));

    // A first writer's or another site's value is not overcome by one under the same label.
    let desk = Desk::new();
    let (first, second) = (set(5, Rule::FirstWriter), set(7, Rule::FirstWriter));
    desk.merge(vec![born(), (version(5, 2), first), (version(7, 3), second)]);
    assert_eq!(desk.only().kind, "first-writer");
    let expected = OwnOperation::Set(vec![("stock".into(), Value::Integer(7), rule)]);
    assert_eq!(desk.loser().unwrap(), expected);

    let desk = Desk::new();
    let (mine, other) = (set(5, Rule::SitePriority), set(7, Rule::Yields));
    desk.merge(vec![born(), (version(5, 2), mine), (version(7, 3), other)]);
    let labelled = vec![("stock".into(), Value::Integer(7), Rule::SitePriority)];
    assert_eq!(desk.loser().unwrap(), OwnOperation::Set(labelled));
}

#[test]
fn a_mark_can_be_accepted_and_a_parked_row_says_why() {
    let desk = Desk::new();
    let mark = Mark { column: 1, meant: Value::text("tea"), shown: Value::text("tea~uptown~7") };
    let marked = Shown::Visible { kept: false, values: Vec::new(), marks: vec![mark] };
    note_shown(desk.context(), &desk.row(), &Shown::Hidden, &marked).unwrap();
    let view = desk.only();
    assert_eq!((view.kind.as_str(), view.column.as_deref()), ("marked", Some("name")));
    assert_eq!((view.winner.value, view.loser.value), (json!("tea"), json!("tea~uptown~7")));
    // Left once, it can still be accepted later.
    let found = desk.engine.find_conflict(view.id).unwrap();
    list::set_decided(desk.context(), view.id).unwrap();
    let change = desk.engine.change_for(&found).unwrap();
    let shown = ("name".into(), Value::text("tea~uptown~7"), Rule::LastWriter);
    assert_eq!(change.operation, OwnOperation::Set(vec![shown]));

    let table = conflict::visible::Table(0);
    let parent = conflict::visible::RowId { table, key: vec![Value::Integer(3)], birth: None };
    let reason =
        conflict::visible::Reason::Parent { foreign_key: conflict::visible::ForeignKey(0), parent };
    note_shown(desk.context(), &desk.row(), &marked, &Shown::Parked(reason)).unwrap();
    let view = desk.only();
    assert_eq!(view.why.as_deref(), Some("It refers to item 3, which is not there."));
    assert_eq!(failure(desk.loser()).kind, FailureKind::Refused);
}

#[test]
fn a_command_is_written_as_a_shell_takes_it() {
    let proposal = policy::Proposal {
        table: "my items".into(),
        column: Some("it's".into()),
        choice: policy::Choice::Counter,
        why: "",
    };
    let command = ProposalView::new(&name("club"), proposal).command;
    assert_eq!(command, r"node policy club 'my items.it'\''s' counter");
}
