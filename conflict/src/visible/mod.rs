//! What the application sees of a shared database: `visible = f(merged state, local schema)`.
//!
//! [`whole`] is f, computed from scratch over all rows; [`settle`] keeps what is visible equal
//! to f after every batch, reading only what the batch can reach. Both are pure: rows come from
//! the caller, and everything that takes SQLite to know (collations, expressions, partial
//! indexes, CHECK) through [`Constraints`]. Nothing here merges, stamps, writes or remembers.
//!
//! f, where a *slot* is one claim on one UNIQUE index or on a table's key:
//! - **A** Live rows claim in order of rank. A row that its table rejects is parked. A row whose
//!   key is taken is parked, and so is one that lost a value which can't be marked: such rows
//!   hold no slot and keep no parent. Any other row takes what is free and has lost the rest.
//! - **B** Dead rows that rows let in by A refer to are kept, through dead rows too.
//! - **C** Kept rows claim in order of rank, after all live ones.
//! - **E** Each lost value is marked, in order of loss, with the first mark that no row won and
//!   no earlier mark took.
//! - **D** A row that refers to a row that isn't visible is parked, until nothing changes. Its
//!   slots and marks stay its own, and it goes on keeping its parents.
//!
//! # Invariants
//! - f depends on nothing but its arguments: sites with one merged state and one schema show one
//!   content, in whatever order batches came.
//! - Among visible rows every slot is held once, marks included; every reference of a visible
//!   row is to a visible row; the table accepts each visible row as shown.
//! - No row is deleted: what isn't visible is dead and needed by nobody, or parked with a reason.
//! - A value lost is shown again as soon as it is free, without any memory of the loss.
//!
//! # Where MERGE.md left a choice
//! - E goes before D here. D doesn't change who holds what (a row parked for its parent keeps
//!   its slots and marks), so the result is the same, and a row for which no mark fits can park
//!   its children like any other.
//! - A dead row that is reached in B and parked in C still keeps what it refers to. Taking that
//!   back would have no stable answer where it is kept for the row that parks it.
//! - A mark is tried (against the table and against its own index) when the claim is lost: if
//!   neither `value~site~key` nor NULL will do, the value is unmarkable. If that mark is taken
//!   and no later one will do, the row is parked in E and holds its slots.
//! - A mark changes every index that its column is part of: it must be free in all of them, and
//!   one mark may serve several lost claims.
//! - Reach (B) and parking (D) run through cycles, and present outcomes beyond W may be
//!   sustained only by each other: `settle` takes such rows into W instead of believing them.

mod marks;
mod settle;
mod types;
mod whole;

#[cfg(test)]
mod tests;

pub use settle::{Settled, Store, settle};
pub use types::{
    Claim, Constraints, ForeignKey, Hold, Index, Life, Mark, Meant, Outcome, Reason, Reference,
    Remedy, RowId, Shown, Slot, Table, Unique,
};
pub use whole::{plain, whole};
