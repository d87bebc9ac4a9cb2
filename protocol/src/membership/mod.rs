//! Who belongs to a group: a set of signed records, and what follows from it. The set only grows,
//! except that of a site's contact records only the newest is kept.
//!
//! Every site holds every record and derives the same members from them, whatever order they came
//! in. Each record is signed by somebody whom the records before it admit, back to the founding,
//! whose hash is the group's id: so a list can be taken from anyone. This module does not decide
//! whether somebody may join: that is the inviter's part.

mod record;
mod residues;
#[cfg(test)]
mod tests;

pub use record::{
    ADMISSION, Admission, CONTACT, Contact, FORMAT, FOUNDING, Founding, HANDOVER, Handover,
    MembershipError, RECORD_DOMAIN, REMOVAL, Record, RecordHash, Removal, SignedRecord,
};
pub use residues::Residues;

use crate::keys::{PublicKey, SigningKey};
use crate::{GroupId, Name};
use conflict::{SiteId, WallTime};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Under which the founding record is hashed into the group's id.
pub const GROUP_DOMAIN: &str = "holdfast group 1";

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

/// A group's records and what follows from them.
#[derive(Clone, Debug)]
pub struct Membership {
    group: GroupId,
    records: BTreeMap<RecordHash, SignedRecord>,
    members: BTreeMap<SiteId, Member>,
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
