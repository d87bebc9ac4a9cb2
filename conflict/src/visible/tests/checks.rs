//! What must hold after every step, whatever the algorithm.

use super::super::{
    Constraints, Hold, Life, Outcome, Reason, RowId, Shown, Slot, Unique, plain, whole,
};
use super::books::Books;
use super::letter::{claiming, letter, marked};
use super::schema::Schema;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(schema: &Schema, books: &Books) {
    equals_f(schema, books);
    constraints_hold(schema, books);
    for (id, outcome) in &books.outcomes {
        if let Shown::Parked(reason) = &outcome.shown {
            reason_is_true(schema, books, id, reason);
        }
        if outcome.is_plain() {
            assert_eq!(plain(id, &books.rows[id], schema), Ok(outcome.clone()));
        }
    }
    nothing_is_hidden_that_is_needed(schema, books);
}

/// The outcomes are those of f from scratch, which are those of its letter.
fn equals_f(schema: &Schema, books: &Books) {
    let Ok(scratch) = whole(books.rows.clone(), schema);
    let shown: BTreeMap<RowId, Shown> =
        scratch.iter().map(|(id, outcome)| (id.clone(), outcome.shown.clone())).collect();
    assert_eq!(shown, letter(schema, &books.rows), "f is not as defined");
    let scratch: BTreeMap<RowId, Outcome> =
        scratch.into_iter().filter(|(_, outcome)| *outcome != Outcome::default()).collect();
    assert_eq!(books.outcomes, scratch, "settle is not f");
}

fn constraints_hold(schema: &Schema, books: &Books) {
    let mut held: BTreeSet<Slot> = BTreeSet::new();
    for (id, outcome) in &books.outcomes {
        let Shown::Visible { values, kept, .. } = &outcome.shown else { continue };
        assert_eq!(schema.accepts(id.table, values), Ok(true), "{id:?} is rejected");
        let Ok(claim) = schema.key_claim(id);
        assert!(held.insert(Slot { unique: Unique::Key(id.table), claim }), "{id:?}: its key");
        let Ok(indexes) = schema.indexes(id.table);
        for index in indexes {
            let Ok(claim) = schema.claim(index, values);
            if let Some(claim) = claim {
                let slot = Slot { unique: Unique::Index(index), claim };
                assert!(held.insert(slot), "{id:?} violates {index:?}");
            }
        }
        let meant = &books.rows[id];
        assert_eq!(*kept, meant.life == Life::Dead);
        for reference in &meant.references {
            let parent = books.outcomes.get(&reference.parent);
            assert!(parent.is_some_and(Outcome::is_visible), "{id:?} is an orphan");
        }
    }
}

fn reason_is_true(schema: &Schema, books: &Books, id: &RowId, reason: &Reason) {
    let meant = &books.rows[id];
    let values = claiming(schema, id, meant);
    let rank = |id: &RowId| {
        let meant = &books.rows[id];
        (meant.life == Life::Dead, meant.rank, id.birth, id.clone())
    };
    let holds = |by: &RowId, slot: &Slot| {
        assert!(rank(by) < rank(id), "{by:?} isn't before {id:?}");
        assert_eq!(books.outcomes[by].hold(slot), Some(Hold::Won), "{by:?} doesn't hold {slot:?}");
    };
    match reason {
        Reason::Unborn => assert_eq!(meant.life, Life::Unborn),
        Reason::Rejected => assert_eq!(schema.accepts(id.table, &values), Ok(false)),
        Reason::KeyTaken { by } => {
            let Ok(claim) = schema.key_claim(id);
            holds(by, &Slot { unique: Unique::Key(id.table), claim });
        }
        Reason::ValueTaken { index, by } => {
            let Ok(claim) = schema.claim(*index, &values);
            holds(by, &Slot { unique: Unique::Index(*index), claim: claim.unwrap() });
            // It can't be marked even if no mark is taken.
            let Ok(indexes) = schema.indexes(id.table);
            let lost = indexes.into_iter().filter(|index| {
                let Ok(claim) = schema.claim(*index, &values);
                claim.is_some_and(|claim| {
                    let slot = Slot { unique: Unique::Index(*index), claim };
                    books.outcomes.iter().any(|(other, outcome)| {
                        outcome.hold(&slot) == Some(Hold::Won) && rank(other) < rank(id)
                    })
                })
            });
            let lost: Vec<_> = lost.collect();
            assert!(marked(schema, id, meant, &lost, &|_| false).is_err(), "{id:?} can be marked");
        }
        Reason::NoMark { .. } => assert!(!books.outcomes[id].slots.is_empty()),
        Reason::Parent { parent, .. } => {
            assert!(meant.references.iter().any(|reference| reference.parent == *parent));
            let parent = books.outcomes.get(parent);
            assert!(!parent.is_some_and(Outcome::is_visible), "{id:?} is no orphan");
        }
    }
}

/// Living rows have an outcome, and so have the dead that a row let in needs.
fn nothing_is_hidden_that_is_needed(schema: &Schema, books: &Books) {
    for (id, meant) in &books.rows {
        let hidden = !books.outcomes.contains_key(id);
        assert!(!hidden || meant.life == Life::Dead, "{id:?} lives, and is hidden");
        let Some(outcome) = books.outcomes.get(id) else { continue };
        let own = matches!(
            outcome.shown,
            Shown::Parked(
                Reason::Unborn
                    | Reason::Rejected
                    | Reason::KeyTaken { .. }
                    | Reason::ValueTaken { .. }
            )
        );
        if own {
            let held = outcome.slots.iter().any(|(_, hold)| *hold != Hold::Refused);
            assert!(!held, "{id:?} is parked, and holds a slot");
            continue;
        }
        for reference in &meant.references {
            let there = books.rows.contains_key(&reference.parent);
            if there && schema.keeps_parent(reference.foreign_key) == Ok(true) {
                assert!(books.outcomes.contains_key(&reference.parent), "{id:?} lost its parent");
            }
        }
    }
}
