//! What the application beside this node did, as changes that say what it meant: notes compared
//! with images, marks recognised, counters as amounts, births given out. Settling and numbering
//! come after.

use super::book::{Book, Stored};
use super::intent::is_unwritten;
use super::local::{LocalColumn, LocalTable};
use super::say::{Edit, Meaning, Parent, Row};
use super::{DeskError, MergedId, pack_version, unpack_version};
use crate::capture::{Captured, Folded, Image, Images, NotedRow, Notes, PackedKey, pack, unpack};
use conflict::row::{Assignment, Loser, Lost, Reason};
use conflict::visible::{Outcome, Shown, Table as Place};
use conflict::{Rule, SiteId, Timestamp, Value, Version};
use protocol::schema::TableIndex;

/// What the application did, merged.
#[derive(Debug, Default)]
pub struct Own {
    /// What changed, and which tables were miscounted.
    pub folded: Folded,
    /// What lost by it, by row.
    pub lost: Vec<(MergedId, Vec<Lost>)>,
    /// What it undid that the application did, by row: rows of the table only ever come.
    pub refused: Vec<(MergedId, Vec<Lost>)>,
}

/// Who made the changes, and when.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The batch's.
    pub timestamp: Timestamp,
    /// This site.
    pub site: SiteId,
    /// Whether it is not known when the row changed: it was found to differ, by no note.
    pub compared: bool,
}

/// One row that the application touched.
struct Touched<'n> {
    index: TableIndex,
    key: &'n PackedKey,
    noted: &'n NotedRow,
    image: Option<Image>,
}

impl Book<'_> {
    /// Compares what was read with the images, brings those up to date, and merges what the
    /// application meant.
    ///
    /// # Errors
    /// What is stored is damaged, or can't be read or written.
    pub fn take_own(
        &self,
        notes: &Notes,
        captured: &Captured,
        stamp: Stamp,
    ) -> Result<Own, DeskError> {
        let images = Images::new(self.connection, self.database);
        let mut own = Own::default();
        let mut touched = Vec::new();
        for ((index, key), noted) in &notes.rows {
            let Some(number) = captured.number(*index) else { continue };
            let image = images.get(number, key)?;
            match (&noted.row, &image) {
                (None, None) => continue,
                (Some(row), Some(image)) if pack(row) == image.row => continue,
                _ => touched.push(Touched { index: *index, key, noted, image }),
            }
        }
        // Rows that begin first: others of this batch may refer to them.
        for row in &touched {
            self.begin(row, captured, &images, stamp)?;
        }
        for row in touched {
            self.take_row(row, captured, &images, stamp, &mut own)?;
        }
        for (index, rows) in &notes.counts {
            if let Some(number) = captured.number(*index)
                && images.count(number)? != *rows
            {
                own.folded.miscounted.push(*index);
            }
        }
        Ok(own)
    }

    /// The image of a row as it stands in the application's table now.
    fn begin(
        &self,
        row: &Touched<'_>,
        captured: &Captured,
        images: &Images<'_>,
        stamp: Stamp,
    ) -> Result<(), DeskError> {
        let Some(number) = captured.number(row.index) else { return Ok(()) };
        let Some(values) = &row.noted.row else { return Ok(images.delete(number, row.key)?) };
        let place = Place(row.index.0);
        let table = self.local.table(place)?;
        let key = table.key_of(values);
        let birth = match &row.image {
            Some(image) if table.key_of(&unpack(&image.row)?) == key => image.birth.clone(),
            // The same key to SQLite, in other bits: a row of its own.
            _ => self.birth_of(table, values, stamp)?,
        };
        Ok(images.put_shared(number, row.key, &birth, &pack(values))?)
    }

    /// Which row an insert is: one of this key that is remembered, or a new one.
    fn birth_of(
        &self,
        table: &LocalTable,
        values: &[Value],
        stamp: Stamp,
    ) -> Result<Vec<u8>, DeskError> {
        if !table.bears {
            return Ok(Vec::new());
        }
        let key = table.key_of(values);
        // Where two rows of a key are one, a new one has no birth to tell it by.
        let new = match table.collides {
            true => pack_version(Version { timestamp: stamp.timestamp, origin: stamp.site }),
            false => Vec::new(),
        };
        let mut found: Option<(Option<Version>, MergedId)> = None;
        for id in self.births(table.number, &pack(&key))? {
            let Some(stored) = self.now(&id)? else { continue };
            let shown = match self.local.row_id(&id)? {
                Some(row) => self.shown(&row, &stored)?,
                None => None,
            };
            if let Some(shown) = shown {
                // A row that the application could not see yet is another one, unless both are
                // the same to the last value.
                let another = table.collides
                    && shown != values
                    && is_unwritten(self.connection, self.database, &id)?;
                return Ok(if another { new } else { id.birth });
            }
            // The one that was deleted last goes on.
            if !stored.state.is_live()
                && found.as_ref().is_none_or(|(last, _)| *last < stored.state.deleted())
            {
                found = Some((stored.state.deleted(), id));
            }
        }
        Ok(found.map_or(new, |(_, id)| id.birth))
    }

    fn take_row(
        &self,
        row: Touched<'_>,
        captured: &Captured,
        images: &Images<'_>,
        stamp: Stamp,
        own: &mut Own,
    ) -> Result<(), DeskError> {
        let place = Place(row.index.0);
        let table = self.local.table(place)?;
        if table.stays {
            return Ok(());
        }
        let before = match &row.image {
            None => None,
            Some(image) => {
                let values = unpack(&image.row)?;
                let key = table.key_of(&values);
                let id =
                    MergedId { table: table.number, key: pack(&key), birth: image.birth.clone() };
                Some((id, key, values))
            }
        };
        let after = match &row.noted.row {
            None => None,
            Some(values) => {
                let number = captured.number(row.index).unwrap_or_default();
                let birth = images.get(number, row.key)?.map(|image| image.birth);
                let key = table.key_of(values);
                let id = MergedId {
                    table: table.number,
                    key: pack(&key),
                    birth: birth.unwrap_or_default(),
                };
                Some((id, key, values))
            }
        };
        let seen = before.as_ref().map(|(_, _, values)| values.clone()).unwrap_or_default();
        let stamp = Stamp { compared: stamp.compared || !row.noted.noted, ..stamp };
        let noted = row.noted.noted;
        let emit =
            Emit { book: self, index: row.index, table, images, captured, stamp, seen, noted };
        if let Some((id, key, _)) = &before
            && after.as_ref().is_none_or(|(now, _, _)| now != id)
        {
            emit.change(id, key, Meaning::Gone, own)?;
        }
        if let Some((id, key, values)) = &after {
            let shown = before.filter(|(was, _, _)| was == id).map(|(_, _, values)| values);
            let meaning = emit.meaning(id, row.key, shown.as_deref(), values)?;
            emit.change(id, key, meaning, own)?;
        }
        Ok(())
    }
}

/// Makes changes of one row's meanings.
struct Emit<'a, 'b> {
    book: &'a Book<'b>,
    index: TableIndex,
    table: &'a LocalTable,
    images: &'a Images<'b>,
    captured: &'a Captured,
    stamp: Stamp,
    /// The row as the application saw it before.
    seen: Vec<Value>,
    /// Whether a note names the row.
    noted: bool,
}

impl Emit<'_, '_> {
    /// What was meant by a row that is `values` now and was `shown` to the application before.
    fn meaning(
        &self,
        id: &MergedId,
        key: &PackedKey,
        shown: Option<&[Value]>,
        values: &[Value],
    ) -> Result<Meaning, DeskError> {
        let stored = self.book.now(id)?;
        // Made here before the row that others made was written here: both sites made it.
        let (connection, database) = (self.book.connection, self.book.database);
        if shown.is_none() && self.noted && is_unwritten(connection, database, id)? {
            return Ok(Meaning::Whole(self.whole(values)));
        }
        let live = stored.as_ref().is_some_and(|stored| stored.state.is_live());
        let kept = stored.as_ref().is_some_and(is_kept);
        // Where no image tells what the application saw, what it should have seen does.
        let meant = match (&stored, self.book.local.row_id(id)?) {
            (Some(stored), Some(row)) => {
                Some((self.book.meant(&row, stored)?.values, self.book.shown(&row, stored)?))
            }
            _ => None,
        };
        let supposed = meant.as_ref().and_then(|(_, shown)| shown.as_deref());
        let old = shown.or(supposed.filter(|_| live));
        let Some(old) = old.filter(|_| stored.is_some()) else {
            return Ok(Meaning::Whole(self.whole(values)));
        };
        let mut edits = Vec::new();
        for (place, column) in self.columns() {
            let (Some(new), was) = (values.get(place), old.get(place)) else { continue };
            if Some(new) == was.or(Some(&column.default)) {
                continue;
            }
            if self.book.is_shown_mark(self.table.number, key, column.number, new)? {
                continue;
            }
            let state = stored.as_ref().map(|stored| &stored.state);
            let counted = state.is_some_and(|state| state.version(column.number).is_some());
            let rule = self.rule(column);
            let assignment = match was.and_then(|was| amount(was, new)) {
                Some(amount) if rule == Rule::Counter && counted => Assignment::Add(amount),
                _ => Assignment::Set(new.clone(), rule),
            };
            edits.push(Edit { place, column: column.number, assignment });
        }
        if edits.is_empty() {
            return Ok(Meaning::Edited(edits));
        }
        let whole = self.book.local.policy.is_whole_row(&self.table.name);
        if kept || whole {
            let meant = meant.map(|(meant, _)| meant).unwrap_or_default();
            for (place, column) in self.columns() {
                let edit = edits.iter_mut().find(|edit| edit.place == place);
                let assignment = match (edit, meant.get(place), values.get(place)) {
                    // Under a row that begins anew there is nothing to add to.
                    (Some(edit), _, Some(new)) if kept => {
                        edit.assignment = Assignment::Set(new.clone(), self.rule(column));
                        continue;
                    }
                    (Some(_), _, _) => continue,
                    (None, Some(meant), _) => Assignment::Set(meant.clone(), self.rule(column)),
                    (None, None, _) => continue,
                };
                edits.push(Edit { place, column: column.number, assignment });
            }
            edits.sort_by_key(|edit| edit.place);
        }
        Ok(if kept { Meaning::Whole(edits) } else { Meaning::Edited(edits) })
    }

    /// The columns that travel, with their places.
    fn columns(&self) -> impl Iterator<Item = (usize, &LocalColumn)> {
        self.table.columns.iter().enumerate().filter(|(_, c)| !c.in_key && !c.stays)
    }

    fn rule(&self, column: &LocalColumn) -> Rule {
        self.book.local.policy.rule(&self.table.name, &column.name)
    }

    fn whole(&self, values: &[Value]) -> Vec<Edit> {
        let edit = |(place, column): (usize, &LocalColumn)| {
            let assignment = Assignment::Set(values.get(place)?.clone(), self.rule(column));
            Some(Edit { place, column: column.number, assignment })
        };
        self.columns().filter_map(edit).collect()
    }

    /// Merges a meaning and adds its change to the batch.
    fn change(
        &self,
        id: &MergedId,
        key: &[Value],
        meaning: Meaning,
        own: &mut Own,
    ) -> Result<(), DeskError> {
        // Whatever it is, the application's table may need to be put right.
        self.book.touch(id)?;
        let append_only = self.book.local.policy.is_append_only(&self.table.name);
        if append_only && !matches!(meaning, Meaning::Whole(_)) {
            let refused = self.refused(id, &meaning)?;
            if !refused.is_empty() {
                own.refused.push((id.clone(), refused));
            }
            return Ok(());
        }
        let parents = self.parents(meaning.edits(), &self.shown_now(id)?)?;
        let row = Row { index: self.index, table: self.table, id, key };
        let lost = self.book.say(row, meaning, &parents, self.stamp, own)?;
        // What it saw it meant to replace.
        let seen = |lost: &Lost| match &lost.loser {
            Loser::Set(column, value) => self
                .table
                .columns
                .iter()
                .zip(&self.seen)
                .any(|(known, shown)| known.number == *column && shown == value),
            _ => false,
        };
        let lost: Vec<Lost> = lost.into_iter().filter(|lost| !seen(lost)).collect();
        if !lost.is_empty() {
            own.lost.push((id.clone(), lost));
        }
        Ok(())
    }

    /// What a meaning would have done to a row that stays as it is.
    fn refused(&self, id: &MergedId, meaning: &Meaning) -> Result<Vec<Lost>, DeskError> {
        let stored = self.book.now(id)?.filter(|stored| stored.state.is_live());
        let Some(stored) = stored else { return Ok(Vec::new()) };
        let state = &stored.state;
        let version = self.stamp.above(state.greatest())?;
        let lost = |loser, winner: Option<Version>| {
            let reason = Reason::EarlierWriter;
            winner.map(|winner| Lost { loser, version, winner, reason })
        };
        Ok(match meaning {
            Meaning::Gone => lost(Loser::Delete, state.rank()).into_iter().collect(),
            Meaning::Whole(edits) | Meaning::Edited(edits) => edits
                .iter()
                .filter_map(|edit| {
                    let loser = match &edit.assignment {
                        Assignment::Set(value, _) => Loser::Set(edit.column, value.clone()),
                        Assignment::Add(amount) => Loser::Add(edit.column, amount.clone()),
                    };
                    lost(loser, state.version(edit.column).or(state.rank()))
                })
                .collect(),
        })
    }

    fn shown_now(&self, id: &MergedId) -> Result<Vec<Value>, DeskError> {
        let key = PackedKey::new(&id.key_values()?);
        let image = self.images.get(self.table.number, &key)?;
        Ok(image.map(|image| unpack(&image.row)).transpose()?.unwrap_or_default())
    }

    /// The births of the rows that edited columns refer to.
    fn parents(&self, edits: &[Edit], row: &[Value]) -> Result<Vec<Parent>, DeskError> {
        let mut parents = Vec::new();
        for edit in edits {
            let column = self.table.columns.get(edit.place);
            let Some(parent) = column.and_then(|column| column.refers_to) else { continue };
            let (Some(number), Some(value)) = (
                self.captured.number(TableIndex(parent as u32)),
                row.get(edit.place).filter(|value| **value != Value::Null),
            ) else {
                continue;
            };
            let key = PackedKey::new(std::slice::from_ref(value));
            if let Some(image) = self.images.get(number, &key)?
                && !image.birth.is_empty()
            {
                let birth = unpack_version(&image.birth)?;
                parents.push(Parent { place: edit.place, column: edit.column, birth });
            }
        }
        Ok(parents)
    }
}

/// Dead, but shown since a living row needs it.
fn is_kept(stored: &Stored) -> bool {
    matches!(stored.outcome, Some(Outcome { shown: Shown::Visible { kept: true, .. }, .. }))
}

/// How much a count rose; `None` where one of them is no number, or it can't be told exactly.
fn amount(was: &Value, new: &Value) -> Option<Value> {
    match (was, new) {
        (Value::Integer(was), Value::Integer(new)) => new.checked_sub(*was).map(Value::Integer),
        (Value::Real(was), Value::Real(new)) => Some(Value::Real(new - was)),
        (Value::Integer(was), Value::Real(new)) => Some(Value::Real(new - *was as f64)),
        (Value::Real(was), Value::Integer(new)) => Some(Value::Real(*new as f64 - was)),
        _ => None,
    }
}
