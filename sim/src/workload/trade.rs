//! The till's everyday: sales, edits, deletes, keys that change, and what hangs on them.

use super::hand::{Done, End, Hand};
use super::schema::{CUSTOMERS, PRODUCTS, SHELVES};
use rusqlite::{ErrorCode, params};

/// The first rows.
pub fn stock(hand: &mut Hand<'_>) -> Done {
    for at in 0..PRODUCTS {
        add_product(hand, at)?;
    }
    for at in 0..CUSTOMERS {
        add_customer(hand, at)?;
    }
    for place in 0..SHELVES {
        let hall = ["North", "south", "Østre"][(place % 3) as usize];
        let sql = "INSERT INTO shelves VALUES (?1, ?2, ?3)";
        hand.execute(sql, params![hall, place as i64, place as i64 + 1])?;
    }
    for _ in 0..10 {
        sell(hand)?;
    }
    Ok(End::Commit)
}

pub fn add_product(hand: &mut Hand<'_>, at: u64) -> rusqlite::Result<()> {
    let number = hand.number;
    let barcode = hand.half().then(|| format!("EAN-{number}-{at}"));
    let (cents, weight, picture) = (hand.below(10_000), hand.below(5000), hand.bytes(40));
    let weight = (weight > 500).then_some(weight as f64 / 256.0);
    let name = ["Mug", "Lamp", "Kite", "Süßes", "木のさじ"][hand.below(5) as usize];
    let sql = "INSERT INTO products (sku, barcode, name, cents, weight, picture) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let name = format!("{name} {at}");
    hand.execute(sql, params![format!("S{number}-{at}"), barcode, name, cents, weight, picture])?;
    Ok(())
}

pub fn add_customer(hand: &mut Hand<'_>, at: u64) -> rusqlite::Result<()> {
    let number = hand.number;
    let email = (hand.below(4) > 0).then(|| format!("Guest.{number}.{at}@example.com"));
    let sql = "INSERT INTO customers (name, email) VALUES (?1, ?2)";
    hand.execute(sql, params![format!("Customer {number}.{at}"), email])?;
    Ok(())
}

pub fn sell(hand: &mut Hand<'_>) -> Done {
    let customer = if hand.half() { hand.pick("customers", "id")? } else { None };
    let sql = "INSERT INTO sales (customer, at) VALUES (?1, ?2)";
    hand.execute(sql, params![customer, hand.now])?;
    let sale = hand.connection.last_insert_rowid();
    for line in 1..=1 + hand.below(4) {
        let Some(product) = hand.pick("products", "id")? else { break };
        let quantity = 1 + hand.below(5);
        let sql = "INSERT INTO lines SELECT ?1, ?2, id, ?3, cents FROM products WHERE id = ?4";
        hand.execute(sql, [sale, line, quantity, product])?;
    }
    Ok(End::Commit)
}

pub fn edit(hand: &mut Hand<'_>) -> Done {
    for _ in 0..1 + hand.below(3) {
        let Some(product) = hand.pick("products", "id")? else { break };
        match hand.below(6) {
            0 => {
                let sql = "UPDATE products SET cents = ?1 WHERE id = ?2";
                hand.execute(sql, [hand.number as i64 % 7919, product])?;
            }
            1 => {
                let weight = hand.below(9999) as f64 / 7.0;
                let sql = "UPDATE products SET weight = ?1 WHERE id = ?2";
                hand.execute(sql, params![weight, product])?;
            }
            2 => {
                let picture = hand.bytes(300);
                let sql = "UPDATE products SET picture = ?1 WHERE id = ?2";
                hand.execute(sql, params![picture, product])?;
            }
            3 => {
                let sql = "UPDATE customers SET points = points + 1 WHERE id % 3 = ?1";
                hand.execute(sql, [hand.number as i64 % 3])?;
            }
            4 => {
                let sql = "UPDATE lines SET quantity = quantity + 1 WHERE product = ?1";
                hand.execute(sql, [product])?;
            }
            _ => {
                // The same as another event, perhaps: there is no key.
                let sql = "INSERT INTO events VALUES (?1, 'edit', ?2)";
                hand.execute(sql, [hand.number as i64 / 4, product / 8])?;
            }
        }
    }
    match hand.below(8) {
        0 => add_product(hand, 0)?,
        1 => add_customer(hand, 0)?,
        _ => {}
    }
    Ok(End::Commit)
}

pub fn delete(hand: &mut Hand<'_>) -> Done {
    match hand.below(4) {
        0 => {
            let sql = "DELETE FROM sales WHERE id = (SELECT min(id) FROM sales)";
            hand.execute(sql, [])?;
        }
        1 => {
            // One of several equal rows.
            let sql = "DELETE FROM events WHERE rowid = (SELECT max(rowid) FROM events)";
            hand.execute(sql, [])?;
        }
        2 => {
            let sql = "DELETE FROM lines WHERE line > 2 AND sale % 5 = ?1";
            hand.execute(sql, [hand.number as i64 % 5])?;
        }
        _ => {
            hand.execute("DELETE FROM odd WHERE id % 4 = ?1", [hand.number as i64 % 4])?;
        }
    }
    Ok(End::Commit)
}

pub fn change_key(hand: &mut Hand<'_>) -> Done {
    match hand.below(5) {
        0 => {
            if let Some(id) = hand.pick("customers", "id")? {
                let fresh = hand.number("SELECT max(id) + 1 + max(id) % 5 FROM customers")?;
                hand.execute("UPDATE customers SET id = ?1 WHERE id = ?2", [fresh, id])?;
            }
        }
        1 => {
            if let Some(sale) = hand.pick("sales", "id")? {
                let fresh = hand.number("SELECT max(id) + 1 FROM sales")?;
                hand.execute("UPDATE sales SET id = ?1 WHERE id = ?2", [fresh, sale])?;
            }
        }
        2 => {
            if let Some(sale) = hand.pick("lines", "sale")? {
                let sql = "UPDATE lines SET line = line + 100 WHERE sale = ?1 AND line < 100";
                hand.execute(sql, [sale])?;
            }
        }
        3 => {
            // Another spelling of the same key, as NOCASE has it.
            let sql = "UPDATE shelves SET hall = CASE hall WHEN upper(hall) COLLATE BINARY \
                       THEN lower(hall) ELSE upper(hall) END WHERE place % 4 = ?1";
            hand.execute(sql, [hand.number as i64 % 4])?;
        }
        _ => {
            let sql = "UPDATE settings SET key = 'moved ' || ?1 WHERE rowid = \
                       (SELECT max(rowid) FROM settings)";
            hand.execute(sql, [hand.number as i64])?;
        }
    }
    Ok(End::Commit)
}

pub fn swap(hand: &mut Hand<'_>) -> Done {
    match hand.below(4) {
        0 => {
            if let Some((one, other)) = hand.pick_two("customers")? {
                swap_in(hand, "customers", "email", (one, other))?;
            }
        }
        1 => {
            if let Some((one, other)) = hand.pick_two("products")? {
                swap_in(hand, "products", "barcode", (one, other))?;
            }
        }
        2 => {
            // Keys change places, and what hangs on them goes along.
            if let Some((one, other)) = hand.pick_two("customers")? {
                let sql = "UPDATE customers SET id = ?1 WHERE id = ?2";
                for (to, from) in [(-1, one), (one, other), (other, -1)] {
                    hand.execute(sql, [to, from])?;
                }
            }
        }
        _ => {
            let sql = "UPDATE shelves SET place = CASE place WHEN ?1 THEN -1 ELSE ?1 END \
                       WHERE hall = 'north' AND place = ?2";
            for (to, from) in [(0, 0), (0, 3), (3, -1)] {
                hand.execute(sql, [to, from])?;
            }
        }
    }
    Ok(End::Commit)
}

fn swap_in(
    hand: &Hand<'_>,
    table: &str,
    column: &str,
    (one, other): (i64, i64),
) -> rusqlite::Result<()> {
    let read = format!("SELECT {column} FROM {table} WHERE id = ?1");
    let value = |id: i64| -> rusqlite::Result<Option<String>> {
        hand.connection.prepare_cached(&read)?.query_row([id], |row| row.get(0))
    };
    let (first, second) = (value(one)?, value(other)?);
    let write = format!("UPDATE {table} SET {column} = ?1 WHERE id = ?2");
    hand.execute(&write, params![None::<String>, one])?;
    hand.execute(&write, params![first, other])?;
    hand.execute(&write, params![second, one])?;
    Ok(())
}

pub fn cascade(hand: &mut Hand<'_>) -> Done {
    let table = ["products", "customers", "sales"][hand.below(3) as usize];
    if let Some(id) = hand.pick(table, "id")? {
        hand.execute(&format!("DELETE FROM {table} WHERE id = ?1"), [id])?;
    }
    Ok(End::Commit)
}

pub fn reinsert(hand: &mut Hand<'_>) -> Done {
    if let Some(id) = hand.pick("customers", "id")? {
        let sql = "SELECT name, email FROM customers WHERE id = ?1";
        let (name, email): (String, Option<String>) = hand
            .connection
            .prepare_cached(sql)?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        hand.execute("DELETE FROM customers WHERE id = ?1", [id])?;
        let sql = "INSERT INTO customers (id, name, email) VALUES (?1, ?2, ?3)";
        hand.execute(sql, params![id, name, email])?;
    }
    Ok(End::Commit)
}

pub fn no_op(hand: &mut Hand<'_>) -> Done {
    hand.execute("UPDATE products SET name = name, cents = cents", [])?;
    hand.execute("UPDATE lines SET quantity = quantity WHERE line = 1", [])?;
    hand.execute("DELETE FROM sales WHERE id < 0", [])?;
    Ok(End::Commit)
}

pub fn roll_back(hand: &mut Hand<'_>) -> Done {
    sell(hand)?;
    edit(hand)?;
    cascade(hand)?;
    Ok(End::RollBack)
}

pub fn savepoint(hand: &mut Hand<'_>) -> Done {
    sell(hand)?;
    hand.connection.execute_batch("SAVEPOINT part")?;
    cascade(hand)?;
    edit(hand)?;
    hand.connection.execute_batch("ROLLBACK TO part")?;
    if hand.half() {
        delete(hand)?;
    }
    hand.connection.execute_batch("RELEASE part")?;
    Ok(End::Commit)
}

/// A constraint refuses a statement in its middle; the transaction goes on.
pub fn refused(hand: &mut Hand<'_>) -> Done {
    sell(hand)?;
    let sql = match hand.below(4) {
        0 => "UPDATE products SET sku = 'all the same'",
        1 => "UPDATE customers SET points = points - 1 - 1000 * (id > 3)",
        2 => "INSERT INTO lines SELECT -1, 1, id, 1, 1 FROM products",
        _ => "UPDATE lines SET line = 1, quantity = quantity + 1",
    };
    match hand.execute(sql, []) {
        // There were too few rows for it.
        Ok(_) => {}
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {}
        Err(error) => return Err(error),
    }
    Ok(End::Commit)
}

/// Keeps the database small.
pub fn purge(hand: &mut Hand<'_>) -> Done {
    for sql in [
        "DELETE FROM sales WHERE id NOT IN (SELECT id FROM sales ORDER BY id DESC LIMIT 30)",
        "DELETE FROM events WHERE rowid NOT IN \
         (SELECT rowid FROM events ORDER BY rowid DESC LIMIT 40)",
        "DELETE FROM odd WHERE id NOT IN (SELECT id FROM odd ORDER BY id DESC LIMIT 20)",
        "DELETE FROM settings WHERE rowid NOT IN \
         (SELECT rowid FROM settings ORDER BY rowid DESC LIMIT 15)",
        "DELETE FROM products WHERE id NOT IN (SELECT id FROM products ORDER BY id DESC LIMIT 40)",
        "DELETE FROM customers WHERE id NOT IN \
         (SELECT id FROM customers ORDER BY id DESC LIMIT 30)",
    ] {
        hand.execute(sql, [])?;
    }
    hand.execute("DELETE FROM imports WHERE lot < ?1 - 150", [hand.number as i64])?;
    for at in 0..10 {
        if hand.number("SELECT count(*) FROM products")? < 20 {
            add_product(hand, at)?;
        }
        if hand.number("SELECT count(*) FROM customers")? < 15 {
            add_customer(hand, at)?;
        }
    }
    Ok(End::Commit)
}
