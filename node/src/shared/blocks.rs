//! Leapfrog blocks: which numbers AUTOINCREMENT may hand out here, so that sites that are apart
//! never hand out one number twice (MERGE.md, Integer keys).
//!
//! Block b is the numbers `[b * R, (b + 1) * R)`; it belongs to the site that owns residue
//! b mod 128. SQLite hands out `max(rowid, sqlite_sequence) + 1`, so a site is sent to a block of
//! its own by raising `sqlite_sequence` to the number before that block; never is it lowered.
//!
//! At the end of a block SQLite goes on into the next by itself. [`crate::capture::Hop`] has it go
//! on at an own one; where it can't, a block may be overrun: that becomes a key collision, which
//! the merge settles. When [`raise`] is called is the engine's affair: in the transaction that writes
//! rows of others, after an own harvest, at attach, when a table appears, and when the site's own
//! residues change.

use crate::capture::OwnNumbers;
use crate::sql::quoted;
use protocol::membership::Residues;
use rusqlite::{Connection, OptionalExtension};

/// R: how many numbers a block has.
///
/// It must be the same at every site and stay so: blocks of two lengths overlap. The longer they
/// are, the later does a program overrun one that nothing makes hop, and the sooner are the
/// numbers below [`LIMIT`] used up: two sites that take turns use one block each time.
pub const BLOCK: i64 = 256;

/// The greatest number that a program can keep in 32 bits, and one more.
pub const LIMIT: i64 = 1 << 31;

/// How many residues there are.
const RESIDUES: i64 = 128;

/// The first number of the least own block that lies wholly above `above`. `None`: the site owns
/// no residue, `r` is not positive, or there is no such number in 64 bits.
pub fn next_own_start(residues: Residues, r: i64, above: i64) -> Option<i64> {
    if residues.0 == 0 || r < 1 {
        return None;
    }
    let least = if above < 0 { 0 } else { (above / r).checked_add(1)? };
    let skipped = from_block(residues, least).trailing_zeros();
    least.checked_add(i64::from(skipped))?.checked_mul(r)
}

/// The least own number above `above`. `None`: as [`next_own_start`].
pub fn next_own(residues: Residues, r: i64, above: i64) -> Option<i64> {
    let next = above.max(0).checked_add(1)?;
    match r > 0 && own_ahead(residues, r, next) > 0 {
        true => Some(next),
        false => next_own_start(residues, r, above),
    }
}

/// What `sqlite_sequence` must be raised to in a table where the greatest of its rowids and
/// `sqlite_sequence` is `top`. `None`: nothing is to be done, since the next number starts or
/// continues an own block with a quarter of its length left; or nothing can be done, since
/// [`next_own_start`] finds none.
///
/// The quarter is for what the application inserts before the node looks again.
pub fn raised(residues: Residues, r: i64, top: i64) -> Option<i64> {
    let top = top.max(0); // AUTOINCREMENT begins at 1
    let next = top.checked_add(1)?;
    if r < 1 || own_ahead(residues, r, next) >= (r / 4).max(1) {
        return None;
    }
    Some(next_own_start(residues, r, top)? - 1)
}

/// The numbers that a site of these residues hands out.
pub fn own_numbers(residues: Residues) -> OwnNumbers {
    OwnNumbers { residues, block: BLOCK }
}

/// How many numbers above `above` and below `limit` the site may hand out.
pub fn room(residues: Residues, r: i64, above: i64, limit: i64) -> i64 {
    let after = above.max(0).saturating_add(1);
    (own_below(residues, r, limit) - own_below(residues, r, after)).max(0)
}

/// The greatest number that a table has, or ever handed out; 0 for none.
///
/// # Errors
/// There is no such table, it has no primary key, or SQLite fails.
pub fn reached(connection: &Connection, table: &str) -> rusqlite::Result<i64> {
    top(connection, table, has_sequence(connection)?)
}

/// Whether [`raise`] would change anything.
///
/// # Errors
/// As [`raise`].
pub fn is_due(
    connection: &Connection,
    tables: &[&str],
    residues: Residues,
    r: i64,
) -> rusqlite::Result<bool> {
    for table in tables {
        if raised(residues, r, reached(connection, table)?).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sends AUTOINCREMENT of `tables` to own blocks, where it is not in one: see [`raised`]. To be
/// called within the caller's write transaction. A table without an own block above it stays as
/// it is: [`room`] tells.
///
/// # Errors
/// There is no such table, it has no primary key, or SQLite fails.
pub fn raise(
    connection: &Connection,
    tables: &[&str],
    residues: Residues,
    r: i64,
) -> rusqlite::Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    provide_sequence(connection)?;
    for table in tables {
        let Some(sequence) = raised(residues, r, top(connection, table, true)?) else { continue };
        let moved = connection
            .prepare_cached("UPDATE main.sqlite_sequence SET seq = ?2 WHERE name = ?1")?
            .execute((table, sequence))?;
        if moved == 0 {
            connection
                .prepare_cached("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?1, ?2)")?
                .execute((table, sequence))?;
        }
    }
    Ok(())
}

/// Has SQLite make its table `sqlite_sequence`, if it is not there: a table of AUTOINCREMENT comes
/// and goes.
pub(super) fn provide_sequence(connection: &Connection) -> rusqlite::Result<()> {
    if has_sequence(connection)? {
        return Ok(());
    }
    connection.execute_batch(
        "CREATE TABLE main._holdfast_numbers (id INTEGER PRIMARY KEY AUTOINCREMENT);
         DROP TABLE main._holdfast_numbers;",
    )
}

fn has_sequence(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'")?
        .exists([])
}

/// The column that is a table's rowid.
pub(super) fn key_of(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    connection
        .prepare_cached("SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE pk = 1")?
        .query_row([table], |row| row.get(0))
}

fn top(connection: &Connection, table: &str, has_sequence: bool) -> rusqlite::Result<i64> {
    let key = key_of(connection, table)?;
    // The key is the rowid: SQLite seeks its end.
    let greatest: Option<i64> = connection
        .prepare_cached(&format!("SELECT max({}) FROM main.{}", quoted(&key), quoted(table)))?
        .query_row([], |row| row.get(0))?;
    let sequence: Option<i64> = match has_sequence {
        // Anybody may write there, so it need not be a number, nor one row a table.
        true => connection
            .prepare_cached(
                "SELECT CAST(seq AS INTEGER) FROM main.sqlite_sequence WHERE name = ?1
                 ORDER BY 1 DESC LIMIT 1",
            )?
            .query_row([table], |row| row.get(0))
            .optional()?
            .flatten(),
        false => None,
    };
    Ok(greatest.max(sequence).unwrap_or(0).max(0))
}

/// The residues, that of `block` in the last bit, those of the blocks behind it above.
fn from_block(residues: Residues, block: i64) -> u128 {
    residues.0.rotate_right(block.rem_euclid(RESIDUES) as u32)
}

/// How many numbers from `number` on are own ones, without a gap.
fn own_ahead(residues: Residues, r: i64, number: i64) -> i64 {
    match i64::from(from_block(residues, number / r).trailing_ones()) {
        0 => 0,
        RESIDUES => i64::MAX,
        blocks => blocks.saturating_mul(r) - number % r,
    }
}

/// How many own numbers there are from 0 to `end`, without it.
fn own_below(residues: Residues, r: i64, end: i64) -> i64 {
    if r < 1 || end < 1 {
        return 0;
    }
    let (blocks, rest) = (end / r, end % r);
    let (rounds, last) = (blocks / RESIDUES, blocks % RESIDUES);
    let before_last = residues.0 & ((1_u128 << last) - 1);
    let whole = rounds * i64::from(residues.count()) + i64::from(before_last.count_ones());
    let part = if residues.0 >> last & 1 == 1 { rest } else { 0 };
    whole * r + part // at most `end`
}

#[cfg(test)]
mod tests;
