//! What a site knows of one row in shared mode, and how changes of it are merged.
//!
//! Pure, and of one row only. What the application gets to see, where rows compete for keys and
//! unique values and refer to each other, is decided from the states of many.

mod cell;
mod change;
mod lost;
mod merge;
mod pack;
mod sum;
#[cfg(test)]
mod tests;

pub use change::{Assignment, Change, Column};
pub use lost::{Loser, Lost, Reason};
pub use pack::{PackedRow, UnpackError};

use crate::{Value, Version};
use cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// The merged state of one row.
///
/// It is a function of the *set* of changes merged: their order, grouping and repetition leave no
/// trace, and states that merged the same changes are equal. [`RowState::join`] of two states is
/// the state of the changes of both. It relies on one thing: no two changes of a row share a
/// version.
///
/// - **Births and deletes.** An insert leaves a stamp, and is a set of every column that it
///   carries. Of deletes the greatest is kept, also when the row lives again; of inserts those
///   above it, and the greatest below.
/// - **Live** is a row without delete, or with a set or an insert above it. So a set revives a
///   dead row, with the columns it had; an add never does.
/// - **Cells.** Each column is a cell of sets and adds of its own, whether or not the local
///   schema knows it. The rule of its *latest* set decides how it is read; rules travel with the
///   sets, are never reinterpreted, and may be mixed:
///
///   | rule of the latest set | the set that wins |
///   |---|---|
///   | last-writer, counter, whole-row | the latest |
///   | first-writer | the least of those under first-writer that is not NULL and not below the row's least insert above its greatest delete, where there is such an insert. If there is none: NULL, as of the latest set or that insert |
///   | append-only | the least of those under append-only, NULL or not |
///   | site-priority, yields | the greatest under site-priority, else the latest |
///   | local | never travels; the same as last-writer |
///
/// - **The value** of a cell is the winning set's, plus the adds stamped above that set, in the
///   order of their versions: as SQLite adds, with NULL as 0, text that is one number as that
///   number, integers exactly and as REAL where the result leaves 64 bits, NaN as NULL. To other
///   text and to blobs nothing is added; the adds stay, for a set that comes late. Amounts that
///   are no numbers add nothing. A cell with adds alone counts from NULL.
/// - **Kept** is only what can come to matter; what is superseded for good goes at once. Adds and
///   first-writer sets are folded by [`RowState::compact`], which changes no answer. A compacted
///   state is equal to one that was not only in its answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowState {
    /// All above `deleted`, and the greatest below.
    inserts: BTreeSet<Version>,
    deleted: Option<Version>,
    /// Up to here everything was merged, and some of it folded.
    compacted: Option<Version>,
    cells: BTreeMap<Column, Cell>,
}

impl RowState {
    /// A row of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Merges everything that `other`, a state of the same row, has merged.
    pub fn join(&mut self, other: &Self) {
        // Up to its bound the state that is compacted further has everything.
        if self.compacted < other.compacted {
            let near = std::mem::replace(self, other.clone());
            self.take(&near);
        } else {
            self.take(other);
        }
    }

    fn take(&mut self, near: &Self) {
        self.inserts.extend(&near.inserts);
        self.delete(near.deleted);
        let bound = self.compacted;
        for (column, cell) in &near.cells {
            self.cells.entry(*column).or_default().take(cell, bound);
        }
    }

    /// Whether the row is live: it has no delete, or a set or an insert above it. Of a live row
    /// whose [`RowState::rank`] is None only the insert is missing.
    pub fn is_live(&self) -> bool {
        self.deleted.is_none() || self.last_write() > self.deleted
    }

    /// The greatest delete, also of a row that lives again.
    pub fn deleted(&self) -> Option<Version> {
        self.deleted
    }

    /// What orders rows that claim the same: the least insert above the greatest delete; else,
    /// of a dead row, that delete; else the insert that is left. Ties are the caller's to break,
    /// by birth and key: births are not known here, since inserts below deletes are forgotten.
    ///
    /// None: the row is live without ever having been inserted. Its insert is still to come, or
    /// is unknown to this group.
    pub fn rank(&self) -> Option<Version> {
        let dead = || self.deleted.filter(|_| !self.is_live());
        self.birth().or_else(dead).or_else(|| self.inserts.last().copied())
    }

    /// The inserts that are kept, ascending: all above the greatest delete, and one below.
    pub fn inserts(&self) -> impl Iterator<Item = Version> {
        self.inserts.iter().copied()
    }

    /// The greatest version that the row holds, also of adds that were folded: a local change is
    /// stamped above it. None: nothing was merged yet.
    pub fn greatest(&self) -> Option<Version> {
        self.versions().max()
    }

    /// The columns of which anything is known, ascending.
    pub fn columns(&self) -> impl Iterator<Item = Column> {
        self.cells.keys().copied()
    }

    /// What a column shows, or would show if the row were live. None: nothing is known of it.
    pub fn value(&self, column: Column) -> Option<Value> {
        self.cells.get(&column).map(|cell| cell.value(self.birth()))
    }

    /// The version of the set that a column shows, not counting adds. None: it was never set.
    pub fn version(&self, column: Column) -> Option<Version> {
        let winner = self.cells.get(&column)?.winner(self.birth())?;
        Some(winner.version)
    }

    /// Whether this set of a column is kept: it is shown, or may come to be.
    pub fn has_set(&self, column: Column, version: Version) -> bool {
        let sets = self.cells.get(&column).map(Cell::sets).unwrap_or_default();
        sets.iter().any(|(known, _)| *known == version)
    }

    /// Folds what no change still to come can tell apart, and says whether that changed the
    /// state. It changes no answer, now or after any further merge.
    ///
    /// `stable` says of a version that no change of this row at or below it is still to be
    /// merged, which holds once every member of the group is known to have applied the change so
    /// stamped, and all that they did before is merged here. Everything at or below the greatest
    /// stable version that the row holds is folded; a change that arrives there nevertheless is
    /// taken for a repetition ([`Reason::Repeated`]).
    pub fn compact(&mut self, stable: &impl Fn(Version) -> bool) -> bool {
        let bound = self.versions().filter(|version| stable(*version)).max();
        let Some(bound) = bound.max(self.compacted) else { return false };
        let birth = self.birth();
        let mut folded = false;
        for cell in self.cells.values_mut() {
            folded |= cell.compact(bound, birth);
        }
        if folded {
            self.compacted = Some(bound);
        }
        folded
    }

    /// The least insert above the greatest delete.
    fn birth(&self) -> Option<Version> {
        self.inserts.iter().copied().find(|insert| Some(*insert) > self.deleted)
    }

    /// The greatest version of any set or insert.
    fn last_write(&self) -> Option<Version> {
        let sets = self.cells.values().filter_map(Cell::latest).max();
        sets.max(self.inserts.last().copied())
    }

    /// Every version that is kept.
    fn versions(&self) -> impl Iterator<Item = Version> {
        let cells = self.cells.values().flat_map(Cell::versions);
        cells.chain(self.inserts.iter().copied()).chain(self.deleted).chain(self.compacted)
    }

    /// Merges a delete, and forgets inserts that no longer matter.
    fn delete(&mut self, version: Option<Version>) {
        self.deleted = self.deleted.max(version);
        let mut below = self.inserts.iter().filter(|insert| Some(**insert) <= self.deleted);
        if let Some(last) = below.next_back().copied() {
            self.inserts = self.inserts.split_off(&last);
        }
    }
}
