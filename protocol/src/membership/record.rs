//! The statements that a group's records make, and their form: exact bytes, signed. What follows
//! from them is the membership's.

use super::Residues;
use crate::keys::{Domain, PublicKey, Signature, SigningKey};
use crate::limits::{ADDRESS, ADDRESSES, MEMBER_RECORD};
use crate::{GroupId, Name, codec};
use conflict::{SiteId, WallTime};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The format of a member record.
pub const FORMAT: u8 = 1;
/// The kinds of member records.
pub const FOUNDING: u8 = 0;
/// See [`Record::Admission`].
pub const ADMISSION: u8 = 1;
/// See [`Record::Contact`].
pub const CONTACT: u8 = 2;
/// See [`Record::Removal`].
pub const REMOVAL: u8 = 3;
/// See [`Record::Handover`].
pub const HANDOVER: u8 = 4;

/// What member records are signed under.
pub const RECORD_DOMAIN: Domain = Domain::new("holdfast member record 1");

/// The hash of a record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordHash(#[serde(with = "serde_bytes")] pub [u8; 32]);

/// One statement about a group.
///
/// ```text
/// record = [format = 1, kind, [fields in their order]]
/// signed = [record as bin, signature of the record]
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The first site makes the group. Signed by its own key.
    Founding(Founding),
    /// A member admits a site. Signed by that member.
    Admission(Admission),
    /// A member tells how it is reached. Signed by itself; the greatest number holds.
    Contact(Contact),
    /// A member takes a site out. Signed by that member.
    Removal(Removal),
    /// A member hands key residues over to another. Signed by the giver.
    Handover(Handover),
}

/// See [`Record::Founding`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The founder.
    pub site: SiteId,
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: PublicKey,
    /// When.
    pub founded: WallTime,
}

/// See [`Record::Admission`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The group.
    pub group: GroupId,
    /// The site that is admitted.
    pub site: SiteId,
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: PublicKey,
    /// The key residues that the inviter hands over from its own.
    pub residues: Residues,
    /// The member that admits it.
    pub inviter: SiteId,
    /// When.
    pub admitted: WallTime,
}

/// See [`Record::Contact`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The group.
    pub group: GroupId,
    /// The site.
    pub site: SiteId,
    /// `HOST:PORT`, where others reach it; none for a site that only dials.
    pub addresses: Vec<String>,
    /// Counts this site's contact records.
    pub number: u64,
}

/// See [`Record::Removal`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The group.
    pub group: GroupId,
    /// The site that is taken out.
    pub site: SiteId,
    /// The member that does it.
    pub by: SiteId,
    /// When.
    pub removed: WallTime,
}

/// See [`Record::Handover`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The group.
    pub group: GroupId,
    /// The member that gives them from its own.
    pub from: SiteId,
    /// The member that gets them.
    pub to: SiteId,
    /// Which.
    pub residues: Residues,
    /// When.
    pub handed: WallTime,
}

/// A record as it is kept and sent: its exact bytes and their signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRecord {
    /// MessagePack of a [`Record`].
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Over [`RECORD_DOMAIN`] and `bytes`.
    pub signature: Signature,
}

/// Why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MembershipError {
    /// It is longer than a record may be.
    #[error("a member record of {0} bytes is longer than any may be")]
    TooLong(usize),
    /// Its bytes are no record.
    #[error("a member record can't be read: {0}")]
    Malformed(String),
    /// It speaks of another group.
    #[error("a member record belongs to another group")]
    OtherGroup,
    /// Its signature is not its signer's.
    #[error("a member record bears a wrong signature")]
    Forged,
}

impl Record {
    fn encode(&self) -> Result<Vec<u8>, MembershipError> {
        match self {
            Self::Founding(fields) => codec::write(&(FORMAT, FOUNDING, fields)),
            Self::Admission(fields) => codec::write(&(FORMAT, ADMISSION, fields)),
            Self::Contact(fields) => codec::write(&(FORMAT, CONTACT, fields)),
            Self::Removal(fields) => codec::write(&(FORMAT, REMOVAL, fields)),
            Self::Handover(fields) => codec::write(&(FORMAT, HANDOVER, fields)),
        }
        .map_err(|error| MembershipError::Malformed(error.to_string()))
    }

    fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        let (format, kind, IgnoredAny): (u8, u8, IgnoredAny) = read(bytes)?;
        if format != FORMAT {
            return Err(MembershipError::Malformed(format!("unknown format {format}")));
        }
        Ok(match kind {
            FOUNDING => Self::Founding(fields(bytes)?),
            ADMISSION => Self::Admission(fields(bytes)?),
            CONTACT => Self::Contact(fields(bytes)?),
            REMOVAL => Self::Removal(fields(bytes)?),
            HANDOVER => Self::Handover(fields(bytes)?),
            kind => return Err(MembershipError::Malformed(format!("unknown kind {kind}"))),
        })
    }
}

fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, MembershipError> {
    codec::read("member record", bytes)
        .map_err(|error| MembershipError::Malformed(error.to_string()))
}

fn fields<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, MembershipError> {
    read::<(u8, u8, T)>(bytes).map(|(_, _, fields)| fields)
}

impl SignedRecord {
    /// Encodes and signs.
    ///
    /// # Errors
    /// The record is longer than a record may be.
    pub fn sign(record: &Record, key: &SigningKey) -> Result<Self, MembershipError> {
        let bytes = record.encode()?;
        if bytes.len() > MEMBER_RECORD {
            return Err(MembershipError::TooLong(bytes.len()));
        }
        let signature = key.sign(RECORD_DOMAIN, &bytes);
        Ok(Self { bytes, signature })
    }

    /// What it says, unchecked.
    ///
    /// # Errors
    /// It is too long or no record.
    pub fn read(&self) -> Result<Record, MembershipError> {
        if self.bytes.len() > MEMBER_RECORD {
            return Err(MembershipError::TooLong(self.bytes.len()));
        }
        let record = Record::decode(&self.bytes)?;
        if record.encode()? != self.bytes {
            // One content has one form, and so one hash.
            return Err(MembershipError::Malformed("it is written in an unusual form".into()));
        }
        if let Record::Contact(contact) = &record
            && (contact.addresses.len() > ADDRESSES
                || contact.addresses.iter().any(|address| address.len() > ADDRESS))
        {
            return Err(MembershipError::Malformed("too many or too long addresses".into()));
        }
        Ok(record)
    }

    /// Its hash.
    pub fn hash(&self) -> RecordHash {
        RecordHash(blake3::hash(&self.bytes).into())
    }
}
