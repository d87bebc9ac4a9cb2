//! Many rows in one transaction (F44, in small).

use super::hand::{Done, End, Hand};
use rusqlite::params;

pub fn import(hand: &mut Hand<'_>) -> Done {
    let rows = 200 + hand.below(2000);
    for at in 0..rows {
        let amount = (at * 37 % 1000) as f64 / 8.0;
        let sql = "INSERT INTO imports (lot, line, amount) VALUES (?1, ?2, ?3)";
        hand.execute(sql, params![hand.number as i64, format!("line {at} of a lot"), amount])?;
    }
    Ok(End::Commit)
}

pub fn delete(hand: &mut Hand<'_>) -> Done {
    match hand.below(3) {
        0 => hand.execute("DELETE FROM imports", [])?,
        1 => hand.execute("DELETE FROM imports WHERE id % 10 <> 0", [])?,
        _ => {
            hand.execute("UPDATE imports SET amount = amount * 2", [])?;
            hand.execute("DELETE FROM imports WHERE lot < (SELECT max(lot) FROM imports)", [])?
        }
    };
    Ok(End::Commit)
}
