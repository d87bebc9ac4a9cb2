//! Member records and invitations in `node.db`. What they mean is `protocol::membership`'s.

use super::{Store, StoreError, fixed};
use conflict::WallTime;
use protocol::invitation::InvitationId;
use protocol::keys::PublicKey;
use protocol::membership::{Residues, SignedRecord};
use rusqlite::{Connection, OptionalExtension, params};

/// Wrong tries after which an invitation is burnt.
pub const WRONG_TRIES: u32 = 3;

/// An invitation as its inviter remembers it.
#[derive(Clone, Debug)]
pub struct InvitationRow {
    /// Which.
    pub id: InvitationId,
    /// BLAKE3 of its secret.
    pub secret_hash: [u8; 32],
    /// The residues that it hands over.
    pub residues: Residues,
    /// Until when it admits.
    pub expires: WallTime,
    /// How often it was tried with a wrong secret.
    pub wrong_tries: u32,
    /// The key of the site that used it.
    pub admitted: Option<PublicKey>,
}

impl Store {
    /// All member records.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn member_records(&self) -> Result<Vec<SignedRecord>, StoreError> {
        let mut statement =
            self.connection().prepare_cached("SELECT record FROM member_record ORDER BY hash")?;
        let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        rows.map(|bytes| {
            rmp_serde::from_slice(&bytes?)
                .map_err(|error| StoreError::Damaged(format!("a member record: {error}")))
        })
        .collect()
    }

    /// Residues that outstanding invitations will hand over when they are used.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn promised_residues(&self, now: WallTime) -> Result<Residues, StoreError> {
        let mut statement = self.connection().prepare_cached(
            "SELECT residues FROM invitation
             WHERE admitted IS NULL AND expires_ms > ? AND wrong_tries < ?",
        )?;
        let rows =
            statement.query_map(params![now.0, WRONG_TRIES], |row| row.get::<_, Vec<u8>>(0))?;
        let mut promised = Residues::default();
        for bytes in rows {
            promised.0 |= u128::from_be_bytes(fixed("residues", bytes?)?);
        }
        Ok(promised)
    }

    /// An invitation that this site gave out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn invitation(&self, id: InvitationId) -> Result<Option<InvitationRow>, StoreError> {
        type Columns = (Vec<u8>, Vec<u8>, i64, u32, Option<Vec<u8>>);
        let row: Option<Columns> = self
            .connection()
            .prepare_cached(
                "SELECT secret_hash, residues, expires_ms, wrong_tries, admitted
                 FROM invitation WHERE id = ?",
            )?
            .query_row([&id.0], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()?;
        row.map(|(secret_hash, residues, expires, wrong_tries, admitted)| {
            Ok(InvitationRow {
                id,
                secret_hash: fixed("secret_hash", secret_hash)?,
                residues: Residues(u128::from_be_bytes(fixed("residues", residues)?)),
                expires: WallTime(expires),
                wrong_tries,
                admitted: admitted
                    .map(|key| Ok::<_, StoreError>(PublicKey(fixed("admitted", key)?)))
                    .transpose()?,
            })
        })
        .transpose()
    }
}

/// Keeps the member records, and forgets those that are not among them any more.
///
/// # Errors
/// See [`StoreError`].
pub fn set_records<'a>(
    connection: &Connection,
    records: impl Iterator<Item = &'a SignedRecord>,
) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM member_record")?.execute([])?;
    let mut statement =
        connection.prepare_cached("INSERT INTO member_record (hash, record) VALUES (?, ?)")?;
    for record in records {
        let bytes = rmp_serde::to_vec(record)
            .map_err(|error| StoreError::Damaged(format!("a member record: {error}")))?;
        statement.execute(params![record.hash().0, bytes])?;
    }
    Ok(())
}

/// Adds an invitation.
///
/// # Errors
/// See [`StoreError`].
pub fn add_invitation(connection: &Connection, row: &InvitationRow) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO invitation (id, secret_hash, residues, expires_ms, wrong_tries, admitted)
             VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            row.id.0,
            row.secret_hash,
            row.residues.0.to_be_bytes(),
            row.expires.0,
            row.wrong_tries,
            row.admitted.map(|key| key.0),
        ])?;
    Ok(())
}

/// Counts a wrong try.
///
/// # Errors
/// See [`StoreError`].
pub fn count_wrong_try(connection: &Connection, id: InvitationId) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE invitation SET wrong_tries = wrong_tries + 1 WHERE id = ?")?
        .execute([&id.0])?;
    Ok(())
}

/// Marks an invitation as used.
///
/// # Errors
/// See [`StoreError`].
pub fn use_invitation(
    connection: &Connection,
    id: InvitationId,
    key: &PublicKey,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE invitation SET admitted = ? WHERE id = ?")?
        .execute(params![key.0, id.0])?;
    Ok(())
}
