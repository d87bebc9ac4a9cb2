//! Rules that the names and types of a schema make likely. Guesses: they are shown to a person with
//! the command that sets each, and never applied.

use super::Choice;
use super::shape::{self, ColumnShape, TableShape};
use protocol::schema::{Schema, Table};

/// A rule that may be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The table.
    pub table: String,
    /// The column; none: the table as a whole.
    pub column: Option<String>,
    /// The rule.
    pub choice: Choice,
    /// Why, in one sentence.
    pub why: &'static str,
}

/// What holds an amount that several sites change.
const AMOUNTS: [&str; 10] = [
    "stock",
    "qty",
    "quantity",
    "onhand",
    "balance",
    "points",
    "count",
    "counter",
    "inventory",
    "available",
];
/// An amount that is set, not counted.
const NO_AMOUNTS: [&str; 16] = [
    "min", "max", "minimum", "maximum", "reorder", "target", "limit", "per", "price", "default",
    "id", "type", "date", "at", "is", "has",
];
/// The last word of tables whose rows are written once: their amounts don't move.
const LINES: [&str; 14] = [
    "line",
    "lines",
    "row",
    "rows",
    "detail",
    "details",
    "entry",
    "entries",
    "movement",
    "movements",
    "move",
    "moves",
    "log",
    "history",
];
/// What matters to one site alone.
const OWN_AFFAIRS: [&str; 8] =
    ["session", "sessions", "cache", "caches", "token", "tokens", "tmp", "temp"];
/// What is printed on paper.
const DOCUMENTS: [&str; 8] =
    ["invoice", "receipt", "document", "voucher", "ticket", "bill", "order", "quote"];
const NUMBERS: [&str; 7] = ["no", "nr", "num", "number", "code", "name", "ref"];

/// The rules that a schema makes likely, by table and column.
///
/// # Errors
/// SQLite fails, in memory.
pub fn propose(schema: &Schema) -> rusqlite::Result<Vec<Proposal>> {
    let mut found = Vec::new();
    for (table, shape) in schema.tables.iter().zip(shape::read(schema)?) {
        if is_own_affair(table, &shape) {
            found.push(Proposal {
                table: table.name.clone(),
                column: None,
                choice: Choice::Local,
                why: "Sessions, caches and tokens matter to one site alone.",
            });
            continue;
        }
        for (column, of) in table.columns.iter().zip(&shape.columns) {
            let (choice, why) = if is_amount(table, column, of) {
                (Choice::Counter, "What several sites add and take away at once should all count.")
            } else if is_document(table, column, of) {
                (Choice::KeepMark, "A number that was printed should not change twice.")
            } else {
                continue;
            };
            let (table, column) = (table.name.clone(), Some(column.clone()));
            found.push(Proposal { table, column, choice, why });
        }
    }
    Ok(found)
}

/// Not where other tables refer to it: a till's session is business.
fn is_own_affair(table: &Table, shape: &TableShape) -> bool {
    let words = words(&table.name);
    has(&words, &OWN_AFFAIRS) && shape.referred_by.is_empty()
}

fn is_amount(table: &Table, name: &str, column: &ColumnShape) -> bool {
    let (name, table) = (words(name), words(&table.name));
    let items = table.len() > 1 && table.last().is_some_and(|word| word.starts_with("item"));
    let lines = items || table.last().is_some_and(|word| LINES.contains(&word.as_str()));
    let on_hand = name.windows(2).any(|pair| pair == ["on", "hand"]);
    column.numeric
        && !column.key
        && !column.refers
        && !lines
        && (on_hand || has(&name, &AMOUNTS))
        && !has(&name, &NO_AMOUNTS)
}

/// A number of its own, or a column `number` in a table of documents.
fn is_document(table: &Table, name: &str, column: &ColumnShape) -> bool {
    let (name, table) = (words(name), words(&table.name));
    let singular = |word: &String| word.strip_suffix('s').unwrap_or(word).to_owned();
    let of_documents = has(&table.iter().map(singular).collect::<Vec<_>>(), &DOCUMENTS);
    let number = has(&name, &NUMBERS);
    let by_itself = has(&name, &DOCUMENTS) && (number || name.len() == 1);
    let fits = column.text && column.unique && !column.key && !column.refers;
    fits && (by_itself || (of_documents && number))
}

fn has(words: &[String], known: &[&str]) -> bool {
    words.iter().any(|word| known.contains(&word.as_str()))
}

/// The words of a name, small: `unitsInStock`, `units_in_stock` and `UNITS IN STOCK` have the same.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut word, mut small) = (Vec::new(), String::new(), false);
    for letter in name.chars() {
        let ends = !letter.is_alphanumeric() || (small && letter.is_uppercase());
        if ends && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        }
        small = letter.is_lowercase() || letter.is_numeric();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::inspect;
    use rusqlite::Connection;

    fn proposed(sql: &str) -> Vec<String> {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        let schema = inspect(&connection, None).unwrap().schema;
        let found = propose(&schema).unwrap().into_iter();
        found
            .map(|proposal| {
                let column = proposal.column.map(|column| format!(".{column}")).unwrap_or_default();
                let rule = proposal.choice.spelled(|site| site.to_string());
                format!("{}{column} {rule}", proposal.table)
            })
            .collect()
    }

    #[test]
    fn names_and_types_make_rules_likely() {
        let found = proposed(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, stock INTEGER, min_stock INT,
                                unitsOnHand REAL, stock_note TEXT);
             CREATE TABLE member (id INTEGER PRIMARY KEY, points INTEGER, balance DECIMAL(10,2),
                                  balance_date DATE, phone_number TEXT UNIQUE);
             CREATE TABLE order_line (id INTEGER PRIMARY KEY, quantity INTEGER);
             CREATE TABLE django_session (session_key TEXT PRIMARY KEY, data TEXT, count INT);
             CREATE TABLE pos_session (id INTEGER PRIMARY KEY);
             CREATE TABLE invoices (id INTEGER PRIMARY KEY, number TEXT UNIQUE,
                                    note TEXT, session INTEGER REFERENCES pos_session (id));
             CREATE TABLE sale (id INTEGER PRIMARY KEY, receipt_no TEXT, total REAL);
             CREATE UNIQUE INDEX sale_no ON sale (receipt_no);",
        );
        assert_eq!(
            found,
            [
                "django_session local",
                "invoices.number give-back no",
                "item.stock counter",
                "item.unitsOnHand counter",
                "member.points counter",
                "member.balance counter",
                "sale.receipt_no give-back no",
            ]
        );
    }
}
