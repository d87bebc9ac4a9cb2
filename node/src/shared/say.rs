//! What this site says of a row: merged into the [`Book`], and put into the batch as others will
//! read it.

use super::book::Book;
use super::local::LocalTable;
use super::own::{Own, Stamp};
use super::{DeskError, MergedId};
use conflict::row::{Assignment, Change, Column, Lost};
use conflict::{Rule, Value, Version};
use protocol::change::{Assignment as Assigned, Operation, RowChange};
use protocol::schema::{ColumnIndex, TableIndex};

/// What is said of a row.
#[derive(Debug)]
pub(super) enum Meaning {
    /// It is gone.
    Gone,
    /// It begins, or begins again: all columns that travel.
    Whole(Vec<Edit>),
    /// Some columns; none says nothing.
    Edited(Vec<Edit>),
}

/// What became of a column.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    /// Its place in the row.
    pub place: usize,
    /// Its number.
    pub column: Column,
    /// What became of it.
    pub assignment: Assignment,
}

/// The row that a column refers to, where that row's key may mean several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parent {
    /// The column's place.
    pub place: usize,
    /// Its number.
    pub column: Column,
    /// The birth of the row that it refers to.
    pub birth: Version,
}

/// Of which row something is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Its table's number in the batch.
    pub index: TableIndex,
    /// Its table.
    pub table: &'a LocalTable,
    /// The row.
    pub id: &'a MergedId,
    /// The values of its key.
    pub key: &'a [Value],
}

impl Meaning {
    /// The columns.
    pub fn edits(&self) -> &[Edit] {
        match self {
            Self::Gone => &[],
            Self::Whole(edits) | Self::Edited(edits) => edits,
        }
    }
}

impl Stamp {
    /// What a change is stamped with of a row that holds nothing greater than this.
    pub(crate) fn above(self, greatest: Option<Version>) -> Result<Version, DeskError> {
        let stamp = Version { timestamp: self.timestamp, origin: self.site };
        Ok(match greatest {
            // Old content that was found by comparing must not beat newer edits.
            Some(greatest) if self.compared || stamp <= greatest => {
                let above = greatest.timestamp.successor().map_err(|_| DeskError::Exhausted)?;
                Version { timestamp: above, origin: self.site }
            }
            _ => stamp,
        })
    }
}

impl Book<'_> {
    /// Merges what is said and adds it to the batch; what lost by it.
    pub(super) fn say(
        &self,
        row: Row<'_>,
        meaning: Meaning,
        parents: &[Parent],
        stamp: Stamp,
        own: &mut Own,
    ) -> Result<Vec<Lost>, DeskError> {
        let change = match &meaning {
            Meaning::Edited(edits) if edits.is_empty() => return Ok(Vec::new()),
            Meaning::Gone => Change::Delete,
            Meaning::Whole(edits) => Change::Insert(edits.iter().filter_map(set_of).collect()),
            Meaning::Edited(edits) => Change::Update(
                edits.iter().map(|edit| (edit.column, edit.assignment.clone())).collect(),
            ),
        };
        let version = stamp.above(self.now(row.id)?.and_then(|stored| stored.state.greatest()))?;
        let births: Vec<_> = parents.iter().map(|parent| (parent.column, parent.birth)).collect();
        let lost = self.merge(row.id, version, &change, &births)?;
        let edits = meaning.edits();
        let references = parents.iter().map(|parent| (index(parent.place), parent.birth));
        own.folded.changes.push(RowChange {
            table: row.index,
            key: row.key.to_vec(),
            operation: match &meaning {
                Meaning::Gone => Operation::Delete,
                Meaning::Whole(edits) => Operation::Insert(others(row.table, edits)),
                Meaning::Edited(edits) => Operation::Update(edits.iter().map(assigned).collect()),
            },
            stamp: (version.timestamp != stamp.timestamp).then_some(version.timestamp),
            birth: row.id.birth()?,
            references: references.collect(),
            rules: edits.iter().filter_map(rule).collect(),
        });
        Ok(lost)
    }
}

fn index(place: usize) -> ColumnIndex {
    ColumnIndex(place as u32)
}

fn set_of(edit: &Edit) -> Option<(Column, Value, Rule)> {
    match &edit.assignment {
        Assignment::Set(value, rule) => Some((edit.column, value.clone(), *rule)),
        Assignment::Add(_) => None,
    }
}

fn assigned(edit: &Edit) -> (ColumnIndex, Assigned) {
    let assigned = match &edit.assignment {
        Assignment::Set(value, _) => Assigned::Set(value.clone()),
        Assignment::Add(value) => Assigned::Add(value.clone()),
    };
    (index(edit.place), assigned)
}

fn rule(edit: &Edit) -> Option<(ColumnIndex, Rule)> {
    match &edit.assignment {
        Assignment::Set(_, rule) if *rule != Rule::LastWriter => Some((index(edit.place), *rule)),
        _ => None,
    }
}

/// The columns beside the key as an insert carries them. What stays here travels as NULL.
fn others(table: &LocalTable, edits: &[Edit]) -> Vec<Value> {
    let of = |place: usize| {
        let edit = edits.iter().find(|edit| edit.place == place);
        match edit.map(|edit| &edit.assignment) {
            Some(Assignment::Set(value, _)) => value.clone(),
            _ => Value::Null,
        }
    };
    let columns = table.columns.iter().enumerate();
    columns.filter(|(_, column)| !column.in_key).map(|(place, _)| of(place)).collect()
}
