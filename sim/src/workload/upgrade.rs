//! What an upgrade of the application does to the schema (F36, F38, F39).

use super::hand::{Done, End, Hand};
use rusqlite::params;

/// The columns that were added to customers.
fn extras(hand: &Hand<'_>) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM pragma_table_info('customers') WHERE name GLOB 'extra*' ORDER BY 1";
    hand.connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// The tables, or indexes, that were made by an upgrade.
fn specials(hand: &Hand<'_>, kind: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = ?1 AND name GLOB 'special*' ORDER BY 1";
    hand.connection.prepare_cached(sql)?.query_map([kind], |row| row.get(0))?.collect()
}

fn some(hand: &mut Hand<'_>, names: Vec<String>) -> Option<String> {
    let at = hand.random.below(names.len() as u64) as usize;
    names.into_iter().nth(at)
}

pub fn add_column(hand: &mut Hand<'_>) -> Done {
    if extras(hand)?.len() >= 3 {
        return drop_column(hand);
    }
    let name = format!("extra_{}", hand.number);
    let definition =
        ["TEXT", "INTEGER NOT NULL DEFAULT 7", "TEXT DEFAULT 'née'", "REAL DEFAULT 1.5", "BLOB"]
            [hand.below(5) as usize];
    let sql = format!("ALTER TABLE customers ADD COLUMN {name} {definition}");
    hand.connection.execute_batch(&sql)?;
    if hand.half() {
        let sql = format!("UPDATE customers SET {name} = 12 WHERE id % 2 = 0");
        hand.connection.execute_batch(&sql)?;
    }
    Ok(End::Commit)
}

pub fn drop_column(hand: &mut Hand<'_>) -> Done {
    let extras = extras(hand)?;
    if let Some(name) = some(hand, extras) {
        hand.connection.execute_batch(&format!("ALTER TABLE customers DROP COLUMN {name}"))?;
    }
    Ok(End::Commit)
}

pub fn rename_column(hand: &mut Hand<'_>) -> Done {
    let extras = extras(hand)?;
    if let Some(name) = some(hand, extras) {
        let sql =
            format!("ALTER TABLE customers RENAME COLUMN {name} TO extra_{}_new", hand.number);
        hand.connection.execute_batch(&sql)?;
        if hand.half() {
            hand.execute("UPDATE customers SET points = points + 1 WHERE id % 4 = 1", [])?;
        }
    }
    Ok(End::Commit)
}

pub fn create_table(hand: &mut Hand<'_>) -> Done {
    if specials(hand, "table")?.len() >= 3 {
        return drop_table(hand);
    }
    let name = format!("special_{}", hand.number);
    let definition = [
        "(id INTEGER PRIMARY KEY, what TEXT UNIQUE, amount REAL)",
        "(what TEXT PRIMARY KEY, id INTEGER, amount NUMERIC) WITHOUT ROWID",
        "(what TEXT, id INTEGER, amount)",
        "(id INTEGER PRIMARY KEY, what TEXT NOT NULL, amount ANY) STRICT",
    ][hand.below(4) as usize];
    hand.connection.execute_batch(&format!("CREATE TABLE {name} {definition}"))?;
    for at in 0..hand.below(20) {
        let sql = format!("INSERT INTO {name} (id, what, amount) VALUES (?1, ?2, ?3)");
        hand.connection.execute(&sql, params![at, format!("Special {at}"), at as f64 / 4.0])?;
    }
    Ok(End::Commit)
}

pub fn drop_table(hand: &mut Hand<'_>) -> Done {
    let tables = specials(hand, "table")?;
    if let Some(name) = some(hand, tables) {
        hand.connection.execute_batch(&format!("DROP TABLE {name}"))?;
    }
    Ok(End::Commit)
}

pub fn create_index(hand: &mut Hand<'_>) -> Done {
    if specials(hand, "index")?.len() >= 4 {
        return drop_index(hand);
    }
    let tables = specials(hand, "table")?;
    let number = hand.number;
    let sql = match (hand.below(3), some(hand, tables)) {
        (0, Some(table)) => {
            format!("CREATE UNIQUE INDEX special_i{number} ON {table} (lower(what))")
        }
        (1, Some(table)) => {
            // From now on REPLACE removes rows through it.
            let sql = format!("CREATE UNIQUE INDEX special_i{number} ON {table} (id)");
            hand.connection.execute_batch(&sql)?;
            format!("REPLACE INTO {table} (id, what, amount) VALUES (3, 'anew {number}', 1)")
        }
        _ => format!("CREATE INDEX special_i{number} ON sales (at, total)"),
    };
    hand.connection.execute_batch(&sql)?;
    Ok(End::Commit)
}

pub fn drop_index(hand: &mut Hand<'_>) -> Done {
    let indexes = specials(hand, "index")?;
    if let Some(name) = some(hand, indexes) {
        hand.connection.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    Ok(End::Commit)
}

/// The twelve steps, as SQLite's manual has them; foreign keys are off. The triggers of the table
/// go, and what is written afterwards is noted by nobody.
pub fn rebuild(hand: &mut Hand<'_>) -> Done {
    let sql: String = hand.connection.query_row(
        "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'customers'",
        [],
        |row| row.get(0),
    )?;
    let at = sql.find('(').unwrap_or(0);
    hand.connection.execute_batch(&format!(
        "CREATE TABLE new_customers {}; INSERT INTO new_customers SELECT * FROM customers; \
         DROP TABLE customers; ALTER TABLE new_customers RENAME TO customers",
        &sql[at..]
    ))?;
    let sql = "UPDATE customers SET points = points + 1, name = name || '*' WHERE id % 5 = ?1";
    hand.execute(sql, [hand.number as i64 % 5])?;
    if hand.half() {
        let sql = "DELETE FROM customers WHERE id = (SELECT min(id) FROM customers) \
                   AND id NOT IN (SELECT customer FROM sales WHERE customer IS NOT NULL)";
        hand.execute(sql, [])?;
    }
    Ok(End::Commit)
}
