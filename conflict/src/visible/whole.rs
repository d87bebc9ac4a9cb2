//! f itself: phases A to E over a set of rows, from scratch.
//!
//! The same phases serve `settle`, which runs them on a part of the rows; what they ask about
//! the rest goes through [`Beyond`]. Which rows belong to that part is not decided here.

use super::marks::{self, Loser};
use super::types::{
    Claim, Constraints, Hold, Index, Life, Mark, Meant, Order, Outcome, Reason, RowId, Shown, Slot,
    Unique,
};
use crate::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the application sees of every row, in `f(merged state, local schema)`.
///
/// # Errors
/// What the constraints' answers fail with.
pub fn whole<C: Constraints>(
    rows: BTreeMap<RowId, Meant>,
    constraints: &C,
) -> Result<BTreeMap<RowId, Outcome>, C::Error> {
    let mut rows = rows.into_iter().map(|(id, meant)| (id, Row::new(meant))).collect();
    evaluate(&mut rows, constraints, &mut Nothing(std::marker::PhantomData))
}

/// The outcome of an ordinary row: living, shown as meant, holding all that it claims. So a
/// store needs to remember only the outcomes that aren't [plain](Outcome::is_plain).
///
/// # Errors
/// What the constraints' answers fail with.
pub fn plain<C: Constraints>(
    row: &RowId,
    meant: &Meant,
    constraints: &C,
) -> Result<Outcome, C::Error> {
    let asked = ask(constraints, row, meant)?;
    let slots: BTreeMap<_, _> = asked.slots(row).map(|slot| (slot, Hold::Won)).collect();
    Ok(Outcome {
        shown: Shown::Visible { kept: false, values: meant.values.clone(), marks: Vec::new() },
        slots: slots.into_iter().collect(),
        keeps: kept_for(constraints, meant)?,
    })
}

/// A row under evaluation.
pub(super) struct Row {
    pub(super) meant: Meant,
    /// What the constraints say of it; asked once, since it may cost.
    asked: Option<Asked>,
}

impl Row {
    pub(super) fn new(meant: Meant) -> Self {
        Self { meant, asked: None }
    }

    fn order(&self, id: &RowId) -> Order {
        order(id, &self.meant)
    }
}

pub(super) fn order(id: &RowId, meant: &Meant) -> Order {
    Order { dead: meant.life == Life::Dead, rank: meant.rank, row: id.clone() }
}

struct Asked {
    accepted: bool,
    /// The values by which the row claims: meant, or remembered marks.
    values: Vec<Value>,
    key: Claim,
    claims: Vec<(Index, Claim)>,
}

impl Asked {
    fn slots(&self, row: &RowId) -> impl Iterator<Item = Slot> {
        let key = Slot { unique: Unique::Key(row.table), claim: self.key.clone() };
        std::iter::once(key).chain(self.index_slots().map(|(_, slot)| slot))
    }

    fn index_slots(&self) -> impl Iterator<Item = (Index, Slot)> {
        (self.claims.iter()).map(|(index, claim)| {
            (*index, Slot { unique: Unique::Index(*index), claim: claim.clone() })
        })
    }
}

fn ask<C: Constraints>(constraints: &C, row: &RowId, meant: &Meant) -> Result<Asked, C::Error> {
    let mut values = meant.values.clone();
    let mut accepted = false;
    if !meant.remembered.is_empty() {
        for (column, shown) in &meant.remembered {
            if let Some(value) = values.get_mut(*column) {
                value.clone_from(shown);
            }
        }
        accepted = constraints.accepts(row.table, &values)?;
    }
    if !accepted {
        values.clone_from(&meant.values);
        accepted = constraints.accepts(row.table, &values)?;
    }
    let mut claims = Vec::new();
    for index in constraints.indexes(row.table)? {
        if let Some(claim) = constraints.claim(index, &values)? {
            claims.push((index, claim));
        }
    }
    Ok(Asked { accepted, values, key: constraints.key_claim(row)?, claims })
}

/// A row's parents through `keep-parent` foreign keys.
fn kept_for<C: Constraints>(constraints: &C, meant: &Meant) -> Result<Vec<RowId>, C::Error> {
    let mut parents = BTreeSet::new();
    for reference in &meant.references {
        if constraints.keeps_parent(reference.foreign_key)? {
            parents.insert(reference.parent.clone());
        }
    }
    Ok(parents.into_iter().collect())
}

/// What an evaluation asks about rows that aren't part of it.
pub(super) trait Beyond<E> {
    /// The row beyond that holds the slot in this way; there is at most one.
    fn holder(&mut self, slot: &Slot, hold: Hold) -> Result<Option<Order>, E>;
    /// Whether a row beyond keeps this dead row.
    fn keeps(&mut self, row: &RowId) -> Result<bool, E>;
    /// Whether this row beyond is visible.
    fn is_visible(&mut self, row: &RowId) -> Result<bool, E>;
}

/// Nothing lies beyond.
struct Nothing<E>(std::marker::PhantomData<E>);

impl<E> Beyond<E> for Nothing<E> {
    fn holder(&mut self, _: &Slot, _: Hold) -> Result<Option<Order>, E> {
        Ok(None)
    }

    fn keeps(&mut self, _: &RowId) -> Result<bool, E> {
        Ok(false)
    }

    fn is_visible(&mut self, _: &RowId) -> Result<bool, E> {
        Ok(false)
    }
}

/// What came of a row's claim.
#[derive(Default)]
struct Bid {
    reason: Option<Reason>,
    slots: BTreeMap<Slot, Hold>,
    lost: Vec<Index>,
    values: Vec<Value>,
    keeps: Vec<RowId>,
}

struct Evaluation<'a, C, B> {
    constraints: &'a C,
    beyond: &'a mut B,
    won: BTreeMap<Slot, RowId>,
    marked: BTreeSet<Slot>,
    /// Of every live or kept row.
    bids: BTreeMap<RowId, Bid>,
    /// Rows that lost something, in order of loss.
    losers: Vec<Order>,
}

/// The outcome of each of `rows`, by phases A to E.
pub(super) fn evaluate<C: Constraints, B: Beyond<C::Error>>(
    rows: &mut BTreeMap<RowId, Row>,
    constraints: &C,
    beyond: &mut B,
) -> Result<BTreeMap<RowId, Outcome>, C::Error> {
    let mut evaluation = Evaluation {
        constraints,
        beyond,
        won: BTreeMap::new(),
        marked: BTreeSet::new(),
        bids: BTreeMap::new(),
        losers: Vec::new(),
    };
    // A
    let living = rows.iter().filter(|(_, row)| row.meant.life != Life::Dead);
    let living: BTreeSet<Order> = living.map(|(id, row)| row.order(id)).collect();
    for order in living {
        evaluation.claim(rows, order)?;
    }
    // B, C
    for order in evaluation.reach(rows)? {
        evaluation.claim(rows, order)?;
    }
    // E, D
    for order in std::mem::take(&mut evaluation.losers) {
        evaluation.mark(rows, &order)?;
    }
    evaluation.park_children(rows)?;

    let mut bids = evaluation.bids;
    let outcomes = rows.iter().map(|(id, row)| match bids.remove(id) {
        None => (id.clone(), Outcome::default()),
        Some(bid) => (id.clone(), bid.outcome(&row.meant)),
    });
    Ok(outcomes.collect())
}

impl<C: Constraints, B: Beyond<C::Error>> Evaluation<'_, C, B> {
    /// `claim(row)`: takes what is free, or parks the row.
    fn claim(&mut self, rows: &mut BTreeMap<RowId, Row>, order: Order) -> Result<(), C::Error> {
        let id = &order.row;
        let Some(row) = rows.get_mut(id) else { return Ok(()) };
        let mut bid = Bid::default();
        if row.meant.life == Life::Unborn {
            bid.reason = Some(Reason::Unborn);
            self.bids.insert(id.clone(), bid);
            return Ok(());
        }
        let asked = match row.asked.take() {
            Some(asked) => asked,
            None => ask(self.constraints, id, &row.meant)?,
        };
        if asked.accepted {
            for slot in asked.slots(id) {
                let holder = self.winner_before(&slot, &order)?;
                bid.slots.insert(slot.clone(), Hold::Refused);
                match (slot.unique, holder) {
                    (Unique::Key(_), Some(by)) => bid.reason = Some(Reason::KeyTaken { by }),
                    (Unique::Index(index), Some(_)) => bid.lost.push(index),
                    (_, None) => {}
                }
            }
            if bid.reason.is_none() && !bid.lost.is_empty() {
                let suffix = marks::suffix(self.constraints, id, &row.meant)?;
                let loser = asked.loser(id, &suffix);
                let fitted = marks::fit(self.constraints, &loser, &bid.lost, &mut |_| Ok(false))?;
                if let Err(index) = fitted {
                    bid.reason = self.value_taken(&asked, index, &order)?;
                }
            }
        } else {
            bid.reason = Some(Reason::Rejected);
        }
        if bid.reason.is_none() {
            for slot in asked.slots(id) {
                if !matches!(slot.unique, Unique::Index(index) if bid.lost.contains(&index)) {
                    self.won.insert(slot.clone(), id.clone());
                    bid.slots.insert(slot, Hold::Won);
                }
            }
            bid.values.clone_from(&asked.values);
        }
        if bid.reason.is_none() || order.dead {
            bid.keeps = kept_for(self.constraints, &row.meant)?;
        }
        row.asked = Some(asked);
        let lost = bid.reason.is_none() && !bid.lost.is_empty();
        self.bids.insert(id.clone(), bid);
        if lost {
            self.losers.push(order);
        }
        Ok(())
    }

    /// The row that holds the slot by what it means and comes first in order.
    fn winner_before(&mut self, slot: &Slot, order: &Order) -> Result<Option<RowId>, C::Error> {
        if let Some(row) = self.won.get(slot) {
            return Ok(Some(row.clone()));
        }
        let beyond = self.beyond.holder(slot, Hold::Won)?;
        Ok(beyond.filter(|other| other < order).map(|other| other.row))
    }

    fn value_taken(
        &mut self,
        asked: &Asked,
        index: Index,
        order: &Order,
    ) -> Result<Option<Reason>, C::Error> {
        for (known, slot) in asked.index_slots() {
            if known == index
                && let Some(by) = self.winner_before(&slot, order)?
            {
                return Ok(Some(Reason::ValueTaken { index, by }));
            }
        }
        Ok(Some(Reason::NoMark { index }))
    }

    /// B: the dead rows that are kept, in order.
    fn reach(&mut self, rows: &BTreeMap<RowId, Row>) -> Result<BTreeSet<Order>, C::Error> {
        let mut next: Vec<RowId> =
            self.bids.values().flat_map(|bid| bid.keeps.iter().cloned()).collect();
        for (id, row) in rows {
            if row.meant.life == Life::Dead && self.beyond.keeps(id)? {
                next.push(id.clone());
            }
        }
        let mut kept = BTreeSet::new();
        while let Some(id) = next.pop() {
            let Some(row) = rows.get(&id) else { continue };
            if row.meant.life == Life::Dead && kept.insert(row.order(&id)) {
                next.extend(kept_for(self.constraints, &row.meant)?);
            }
        }
        Ok(kept)
    }

    /// E, for one row.
    fn mark(&mut self, rows: &BTreeMap<RowId, Row>, order: &Order) -> Result<(), C::Error> {
        let Self { constraints, beyond, won, marked, bids, .. } = self;
        let id = &order.row;
        let (Some(row), Some(bid)) = (rows.get(id), bids.get_mut(id)) else { return Ok(()) };
        let Some(asked) = &row.asked else { return Ok(()) };
        let suffix = marks::suffix(*constraints, id, &row.meant)?;
        let loser = asked.loser(id, &suffix);
        let Bid { slots, lost, .. } = bid;
        let mut taken = |slot: &Slot| {
            slots.entry(slot.clone()).or_insert(Hold::Refused);
            Ok(won.contains_key(slot)
                || marked.contains(slot)
                || beyond.holder(slot, Hold::Won)?.is_some()
                || beyond.holder(slot, Hold::Marked)?.is_some_and(|other| other < *order))
        };
        match marks::fit(*constraints, &loser, lost, &mut taken)? {
            Ok(fitted) => {
                for slot in fitted.held {
                    marked.insert(slot.clone());
                    slots.insert(slot, Hold::Marked);
                }
                bid.values = fitted.values;
            }
            Err(index) => bid.reason = Some(Reason::NoMark { index }),
        }
        Ok(())
    }

    /// D: parks what refers to a row that isn't visible.
    fn park_children(&mut self, rows: &BTreeMap<RowId, Row>) -> Result<(), C::Error> {
        let mut children: BTreeMap<&RowId, Vec<&RowId>> = BTreeMap::new();
        let mut hidden: BTreeSet<&RowId> = BTreeSet::new();
        let mut next = Vec::new();
        for (id, row) in rows {
            let bid = self.bids.get(id);
            if bid.is_none_or(|bid| bid.reason.is_some()) {
                hidden.insert(id);
                next.push(id);
            }
            for reference in bid.map_or(&[][..], |_| &row.meant.references) {
                let parent = &reference.parent;
                children.entry(parent).or_default().push(id);
                if !rows.contains_key(parent)
                    && !hidden.contains(parent)
                    && !self.beyond.is_visible(parent)?
                {
                    hidden.insert(parent);
                    next.push(parent);
                }
            }
        }
        while let Some(parent) = next.pop() {
            for child in children.get(parent).into_iter().flatten() {
                if hidden.insert(child) {
                    next.push(child);
                }
            }
        }
        for (id, row) in rows {
            let Some(bid) = self.bids.get_mut(id).filter(|bid| bid.reason.is_none()) else {
                continue;
            };
            let lacking = row.meant.references.iter().find(|to| hidden.contains(&to.parent));
            bid.reason = lacking.map(|reference| Reason::Parent {
                foreign_key: reference.foreign_key,
                parent: reference.parent.clone(),
            });
        }
        Ok(())
    }
}

impl Asked {
    fn loser<'a>(&'a self, row: &RowId, suffix: &'a [u8]) -> Loser<'a> {
        Loser { table: row.table, values: &self.values, claims: &self.claims, suffix }
    }
}

impl Bid {
    fn outcome(self, meant: &Meant) -> Outcome {
        let shown = match self.reason {
            Some(reason) => Shown::Parked(reason),
            None => {
                let columns = meant.values.iter().zip(&self.values).enumerate();
                let marks = columns.filter(|(_, (meant, shown))| meant != shown).map(
                    |(column, (meant, shown))| Mark {
                        column,
                        meant: meant.clone(),
                        shown: shown.clone(),
                    },
                );
                let marks = marks.collect();
                Shown::Visible { kept: meant.life == Life::Dead, values: self.values, marks }
            }
        };
        Outcome { shown, slots: self.slots.into_iter().collect(), keeps: self.keeps }
    }
}
