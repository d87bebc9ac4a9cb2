//! Small named cases: marks, give-back, kept parents, parked rows, cycles, and bounded work.

use super::super::{ForeignKey, Index, Life, Meant, Reason, Reference, RowId, Shown, Table};
use super::books::Books;
use super::schema::{Column, Kind, Schema, TableSchema, Unique};
use super::{checks, version};
use crate::{Value, Version};
use std::collections::BTreeSet;

/// invoice: key, number (text, unique but for case), code (integer, unique, unmarkable),
/// customer (may be null). Of invoices, one key may mean two rows.
const INVOICE: Table = Table(0);
/// customer: key, name (any length up to `longest`, unique), referrer (another customer).
const CUSTOMER: Table = Table(1);

const CODE: Index = Index(1);
const NAME: Index = Index(2);
const OF_CUSTOMER: ForeignKey = ForeignKey(1);
const REFERRER: ForeignKey = ForeignKey(2);

fn shop(longest: Option<usize>, nullable_name: bool) -> Schema {
    let column = |kind, nullable| Column { kind, nullable };
    let customer =
        |foreign_key| Kind::Reference { table: CUSTOMER, foreign_key, keep_parent: true };
    let text = |longest| Kind::Text { longest };
    let invoices = vec![
        column(Kind::Integer, false),
        column(text(None), true),
        column(Kind::Integer, true),
        column(customer(OF_CUSTOMER), true),
    ];
    let customers = vec![
        column(Kind::Integer, false),
        column(text(longest), nullable_name),
        column(customer(REFERRER), true),
    ];
    let unique = |table, column| Unique {
        table,
        columns: vec![column],
        nocase: true,
        partial: None,
        prefix: false,
        null_integers: false,
    };
    Schema {
        tables: vec![
            TableSchema { collide: true, nocase_key: false, columns: invoices },
            TableSchema { collide: false, nocase_key: false, columns: customers },
        ],
        indexes: vec![unique(INVOICE, 1), unique(INVOICE, 2), unique(CUSTOMER, 1)],
    }
}

struct Case {
    schema: Schema,
    books: Books,
    touched: BTreeSet<RowId>,
}

fn customer(key: i64) -> RowId {
    RowId { table: CUSTOMER, key: vec![Value::Integer(key)], birth: None }
}

fn invoice(key: i64, birth: Version) -> RowId {
    RowId { table: INVOICE, key: vec![Value::Integer(key)], birth: Some(birth) }
}

impl Case {
    fn new() -> Self {
        Self::with(shop(None, false))
    }

    fn with(schema: Schema) -> Self {
        Self { schema, books: Books::default(), touched: BTreeSet::new() }
    }

    /// Of site 1 ('u') unless its rank says otherwise.
    fn customer(&mut self, key: i64, rank: u64, name: &str, referrer: Option<i64>) -> RowId {
        let id = customer(key);
        let to = referrer.map_or(Value::Null, Value::Integer);
        let values = vec![id.key[0].clone(), Value::text(name), to];
        let parent = referrer.map(|key| Reference { foreign_key: REFERRER, parent: customer(key) });
        self.put(&id, version(rank, 1), values, parent)
    }

    fn invoice(&mut self, key: i64, birth: Version, number: &str, code: Option<i64>) -> RowId {
        let id = invoice(key, birth);
        let code = code.map_or(Value::Null, Value::Integer);
        let values = vec![id.key[0].clone(), Value::text(number), code, Value::Null];
        self.put(&id, birth, values, None)
    }

    fn put(
        &mut self,
        id: &RowId,
        rank: Version,
        values: Vec<Value>,
        reference: Option<Reference>,
    ) -> RowId {
        let references = reference.into_iter().collect();
        let meant = Meant { life: Life::Live, rank, values, references, remembered: Vec::new() };
        self.books.rows.insert(id.clone(), meant);
        self.touched.insert(id.clone());
        id.clone()
    }

    fn change(&mut self, id: &RowId, change: impl FnOnce(&mut Meant)) {
        change(self.books.rows.get_mut(id).unwrap());
        self.touched.insert(id.clone());
    }

    fn delete(&mut self, id: &RowId) {
        self.change(id, |meant| meant.life = Life::Dead);
    }

    fn forget(&mut self, id: &RowId) {
        self.books.rows.remove(id);
        self.touched.insert(id.clone());
    }

    /// Settles, and tells which rows came out otherwise.
    fn settle(&mut self) -> Vec<RowId> {
        let touched = std::mem::take(&mut self.touched);
        let settled = self.books.settle(&self.schema, &touched);
        checks::check(&self.schema, &self.books);
        settled.into_iter().filter(|row| row.shown_changed()).map(|row| row.row).collect()
    }

    fn shown(&self, id: &RowId) -> Shown {
        self.books.outcomes.get(id).map(|outcome| outcome.shown.clone()).unwrap_or_default()
    }

    /// The text in column 1, if the row is visible.
    fn text(&self, id: &RowId) -> Option<String> {
        match self.shown(id) {
            Shown::Visible { values, .. } => match &values[1] {
                Value::Text(text) => Some(String::from_utf8(text.clone()).unwrap()),
                other => Some(format!("{other:?}")),
            },
            _ => None,
        }
    }

    fn is_kept(&self, id: &RowId) -> bool {
        matches!(self.shown(id), Shown::Visible { kept: true, .. })
    }
}

#[test]
fn a_lost_number_is_marked_and_given_back() {
    let mut case = Case::new();
    let first = case.invoice(5, version(10, 2), "INV-7", None);
    case.settle();
    let second = case.invoice(6, version(11, 1), "inv-7", None);
    assert_eq!(case.settle(), std::slice::from_ref(&second));
    assert_eq!(case.text(&second).as_deref(), Some("inv-7~u~6"));
    case.delete(&first);
    assert_eq!(case.settle(), [first, second.clone()]);
    assert_eq!(case.text(&second).as_deref(), Some("inv-7"));
}

#[test]
fn birth_beats_possession() {
    let mut case = Case::new();
    let old = case.invoice(5, version(10, 2), "A", None);
    let young = case.invoice(6, version(20, 1), "B", None);
    case.settle();
    case.change(&old, |meant| meant.values[1] = Value::text("B"));
    assert_eq!(case.settle(), [old, young.clone()]);
    assert_eq!(case.text(&young).as_deref(), Some("B~u~6"));
}

#[test]
fn rows_swap_a_unique_value() {
    let mut case = Case::new();
    let a = case.invoice(5, version(10, 2), "A", Some(1));
    let b = case.invoice(6, version(20, 1), "B", Some(2));
    case.settle();
    for (id, text, code) in [(&a, "B", 2), (&b, "A", 1)] {
        case.change(id, |meant| {
            meant.values[1] = Value::text(text);
            meant.values[2] = Value::Integer(code);
        });
    }
    case.settle();
    assert_eq!((case.text(&a), case.text(&b)), (Some("B".into()), Some("A".into())));
}

#[test]
fn a_mark_that_is_somebodys_own_text_gets_a_number() {
    let mut case = Case::new();
    case.invoice(5, version(10, 2), "A", None);
    let second = case.invoice(6, version(11, 1), "A", None);
    case.settle();
    // Somebody copies the mark: true claims go before any mark.
    let copy = case.invoice(7, version(30, 1), "a~u~6", None);
    assert_eq!(case.settle(), [second.clone(), copy.clone()]);
    assert_eq!(case.text(&second).as_deref(), Some("A~u~6~2"));
    assert_eq!(case.text(&copy).as_deref(), Some("a~u~6"));
    case.delete(&copy);
    case.settle();
    assert_eq!(case.text(&second).as_deref(), Some("A~u~6"));
}

#[test]
fn an_unmarkable_loss_parks_and_releases_the_rest() {
    let mut case = Case::new();
    let first = case.invoice(5, version(10, 2), "A", Some(1));
    let second = case.invoice(6, version(11, 1), "B", Some(1));
    let third = case.invoice(7, version(12, 1), "B", None);
    case.settle();
    let reason = Reason::ValueTaken { index: CODE, by: first };
    assert_eq!(case.shown(&second), Shown::Parked(reason));
    assert_eq!(case.text(&third).as_deref(), Some("B"));
    case.change(&second, |meant| meant.values[2] = Value::Integer(2));
    case.settle();
    assert_eq!(case.text(&third).as_deref(), Some("B~u~7"));
}

#[test]
fn a_mark_that_the_table_rejects_gives_way_to_null_or_the_row_is_parked() {
    for nullable in [true, false] {
        let mut case = Case::with(shop(Some(3), nullable));
        let first = case.customer(1, 10, "abc", None);
        let second = case.customer(2, 11, "abc", None);
        case.settle();
        match nullable {
            true => assert_eq!(case.text(&second).as_deref(), Some("NULL")),
            false => {
                let reason = Reason::ValueTaken { index: NAME, by: first };
                assert_eq!(case.shown(&second), Shown::Parked(reason));
            }
        }
    }
}

#[test]
fn a_mark_for_which_only_the_first_form_fits_parks_the_row_and_keeps_its_slots() {
    let mut case = Case::with(shop(Some(5), false));
    case.customer(1, 10, "a", None);
    let second = case.customer(2, 11, "a", None);
    case.customer(3, 12, "a~u~2", None);
    let child = case.customer(4, 13, "d", Some(2));
    case.settle();
    assert_eq!(case.shown(&second), Shown::Parked(Reason::NoMark { index: NAME }));
    assert!(matches!(case.shown(&child), Shown::Parked(Reason::Parent { .. })));
}

#[test]
fn a_remembered_mark_is_not_given_back() {
    let mut case = Case::new();
    let first = case.invoice(5, version(10, 2), "A", None);
    let second = case.invoice(6, version(11, 1), "A", None);
    case.settle();
    case.change(&second, |meant| meant.remembered = vec![(1, Value::text("A~u~6"))]);
    assert!(case.settle().is_empty());
    case.delete(&first);
    assert_eq!(case.settle(), [first]);
    assert_eq!(case.text(&second).as_deref(), Some("A~u~6"));
    case.change(&second, |meant| meant.remembered.clear());
    case.settle();
    assert_eq!(case.text(&second).as_deref(), Some("A"));
}

#[test]
fn of_two_births_on_one_key_the_lesser_rank_keeps_it() {
    let mut case = Case::new();
    let smith = case.invoice(5, version(11, 1), "A", None);
    case.settle();
    let miller = case.invoice(5, version(10, 2), "B", None);
    case.settle();
    let reason = Reason::KeyTaken { by: miller.clone() };
    assert_eq!(case.shown(&smith), Shown::Parked(reason));
    assert_eq!(case.text(&miller).as_deref(), Some("B"));
}

#[test]
fn a_deleted_parent_stays_as_long_as_a_child_needs_it() {
    let mut case = Case::new();
    let top = case.customer(1, 10, "top", None);
    let parent = case.customer(2, 11, "parent", Some(1));
    let child = case.customer(3, 12, "child", Some(2));
    case.delete(&top);
    case.delete(&parent);
    case.settle();
    assert!(case.is_kept(&top) && case.is_kept(&parent));
    // Kept rows claim after all living ones.
    let thief = case.customer(4, 50, "parent", None);
    case.settle();
    assert_eq!(case.text(&thief).as_deref(), Some("parent"));
    assert_eq!(case.text(&parent).as_deref(), Some("parent~u~2"));
    case.delete(&child);
    case.settle();
    assert_eq!([case.shown(&top), case.shown(&parent)], [Shown::Hidden, Shown::Hidden]);
}

#[test]
fn dead_rows_do_not_keep_each_other() {
    let mut case = Case::new();
    for (key, to) in [(1, 2), (2, 3), (3, 1)] {
        let id = case.customer(key, 10, &key.to_string(), Some(to));
        case.delete(&id);
    }
    let child = case.customer(4, 11, "child", Some(1));
    case.settle();
    assert!((1..=3).all(|key| case.is_kept(&customer(key))));
    case.delete(&child);
    case.settle();
    assert!((1..=3).all(|key| case.shown(&customer(key)) == Shown::Hidden));
}

#[test]
fn rows_do_not_park_each_other() {
    // Each waits for its parent, and the last for an invoice's customer who isn't there yet.
    let mut case = Case::new();
    for (key, to) in [(1, 2), (2, 3), (3, 1)] {
        case.customer(key, 10, &key.to_string(), Some(to));
    }
    let missing = Reference { foreign_key: OF_CUSTOMER, parent: customer(9) };
    case.change(&customer(3), |meant| meant.references.push(missing));
    case.settle();
    assert!((1..=3).all(|key| matches!(case.shown(&customer(key)), Shown::Parked(_))));
    case.customer(9, 10, "9", None);
    assert_eq!(case.settle().len(), 4);
}

#[test]
fn a_child_of_a_row_that_is_no_more_is_parked() {
    let mut case = Case::new();
    let parent = case.customer(1, 10, "a", None);
    let child = case.customer(2, 11, "b", Some(1));
    case.settle();
    case.forget(&parent);
    assert_eq!(case.settle(), [parent.clone(), child.clone()]);
    assert_eq!(case.shown(&child), Shown::Parked(Reason::Parent { foreign_key: REFERRER, parent }));
}

#[test]
fn a_row_without_its_insert_waits_and_claims_nothing() {
    let mut case = Case::new();
    let unborn = case.invoice(5, version(10, 2), "A", None);
    case.change(&unborn, |meant| meant.life = Life::Unborn);
    let other = case.invoice(6, version(11, 1), "A", None);
    case.settle();
    assert_eq!(case.shown(&unborn), Shown::Parked(Reason::Unborn));
    case.change(&unborn, |meant| meant.life = Life::Live);
    case.settle();
    assert_eq!(case.text(&other).as_deref(), Some("A~u~6"));
}

#[test]
fn work_does_not_grow_with_what_is_not_concerned() {
    let reads = |rows: i64| {
        let mut case = Case::new();
        case.customer(0, 1, "busy", None);
        for key in 1..=rows {
            case.customer(key, 10 + key as u64, &key.to_string(), Some(0));
        }
        let touched = std::mem::take(&mut case.touched);
        let Ok(outcomes) = super::super::whole(case.books.rows.clone(), &case.schema);
        assert_eq!(touched.len(), outcomes.len());
        case.books.outcomes = outcomes;
        let mut count = |change: &dyn Fn(&mut Case)| {
            change(&mut case);
            let before = case.books.reads.get();
            let touched = std::mem::take(&mut case.touched);
            let Ok(settled) = super::super::settle(&touched, &case.schema, &case.books);
            for row in settled {
                case.books.outcomes.insert(row.row, row.after);
            }
            case.books.reads.get() - before
        };
        [
            // A parent of many is renamed; gets one child more; is deleted, and kept by them.
            count(&|case| case.change(&customer(0), |row| row.values[1] = Value::text("x"))),
            count(&|case| drop(case.customer(5000, 9000, "new", Some(0)))),
            count(&|case| case.delete(&customer(0))),
        ]
    };
    let (few, many) = (reads(10), reads(400));
    assert_eq!(few, many);
    assert!(many.iter().all(|reads| *reads < 25), "{many:?}");
}
