//! What the merge had to decide, kept until a person has seen it.

use super::MergedId;
use crate::store::{DatabaseNumber, StoreError};
use conflict::row::Lost;
use conflict::visible::Shown;
use conflict::{Version, WallTime};
use rusqlite::Connection;

/// Where and when something is noted.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// `node.db`, in a transaction.
    pub connection: &'c Connection,
    /// The database.
    pub database: DatabaseNumber,
    /// Now.
    pub now: WallTime,
}

/// Notes what lost when a change was merged into a row, unless its winner had seen it:
/// `seen(loser, winner)`.
///
/// # Errors
/// See [`StoreError`].
pub fn note_lost(
    _context: Context<'_>,
    _row: &MergedId,
    _lost: &[Lost],
    _seen: &dyn Fn(Version, Version) -> bool,
) -> Result<(), StoreError> {
    Ok(())
}

/// Notes that a row is parked, marked or kept now, or is so no more.
///
/// # Errors
/// See [`StoreError`].
pub fn note_shown(
    _context: Context<'_>,
    _row: &MergedId,
    _before: &Shown,
    _after: &Shown,
) -> Result<(), StoreError> {
    Ok(())
}

/// Forgets who is parked, marked and kept: it is told anew.
///
/// # Errors
/// See [`StoreError`].
pub fn forget_states(_context: Context<'_>) -> Result<(), StoreError> {
    Ok(())
}
