//! A batch's changes, or a base's rows, as changes of merged rows: the numbers of its origin's
//! schema become this site's. Nothing is merged here.

use super::MergedId;
use super::numbers::{NumberedTable, Numbers};
use crate::capture::pack;
use crate::store::StoreError;
use conflict::row::{Assignment, Change, Column};
use conflict::{Rule, SiteId, Timestamp, Value, Version};
use protocol::change::{Assignment as Assigned, Operation, RowChange};
use protocol::schema::{ColumnIndex, RowIdentity, Schema, TableIndex};
use rusqlite::Connection;
use std::collections::BTreeMap;
use thiserror::Error;

/// Stamps so near the greatest are nobody's clock's.
const AT_THE_END: u64 = 1 << 48;

/// A change of one merged row.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The row.
    pub id: MergedId,
    /// Its stamp.
    pub version: Version,
    /// What happened.
    pub change: Change,
    /// The births of the rows that columns which it sets refer to.
    pub parents: Vec<(Column, Version)>,
}

/// Why a batch is not understood.
#[derive(Debug, Error)]
pub enum IncomingError {
    /// It does not fit its own schema.
    #[error("a change does not fit its schema: {0}")]
    Malformed(String),
    /// `node.db` fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The schema that batches of a branch are written in, with this site's numbers.
#[derive(Debug)]
pub struct Reading {
    schema: Schema,
    tables: BTreeMap<TableIndex, NumberedTable>,
    origin: SiteId,
}

impl Reading {
    /// That of an origin.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn new(
        connection: &Connection,
        numbers: &Numbers,
        schema: Schema,
        origin: SiteId,
    ) -> Result<Self, StoreError> {
        let tables = numbers.schema(connection, &schema)?;
        Ok(Self { schema, tables, origin })
    }

    /// A change that its batch stamps with `stamp`.
    ///
    /// # Errors
    /// It does not fit the schema.
    pub fn read(&self, change: RowChange, stamp: Timestamp) -> Result<Incoming, IncomingError> {
        let malformed = |what: &str| IncomingError::Malformed(what.to_owned());
        let id = self.row(&change)?;
        let table = self.schema.table(change.table).ok_or_else(|| malformed("no such table"))?;
        let numbered = self.tables.get(&change.table).ok_or_else(|| malformed("no such table"))?;
        let column = |index: ColumnIndex| {
            let number = numbered.columns.get(index.0 as usize).copied();
            number.ok_or_else(|| malformed("no such column"))
        };
        let timestamp = change.stamp.unwrap_or(stamp);
        // A later change of the row needs a stamp above this one.
        if timestamp.as_u64() > Timestamp::MAX.as_u64() - AT_THE_END {
            return Err(malformed("a stamp at the end of time"));
        }
        let version = Version { timestamp, origin: self.origin };
        let rules: BTreeMap<ColumnIndex, Rule> = change.rules.into_iter().collect();
        let rule = |index: &ColumnIndex| rules.get(index).copied().unwrap_or_default();
        let others: Vec<ColumnIndex> = table.other_columns().collect();
        let merged = match change.operation {
            Operation::Insert(values) if values.len() == others.len() => {
                let set = others.iter().zip(values);
                let set = set.map(|(index, value)| Ok((column(*index)?, value, rule(index))));
                Change::Insert(set.collect::<Result<_, IncomingError>>()?)
            }
            Operation::Insert(_) => return Err(malformed("a row of another width")),
            Operation::Update(assignments) => {
                let mut columns = Vec::with_capacity(assignments.len());
                for (index, assigned) in assignments {
                    if !others.contains(&index) {
                        return Err(malformed("an update of a key"));
                    }
                    let assignment = match assigned {
                        Assigned::Set(value) => Assignment::Set(value, rule(&index)),
                        Assigned::Add(value) => Assignment::Add(value),
                    };
                    columns.push((column(index)?, assignment));
                }
                Change::Update(columns)
            }
            Operation::Delete => Change::Delete,
            Operation::Forget => return Err(malformed("a row that is forgotten")),
        };
        let parents = change.references.into_iter();
        let parents = parents.map(|(index, birth)| Ok((column(index)?, birth)));
        let parents = parents.collect::<Result<_, IncomingError>>()?;
        Ok(Incoming { id, version, change: merged, parents })
    }

    /// The row that a change is of.
    ///
    /// # Errors
    /// The change does not fit the schema.
    pub fn row(&self, change: &RowChange) -> Result<MergedId, IncomingError> {
        let malformed = |what: &str| IncomingError::Malformed(what.to_owned());
        let table = self.schema.table(change.table).ok_or_else(|| malformed("no such table"))?;
        let numbered = self.tables.get(&change.table).ok_or_else(|| malformed("no such table"))?;
        if matches!(table.identity, RowIdentity::Rowid(_)) {
            return Err(malformed("a table without a key"));
        }
        if change.key.len() != table.identity_width() {
            return Err(malformed("a key of another width"));
        }
        if change.key.contains(&Value::Null) {
            return Err(malformed("a key with NULL in it"));
        }
        Ok(MergedId {
            table: numbered.number,
            key: pack(&change.key),
            birth: change.birth.map(super::pack_version).unwrap_or_default(),
        })
    }
}
