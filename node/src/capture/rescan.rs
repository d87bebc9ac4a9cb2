//! Comparing tables as a whole, where notes can't be trusted: slice by slice, each read in the
//! same snapshot as the notes before it and folded like them.
//!
//! A table takes two passes: its rows against their images (inserts, updates), then its images
//! against the rows (deletes). The second is left out where the table is new, or where a count
//! shows that no image lacks its row.

use super::error::CaptureError;
use super::fold::Folded;
use super::harvest::{Limits, Notes};
use super::images::{Captured, Images, PackedKey, Position};
use conflict::Value;
use protocol::schema::{RowIdentity, TableIndex};
use std::collections::VecDeque;

/// What to read next for a rescan.
#[derive(Clone, Debug)]
pub enum Work {
    /// A table's rows, from its first or behind this place.
    Rows {
        /// The table.
        table: TableIndex,
        /// The place: what [`Slice::Rows`] ended with.
        after: Option<Vec<Value>>,
    },
    /// How many rows a table has.
    Count {
        /// The table.
        table: TableIndex,
    },
    /// The rows that these images are of.
    Images {
        /// The table.
        table: TableIndex,
        /// Their keys.
        keys: Vec<(PackedKey, Vec<Value>)>,
    },
}

/// What was read for a rescan.
#[derive(Clone, Debug)]
pub enum Slice {
    /// Rows; the place where more may follow.
    Rows {
        /// The table.
        table: TableIndex,
        /// None at the table's end.
        end: Option<Vec<Value>>,
    },
    /// A count.
    Count {
        /// The table.
        table: TableIndex,
    },
    /// The rows of images, up to this one; None where there were none.
    Images {
        /// The table.
        table: TableIndex,
        /// The last one's key.
        end: Option<PackedKey>,
    },
}

/// A rescan under way. It lives in memory: after a restart the position still says that one is
/// due, and it begins anew, with nothing left to find in what it had done.
#[derive(Clone, Debug, Default)]
pub struct Rescan {
    tables: VecDeque<(TableIndex, Stage)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// The images were empty before: no second pass.
    Fresh(Option<Vec<Value>>),
    Rows(Option<Vec<Value>>),
    Count,
    Images(Option<PackedKey>),
}

impl Rescan {
    /// The first reading of tables that have no images yet.
    pub fn fresh(tables: impl IntoIterator<Item = TableIndex>) -> Self {
        Self { tables: tables.into_iter().map(|table| (table, Stage::Fresh(None))).collect() }
    }

    /// The comparison of tables.
    pub fn of(tables: impl IntoIterator<Item = TableIndex>) -> Self {
        Self { tables: tables.into_iter().map(|table| (table, Stage::Rows(None))).collect() }
    }

    /// The search for rows that vanished without a note.
    fn vanished(tables: impl IntoIterator<Item = TableIndex>) -> Self {
        Self { tables: tables.into_iter().map(|table| (table, Stage::Images(None))).collect() }
    }

    /// Adds what another one has left.
    pub fn extend(&mut self, other: Self) {
        self.tables.extend(other.tables);
    }

    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.tables.is_empty()
    }

    /// What to read next.
    ///
    /// # Errors
    /// The node's own database fails or is unreadable.
    pub fn next(
        &self,
        captured: &Captured,
        images: &Images<'_>,
        limits: Limits,
    ) -> Result<Option<Work>, CaptureError> {
        let Some((table, stage)) = self.tables.front() else { return Ok(None) };
        let table = *table;
        Ok(Some(match stage {
            Stage::Fresh(after) | Stage::Rows(after) => Work::Rows { table, after: after.clone() },
            Stage::Count => Work::Count { table },
            Stage::Images(after) => {
                Work::Images { table, keys: keys(captured, images, table, after, limits)? }
            }
        }))
    }

    /// Takes note of what was read and folded. The position to keep together with that: only it
    /// tells a restarted node that a rescan is due.
    pub fn advance(&mut self, notes: &Notes, folded: &Folded) -> Position {
        match &notes.slice {
            Some(slice) => self.advance_by(slice, folded),
            None => self.extend(Self::vanished(folded.miscounted.iter().copied())),
        }
        if self.is_done() { notes.position } else { notes.position.unsettled() }
    }

    fn advance_by(&mut self, slice: &Slice, folded: &Folded) {
        let Some((table, stage)) = self.tables.front_mut() else { return };
        let next = match (slice, &*stage) {
            (
                Slice::Rows { table: of, .. }
                | Slice::Count { table: of }
                | Slice::Images { table: of, .. },
                _,
            ) if of != table => return,
            (Slice::Rows { end: Some(end), .. }, Stage::Fresh(_)) => {
                Some(Stage::Fresh(Some(end.clone())))
            }
            (Slice::Rows { end: None, .. }, Stage::Fresh(_)) => None,
            (Slice::Rows { end: Some(end), .. }, _) => Some(Stage::Rows(Some(end.clone()))),
            (Slice::Rows { end: None, .. }, _) => Some(Stage::Count),
            (Slice::Count { .. }, _) => {
                folded.miscounted.contains(table).then_some(Stage::Images(None))
            }
            (Slice::Images { end, .. }, _) => end.clone().map(|end| Stage::Images(Some(end))),
        };
        match next {
            Some(next) => *stage = next,
            None => drop(self.tables.pop_front()),
        }
    }
}

/// The keys of the next images, as values.
fn keys(
    captured: &Captured,
    images: &Images<'_>,
    index: TableIndex,
    after: &Option<PackedKey>,
    limits: Limits,
) -> Result<Vec<(PackedKey, Vec<Value>)>, CaptureError> {
    let (Some(table), Some(number)) = (captured.schema.table(index), captured.number(index)) else {
        return Ok(Vec::new());
    };
    let rows = images.after(number, after.as_ref(), limits.rows)?;
    rows.into_iter()
        .map(|(packed, row)| {
            let key = match &table.identity {
                RowIdentity::Key(key) => {
                    key.iter().filter_map(|column| row.get(column.0 as usize)).cloned().collect()
                }
                RowIdentity::Rowid(_) => super::images::unpack(packed.as_bytes())?,
            };
            Ok((packed, key))
        })
        .collect()
}
