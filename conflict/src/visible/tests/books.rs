//! Merged state and present outcomes in maps, for `settle` to read; and how often it reads.

use super::super::{Life, Meant, Outcome, RowId, Settled, Shown, Slot, Store, settle};
use super::checks;
use super::schema::Schema;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

#[derive(Clone, Default)]
pub(super) struct Books {
    pub(super) rows: BTreeMap<RowId, Meant>,
    /// Outcomes that aren't the default.
    pub(super) outcomes: BTreeMap<RowId, Outcome>,
    pub(super) reads: Cell<usize>,
}

impl Books {
    /// Settles what was touched, and checks the result in every way.
    pub(super) fn settle(&mut self, schema: &Schema, touched: &BTreeSet<RowId>) -> Vec<Settled> {
        let Ok(settled) = settle(touched, schema, &*self);
        for change in &settled {
            let before = self.outcomes.remove(&change.row).unwrap_or_default();
            assert_eq!(before, change.before);
            if change.after != Outcome::default() {
                self.outcomes.insert(change.row.clone(), change.after.clone());
            }
        }
        checks::check(schema, self);
        settled
    }

    /// What the application sees.
    pub(super) fn shown(&self) -> BTreeMap<&RowId, &Shown> {
        self.outcomes.iter().map(|(id, outcome)| (id, &outcome.shown)).collect()
    }

    fn read(&self) {
        self.reads.set(self.reads.get() + 1);
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
