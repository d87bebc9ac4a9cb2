//! What two sites say on the control stream of their connection. The data itself, flights and
//! chunks, goes beside it on streams of its own.
//!
//! A message is one byte that names its kind, then its fields in MessagePack. A site ignores
//! kinds of 128 and above that it does not know, and refuses others: so a later version can add
//! hints freely and knows from the hello what more the other understands.

use crate::EncodeError;
use crate::branch::SignedOpening;
use crate::limits::{HOLDINGS, MESSAGE, OPENINGS, SITES};
use crate::membership::{RecordHash, SignedRecord};
use crate::snapshot::{ManifestId, SignedManifest};
use crate::{BranchId, ChainHash, GroupId, Sequence, codec};
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
    /// With which sites the sender is connected: of what these say themselves it need not be told.
    Links(Vec<SiteId>),
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
            Self::Hello(hello) => (0, named(hello)),
            Self::Members(records) => (1, codec::write(records)),
            Self::Openings(openings) => (2, codec::write(openings)),
            Self::Holdings(holdings) => (3, codec::write(holdings)),
            Self::Progress(holding) => (4, codec::write(holding)),
            Self::Want(want) => (5, codec::write(want)),
            Self::Unwant(branch) => (6, codec::write(branch)),
            Self::WantChunks(want) => (7, codec::write(want)),
            Self::Fork(fork) => (8, codec::write(fork)),
            Self::Report(report) => (128, codec::write(report)),
            Self::Time(time) => (129, codec::write(time)),
            Self::Links(sites) => (130, codec::write(sites)),
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
            130 => Self::Links(bounded(read(fields)?, SITES)?),
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
            Self::Manifest(manifest) => (0, codec::write(manifest)),
            Self::Chunk(chunk) => (1, codec::write(chunk)),
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
    codec::read("message", fields).map_err(|error| MessageError::Malformed(error.to_string()))
}

fn named(hello: &Hello) -> Result<Vec<u8>, EncodeError> {
    rmp_serde::to_vec_named(hello).map_err(|error| EncodeError::Failed(error.to_string()))
}

fn bounded<T>(list: Vec<T>, most: usize) -> Result<Vec<T>, MessageError> {
    if list.len() > most {
        return Err(MessageError::Malformed(format!("{} entries, at most {most}", list.len())));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BRANCH: BranchId = BranchId([1; 32]);
    const SITE: SiteId = SiteId::from_bytes([2; 16]);

    fn hello() -> Hello {
        Hello {
            least_version: 1,
            version: 1,
            group: GroupId(uuid::Uuid::from_bytes([3; 16])),
            site: SITE,
            boot: [4; 8],
            clock: WallTime(1_790_000_000_000),
            members: RecordHash([5; 32]),
            program: "holdfast 0.1.0".into(),
        }
    }

    fn holding() -> Holding {
        Holding {
            branch: BRANCH,
            held: Sequence(7),
            hash: ChainHash([6; 32]),
            durable: Sequence(7),
            applied: Sequence(6),
            as_of: WallTime(1_790_000_000_000),
        }
    }

    /// One of each kind that stands for itself; openings and manifests have their own fixtures.
    fn all() -> Vec<Message> {
        vec![
            Message::Hello(hello()),
            Message::Members(Vec::new()),
            Message::Openings(Vec::new()),
            Message::Holdings(vec![holding()]),
            Message::Progress(holding()),
            Message::Want(Want { branch: BRANCH, after: Sequence(7), base: true }),
            Message::Unwant(BRANCH),
            Message::WantChunks(WantChunks {
                branch: BRANCH,
                manifest: ManifestId([7; 32]),
                from: 3,
                count: 4,
            }),
            Message::Fork(Fork { branch: BRANCH, sequence: Sequence(7), hash: ChainHash([8; 32]) }),
            Message::Report(Report {
                site: SITE,
                branch: BRANCH,
                durable: Sequence(5),
                applied: Sequence(4),
                as_of: WallTime(-1),
            }),
            Message::Time(WallTime(0)),
            Message::Links(vec![SITE]),
        ]
    }

    /// Freezes version 1: what these bytes mean never changes.
    #[test]
    fn the_bytes_of_version_1_stay() {
        let fixtures = include_str!("../fixtures/v1/messages.hex");
        let fixtures: Vec<Vec<u8>> = fixtures
            .lines()
            .map(|line| data_encoding::HEXLOWER.decode(line.as_bytes()).unwrap())
            .collect();
        let encoded: Vec<Vec<u8>> = all().iter().map(|m| m.encode().unwrap()).collect();
        assert_eq!(encoded, fixtures);
        for (message, bytes) in all().into_iter().zip(&fixtures) {
            assert_eq!(Message::decode(bytes), Ok(Some(message)));
        }
    }

    #[test]
    fn a_later_version_may_add_hints_and_fields() {
        assert_eq!(Message::decode(&[200, 0x93, 1, 2, 3]), Ok(None));
        assert_eq!(Message::decode(&[127, 0xc0]), Err(MessageError::UnknownKind(127)));
        #[derive(Serialize)]
        struct Later {
            #[serde(flatten)]
            hello: Hello,
            colour: &'static str,
        }
        let later = Later { hello: hello(), colour: "blue" };
        let mut bytes = vec![0];
        bytes.extend(rmp_serde::to_vec_named(&later).unwrap());
        assert_eq!(Message::decode(&bytes), Ok(Some(Message::Hello(hello()))));
    }

    #[test]
    fn truncation_is_noticed_at_every_length() {
        for message in all() {
            let bytes = message.encode().unwrap();
            for length in 0..bytes.len() {
                assert!(Message::decode(&bytes[..length]).is_err(), "{message:?} cut at {length}");
            }
            let longer = [&bytes[..], &[0xc0]].concat();
            assert!(Message::decode(&longer).is_err(), "{message:?} with something behind it");
        }
    }

    proptest! {
        #[test]
        fn damage_does_no_harm(message in proptest::sample::select(all()), flips in
            proptest::collection::vec((any::<usize>(), 0_u8..8), 1..8)) {
            let mut bytes = message.encode().unwrap();
            for (place, bit) in flips {
                let place = place % bytes.len();
                bytes[place] ^= 1 << bit;
            }
            let _ = Message::decode(&bytes);
            let _ = BasePart::decode(&bytes);
        }
    }
}
