//! Values that are easily changed on their way (F46).

use super::hand::{Done, End, Hand, Text};
use crate::random::Random;
use rusqlite::ToSql;
use rusqlite::params;
use rusqlite::types::Null;

const INTEGERS: [i64; 6] =
    [i64::MAX, i64::MIN, (1 << 53) + 1, -(1 << 53) - 1, 0, 9_007_199_254_740_993];
const REALS: [f64; 9] = [
    f64::INFINITY,
    f64::NEG_INFINITY,
    -0.0,
    0.0,
    1.0,
    f64::MIN_POSITIVE,
    5e-324,
    f64::MAX,
    9_007_199_254_740_992.0,
];
const TEXTS: [&[u8]; 8] =
    [b"", b"a\0b", b"\0", b"\xff\xfe", b"caf\xc3", b"1.0", b" 1", b"\xed\xa0\x80"];
const BLOBS: [&[u8]; 4] = [b"", b"\0", b"\xff\0\xff", b"text"];

/// One of them.
pub fn one(random: &mut Random) -> Box<dyn ToSql> {
    let at = random.below(20) as usize;
    match random.below(6) {
        0 => Box::new(INTEGERS[at % INTEGERS.len()]),
        1 | 2 => Box::new(REALS[at % REALS.len()]),
        3 => Box::new(Text(TEXTS[at % TEXTS.len()])),
        4 => Box::new(BLOBS[at % BLOBS.len()]),
        _ => Box::new(Null),
    }
}

pub fn write(hand: &mut Hand<'_>) -> Done {
    for _ in 0..1 + hand.below(3) {
        let (v, r) = (one(hand.random), REALS[hand.below(9) as usize]);
        let t = TEXTS[hand.below(8) as usize];
        let b = hand.half().then(|| BLOBS[hand.number as usize % BLOBS.len()]);
        let sql = "INSERT INTO odd (v, r, t, b) VALUES (?1, ?2, ?3, ?4)";
        hand.execute(sql, params![v, r, Text(t), b])?;
    }
    // One value becomes another that looks like it.
    let value = one(hand.random);
    let sql = "UPDATE odd SET v = ?1 WHERE id = (SELECT min(id) FROM odd)";
    hand.execute(sql, params![value])?;
    if hand.half() {
        hand.execute("UPDATE odd SET r = -r WHERE r = 0.0", [])?;
        hand.execute("UPDATE odd SET b = CASE WHEN b IS NULL THEN x'' END WHERE id % 3 = 0", [])?;
    }
    match hand.below(4) {
        // As keys, too.
        0 => {
            let key = TEXTS[hand.below(8) as usize];
            let value = one(hand.random);
            let sql = "INSERT OR IGNORE INTO settings VALUES (?1, ?2, NULL)";
            hand.execute(sql, params![Text(key), value])?;
        }
        1 => {
            let key = BLOBS[hand.below(4) as usize];
            hand.execute("INSERT OR IGNORE INTO settings VALUES (?1, 1, x'')", params![key])?;
        }
        2 => {
            let key = REALS[hand.below(9) as usize];
            hand.execute("INSERT OR REPLACE INTO settings VALUES (?1, 1.0, '')", params![key])?;
        }
        _ => {
            let value = one(hand.random);
            hand.execute("INSERT INTO events VALUES (NULL, NULL, ?1)", params![value])?;
        }
    }
    Ok(End::Commit)
}
