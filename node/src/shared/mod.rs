//! Shared mode: one database that every site writes. What sites say of each row is merged in
//! `node.db` ([`conflict::row`]), what the application beside this node sees follows from that
//! and from the local schema ([`conflict::visible`]), and is written into its tables.
//!
//! Whole steps, and when they are taken, are the engine's; the words on the wire the protocol's.

pub mod blocks;
pub mod book;
pub mod conflicts;
pub mod convert;
mod desk;
mod effects;
pub mod fit;
pub mod forget;
pub mod incoming;
pub mod intent;
pub mod keep_mark;
pub mod local;
mod meant;
mod merge;
pub mod numbers;
pub mod owed;
pub mod own;
pub mod policy;
pub mod rekey;
pub mod room;
mod say;
pub mod seen;
pub mod stable;
mod table;
#[cfg(test)]
mod tests;
pub mod virtual_tables;

pub use desk::{Desk, DeskError, Referred};
pub use effects::{Effects, Stance, Why};
pub use policy::Policy;

use crate::capture::{CaptureError, pack, unpack};
use crate::store::StoreError;
use conflict::visible::RowId;
use conflict::{SiteId, Timestamp, Value, Version};

/// A row's identity as `node.db` keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MergedId {
    /// The table: `captured_table.number`.
    pub table: i64,
    /// The values of the key, packed bit for bit.
    pub key: Vec<u8>,
    /// The packed version of its first insert where one key may mean several rows; else empty.
    pub birth: Vec<u8>,
}

impl MergedId {
    /// The identity of a row, `table` being the number that `node.db` has for its table.
    pub fn new(table: i64, row: &RowId) -> Self {
        let birth = row.birth.map(pack_version).unwrap_or_default();
        Self { table, key: pack(&row.key), birth }
    }

    /// The values of the key.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn key_values(&self) -> Result<Vec<Value>, CaptureError> {
        unpack(&self.key)
    }

    /// The birth.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn birth(&self) -> Result<Option<Version>, StoreError> {
        match self.birth.is_empty() {
            true => Ok(None),
            false => unpack_version(&self.birth).map(Some),
        }
    }
}

/// A version in 24 bytes, in its order.
pub fn pack_version(version: Version) -> Vec<u8> {
    let mut bytes = version.timestamp.as_u64().to_be_bytes().to_vec();
    bytes.extend(version.origin.as_bytes());
    bytes
}

/// The reverse of [`pack_version`].
///
/// # Errors
/// The bytes are something else.
pub fn unpack_version(bytes: &[u8]) -> Result<Version, StoreError> {
    let damaged = || StoreError::Damaged("a version in a merged row".into());
    let (time, site) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let timestamp = Timestamp::try_from(u64::from_be_bytes(*time)).map_err(|_| damaged())?;
    let site: [u8; 16] = site.try_into().map_err(|_| damaged())?;
    Ok(Version { timestamp, origin: SiteId::from_bytes(site) })
}
