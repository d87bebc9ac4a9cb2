//! Founding, inviting, admitting, and taking in what others say of the group.

use super::{Engine, EngineError, file_error};
use crate::directory::Directory;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::store::members::{self, InvitationRow, WRONG_TRIES};
use crate::store::settings::{self, Identity};
use crate::store::{Store, StoreError};
use conflict::{SiteId, WallTime};
use protocol::Name;
use protocol::invitation::{Invitation, InvitationId, JoinRefusal, JoinReply, JoinRequest, Secret};
use protocol::keys::{PublicKey, SigningKey};
use protocol::membership::{
    Admission, Contact, Founding, Membership, MembershipError, Record, Removal, Residues,
    SignedRecord,
};
use std::net::SocketAddr;

/// The answer to a site that asked to join, and what others are to be told.
#[derive(Debug)]
pub struct Welcome {
    /// What it is told.
    pub reply: JoinReply,
    /// The records that are new.
    pub added: Vec<SignedRecord>,
}

/// Reads the site's key; `None` if there is none yet.
///
/// # Errors
/// It can't be read, or is no key.
pub fn read_key(
    environment: &dyn Environment,
    directory: &Directory,
) -> Result<Option<SigningKey>, EngineError> {
    let path = directory.key();
    let bytes = environment
        .read_file(&path)
        .map_err(|error| file_error(&path.display().to_string(), error))?;
    bytes
        .map(|bytes| {
            let seed: [u8; 32] = bytes.try_into().map_err(|_| damaged_key())?;
            Ok(SigningKey::from_seed(seed))
        })
        .transpose()
}

fn damaged_key() -> EngineError {
    Failure::unable(
        "The site's private key is damaged.",
        "Put the file `key` back from a copy, or join the group anew with --replace.",
    )
    .into()
}

/// Reads the site's key, or makes one.
///
/// # Errors
/// It can't be read or written.
pub fn read_or_make_key(
    environment: &dyn Environment,
    directory: &Directory,
) -> Result<SigningKey, EngineError> {
    if let Some(key) = read_key(environment, directory)? {
        return Ok(key);
    }
    let mut seed = [0; 32];
    environment.fill_random(&mut seed);
    let path = directory.key();
    environment
        .write_file(&path, &seed, true)
        .map_err(|error| file_error(&path.display().to_string(), error))?;
    Ok(SigningKey::from_seed(seed))
}

/// Makes a new group with this site as its founder.
///
/// # Errors
/// There is a site in the directory already, or it can't be written.
pub fn found(
    environment: &dyn Environment,
    directory: &Directory,
    name: &Name,
    listen: SocketAddr,
    addresses: &[String],
) -> Result<Identity, EngineError> {
    let mut store = new_store(environment, directory)?;
    let key = read_or_make_key(environment, directory)?;
    let founding = Founding {
        site: fresh_site(environment),
        name: name.clone(),
        key: key.public(),
        founded: environment.wall_clock(),
    };
    let site = founding.site;
    let membership = Membership::found(founding, &key).map_err(malformed)?;
    let identity = Identity { site, name: name.clone(), group: membership.group() };
    store.transaction(|transaction| {
        members::set_records(transaction, membership.records())?;
        settings::set_listen(transaction, listen, addresses)?;
        settings::set_identity(transaction, &identity)
    })?;
    Ok(identity)
}

/// Opens the store of a directory in which `init` or `join` begins, or began and was interrupted.
///
/// # Errors
/// There is a site already, or it can't be written.
pub fn new_store(
    environment: &dyn Environment,
    directory: &Directory,
) -> Result<Store, EngineError> {
    for path in
        [directory.path().to_owned(), directory.path().join("mirrors"), directory.snapshots()]
    {
        environment
            .create_directory(&path)
            .map_err(|error| file_error(&path.display().to_string(), error))?;
    }
    let path = directory.store();
    let exists = environment.file_identity(&path).map_err(|e| file_error("node.db", e))?.is_some();
    if !exists {
        // It holds the rows of all attached databases: for its owner's eyes only. SQLite gives the
        // files beside it the same permissions.
        environment.write_file(&path, &[], true).map_err(|e| file_error("node.db", e))?;
    }
    let store = Store::open(environment, &path, true)?;
    if let Some(identity) = store.identity()? {
        return Err(Failure::usage(
            format!("{} holds the site {:?} already.", directory.path().display(), identity.name),
            "Choose another directory with --dir.",
        )
        .into());
    }
    Ok(store)
}

/// A new site id.
pub fn fresh_site(environment: &dyn Environment) -> SiteId {
    let mut random = [0; 16];
    environment.fill_random(&mut random);
    protocol::membership::site_id(random)
}

/// Finishes a join: writes who this site is now.
///
/// # Errors
/// The records are not the group's, or the store can't be written.
pub fn joined(
    store: &mut Store,
    invitation: &Invitation,
    request: &JoinRequest,
    records: Vec<SignedRecord>,
    listen: SocketAddr,
    addresses: &[String],
) -> Result<Identity, EngineError> {
    let mut membership = Membership::empty(invitation.group);
    membership.merge(records).map_err(malformed)?;
    let own = membership.member(request.site).ok_or_else(|| {
        EngineError::from(Failure::unable(
            "The inviting site's answer does not admit this site.",
            "Ask for a new invitation.",
        ))
    })?;
    let identity = Identity { site: request.site, name: own.name.clone(), group: invitation.group };
    store.transaction(|transaction| {
        members::set_records(transaction, membership.records())?;
        settings::set_listen(transaction, listen, addresses)?;
        settings::set_identity(transaction, &identity)
    })?;
    Ok(identity)
}

pub(super) fn malformed(error: MembershipError) -> EngineError {
    EngineError::Encoding(error.to_string())
}

impl Engine {
    /// Makes an invitation that hands over half of the key residues that are free here.
    ///
    /// # Errors
    /// There is no address yet at which this site could be reached, or the store fails.
    pub fn invite(&mut self, lifetime_ms: i64) -> Result<Invitation, EngineError> {
        let own = self.own_member()?;
        // Before the first run nothing is published yet; then those of `init` serve.
        let addresses = match own.addresses.is_empty() {
            true => self.store.addresses()?,
            false => own.addresses,
        };
        if addresses.is_empty() {
            return Err(Failure::unable(
                "This site has no address at which others could reach it.",
                "Start it once with `run`, or give it one with --address at `init`.",
            )
            .into());
        }
        let now = self.now();
        let promised = self.store.promised_residues(now)?;
        let (_, residues) = Residues(own.residues.0 & !promised.0).split(2);
        let mut id = [0; 8];
        let mut secret = [0; 16];
        self.environment.fill_random(&mut id);
        self.environment.fill_random(&mut secret);
        let row = InvitationRow {
            id: InvitationId(id),
            secret_hash: blake3::hash(&secret).into(),
            residues,
            expires: WallTime(now.0.saturating_add(lifetime_ms)),
            wrong_tries: 0,
            admitted: None,
        };
        members::add_invitation(self.store.connection(), &row)?;
        Ok(Invitation {
            group: self.identity.group,
            inviter: self.key.public(),
            id: row.id,
            secret: Secret(secret),
            addresses,
        })
    }

    /// Answers a site that asks to join and has proved to hold `key`.
    ///
    /// # Errors
    /// The store fails; then nobody is admitted.
    pub fn admit(&mut self, request: &JoinRequest, key: PublicKey) -> Result<Welcome, EngineError> {
        let refuse =
            |refusal| Ok(Welcome { reply: JoinReply::Refused(refusal), added: Vec::new() });
        let Some(row) = self.store.invitation(request.id)? else {
            return refuse(JoinRefusal::Invalid);
        };
        if row.wrong_tries >= WRONG_TRIES {
            return refuse(JoinRefusal::Invalid);
        }
        // The hashes are compared, so that time tells nothing of the secret.
        if blake3::hash(&request.secret.0) != blake3::Hash::from(row.secret_hash) {
            members::count_wrong_try(self.store.connection(), request.id)?;
            return refuse(JoinRefusal::Invalid);
        }
        if let Some(admitted) = row.admitted {
            // The same site may ask again: the first answer may have been lost.
            let same = admitted == key
                && self.membership.by_key(&key).is_some_and(|m| m.site == request.site);
            return if same { Ok(self.welcome(Vec::new())) } else { refuse(JoinRefusal::Used) };
        }
        let now = self.now();
        if row.expires <= now {
            return refuse(JoinRefusal::Expired);
        }
        if self.membership.by_name(&request.name).is_some()
            || self.membership.member(request.site).is_some()
            || self.membership.by_key(&key).is_some()
        {
            return refuse(JoinRefusal::NameTaken);
        }
        let record = Record::Admission(Admission {
            group: self.identity.group,
            site: request.site,
            name: request.name.clone(),
            key,
            residues: row.residues,
            inviter: self.identity.site,
            admitted: now,
        });
        let signed = SignedRecord::sign(&record, &self.key).map_err(malformed)?;
        let mut membership = self.membership.clone();
        let added = membership.merge(vec![signed]).map_err(malformed)?;
        self.store.transaction(|transaction| {
            members::set_records(transaction, membership.records())?;
            members::use_invitation(transaction, request.id, &key)
        })?;
        self.membership = membership;
        Ok(self.welcome(added))
    }

    fn welcome(&self, added: Vec<SignedRecord>) -> Welcome {
        let records = self.membership.records().cloned().collect();
        Welcome { reply: JoinReply::Welcome { records, clock: self.now() }, added }
    }

    /// Takes in member records from a peer; returns those that are new.
    ///
    /// # Errors
    /// The store fails. Records that are no good are the inner error: the peer's fault.
    pub fn merge_members(
        &mut self,
        records: Vec<SignedRecord>,
    ) -> Result<Result<Vec<SignedRecord>, MembershipError>, EngineError> {
        let mut membership = self.membership.clone();
        let added = match membership.merge(records) {
            Ok(added) => added,
            Err(error) => return Ok(Err(error)),
        };
        if !added.is_empty() {
            self.keep_members(membership)?;
        }
        Ok(Ok(added))
    }

    /// Takes a site out of the group, for good: its key is refused from then on. The record that
    /// says so.
    ///
    /// # Errors
    /// There is no such site, it is this one, or the store fails.
    pub fn remove_member(&mut self, name: &Name) -> Result<SignedRecord, EngineError> {
        let unknown = || {
            Failure::usage(
                format!("The group has no site {name}."),
                "See `status` for the names there are.",
            )
        };
        let site = self.membership.by_name(name).ok_or_else(unknown)?.site;
        if site == self.identity.site {
            return Err(Failure::refused(
                "A site can't take itself out of the group.",
                "Do it at another site.",
            )
            .into());
        }
        let record = Record::Removal(Removal {
            group: self.identity.group,
            site,
            by: self.identity.site,
            removed: self.now(),
        });
        let signed = SignedRecord::sign(&record, &self.key).map_err(malformed)?;
        let mut membership = self.membership.clone();
        membership.merge(vec![signed.clone()]).map_err(malformed)?;
        self.keep_members(membership)?;
        Ok(signed)
    }

    /// Publishes how this site is reached, if that changed; returns the new record.
    ///
    /// # Errors
    /// The store fails.
    pub fn set_contact(
        &mut self,
        addresses: Vec<String>,
    ) -> Result<Option<SignedRecord>, EngineError> {
        let own = self.own_member()?;
        // Without any the computer has no network now; with the next it may have what it had.
        let news = own.addresses != addresses && !addresses.is_empty();
        if own.contact_number > 0 && !news {
            return Ok(None);
        }
        let record = Record::Contact(Contact {
            group: self.identity.group,
            site: self.identity.site,
            addresses,
            number: own.contact_number + 1,
        });
        let signed = SignedRecord::sign(&record, &self.key).map_err(malformed)?;
        let mut membership = self.membership.clone();
        membership.merge(vec![signed.clone()]).map_err(malformed)?;
        self.keep_members(membership)?;
        Ok(Some(signed))
    }

    pub(super) fn keep_members(&mut self, membership: Membership) -> Result<(), StoreError> {
        self.store
            .transaction(|transaction| members::set_records(transaction, membership.records()))?;
        self.membership = membership;
        Ok(())
    }

    /// Keeps where the site listens, so that the next run takes the same port.
    ///
    /// # Errors
    /// The store fails.
    pub fn keep_listen(&mut self, listen: SocketAddr) -> Result<(), EngineError> {
        let addresses = self.store.addresses()?;
        Ok(settings::set_listen(self.store.connection(), listen, &addresses)?)
    }

    /// Notes that the node runs.
    ///
    /// # Errors
    /// The store fails.
    pub fn keep_books(&mut self) -> Result<(), StoreError> {
        let now = self.now();
        settings::set_last_run(self.store.connection(), now.0)
    }

    fn own_member(&self) -> Result<protocol::membership::Member, StoreError> {
        self.membership
            .member(self.identity.site)
            .cloned()
            .ok_or_else(|| StoreError::Damaged("this site is not among the members".into()))
    }
}
