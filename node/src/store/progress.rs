//! How far other sites are, and when they were heard of last.

use super::{BranchNumber, Store, StoreError, fixed, loaded, stored};
use conflict::{SiteId, WallTime};
use protocol::Sequence;
use rusqlite::{Connection, OptionalExtension, params};

/// How far a site is in a branch, as it or a third site said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressRow {
    /// The branch.
    pub branch: BranchNumber,
    /// The site.
    pub site: SiteId,
    /// Its watermark.
    pub durable: Sequence,
    /// What it had applied.
    pub applied: Sequence,
    /// The time of `applied`.
    pub as_of: WallTime,
}

/// When a peer was heard of last.
#[derive(Clone, Debug)]
pub struct PeerRow {
    /// The peer.
    pub site: SiteId,
    /// By this site's clock.
    pub last_seen: WallTime,
    /// Where it was reached, or came from.
    pub address: Option<String>,
    /// Bytes sent to it over all connections, as UDP carried them.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
    /// Its clock less this site's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

impl Store {
    /// All progress of other sites, by branch and site.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn progress(&self) -> Result<Vec<ProgressRow>, StoreError> {
        let mut statement = self.connection().prepare_cached(
            "SELECT branch, site, durable, applied, as_of_ms FROM progress ORDER BY branch, site",
        )?;
        let mut rows = statement.query([])?;
        let mut progress = Vec::new();
        while let Some(row) = rows.next()? {
            progress.push(ProgressRow {
                branch: BranchNumber(row.get(0)?),
                site: SiteId::from_bytes(fixed("site", row.get(1)?)?),
                durable: Sequence(loaded("durable", row.get(2)?)?),
                applied: Sequence(loaded("applied", row.get(3)?)?),
                as_of: WallTime(row.get(4)?),
            });
        }
        Ok(progress)
    }

    /// What other sites hold durably of one branch.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn durable_elsewhere(
        &self,
        branch: BranchNumber,
    ) -> Result<Vec<(SiteId, Sequence)>, StoreError> {
        let mut statement = self
            .connection()
            .prepare_cached("SELECT site, durable FROM progress WHERE branch = ?")?;
        let mut rows = statement.query([branch.0])?;
        let mut durable = Vec::new();
        while let Some(row) = rows.next()? {
            let site = SiteId::from_bytes(fixed("site", row.get(0)?)?);
            durable.push((site, Sequence(loaded("durable", row.get(1)?)?)));
        }
        Ok(durable)
    }

    /// All peers ever heard of.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn peers(&self) -> Result<Vec<PeerRow>, StoreError> {
        let mut statement = self.connection().prepare_cached(
            "SELECT site, last_seen_ms, address, sent_bytes, received_bytes, clock_offset_ms
             FROM peer ORDER BY site",
        )?;
        let mut rows = statement.query([])?;
        let mut peers = Vec::new();
        while let Some(row) = rows.next()? {
            peers.push(PeerRow {
                site: SiteId::from_bytes(fixed("site", row.get(0)?)?),
                last_seen: WallTime(row.get(1)?),
                address: row.get(2)?,
                sent_bytes: loaded("sent_bytes", row.get(3)?)?,
                received_bytes: loaded("received_bytes", row.get(4)?)?,
                clock_offset_ms: row.get(5)?,
            });
        }
        Ok(peers)
    }
}

/// Takes in how far a site is; returns whether that is news. A watermark of one branch only ever
/// rises: what a site has made durable it does not lose by saying less.
///
/// # Errors
/// See [`StoreError`].
pub fn set_progress(connection: &Connection, row: &ProgressRow) -> Result<bool, StoreError> {
    let known: Option<(i64, i64)> = connection
        .prepare_cached("SELECT durable, applied FROM progress WHERE branch = ? AND site = ?")?
        .query_row(params![row.branch.0, row.site.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (durable, applied) = (stored(row.durable.0), stored(row.applied.0));
    if known.is_some_and(|known| known.0 >= durable && known.1 >= applied) {
        return Ok(false);
    }
    let (before_durable, before_applied) = known.unwrap_or((0, 0));
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO progress (branch, site, durable, applied, as_of_ms)
             VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![
            row.branch.0,
            row.site.as_bytes(),
            durable.max(before_durable),
            applied.max(before_applied),
            row.as_of.0,
        ])?;
    Ok(true)
}

/// Forgets how far a site was in all branches.
///
/// # Errors
/// See [`StoreError`].
pub fn forget_site(connection: &Connection, site: SiteId) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM progress WHERE site = ?")?.execute([site.as_bytes()])?;
    Ok(())
}

/// Forgets how far a site was in a branch.
///
/// # Errors
/// See [`StoreError`].
pub fn forget(
    connection: &Connection,
    branch: BranchNumber,
    site: SiteId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM progress WHERE branch = ? AND site = ?")?
        .execute(params![branch.0, site.as_bytes()])?;
    Ok(())
}

/// Adds to what is known of a peer: bytes are added up, the rest replaced.
///
/// # Errors
/// See [`StoreError`].
pub fn note_peer(connection: &Connection, row: &PeerRow) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO peer
               (site, last_seen_ms, address, sent_bytes, received_bytes, clock_offset_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (site) DO UPDATE SET last_seen_ms = ?2, address = coalesce(?3, address),
               sent_bytes = sent_bytes + ?4, received_bytes = received_bytes + ?5,
               clock_offset_ms = coalesce(?6, clock_offset_ms)",
        )?
        .execute(params![
            row.site.as_bytes(),
            row.last_seen.0,
            row.address,
            stored(row.sent_bytes),
            stored(row.received_bytes),
            row.clock_offset_ms,
        ])?;
    Ok(())
}
