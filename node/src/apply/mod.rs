//! Writing what another site committed into this site's mirror of its database.
//!
//! [`Mirror`] applies batches to the file that anyone may read at any time; [`BaseLoader`] makes
//! such a file from a base. Both are synchronous: an engine runs their calls as steps of a worker.
//! Nothing here knows the network, the journal, or shared mode, whose batches are merged elsewhere.

mod base;
mod error;
mod mirror;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

pub use base::{BaseLoader, Progress};
pub use error::ApplyError;
pub use mirror::{Applied, Incoming, Marker, Mirror};
pub use schema::LeftOut;
