//! What a merged row means under the local schema: its values, what it refers to, whether it lives.
//! What the application sees of it then is `conflict::visible`'s.

use super::book::{Book, Stored};
use super::{DeskError, MergedId};
use crate::capture::{Images, PackedKey, pack};
use crate::store::StoreError;
use conflict::row::Column;
use conflict::visible::{Life, Meant, Reference, RowId, Table as Place};
use conflict::{Value, Version};
use rusqlite::params;

/// Which state of the rows is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// As it was before what is being merged.
    Before,
    /// As it is with that.
    Now,
}

impl Book<'_> {
    /// The merged state of a row as f needs it.
    ///
    /// # Errors
    /// As [`Book::visible_at`].
    pub fn meant(&self, row: &RowId, stored: &Stored) -> Result<Meant, DeskError> {
        self.meant_as(As::Now, row, stored)
    }

    /// The merged state of a row, its references leading to rows as they are, or as they were.
    pub(super) fn meant_as(
        &self,
        time: As,
        row: &RowId,
        stored: &Stored,
    ) -> Result<Meant, DeskError> {
        let state = &stored.state;
        let table = self.local.table(row.table)?;
        let stays = table.columns.iter().any(|column| column.stays);
        let image = match stays {
            true => self.image(table.number, &row.key)?,
            false => None,
        };
        let mut values = Vec::with_capacity(table.columns.len());
        for (place, column) in table.columns.iter().enumerate() {
            values.push(match table.key.iter().position(|key| *key == place) {
                Some(at) => row.key.get(at).cloned().unwrap_or(Value::Null),
                None if column.stays => image
                    .as_ref()
                    .and_then(|image| image.get(place).cloned())
                    .unwrap_or_else(|| column.default.clone()),
                None => state.value(column.number).unwrap_or_else(|| column.default.clone()),
            });
        }
        let references = self.references(time, row, stored, &values)?;
        let references = references.into_iter().map(|(reference, _)| reference).collect();
        let (life, rank) = match (state.is_live(), state.rank()) {
            // A key that this table has not, or not yet: nothing can stand under it.
            (_, Some(rank)) if row.key.len() != table.key.len() => (Life::Unborn, rank),
            (true, Some(rank)) => (Life::Live, rank),
            (false, Some(rank)) => (Life::Dead, rank),
            (_, None) => (Life::Unborn, state.greatest().ok_or(DeskError::Unknown("empty row"))?),
        };
        #[cfg(feature = "breakages")]
        let rank = self.by_arrival(row, rank);
        Ok(Meant { life, rank, values, references, remembered: Vec::new() })
    }

    /// [`crate::breakage::Breakage::UniqueByArrival`].
    #[cfg(feature = "breakages")]
    fn by_arrival(&self, row: &RowId, rank: Version) -> Version {
        if !crate::breakage::Breakage::UniqueByArrival.is_on() {
            return rank;
        }
        let order = crate::breakage::arrival(self.local.site.as_bytes(), format!("{row:?}"));
        let ranked = |timestamp| Version { timestamp, ..rank };
        conflict::Timestamp::try_from(order).map_or(rank, ranked)
    }

    /// What a row of these values refers to, and whether it says itself which row of a key it means.
    fn references(
        &self,
        time: As,
        row: &RowId,
        stored: &Stored,
        values: &[Value],
    ) -> Result<Vec<(Reference, bool)>, DeskError> {
        let Stored { state, parents, .. } = stored;
        let table = self.local.table(row.table)?;
        let mut references = Vec::new();
        for referred in self.local.desk.references(row.table, values)? {
            let columns = self.local.desk.columns_of(referred.foreign_key)?;
            let columns = columns.iter().filter_map(|place| table.columns.get(*place));
            let sets: Vec<(Column, Version)> = columns
                .filter_map(|column| Some((column.number, state.version(column.number)?)))
                .collect();
            let said = parents.iter().find(|known| sets.contains(&(known.column, known.set)));
            let key: Vec<Value> = referred.values.into_iter().map(|(_, value)| value).collect();
            let birth = match said {
                Some(said) => Some(said.birth),
                None => {
                    let by = sets.first().map(|(_, set)| *set).or(state.rank());
                    self.birth_for(time, referred.table, &key, by)?
                }
            };
            let parent = RowId { table: referred.table, key, birth };
            let reference = Reference { foreign_key: referred.foreign_key, parent };
            references.push((reference, said.is_some()));
        }
        Ok(references)
    }

    /// Which row a reference means that was made before its origin knew of any such row: the one
    /// that its origin itself made then, else the one that was born first. So it follows from
    /// merged rows alone, and is another once such a row is merged.
    fn birth_for(
        &self,
        time: As,
        table: Place,
        key: &[Value],
        by: Option<Version>,
    ) -> Result<Option<Version>, DeskError> {
        let table = self.local.table(table)?;
        if !table.bears {
            return Ok(None);
        }
        let key = pack(key);
        let rows = match time {
            As::Before => self.births_before(table.number, &key)?,
            As::Now => self.births(table.number, &key)?,
        };
        let mut births = Vec::with_capacity(rows.len());
        for id in rows {
            let known = self.open.borrow().get(&id).is_none_or(|entry| entry.now.is_some());
            if time == As::Before || known {
                births.push(id.birth()?);
            }
        }
        let anothers = |birth: Version| by.is_none_or(|by| by.origin != birth.origin);
        Ok(births.into_iter().min_by_key(|birth| (birth.is_some_and(anothers), *birth)).flatten())
    }

    /// The rows whose references mean a row of this key without saying which.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(super) fn birthless_referrers(&self, id: &MergedId) -> Result<Vec<MergedId>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT tbl, key, birth FROM merged_reference
             WHERE database = ?1 AND parent_tbl = ?2 AND parent_key = ?3 AND parent_birth = x''",
        )?;
        let rows =
            statement.query_map(params![self.database, id.table, id.key], |row| self.named(row))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The rows that a row refers to. Where a reference does not say which row of a key it means,
    /// that key without a birth too.
    ///
    /// # Errors
    /// As [`Book::visible_at`].
    pub(super) fn parents_of(
        &self,
        time: As,
        row: &RowId,
        stored: Option<&Stored>,
    ) -> Result<Vec<MergedId>, DeskError> {
        let Some(stored) = stored else { return Ok(Vec::new()) };
        let values = self.meant_as(time, row, stored)?.values;
        let mut parents = Vec::new();
        for (Reference { parent, .. }, said) in self.references(time, row, stored, &values)? {
            let id = self.local.merged_id(&parent)?;
            if !said && !id.birth.is_empty() {
                parents.push(MergedId { birth: Vec::new(), ..id.clone() });
            }
            parents.push(id);
        }
        parents.sort();
        parents.dedup();
        Ok(parents)
    }

    /// What stands in the application's table under a key, as last written or harvested.
    fn image(&self, table: i64, key: &[Value]) -> Result<Option<Vec<Value>>, DeskError> {
        let images = Images::new(self.connection, self.database);
        let found = images.get(table, &PackedKey::new(key))?;
        Ok(found.map(|image| crate::capture::unpack(&image.row)).transpose()?)
    }
}
