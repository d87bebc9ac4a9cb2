//! A row's state on disk, small: rows are many, and most were inserted once.
//!
//! Not the bytes: [`PackedRow`] is written with serde, by position, as rmp-serde's `to_vec` does.
//! A row that was only inserted costs, beside its values, one stamp and about eight bytes.
//!
//! ```text
//! row      = common , rule , runs , values , rest     common nil if nothing is known
//! common   = timestamp , origin                       the version that most plain cells have
//! runs     = column , count , column , count , …      of plain cells: of one set and nothing else
//! values   = one for each plain cell
//! rest     = nil: the only insert is the common version, and so is every plain cell
//!          | inserts , deleted , compacted , others , cells
//! others   = list of ( position among the plain cells , stamp , rule )
//! cells    = list of ( column , sets , adds , unset )
//! sets     = list of ( stamp , value , rule , sum )
//! adds     = list of ( stamp , amount )
//! stamp    = timestamp less the common one's , origin
//! ```

use super::cell::{Cell, Set};
use super::sum::Sum;
use super::{Column, RowState};
use crate::{Rule, SiteId, Timestamp, Value, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// A row's state in a form to be written, with sites as numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedRow {
    common: Option<(Timestamp, u32)>,
    rule: Rule,
    runs: Vec<u32>,
    values: Vec<Value>,
    rest: Option<Rest>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rest {
    inserts: Vec<Stamp>,
    deleted: Option<Stamp>,
    compacted: Option<Stamp>,
    others: Vec<(u32, Stamp, Rule)>,
    cells: Vec<PackedCell>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Stamp(i64, u32);

type PackedSet = (Stamp, Value, Rule, Option<Value>);
type PackedCell = (Column, Vec<PackedSet>, Vec<(Stamp, Value)>, Option<Value>);

/// Why a packed row is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnpackError {
    /// A number that no site has.
    #[error("a row names site number {0}, which is not known")]
    Site(u32),
    /// A timestamp outside the format.
    #[error("a row has a stamp outside the format")]
    Stamp,
    /// Columns and values do not match, or columns stand twice or out of order.
    #[error("a row's columns do not match its values")]
    Columns,
    /// The sets, adds or inserts stand twice or out of order.
    #[error("a row's changes are out of order")]
    Order,
    /// A sum that is no number.
    #[error("a row has a sum that is no number")]
    Sum,
}

impl RowState {
    /// The state in a form to be written. `number` gives each site a number, the same every time.
    pub fn pack(&self, number: &mut impl FnMut(SiteId) -> u32) -> PackedRow {
        let Some((common, rule)) = self.common() else {
            let (runs, values) = (Vec::new(), Vec::new());
            return PackedRow { common: None, rule: Rule::default(), runs, values, rest: None };
        };
        let mut stamp = |version: Version| {
            // Timestamps lie below 2^63.
            let (this, common) = (version.timestamp.as_u64(), common.timestamp.as_u64());
            Stamp(this.wrapping_sub(common).cast_signed(), number(version.origin))
        };
        let mut rest = Rest {
            inserts: self.inserts.iter().map(|version| stamp(*version)).collect(),
            deleted: self.deleted.map(&mut stamp),
            compacted: self.compacted.map(&mut stamp),
            ..Rest::default()
        };
        let (mut runs, mut values) = (Vec::new(), Vec::new());
        for (column, cell) in &self.cells {
            if let Some((version, set)) = plain(cell) {
                if (*version, set.rule) != (common, rule) {
                    rest.others.push((values.len() as u32, stamp(*version), set.rule));
                }
                values.push(set.value.clone());
                extend(&mut runs, *column);
            } else {
                rest.cells.push(pack_cell(*column, cell, &mut stamp));
            }
        }
        let zero = stamp(common);
        let simple = Rest { inserts: vec![zero], ..Rest::default() };
        let rest = (rest != simple).then_some(rest);
        PackedRow { common: Some((common.timestamp, zero.1)), rule, runs, values, rest }
    }

    /// Reads a state. `site` gives back the sites that [`RowState::pack`] had numbered. Whatever
    /// the packed row holds, this ends in a state or in an error.
    ///
    /// # Errors
    /// The packed row is not one that [`RowState::pack`] gave, as far as that can be seen.
    pub fn unpack(
        packed: &PackedRow,
        site: &impl Fn(u32) -> Option<SiteId>,
    ) -> Result<Self, UnpackError> {
        let Some((timestamp, origin)) = packed.common else {
            let empty = packed.runs.is_empty() && packed.values.is_empty() && packed.rest.is_none();
            return if empty { Ok(Self::new()) } else { Err(UnpackError::Stamp) };
        };
        let site = |number| site(number).ok_or(UnpackError::Site(number));
        let common = Version { timestamp, origin: site(origin)? };
        let version = |stamp: Stamp| {
            let timestamp = timestamp.as_u64().wrapping_add_signed(stamp.0);
            let timestamp = Timestamp::try_from(timestamp).map_err(|_| UnpackError::Stamp)?;
            Ok(Version { timestamp, origin: site(stamp.1)? })
        };
        let mut state = Self::new();
        let mut others: &[_] = &[];
        if let Some(rest) = &packed.rest {
            let inserts: Vec<_> = collect(&rest.inserts, |stamp| version(*stamp))?;
            if !inserts.is_sorted_by(|a, b| a < b) {
                return Err(UnpackError::Order);
            }
            state.inserts.extend(inserts);
            state.compacted = rest.compacted.map(version).transpose()?;
            state.delete(rest.deleted.map(version).transpose()?);
            if !rest.cells.is_sorted_by(|a, b| a.0 < b.0) {
                return Err(UnpackError::Columns);
            }
            for cell in &rest.cells {
                state.cells.insert(cell.0, unpack_cell(cell, &version)?);
            }
            others = &rest.others;
        } else {
            state.inserts.insert(common);
        }
        let columns = columns(&packed.runs, packed.values.len())?;
        for (position, (column, value)) in columns.into_iter().zip(&packed.values).enumerate() {
            let (mut stamp, mut rule) = (common, packed.rule);
            if let Some(((at, other, label), later)) = others.split_first()
                && *at as usize == position
            {
                (stamp, rule) = (version(*other)?, *label);
                others = later;
            }
            let cell = state.cells.entry(column).or_default();
            if cell.latest().is_some() || !cell.adds().is_empty() {
                return Err(UnpackError::Columns);
            }
            cell.set(stamp, value.clone(), rule);
        }
        if others.is_empty() { Ok(state) } else { Err(UnpackError::Columns) }
    }

    /// The version and rule that most plain cells have; without such, anything that is known.
    fn common(&self) -> Option<(Version, Rule)> {
        let mut counts = BTreeMap::<_, usize>::new();
        for (version, set) in self.cells.values().filter_map(plain) {
            *counts.entry((*version, set.rule)).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(common, _)| common);
        most.or_else(|| self.greatest().map(|version| (version, Rule::default())))
    }
}

/// The set of a cell that has nothing else.
fn plain(cell: &Cell) -> Option<&(Version, Set)> {
    match cell.sets() {
        [set] if set.1.sum.is_none() && cell.adds().is_empty() => Some(set),
        _ => None,
    }
}

/// Adds a column to runs of neighbours.
fn extend(runs: &mut Vec<u32>, column: Column) {
    if let [.., first, count] = runs.as_mut_slice()
        && first.checked_add(*count) == Some(column.0)
    {
        *count += 1;
    } else {
        runs.extend([column.0, 1]);
    }
}

/// The columns of runs, ascending, `expected` of them.
fn columns(runs: &[u32], expected: usize) -> Result<Vec<Column>, UnpackError> {
    let (runs, odd) = runs.as_chunks::<2>();
    let count: u64 = runs.iter().map(|[_, count]| u64::from(*count)).sum();
    if !odd.is_empty() || count != expected as u64 {
        return Err(UnpackError::Columns);
    }
    let mut columns = Vec::with_capacity(expected);
    for [first, count] in runs {
        let end = first.checked_add(*count).ok_or(UnpackError::Columns)?;
        columns.extend((*first..end).map(Column));
    }
    if columns.is_sorted_by(|a, b| a < b) { Ok(columns) } else { Err(UnpackError::Columns) }
}

fn pack_cell(column: Column, cell: &Cell, stamp: &mut impl FnMut(Version) -> Stamp) -> PackedCell {
    let mut sets = Vec::with_capacity(cell.sets().len());
    for (version, set) in cell.sets() {
        sets.push((stamp(*version), set.value.clone(), set.rule, set.sum.map(Sum::packed)));
    }
    let adds = cell.adds().iter().map(|(version, amount)| (stamp(*version), amount.clone()));
    (column, sets, adds.collect(), cell.unset().map(Sum::packed))
}

fn unpack_cell(
    (_, sets, adds, unset): &PackedCell,
    version: &impl Fn(Stamp) -> Result<Version, UnpackError>,
) -> Result<Cell, UnpackError> {
    let sum = |sum: &Option<Value>| {
        sum.as_ref().map(|sum| Sum::unpacked(sum).ok_or(UnpackError::Sum)).transpose()
    };
    let sets = collect(sets, |(stamp, value, rule, folded)| {
        Ok((version(*stamp)?, Set { value: value.clone(), rule: *rule, sum: sum(folded)? }))
    })?;
    let adds = collect(adds, |(stamp, amount)| Ok((version(*stamp)?, amount.clone())))?;
    Cell::restore(sets, adds, sum(unset)?).ok_or(UnpackError::Order)
}

fn collect<T, U>(
    items: &[T],
    read: impl Fn(&T) -> Result<U, UnpackError>,
) -> Result<Vec<U>, UnpackError> {
    items.iter().map(read).collect()
}
