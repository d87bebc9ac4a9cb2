//! `settle`: keeps what is visible equal to f, reading only what a batch can reach.
//!
//! ```text
//! W = touched rows
//! repeat: recompute f on W (reading what lies beyond it)
//!         W += what keeps, or is parked for, each other beyond W
//!         for each row of W that changed: W += dead rows that it began or ceased to keep
//!                                         W += rivals for slots that it took, gave up or was touched in
//!                                         W += rows that refer to it, if it appeared or vanished
//! until W stops growing
//! ```
//! A dead row may be kept, and a row parked, for nobody but each other once the rest is gone: so
//! of these what lies beyond is not believed. The order of the steps keeps forms that are only
//! for the moment from drawing rows in; of a visible row that merely changes nobody who refers to
//! it is read, and of a dead row's many children only the first that keeps it.
//!
//! When W stops growing, every row satisfies f's rules with respect to all others: a row beyond
//! W depends on nothing that changed. W only grows, so the loop ends. Nothing is written here.

use super::types::{Constraints, Hold, Life, Meant, Order, Outcome, Reason, RowId, Shown, Slot};
use super::whole::{Beyond, Row, evaluate, order};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Where merged state and present outcomes are kept.
///
/// Rows may be named too often: a rival or referrer that is none costs time, no more. Touched
/// rows needn't be named at all, so that the application's table may be asked even after the
/// application changed it.
pub trait Store {
    /// What can go wrong in reading.
    type Error;

    /// The merged state of a row, the batch included; `None` if there is no such row (any more).
    ///
    /// # Errors
    /// The implementation's.
    fn row(&self, row: &RowId) -> Result<Option<Meant>, Self::Error>;

    /// The outcome of a row before the batch; the default if it had none. Of an ordinary row
    /// it is [`super::plain`] over the state that the row had before the batch.
    ///
    /// # Errors
    /// The implementation's.
    fn outcome(&self, row: &RowId) -> Result<Outcome, Self::Error>;

    /// All rows that have this slot among the slots of their outcome before the batch. Of plain
    /// rows these are their own keys and index values, so that the application's own UNIQUE
    /// index finds them; of the others they must be kept.
    ///
    /// # Errors
    /// The implementation's.
    fn rivals(&self, slot: &Slot) -> Result<Vec<RowId>, Self::Error>;

    /// Shows `visit` the rows whose merged state (the batch included) refers to this row, dead
    /// ones too, until it says `false`. Cheapest if live rows come first: of a dead row
    /// one live row that keeps it is enough.
    ///
    /// # Errors
    /// The implementation's, and those of `visit`.
    fn referrers(
        &self,
        row: &RowId,
        visit: &mut dyn FnMut(&RowId) -> Result<bool, Self::Error>,
    ) -> Result<(), Self::Error>;
}

/// A row that was touched, or has another outcome than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The row.
    pub row: RowId,
    /// Its outcome before the batch.
    pub before: Outcome,
    /// Its outcome now, to be stored unless it is plain or the default.
    pub after: Outcome,
}

impl Settled {
    /// Whether the application sees another form than before.
    ///
    /// To write what was settled: delete what stands under the keys of all rows that were visible
    /// before or that the application touched here, and only those (under the key of a parked
    /// row another row may stand); then insert the visible forms. A row that the application
    /// touched may have to be written although its form is the same, since the table no longer
    /// has it.
    pub fn shown_changed(&self) -> bool {
        self.before.shown != self.after.shown
    }
}

/// The outcome of every touched row, and of every other row that a batch changed, in order of
/// rows. `touched` names each row whose merged state changed, vanished or appeared, or that the
/// application changed.
///
/// # Errors
/// What the constraints' or the store's answers fail with.
pub fn settle<C, S>(
    touched: &BTreeSet<RowId>,
    constraints: &C,
    store: &S,
) -> Result<Vec<Settled>, C::Error>
where
    C: Constraints,
    S: Store<Error = C::Error>,
{
    let mut present = Present {
        store,
        within: BTreeSet::new(),
        rows: BTreeMap::new(),
        outcomes: BTreeMap::new(),
        rivals: BTreeMap::new(),
        keepers: BTreeMap::new(),
        pulled: touched.clone(),
    };
    let mut rows = BTreeMap::new();
    loop {
        for id in std::mem::take(&mut present.pulled) {
            if let Some(meant) = present.row(&id)? {
                rows.insert(id.clone(), Row::new(Meant::clone(&meant)));
            }
            present.within.insert(id);
        }
        let after = evaluate(&mut rows, constraints, &mut present)?;
        let changes = present.changes(after)?;
        // What reaches least goes first: a form that is only for the moment draws in nobody.
        if present.pulled.is_empty() {
            present.pull_kept(&changes)?;
        }
        if present.pulled.is_empty() {
            present.pull_rivals(&changes, touched)?;
        }
        if present.pulled.is_empty() {
            present.pull_referrers(&changes)?;
        }
        if present.pulled.is_empty() {
            let given =
                |change: &Settled| change.before != change.after || touched.contains(&change.row);
            return Ok(changes.into_iter().filter(given).collect());
        }
    }
}

/// The state before the batch, as far as it was read.
struct Present<'a, S> {
    store: &'a S,
    /// W.
    within: BTreeSet<RowId>,
    rows: BTreeMap<RowId, Option<Rc<Meant>>>,
    outcomes: BTreeMap<RowId, Rc<Outcome>>,
    rivals: BTreeMap<Slot, Rc<Vec<RowId>>>,
    /// Of dead rows in W: a live row that keeps it, beyond W when it was found; `None` if there
    /// is none, which stays so as W grows.
    keepers: BTreeMap<RowId, Option<RowId>>,
    /// What W grows by.
    pulled: BTreeSet<RowId>,
}

impl<S: Store> Present<'_, S> {
    fn row(&mut self, row: &RowId) -> Result<Option<Rc<Meant>>, S::Error> {
        if let Some(known) = self.rows.get(row) {
            return Ok(known.clone());
        }
        let read = self.store.row(row)?.map(Rc::new);
        self.rows.insert(row.clone(), read.clone());
        Ok(read)
    }

    fn outcome(&mut self, row: &RowId) -> Result<Rc<Outcome>, S::Error> {
        if let Some(known) = self.outcomes.get(row) {
            return Ok(known.clone());
        }
        let read = Rc::new(self.store.outcome(row)?);
        self.outcomes.insert(row.clone(), read.clone());
        Ok(read)
    }

    fn rivals(&mut self, slot: &Slot) -> Result<Rc<Vec<RowId>>, S::Error> {
        if let Some(known) = self.rivals.get(slot) {
            return Ok(known.clone());
        }
        let read = Rc::new(self.store.rivals(slot)?);
        self.rivals.insert(slot.clone(), read.clone());
        Ok(read)
    }

    fn is_dead(&mut self, row: &RowId) -> Result<bool, S::Error> {
        Ok(self.row(row)?.is_some_and(|meant| meant.life == Life::Dead))
    }

    fn pull(&mut self, row: &RowId) {
        if !self.within.contains(row) {
            self.pulled.insert(row.clone());
        }
    }

    /// Of every row of W, the outcome before and now; of a row that is no more, the default.
    fn changes(&mut self, mut after: BTreeMap<RowId, Outcome>) -> Result<Vec<Settled>, S::Error> {
        let mut changes = Vec::with_capacity(self.within.len());
        for row in self.within.clone() {
            let after = after.remove(&row).unwrap_or_default();
            let before = Outcome::clone(&*self.outcome(&row)?);
            changes.push(Settled { row, before, after });
        }
        Ok(changes)
    }

    /// W += dead rows that a row of W began or ceased to keep.
    fn pull_kept(&mut self, changes: &[Settled]) -> Result<(), S::Error> {
        for Settled { before, after, .. } in changes {
            let ceased = before.keeps.iter().filter(|parent| !after.keeps.contains(parent));
            let began = after.keeps.iter().filter(|parent| !before.keeps.contains(parent));
            for parent in ceased.chain(began) {
                if self.is_dead(parent)? {
                    self.pull(parent);
                }
            }
        }
        Ok(())
    }

    /// W += rivals for the slots that a row of W took or gave up, or, since its rank may have
    /// moved, was touched in.
    fn pull_rivals(
        &mut self,
        changes: &[Settled],
        touched: &BTreeSet<RowId>,
    ) -> Result<(), S::Error> {
        let held = |outcome: &Outcome, slot: &Slot| {
            outcome.hold(slot).filter(|hold| *hold != Hold::Refused)
        };
        for Settled { row, before, after } in changes {
            let all = touched.contains(row);
            for (slot, _) in before.slots.iter().chain(&after.slots) {
                if all || held(before, slot) != held(after, slot) {
                    for rival in self.rivals(slot)?.iter() {
                        self.pull(rival);
                    }
                }
            }
        }
        Ok(())
    }

    /// W += rows that refer to a row of W that appeared or vanished. A hidden row doesn't care.
    fn pull_referrers(&mut self, changes: &[Settled]) -> Result<(), S::Error> {
        let store = self.store;
        for Settled { row, before, after } in changes {
            if before.is_visible() == after.is_visible() {
                continue;
            }
            store.referrers(row, &mut |referrer| {
                if self.outcome(referrer)?.shown != Shown::Hidden {
                    self.pull(referrer);
                }
                Ok(true)
            })?;
        }
        Ok(())
    }
}

impl<S: Store> Beyond<S::Error> for Present<'_, S> {
    fn holder(&mut self, slot: &Slot, hold: Hold) -> Result<Option<Order>, S::Error> {
        for rival in self.rivals(slot)?.iter() {
            if !self.within.contains(rival)
                && self.outcome(rival)?.hold(slot) == Some(hold)
                && let Some(meant) = self.row(rival)?
            {
                return Ok(Some(order(rival, &meant)));
            }
        }
        Ok(None)
    }

    /// Live rows beyond W are believed. Dead ones may be kept by nobody but each other: they
    /// are taken into W.
    fn keeps(&mut self, row: &RowId) -> Result<bool, S::Error> {
        match self.keepers.get(row) {
            Some(Some(keeper)) if !self.within.contains(keeper) => return Ok(true),
            Some(None) => return Ok(false),
            _ => {}
        }
        let store = self.store;
        let mut keeper = None;
        let mut kept = Vec::new();
        store.referrers(row, &mut |referrer| {
            if self.within.contains(referrer) || !self.outcome(referrer)?.keeps.contains(row) {
                return Ok(true);
            }
            if self.is_dead(referrer)? {
                kept.push(referrer.clone());
                return Ok(true);
            }
            keeper = Some(referrer.clone());
            Ok(false)
        })?;
        let found = keeper.is_some();
        self.keepers.insert(row.clone(), keeper);
        if !found {
            kept.iter().for_each(|referrer| self.pull(referrer));
        }
        Ok(found)
    }

    /// Visible rows beyond W are believed. Rows parked for their parents may be parked for
    /// nobody but each other: they are taken into W.
    fn is_visible(&mut self, row: &RowId) -> Result<bool, S::Error> {
        if self.within.contains(row) {
            return Ok(false); // A row of W that is asked for here is no more.
        }
        let outcome = self.outcome(row)?;
        if let Shown::Parked(Reason::Parent { .. }) = outcome.shown {
            self.pull(row);
        }
        Ok(outcome.is_visible())
    }
}
