//! What happens in a shop, change by change.

use super::super::{Assignment, Change, Column, Loser, Lost, Reason, RowState};
use super::{merged, packed, unpacked, version};
use crate::{Rule, SiteId, Value};

const NAME: Column = Column(0);
const STOCK: Column = Column(1);

fn insert(name: &str, stock: i64) -> Change {
    Change::Insert(vec![
        (NAME, Value::text(name), Rule::LastWriter),
        (STOCK, Value::Integer(stock), Rule::Counter),
    ])
}

fn set(column: Column, value: Value, rule: Rule) -> Change {
    Change::Update(vec![(column, Assignment::Set(value, rule))])
}

fn name(name: &str) -> Change {
    set(NAME, Value::text(name), Rule::LastWriter)
}

fn add(amount: i64) -> Change {
    Change::Update(vec![(STOCK, Assignment::Add(Value::Integer(amount)))])
}

fn lost(loser: Loser, version: u64, winner: u64, reason: Reason) -> Lost {
    Lost { loser, version: self::at(version), winner: self::at(winner), reason }
}

fn at(timestamp: u64) -> crate::Version {
    version(timestamp, 1)
}

fn text(state: &RowState) -> Value {
    state.value(NAME).unwrap()
}

#[test]
fn ten_less_one_less_three_is_six_in_any_order() {
    let changes = [(at(1), insert("tea", 10)), (at(2), add(-1)), (version(2, 2), add(-3))];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let state = merged(&order.map(|index| changes[index].clone()));
        assert_eq!(state.value(STOCK), Some(Value::Integer(6)));
    }
}

#[test]
fn a_count_ends_what_was_added_before() {
    let mut state = merged(&[(at(1), insert("tea", 10)), (at(3), add(-1))]);
    let counted = set(STOCK, Value::Integer(8), Rule::Counter);
    let ten = Loser::Set(STOCK, Value::Integer(10));
    let less_one = Loser::Add(STOCK, Value::Integer(-1));
    assert_eq!(
        state.merge(at(5), &counted),
        [lost(ten, 1, 5, Reason::Superseded), lost(less_one, 3, 5, Reason::Superseded)]
    );
    let late = state.merge(at(4), &add(-2));
    let less_two = Loser::Add(STOCK, Value::Integer(-2));
    assert_eq!(late, [lost(less_two, 4, 5, Reason::LaterWriter)]);
    assert_eq!(state.value(STOCK), Some(Value::Integer(8)));
}

#[test]
fn an_add_does_not_revive() {
    let mut state = merged(&[(at(1), insert("tea", 10)), (at(2), Change::Delete)]);
    let less_one = Loser::Add(STOCK, Value::Integer(-1));
    assert_eq!(state.merge(at(3), &add(-1)), [lost(less_one, 3, 2, Reason::AddToDeleted)]);
    assert!(!state.is_live());
    assert_eq!(state.rank(), Some(at(2)));
    // It counts again if the row does.
    state.merge(at(4), &name("green tea"));
    assert_eq!(state.value(STOCK), Some(Value::Integer(9)));
}

#[test]
fn an_update_above_a_delete_revives_with_the_old_columns() {
    let mut state = merged(&[(at(1), insert("tea", 10)), (at(2), Change::Delete)]);
    let lost_delete = lost(Loser::Delete, 2, 3, Reason::Revived);
    assert_eq!(state.merge(at(3), &name("green tea")), [lost_delete]);
    assert!(state.is_live());
    assert_eq!(text(&state), Value::text("green tea"));
    assert_eq!(state.value(STOCK), Some(Value::Integer(10)));
    assert_eq!((state.deleted(), state.rank()), (Some(at(2)), Some(at(1))));
    // In the other order the delete is the one that comes too late.
    let mut state = merged(&[(at(1), insert("tea", 10)), (at(3), name("green tea"))]);
    assert_eq!(state.merge(at(2), &Change::Delete), [lost(Loser::Delete, 2, 3, Reason::Revived)]);
}

#[test]
fn a_delete_above_an_update_wins_and_says_what_it_took() {
    let mut state = merged(&[(at(1), insert("tea", 10)), (at(2), add(-1))]);
    let mut told = state.merge(at(4), &Change::Delete);
    told.extend(state.merge(at(3), &name("green tea")));
    let losers = [
        lost(Loser::Insert, 1, 4, Reason::Deleted),
        lost(Loser::Set(NAME, Value::text("tea")), 1, 4, Reason::Deleted),
        lost(Loser::Set(STOCK, Value::Integer(10)), 1, 4, Reason::Deleted),
        lost(Loser::Add(STOCK, Value::Integer(-1)), 2, 4, Reason::Deleted),
        lost(Loser::Set(NAME, Value::text("green tea")), 3, 4, Reason::Deleted),
    ];
    assert_eq!(told, losers);
}

#[test]
fn a_row_inserted_again_ranks_by_its_new_birth() {
    let mut state = merged(&[(at(1), insert("tea", 10)), (at(2), Change::Delete)]);
    state.merge(at(5), &insert("mate", 1));
    state.merge(at(4), &insert("maté", 2));
    assert_eq!(state.rank(), Some(at(4)));
    assert_eq!(text(&state), Value::text("mate"));
    state.merge(at(4).max(version(4, 2)), &Change::Delete);
    assert_eq!(state.rank(), Some(at(5)));
}

#[test]
fn without_insert_there_is_no_rank() {
    let mut state = merged(&[(at(2), name("tea"))]);
    assert_eq!((state.is_live(), state.rank()), (true, None));
    state.merge(at(1), &insert("water", 3));
    assert_eq!((state.rank(), text(&state)), (Some(at(1)), Value::text("tea")));
}

#[test]
fn the_first_writer_keeps_the_seat() {
    let seat = |guest: Value| set(NAME, guest, Rule::FirstWriter);
    let mut state =
        merged(&[(at(1), Change::Insert(vec![(NAME, Value::Null, Rule::FirstWriter)]))]);
    state.merge(at(3), &seat(Value::text("Ann")));
    let bob = state.merge(at(4), &seat(Value::text("Bob")));
    let loser = Loser::Set(NAME, Value::text("Bob"));
    assert_eq!(bob, [lost(loser, 4, 3, Reason::EarlierWriter)]);
    let cid = state.merge(at(2), &seat(Value::text("Cid")));
    let loser = Loser::Set(NAME, Value::text("Ann"));
    assert_eq!(cid, [lost(loser, 3, 2, Reason::EarlierWriter)]);
    assert_eq!(text(&state), Value::text("Cid"));
    // Once all sites know, two are enough to keep.
    assert!(state.compact(&|version| version <= at(4)));
    // The next evening is another life of the row.
    state.merge(at(5), &Change::Delete);
    state.merge(at(6), &Change::Insert(Vec::new()));
    assert_eq!((text(&state), state.version(NAME)), (Value::Null, Some(at(6))));
    state.merge(at(7), &seat(Value::text("Dan")));
    assert_eq!(text(&state), Value::text("Dan"));
}

#[test]
fn what_was_appended_stays() {
    let entry = |amount| set(STOCK, Value::Integer(amount), Rule::AppendOnly);
    let mut state = merged(&[(at(3), entry(3))]);
    let three = Loser::Set(STOCK, Value::Integer(3));
    assert_eq!(state.merge(at(2), &entry(2)), [lost(three, 3, 2, Reason::EarlierWriter)]);
    let four = Loser::Set(STOCK, Value::Integer(4));
    assert_eq!(state.merge(at(4), &entry(4)), [lost(four, 4, 2, Reason::EarlierWriter)]);
    assert_eq!(state.value(STOCK), Some(Value::Integer(2)));
}

#[test]
fn head_office_sets_the_price() {
    let price = |cents, rule| set(STOCK, Value::Integer(cents), rule);
    let mut state = merged(&[(at(1), price(100, Rule::Yields))]);
    assert_eq!(state.value(STOCK), Some(Value::Integer(100)));
    state.merge(at(2), &price(120, Rule::SitePriority));
    let shop = state.merge(at(3), &price(90, Rule::Yields));
    let ninety = Loser::Set(STOCK, Value::Integer(90));
    assert_eq!(shop, [lost(ninety, 3, 2, Reason::PrioritySite)]);
    assert_eq!(state.value(STOCK), Some(Value::Integer(120)));
    // The owner gives the rule up: from the next change on it is the last writer again.
    state.merge(at(4), &price(80, Rule::LastWriter));
    assert_eq!(state.value(STOCK), Some(Value::Integer(80)));
}

#[test]
fn nothing_is_added_to_words() {
    let mut state = merged(&[(at(1), set(STOCK, Value::text("plenty"), Rule::Counter))]);
    let less_one = Loser::Add(STOCK, Value::Integer(-1));
    assert_eq!(state.merge(at(3), &add(-1)), [lost(less_one, 3, 1, Reason::NotANumber)]);
    assert_eq!(state.value(STOCK), Some(Value::text("plenty")));
    // The set that it was meant for comes late.
    state.merge(at(2), &set(STOCK, Value::Integer(5), Rule::Counter));
    assert_eq!(state.value(STOCK), Some(Value::Integer(4)));
}

#[test]
fn a_column_that_was_never_set_counts_from_null() {
    let mut state = merged(&[(at(1), Change::Insert(Vec::new()))]);
    assert_eq!(state.value(STOCK), None);
    state.merge(at(2), &add(-2));
    state.merge(at(3), &add(5));
    assert!(state.compact(&|version| version <= at(2)));
    assert_eq!(state.value(STOCK), Some(Value::Integer(3)));
    assert_eq!(state.version(STOCK), None);
}

#[test]
fn folding_leaves_one_number_and_no_change_counts_twice() {
    let mut changes = vec![(at(1), insert("tea", 1000))];
    changes.extend((2..200).map(|time| (at(time), add(-1))));
    let mut state = merged(&changes);
    let long = packed(&state).len();
    assert!(state.compact(&|_| true));
    assert!(packed(&state).len() < 60 && long > 700, "{} of {long}", packed(&state).len());
    assert_eq!(state.greatest(), Some(at(199)));
    let again = state.clone();
    let told = state.merge(at(7), &add(-1));
    let less_one = Loser::Add(STOCK, Value::Integer(-1));
    assert_eq!(told, [lost(less_one, 7, 199, Reason::Repeated)]);
    assert_eq!(state, again);
    assert_eq!(state.value(STOCK), Some(Value::Integer(802)));
}

#[test]
fn a_row_that_was_only_inserted_costs_one_stamp() {
    let columns = (0..20).map(|column| (Column(column), Value::Null, Rule::LastWriter));
    let mut state = merged(&[(version(1 << 60, 1), Change::Insert(columns.collect()))]);
    assert_eq!(packed(&state).len() - 20, 20, "beside its values");
    state.merge(version((1 << 60) + 5_000_000, 2), &name("tea"));
    assert!(packed(&state).len() < 65, "{}", packed(&state).len());
}

#[test]
fn what_no_row_packs_to_is_refused() {
    type Stamp = (i64, u32);
    let ok = ((5_u64, 1_u32), 0_u8, [0_u32, 1], [7_i64]);
    let row = |common: (u64, u32), runs: &[u32], inserts: &[Stamp], at: u32, cell: u32, sum| {
        let set = ((0_i64, 1_u32), 7_i64, 0_u8, sum);
        let add = ((1_i64, 1_u32), 1_i64);
        let cells = [(cell, [set], [add], ())];
        let rest = (inserts, (), (), [(at, (1_i64, 2_u32), 0_u8)], cells);
        unpacked(&rmp_serde::to_vec(&(common, ok.1, runs, ok.3, rest)).unwrap())
    };
    let stamps: &[Stamp] = &[(0, 1), (0, 2)];
    let none = None::<&str>;
    assert!(row(ok.0, &ok.2, stamps, 0, 1, none).is_some());
    assert!(row(ok.0, &ok.2, stamps, 0, 0, none).is_none(), "a column twice");
    assert!(row(ok.0, &ok.2, stamps, 1, 1, none).is_none(), "a stamp of no cell");
    assert!(row(ok.0, &ok.2, stamps, 0, 1, Some("1")).is_none(), "a sum of text");
    assert!(row(ok.0, &[0], stamps, 0, 1, none).is_none(), "half a run");
    assert!(row(ok.0, &[0, u32::MAX], stamps, 0, 1, none).is_none(), "a run without values");
    assert!(row(ok.0, &[u32::MAX, 1], stamps, 0, 1, none).is_none(), "a run over the edge");
    assert!(row(ok.0, &[1, 0, 0, 1], stamps, 0, 1, none).is_some(), "an empty run");
    assert!(row(ok.0, &ok.2, &[(0, 2), (0, 1)], 0, 1, none).is_none(), "inserts out of order");
    assert!(row(ok.0, &ok.2, &[(-6, 1)], 0, 1, none).is_none(), "a stamp below zero");
    assert!(row((5, 300), &ok.2, stamps, 0, 1, none).is_none(), "an unknown site");
    let top = i64::MAX as u64;
    assert!(row((top, 1), &ok.2, stamps, 0, 1, none).is_none(), "a stamp over the ceiling");
    assert!(row((top - 1, 1), &ok.2, stamps, 0, 1, none).is_some());
}

#[test]
fn unknown_sites_are_named() {
    let packed = merged(&[(at(1), name("tea"))]).pack(&mut |_| 7);
    let error =
        RowState::unpack(&packed, &|number| (number != 7).then(|| SiteId::from_bytes([0; 16])));
    assert_eq!(error, Err(super::super::UnpackError::Site(7)));
    assert!(unpacked(&[]).is_none());
}
