//! REPLACE, which silently removes other rows (F42).

use super::hand::{Done, End, Hand};
use rusqlite::{OptionalExtension, params};

/// Some barcode that a product has, spelled another way.
fn barcode(hand: &mut Hand<'_>, not: i64) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT barcode FROM products WHERE barcode IS NOT NULL AND id <> ?1 \
               ORDER BY id % 7, id LIMIT 1 OFFSET ?2";
    let at = hand.below(4);
    let found: Option<String> =
        hand.connection.prepare_cached(sql)?.query_row([not, at], |row| row.get(0)).optional()?;
    Ok(found.map(|found| if hand.half() { found.to_lowercase() } else { found }))
}

fn email(hand: &mut Hand<'_>, not: i64) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT email FROM customers WHERE email IS NOT NULL AND id <> ?1 \
               ORDER BY id % 7, id LIMIT 1 OFFSET ?2";
    let at = hand.below(4);
    let found: Option<String> =
        hand.connection.prepare_cached(sql)?.query_row([not, at], |row| row.get(0)).optional()?;
    Ok(found.map(|found| if hand.half() { found.to_uppercase() } else { found }))
}

pub fn insert(hand: &mut Hand<'_>) -> Done {
    let number = hand.number as i64;
    match hand.below(4) {
        0 => {
            // Its lines go with the product that is removed.
            let barcode = barcode(hand, 0)?;
            let sql = "INSERT OR REPLACE INTO products (sku, barcode, name, cents) \
                       VALUES (?1, ?2, 'Replacing', ?3)";
            hand.execute(sql, params![format!("R{number}"), barcode, number % 500])?;
        }
        1 => {
            // An id and an address that are two different customers': two rows go.
            let id = hand.pick("customers", "id")?;
            let email = email(hand, id.unwrap_or(0))?;
            let sql = "REPLACE INTO customers (id, name, email) VALUES (?1, ?2, ?3)";
            hand.execute(sql, params![id, format!("Replacing {number}"), email])?;
        }
        2 => {
            let product = hand.pick("products", "id")?;
            let sql = "INSERT OR REPLACE INTO shelves VALUES ('NORTH', ?1, ?2)";
            hand.execute(sql, params![number % 16, product])?;
        }
        _ => {
            let sql = "INSERT INTO settings VALUES (?1, ?2, NULL) \
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            hand.execute(sql, params![format!("setting {}", number % 6), number])?;
            let sql = "REPLACE INTO settings VALUES (?1, ?2, x'00')";
            hand.execute(sql, params![format!("setting {}", number % 5), number])?;
        }
    }
    Ok(End::Commit)
}

pub fn update(hand: &mut Hand<'_>) -> Done {
    match hand.below(3) {
        0 => {
            if let Some(id) = hand.pick("products", "id")? {
                let barcode = barcode(hand, id)?;
                let sql = "UPDATE OR REPLACE products SET barcode = ?1 WHERE id = ?2";
                hand.execute(sql, params![barcode, id])?;
            }
        }
        1 => {
            if let Some(id) = hand.pick("customers", "id")? {
                let email = email(hand, id)?;
                let sql = "UPDATE OR REPLACE customers SET email = ?1 WHERE id = ?2";
                hand.execute(sql, params![email, id])?;
            }
        }
        _ => {
            // Several places come to stand on one.
            let sql = "UPDATE OR REPLACE shelves SET place = place / 2 WHERE hall = 'south'";
            hand.execute(sql, [])?;
        }
    }
    Ok(End::Commit)
}
