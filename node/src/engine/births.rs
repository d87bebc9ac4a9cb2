//! The births of the rows that a shared database begins with.

use super::EngineError;
use crate::shared::{Desk, Policy};
use conflict::visible::Table as Place;
use conflict::{Value, Version};
use protocol::change::{Operation, RowChange};
use protocol::schema::{ColumnIndex, Schema, Table};
use std::collections::BTreeMap;

/// The rows that a shared database begins with, where one key may mean several: all were born at
/// one moment.
pub(super) struct Births {
    birth: Version,
    /// By table, whether one key may mean several rows.
    collide: Vec<bool>,
    /// By table, the columns that refer to such a table.
    references: Vec<Vec<ColumnIndex>>,
}

impl Births {
    /// Those of a schema's tables.
    pub(super) fn new(schema: &Schema, birth: Version) -> Result<Self, EngineError> {
        let policy = Policy::default();
        let desk = Desk::new(schema, BTreeMap::new())?;
        let mut collide = Vec::new();
        for (at, table) in schema.tables.iter().enumerate() {
            let handed_out = desk.hands_out_keys(Place(at as u32))?;
            collide.push(handed_out && policy.collides(&table.name, true));
        }
        let refers = |at: usize, column: usize| {
            let parent = desk.sole_parent(Place(at as u32), column);
            parent.is_some_and(|parent| collide.get(parent) == Some(&true))
        };
        let references = (schema.tables.iter().enumerate())
            .map(|(at, table)| {
                let columns = 0..table.columns.len();
                let refer = columns.filter(|column| refers(at, *column));
                refer.map(|column| ColumnIndex(column as u32)).collect()
            })
            .collect();
        Ok(Self { birth, collide, references })
    }

    /// A row of the base with its birth, and those of the rows that it refers to.
    pub(super) fn of(&self, change: RowChange, table: &Table) -> RowChange {
        let at = change.table.0 as usize;
        let collides = self.collide.get(at) == Some(&true);
        let Operation::Insert(values) = &change.operation else { return change };
        let columns = self.references.get(at).map(Vec::as_slice).unwrap_or_default();
        let refers = |column: &ColumnIndex| {
            let place = table.other_columns().position(|other| other == *column);
            place.and_then(|place| values.get(place)).is_some_and(|value| *value != Value::Null)
        };
        let references =
            columns.iter().filter(|column| refers(column)).map(|column| (*column, self.birth));
        let references = references.collect();
        RowChange { birth: collides.then_some(self.birth), references, ..change }
    }

    /// When they were born.
    pub(super) fn birth(&self) -> Version {
        self.birth
    }

    /// The numbers of the tables in which one key may mean several rows.
    pub(super) fn tables(&self, numbers: &[i64]) -> impl Iterator<Item = i64> {
        let tables = self.collide.iter().zip(numbers).filter(|(collides, _)| **collides);
        tables.map(|(_, number)| *number)
    }
}
