//! The journal: batches in their branches' order, own and others', with the signatures that
//! cover them. It checks no signature: who appends has done so.

use super::{BranchNumber, BranchRow, Store, StoreError, fixed, loaded, stored};
use conflict::{Timestamp, WallTime};
use protocol::{ChainHash, Flight, Frame, Sequence, Signature};
use rusqlite::{Connection, OptionalExtension, params};

/// A batch as the journal holds it.
#[derive(Clone, Debug)]
pub struct BatchRow {
    /// Its place in its branch.
    pub sequence: Sequence,
    /// The hash of the line up to it.
    pub hash: ChainHash,
    /// Its bytes, as they are now: they may have rotted.
    pub frame: Vec<u8>,
}

/// A batch to append.
#[derive(Clone, Debug)]
pub struct NewBatch<'a> {
    /// Its place: the one after what is held.
    pub sequence: Sequence,
    /// The hash of the line up to it.
    pub hash: ChainHash,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Whether it becomes visible only together with the next.
    pub more: bool,
    /// Whether the branch ends with it.
    pub last: bool,
    /// The origin's signature over the line up to it, if its flight ends with it.
    pub signature: Option<Signature>,
    /// Its bytes.
    pub frame: &'a [u8],
    /// Its time, if this site's copy of the database holds its content already: its own batch.
    pub applied: Option<WallTime>,
}

/// Appends a batch behind what the branch holds.
///
/// # Errors
/// See [`StoreError`]; among them, that the batch is not the next one.
pub fn append(
    connection: &Connection,
    branch: BranchNumber,
    batch: &NewBatch<'_>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO batch (branch, sequence, more, hash, signature, frame)
             VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            branch.0,
            stored(batch.sequence.0),
            batch.more,
            batch.hash.0,
            batch.signature.map(|signature| signature.0),
            batch.frame
        ])?;
    let moved = connection
        .prepare_cached(
            "UPDATE branch SET held = ?2, hash = ?3, timestamp = ?4, ended = max(ended, ?5),
             applied = iif(?6 IS NULL, applied, ?2), as_of_ms = ifnull(?6, as_of_ms)
             WHERE number = ?1 AND held = ?2 - 1",
        )?
        .execute(params![
            branch.0,
            stored(batch.sequence.0),
            batch.hash.0,
            stored(batch.timestamp.as_u64()),
            batch.last,
            batch.applied.map(|time| time.0),
        ])?;
    if moved == 1 {
        Ok(())
    } else {
        Err(StoreError::Damaged(format!("batch {} is not the next one", batch.sequence)))
    }
}

/// The hash of a branch's line up to `sequence`, if the journal holds it.
///
/// # Errors
/// See [`StoreError`].
pub fn hash_at(
    connection: &Connection,
    branch: &BranchRow,
    sequence: Sequence,
) -> Result<Option<ChainHash>, StoreError> {
    if sequence == branch.held {
        return Ok(Some(branch.hash));
    }
    let bytes: Option<Vec<u8>> = connection
        .prepare_cached("SELECT hash FROM batch WHERE branch = ? AND sequence = ?")?
        .query_row(params![branch.number.0, stored(sequence.0)], |row| row.get(0))
        .optional()?;
    bytes.map(|bytes| Ok(ChainHash(fixed("hash", bytes)?))).transpose()
}

/// The same, where the journal holds no batch so far: the branch begins behind it.
///
/// # Errors
/// See [`StoreError`].
pub fn line_at(
    connection: &Connection,
    branch: &BranchRow,
    sequence: Sequence,
) -> Result<ChainHash, StoreError> {
    let found = hash_at(connection, branch, sequence)?;
    Ok(found.unwrap_or_else(|| ChainHash::start(branch.id)))
}

/// The batch after `after`, found to be what it was when it came: on the disk it may have rotted,
/// and decode all the same.
///
/// # Errors
/// See [`StoreError`]; among them [`StoreError::Rotten`].
pub fn whole_batch_after(
    connection: &Connection,
    branch: &BranchRow,
    after: Sequence,
) -> Result<Option<BatchRow>, StoreError> {
    let batch = connection
        .prepare_cached(
            "SELECT sequence, hash, frame FROM batch WHERE branch = ? AND sequence > ?
             ORDER BY sequence LIMIT 1",
        )?
        .query_row(params![branch.number.0, stored(after.0)], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((sequence, hash, frame)) = batch else { return Ok(None) };
    let sequence = Sequence(loaded("sequence", sequence)?);
    let batch = BatchRow { sequence, hash: ChainHash(fixed("hash", hash)?), frame };
    match line_at(connection, branch, after)?.extend(&batch.frame) == batch.hash {
        true => Ok(Some(batch)),
        false => Err(StoreError::Rotten(branch.number, sequence)),
    }
}

impl Store {
    /// The highest sequence of a branch that a signature covers, hence the last that is served.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn servable(&self, branch: BranchNumber) -> Result<Sequence, StoreError> {
        let last: Option<i64> = self
            .connection()
            .prepare_cached(
                "SELECT sequence FROM batch WHERE branch = ? AND signature IS NOT NULL
                 ORDER BY sequence DESC LIMIT 1",
            )?
            .query_row([branch.0], |row| row.get(0))
            .optional()?;
        Ok(Sequence(loaded("sequence", last.unwrap_or(0))?))
    }

    /// See [`hash_at`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn hash_at(
        &self,
        branch: &BranchRow,
        sequence: Sequence,
    ) -> Result<Option<ChainHash>, StoreError> {
        hash_at(self.connection(), branch, sequence)
    }

    /// See [`line_at`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn line_at(&self, branch: &BranchRow, sequence: Sequence) -> Result<ChainHash, StoreError> {
        line_at(self.connection(), branch, sequence)
    }

    /// The last batch after `after` that does not wait for the next to become visible; `after` if
    /// there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn last_visible(
        &self,
        branch: BranchNumber,
        after: Sequence,
    ) -> Result<Sequence, StoreError> {
        let last: Option<i64> = self
            .connection()
            .prepare_cached(
                "SELECT sequence FROM batch WHERE branch = ? AND sequence > ? AND more = 0
                 ORDER BY sequence DESC LIMIT 1",
            )?
            .query_row(params![branch.0, stored(after.0)], |row| row.get(0))
            .optional()?;
        last.map_or(Ok(after), |last| Ok(Sequence(loaded("sequence", last)?)))
    }

    /// The batches after `after`, at most `most_bytes` of them (but one at least) and `most`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn batches_after(
        &self,
        branch: BranchNumber,
        after: Sequence,
        most: usize,
        most_bytes: usize,
    ) -> Result<Vec<BatchRow>, StoreError> {
        let mut statement = self.connection().prepare_cached(
            "SELECT sequence, hash, frame FROM batch WHERE branch = ? AND sequence > ?
             ORDER BY sequence",
        )?;
        let mut rows = statement.query(params![branch.0, stored(after.0)])?;
        let mut batches: Vec<BatchRow> = Vec::new();
        let mut bytes = 0_usize;
        while let Some(row) = rows.next()? {
            let frame: Vec<u8> = row.get(2)?;
            bytes = bytes.saturating_add(frame.len());
            if !batches.is_empty() && (bytes > most_bytes || batches.len() >= most) {
                break;
            }
            batches.push(BatchRow {
                sequence: Sequence(loaded("sequence", row.get(0)?)?),
                hash: ChainHash(fixed("hash", row.get(1)?)?),
                frame,
            });
        }
        Ok(batches)
    }

    /// Drops the batches of a branch behind `last`, as if they had never come. What of them is
    /// applied stays so.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn cut_line(&mut self, branch: &BranchRow, last: Sequence) -> Result<(), StoreError> {
        let hash = self.line_at(branch, last)?;
        self.transaction(|transaction| {
            let place = params![branch.number.0, stored(last.0)];
            transaction
                .prepare_cached("DELETE FROM batch WHERE branch = ?1 AND sequence > ?2")?
                .execute(place)?;
            // What is behind it also ends the branch, if anything does.
            transaction
                .prepare_cached(
                    "UPDATE branch SET held = ?2, hash = ?3, ended = 0
                     WHERE number = ?1",
                )?
                .execute(params![branch.number.0, stored(last.0), hash.0])?;
            Ok(())
        })
    }

    /// The next flight of a branch after `after`: whole batches up to a signature; about
    /// `most_bytes`, unless a signature covers more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn flight_after(
        &self,
        branch: &BranchRow,
        after: Sequence,
        most: usize,
        most_bytes: usize,
    ) -> Result<Option<Flight>, StoreError> {
        let mut batches = self.batches_after(branch.number, after, most, most_bytes)?;
        let Some(last) = batches.last().map(|batch| batch.sequence) else { return Ok(None) };
        let signed = |sql: &str| -> Result<Option<(i64, Vec<u8>)>, StoreError> {
            Ok(self
                .connection()
                .prepare_cached(sql)?
                .query_row(params![branch.number.0, stored(after.0), stored(last.0)], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?)
        };
        // The last signature inside what was read; if there is none, the first one behind it.
        let inside = "SELECT sequence, signature FROM batch
                      WHERE branch = ?1 AND sequence > ?2 AND sequence <= ?3
                        AND signature IS NOT NULL
                      ORDER BY sequence DESC LIMIT 1";
        let behind = "SELECT sequence, signature FROM batch
                      WHERE branch = ?1 AND sequence > max(?2, ?3) AND signature IS NOT NULL
                      ORDER BY sequence LIMIT 1";
        let (end, signature) = if let Some(inside) = signed(inside)? {
            inside
        } else if let Some(behind) = signed(behind)? {
            let count =
                usize::try_from(loaded("sequence", behind.0)? - after.0).unwrap_or(usize::MAX);
            batches = self.batches_after(branch.number, after, count, usize::MAX)?;
            behind
        } else {
            return Ok(None);
        };
        let end = Sequence(loaded("sequence", end)?);
        batches.retain(|batch| batch.sequence <= end);
        Ok(Some(Flight {
            branch: branch.id,
            first: after.next(),
            frames: batches.into_iter().map(|batch| Frame::new(batch.frame)).collect(),
            signature: Signature(fixed("signature", signature)?),
        }))
    }
}
