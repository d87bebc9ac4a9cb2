//! The oracle: what an application's database held after each of its commits, kept beside the
//! world, so that every mirror at every instant can be held against it.
//!
//! It shares no code with the node: it knows of changes by SQLite's update hook on the
//! application's own connections, and by counting and reading again where the hook is blind. It
//! does not say what is durable where, nor merge anything: that is the checker's.

pub mod content;
mod difference;
pub mod fold;
mod history;
pub mod ledger;
pub mod published;
pub mod visible;
mod watcher;
mod witness;

pub use content::{Content, ContentHash};
pub use difference::difference;
pub use history::{Committed, Found, History, Loss, State, Undone};
pub use ledger::Ledger;
pub use watcher::{Verdict, Watcher};
pub use witness::Witness;
