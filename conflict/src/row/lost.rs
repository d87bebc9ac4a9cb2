//! What loses when changes of one row meet, and to what.
//!
//! Not whether that is a conflict: a change that its winner had seen was meant to be replaced.
//! The node tells by causality, from the two versions.

use super::Column;
use crate::{Value, Version};

/// One side that lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What lost.
    pub loser: Loser,
    /// The change that it belongs to.
    pub version: Version,
    /// The change that it lost to. Where it is an insert that named no such column, that is NULL.
    pub winner: Version,
    /// Why.
    pub reason: Reason,
}

/// What lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loser {
    /// The row's birth.
    Insert,
    /// A value of a column.
    Set(Column, Value),
    /// An amount added to a column.
    Add(Column, Value),
    /// The row's end.
    Delete,
}

/// Why it lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// What was merged is older than what was here. Since changes arrive after all that they
    /// build upon, the winner had not seen it.
    LaterWriter,
    /// What was here is older than what was merged.
    Superseded,
    /// The first value stays: first-writer, append-only.
    EarlierWriter,
    /// The priority site's value stays.
    PrioritySite,
    /// The row was deleted later.
    Deleted,
    /// An add to a deleted row, which does not revive it.
    AddToDeleted,
    /// The delete of a row that was set or inserted later.
    Revived,
    /// An add to text or a blob.
    NotANumber,
    /// The change lies at or below what [`compact`](super::RowState::compact) was told to be
    /// complete. Either it was merged before, or that was wrong, and it is left out.
    Repeated,
}
