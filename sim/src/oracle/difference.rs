//! Where two databases differ, in plain words: for the report of a failed run.

use super::content::{Content, RowHasher, in_snapshot, quoted, read};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Longer values are cut.
const SHOWN: usize = 40;

/// Which tables differ, and of each the first rows that only one side has, `limit` a side; empty
/// if the contents are the same. A side is a name and a connection.
///
/// # Errors
/// SQLite's.
pub fn difference(
    a: (&str, &Connection),
    b: (&str, &Connection),
    limit: usize,
) -> rusqlite::Result<String> {
    in_snapshot(a.1, |_| in_snapshot(b.1, |_| written(a, b, limit)))
}

fn written(
    a: (&str, &Connection),
    b: (&str, &Connection),
    limit: usize,
) -> rusqlite::Result<String> {
    let (contents_a, contents_b) = (read(a.1)?, read(b.1)?);
    let mut text = String::new();
    only(&mut text, a.0, &contents_a, b.0, &contents_b);
    only(&mut text, b.0, &contents_b, a.0, &contents_a);
    for (name, at_a) in &contents_a.tables {
        let Some(at_b) = contents_b.tables.get(name).filter(|at_b| *at_b != at_a) else { continue };
        line(
            &mut text,
            &format!("{name}: {} rows at {}, {} at {}", at_a.rows, a.0, at_b.rows, b.0),
        );
        if at_a.columns != at_b.columns {
            let (of_a, of_b) = (at_a.columns.join(", "), at_b.columns.join(", "));
            line(&mut text, &format!("  columns at {}: {of_a}; at {}: {of_b}", a.0, b.0));
        }
        let (rows_a, rows_b) = (hashes(a.1, name)?, hashes(b.1, name)?);
        for (side, own, others) in [(a, &rows_a, &rows_b), (b, &rows_b, &rows_a)] {
            show_rows(&mut text, side, name, surplus(own, others), limit)?;
        }
    }
    Ok(text)
}

fn only(text: &mut String, side: &str, of: &Content, other: &str, than: &Content) {
    for (name, table) in of.tables.iter().filter(|(name, _)| !than.tables.contains_key(*name)) {
        line(text, &format!("{name} ({} rows) is at {side} only, not at {other}", table.rows));
    }
}

/// How often each row is there.
fn hashes(connection: &Connection, table: &str) -> rusqlite::Result<BTreeMap<u128, u64>> {
    let mut select = connection.prepare(&format!("SELECT * FROM {}", quoted(table)))?;
    let columns = select.column_count();
    let (mut rows, mut hasher) = (select.query([])?, RowHasher::default());
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        *found.entry(hasher.hash(row, 0, columns)?).or_insert(0) += 1;
    }
    Ok(found)
}

fn surplus(own: &BTreeMap<u128, u64>, others: &BTreeMap<u128, u64>) -> BTreeMap<u128, u64> {
    let more = |(hash, times): (&u128, &u64)| {
        Some((*hash, times.checked_sub(others.get(hash).copied().unwrap_or(0)).filter(|n| *n > 0)?))
    };
    own.iter().filter_map(more).collect()
}

fn show_rows(
    text: &mut String,
    (side, connection): (&str, &Connection),
    table: &str,
    mut surplus: BTreeMap<u128, u64>,
    limit: usize,
) -> rusqlite::Result<()> {
    let total: u64 = surplus.values().sum();
    if total == 0 {
        return Ok(());
    }
    line(text, &format!("  {total} rows only at {side}:"));
    let mut select = connection.prepare(&format!("SELECT * FROM {}", quoted(table)))?;
    let columns = select.column_count();
    let (mut rows, mut hasher, mut shown) = (select.query([])?, RowHasher::default(), 0);
    while let (Some(row), true) = (rows.next()?, shown < limit) {
        let hash = hasher.hash(row, 0, columns)?;
        if let Some(left) = surplus.get_mut(&hash).filter(|left| **left > 0) {
            *left -= 1;
            shown += 1;
            line(text, &format!("    {}", show(row, columns)?));
        }
    }
    Ok(())
}

/// A row in plain words, such that no two different rows look alike but for what is cut.
pub(super) fn show(row: &Row<'_>, columns: usize) -> rusqlite::Result<String> {
    let values = (0..columns).map(|column| {
        Ok(match row.get_ref(column)? {
            ValueRef::Null => "NULL".to_owned(),
            ValueRef::Integer(value) => value.to_string(),
            ValueRef::Real(value) => format!("{value:?}"),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => cut(&format!("{text:?}")),
                Err(_) => format!("text x'{}'", hex(text)),
            },
            ValueRef::Blob(blob) => format!("x'{}'", hex(blob)),
        })
    });
    Ok(values.collect::<rusqlite::Result<Vec<_>>>()?.join(" | "))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    cut(&text)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} long)", &text[..at], text.chars().count()),
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
