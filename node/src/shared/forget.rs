//! Forgetting dead rows: which are dead, who has said that its application knows, and the change
//! by which a row is forgotten. When that is looked at, and by whom, is the engine's.
//!
//! # What it means
//! A dead row is forgotten by a change of its own ([`protocol::change::Operation::Forget`]), made
//! by one site and merged by all. It leaves out of the row all that its origin had applied when it
//! made it, and nothing else: **what is known of a row is the changes of it that no forgetting had
//! seen.** That is a function of the set of batches and of what each names as applied before it;
//! order has no part in it. So sites stay alike whenever and wherever rows are forgotten: no site
//! remembers a tombstone that another lacks, and no stamps must be kept above a lost one.
//!
//! # When it is harmless
//! That nothing is lost by it needs more. An application that still has the row in its table may
//! edit it, or let others refer to it, and of that nothing would be left but a parked rest. So a
//! row is forgotten once
//! 1. it is dead and hidden, no row that is known refers to it, and no conflict about it waits for a
//!    person at the site that forgets it;
//! 2. every member has said that its application's tables are without it: by a *heartbeat* that
//!    names all that this site had applied when anything last happened to the row, to what the
//!    application sees of it, or to a reference to it. (A kept parent leaves later than its delete.)
//!
//! A heartbeat is made when all that is merged is written and all that the application did is
//! numbered. So what a member says after it was done in tables in which the row does not stand:
//! there it can only be inserted, whole, which revives nothing. What a peer *tells* of its progress
//! will not do: that is what it has merged, while its application may still have the old row before
//! it, and changes of it that nobody has read. Nor will the batches that it numbers, which name what
//! was merged before it was written. Only a member that has no application beside the database is
//! believed what it tells to be durable: it can join from no less.
//!
//! Time decides nothing here. A member that is away is waited for until it is removed.

use super::book::{Book, Stored};
use super::incoming::{Incoming, IncomingError, Reading};
use super::own::Own;
use super::{DeskError, MergedId};
use crate::capture::PackedKey;
use crate::store::{BranchNumber, BranchRow, DatabaseNumber, StoreError, loaded, stored};
use conflict::Timestamp;
use conflict::visible::Outcome;
use protocol::Sequence;
use protocol::change::{Operation, RowChange};
use protocol::schema::TableIndex;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{BTreeMap, BTreeSet};

/// How far branches are, by their numbers here.
pub type Vector = BTreeMap<BranchNumber, Sequence>;

/// What batches say of some rows that the origin of their forgetting had not applied.
#[derive(Debug)]
pub struct Unseen<'r> {
    rows: &'r BTreeSet<MergedId>,
    said: Vec<(BranchNumber, Sequence, Incoming)>,
    /// By row, what other forgettings among these batches had seen.
    left_out: BTreeMap<MergedId, Vector>,
}

impl<'r> Unseen<'r> {
    /// Nothing yet.
    pub fn new(rows: &'r BTreeSet<MergedId>) -> Self {
        Self { rows, said: Vec::new(), left_out: BTreeMap::new() }
    }

    /// Takes a batch of which that origin knew nothing. `seen` is what the batch's own had applied,
    /// as far as batches since then name it.
    ///
    /// # Errors
    /// The batch does not fit its schema.
    pub fn take(
        &mut self,
        (branch, sequence, timestamp): (BranchNumber, Sequence, Timestamp),
        seen: &Vector,
        reading: &Reading,
        changes: Vec<RowChange>,
    ) -> Result<(), IncomingError> {
        for change in changes {
            let id = reading.row(&change)?;
            if !self.rows.contains(&id) {
                continue;
            }
            if change.operation != Operation::Forget {
                self.said.push((branch, sequence, reading.read(change, timestamp)?));
                continue;
            }
            let left_out = self.left_out.entry(id).or_default();
            for (other, until) in seen.iter().chain([(&branch, &sequence)]) {
                let known = left_out.entry(*other).or_default();
                *known = (*known).max(*until);
            }
        }
        Ok(())
    }

    /// What stays of a row.
    pub fn of(&self, row: &MergedId) -> impl Iterator<Item = &Incoming> {
        let left_out = self.left_out.get(row);
        let stays = move |branch, sequence| {
            let until = left_out.and_then(|left_out| left_out.get(branch));
            until.is_none_or(|until| sequence > until)
        };
        self.said
            .iter()
            .filter(move |(branch, sequence, said)| said.id == *row && stays(branch, sequence))
            .map(|(_, _, said)| said)
    }
}

impl Book<'_> {
    /// Forgets a row but for what is `unseen`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn forget<'i>(
        &self,
        id: &MergedId,
        unseen: impl Iterator<Item = &'i Incoming>,
    ) -> Result<(), StoreError> {
        self.touch(id)?;
        let known = self.open.borrow_mut().get_mut(id).and_then(|entry| entry.now.take());
        // Of a row that is not known everything is left out already.
        if known.is_some() {
            for said in unseen {
                self.merge(&said.id, said.version, &said.change, &said.parents)?;
            }
        }
        Ok(())
    }

    /// Forgets those of these rows that may be, as this site's own change; whatever else is so of
    /// the others, they are looked at again when something happens to them.
    ///
    /// # Errors
    /// What is stored is damaged, or can't be read or written.
    pub fn forget_dead(&self, rows: Vec<MergedId>, own: &mut Own) -> Result<(), DeskError> {
        let mut going = BTreeMap::new();
        for id in rows {
            let row = self.local.row_id(&id)?;
            match (row, self.load(&id)?) {
                (Some(row), Some(stored)) if is_gone(&stored) && !self.is_disputed(&id)? => {
                    going.insert(id, row);
                }
                _ => self.set_dead(&id, false)?,
            }
        }
        // Rows that only each other refers to go together.
        loop {
            let mut stay = Vec::new();
            for id in going.keys() {
                if self.is_referred_to(id, |from| going.contains_key(from))? {
                    stay.push(id.clone());
                }
            }
            if stay.is_empty() {
                break;
            }
            for id in stay {
                self.set_dead(&id, false)?;
                going.remove(&id);
            }
        }
        for (id, row) in going {
            let index = TableIndex(row.table.0);
            own.folded.changes.push(RowChange {
                birth: row.birth,
                ..RowChange::plain(index, row.key, Operation::Forget)
            });
            self.forget(&id, std::iter::empty())?;
        }
        Ok(())
    }

    /// Whether a person may still decide that the row is to come back.
    fn is_disputed(&self, id: &MergedId) -> Result<bool, StoreError> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT 1 FROM conflict WHERE database = ?1 AND tbl = ?2 AND key = ?3 AND birth = ?4
                 AND decided = 0",
            )?
            .exists(params![self.database, id.table, id.key, id.birth])?)
    }

    fn is_referred_to(
        &self,
        id: &MergedId,
        but_for: impl Fn(&MergedId) -> bool,
    ) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT tbl, key, birth FROM merged_reference
             WHERE database = ?1 AND parent_tbl = ?2 AND parent_key = ?3 AND parent_birth = ?4",
        )?;
        let mut rows = statement.query(params![self.database, id.table, id.key, id.birth])?;
        while let Some(row) = rows.next()? {
            let from = MergedId { table: row.get(0)?, key: row.get(1)?, birth: row.get(2)? };
            if !but_for(&from) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a row of which nothing is known any more.
    pub(super) fn remove(&self, id: &MergedId) -> Result<(), DeskError> {
        for table in ["merged_row", "rekeyed"] {
            let gone = format!(
                "DELETE FROM {table} WHERE database = ?1 AND tbl = ?2 AND key = ?3 AND birth = ?4"
            );
            self.connection.prepare_cached(&gone)?.execute(params![
                self.database,
                id.table,
                id.key,
                id.birth
            ])?;
        }
        let another = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM merged_row WHERE database = ?1 AND tbl = ?2 AND key = ?3",
            )?
            .exists(params![self.database, id.table, id.key])?;
        if !another {
            let key = PackedKey::new(&id.key_values()?);
            self.connection
                .prepare_cached(
                    "DELETE FROM shown_mark WHERE database = ?1 AND tbl = ?2 AND key = ?3",
                )?
                .execute(params![self.database, id.table, key.as_bytes()])?;
        }
        Ok(())
    }

    /// Keeps which of the rows that were merged or settled are dead and hidden, and of those that
    /// nothing refers to any more: something has happened to them.
    pub(super) fn note_dead(&self, released: &BTreeSet<MergedId>) -> Result<(), StoreError> {
        let open = self.open.borrow();
        for (id, entry) in open.iter() {
            let gone = |stored: &Option<Stored>| stored.as_ref().is_some_and(is_gone);
            if gone(&entry.now) || gone(&entry.before) {
                self.set_dead(id, gone(&entry.now))?;
            }
        }
        for id in released.iter().filter(|id| !open.contains_key(id)) {
            if self.load(id)?.as_ref().is_some_and(is_gone) {
                self.set_dead(id, true)?;
            }
        }
        Ok(())
    }

    fn set_dead(&self, id: &MergedId, dead: bool) -> Result<(), StoreError> {
        let sql = match dead {
            true => {
                "INSERT OR REPLACE INTO dead_row VALUES (?1, ?2, ?3, ?4,
                   ifnull((SELECT number FROM round WHERE database = ?1), 0))"
            }
            false => {
                "DELETE FROM dead_row
                 WHERE database = ?1 AND tbl = ?2 AND key = ?3 AND birth = ?4"
            }
        };
        self.connection.prepare_cached(sql)?.execute(params![
            self.database,
            id.table,
            id.key,
            id.birth
        ])?;
        Ok(())
    }
}

/// Dead, and nothing that the application sees.
fn is_gone(stored: &Stored) -> bool {
    !stored.state.is_live() && stored.outcome.as_ref().is_some_and(|o| *o == Outcome::default())
}

/// Whether this site is to say how far its application is: there are dead rows, and something
/// happened since it said so last.
///
/// # Errors
/// See [`StoreError`].
pub fn is_heartbeat_due(
    connection: &Connection,
    database: DatabaseNumber,
) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached(
            "SELECT 1 FROM dead_row WHERE database = ?1
             AND NOT EXISTS (SELECT 1 FROM round WHERE database = ?1 AND NOT heartbeat_due) LIMIT 1",
        )?
        .exists([database.0])?)
}

/// Keeps that a batch of a branch changes rows.
///
/// # Errors
/// See [`StoreError`].
pub fn note_change(
    connection: &Connection,
    database: DatabaseNumber,
    branch: BranchNumber,
    sequence: Sequence,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO last_change VALUES (?1, ?2)")?
        .execute(params![branch.0, stored(sequence.0)])?;
    connection
        .prepare_cached(
            "UPDATE round SET heartbeat_due = 1 WHERE database = ? AND heartbeat_due = 0",
        )?
        .execute([database.0])?;
    Ok(())
}

/// Keeps a branch's heartbeat: all that its batches up to this one name is in the tables of its
/// origin's application.
///
/// # Errors
/// See [`StoreError`].
pub fn note_heartbeat(
    connection: &Connection,
    branch: BranchNumber,
    sequence: Sequence,
) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM heartbeat WHERE branch = ?")?.execute([branch.0])?;
    connection
        .prepare_cached(
            "INSERT INTO heartbeat SELECT branch, other, sequence FROM seen WHERE branch = ?1",
        )?
        .execute([branch.0])?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO heartbeat VALUES (?1, ?1, ?2)")?
        .execute(params![branch.0, stored(sequence.0)])?;
    Ok(())
}

/// This site has said how far its application is.
///
/// # Errors
/// See [`StoreError`].
pub fn heartbeat_done(connection: &Connection, database: DatabaseNumber) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO round VALUES (?1, 0, 0)
             ON CONFLICT (database) DO UPDATE SET heartbeat_due = 0",
        )?
        .execute([database.0])?;
    Ok(())
}

/// What the application beside the origin of a branch had before it at its last heartbeat.
///
/// # Errors
/// See [`StoreError`].
pub fn heartbeat(connection: &Connection, branch: BranchNumber) -> Result<Vector, StoreError> {
    vector(connection, "SELECT other, sequence FROM heartbeat WHERE branch = ?", branch.0)
}

/// What the origin of a branch had applied at its last batch that is applied here.
///
/// # Errors
/// See [`StoreError`].
pub fn applied_by(connection: &Connection, branch: BranchNumber) -> Result<Vector, StoreError> {
    vector(connection, "SELECT other, sequence FROM seen WHERE branch = ?", branch.0)
}

fn vector(connection: &Connection, sql: &str, of: i64) -> Result<Vector, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([of])?;
    let mut vector = Vector::new();
    while let Some(row) = rows.next()? {
        vector.insert(BranchNumber(row.get(0)?), Sequence(loaded("sequence", row.get(1)?)?));
    }
    Ok(vector)
}

/// A round of forgetting: the rows that were dead when it began, and what had changed rows here by
/// then. Batches that change nothing are left out, else nobody would ever have said that he has
/// heard of everybody's last heartbeat.
#[derive(Clone, Debug)]
pub struct Round {
    number: i64,
    /// What everybody's application is to have before it.
    pub vector: Vector,
}

impl Round {
    /// The round that goes on; `None`: all its rows are dealt with.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn going_on(
        connection: &Connection,
        database: DatabaseNumber,
    ) -> Result<Option<Self>, StoreError> {
        let number: Option<i64> = connection
            .prepare_cached(
                "SELECT number FROM round JOIN dead_row USING (database)
                 WHERE database = ? AND dead_row.round < round.number LIMIT 1",
            )?
            .query_row([database.0], |row| row.get(0))
            .optional()?;
        let of = "SELECT branch, sequence FROM round_branch WHERE database = ?";
        let begun = |number| Ok(Self { number, vector: vector(connection, of, database.0)? });
        number.map(begun).transpose()
    }

    /// Begins the next one, if there are dead rows.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn begin(
        connection: &Connection,
        database: DatabaseNumber,
        branches: &[BranchRow],
    ) -> Result<(), StoreError> {
        let any = connection
            .prepare_cached("SELECT 1 FROM dead_row WHERE database = ? LIMIT 1")?
            .exists([database.0])?;
        if !any {
            return Ok(());
        }
        connection
            .prepare_cached(
                "INSERT INTO round VALUES (?1, 1, 1)
                 ON CONFLICT (database) DO UPDATE SET number = number + 1",
            )?
            .execute([database.0])?;
        for branch in branches {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO round_branch
                     SELECT ?1, branch, sequence FROM last_change WHERE branch = ?2",
                )?
                .execute([database.0, branch.number.0])?;
        }
        Ok(())
    }

    /// Some of its rows.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn rows(
        &self,
        connection: &Connection,
        database: DatabaseNumber,
        limit: usize,
    ) -> Result<Vec<MergedId>, StoreError> {
        let mut statement = connection.prepare_cached(
            "SELECT tbl, key, birth FROM dead_row WHERE database = ?1 AND round < ?2 LIMIT ?3",
        )?;
        let rows = statement
            .query_map(params![database.0, self.number, stored(limit as u64)], |row| {
                Ok(MergedId { table: row.get(0)?, key: row.get(1)?, birth: row.get(2)? })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Whether a vector has everything that another has.
pub fn covers(vector: &Vector, other: &Vector) -> bool {
    other.iter().all(|(branch, until)| {
        *until == Sequence::ZERO || vector.get(branch).is_some_and(|known| known >= until)
    })
}
