//! What two sites say on the control stream of their connection. The data itself, flights and
//! chunks, goes beside it on streams of its own.
//!
//! A message is one byte that names its kind, then its fields in MessagePack. A site ignores
//! kinds of 128 and above that it does not know, and refuses others: so a later version can add
//! hints freely and knows from the hello what more the other understands.

use crate::branch::SignedOpening;
use crate::limits::{DEPTH, HOLDINGS, MESSAGE, OPENINGS};
use crate::membership::{RecordHash, SignedRecord};
use crate::snapshot::{ManifestId, SignedManifest};
use crate::{BranchId, ChainHash, GroupId, Sequence};
use conflict::{SiteId, WallTime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the protocol that this program speaks.
pub const VERSION: u16 = 1;
/// Kinds from here on may be ignored by whoever does not know them.
pub const FIRST_IGNORABLE: u8 = 128;

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Opens every connection, both ways.
    Hello(Hello),
    /// Member records that the other may lack.
    Members(Vec<SignedRecord>),
    /// Opening records of branches that the other did not name.
    Openings(Vec<SignedOpening>),
    /// How far a site is in each branch it knows: its vector. Once, after the hello.
    Holdings(Vec<Holding>),
    /// How far a site is in one branch now.
    Progress(Holding),
    /// How far a third site is, as it told.
    Report(Report),
    /// Asks for a branch from a place on, and for what is added later, until [`Message::Unwant`].
    Want(Want),
    /// Ends a [`Message::Want`].
    Unwant(BranchId),
    /// Asks for chunks of a base.
    WantChunks(WantChunks),
    /// The two hold different batches under one sequence: a disk was cloned or restored.
    Fork(Fork),
    /// What the sender's clock says.
    Time(WallTime),
}

/// Who speaks, and what it understands. Sent with field names, so that later versions can add
/// fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The least version that it still speaks.
    pub least_version: u16,
    /// The greatest version that it speaks. Both then use the lesser of the two greatest.
    pub version: u16,
    /// Its group.
    pub group: GroupId,
    /// Itself.
    pub site: SiteId,
    /// Random at each start of the node: tells a restarted peer from a second connection.
    #[serde(with = "serde_bytes")]
    pub boot: [u8; 8],
    /// Its clock.
    pub clock: WallTime,
    /// Digest of its member records.
    pub members: RecordHash,
    /// Name and version of the program, for people.
    pub program: String,
}

/// How far a site is in one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The branch.
    pub branch: BranchId,
    /// The highest sequence that its journal holds durably, without a gap.
    pub held: Sequence,
    /// The hash of the line there.
    pub hash: ChainHash,
    /// The watermark: as `held`, but 0 while the base is not durable.
    pub durable: Sequence,
    /// The highest sequence applied to its copy.
    pub applied: Sequence,
    /// The timestamp, as time, of batch `applied`.
    pub as_of: WallTime,
}

/// How far a third site is in one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The third site.
    pub site: SiteId,
    /// The branch.
    pub branch: BranchId,
    /// Its watermark.
    pub durable: Sequence,
    /// What it had applied.
    pub applied: Sequence,
    /// When it said so, by the reporter's clock; the time of `applied`.
    pub as_of: WallTime,
}

/// Asks for a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The branch.
    pub branch: BranchId,
    /// Batches after this one are asked for.
    pub after: Sequence,
    /// The manifest of its base too.
    pub base: bool,
}

/// Asks for chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantChunks {
    /// The branch whose base it is.
    pub branch: BranchId,
    /// Which manifest.
    pub manifest: ManifestId,
    /// The first chunk.
    pub from: u32,
    /// How many.
    pub count: u32,
}

/// Two lines under one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The branch.
    pub branch: BranchId,
    /// A sequence at which the lines differ.
    pub sequence: Sequence,
    /// What the sender holds there.
    pub hash: ChainHash,
}

/// What goes over the snapshot stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BasePart {
    /// The base of a branch that was asked for.
    Manifest(SignedManifest),
    /// A chunk of it.
    Chunk(Chunk),
}

/// A chunk of a base on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The branch whose base it is.
    pub branch: BranchId,
    /// Which manifest.
    pub manifest: ManifestId,
    /// The chunk's place in it.
    pub index: u32,
    /// The chunk.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// There are more of them than any message has.
    #[error("a message of {0} bytes is longer than any may be")]
    TooLong(usize),
    /// A kind that may not be ignored.
    #[error("unknown kind of message {0}")]
    UnknownKind(u8),
    /// The fields can't be read, or there are too many.
    #[error("a message can't be read: {0}")]
    Malformed(String),
}

impl Message {
    /// The bytes of the wire.
    ///
    /// # Errors
    /// The message has no encoding, which would be a bug, or is too long.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let (kind, fields) = match self {
            Self::Hello(hello) => (0, rmp_serde::to_vec_named(hello)),
            Self::Members(records) => (1, rmp_serde::to_vec(records)),
            Self::Openings(openings) => (2, rmp_serde::to_vec(openings)),
            Self::Holdings(holdings) => (3, rmp_serde::to_vec(holdings)),
            Self::Progress(holding) => (4, rmp_serde::to_vec(holding)),
            Self::Want(want) => (5, rmp_serde::to_vec(want)),
            Self::Unwant(branch) => (6, rmp_serde::to_vec(branch)),
            Self::WantChunks(want) => (7, rmp_serde::to_vec(want)),
            Self::Fork(fork) => (8, rmp_serde::to_vec(fork)),
            Self::Report(report) => (128, rmp_serde::to_vec(report)),
            Self::Time(time) => (129, rmp_serde::to_vec(time)),
        };
        let fields = fields.map_err(|error| MessageError::Malformed(error.to_string()))?;
        if fields.len() >= MESSAGE {
            return Err(MessageError::TooLong(fields.len()));
        }
        let mut bytes = Vec::with_capacity(fields.len() + 1);
        bytes.push(kind);
        bytes.extend(fields);
        Ok(bytes)
    }

    /// Reads a message; `None` is one that may be ignored.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, MessageError> {
        if bytes.len() > MESSAGE {
            return Err(MessageError::TooLong(bytes.len()));
        }
        let (kind, fields) =
            bytes.split_first().ok_or_else(|| MessageError::Malformed("it is empty".into()))?;
        Ok(Some(match kind {
            0 => Self::Hello(read(fields)?),
            1 => Self::Members(read(fields)?),
            2 => Self::Openings(bounded(read(fields)?, OPENINGS)?),
            3 => Self::Holdings(bounded(read(fields)?, HOLDINGS)?),
            4 => Self::Progress(read(fields)?),
            5 => Self::Want(read(fields)?),
            6 => Self::Unwant(read(fields)?),
            7 => Self::WantChunks(read(fields)?),
            8 => Self::Fork(read(fields)?),
            128 => Self::Report(read(fields)?),
            129 => Self::Time(read(fields)?),
            kind if *kind >= FIRST_IGNORABLE => return Ok(None),
            kind => return Err(MessageError::UnknownKind(*kind)),
        }))
    }
}

impl BasePart {
    /// The bytes of the wire: a kind, then the fields in MessagePack.
    ///
    /// # Errors
    /// It has no encoding, which would be a bug.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let (kind, fields) = match self {
            Self::Manifest(manifest) => (0, rmp_serde::to_vec(manifest)),
            Self::Chunk(chunk) => (1, rmp_serde::to_vec(chunk)),
        };
        let mut bytes = fields.map_err(|error| MessageError::Malformed(error.to_string()))?;
        bytes.insert(0, kind);
        Ok(bytes)
    }

    /// Reads one.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        match bytes.split_first() {
            Some((0, fields)) => Ok(Self::Manifest(read(fields)?)),
            Some((1, fields)) => Ok(Self::Chunk(read(fields)?)),
            Some((kind, _)) => Err(MessageError::UnknownKind(*kind)),
            None => Err(MessageError::Malformed("it is empty".into())),
        }
    }
}

fn read<T: DeserializeOwned>(fields: &[u8]) -> Result<T, MessageError> {
    let mut deserializer = rmp_serde::Deserializer::new(fields);
    deserializer.set_max_depth(DEPTH);
    let value = T::deserialize(&mut deserializer)
        .map_err(|error| MessageError::Malformed(error.to_string()))?;
    if deserializer.get_ref().is_empty() {
        Ok(value)
    } else {
        Err(MessageError::Malformed("something follows its last field".into()))
    }
}

fn bounded<T>(list: Vec<T>, most: usize) -> Result<Vec<T>, MessageError> {
    if list.len() > most {
        return Err(MessageError::Malformed(format!("{} entries, at most {most}", list.len())));
    }
    Ok(list)
}
