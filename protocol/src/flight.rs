//! Consecutive batches of a branch, closed by their origin's signature. Which flights are sent
//! when is the session's to decide.
//!
//! ```text
//! flight = [branch, first, [batch, …], signature]
//! signed = branch (32 bytes), last sequence (8, big endian), hash of the line there (32)
//! ```

use crate::batch::{Frame, Header};
use crate::codec::{DecodeError, EncodeError, check, read::bounded};
use crate::keys::{BadSignature, Domain, PublicKey, Signature, SigningKey};
use crate::limits::{self, Limits};
use crate::{BranchId, ChainHash, Sequence, codec};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Batches that follow each other, and the origin's signature over the line up to the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// The branch.
    pub branch: BranchId,
    /// The number of the first batch.
    pub first: Sequence,
    /// The batches.
    #[serde(deserialize_with = "bounded::<{ limits::FLIGHT_BATCHES }, _, _>")]
    pub frames: Vec<Frame>,
    /// See [`sign`].
    pub signature: Signature,
}

/// Why a flight is not taken.
#[derive(Debug, Error)]
pub enum FlightError {
    /// It has no batches.
    #[error("a flight without batches")]
    Empty,
    /// Its batches have not the numbers that they should.
    #[error("a flight has batch {found} where {expected} should be")]
    Gap {
        /// The number that should follow.
        expected: Sequence,
        /// The number that is there.
        found: Sequence,
    },
    /// It goes on after the branch's last batch.
    #[error("a flight goes on after the branch's last batch {0}")]
    AfterLast(Sequence),
    /// It is too large, or a batch in it is malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The origin did not sign these batches, or not after that hash.
    #[error("a flight's content does not match its signature: {0}")]
    Signature(#[from] BadSignature),
}

/// The origin's signature over its line up to a batch.
pub fn sign(key: &SigningKey, branch: BranchId, last: Sequence, hash: ChainHash) -> Signature {
    key.sign(Domain::FLIGHT, &message(branch, last, hash))
}

/// Whether the owner of `key` signed the line up to a batch.
///
/// # Errors
/// Not so.
pub fn verify(
    key: &PublicKey,
    branch: BranchId,
    last: Sequence,
    hash: ChainHash,
    signature: &Signature,
) -> Result<(), BadSignature> {
    key.verify(Domain::FLIGHT, &message(branch, last, hash), signature)
}

fn message(branch: BranchId, last: Sequence, hash: ChainHash) -> Vec<u8> {
    [&branch.0[..], &last.0.to_be_bytes(), &hash.0].concat()
}

impl Flight {
    /// Closes a flight. `previous` is the hash of the line before its first batch.
    ///
    /// # Errors
    /// There are no batches, or they don't follow each other.
    pub fn close(
        branch: BranchId,
        first: Sequence,
        frames: Vec<Frame>,
        previous: ChainHash,
        key: &SigningKey,
    ) -> Result<Self, FlightError> {
        let unsigned = Self { branch, first, frames, signature: Signature([0; 64]) };
        let (last, hashes) = unsigned.follow(previous)?;
        let hash = hashes.last().copied().ok_or(FlightError::Empty)?;
        Ok(Self { signature: sign(key, branch, last, hash), ..unsigned })
    }

    /// The sequence of its last batch; that before the first if it has none.
    pub fn last(&self) -> Sequence {
        Sequence(self.first.0.saturating_sub(1).saturating_add(self.frames.len() as u64))
    }

    /// Checks sizes, numbers and signature; `previous` is the hash of the line before the first
    /// batch. Bodies are not touched. Returns the hash of the line after each batch.
    ///
    /// # Errors
    /// The flight is not what the origin, whose key it is, closed after `previous`.
    pub fn verify(
        &self,
        previous: ChainHash,
        key: &PublicKey,
        limits: &Limits,
    ) -> Result<Vec<ChainHash>, FlightError> {
        self.verify_by(previous, limits, |domain, message, signature| {
            key.verify(domain, message, signature)
        })
    }

    /// The same, where `verify` says whether the signature is the origin's over a message.
    ///
    /// # Errors
    /// As [`Flight::verify`].
    pub fn verify_by(
        &self,
        previous: ChainHash,
        limits: &Limits,
        verify: impl FnOnce(Domain, &[u8], &Signature) -> Result<(), BadSignature>,
    ) -> Result<Vec<ChainHash>, FlightError> {
        check("batches of a flight", self.frames.len(), limits::FLIGHT_BATCHES)?;
        let bytes = self.frames.iter().map(|frame| frame.as_bytes().len()).sum();
        if self.frames.len() > 1 {
            check("bytes of a flight", bytes, limits.flight)?;
        }
        let (last, hashes) = self.follow(previous)?;
        let hash = hashes.last().copied().ok_or(FlightError::Empty)?;
        verify(Domain::FLIGHT, &message(self.branch, last, hash), &self.signature)?;
        Ok(hashes)
    }

    fn follow(&self, previous: ChainHash) -> Result<(Sequence, Vec<ChainHash>), FlightError> {
        let mut expected = self.first;
        let mut ended = None;
        let mut headers = self.frames.iter().map(Frame::header);
        headers.try_for_each(|header| -> Result<(), FlightError> {
            let Header { meta, .. } = header?;
            if let Some(last) = ended {
                return Err(FlightError::AfterLast(last));
            }
            if meta.sequence != expected {
                return Err(FlightError::Gap { expected, found: meta.sequence });
            }
            ended = meta.last.then_some(meta.sequence);
            expected = expected.next();
            Ok(())
        })?;
        let mut hash = previous;
        let hashes = self.frames.iter().map(|frame| {
            hash = hash.extend(frame.as_bytes());
            hash
        });
        Ok((Sequence(expected.0.saturating_sub(1)), hashes.collect()))
    }

    /// The flight as bytes.
    ///
    /// # Errors
    /// The serializer fails.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        codec::write(self)
    }

    /// Reads what [`Flight::encode`] gives; what it holds is checked by [`Flight::verify`].
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::read("flight", bytes)
    }
}
