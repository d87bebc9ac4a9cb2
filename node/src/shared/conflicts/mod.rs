//! What the merge had to decide, kept until a person has seen it: what lost although its winner
//! had not seen it, and rows that are parked, marked or kept.
//!
//! Here is what counts and what is noted of it; [`list`] reads it back. What a person decides is
//! the engine's.

pub mod decision;
pub mod list;
#[cfg(test)]
mod tests;

use super::MergedId;
use crate::store::{DatabaseNumber, StoreError};
use conflict::row::{Column, Loser, Lost, Reason, RowState};
use conflict::visible::{self, Shown};
use conflict::{Value, Version, WallTime};
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most undecided conflicts of a database that say what happened; and of the decided ones, so
/// that what is told again is known. Beyond it the oldest go, and the undecided ones are counted.
pub const BOUND: u64 = 10_000;

/// Where and when something is noted.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// `node.db`, in a transaction.
    pub connection: &'c Connection,
    /// The database.
    pub database: DatabaseNumber,
    /// Now.
    pub now: WallTime,
}

/// What was to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two sites changed one column.
    Edit,
    /// One site deleted a row that another one changed.
    DeleteEdit,
    /// An amount was added to a row that another site had deleted.
    AddToDeleted,
    /// A value came after the first, which stays.
    FirstWriter,
    /// Another site's values win.
    Priority,
    /// An amount was added to what is no number.
    NotANumber,
    /// Two sites made one row.
    Insert,
    /// A row is held back.
    Parked,
    /// A value is shown otherwise than meant, since it must be unique.
    Marked,
    /// A deleted row stays while another needs it.
    Kept,
}

/// What is kept of a conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Detail {
    /// One change lost to another.
    Lost {
        /// What lost.
        loser: Side,
        /// What it lost to.
        winner: Side,
    },
    /// The row is parked.
    Parked(visible::Reason),
    /// A column is marked.
    Marked {
        /// Its place in the row, in the schema in force.
        column: usize,
        /// What is meant; another row holds it.
        meant: Value,
        /// What the application sees.
        shown: Value,
    },
    /// The row is dead and visible.
    Kept,
}

/// One of two changes that met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Its version.
    pub version: Version,
    /// What it did.
    pub what: What,
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// It gave values to these columns (`merged_column.number`), ascending.
    Set(Vec<(Column, Value)>),
    /// It added this much.
    Added(Column, Value),
    /// It deleted the row.
    Deleted,
    /// Not known here.
    Unknown,
}

/// All kinds by their words.
const KINDS: [(Kind, &str); 10] = [
    (Kind::Edit, "edit"),
    (Kind::DeleteEdit, "delete-edit"),
    (Kind::AddToDeleted, "add-to-deleted"),
    (Kind::FirstWriter, "first-writer"),
    (Kind::Priority, "priority"),
    (Kind::NotANumber, "not-a-number"),
    (Kind::Insert, "insert"),
    (Kind::Parked, "parked"),
    (Kind::Marked, "marked"),
    (Kind::Kept, "kept"),
];

/// The `kind` of the row that counts what was dropped.
const DROPPED: &str = "dropped";

impl Kind {
    /// Its words in `node.db` and in JSON.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, words)| words)
    }

    fn read(words: &str) -> Result<Self, StoreError> {
        let known = KINDS.iter().find(|(_, known)| *known == words);
        known
            .map(|(kind, _)| *kind)
            .ok_or_else(|| StoreError::Damaged(format!("kind of conflict {words:?}")))
    }

    /// Whether it is so now, and goes by itself when it is so no more. The others happened.
    pub fn is_lasting(self) -> bool {
        matches!(self, Self::Parked | Self::Marked | Self::Kept)
    }
}

/// Notes what lost when a change was merged into a row, unless its winner had seen it:
/// `seen(loser, winner)`. `state` is the row with the change merged, if it is known.
///
/// # Errors
/// See [`StoreError`].
pub fn note_lost(
    context: Context<'_>,
    row: &MergedId,
    state: Option<&RowState>,
    lost: &[Lost],
    seen: &dyn Fn(Version, Version) -> bool,
) -> Result<(), StoreError> {
    // One conflict a column; but one for all that one change did to a row that was deleted, or
    // that another site made as well.
    let mut found = BTreeMap::<(Kind, Version, Option<Column>), (Side, Side)>::new();
    for lost in lost {
        if lost.reason == Reason::Repeated || seen(lost.version, lost.winner) {
            continue;
        }
        let (kind, column) = kind(lost, || made_twice(state, lost, seen));
        let meant = |column: Column| state.and_then(|state| state.value(column));
        let shows = column.and_then(meant);
        match &lost.loser {
            // What another change made of it is the same.
            Loser::Set(_, value) if shows.as_ref() == Some(value) && kind != Kind::DeleteEdit => {
                continue;
            }
            _ => {}
        }
        let subject = if matches!(kind, Kind::DeleteEdit | Kind::Insert) { None } else { column };
        let (loser, winner) = found.entry((kind, lost.version, subject)).or_insert_with(|| {
            let loser = match &lost.loser {
                Loser::Delete => What::Deleted,
                Loser::Add(column, amount) => What::Added(*column, amount.clone()),
                Loser::Insert | Loser::Set(..) => What::Set(Vec::new()),
            };
            let winner = match lost.reason {
                Reason::Deleted | Reason::AddToDeleted => What::Deleted,
                Reason::Revived => state.map_or(What::Unknown, |state| set_by(state, lost.winner)),
                _ if state.is_none() => What::Unknown,
                _ => What::Set(Vec::new()),
            };
            let winner = Side { version: lost.winner, what: winner };
            (Side { version: lost.version, what: loser }, winner)
        });
        if let (Loser::Set(column, value), What::Set(values)) = (&lost.loser, &mut loser.what) {
            put(values, *column, value.clone());
        }
        if let (Some(column), What::Set(values)) = (column, &mut winner.what)
            && let Some(value) = shows
        {
            put(values, column, value);
        }
    }
    for ((kind, version, column), (loser, winner)) in found {
        let subject = packed(&(version, column))?;
        if insert(context, row, kind, &subject, &Detail::Lost { loser, winner })? {
            keep_within_bound(context)?;
        }
    }
    Ok(())
}

/// Notes that a row is parked, marked or kept now, or is so no more.
///
/// # Errors
/// See [`StoreError`].
pub fn note_shown(
    context: Context<'_>,
    row: &MergedId,
    before: &Shown,
    after: &Shown,
) -> Result<(), StoreError> {
    let (before, after) = (lasting(before), lasting(after));
    for (kind, subject, _) in &before {
        if after.iter().any(|(is, of, _)| (is, of) == (kind, subject)) {
            continue;
        }
        context
            .connection
            .prepare_cached(
                "DELETE FROM conflict WHERE database = ? AND tbl = ? AND key = ? AND birth = ?
                 AND kind = ? AND subject = ?",
            )?
            .execute(params![
                context.database.0,
                row.table,
                row.key,
                row.birth,
                kind.as_str(),
                subject,
            ])?;
    }
    for (kind, subject, detail) in after {
        insert(context, row, kind, &subject, &detail)?;
    }
    Ok(())
}

/// Forgets who is parked, marked and kept: it is told anew.
///
/// # Errors
/// See [`StoreError`].
pub fn forget_states(context: Context<'_>) -> Result<(), StoreError> {
    context
        .connection
        .prepare_cached("DELETE FROM conflict WHERE database = ? AND lasting")?
        .execute([context.database.0])?;
    Ok(())
}

/// Forgets every conflict of a database.
///
/// # Errors
/// See [`StoreError`].
pub fn forget(connection: &Connection, database: DatabaseNumber) -> Result<(), StoreError> {
    connection.execute("DELETE FROM conflict WHERE database = ?", [database.0])?;
    Ok(())
}

/// What holds of a row as long as it is shown so.
fn lasting(shown: &Shown) -> Vec<(Kind, Vec<u8>, Detail)> {
    match shown {
        Shown::Hidden => Vec::new(),
        Shown::Parked(reason) => {
            vec![(Kind::Parked, Vec::new(), Detail::Parked(reason.clone()))]
        }
        Shown::Visible { kept, marks, .. } => {
            let marks = marks.iter().map(|mark| {
                let (column, meant, shown) = (mark.column, mark.meant.clone(), mark.shown.clone());
                (Kind::Marked, mark_subject(column), Detail::Marked { column, meant, shown })
            });
            let kept = kept.then_some((Kind::Kept, Vec::new(), Detail::Kept));
            marks.chain(kept).collect()
        }
    }
}

/// What tells a mark from others of its row: its column's place.
fn mark_subject(place: usize) -> Vec<u8> {
    (place as u64).to_be_bytes().to_vec()
}

/// What a loss is, and the column that it is about.
fn kind(lost: &Lost, made_twice: impl Fn() -> bool) -> (Kind, Option<Column>) {
    match (&lost.loser, lost.reason) {
        (Loser::Insert | Loser::Delete, _) => (Kind::DeleteEdit, None),
        (Loser::Add(column, _), Reason::Deleted | Reason::AddToDeleted) => {
            (Kind::AddToDeleted, Some(*column))
        }
        (Loser::Add(column, _), Reason::NotANumber) => (Kind::NotANumber, Some(*column)),
        (Loser::Add(column, _), _) => (Kind::Edit, Some(*column)),
        (Loser::Set(column, _), Reason::Deleted) => (Kind::DeleteEdit, Some(*column)),
        (Loser::Set(column, _), _) if made_twice() => (Kind::Insert, Some(*column)),
        (Loser::Set(column, _), Reason::EarlierWriter) => (Kind::FirstWriter, Some(*column)),
        (Loser::Set(column, _), Reason::PrioritySite) => (Kind::Priority, Some(*column)),
        (Loser::Set(column, _), _) => (Kind::Edit, Some(*column)),
    }
}

/// Whether both sides made the row: one of them has an insert of its own, and had not seen the
/// first.
fn made_twice(
    state: Option<&RowState>,
    lost: &Lost,
    seen: &dyn Fn(Version, Version) -> bool,
) -> bool {
    let Some((state, born)) = state.and_then(|state| Some((state, state.rank()?))) else {
        return false;
    };
    let made = |site| {
        state.inserts().any(|insert| insert.origin == site && Some(insert) > state.deleted())
    };
    [lost.version, lost.winner]
        .into_iter()
        .any(|side| side.origin != born.origin && made(side.origin) && !seen(born, side))
}

/// What a change set that is shown.
fn set_by(state: &RowState, version: Version) -> What {
    let columns = state.columns().filter(|column| state.version(*column) == Some(version));
    What::Set(columns.filter_map(|column| Some((column, state.value(column)?))).collect())
}

fn put(values: &mut Vec<(Column, Value)>, column: Column, value: Value) {
    if let Err(at) = values.binary_search_by_key(&column, |(column, _)| *column) {
        values.insert(at, (column, value));
    }
}

fn packed<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    rmp_serde::to_vec(value)
        .map_err(|error| StoreError::Damaged(format!("a conflict can't be written: {error}")))
}

/// Adds a conflict, and tells whether it is new. Of what happened the first telling stays; what
/// lasts is told as it is now, and if that is something else, is undecided again.
fn insert(
    context: Context<'_>,
    row: &MergedId,
    kind: Kind,
    subject: &[u8],
    detail: &Detail,
) -> Result<bool, StoreError> {
    let (detail, lasting) = (packed(detail)?, kind.is_lasting());
    let added = context
        .connection
        .prepare_cached(
            "INSERT INTO conflict
               (database, tbl, key, birth, kind, lasting, subject, detail, since_ms)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
             WHERE NOT EXISTS (SELECT 1 FROM conflict WHERE database = ?1 AND tbl = ?2
                               AND key = ?3 AND birth = ?4 AND kind = ?5 AND subject = ?7)",
        )?
        .execute(params![
            context.database.0,
            row.table,
            row.key,
            row.birth,
            kind.as_str(),
            lasting,
            subject,
            detail,
            context.now.0,
        ])?;
    if added == 0 && lasting {
        context
            .connection
            .prepare_cached(
                "UPDATE conflict SET detail = ?7, decided = 0
                 WHERE database = ?1 AND tbl = ?2 AND key = ?3 AND birth = ?4 AND kind = ?5
                   AND subject = ?6 AND detail <> ?7",
            )?
            .execute(params![
                context.database.0,
                row.table,
                row.key,
                row.birth,
                kind.as_str(),
                subject,
                detail,
            ])?;
    }
    Ok(added > 0)
}

/// A person has decided the conflicts of which `which` says, in SQL, where `bound` belongs in it.
fn set_decided(context: Context<'_>, which: &str, bound: &[&dyn ToSql]) -> Result<(), StoreError> {
    context
        .connection
        .prepare_cached(&format!("UPDATE conflict SET decided = 1 WHERE {which}"))?
        .execute(bound)?;
    release(context, which, bound)?;
    // What a person has seen may go without a word.
    drop_beyond(context, true, BOUND).map(drop)
}

/// Lets the rows be forgotten, should they be dead, that conflicts had stay until now.
fn release(context: Context<'_>, which: &str, bound: &[&dyn ToSql]) -> Result<(), StoreError> {
    context
        .connection
        .prepare_cached(&format!(
            "INSERT OR IGNORE INTO dead_row
             SELECT database, tbl, key, birth,
               ifnull((SELECT number FROM round WHERE round.database = conflict.database), 0)
             FROM conflict WHERE {which}"
        ))?
        .execute(bound)?;
    Ok(())
}

/// Drops the oldest of what happened beyond the bound, and counts what nobody had decided.
fn keep_within_bound(context: Context<'_>) -> Result<(), StoreError> {
    let dropped = drop_beyond(context, false, BOUND)?;
    if dropped > 0 {
        let before = list::dropped(context.connection, context.database)?;
        context
            .connection
            .prepare_cached(
                "INSERT OR REPLACE INTO conflict
                   (id, database, tbl, key, birth, kind, lasting, subject, detail, since_ms, decided)
                 VALUES ((SELECT id FROM conflict WHERE database = ?1 AND kind = ?2 AND tbl = 0),
                         ?1, 0, x'', x'', ?2, 1, x'', ?3, ?4, 1)",
            )?
            .execute(params![
                context.database.0,
                DROPPED,
                packed(&(before + dropped))?,
                context.now.0,
            ])?;
    }
    Ok(())
}

/// Drops the oldest beyond `bound`; returns how many.
fn drop_beyond(context: Context<'_>, decided: bool, bound: u64) -> Result<u64, StoreError> {
    let (connection, database) = (context.connection, context.database.0);
    // Numbers ascend: while they span less, there are not too many, and none is counted.
    let end = |order: &str| {
        connection
            .prepare_cached(&format!(
                "SELECT id FROM conflict WHERE database = ? AND lasting = 0 AND decided = ?
                 ORDER BY id {order} LIMIT 1"
            ))?
            .query_row(params![database, decided], |row| row.get::<_, i64>(0))
            .optional()
    };
    let (Some(first), Some(last)) = (end("ASC")?, end("DESC")?) else { return Ok(0) };
    if last.abs_diff(first) < bound {
        return Ok(0);
    }
    let oldest =
        "id IN (SELECT id FROM conflict WHERE database = ?1 AND lasting = 0 AND decided = ?2
         ORDER BY id LIMIT max(0, (SELECT count(*) FROM conflict
                                   WHERE database = ?1 AND lasting = 0 AND decided = ?2) - ?3))";
    let bound = params![database, decided, bound as i64];
    release(context, oldest, bound)?;
    let dropped = connection
        .prepare_cached(&format!("DELETE FROM conflict WHERE {oldest}"))?
        .execute(bound)?;
    Ok(dropped as u64)
}
