//! Capture: what the application commits becomes row changes, and nothing is missed.
//!
//! Beside the application's database, in the order in which the engine uses them:
//!
//! 1. [`inspect()`] reads the schema and says what stands in the way.
//! 2. [`Application::install`] puts log, marker and triggers into the file.
//! 3. [`Application::read`] is one short read snapshot: is the file the one we left, which rows
//!    were noted, how do they look now. The engine then syncs the `-wal`.
//! 4. [`fold()`] compares them with their [`Images`] in a transaction of the node's own database,
//!    which the engine commits together with the batch and the new [`Position`].
//! 5. [`Application::trim`] removes notes that are harvested, when nobody reads.
//!
//! When the file or its schema moved, [`Application::refresh`] puts the triggers back, and a
//! [`Rescan`] compares tables as a whole, in slices, through the same steps 3 and 4. Each step may
//! be cut off and repeated. Nothing here waits, retries, stamps time or makes batches.

mod application;
mod defaults;
mod error;
mod fold;
mod harvest;
mod hop;
mod images;
mod inspect;
mod install;
mod refresh;
mod rescan;
mod statement;
mod triggers;
mod write;

#[cfg(test)]
mod tests;

pub use application::{Application, Marker};
pub use error::CaptureError;
pub use fold::{Folded, fold};
pub use harvest::{Limits, NotedRow, Notes, Reading};
pub use hop::{Hop, OwnNumbers};
pub use images::{Captured, Fence, Image, Images, PackedKey, Position, pack, unpack};
pub use inspect::{Finding, InspectedTable, Inspection, JournalMode, UniqueIndex, Weight, inspect};
pub use install::Polite;
pub use refresh::Refreshed;
pub use rescan::{Rescan, Slice, Work};
pub(crate) use statement::tokens;
pub use statement::{IndexStatement, index_statement, virtual_module};
pub use write::{Form, Held};
