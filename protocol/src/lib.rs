//! What Holdfast sites say to each other: changes, batches, branches, messages and the session.
//!
//! This crate is sans-I/O: it is handed the time and the bytes that arrived, and returns what to
//! send and what happened. It knows no socket, no task, no database, no clock. `WIRE.md` beside
//! it draws the bytes.

pub mod change;
pub mod identity;
pub mod name;
pub mod schema;

pub use identity::{BranchId, ChainHash, DatabaseId, Epoch, GroupId, Sequence};
pub use name::{Name, NameError};
