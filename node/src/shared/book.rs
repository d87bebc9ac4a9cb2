//! Merged rows in `node.db`: what sites say of each, what the application sees of it, who asks
//! for which unique value, who refers to whom. It answers what `settle` asks; what is merged is
//! not decided here.

use super::local::Local;
use super::numbers::Numbers;
use super::{DeskError, MergedId};
use crate::capture::{Images, PackedKey};
use crate::store::StoreError;
use conflict::row::{Column, PackedRow, RowState};
use conflict::visible::{
    Constraints, Life, Meant, Outcome, Reference, RowId, Slot, Store, Table as Place, Unique, plain,
};
use conflict::{Timestamp, Value, Version};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Which row a set of a column refers to, where that row's key may mean several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParentBirth {
    /// The column.
    pub column: Column,
    /// The set.
    pub set: Version,
    /// The birth of the row that it refers to.
    pub birth: Version,
}

/// What is known of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// What sites say of it.
    pub state: RowState,
    /// The births of the rows that it refers to.
    pub parents: Vec<ParentBirth>,
    /// What the application sees of it; `None`: the row as meant.
    pub outcome: Option<Outcome>,
}

/// The bytes of [`Stored::state`] and [`Stored::parents`].
#[derive(Serialize, Deserialize)]
struct Packed(PackedRow, Vec<PackedBirth>);

type PackedBirth = (Column, Timestamp, u32, Timestamp, u32);

/// The merged rows of one database, under a schema.
#[derive(Debug)]
pub struct Book<'a> {
    /// `node.db`.
    pub connection: &'a Connection,
    /// The database.
    pub database: i64,
    /// The local schema.
    pub local: &'a Local,
    /// The numbers.
    pub numbers: &'a Numbers,
    /// Rows as they were and as they are, of those that are being merged.
    pub(super) open: RefCell<BTreeMap<MergedId, Entry>>,
}

/// A row that is being merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) before: Option<Stored>,
    pub(super) now: Option<Stored>,
}

impl<'a> Book<'a> {
    /// Opens it.
    pub fn new(
        connection: &'a Connection,
        database: i64,
        local: &'a Local,
        numbers: &'a Numbers,
    ) -> Self {
        Self { connection, database, local, numbers, open: RefCell::default() }
    }

    /// What is known of a row.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn load(&self, id: &MergedId) -> Result<Option<Stored>, StoreError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT state, outcome FROM merged_row
                 WHERE database = ?1 AND tbl = ?2 AND key = ?3 AND birth = ?4",
            )?
            .query_row(params![self.database, id.table, id.key, id.birth], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        found.map(|(state, outcome)| self.unpack(state, outcome)).transpose()
    }

    /// A row as it is now, changes that are being merged included.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn now(&self, id: &MergedId) -> Result<Option<Stored>, StoreError> {
        match self.open.borrow().get(id) {
            Some(entry) => Ok(entry.now.clone()),
            None => self.load(id),
        }
    }

    /// All rows of one key.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn births(&self, table: i64, key: &[u8]) -> Result<Vec<MergedId>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT birth FROM merged_row WHERE database = ?1 AND tbl = ?2 AND key = ?3",
        )?;
        let rows = statement.query_map(params![self.database, table, key], |row| {
            Ok(MergedId { table, key: key.to_vec(), birth: row.get(0)? })
        })?;
        let mut found: Vec<MergedId> = rows.collect::<Result<_, _>>()?;
        let first = MergedId { table, key: key.to_vec(), birth: Vec::new() };
        let open = self.open.borrow();
        let open = open.range(first..).map(|(id, _)| id);
        for id in open.take_while(|id| id.table == table && id.key == key) {
            if !found.contains(id) {
                found.push(id.clone());
            }
        }
        Ok(found)
    }

    /// The row that the application sees under a key, as images pack it.
    ///
    /// # Errors
    /// What is stored is damaged, or can't be read.
    pub fn visible_at(
        &self,
        table: Place,
        key: &[Value],
    ) -> Result<Option<(MergedId, Vec<Value>)>, DeskError> {
        let packed = PackedKey::new(key);
        let claim = self.local.desk.key_claim(&RowId { table, key: key.to_vec(), birth: None })?;
        for row in self.rivals(&Slot { unique: Unique::Key(table), claim })? {
            if PackedKey::new(&row.key) != packed {
                continue;
            }
            let id = self.local.merged_id(&row)?;
            let Some(stored) = self.now(&id)? else { continue };
            if let Some(values) = self.shown(&row, &stored)? {
                return Ok(Some((id, values)));
            }
        }
        Ok(None)
    }

    /// What the application should see of a row.
    ///
    /// # Errors
    /// As [`Book::visible_at`].
    pub fn shown(&self, row: &RowId, stored: &Stored) -> Result<Option<Vec<Value>>, DeskError> {
        Ok(match &stored.outcome {
            None => Some(self.meant(row, stored)?.values),
            Some(Outcome { shown: conflict::visible::Shown::Visible { values, .. }, .. }) => {
                Some(values.clone())
            }
            Some(_) => None,
        })
    }

    /// The merged state of a row as f needs it.
    ///
    /// # Errors
    /// As [`Book::visible_at`].
    pub fn meant(&self, row: &RowId, stored: &Stored) -> Result<Meant, DeskError> {
        let Stored { state, parents, .. } = stored;
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
        let mut references = Vec::new();
        for referred in self.local.desk.references(row.table, &values)? {
            let columns = self.local.desk.columns_of(referred.foreign_key)?;
            let birth = columns.iter().find_map(|place| {
                let column = table.columns.get(*place)?.number;
                let set = state.version(column)?;
                parents.iter().find(|known| (known.column, known.set) == (column, set))
            });
            let key = referred.values.into_iter().map(|(_, value)| value).collect();
            references.push(Reference {
                foreign_key: referred.foreign_key,
                parent: RowId { table: referred.table, key, birth: birth.map(|known| known.birth) },
            });
        }
        let (life, rank) = match (state.is_live(), state.rank()) {
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
        Timestamp::try_from(order).map_or(rank, |timestamp| Version { timestamp, ..rank })
    }

    /// What stands in the application's table under a key, as last written or harvested.
    fn image(&self, table: i64, key: &[Value]) -> Result<Option<Vec<Value>>, DeskError> {
        let images = Images::new(self.connection, self.database);
        let found = images.get(table, &PackedKey::new(key))?;
        Ok(found.map(|image| crate::capture::unpack(&image.row)).transpose()?)
    }

    /// Keeps a row.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(super) fn save(&self, id: &MergedId, stored: &Stored) -> Result<(), StoreError> {
        let mut failed = None;
        let packed = stored.state.pack(&mut |site| {
            self.numbers.site(self.connection, site).unwrap_or_else(|error| {
                failed = Some(error);
                0
            })
        });
        let mut births = Vec::with_capacity(stored.parents.len());
        for known in &stored.parents {
            let site = |version: Version| self.numbers.site(self.connection, version.origin);
            let (set, birth) = (known.set, known.birth);
            births.push((known.column, set.timestamp, site(set)?, birth.timestamp, site(birth)?));
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let encode = |error: rmp_serde::encode::Error| StoreError::Damaged(error.to_string());
        let state = rmp_serde::to_vec(&Packed(packed, births)).map_err(encode)?;
        let outcome = match &stored.outcome {
            None => None,
            Some(outcome) if *outcome == Outcome::default() => Some(Vec::new()),
            Some(outcome) => Some(rmp_serde::to_vec(outcome).map_err(encode)?),
        };
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO merged_row (database, tbl, key, birth, state, outcome)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![self.database, id.table, id.key, id.birth, state, outcome])?;
        Ok(())
    }

    fn unpack(&self, state: Vec<u8>, outcome: Option<Vec<u8>>) -> Result<Stored, StoreError> {
        let (state, parents) = unpack_state(self.connection, self.numbers, &state)?;
        let outcome = match outcome {
            None => None,
            Some(bytes) if bytes.is_empty() => Some(Outcome::default()),
            Some(bytes) => Some(rmp_serde::from_slice(&bytes).map_err(damaged)?),
        };
        Ok(Stored { state, parents, outcome })
    }

    /// The rows of a table behind a place, as they are kept.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn after(
        &self,
        table: i64,
        after: Option<&MergedId>,
        limit: usize,
    ) -> Result<Vec<(MergedId, Stored)>, StoreError> {
        let (key, birth) = after.map_or((&[][..], &[][..]), |id| (&id.key, &id.birth));
        let mut statement = self.connection.prepare_cached(
            "SELECT key, birth, state, outcome FROM merged_row
             WHERE database = ?1 AND tbl = ?2 AND (key, birth) > (?3, ?4)
             ORDER BY key, birth LIMIT ?5",
        )?;
        let mut rows = statement.query(params![self.database, table, key, birth, limit as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let id = MergedId { table, key: row.get(0)?, birth: row.get(1)? };
            found.push((id, self.unpack(row.get(2)?, row.get(3)?)?));
        }
        Ok(found)
    }

    /// Says that a row refers to these rows, and to no other.
    pub(super) fn refer(
        &self,
        id: &MergedId,
        before: &[MergedId],
        after: &[MergedId],
    ) -> Result<(), StoreError> {
        let change = |sql: &str, parent: &MergedId| -> Result<(), StoreError> {
            self.connection.prepare_cached(sql)?.execute(params![
                self.database,
                parent.table,
                parent.key,
                parent.birth,
                id.table,
                id.key,
                id.birth
            ])?;
            Ok(())
        };
        for parent in before.iter().filter(|parent| !after.contains(parent)) {
            let gone = "DELETE FROM merged_reference WHERE database = ?1 AND parent_tbl = ?2
                        AND parent_key = ?3 AND parent_birth = ?4 AND tbl = ?5 AND key = ?6
                        AND birth = ?7";
            change(gone, parent)?;
        }
        for parent in after.iter().filter(|parent| !before.contains(parent)) {
            change(
                "INSERT OR IGNORE INTO merged_reference VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                parent,
            )?;
        }
        Ok(())
    }

    /// Says that a row has these slots among those of its outcome, and no other.
    pub(super) fn ask(
        &self,
        row: &RowId,
        id: &MergedId,
        before: &Outcome,
        after: &Outcome,
    ) -> Result<(), DeskError> {
        let kept = |outcome: &Outcome| {
            let slots = outcome.slots.iter().map(|(slot, _)| slot.clone());
            // Found in merged_row itself.
            slots
                .filter(|slot| slot.unique != Unique::Key(row.table) || slot.claim.0 != id.key)
                .collect::<Vec<_>>()
        };
        let (before, after) = (kept(before), kept(after));
        let change = |sql: &str, slot: &Slot| -> Result<(), DeskError> {
            self.connection.prepare_cached(sql)?.execute(params![
                self.database,
                packed_slot(slot)?,
                id.table,
                id.key,
                id.birth
            ])?;
            Ok(())
        };
        for slot in before.iter().filter(|slot| !after.contains(slot)) {
            let gone = "DELETE FROM merged_slot WHERE database = ?1 AND slot = ?2 AND tbl = ?3
                        AND key = ?4 AND birth = ?5";
            change(gone, slot)?;
        }
        for slot in after.iter().filter(|slot| !before.contains(slot)) {
            change("INSERT OR IGNORE INTO merged_slot VALUES (?1, ?2, ?3, ?4, ?5)", slot)?;
        }
        Ok(())
    }

    fn named(&self, row: &Row<'_>) -> rusqlite::Result<MergedId> {
        Ok(MergedId { table: row.get(0)?, key: row.get(1)?, birth: row.get(2)? })
    }

    /// What the application saw of a row before the merge.
    pub(super) fn outcome_before(
        &self,
        row: &RowId,
        before: Option<&Stored>,
    ) -> Result<Outcome, DeskError> {
        match before {
            None => Ok(Outcome::default()),
            Some(Stored { outcome: Some(outcome), .. }) => Ok(outcome.clone()),
            Some(stored) => plain(row, &self.meant(row, stored)?, &self.local.desk),
        }
    }
}

/// What sites say of the rows of a table, whether or not the local schema has it.
///
/// # Errors
/// See [`StoreError`].
pub fn states(
    connection: &Connection,
    database: i64,
    numbers: &Numbers,
    table: &str,
) -> Result<Vec<(MergedId, RowState)>, StoreError> {
    let table = numbers.table(connection, table)?;
    let mut statement = connection.prepare_cached(
        "SELECT key, birth, state FROM merged_row WHERE database = ? AND tbl = ?",
    )?;
    let mut rows = statement.query(params![database, table])?;
    let mut states = Vec::new();
    while let Some(row) = rows.next()? {
        let id = MergedId { table, key: row.get(0)?, birth: row.get(1)? };
        let bytes: Vec<u8> = row.get(2)?;
        states.push((id, unpack_state(connection, numbers, &bytes)?.0));
    }
    Ok(states)
}

fn damaged(error: rmp_serde::decode::Error) -> StoreError {
    StoreError::Damaged(error.to_string())
}

fn unpack_state(
    connection: &Connection,
    numbers: &Numbers,
    bytes: &[u8],
) -> Result<(RowState, Vec<ParentBirth>), StoreError> {
    let Packed(packed, births) = rmp_serde::from_slice(bytes).map_err(damaged)?;
    let site = |number| numbers.site_of(connection, number);
    let state = RowState::unpack(&packed, &|number| site(number).ok())
        .map_err(|error| StoreError::Damaged(error.to_string()))?;
    let mut parents = Vec::with_capacity(births.len());
    for (column, set_at, set_by, born_at, born_by) in births {
        let set = Version { timestamp: set_at, origin: site(set_by)? };
        let birth = Version { timestamp: born_at, origin: site(born_by)? };
        parents.push(ParentBirth { column, set, birth });
    }
    Ok((state, parents))
}

fn packed_slot(slot: &Slot) -> Result<Vec<u8>, StoreError> {
    rmp_serde::to_vec(slot).map_err(|error| StoreError::Damaged(error.to_string()))
}

impl Store for Book<'_> {
    type Error = DeskError;

    fn row(&self, row: &RowId) -> Result<Option<Meant>, DeskError> {
        let id = self.local.merged_id(row)?;
        self.now(&id)?.map(|stored| self.meant(row, &stored)).transpose()
    }

    fn outcome(&self, row: &RowId) -> Result<Outcome, DeskError> {
        let id = self.local.merged_id(row)?;
        let before = match self.open.borrow().get(&id) {
            Some(entry) => entry.before.clone(),
            None => self.load(&id)?,
        };
        self.outcome_before(row, before.as_ref())
    }

    fn rivals(&self, slot: &Slot) -> Result<Vec<RowId>, DeskError> {
        let mut found = Vec::new();
        let mut statement = self.connection.prepare_cached(
            "SELECT tbl, key, birth FROM merged_slot WHERE database = ?1 AND slot = ?2",
        )?;
        let rows = statement
            .query_map(params![self.database, packed_slot(slot)?], |row| self.named(row))?;
        for id in rows {
            found.extend(self.local.row_id(&id?)?);
        }
        if let Unique::Key(place) = slot.unique {
            let number = self.local.table(place)?.number;
            for id in self.births(number, &slot.claim.0)? {
                found.extend(self.local.row_id(&id)?);
            }
        }
        Ok(found)
    }

    fn referrers(
        &self,
        row: &RowId,
        visit: &mut dyn FnMut(&RowId) -> Result<bool, DeskError>,
    ) -> Result<(), DeskError> {
        let id = self.local.merged_id(row)?;
        // Read to the end first: visiting asks through the same connection.
        let mut statement = self.connection.prepare_cached(
            "SELECT tbl, key, birth FROM merged_reference
             WHERE database = ?1 AND parent_tbl = ?2 AND parent_key = ?3 AND parent_birth = ?4",
        )?;
        let found = statement
            .query_map(params![self.database, id.table, id.key, id.birth], |row| self.named(row))?
            .collect::<Result<Vec<_>, _>>()?;
        for id in found {
            if let Some(referrer) = self.local.row_id(&id)?
                && !visit(&referrer)?
            {
                break;
            }
        }
        Ok(())
    }
}
