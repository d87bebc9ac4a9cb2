//! Merging changes into a [`Book`], and settling what the application should see then. Nothing is
//! written to the application's file here: rows that do not stand there as they should are noted.

use super::book::{Book, Entry, Horizon, ParentBirth, Stored};
use super::conflicts::{self, Context};
use super::meant::As;
use super::{DeskError, MergedId, keep_mark, rekey};
use crate::breakage::Breakage;
use crate::capture::{Images, PackedKey, pack};
use crate::store::StoreError;
use conflict::row::{Assignment, Change, Column, Lost, RowState};
use conflict::visible::{Outcome, RowId, Settled, Shown, settle};
use conflict::{Value, Version};
use rusqlite::params;
use std::collections::{BTreeMap, BTreeSet};

impl Book<'_> {
    /// Begins with a row, whether or not a change follows: what the application sees of it will be
    /// settled.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn touch(&self, id: &MergedId) -> Result<(), StoreError> {
        if !self.open.borrow().contains_key(id) {
            let now = self.load(id)?;
            self.open.borrow_mut().insert(id.clone(), Entry { before: now.clone(), now });
        }
        Ok(())
    }

    /// Merges a change, and tells what lost by it. `parents` are the births of the rows that the
    /// columns which it sets refer to.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn merge(
        &self,
        id: &MergedId,
        version: Version,
        change: &Change,
        parents: &[(Column, Version)],
    ) -> Result<Vec<Lost>, StoreError> {
        self.touch(id)?;
        let mut open = self.open.borrow_mut();
        let stored = open.entry(id.clone()).or_default().now.get_or_insert_default();
        if Breakage::TieByArrival.is_on() && is_tie(&stored.state, version) {
            return Ok(Vec::new());
        }
        let lost = stored.state.merge(version, change);
        if Breakage::CounterTwice.is_on() && version.origin != self.local.site {
            add_again(&mut stored.state, version, change);
        }
        for (column, birth) in parents {
            let parent = ParentBirth { column: *column, set: version, birth: *birth };
            if !stored.parents.contains(&parent) {
                stored.parents.push(parent);
            }
        }
        let state = &stored.state;
        stored.parents.retain(|known| state.has_set(known.column, known.set));
        stored.parents.sort();
        Ok(lost)
    }

    /// Settles what was touched, and keeps everything. `file`: there is an application's file, in
    /// which rows may stand otherwise.
    ///
    /// # Errors
    /// What is stored is damaged, or can't be read or written.
    pub fn finish(self, context: Context<'_>, file: bool) -> Result<(), DeskError> {
        self.touch_birthless()?;
        let mut touched = BTreeSet::new();
        let mut released = BTreeSet::new();
        for (id, entry) in self.open.borrow().iter() {
            let Some(row) = self.local.row_id(id)? else { continue };
            let before = self.parents_of(As::Before, &row, entry.before.as_ref())?;
            let after = self.parents_of(As::Now, &row, entry.now.as_ref())?;
            self.refer(id, &before, &after)?;
            released.extend(before.into_iter().filter(|parent| !after.contains(parent)));
            touched.insert(row);
        }
        let settled = settle(&touched, &self.local.desk, &self)?;
        let mut keys = BTreeMap::new();
        for change in &settled {
            self.keep(context, change)?;
            if file && (change.shown_changed() || touched.contains(&change.row)) {
                let place = (change.row.table, PackedKey::new(&change.row.key));
                keys.insert(place, change.row.key.clone());
            }
        }
        for (id, entry) in self.open.borrow_mut().iter_mut() {
            match &mut entry.now {
                Some(now) if is_lost(now) => self.remove(id)?,
                Some(now) if entry.before.as_ref() != Some(now) => {
                    now.compact(self.stable);
                    self.save(id, now)?;
                }
                None if entry.before.is_some() => self.remove(id)?,
                _ => {}
            }
        }
        self.note_dead(&released)?;
        for ((table, packed), key) in keys {
            let number = self.local.table(table)?.number;
            let wanted = self.visible_at(table, &key)?;
            self.note_unwritten(number, &packed, wanted)?;
        }
        Ok(())
    }

    /// Begins with the rows that refer to a key of which there is another row now, without saying
    /// which they mean.
    fn touch_birthless(&self) -> Result<(), StoreError> {
        let new = |(id, entry): (&MergedId, &Entry)| {
            let begins_or_ends = entry.before.is_none() != entry.now.is_none();
            (begins_or_ends && !id.birth.is_empty()).then(|| id.clone())
        };
        let new: Vec<MergedId> = self.open.borrow().iter().filter_map(new).collect();
        for id in new {
            for referrer in self.birthless_referrers(&id)? {
                self.touch(&referrer)?;
            }
        }
        Ok(())
    }

    /// Begins to settle everything anew, under another schema or other rules than before.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn begin_settling(&self, context: Context<'_>) -> Result<(), StoreError> {
        for table in ["merged_slot", "merged_reference", "unwritten", "dead_row"] {
            let clear = format!("DELETE FROM {table} WHERE database = ?");
            self.connection.execute(&clear, [self.database])?;
        }
        conflicts::forget_states(context)
    }

    /// Settles the next rows anew, behind `after`, as if they had come only now: what the
    /// application sees is the same whatever the order. The last of them; `None`: there are no
    /// more. Until then nothing else may be merged.
    ///
    /// # Errors
    /// As [`Book::finish`].
    pub fn settle_some(
        mut self,
        context: Context<'_>,
        file: bool,
        after: Option<&MergedId>,
        limit: usize,
    ) -> Result<Option<MergedId>, DeskError> {
        let first = after.and_then(|last| self.local.place(last.table));
        let first = first.map_or(0, |place| place.0 as usize);
        let mut last = after.cloned();
        let mut found = 0;
        for table in self.local.tables.iter().skip(first).filter(|table| !table.stays) {
            let behind = last.as_ref().filter(|last| last.table == table.number);
            let rows = self.after(table.number, behind, limit.saturating_sub(found))?;
            found += rows.len();
            last = rows.last().map(|(id, _)| id.clone()).or(last);
            let mut open = self.open.borrow_mut();
            for (id, stored) in rows {
                open.insert(id, Entry { before: None, now: Some(stored) });
            }
        }
        self.horizon = Some(Horizon(after.cloned()));
        self.finish(context, file)?;
        Ok(last.filter(|_| found >= limit))
    }

    fn keep(&self, context: Context<'_>, change: &Settled) -> Result<(), DeskError> {
        let Settled { row, before, after } = change;
        let id = self.local.merged_id(row)?;
        self.ask(row, &id, before, after)?;
        self.touch(&id)?;
        if let Some(now) = self.open.borrow_mut().get_mut(&id).and_then(|entry| entry.now.as_mut())
        {
            now.outcome = (!after.is_plain()).then(|| Outcome::clone(after));
        }
        if let Shown::Visible { marks, .. } = &after.shown {
            for mark in marks {
                self.remember_mark(row, mark.column, &mark.shown)?;
            }
        }
        rekey::note(self, &id, &after.shown, self.local.site)?;
        keep_mark::note(self, row, &id, &after.shown)?;
        conflicts::note_shown(context, &id, &before.shown, &after.shown)?;
        Ok(())
    }

    fn remember_mark(&self, row: &RowId, place: usize, shown: &Value) -> Result<(), DeskError> {
        let table = self.local.table(row.table)?;
        let Some(column) = table.columns.get(place) else { return Ok(()) };
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO shown_mark VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                self.database,
                table.number,
                PackedKey::new(&row.key).as_bytes(),
                column.number.0,
                pack(std::slice::from_ref(shown))
            ])?;
        Ok(())
    }

    /// Whether a value is a mark that this row ever showed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn is_shown_mark(
        &self,
        table: i64,
        key: &PackedKey,
        column: Column,
        value: &Value,
    ) -> Result<bool, StoreError> {
        let known = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM shown_mark
                 WHERE database = ?1 AND tbl = ?2 AND key = ?3 AND col = ?4 AND text = ?5",
            )?
            .exists(params![
                self.database,
                table,
                key.as_bytes(),
                column.0,
                pack(std::slice::from_ref(value))
            ])?;
        Ok(known)
    }

    /// Compares what should stand under a key with what stands there.
    fn note_unwritten(
        &self,
        table: i64,
        key: &PackedKey,
        wanted: Option<(MergedId, Vec<Value>)>,
    ) -> Result<(), DeskError> {
        let image = Images::new(self.connection, self.database).get(table, key)?;
        let written = match (&wanted, &image) {
            (None, None) => true,
            (Some((id, values)), Some(image)) => {
                id.birth == image.birth && pack(values) == image.row
            }
            _ => false,
        };
        let sql = match written {
            true => "DELETE FROM unwritten WHERE database = ?1 AND tbl = ?2 AND key = ?3",
            false => "INSERT OR IGNORE INTO unwritten VALUES (?1, ?2, ?3)",
        };
        self.connection.prepare_cached(sql)?.execute(params![
            self.database,
            table,
            key.as_bytes()
        ])?;
        Ok(())
    }
}

/// [`Breakage::TieByArrival`]: whether another site's change of that very time was merged last.
fn is_tie(state: &RowState, version: Version) -> bool {
    state.greatest().is_some_and(|greatest| {
        greatest.timestamp == version.timestamp && greatest.origin != version.origin
    })
}

/// [`Breakage::CounterTwice`].
fn add_again(state: &mut RowState, version: Version, change: &Change) {
    if let (Change::Update(columns), Ok(timestamp)) = (change, version.timestamp.successor()) {
        let adds = columns.iter().filter(|(_, how)| matches!(how, Assignment::Add(_)));
        let again = Change::Update(adds.cloned().collect());
        if again != Change::Update(Vec::new()) {
            state.merge(Version { timestamp, ..version }, &again);
        }
    }
}

/// [`Breakage::TombstoneForgotten`], [`Breakage::ParkedDropped`].
fn is_lost(stored: &Stored) -> bool {
    match stored.outcome.as_ref().map(|outcome| &outcome.shown) {
        Some(Shown::Hidden) => Breakage::TombstoneForgotten.is_on(),
        Some(Shown::Parked(_)) => Breakage::ParkedDropped.is_on(),
        _ => false,
    }
}
