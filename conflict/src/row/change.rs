//! What is merged into a row: one change, as its origin made it.
//!
//! Not its bytes on the wire, which are the protocol's, and not its stamp, which is handed in
//! beside it.

use crate::{Rule, Value};
use serde::{Deserialize, Serialize};

/// A column of a table, by a number that means nothing here: the node numbers columns by name, so
/// that also those that the local schema lacks are merged and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Column(pub u32);

/// One row's insert, update or delete. It names no column twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row begins, or begins again: a set of every column that is named.
    Insert(Vec<(Column, Value, Rule)>),
    /// Some columns of a row.
    Update(Vec<(Column, Assignment)>),
    /// The row is gone.
    Delete,
}

/// What happened to a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// It has this value now, under the rule that the origin had applied.
    Set(Value, Rule),
    /// This much was added to it. What is not a number adds nothing.
    Add(Value),
}
