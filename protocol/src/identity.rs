//! The names of things on the wire: databases, groups, branches, and places in a branch.
//!
//! Each is a type of its own, so that an epoch is never passed for a sequence.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;
use uuid::Uuid;

/// A database, whatever people call it and wherever it lies. On the wire: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseId(pub Uuid);

/// The sites that trust each other. It is made of the hash of the founder's record, so that
/// nobody can pass another founder off as this group's. On the wire: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub Uuid);

/// A batch's number in its branch's line: from 1, without gaps. 0 stands before the first.
/// What arrives above [`CEILING`] is malformed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "u64", try_from = "u64")]
pub struct Sequence(pub u64);

/// Counts changes of writer or identity; a greater epoch fences a lesser one.
/// What arrives above [`CEILING`] is malformed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "u64", try_from = "u64")]
pub struct Epoch(pub u64);

/// The greatest sequence and epoch: the greatest that SQLite can store, and far enough from the
/// end of 64 bits that counting on from what a peer claims can't overflow.
pub const CEILING: u64 = i64::MAX as u64;

/// A sequence or epoch above [`CEILING`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("number {0} lies above the ceiling of the format")]
pub struct NumberError(pub u64);

/// A branch: the BLAKE3 hash of its opening record. On the wire: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Digest", into = "Digest")]
pub struct BranchId(pub [u8; 32]);

/// The hash of a branch's line up to a batch: it covers all batches before it, back to the
/// opening record. On the wire: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Digest", into = "Digest")]
pub struct ChainHash(pub [u8; 32]);

/// 32 bytes as MessagePack bin rather than as a list of numbers.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Digest(#[serde(with = "serde_bytes")] [u8; 32]);

impl Sequence {
    /// The place before the first batch.
    pub const ZERO: Self = Self(0);

    /// The next number in the line.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

macro_rules! number {
    ($name:ident) => {
        impl From<$name> for u64 {
            fn from(number: $name) -> Self {
                number.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = NumberError;

            fn try_from(number: u64) -> Result<Self, NumberError> {
                if number > CEILING { Err(NumberError(number)) } else { Ok(Self(number)) }
            }
        }
    };
}

number!(Sequence);
number!(Epoch);

macro_rules! digest {
    ($name:ident) => {
        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest.0)
            }
        }

        impl From<$name> for Digest {
            fn from(name: $name) -> Self {
                Self(name.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", HEXLOWER.encode_display(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("…)")
            }
        }
    };
}

digest!(BranchId);
digest!(ChainHash);

macro_rules! uuid_display {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

uuid_display!(DatabaseId);
uuid_display!(GroupId);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
