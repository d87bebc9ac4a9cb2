//! How much room is left for the numbers of shared tables. Blocks leave gaps, so they are used up
//! sooner than rows would use them, and never given back; some programs keep them in 32 bits.

use super::blocks::{self, BLOCK, LIMIT};
use crate::sql::quoted;
use protocol::membership::Residues;
use rusqlite::Connection;

/// Over how many of the greatest numbers the pace is taken.
const RECENT: i64 = 1000;

/// What is left to one table at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The table.
    pub table: String,
    /// The greatest number that any site is known to have used.
    pub reached: i64,
    /// How many numbers a row uses up at the present pace, those that are skipped for it included:
    /// at least 1.
    pub pace: i64,
    /// How many numbers below 2^31 this site may still hand out.
    pub own_below_31: i64,
    /// How many numbers it may still hand out at all.
    pub own_below_63: i64,
}

impl Room {
    /// What is left to a table whose key is its rowid, in the application's database.
    ///
    /// # Errors
    /// There is no such table, or SQLite fails.
    pub fn of(connection: &Connection, table: &str, residues: Residues) -> rusqlite::Result<Self> {
        let reached = blocks::reached(connection, table)?;
        let own = |limit| blocks::room(residues, BLOCK, reached, limit);
        Ok(Self {
            table: table.to_owned(),
            reached,
            pace: pace(connection, table)?,
            own_below_31: own(LIMIT),
            own_below_63: own(i64::MAX),
        })
    }

    /// How many rows of all sites together still get numbers below 2^31 at the present pace.
    pub fn rows_below_31(&self) -> i64 {
        (LIMIT - 1).saturating_sub(self.reached).max(0) / self.pace.max(1)
    }

    /// How many rows of all sites together still get numbers at all at the present pace.
    pub fn rows_below_63(&self) -> i64 {
        i64::MAX.saturating_sub(self.reached) / self.pace.max(1)
    }
}

/// The tables of which this site has less than a tenth of its numbers below 2^31 left. A table that
/// is beyond them is none: its application takes greater ones.
///
/// # Errors
/// There is no such table, or SQLite fails.
pub fn short(
    connection: &Connection,
    tables: &[&str],
    residues: Residues,
) -> rusqlite::Result<Vec<Room>> {
    let all = blocks::room(residues, BLOCK, 0, LIMIT);
    let mut short = Vec::new();
    for table in tables {
        let reached = blocks::reached(connection, table)?;
        let left = blocks::room(residues, BLOCK, reached, LIMIT);
        if reached < LIMIT && left < all / 10 {
            short.push(Room::of(connection, table, residues)?);
        }
    }
    Ok(short)
}

fn pace(connection: &Connection, table: &str) -> rusqlite::Result<i64> {
    let key = blocks::key_of(connection, table)?;
    let (rows, span): (i64, i64) = connection
        .prepare_cached(&format!(
            "SELECT count(*), ifnull(max(key) - max(min(key), 0), 0)
             FROM (SELECT {0} AS key FROM main.{1} ORDER BY {0} DESC LIMIT {RECENT})
             WHERE key >= 0",
            quoted(&key),
            quoted(table)
        ))?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let steps = (rows - 1).max(1);
    Ok((span / steps + i64::from(span % steps > 0)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_OF_FOUR: Residues = Residues(0x1111_1111_1111_1111_1111_1111_1111_1111);

    fn table(rows: &[i64]) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE \"a t\" (v, \"its id\" INTEGER PRIMARY KEY AUTOINCREMENT)")
            .unwrap();
        for row in rows {
            connection.execute("INSERT INTO \"a t\" VALUES (0, ?1)", [row]).unwrap();
        }
        connection
    }

    fn room(rows: &[i64]) -> Room {
        Room::of(&table(rows), "a t", ONE_OF_FOUR).unwrap()
    }

    #[test]
    fn what_is_left_is_told_at_the_pace_of_the_newest_rows() {
        let none = room(&[]);
        assert_eq!((none.reached, none.pace), (0, 1));
        assert_eq!(none.own_below_31, (1 << 29) - 1);
        assert_eq!(none.rows_below_31(), LIMIT - 1);
        assert_eq!(room(&[7]).pace, 1);
        assert_eq!(room(&[1, 2, 3]).pace, 1);
        assert_eq!(room(&[-50, -7]).pace, 1);
        // Two sites that take turns.
        let turns: Vec<i64> = (0..2000).map(|turn| turn * BLOCK).collect();
        let room = room(&turns);
        assert_eq!((room.pace, room.reached), (BLOCK, 1999 * BLOCK));
        assert_eq!(room.rows_below_31(), (LIMIT - 1 - 1999 * BLOCK) / BLOCK);
        assert!(room.own_below_63 > 1 << 60 && room.rows_below_63() > 1 << 54);
        // What was long ago does not count.
        let early: Vec<i64> =
            (0..500).map(|row| row * 10_000).chain(9_000_000..9_001_000).collect();
        assert_eq!(super::tests::room(&early).pace, 1);
    }

    #[test]
    fn the_last_tenth_is_short_and_what_is_beyond_is_not() {
        let short = |row: i64| !short(&table(&[row]), &["a t"], ONE_OF_FOUR).unwrap().is_empty();
        assert!(!short(LIMIT / 10 * 9 - 1000));
        assert!(short(LIMIT / 10 * 9 + 1000));
        assert!(short(LIMIT - 1));
        assert!(!short(LIMIT));
        let beyond = room(&[LIMIT]);
        assert_eq!((beyond.own_below_31, beyond.rows_below_31()), (0, 0));
        let last = room(&[i64::MAX]);
        assert_eq!((last.own_below_63, last.rows_below_63()), (0, 0));
    }
}
