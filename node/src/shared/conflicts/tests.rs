//! What is noted when changes of real row states meet, in a real `node.db`.

use super::list::{Conflict, Counts, counts, dropped, find, set_decided, undecided};
use super::*;
use crate::environment::production::Production;
use crate::store::Store;
use conflict::row::{Assignment, Change};
use conflict::visible::Mark;
use conflict::{Rule, SiteId, Timestamp};
use tempfile::TempDir;

const DATABASE: DatabaseNumber = DatabaseNumber(1);
const NAME: Column = Column(0);
const STOCK: Column = Column(1);

struct Desk {
    _folder: TempDir,
    store: Store,
}

impl Desk {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("node.db");
        let store = Store::open(&Production::default(), &path, true).unwrap();
        store
            .connection()
            .execute_batch("INSERT INTO captured_table VALUES (1, 3, 'item')")
            .unwrap();
        Self { _folder: folder, store }
    }

    fn context(&self) -> Context<'_> {
        Context { connection: self.store.connection(), database: DATABASE, now: WallTime(1000) }
    }

    fn all(&self) -> Vec<Conflict> {
        undecided(self.store.connection()).unwrap()
    }

    fn kinds(&self) -> Vec<Kind> {
        self.all().into_iter().map(|conflict| conflict.kind).collect()
    }

    /// Merges changes in the order given; nobody but the origins saw anything, apart from `seen`.
    fn merge(&self, changes: &[(Version, Change)], seen: &[(Version, Version)]) -> RowState {
        let seen = |loser: Version, winner: Version| {
            loser.origin == winner.origin && loser < winner || seen.contains(&(loser, winner))
        };
        let mut state = RowState::new();
        for (version, change) in changes {
            let lost = state.merge(*version, change);
            note_lost(self.context(), &row(7), Some(&state), &lost, &seen).unwrap();
        }
        state
    }
}

fn row(key: i64) -> MergedId {
    let key = crate::capture::pack(&[Value::Integer(key)]);
    MergedId { table: 3, key, birth: Vec::new() }
}

fn version(time: u64, site: u8) -> Version {
    let timestamp = Timestamp::try_from(time).unwrap();
    Version { timestamp, origin: SiteId::from_bytes([site; 16]) }
}

fn set(column: Column, value: Value, rule: Rule) -> Change {
    Change::Update(vec![(column, Assignment::Set(value, rule))])
}

fn stock(value: i64) -> Change {
    set(STOCK, Value::Integer(value), Rule::LastWriter)
}

fn add(amount: i64) -> Change {
    Change::Update(vec![(STOCK, Assignment::Add(Value::Integer(amount)))])
}

fn insert_of(name: &str, stock: i64) -> Change {
    let rule = Rule::LastWriter;
    Change::Insert(vec![(NAME, Value::text(name), rule), (STOCK, Value::Integer(stock), rule)])
}

/// The row that all began with, which everyone has seen.
fn born() -> (Version, Change) {
    (version(1, 1), insert_of("tea", 10))
}

fn seen_by_all(others: &[Version]) -> Vec<(Version, Version)> {
    others.iter().map(|other| (version(1, 1), *other)).collect()
}

fn sides(conflict: &Conflict) -> (Side, Side) {
    match &conflict.detail {
        Detail::Lost { loser, winner } => (loser.clone(), winner.clone()),
        other => panic!("{other:?}"),
    }
}

fn gave(version: Version, values: &[(Column, Value)]) -> Side {
    Side { version, what: What::Set(values.to_vec()) }
}

#[test]
fn an_edit_that_lost_unseen_is_told_once_with_both_values() {
    let (early, late) = (version(5, 2), version(7, 3));
    let seen = seen_by_all(&[early, late]);
    for order in [[early, late], [late, early]] {
        let desk = Desk::new();
        let change = |version| (version, stock(if version == early { 5 } else { 7 }));
        let changes = [born(), change(order[0]), change(order[1])];
        desk.merge(&changes, &seen);
        let all = desk.all();
        assert_eq!(desk.kinds(), [Kind::Edit]);
        assert_eq!(
            sides(&all[0]),
            (gave(early, &[(STOCK, Value::Integer(5))]), gave(late, &[(STOCK, Value::Integer(7))]))
        );
        assert_eq!(
            (all[0].table.as_str(), &all[0].row, all[0].since),
            ("item", &row(7), WallTime(1000))
        );
        // Told again, it is the same; decided, it stays decided.
        desk.merge(&changes, &seen);
        assert_eq!(desk.all(), all);
        set_decided(desk.context(), all[0].id).unwrap();
        desk.merge(&changes, &seen);
        assert_eq!(desk.kinds(), []);
        assert!(find(desk.store.connection(), all[0].id).unwrap().unwrap().decided);
    }
}

#[test]
fn what_was_seen_or_is_equal_is_no_conflict() {
    let (early, late) = (version(5, 2), version(7, 3));
    let mut seen = seen_by_all(&[early, late]);
    let equal = Desk::new();
    equal.merge(&[born(), (early, stock(5)), (late, stock(5))], &seen);
    assert_eq!(equal.kinds(), []);
    let known = Desk::new();
    seen.push((early, late));
    known.merge(&[born(), (early, stock(5)), (late, stock(7))], &seen);
    assert_eq!(known.kinds(), []);
}

#[test]
fn a_delete_and_an_edit_are_one_conflict_whichever_lost() {
    let both = Change::Update(vec![
        (NAME, Assignment::Set(Value::text("chai"), Rule::LastWriter)),
        (STOCK, Assignment::Set(Value::Integer(5), Rule::LastWriter)),
    ]);
    let (early, late) = (version(5, 2), version(7, 3));
    let seen = seen_by_all(&[early, late]);
    let values = [(NAME, Value::text("chai")), (STOCK, Value::Integer(5))];
    for turned in [false, true] {
        let edit_lost = Desk::new();
        let mut changes = vec![born(), (early, both.clone()), (late, Change::Delete)];
        if turned {
            changes.swap(1, 2);
        }
        edit_lost.merge(&changes, &seen);
        assert_eq!(edit_lost.kinds(), [Kind::DeleteEdit]);
        let deleted = |version| Side { version, what: What::Deleted };
        assert_eq!(sides(&edit_lost.all()[0]), (gave(early, &values), deleted(late)));

        let delete_lost = Desk::new();
        let mut changes = vec![born(), (early, Change::Delete), (late, both.clone())];
        if turned {
            changes.swap(1, 2);
        }
        delete_lost.merge(&changes, &seen);
        assert_eq!(delete_lost.kinds(), [Kind::DeleteEdit]);
        assert_eq!(sides(&delete_lost.all()[0]), (deleted(early), gave(late, &values)));
    }
}

#[test]
fn adds_that_do_not_count_are_told() {
    let (early, late) = (version(5, 2), version(7, 3));
    let seen = seen_by_all(&[early, late]);
    for (sold, deleted) in [(early, late), (late, early)] {
        let desk = Desk::new();
        desk.merge(&[born(), (deleted, Change::Delete), (sold, add(-3))], &seen);
        assert_eq!(desk.kinds(), [Kind::AddToDeleted]);
        let lost = Side { version: sold, what: What::Added(STOCK, Value::Integer(-3)) };
        assert_eq!(sides(&desk.all()[0]).0, lost);
    }
    let before_set = Desk::new();
    before_set.merge(&[born(), (early, add(-3)), (late, stock(20))], &seen);
    assert_eq!(before_set.kinds(), [Kind::Edit]);
    let to_text = Desk::new();
    let text = set(STOCK, Value::text("many"), Rule::LastWriter);
    to_text.merge(&[born(), (early, text), (late, add(-3))], &seen);
    assert_eq!(to_text.kinds(), [Kind::NotANumber]);
    let counted = Desk::new();
    counted.merge(&[born(), (early, add(-3)), (late, add(-2))], &seen);
    assert_eq!(counted.kinds(), []);
}

#[test]
fn rules_that_keep_another_value_are_told_by_their_names() {
    let (early, late) = (version(5, 2), version(7, 3));
    let seen = seen_by_all(&[early, late]);
    let first = |value| set(STOCK, Value::Integer(value), Rule::FirstWriter);
    let desk = Desk::new();
    let empty = Change::Insert(vec![(STOCK, Value::Null, Rule::FirstWriter)]);
    desk.merge(&[(version(1, 1), empty), (early, first(5)), (late, first(7))], &seen);
    assert_eq!(desk.kinds(), [Kind::FirstWriter]);
    let desk = Desk::new();
    let priority = set(STOCK, Value::Integer(5), Rule::SitePriority);
    let yields = set(STOCK, Value::Integer(7), Rule::Yields);
    desk.merge(&[born(), (early, priority), (late, yields)], &seen);
    assert_eq!(desk.kinds(), [Kind::Priority]);
    assert_eq!(sides(&desk.all()[0]).1, gave(early, &[(STOCK, Value::Integer(5))]));
}

#[test]
fn a_row_made_twice_is_one_conflict_of_the_columns_that_differ() {
    let (first, second) = (version(5, 2), version(7, 3));
    for turned in [false, true] {
        let desk = Desk::new();
        let mut changes = vec![(first, insert_of("tea", 10)), (second, insert_of("chai", 12))];
        if turned {
            changes.swap(0, 1);
        }
        desk.merge(&changes, &[]);
        assert_eq!(desk.kinds(), [Kind::Insert]);
        let values = |name, stock| [(NAME, Value::text(name)), (STOCK, Value::Integer(stock))];
        let expected = (gave(first, &values("tea", 10)), gave(second, &values("chai", 12)));
        assert_eq!(sides(&desk.all()[0]), expected);
    }
    let same = Desk::new();
    same.merge(&[(first, insert_of("tea", 10)), (second, insert_of("tea", 10))], &[]);
    assert_eq!(same.kinds(), []);
    // Who made no row had seen that of another, whether or not that is known here.
    let edited = Desk::new();
    edited.merge(&[born(), (version(5, 2), stock(5)), (version(6, 3), stock(6))], &[]);
    assert_eq!(edited.kinds(), [Kind::Edit, Kind::Edit]);
}

#[test]
fn without_the_state_the_winner_is_unknown_and_repetitions_are_nothing() {
    let desk = Desk::new();
    let lost = |reason| Lost {
        loser: Loser::Set(STOCK, Value::Integer(5)),
        version: version(5, 2),
        winner: version(7, 3),
        reason,
    };
    note_lost(desk.context(), &row(7), None, &[lost(Reason::Repeated)], &|_, _| false).unwrap();
    assert_eq!(desk.kinds(), []);
    note_lost(desk.context(), &row(7), None, &[lost(Reason::LaterWriter)], &|_, _| false).unwrap();
    assert_eq!(desk.kinds(), [Kind::Edit]);
    assert_eq!(sides(&desk.all()[0]).1.what, What::Unknown);
}

#[test]
fn what_lasts_comes_and_goes_with_what_is_shown() {
    let desk = Desk::new();
    let visible = |kept, shown: &[&str]| Shown::Visible {
        kept,
        values: Vec::new(),
        marks: shown
            .iter()
            .map(|shown| Mark { column: 1, meant: Value::text("INV-7"), shown: Value::text(shown) })
            .collect(),
    };
    let states = [
        (Shown::Parked(visible::Reason::Unborn), vec![Kind::Parked]),
        (Shown::Parked(visible::Reason::Rejected), vec![Kind::Parked]),
        (visible(true, &["INV-7~uptown~6"]), vec![Kind::Marked, Kind::Kept]),
        (visible(false, &["INV-7~uptown~6"]), vec![Kind::Marked]),
        (visible(false, &[]), vec![]),
        (visible(true, &[]), vec![Kind::Kept]),
        (Shown::Hidden, vec![]),
    ];
    let mut before = Shown::Hidden;
    for (after, kinds) in states {
        note_shown(desk.context(), &row(7), &before, &after).unwrap();
        assert_eq!(desk.kinds(), kinds);
        before = after;
    }
}

#[test]
fn what_lasts_keeps_its_number_and_is_undecided_again_when_it_changes() {
    let desk = Desk::new();
    let parked = |reason| Shown::Parked(reason);
    let (unborn, rejected) = (parked(visible::Reason::Unborn), parked(visible::Reason::Rejected));
    note_shown(desk.context(), &row(7), &Shown::Hidden, &unborn).unwrap();
    let id = desk.all()[0].id;
    set_decided(desk.context(), id).unwrap();
    note_shown(desk.context(), &row(7), &unborn, &unborn).unwrap();
    assert_eq!(desk.kinds(), []);
    let counted = counts(desk.store.connection(), DATABASE).unwrap();
    assert_eq!(counted, Counts { undecided: 0, parked: 1, dropped: 0 });
    note_shown(desk.context(), &row(7), &unborn, &rejected).unwrap();
    let all = desk.all();
    assert_eq!((all[0].id, all.len()), (id, 1));
    assert_eq!(all[0].detail, Detail::Parked(visible::Reason::Rejected));
    // Numbers are not given out twice.
    note_shown(desk.context(), &row(7), &rejected, &Shown::Hidden).unwrap();
    note_shown(desk.context(), &row(8), &Shown::Hidden, &rejected).unwrap();
    assert!(desk.all()[0].id > id);
}

#[test]
fn beyond_the_bound_the_oldest_go_and_are_counted() {
    let mut desk = Desk::new();
    let lost = [Lost {
        loser: Loser::Delete,
        version: version(5, 2),
        winner: version(7, 3),
        reason: Reason::Revived,
    }];
    let more = 3;
    desk.store
        .transaction(|connection| -> Result<(), StoreError> {
            let context = Context { connection, database: DATABASE, now: WallTime(1000) };
            let rejected = Shown::Parked(visible::Reason::Rejected);
            note_shown(context, &row(-1), &Shown::Hidden, &rejected)?;
            for key in 0..BOUND + more {
                note_lost(context, &row(key as i64), None, &lost, &|_, _| false)?;
            }
            Ok(())
        })
        .unwrap();
    let all = desk.all();
    assert_eq!(all.len() as u64, BOUND + 1);
    assert_eq!((&all[0].kind, &all[1].row), (&Kind::Parked, &row(more as i64)));
    let counted = counts(desk.store.connection(), DATABASE).unwrap();
    assert_eq!(counted, Counts { undecided: BOUND + 1, parked: 1, dropped: more });
    // What is decided makes room.
    set_decided(desk.context(), all[5].id).unwrap();
    note_lost(desk.context(), &row(-2), None, &lost, &|_, _| false).unwrap();
    assert_eq!(dropped(desk.store.connection(), DATABASE).unwrap(), more);
    forget(desk.store.connection(), DATABASE).unwrap();
    assert_eq!(counts(desk.store.connection(), DATABASE).unwrap(), Counts::default());
}
