//! Merged state and present outcomes in maps, for `settle` to read; and how often it reads.

use super::super::{Life, Meant, Outcome, Reason, RowId, Settled, Shown, Slot, Store, settle};
use super::schema::Schema;
use super::{THOROUGH, checks};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

/// What settling met: a test that meets no conflict shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) settled: u64,
    pub(super) marked: u64,
    pub(super) given_back: u64,
    pub(super) kept: u64,
    pub(super) parked: u64,
    pub(super) for_parents: u64,
}

#[derive(Clone, Default)]
pub(super) struct Books {
    pub(super) seen: Seen,
    steps: u64,
    pub(super) rows: BTreeMap<RowId, Meant>,
    /// Outcomes that aren't the default.
    pub(super) outcomes: BTreeMap<RowId, Outcome>,
    pub(super) reads: Cell<usize>,
}

impl Books {
    /// Settles what was touched, and now and then checks the result in every way.
    pub(super) fn settle(&mut self, schema: &Schema, touched: &BTreeSet<RowId>) -> Vec<Settled> {
        let before = self.reads.get();
        let Ok(settled) = settle(touched, schema, &*self);
        // It ends, and reads each row and slot a few times at most.
        let most = 64 * (self.rows.len() + touched.len());
        assert!(self.reads.get() - before <= most, "settle reads without end");
        for change in &settled {
            let before = self.outcomes.remove(&change.row).unwrap_or_default();
            assert_eq!(before, change.before);
            self.seen.note(change);
            if change.after != Outcome::default() {
                self.outcomes.insert(change.row.clone(), change.after.clone());
            }
        }
        self.steps += 1;
        if self.steps.is_multiple_of(if *THOROUGH { 1 } else { 4 }) {
            checks::check(schema, self);
        }
        settled
    }

    fn read(&self) {
        self.reads.set(self.reads.get() + 1);
    }
}

impl Seen {
    fn note(&mut self, change: &Settled) {
        self.settled += 1;
        let marks = |shown: &Shown| match shown {
            Shown::Visible { marks, .. } => marks.len(),
            _ => 0,
        };
        let (before, after) = (&change.before.shown, &change.after.shown);
        if before == after {
            return;
        }
        self.marked += u64::from(marks(after) > 0);
        self.given_back += u64::from(marks(after) < marks(before));
        match after {
            Shown::Parked(Reason::Parent { .. }) => self.for_parents += 1,
            Shown::Parked(_) => self.parked += 1,
            Shown::Visible { kept: true, .. } => self.kept += 1,
            _ => {}
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.settled += other.settled;
        self.marked += other.marked;
        self.given_back += other.given_back;
        self.kept += other.kept;
        self.parked += other.parked;
        self.for_parents += other.for_parents;
    }

    /// Every kind of conflict was met.
    pub(super) fn check(self) {
        println!("{self:?}");
        let all = [self.marked, self.given_back, self.kept, self.parked, self.for_parents];
        assert!(all.iter().all(|count| *count > 0));
    }
}

impl Store for Books {
    type Error = Infallible;

    fn row(&self, row: &RowId) -> Result<Option<Meant>, Infallible> {
        self.read();
        Ok(self.rows.get(row).cloned())
    }

    fn outcome(&self, row: &RowId) -> Result<Outcome, Infallible> {
        self.read();
        Ok(self.outcomes.get(row).cloned().unwrap_or_default())
    }

    fn rivals(&self, slot: &Slot) -> Result<Vec<RowId>, Infallible> {
        self.read();
        let rivals = self.outcomes.iter().filter(|(_, outcome)| outcome.hold(slot).is_some());
        Ok(rivals.map(|(id, _)| id.clone()).collect())
    }

    fn referrers(
        &self,
        row: &RowId,
        visit: &mut dyn FnMut(&RowId) -> Result<bool, Infallible>,
    ) -> Result<(), Infallible> {
        self.read();
        for dead in [false, true] {
            for (id, meant) in &self.rows {
                let refers = meant.references.iter().any(|reference| reference.parent == *row);
                if refers && (meant.life == Life::Dead) == dead {
                    self.read();
                    if !visit(id)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}
