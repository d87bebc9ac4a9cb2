//! The applications of a run: tills, each with a small database of its own, which do by seed what
//! applications do, and tell the oracle what they committed.
//!
//! A till knows nothing of the node. What it gets from SQLite that it would not have got alone is
//! a violation. It never waits: it is called at an instant, also between two steps of the node,
//! and an operation that would wait for a lock says so and is repeated at the next call.

mod bulk;
pub mod clerk;
mod fate;
mod hand;
mod held;
mod odd;
mod operation;
mod program;
mod replace;
mod schema;
mod till;
mod trade;
mod upgrade;
mod violation;

pub use operation::{Mix, Operation};
pub use program::Journal;
pub use till::{Acted, Outcome, Till};
pub use violation::Violation;
