//! A batch as bytes, the same in the journal and on the wire: header and packed body.
//!
//! ```text
//! batch = [format = 1, flags, sequence, timestamp, changes, dictionary, raw length, body]
//! ```
//!
//! The predecessor's hash is computed, not carried (see [`crate::chain`]); what the body's bytes
//! mean is [`crate::codec`]'s.

use crate::Sequence;
use crate::change::Body;
use crate::codec::{self, DecodeError, EncodeError, check, packing};
use crate::limits::{self, Limits};
use conflict::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The format of batches.
pub const FORMAT: u8 = 1;
/// The flag of a batch that becomes visible only together with the next one.
pub const MORE: u8 = 1;
/// The flag of a branch's last batch: the database was detached.
pub const LAST: u8 = 2;

/// What a batch is, beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its number in its branch's line; never 0.
    pub sequence: Sequence,
    /// The stamp of its changes, where they have none of their own.
    pub timestamp: Timestamp,
    /// It becomes visible only together with the next batch.
    pub more: bool,
    /// The branch ends here: its database was detached.
    pub last: bool,
}

/// What a batch's first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the batch is.
    pub meta: Meta,
    /// How many rows it changes.
    pub changes: u32,
    /// How its body is packed: see [`codec::packing`].
    pub dictionary: u8,
    /// The bytes of its body, unpacked.
    pub raw_length: u32,
}

/// A batch's bytes. Whether they are a batch is known when the header or the body is read.
/// On the wire: bin.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frame(#[serde(with = "serde_bytes")] Vec<u8>);

#[derive(Serialize, Deserialize)]
struct Wire<'a>(
    u8,
    u8,
    Sequence,
    Timestamp,
    u32,
    u8,
    u32,
    #[serde(borrow, with = "serde_bytes")] &'a [u8],
);

impl Frame {
    /// Takes bytes that were received or kept.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to keep or to send.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// The body can't be written (see [`codec::encode`]), or the sequence is no batch's.
    pub fn encode(meta: &Meta, body: &Body) -> Result<Self, EncodeError> {
        if meta.sequence == Sequence::ZERO || Sequence::try_from(meta.sequence.0).is_err() {
            return Err(EncodeError::Shape("a batch can't have this sequence"));
        }
        let raw = codec::encode(body)?;
        let (dictionary, packed) = packing::pack(&raw)?;
        let header = Header {
            meta: *meta,
            changes: body.changes.len() as u32,
            dictionary,
            raw_length: raw.len() as u32,
        };
        header.join(&packed).map(Self)
    }

    /// Reads the header, without unpacking the body.
    ///
    /// # Errors
    /// The bytes are not a batch, or exceed the limits.
    pub fn header(&self) -> Result<Header, DecodeError> {
        Header::read(&self.0)
    }

    /// Reads the content.
    ///
    /// # Errors
    /// The bytes are not a batch, or exceed the limits.
    pub fn body(&self, limits: &Limits) -> Result<Body, DecodeError> {
        Self::decode_body(&self.0, limits)
    }

    /// Reads the content of a batch that lies somewhere as bytes.
    ///
    /// # Errors
    /// The bytes are not a batch, or exceed the limits.
    pub fn decode_body(bytes: &[u8], limits: &Limits) -> Result<Body, DecodeError> {
        let (header, packed) = Header::split(bytes)?;
        check("changes of a batch", header.changes as usize, limits.changes)?;
        let raw = packing::unpack(
            header.dictionary,
            packed,
            header.raw_length as usize,
            limits.raw_body,
        )?;
        let body = codec::decode(&raw, limits)?;
        if body.changes.len() == header.changes as usize {
            Ok(body)
        } else {
            Err(DecodeError::malformed("batch", "it has another number of changes than it says"))
        }
    }
}

impl Header {
    /// Reads the header of a batch that lies somewhere as bytes, without unpacking the body.
    ///
    /// # Errors
    /// The bytes are not a batch, or exceed the limits.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::split(bytes).map(|(header, _)| header)
    }

    /// How many bytes of a batch are its body, packed; the others are its header.
    ///
    /// # Errors
    /// The bytes are not a batch, or exceed the limits.
    pub fn body_length(bytes: &[u8]) -> Result<usize, DecodeError> {
        Self::split(bytes).map(|(_, packed)| packed.len())
    }

    fn split(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        check("bytes of a batch", bytes.len(), limits::FRAME)?;
        codec::check_format("batch", bytes, FORMAT)?;
        let Wire(_, flags, sequence, timestamp, changes, dictionary, raw_length, packed) =
            codec::read("batch", bytes)?;
        if sequence == Sequence::ZERO || flags & !(MORE | LAST) != 0 {
            return Err(DecodeError::malformed("batch", "unknown flags, or sequence 0"));
        }
        check("changes of a batch", changes as usize, limits::CHANGES)?;
        check("bytes of a batch's body", raw_length as usize, limits::RAW_BODY)?;
        let (more, last) = (flags & MORE != 0, flags & LAST != 0);
        let meta = Meta { sequence, timestamp, more, last };
        let header = Self { meta, changes, dictionary, raw_length };
        // The bytes are the batch's identity: numbers have one form.
        let prefix = header.join(&[]).map_err(|e| DecodeError::malformed("batch", e))?;
        let numbers = prefix.len() - EMPTY_BIN;
        if prefix.get(..numbers) == bytes.get(..numbers)
            && bytes.len() == numbers + bin_prefix(packed.len()) + packed.len()
        {
            Ok((header, packed))
        } else {
            Err(DecodeError::malformed("batch", "it is written in an unusual form"))
        }
    }

    fn join(&self, packed: &[u8]) -> Result<Vec<u8>, EncodeError> {
        let meta = &self.meta;
        let flags = if meta.more { MORE } else { 0 } | if meta.last { LAST } else { 0 };
        codec::write(&Wire(
            FORMAT,
            flags,
            meta.sequence,
            meta.timestamp,
            self.changes,
            self.dictionary,
            self.raw_length,
            packed,
        ))
    }
}

/// The bytes of an empty bin.
const EMPTY_BIN: usize = 2;

/// The bytes before the content of a bin.
fn bin_prefix(length: usize) -> usize {
    match length {
        0..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.header() {
            Ok(header) => write!(f, "Frame({header:?}, {} bytes)", self.0.len()),
            Err(error) => write!(f, "Frame({error}, {} bytes)", self.0.len()),
        }
    }
}
