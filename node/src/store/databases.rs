//! Databases and their branches in `node.db`: what there is, and how far it is here.

use super::{Openings, Store, StoreError, fixed, loaded, stored};
use conflict::{SiteId, Timestamp, WallTime};
use protocol::{
    BranchId, ChainHash, DatabaseId, Mode, Name, Sequence, SignedManifest, SignedOpening,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// A database's number at this site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatabaseNumber(pub i64);

/// A branch's number at this site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BranchNumber(pub i64);

/// What a database is to this site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// `attach` has begun and not finished: nothing of it counts yet.
    Attaching,
    /// An application beside this node writes it.
    Attached,
    /// It is another site's; this site keeps a mirror of it.
    Mirrored,
    /// The group shares it; this site keeps its batches, and no application writes it here.
    Kept,
    /// It was detached at its origin; what it had is kept.
    Detached,
}

/// A database.
#[derive(Clone, Debug)]
pub struct DatabaseRow {
    /// Its number here.
    pub number: DatabaseNumber,
    /// Its id everywhere.
    pub id: DatabaseId,
    /// What people call it.
    pub name: Name,
    /// Whose it is; of a shared one, who founded it.
    pub site: SiteId,
    /// Mirror or shared.
    pub mode: Mode,
    /// What it is to this site.
    pub state: DatabaseState,
    /// The application's file, or the mirror; empty where the database is only kept.
    pub path: PathBuf,
    /// The branch that this copy follows or writes; of a shared database this site's own while it
    /// is attached, else its founder's, as far as that is known.
    pub branch: Option<BranchNumber>,
}

/// A branch and how far it is here.
#[derive(Clone, Debug)]
pub struct BranchRow {
    /// Its number here.
    pub number: BranchNumber,
    /// Its id everywhere.
    pub id: BranchId,
    /// Its database.
    pub database: DatabaseNumber,
    /// Its opening record.
    pub opening: Arc<SignedOpening>,
    /// The highest sequence held without a gap.
    pub held: Sequence,
    /// The hash of the line there.
    pub hash: ChainHash,
    /// The timestamp of that batch.
    pub timestamp: Timestamp,
    /// The sequence at which content began; 0 if it was empty.
    pub base: Sequence,
    /// Whether that content is durable here.
    pub base_held: bool,
    /// The highest sequence applied to this site's copy.
    pub applied: Sequence,
    /// The time of that batch.
    pub as_of: WallTime,
    /// Whether its origin ended it.
    pub ended: bool,
}

impl BranchRow {
    /// The watermark: nothing while the base is not durable here.
    pub fn durable(&self) -> Sequence {
        if self.base_held { self.held } else { Sequence::ZERO }
    }

    /// The site whose changes these are.
    pub fn origin(&self) -> SiteId {
        self.opening.opening().origin
    }
}

impl DatabaseState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Mirrored => "mirrored",
            Self::Kept => "kept",
            Self::Detached => "detached",
        }
    }
}

/// A query of databases, with what follows the table's name.
macro_rules! databases {
    ($rest:literal) => {
        concat!(
            "SELECT number, database_id, name, site, mode, state, path, branch FROM database ",
            $rest
        )
    };
}

/// The same of branches.
macro_rules! branches {
    ($rest:literal) => {
        concat!(
            "SELECT number, branch, database, opening, held, hash, timestamp, base, base_held, \
             applied, as_of_ms, ended FROM branch ",
            $rest
        )
    };
}

fn database(row: &Row<'_>) -> Result<DatabaseRow, StoreError> {
    let name: String = row.get(2)?;
    let mode: String = row.get(4)?;
    let state: String = row.get(5)?;
    Ok(DatabaseRow {
        number: DatabaseNumber(row.get(0)?),
        id: DatabaseId(Uuid::from_bytes(fixed("database_id", row.get(1)?)?)),
        name: name.parse().map_err(|_| StoreError::Damaged(format!("database name {name:?}")))?,
        site: SiteId::from_bytes(fixed("site", row.get(3)?)?),
        mode: match mode.as_str() {
            "mirror" => Mode::Mirror,
            "shared" => Mode::Shared,
            other => return Err(StoreError::Damaged(format!("mode {other:?}"))),
        },
        state: match state.as_str() {
            "attaching" => DatabaseState::Attaching,
            "attached" => DatabaseState::Attached,
            "mirrored" => DatabaseState::Mirrored,
            "kept" => DatabaseState::Kept,
            "detached" => DatabaseState::Detached,
            other => return Err(StoreError::Damaged(format!("state {other:?}"))),
        },
        path: PathBuf::from(row.get::<_, String>(6)?),
        branch: row.get::<_, Option<i64>>(7)?.map(BranchNumber),
    })
}

/// An opening never changes, and reading one costs more than the rest of the row.
fn opening(
    row: &Row<'_>,
    id: BranchId,
    known: &mut Openings,
) -> Result<Arc<SignedOpening>, StoreError> {
    if let Some(opening) = known.get(&id) {
        return Ok(Arc::clone(opening));
    }
    let bytes: Vec<u8> = row.get(3)?;
    let opening: SignedOpening = rmp_serde::from_slice(&bytes)
        .map_err(|error| StoreError::Damaged(format!("an opening record: {error}")))?;
    let opening = Arc::new(opening);
    known.insert(id, Arc::clone(&opening));
    Ok(opening)
}

fn branch(row: &Row<'_>, known: &mut Openings) -> Result<BranchRow, StoreError> {
    let id = BranchId(fixed("branch", row.get(1)?)?);
    Ok(BranchRow {
        number: BranchNumber(row.get(0)?),
        id,
        database: DatabaseNumber(row.get(2)?),
        opening: opening(row, id, known)?,
        held: Sequence(loaded("held", row.get(4)?)?),
        hash: ChainHash(fixed("hash", row.get(5)?)?),
        timestamp: Timestamp::try_from(loaded("timestamp", row.get(6)?)?)
            .map_err(|error| StoreError::Damaged(error.to_string()))?,
        base: Sequence(loaded("base", row.get(7)?)?),
        base_held: row.get(8)?,
        applied: Sequence(loaded("applied", row.get(9)?)?),
        as_of: WallTime(row.get(10)?),
        ended: row.get(11)?,
    })
}

impl Store {
    /// All databases, by number.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn databases(&self) -> Result<Vec<DatabaseRow>, StoreError> {
        let mut statement = self.connection().prepare_cached(databases!("ORDER BY number"))?;
        let mut rows = statement.query([])?;
        let mut databases = Vec::new();
        while let Some(row) = rows.next()? {
            databases.push(database(row)?);
        }
        Ok(databases)
    }

    /// One database.
    ///
    /// # Errors
    /// See [`StoreError`]; there must be one of that number.
    pub fn database(&self, number: DatabaseNumber) -> Result<DatabaseRow, StoreError> {
        let mut statement = self.connection().prepare_cached(databases!("WHERE number = ?"))?;
        let mut rows = statement.query([number.0])?;
        rows.next()?
            .map(database)
            .transpose()?
            .ok_or_else(|| StoreError::Damaged(format!("there is no database {}", number.0)))
    }

    /// All branches, by number.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn branches(&self) -> Result<Vec<BranchRow>, StoreError> {
        let mut statement = self.connection().prepare_cached(branches!("ORDER BY number"))?;
        let mut rows = statement.query([])?;
        let mut branches = Vec::new();
        while let Some(row) = rows.next()? {
            branches.push(branch(row, &mut self.openings.borrow_mut())?);
        }
        Ok(branches)
    }

    /// One branch by its id.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn branch(&self, id: BranchId) -> Result<Option<BranchRow>, StoreError> {
        find(self.connection(), id, &mut self.openings.borrow_mut())
    }

    /// One branch by its number.
    ///
    /// # Errors
    /// See [`StoreError`]; there must be one of that number.
    pub fn branch_numbered(&self, number: BranchNumber) -> Result<BranchRow, StoreError> {
        let mut statement = self.connection().prepare_cached(branches!("WHERE number = ?"))?;
        let mut rows = statement.query([number.0])?;
        rows.next()?
            .map(|row| branch(row, &mut self.openings.borrow_mut()))
            .transpose()?
            .ok_or_else(|| StoreError::Damaged(format!("there is no branch {}", number.0)))
    }
}

impl Store {
    /// The manifest of a branch's base, if it is here.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn manifest(&self, branch: BranchNumber) -> Result<Option<SignedManifest>, StoreError> {
        let bytes: Option<Vec<u8>> = self
            .connection()
            .prepare_cached("SELECT manifest FROM manifest WHERE branch = ?")?
            .query_row([branch.0], |row| row.get(0))
            .optional()?;
        bytes
            .map(|bytes| {
                rmp_serde::from_slice(&bytes)
                    .map_err(|error| StoreError::Damaged(format!("a manifest: {error}")))
            })
            .transpose()
    }
}

impl Store {
    /// The branches of one database, by number.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn branches_of(&self, database: DatabaseNumber) -> Result<Vec<BranchRow>, StoreError> {
        let mut statement =
            self.connection().prepare_cached(branches!("WHERE database = ? ORDER BY number"))?;
        let mut rows = statement.query([database.0])?;
        let mut branches = Vec::new();
        while let Some(row) = rows.next()? {
            branches.push(branch(row, &mut self.openings.borrow_mut())?);
        }
        Ok(branches)
    }

    /// The branch of a shared database that brought its first content: its founder's. None: it
    /// has not come to be known here yet.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn founding_branch(
        &self,
        database: DatabaseNumber,
    ) -> Result<Option<BranchRow>, StoreError> {
        Ok(self.branches_of(database)?.into_iter().find(|branch| branch.base > Sequence::ZERO))
    }
}

/// One branch by its id.
///
/// # Errors
/// See [`StoreError`].
pub fn find_branch(connection: &Connection, id: BranchId) -> Result<Option<BranchRow>, StoreError> {
    find(connection, id, &mut Openings::new())
}

fn find(
    connection: &Connection,
    id: BranchId,
    known: &mut Openings,
) -> Result<Option<BranchRow>, StoreError> {
    let mut statement = connection.prepare_cached(branches!("WHERE branch = ?"))?;
    let mut rows = statement.query([id.0])?;
    rows.next()?.map(|row| branch(row, known)).transpose()
}

/// Adds a database; its number is given out here, whatever the row says.
///
/// # Errors
/// See [`StoreError`].
pub fn add_database(
    connection: &Connection,
    row: &DatabaseRow,
) -> Result<DatabaseNumber, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO database (database_id, name, site, mode, state, path)
             VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            row.id.0.as_bytes(),
            row.name.as_str(),
            row.site.as_bytes(),
            match row.mode {
                Mode::Mirror => "mirror",
                Mode::Shared => "shared",
            },
            row.state.as_str(),
            row.path.to_string_lossy(),
        ])?;
    Ok(DatabaseNumber(connection.last_insert_rowid()))
}

/// Moves a database to another state.
///
/// # Errors
/// See [`StoreError`].
pub fn set_state(
    connection: &Connection,
    number: DatabaseNumber,
    state: DatabaseState,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE database SET state = ? WHERE number = ?")?
        .execute(params![state.as_str(), number.0])?;
    Ok(())
}

/// Forgets a database that never had a branch.
///
/// # Errors
/// See [`StoreError`].
pub fn remove_database(connection: &Connection, number: DatabaseNumber) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM database WHERE number = ?")?.execute([number.0])?;
    Ok(())
}

/// Changes where a database lies.
///
/// # Errors
/// See [`StoreError`].
pub fn set_path(
    connection: &Connection,
    number: DatabaseNumber,
    path: &std::path::Path,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE database SET path = ? WHERE number = ?")?
        .execute(params![path.to_string_lossy(), number.0])?;
    Ok(())
}

/// Changes who founded a shared database, once that is known.
///
/// # Errors
/// See [`StoreError`].
pub fn set_site(
    connection: &Connection,
    number: DatabaseNumber,
    site: SiteId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE database SET site = ? WHERE number = ?")?
        .execute(params![site.as_bytes(), number.0])?;
    Ok(())
}

/// Makes a branch the one that its database's copy here follows or writes.
///
/// # Errors
/// See [`StoreError`].
pub fn follow_branch(
    connection: &Connection,
    number: DatabaseNumber,
    branch: BranchNumber,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE database SET branch = ? WHERE number = ?")?
        .execute([branch.0, number.0])?;
    Ok(())
}

/// Adds a branch at its beginning. Whether its database follows it is for [`follow_branch`] to say.
///
/// # Errors
/// See [`StoreError`].
pub fn add_branch(
    connection: &Connection,
    database: DatabaseNumber,
    opening: &SignedOpening,
    start: ChainHash,
    base: Sequence,
    base_held: bool,
) -> Result<BranchNumber, StoreError> {
    let bytes = rmp_serde::to_vec(opening)
        .map_err(|error| StoreError::Damaged(format!("an opening record: {error}")))?;
    connection
        .prepare_cached(
            "INSERT INTO branch
               (branch, database, opening, held, hash, timestamp, base, base_held, applied,
                as_of_ms)
             VALUES (?, ?, ?, 0, ?, 0, ?, ?, 0, 0)",
        )?
        .execute(params![opening.id().0, database.0, bytes, start.0, stored(base.0), base_held,])?;
    Ok(BranchNumber(connection.last_insert_rowid()))
}

/// Moves how far a branch was applied to this site's copy.
///
/// # Errors
/// See [`StoreError`].
pub fn set_applied(
    connection: &Connection,
    branch: BranchNumber,
    applied: Sequence,
    as_of: WallTime,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE branch SET applied = ?, as_of_ms = ? WHERE number = ?")?
        .execute(params![stored(applied.0), as_of.0, branch.0])?;
    Ok(())
}

/// Remembers that the base of a branch is durable here.
///
/// # Errors
/// See [`StoreError`].
pub fn set_base_held(connection: &Connection, branch: BranchNumber) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE branch SET base_held = 1 WHERE number = ?")?
        .execute([branch.0])?;
    Ok(())
}

/// Keeps the manifest of a branch's base.
///
/// # Errors
/// See [`StoreError`].
pub fn set_manifest(
    connection: &Connection,
    branch: BranchNumber,
    manifest: &SignedManifest,
) -> Result<(), StoreError> {
    let bytes = rmp_serde::to_vec(manifest)
        .map_err(|error| StoreError::Damaged(format!("a manifest: {error}")))?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO manifest (branch, manifest) VALUES (?, ?)")?
        .execute(params![branch.0, bytes])?;
    Ok(())
}
