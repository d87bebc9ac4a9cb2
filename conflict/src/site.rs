//! The identity of a site. Not its name, its key or its address: those belong to membership.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// A location: one node and the databases beside it.
///
/// The order of ids decides between two versions of one timestamp, everywhere alike.
/// On the wire: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteId(Uuid);

impl SiteId {
    /// Wraps a UUID as the identity of a site.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Reads the 16 bytes that [`SiteId::as_bytes`] gives.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The identity as 16 bytes, big endian.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteId({})", self.0)
    }
}
