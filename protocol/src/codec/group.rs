//! The rows of a body that have one shape, written column by column.
//!
//! ```text
//! group   = form, table, columns, rows, [extras,] value, value, …
//! form    = kind + 4 where extras follow + 8 * (identity width - 1)
//! kind    = 0 insert | 1 update | 2 delete | 3 forget
//! columns = how many (insert) | nil or [column, …] (update) | nil (delete, forget)
//! ```
//!
//! `rows` values of the first key column, then of the second, then those of the other columns:
//! of all of them in their order (insert), or of the listed ones (update). Groups stand one after
//! the other in the array that is the body.

use super::column::{Reader, Writer};
use super::extras::{Extras, ExtrasSeed, Read, Sites};
use super::read::{Budget, List, next, next_plain};
use super::{EncodeError, some};
use crate::change::{Assignment, Operation, RowChange};
use crate::limits::{self, Limits};
use crate::schema::{ColumnIndex, TableIndex};
use conflict::{Rule, Value};
use serde::de::{Error, SeqAccess};
use serde::ser::SerializeSeq;
use std::collections::HashMap;

/// The kind of a group whose rows are inserted.
pub const INSERT: u32 = 0;
/// The kind of a group whose rows are updated.
pub const UPDATE: u32 = 1;
/// The kind of a group whose rows are deleted.
pub const DELETE: u32 = 2;
/// The kind of a group whose rows are forgotten.
pub const FORGET: u32 = 3;

/// Set in a group's form if it has extras.
pub const EXTRAS: u32 = 4;
/// What each key column after the first adds to a group's form.
pub const KEY_COLUMN: u32 = 8;

/// What the rows of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    table: TableIndex,
    width: usize,
    columns: Columns,
    pub(crate) adds: Vec<ColumnIndex>,
    pub(crate) references: Vec<ColumnIndex>,
    pub(crate) rules: Vec<(ColumnIndex, Rule)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Columns {
    /// An insert's: all outside the key.
    All(usize),
    /// An update's.
    These(Vec<ColumnIndex>),
    /// A delete's.
    None,
    /// That of a row that is forgotten: none either.
    Forgotten,
}

impl Columns {
    fn count(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::These(columns) => columns.len(),
            Self::None | Self::Forgotten => 0,
        }
    }
}

impl Shape {
    fn of(row: &RowChange) -> Result<Self, EncodeError> {
        let mut adds = Vec::new();
        let columns = match &row.operation {
            Operation::Insert(values) => Columns::All(values.len()),
            Operation::Update(columns) => {
                let added = columns.iter().filter(|(_, a)| matches!(a, Assignment::Add(_)));
                adds = added.map(|(column, _)| *column).collect();
                Columns::These(columns.iter().map(|(column, _)| *column).collect())
            }
            Operation::Delete => Columns::None,
            Operation::Forget => Columns::Forgotten,
        };
        let shape = Self {
            table: row.table,
            width: row.key.len(),
            columns,
            adds,
            references: row.references.iter().map(|(column, _)| *column).collect(),
            rules: row.rules.clone(),
        };
        shape.check().map_err(EncodeError::Shape)?;
        Ok(shape)
    }

    /// Whether `row` has this shape; quicker than making its own.
    fn fits(&self, row: &RowChange) -> bool {
        self.table == row.table
            && self.width == row.key.len()
            && self.references.iter().eq(row.references.iter().map(|(column, _)| column))
            && self.rules == row.rules
            && match (&self.columns, &row.operation) {
                (Columns::All(count), Operation::Insert(values)) => *count == values.len(),
                (Columns::These(columns), Operation::Update(updated)) => {
                    let added = updated.iter().filter(|(_, a)| matches!(a, Assignment::Add(_)));
                    columns.iter().eq(updated.iter().map(|(column, _)| column))
                        && self.adds.iter().eq(added.map(|(column, _)| column))
                }
                (Columns::None, Operation::Delete) | (Columns::Forgotten, Operation::Forget) => {
                    true
                }
                _ => false,
            }
    }

    fn check(&self) -> Result<(), &'static str> {
        let ascending = |columns: &[ColumnIndex]| columns.is_sorted_by(|a, b| a < b);
        if self.width == 0 {
            return Err("a row without identity");
        }
        if self.width > limits::COLUMNS || self.columns.count() > limits::COLUMNS {
            return Err("more columns than a table can have");
        }
        let updated: &[ColumnIndex] = match &self.columns {
            Columns::These(columns) => columns,
            _ => &[],
        };
        let rules: Vec<_> = self.rules.iter().map(|(column, _)| *column).collect();
        if ![updated, &self.adds, &self.references, &rules].into_iter().all(ascending) {
            return Err("columns that are not in ascending order");
        }
        if !self.adds.iter().all(|column| updated.binary_search(column).is_ok()) {
            return Err("an add to a column that is not updated");
        }
        Ok(())
    }
}

impl RowChange {
    /// How much of [`limits::VALUES`] the change takes at most: its values, and what it carries
    /// beside them.
    pub fn weight(&self) -> usize {
        let columns = match &self.operation {
            Operation::Insert(values) => values.len(),
            // The values, and once a group the list of columns and that of adds.
            Operation::Update(columns) => 3 * columns.len(),
            Operation::Delete | Operation::Forget => 0,
        };
        let stamp_and_birth = 2;
        self.key.len() + columns + stamp_and_birth + self.references.len() + 2 * self.rules.len()
    }
}

/// The changes by shape, shapes in order of appearance, rows in their order.
pub(crate) fn gather(changes: &[RowChange]) -> Result<Vec<(Shape, Vec<&RowChange>)>, EncodeError> {
    let mut places: HashMap<Shape, usize> = HashMap::new();
    let mut groups: Vec<(Shape, Vec<&RowChange>)> = Vec::new();
    let mut last = 0;
    for row in changes {
        if let Some((shape, rows)) = groups.get_mut(last)
            && shape.fits(row)
        {
            rows.push(row);
            continue;
        }
        let shape = Shape::of(row)?;
        last = *places.entry(shape.clone()).or_insert(groups.len());
        match groups.get_mut(last) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((shape, vec![row])),
        }
    }
    Ok(groups)
}

/// A group about to be written.
pub(crate) struct Group<'a> {
    shape: Shape,
    rows: Vec<&'a RowChange>,
    extras: Option<Extras>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(
        shape: Shape,
        rows: Vec<&'a RowChange>,
        sites: &mut Sites,
    ) -> Result<Self, EncodeError> {
        let extras = Extras::new(&shape, &rows, sites)?;
        Ok(Self { shape, rows, extras })
    }

    fn column<S: SerializeSeq>(
        &self,
        seq: &mut S,
        value: impl Fn(&'a RowChange) -> Option<&'a Value>,
    ) -> Result<(), S::Error> {
        let values = || self.rows.iter().filter_map(|row| value(row));
        let mut writer = Writer::new(values());
        values().try_for_each(|value| seq.serialize_element(&writer.cell(value)))
    }
}

/// The value of the `place`th column outside the key that a change carries.
fn carried(row: &RowChange, place: usize) -> Option<&Value> {
    match &row.operation {
        Operation::Insert(values) => values.get(place),
        Operation::Update(columns) => match columns.get(place)? {
            (_, Assignment::Set(value) | Assignment::Add(value)) => Some(value),
        },
        Operation::Delete | Operation::Forget => None,
    }
}

impl Group<'_> {
    /// How many elements [`Group::write`] writes.
    pub(crate) fn elements(&self) -> usize {
        let cells = self.rows.len() * (self.shape.width + self.shape.columns.count());
        4 + usize::from(self.extras.is_some()) + cells
    }

    pub(crate) fn write<S: SerializeSeq>(&self, seq: &mut S) -> Result<(), S::Error> {
        let Shape { table, width, columns, .. } = &self.shape;
        let kind = match columns {
            Columns::All(_) => INSERT,
            Columns::These(_) => UPDATE,
            Columns::None => DELETE,
            Columns::Forgotten => FORGET,
        };
        let extras = if self.extras.is_some() { EXTRAS } else { 0 };
        seq.serialize_element(&(kind + extras + KEY_COLUMN * (*width as u32 - 1)))?;
        seq.serialize_element(table)?;
        match columns {
            Columns::All(count) => seq.serialize_element(count)?,
            Columns::These(columns) => seq.serialize_element(&some(columns))?,
            Columns::None | Columns::Forgotten => seq.serialize_element(&())?,
        }
        seq.serialize_element(&self.rows.len())?;
        if let Some(extras) = &self.extras {
            seq.serialize_element(extras)?;
        }
        for place in 0..*width {
            self.column(seq, |row| row.key.get(place))?;
        }
        for place in 0..columns.count() {
            self.column(seq, |row| carried(row, place))?;
        }
        Ok(())
    }
}

/// What the groups of a body are read with.
pub(crate) struct Context<'a> {
    pub(crate) sites: &'a Sites,
    pub(crate) limits: &'a Limits,
    pub(crate) budget: &'a Budget,
    /// For what stands once a group on the wire and once a row in memory.
    pub(crate) copies: &'a Budget,
}

impl Context<'_> {
    /// Reads a group, and appends its rows to `changes`.
    pub(crate) fn read<'de, A: SeqAccess<'de>>(
        &self,
        seq: &mut A,
        changes: &mut Vec<RowChange>,
    ) -> Result<(), A::Error> {
        let Self { sites, limits, budget, copies } = *self;
        let form: u32 = next_plain(seq)?;
        let table = next_plain(seq)?;
        let width = (form / KEY_COLUMN) as usize + 1;
        let columns = match form & 3 {
            INSERT => Columns::All(next_plain(seq)?),
            UPDATE => Columns::These(next(seq, List::new(budget, limits::COLUMNS))?),
            DELETE => {
                next_plain::<_, ()>(seq)?;
                Columns::None
            }
            // Two bits: this is the last one, FORGET.
            _ => {
                next_plain::<_, ()>(seq)?;
                Columns::Forgotten
            }
        };
        let rows: usize = next_plain(seq)?;
        if rows == 0 || rows > limits.changes.saturating_sub(changes.len()) {
            return Err(A::Error::custom("a group of no rows, or more changes than allowed"));
        }
        let extras = match form & EXTRAS {
            0 => Read::default(),
            _ => next(seq, ExtrasSeed { rows, sites, budget })?,
        };
        let Read { stamps, births, references, rules, adds } = extras;
        let shape = Shape {
            table,
            width,
            columns,
            adds,
            references: references.iter().map(|(column, _)| *column).collect(),
            rules,
        };
        shape.check().map_err(A::Error::custom)?;
        // Each value takes at least a byte: what is claimed here can be there.
        let cells = rows.saturating_mul(width + shape.columns.count());
        budget.take(cells)?;
        copies.take(rows.saturating_mul(shape.rules.len()))?;
        if seq.size_hint().is_none_or(|left| left < cells) {
            return Err(A::Error::custom("fewer values than rows times columns"));
        }
        let keys = read_columns(seq, rows, width)?;
        let values = read_columns(seq, rows, shape.columns.count())?;
        for (place, (key, values)) in keys.into_iter().zip(values).enumerate() {
            let at = |(column, versions): &(ColumnIndex, Vec<_>)| {
                versions.get(place).map(|version| (*column, *version))
            };
            changes.push(RowChange {
                table,
                key,
                operation: operation(&shape, values),
                stamp: stamps.get(place).copied().flatten(),
                birth: births.get(place).copied().flatten(),
                references: references.iter().filter_map(at).collect(),
                rules: shape.rules.clone(),
            });
        }
        Ok(())
    }
}

/// Reads `count` columns of `rows` values each: the values by row.
fn read_columns<'de, A: SeqAccess<'de>>(
    seq: &mut A,
    rows: usize,
    count: usize,
) -> Result<Vec<Vec<Value>>, A::Error> {
    let mut lists: Vec<_> = (0..rows).map(|_| Vec::with_capacity(count)).collect();
    for _ in 0..count {
        let mut reader = Reader::default();
        for list in &mut lists {
            list.push(next(seq, &mut reader)?);
        }
    }
    Ok(lists)
}

fn operation(shape: &Shape, values: Vec<Value>) -> Operation {
    match &shape.columns {
        Columns::All(_) => Operation::Insert(values),
        Columns::These(columns) => Operation::Update(
            columns
                .iter()
                .zip(values)
                .map(|(column, value)| match shape.adds.binary_search(column) {
                    Ok(_) => (*column, Assignment::Add(value)),
                    Err(_) => (*column, Assignment::Set(value)),
                })
                .collect(),
        ),
        Columns::None => Operation::Delete,
        Columns::Forgotten => Operation::Forget,
    }
}
