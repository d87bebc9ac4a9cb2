//! The SQL that stays in an application's database: log, marker and triggers.
//!
//! It runs inside the application's own SQLite, so it knows nothing newer than SQLite 3.8: no
//! UPSERT, no JSON, no RETURNING. The triggers name the columns of the key and of UNIQUE indexes,
//! nothing else, so that ALTER TABLE goes on working (CAPTURE.md, traps 1, 3 and 6).
//!
//! One thing they don't see, since it would cost every insert: a REPLACE that names the *rowid*
//! of a table whose key is something else, and so removes the row that had it. `verify` does.
//!
//! ```text
//! _holdfast_log     id     rises by 1; the last note stays for ever, as the fence
//!                   what   4 * number of the table + kind (0 the table's triggers were put in
//!                          place, 1 row is there, 2 row is gone, 3 row may be gone: REPLACE may
//!                          remove it)
//!                   at     julianday('now'): the cheapest clock that SQLite 3.8 has
//!                   nonce  random(): tells a note from another that took its id after a crash
//!                   k0 ..  the key; no type, so that values stay as they are
//! _holdfast_marker  one row: whose database this is, and in shared mode how many writes of the
//!                   node it has seen; `hopping` within a hop, never after it
//! ```
//!
//! Numbers of shared tables hop by triggers of their own: see [`super::hop`].

use super::inspect::{InspectedTable, UniqueIndex};
use crate::breakage::Breakage;
use crate::sql::quoted;
use protocol::schema::{RowIdentity, Table};
use rusqlite::Connection;
use std::collections::BTreeSet;

/// The log.
pub const LOG: &str = "_holdfast_log";
/// The marker.
pub const MARKER: &str = "_holdfast_marker";
/// What the triggers' names begin with.
pub const TRIGGER_PREFIX: &str = "_holdfast_on_";
/// The form of all this.
pub const FORMAT: i64 = 1;

/// Makes the marker.
pub const CREATE_MARKER: &str = "CREATE TABLE _holdfast_marker(database_id BLOB, site_id BLOB, format INTEGER, \
     writes INTEGER, hopping INTEGER)";
/// Makes one of before there was a hop like it.
pub const COMPLETE_MARKER: &str = "ALTER TABLE _holdfast_marker ADD COLUMN hopping INTEGER";
/// Appends a note that names no row.
pub const APPEND_FENCE: &str =
    "INSERT INTO _holdfast_log(what, at, nonce) VALUES(0, julianday('now'), random())";

/// Appends a note that a table's triggers are put in place: before it, changes went unnoted.
pub fn append_restored(number: i64) -> String {
    let what = number * 4;
    format!("INSERT INTO {LOG}(what, at, nonce) VALUES({what}, julianday('now'), random())")
}

/// The numbers of the tables whose triggers were put in place after the note `fence`.
pub fn restored(connection: &Connection, fence: i64) -> rusqlite::Result<BTreeSet<i64>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT what >> 2 FROM main._holdfast_log WHERE id > ?1 AND what & 3 = 0",
        )?
        .query_map([fence], |row| row.get(0))?
        .collect()
}

/// What a note says about its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// It was inserted or updated.
    There = 1,
    /// It was deleted, or left this key.
    Gone = 2,
    /// It holds a unique value that another row is about to take: REPLACE would remove it.
    Contested = 3,
}

/// The table's number and the kind of note, if any, that `what` stands for.
pub fn read_what(what: i64) -> (i64, Option<NoteKind>) {
    let kind = match what & 3 {
        1 => Some(NoteKind::There),
        2 => Some(NoteKind::Gone),
        3 => Some(NoteKind::Contested),
        _ => None,
    };
    (what >> 2, kind)
}

/// Makes the log, for keys of up to `width` columns.
pub fn create_log(width: usize) -> String {
    let keys: String = (0..width).map(|at| format!(", k{at}")).collect();
    format!(
        "CREATE TABLE {LOG}(id INTEGER PRIMARY KEY, what INTEGER, at REAL, nonce INTEGER{keys})"
    )
}

/// The triggers of a table: name and statement, word for word as SQLite keeps it.
pub fn triggers(number: i64, table: &Table, inspected: &InspectedTable) -> Vec<(String, String)> {
    let writer = Writer { number, table, inspected, name: quoted(&table.name) };
    let mut triggers = vec![
        writer.trigger("insert", "AFTER INSERT", &[writer.note(NoteKind::There, "NEW")]),
        writer.trigger(
            "update",
            "AFTER UPDATE",
            &[writer.note(NoteKind::There, "NEW"), writer.note_old_key()],
        ),
        writer.trigger("delete", "AFTER DELETE", &[writer.note(NoteKind::Gone, "OLD")]),
    ];
    if inspected.unique.is_empty() || Breakage::ReplaceUnseen.is_on() {
        return triggers;
    }
    let on_insert: Vec<String> =
        inspected.unique.iter().map(|index| writer.note_rivals(index, "")).collect();
    triggers.push(writer.trigger("replace_insert", "BEFORE INSERT", &on_insert));
    // A row enters a partial index when any column of its condition changes: no OF there.
    let (partial, whole): (Vec<_>, Vec<_>) =
        inspected.unique.iter().partition(|index| index.condition.is_some());
    let other = format!(" AND NOT ({})", writer.same_key("OLD"));
    for (suffix, indexes, of) in
        [("replace_update", &whole, true), ("replace_partial", &partial, false)]
    {
        if indexes.is_empty() {
            continue;
        }
        let mut columns: Vec<String> = indexes
            .iter()
            .flat_map(|index| index.columns.iter().map(|(name, _)| quoted(name)))
            .collect();
        columns.sort();
        columns.dedup();
        let event = if of {
            format!("BEFORE UPDATE OF {}", columns.join(", "))
        } else {
            "BEFORE UPDATE".to_owned()
        };
        let notes: Vec<String> =
            indexes.iter().map(|index| writer.note_rivals(index, &other)).collect();
        triggers.push(writer.trigger(suffix, &event, &notes));
    }
    triggers
}

struct Writer<'a> {
    number: i64,
    table: &'a Table,
    inspected: &'a InspectedTable,
    name: String,
}

impl Writer<'_> {
    /// The columns that tell rows apart, quoted.
    fn key(&self) -> Vec<String> {
        key_columns(self.table)
    }

    fn trigger(&self, suffix: &str, event: &str, statements: &[String]) -> (String, String) {
        let name = format!("{TRIGGER_PREFIX}{}_{suffix}", self.number);
        let body: String = statements.iter().map(|statement| format!("{statement}; ")).collect();
        let sql = format!("CREATE TRIGGER {name} {event} ON {} BEGIN {body}END", self.name);
        (name, sql)
    }

    /// The head of an insert into the log. `id` is left out, not NULL: SQLite appends faster.
    fn log_head(&self) -> String {
        let keys: String = (0..self.key().len()).map(|at| format!(", k{at}")).collect();
        format!("INSERT INTO {LOG}(what, at, nonce{keys})")
    }

    fn note_values(&self, kind: NoteKind, row: &str) -> String {
        let what = self.number * 4 + kind as i64;
        let keys: String = self.key().iter().map(|column| format!(", {row}{column}")).collect();
        format!("{what}, julianday('now'), random(){keys}")
    }

    fn note(&self, kind: NoteKind, row: &str) -> String {
        format!("{} VALUES({})", self.log_head(), self.note_values(kind, &format!("{row}.")))
    }

    /// Notes the key that an update left. `UPDATE OF` would miss `SET rowid =`.
    fn note_old_key(&self) -> String {
        format!(
            "{} SELECT {} WHERE NOT ({})",
            self.log_head(),
            self.note_values(NoteKind::Gone, "OLD."),
            self.same_key_of("OLD.", "NEW.")
        )
    }

    fn same_key(&self, row: &str) -> String {
        self.same_key_of("", &format!("{row}."))
    }

    fn same_key_of(&self, left: &str, right: &str) -> String {
        let binary = if self.inspected.collations.is_empty() { "" } else { " COLLATE BINARY" };
        let terms: Vec<String> = self
            .key()
            .iter()
            .map(|column| format!("{left}{column}{binary} IS {right}{column}"))
            .collect();
        terms.join(" AND ")
    }

    /// Notes the rows that hold the unique value which NEW is about to take. `COLLATE` as in the
    /// index, and a partial index's condition, so that SQLite finds them through it.
    fn note_rivals(&self, index: &UniqueIndex, more: &str) -> String {
        let terms: Vec<String> = index
            .columns
            .iter()
            .map(|(column, collation)| {
                let (column, collation) = (quoted(column), quoted(collation));
                format!("{column} = NEW.{column} COLLATE {collation}")
            })
            .collect();
        let condition = match &index.condition {
            Some(condition) => format!(" AND ({condition})"),
            None => String::new(),
        };
        format!(
            "{} SELECT {} FROM {} WHERE {}{condition}{more}",
            self.log_head(),
            self.note_values(NoteKind::Contested, ""),
            self.name,
            terms.join(" AND ")
        )
    }
}

/// The columns that tell a table's rows apart, quoted.
pub(super) fn key_columns(table: &Table) -> Vec<String> {
    match &table.identity {
        RowIdentity::Key(key) => key
            .iter()
            .filter_map(|column| table.columns.get(column.0 as usize))
            .map(|name| quoted(name))
            .collect(),
        RowIdentity::Rowid(alias) => vec![alias.clone()],
    }
}
