//! Who belongs to a group: a set of signed records, and what follows from it. The set only grows,
//! except that of a site's contact records only the newest is kept.
//!
//! Every site holds every record and derives the same members from them, whatever order they came
//! in. Each record is signed by somebody whom the records before it admit, back to the founding,
//! whose hash is the group's id: so a list can be taken from anyone. This module does not decide
//! whether somebody may join: that is the inviter's part.

#[cfg(test)]
mod tests;

use crate::keys::{Domain, PublicKey, Signature, SigningKey};
use crate::limits::{ADDRESS, ADDRESSES, MEMBER_RECORD};
use crate::{GroupId, Name, codec};
use conflict::{SiteId, WallTime};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;
use uuid::Uuid;

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
/// Under which the founding record is hashed into the group's id.
pub const GROUP_DOMAIN: &str = "holdfast group 1";

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

/// Which of the 128 interleaved key ranges a site draws its integer keys from.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Residues(pub u128);

/// A member as the records have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The site.
    pub site: SiteId,
    /// What it is called. Two sites admitted under one name at once differ by a number.
    pub name: Name,
    /// Its key.
    pub key: PublicKey,
    /// When it came.
    pub admitted: WallTime,
    /// How it is reached.
    pub addresses: Vec<String>,
    /// The number of the contact record that says so; 0 if there is none.
    pub contact_number: u64,
    /// The residues that it owns.
    pub residues: Residues,
    /// Whether it was taken out.
    pub removed: bool,
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

/// A group's records and what follows from them.
#[derive(Clone, Debug)]
pub struct Membership {
    group: GroupId,
    records: BTreeMap<RecordHash, SignedRecord>,
    members: BTreeMap<SiteId, Member>,
}

impl Residues {
    /// All of them: the founder's.
    pub const ALL: Self = Self(u128::MAX);

    /// Splits off one of `parts`, interleaved; the rest, and at least one, stays.
    pub fn split(self, parts: u32) -> (Self, Self) {
        let parts = parts.min(self.count()).max(2) as usize;
        let own = (0..128).map(|n| 1_u128 << n).filter(|bit| self.0 & bit != 0);
        let given = own.skip(parts - 1).step_by(parts).fold(0, |given, bit| given | bit);
        (Self(self.0 & !given), Self(given))
    }

    /// How many.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }
}

impl std::fmt::Debug for Residues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Residues({:032x})", self.0)
    }
}

/// On the wire: 16 bytes, big endian, residue 0 in the last bit.
impl Serialize for Residues {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_be_bytes())
    }
}

impl<'de> Deserialize<'de> for Residues {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: [u8; 16] = serde_bytes::deserialize(deserializer)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
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

/// The group that a founding record makes: the hash of its bytes in the form of a UUID
/// (version 8, RFC 9562).
fn group_of(founding: &[u8]) -> GroupId {
    let hash = blake3::derive_key(GROUP_DOMAIN, founding);
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    GroupId(uuid::Builder::from_custom_bytes(id).into_uuid())
}

impl Membership {
    /// Makes a new group with its founder.
    ///
    /// # Errors
    /// The record can't be encoded.
    pub fn found(founding: Founding, key: &SigningKey) -> Result<Self, MembershipError> {
        let record = SignedRecord::sign(&Record::Founding(founding), key)?;
        let mut membership = Self::empty(group_of(&record.bytes));
        membership.merge(vec![record])?;
        Ok(membership)
    }

    /// A group of which only the id is known.
    pub fn empty(group: GroupId) -> Self {
        Self { group, records: BTreeMap::new(), members: BTreeMap::new() }
    }

    /// The group's id.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// All members, removed ones included.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member, also a removed one.
    pub fn member(&self, site: SiteId) -> Option<&Member> {
        self.members.get(&site)
    }

    /// The member whose key this is, unless it was removed.
    pub fn by_key(&self, key: &PublicKey) -> Option<&Member> {
        self.members.values().find(|member| member.key == *key && !member.removed)
    }

    /// The member of that name, unless it was removed.
    pub fn by_name(&self, name: &Name) -> Option<&Member> {
        self.members.values().find(|member| member.name == *name && !member.removed)
    }

    /// All records, for a site that lacks some.
    pub fn records(&self) -> impl Iterator<Item = &SignedRecord> {
        self.records.values()
    }

    /// Two sites with one digest hold the same records.
    pub fn digest(&self) -> RecordHash {
        let mut hasher = blake3::Hasher::new();
        for hash in self.records.keys() {
            hasher.update(&hash.0);
        }
        RecordHash(hasher.finalize().into())
    }

    /// Takes in records in any order and returns those that were new.
    ///
    /// A record whose signer is not known (yet) is left out: it comes again with the rest.
    ///
    /// # Errors
    /// A record is malformed, forged, or another group's; what came before it is kept.
    pub fn merge(
        &mut self,
        records: Vec<SignedRecord>,
    ) -> Result<Vec<SignedRecord>, MembershipError> {
        let mut waiting = Vec::new();
        for record in records {
            if !self.records.contains_key(&record.hash()) {
                waiting.push((record.read()?, record));
            }
        }
        let mut added = Vec::new();
        loop {
            let before = waiting.len();
            let mut unplaced = Vec::new();
            for (content, record) in waiting {
                match self.signer(&content, &record)? {
                    None => unplaced.push((content, record)),
                    Some(_) if self.is_superseded(&content, &record) => {}
                    Some(key)
                        if key.verify(RECORD_DOMAIN, &record.bytes, &record.signature).is_ok() =>
                    {
                        self.records.insert(record.hash(), record.clone());
                        added.push(record);
                        self.derive();
                        self.forget_old_contacts();
                    }
                    Some(_) => return Err(MembershipError::Forged),
                }
            }
            if unplaced.is_empty() || unplaced.len() == before {
                return Ok(added);
            }
            waiting = unplaced;
        }
    }

    /// Whether a newer contact record of its site is known. Two of one number, which only a site
    /// that went back in time makes, are told apart by hash, everywhere alike.
    fn is_superseded(&self, record: &Record, signed: &SignedRecord) -> bool {
        let Record::Contact(contact) = record else { return false };
        self.contacts(contact.site)
            .any(|(number, hash)| (number, hash) > (contact.number, signed.hash()))
    }

    fn contacts(&self, site: SiteId) -> impl Iterator<Item = (u64, RecordHash)> {
        self.records.iter().filter_map(move |(hash, record)| match record.read() {
            Ok(Record::Contact(contact)) if contact.site == site => Some((contact.number, *hash)),
            _ => None,
        })
    }

    /// Addresses change often where a provider hands them out: of each site's contact records only
    /// the newest stays.
    fn forget_old_contacts(&mut self) {
        let sites: Vec<SiteId> = self.members.keys().copied().collect();
        for site in sites {
            let mut contacts: Vec<(u64, RecordHash)> = self.contacts(site).collect();
            contacts.sort_unstable();
            contacts.pop();
            for (_, hash) in contacts {
                self.records.remove(&hash);
            }
        }
    }

    /// The key that must have signed a record, if it is known.
    fn signer(
        &self,
        record: &Record,
        signed: &SignedRecord,
    ) -> Result<Option<PublicKey>, MembershipError> {
        let (group, signer) = match record {
            Record::Founding(founding) => {
                return if group_of(&signed.bytes) == self.group {
                    Ok(Some(founding.key))
                } else {
                    Err(MembershipError::OtherGroup)
                };
            }
            Record::Admission(admission) => (admission.group, admission.inviter),
            Record::Contact(contact) => (contact.group, contact.site),
            Record::Removal(removal) => (removal.group, removal.by),
            Record::Handover(handover) => (handover.group, handover.from),
        };
        if group != self.group {
            return Err(MembershipError::OtherGroup);
        }
        Ok(self.members.get(&signer).map(|member| member.key))
    }

    /// Derives the members from the records: the same for the same set, in whatever order they
    /// came.
    fn derive(&mut self) {
        let mut admissions = Vec::new();
        let mut contacts: BTreeMap<SiteId, Contact> = BTreeMap::new();
        let mut removals = Vec::new();
        let mut handovers = Vec::new();
        let mut members = BTreeMap::new();
        for record in self.records.values() {
            match record.read() {
                Ok(Record::Founding(founding)) => {
                    members.insert(
                        founding.site,
                        Member {
                            site: founding.site,
                            name: founding.name,
                            key: founding.key,
                            admitted: founding.founded,
                            addresses: Vec::new(),
                            contact_number: 0,
                            residues: Residues::ALL,
                            removed: false,
                        },
                    );
                }
                Ok(Record::Admission(admission)) => admissions.push(admission),
                Ok(Record::Contact(contact)) => {
                    let known = contacts.get(&contact.site).map_or(0, |known| known.number);
                    if contact.number > known {
                        contacts.insert(contact.site, contact);
                    }
                }
                Ok(Record::Removal(removal)) => removals.push(removal),
                Ok(Record::Handover(handover)) => handovers.push(handover),
                // Only records that could be read were taken in.
                Err(_) => {}
            }
        }
        handovers.extend(admit(&mut members, admissions));
        hand_over(&mut members, handovers);
        for removal in removals {
            if let Some(member) = members.get_mut(&removal.site) {
                member.removed = true;
            }
        }
        for (site, contact) in contacts {
            if let Some(member) = members.get_mut(&site) {
                member.addresses = contact.addresses;
                member.contact_number = contact.number;
            }
        }
        self.members = members;
    }
}

/// Admits by time, each once its inviter is in; what is handed over with that is returned.
fn admit(members: &mut BTreeMap<SiteId, Member>, mut admissions: Vec<Admission>) -> Vec<Handover> {
    let mut handovers = Vec::new();
    admissions.sort_by_key(|admission| (admission.admitted, admission.site, admission.key));
    while let Some(place) =
        admissions.iter().position(|admission| members.contains_key(&admission.inviter))
    {
        let admission = admissions.remove(place);
        if members.contains_key(&admission.site) {
            continue;
        }
        let name = free_name(members, admission.name);
        members.insert(
            admission.site,
            Member {
                site: admission.site,
                name,
                key: admission.key,
                admitted: admission.admitted,
                addresses: Vec::new(),
                contact_number: 0,
                residues: Residues::default(),
                removed: false,
            },
        );
        handovers.push(Handover {
            group: admission.group,
            from: admission.inviter,
            to: admission.site,
            residues: admission.residues,
            handed: admission.admitted,
        });
    }
    handovers
}

/// Hands residues over by time, each once the giver has them, since clocks differ; what it never
/// gets can't go over.
fn hand_over(members: &mut BTreeMap<SiteId, Member>, mut handovers: Vec<Handover>) {
    handovers.sort_by_key(|one| (one.handed, one.from, one.to, one.residues.0));
    while !handovers.is_empty() {
        let has_all = |one: &Handover| {
            let giver = members.get(&one.from);
            giver.is_some_and(|giver| one.residues.0 & !giver.residues.0 == 0)
        };
        let next = handovers.remove(handovers.iter().position(has_all).unwrap_or(0));
        if !members.contains_key(&next.to) {
            continue;
        }
        let Some(giver) = members.get_mut(&next.from) else { continue };
        let given = giver.residues.0 & next.residues.0;
        giver.residues.0 &= !given;
        if let Some(taker) = members.get_mut(&next.to) {
            taker.residues.0 |= given;
        }
    }
}

/// `name`, or `name-2`, `name-3` … if it is taken.
fn free_name(members: &BTreeMap<SiteId, Member>, name: Name) -> Name {
    let taken = |wanted: &Name| members.values().any(|member| member.name == *wanted);
    if !taken(&name) {
        return name;
    }
    (2..=members.len() + 2)
        .filter_map(|number| {
            let suffix = format!("-{number}");
            let stem: String = name.as_str().chars().take(31 - suffix.len()).collect();
            format!("{stem}{suffix}").parse().ok()
        })
        .find(|candidate| !taken(candidate))
        .unwrap_or(name)
}

/// A site id made of 16 random bytes (a version 4 UUID).
pub fn site_id(random: [u8; 16]) -> SiteId {
    SiteId::new(Uuid::from_bytes(*uuid::Builder::from_random_bytes(random).as_uuid().as_bytes()))
}
