//! Merging changes into a [`Book`], and settling what the application should see then. Nothing is
//! written to the application's file here: rows that do not stand there as they should are noted.

use super::book::{Book, Entry, ParentBirth, Stored};
use super::conflicts::{self, Context};
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
        let mut touched = BTreeSet::new();
        for (id, entry) in self.open.borrow().iter() {
            let Some(row) = self.local.row_id(id)? else { continue };
            let before = self.parents_of(&row, entry.before.as_ref())?;
            let after = self.parents_of(&row, entry.now.as_ref())?;
            self.refer(id, &before, &after)?;
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
        for (id, entry) in self.open.borrow().iter() {
            if let Some(now) = &entry.now
                && entry.before.as_ref() != Some(now)
            {
                match is_lost(now) {
                    false => self.save(id, now)?,
                    true => self.forget(id)?,
                }
            }
        }
        for ((table, packed), key) in keys {
            let number = self.local.table(table)?.number;
            let wanted = self.visible_at(table, &key)?;
            self.note_unwritten(number, &packed, wanted)?;
        }
        Ok(())
    }

    /// Settles everything anew, under another schema or other rules than before.
    ///
    /// # Errors
    /// As [`Book::finish`].
    pub fn settle_all(self, context: Context<'_>, file: bool) -> Result<(), DeskError> {
        for table in ["merged_slot", "merged_reference", "unwritten"] {
            let clear = format!("DELETE FROM {table} WHERE database = ?");
            self.connection.execute(&clear, [self.database])?;
        }
        conflicts::forget_states(context)?;
        for table in &self.local.tables {
            let mut last = None;
            loop {
                const AT_ONCE: usize = 1000;
                let rows = self.after(table.number, last.as_ref(), AT_ONCE)?;
                let Some((id, _)) = rows.last() else { break };
                last = Some(id.clone());
                let mut open = self.open.borrow_mut();
                for (id, stored) in rows {
                    open.insert(id, Entry { before: None, now: Some(stored) });
                }
            }
        }
        self.finish(context, file)
    }

    /// For deliberate defects alone.
    fn forget(&self, id: &MergedId) -> Result<(), StoreError> {
        let sql =
            "DELETE FROM merged_row WHERE database = ?1 AND tbl = ?2 AND key = ?3 AND birth = ?4";
        let row = params![self.database, id.table, id.key, id.birth];
        self.connection.prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    fn parents_of(&self, row: &RowId, stored: Option<&Stored>) -> Result<Vec<MergedId>, DeskError> {
        let Some(stored) = stored else { return Ok(Vec::new()) };
        let references = self.meant(row, stored)?.references;
        let mut parents = Vec::with_capacity(references.len());
        for reference in references {
            let parent = self.local.merged_id(&reference.parent)?;
            if !parents.contains(&parent) {
                parents.push(parent);
            }
        }
        Ok(parents)
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
