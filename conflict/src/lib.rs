//! Who changed what, and when: sites, the hybrid logical clock, versions and SQLite values.
//!
//! This crate is pure. It knows no database, no network, no system clock and no source of
//! randomness: whoever calls it hands in the time. [`row`] merges what sites say of one
//! row, [`visible`] tells which rows an application sees under its constraints.

mod clock;
pub mod row;
mod rule;
mod site;
mod value;
mod version;
pub mod visible;

pub use clock::{Clock, ClockError, Timestamp, TimestampError, WallTime};
pub use rule::{Rule, UnknownRule};
pub use site::SiteId;
pub use value::{ExtensionError, Value};
pub use version::Version;
