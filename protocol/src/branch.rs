//! The signed record that opens a branch. Who may open which branch is membership's to judge.
//!
//! ```text
//! record = [format = 1, database, name, mode, origin, epoch,
//!           nil | [branch, sequence, hash], base, opened]
//! id     = BLAKE3 of the record under "holdfast opening 1"
//! signed = [record, signature of the id]
//! ```

use crate::codec::{self, DecodeError, EncodeError, check};
use crate::keys::{BadSignature, Domain, PublicKey, Signature, SigningKey};
use crate::{BranchId, ChainHash, DatabaseId, Epoch, Name, Sequence, limits};
use conflict::{SiteId, WallTime};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The format of opening records.
pub const FORMAT: u8 = 1;

/// Who writes a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Mode {
    /// One site; the others hold copies.
    Mirror = 0,
    /// All sites.
    Shared = 1,
}

/// A number that no mode has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown mode {0}")]
pub struct UnknownMode(pub u8);

impl From<Mode> for u8 {
    fn from(mode: Mode) -> Self {
        mode as Self
    }
}

impl TryFrom<u8> for Mode {
    type Error = UnknownMode;

    fn try_from(number: u8) -> Result<Self, UnknownMode> {
        match number {
            0 => Ok(Self::Mirror),
            1 => Ok(Self::Shared),
            other => Err(UnknownMode(other)),
        }
    }
}

/// The place in another branch's line from which a branch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The branch that is continued.
    pub branch: BranchId,
    /// The last of its batches that belongs to the line.
    pub sequence: Sequence,
    /// The hash of its line there.
    pub hash: ChainHash,
}

/// What opens a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The database whose changes the branch holds.
    pub database: DatabaseId,
    /// What people call it.
    pub name: Name,
    /// Who writes it.
    pub mode: Mode,
    /// The site whose changes these are, and whose key signs.
    pub origin: SiteId,
    /// Fences branches of lesser epochs.
    pub epoch: Epoch,
    /// What the branch continues, if it does not begin a line.
    pub parent: Option<Parent>,
    /// Content existed when it was opened, so that a snapshot before its first sequence belongs
    /// to it: without that, its batches are not a copy.
    pub base: bool,
    /// When, by the origin's clock. For people.
    pub opened: WallTime,
}

/// The record's elements in their order on the wire.
#[derive(Serialize, Deserialize)]
struct Record(u8, DatabaseId, Name, Mode, SiteId, Epoch, Option<Parent>, bool, WallTime);

impl Opening {
    /// The number of the branch's first batch.
    pub fn first_sequence(&self) -> Sequence {
        self.parent.map_or(Sequence::ZERO, |parent| parent.sequence).next()
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        codec::write(&Record(
            FORMAT,
            self.database,
            self.name.clone(),
            self.mode,
            self.origin,
            self.epoch,
            self.parent,
            self.base,
            self.opened,
        ))
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        check("bytes of an opening", bytes.len(), limits::OPENING)?;
        codec::check_format("opening", bytes, FORMAT)?;
        let Record(_, database, name, mode, origin, epoch, parent, base, opened) =
            codec::read("opening", bytes)?;
        let opening = Self { database, name, mode, origin, epoch, parent, base, opened };
        // One content has one form, and so one id.
        if opening.encode().is_ok_and(|form| form == bytes) {
            Ok(opening)
        } else {
            Err(DecodeError::malformed("opening", "it is written in an unusual form"))
        }
    }
}

/// An opening, the exact bytes of its record, and the origin's signature, which is not checked
/// before [`SignedOpening::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub struct SignedOpening {
    opening: Opening,
    bytes: Vec<u8>,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
struct Wire(#[serde(with = "serde_bytes")] Vec<u8>, Signature);

impl From<SignedOpening> for Wire {
    fn from(signed: SignedOpening) -> Self {
        Self(signed.bytes, signed.signature)
    }
}

impl TryFrom<Wire> for SignedOpening {
    type Error = DecodeError;

    fn try_from(Wire(bytes, signature): Wire) -> Result<Self, DecodeError> {
        Ok(Self { opening: Opening::decode(&bytes)?, bytes, signature })
    }
}

impl SignedOpening {
    /// Opens a branch.
    ///
    /// # Errors
    /// The record can't be encoded.
    pub fn open(opening: Opening, key: &SigningKey) -> Result<Self, EncodeError> {
        let bytes = opening.encode()?;
        let signature = key.sign(Domain::OPENING, &id(&bytes).0);
        Ok(Self { opening, bytes, signature })
    }

    /// What it says.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// The branch that it opens: the hash of the record.
    pub fn id(&self) -> BranchId {
        id(&self.bytes)
    }

    /// Whether the owner of `key`, who must be the opening's origin, signed it.
    ///
    /// # Errors
    /// Not so.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        key.verify(Domain::OPENING, &self.id().0, &self.signature)
    }

    /// Record and signature as bytes.
    ///
    /// # Errors
    /// The serializer fails.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        codec::write(self)
    }

    /// Reads what [`SignedOpening::encode`] gives.
    ///
    /// # Errors
    /// The bytes are something else, or too many.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::read("signed opening", bytes)
    }
}

fn id(record: &[u8]) -> BranchId {
    BranchId(blake3::derive_key(Domain::OPENING.as_str(), record))
}
