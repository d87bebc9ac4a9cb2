//! The local schema's constraints, answered by SQLite itself: an empty database in memory with the
//! same tables, on which one row at a time is tried. The application's own file is not touched.
//!
//! What only SQLite knows is asked there: CHECK, NOT NULL, STRICT, expressions and the conditions
//! of partial indexes. Plain columns under SQLite's own collations are compared here, by the same
//! rules. What rows there are, and who is visible, is not known here.

use super::table::{self, Affinity, Collation, Constrained, Terms, UniqueIndex};
use crate::capture::{CaptureError, PackedKey};
use crate::sql::{bind, from_sql, perform, quoted, row_values};
use crate::store::StoreError;
use conflict::visible::{
    Claim, Constraints, ForeignKey, Index, Remedy, RowId, Table as TableNumber,
};
use conflict::{SiteId, Value};
use protocol::schema::{ObjectKind, RowIdentity, Schema};
use rusqlite::{Connection, ErrorCode};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// What keeps the constraints from being known.
#[derive(Debug, Error)]
pub enum DeskError {
    /// The schema has something that shared mode can't keep safe.
    #[error("{0}")]
    Unfit(String),
    /// SQLite fails.
    #[error("trying a row: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A table, index or foreign key was asked for that the schema lacks.
    #[error("the schema has no {0}")]
    Unknown(&'static str),
    /// A site was asked for whose code is not known.
    #[error("site {0} has no code")]
    NoCode(SiteId),
    /// A row holds the greatest stamp there is.
    #[error("a row holds a stamp at the end of time, so that no change of it can follow")]
    Exhausted,
    /// `node.db` fails, or what it holds is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored of a row is damaged.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

/// What a row refers to through one foreign key.
#[derive(Clone, Debug, PartialEq)]
pub struct Referred {
    /// The foreign key.
    pub foreign_key: ForeignKey,
    /// The parent's table.
    pub table: TableNumber,
    /// Columns of the parent, by their place in its rows, with the values they must have: as the
    /// child has them. Where the parent's column has another affinity or collation, SQLite may
    /// take another form for equal.
    pub values: Vec<(usize, Value)>,
    /// Whether these are the parent's key, in its order.
    pub by_key: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    connection: Connection,
    /// In the order of the schema: [`TableNumber`] is the place.
    tables: Vec<Constrained>,
    /// [`Index`] is the place: which table, and which of its indexes.
    indexes: Vec<(usize, usize)>,
    /// [`ForeignKey`] is the place.
    foreign_keys: Vec<ResolvedKey>,
    codes: BTreeMap<SiteId, String>,
    /// Tables whose rows are parked where their parent is dead, by their places.
    parked: BTreeSet<usize>,
    /// Tables whose rows stay at their site, by their places.
    staying: BTreeSet<usize>,
}

#[derive(Debug)]
struct ResolvedKey {
    child: usize,
    columns: Vec<usize>,
    parent: usize,
    parent_columns: Vec<usize>,
    by_key: bool,
}

impl Desk {
    /// The constraints of a schema. `codes` are the sites' names as they stand in marks.
    ///
    /// # Errors
    /// The schema has something that shared mode can't keep safe, or SQLite fails.
    pub fn new(schema: &Schema, codes: BTreeMap<SiteId, String>) -> Result<Self, DeskError> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch("PRAGMA foreign_keys = OFF")?;
        for object in &schema.objects {
            if matches!(object.kind, ObjectKind::Table | ObjectKind::Index) {
                // A function that only the application has, for instance.
                connection.execute_batch(&object.sql).map_err(|error| {
                    let kind = if object.kind == ObjectKind::Table { "table" } else { "index" };
                    DeskError::Unfit(format!("the {kind} {} can't be made: {error}", object.name))
                })?;
            }
        }
        let mut tables = Vec::new();
        for table in &schema.tables {
            tables.push(table::read(&connection, table)?.map_err(DeskError::Unfit)?);
        }
        let indexes = tables
            .iter()
            .enumerate()
            .flat_map(|(at, table)| (0..table.indexes.len()).map(move |index| (at, index)))
            .collect();
        let foreign_keys = resolve(schema, &tables)?;
        let (parked, staying) = (BTreeSet::new(), BTreeSet::new());
        Ok(Self { connection, tables, indexes, foreign_keys, codes, parked, staying })
    }

    /// Has rows of these tables, by their places, parked where their parent is dead, instead of the
    /// parent kept.
    pub fn parking(self, tables: BTreeSet<usize>) -> Self {
        Self { parked: tables, ..self }
    }

    /// Has no foreign key bind that refers to one of these tables, by their places, or stands in it.
    pub fn staying(self, tables: BTreeSet<usize>) -> Self {
        Self { staying: tables, ..self }
    }

    /// Whether SQLite hands out the keys of a table: an INTEGER PRIMARY KEY, the rowid itself.
    ///
    /// # Errors
    /// There is no such table.
    pub fn hands_out_keys(&self, table: TableNumber) -> Result<bool, DeskError> {
        Ok(self.table(table)?.key_is_rowid)
    }

    /// What a row of these values refers to. NULL refers to nothing.
    ///
    /// # Errors
    /// There is no such table.
    pub fn references(
        &self,
        table: TableNumber,
        values: &[Value],
    ) -> Result<Vec<Referred>, DeskError> {
        self.table(table)?;
        let mut found = Vec::new();
        for (number, key) in self.foreign_keys.iter().enumerate() {
            let stays = self.staying.contains(&key.child) || self.staying.contains(&key.parent);
            if key.child != table.0 as usize || stays {
                continue;
            }
            let referred: Vec<(usize, Value)> = (key.parent_columns.iter().copied())
                .zip(key.columns.iter().filter_map(|column| values.get(*column)).cloned())
                .collect();
            if referred.iter().any(|(_, value)| matches!(value, Value::Null)) {
                continue;
            }
            found.push(Referred {
                foreign_key: ForeignKey(number as u32),
                table: TableNumber(key.parent as u32),
                values: referred,
                by_key: key.by_key,
            });
        }
        Ok(found)
    }

    /// The columns of a foreign key, by their places in the child's rows.
    ///
    /// # Errors
    /// There is no such foreign key.
    pub fn columns_of(&self, foreign_key: ForeignKey) -> Result<&[usize], DeskError> {
        let known = self.foreign_keys.get(foreign_key.0 as usize);
        known.map(|key| key.columns.as_slice()).ok_or(DeskError::Unknown("such foreign key"))
    }

    /// The place of the table whose row a column refers to by itself, by that table's key.
    pub fn sole_parent(&self, table: TableNumber, column: usize) -> Option<usize> {
        let own = |key: &&ResolvedKey| {
            key.child == table.0 as usize && key.by_key && key.columns == [column]
        };
        self.foreign_keys.iter().find(own).map(|key| key.parent)
    }

    fn table(&self, table: TableNumber) -> Result<&Constrained, DeskError> {
        self.tables.get(table.0 as usize).ok_or(DeskError::Unknown("such table"))
    }

    fn index(&self, index: Index) -> Result<(&Constrained, &UniqueIndex), DeskError> {
        self.indexes
            .get(index.0 as usize)
            .and_then(|(table, index)| {
                let table = self.tables.get(*table)?;
                Some((table, table.indexes.get(*index)?))
            })
            .ok_or(DeskError::Unknown("such index"))
    }

    /// Puts a row on the desk, asks, and clears the desk. `None`: the table takes no such row.
    fn try_row<T>(
        &self,
        table: &Constrained,
        values: &[Value],
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, DeskError> {
        perform(&self.connection, "SAVEPOINT row")?;
        let asked = match self.insert(table, values) {
            Ok(()) => ask(&self.connection).map(Some),
            Err(error) if is_refusal(&error) => Ok(None),
            Err(error) => Err(error),
        };
        perform(&self.connection, "ROLLBACK TO row")?;
        perform(&self.connection, "RELEASE row")?;
        Ok(asked?)
    }

    /// OR ABORT, whatever the schema says of conflicts: a refusal is an error, and no more.
    fn insert(&self, table: &Constrained, values: &[Value]) -> rusqlite::Result<()> {
        let columns: Vec<String> = table.columns.iter().map(|c| quoted(&c.name)).collect();
        let places: Vec<String> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
        let mut insert = self.connection.prepare_cached(&format!(
            "INSERT OR ABORT INTO {} ({}) VALUES ({})",
            quoted(&table.name),
            columns.join(", "),
            places.join(", ")
        ))?;
        bind(&mut insert, values)?;
        insert.raw_execute().map(drop)
    }
}

impl Constraints for Desk {
    type Error = DeskError;

    fn indexes(&self, table: TableNumber) -> Result<Vec<Index>, DeskError> {
        let own = |(_, (at, _)): &(usize, &(usize, usize))| *at == table.0 as usize;
        let indexes = self.indexes.iter().enumerate().filter(own);
        Ok(indexes.map(|(number, _)| Index(number as u32)).collect())
    }

    fn claim(&self, index: Index, values: &[Value]) -> Result<Option<Claim>, DeskError> {
        let (table, index) = self.index(index)?;
        let terms: Option<Vec<Value>> = match &index.terms {
            Terms::Columns(columns) => {
                Some(columns.iter().filter_map(|column| values.get(*column)).cloned().collect())
            }
            Terms::Question(question) => self
                .try_row(table, values, |connection| {
                    let mut question = connection.prepare_cached(question)?;
                    let mut rows = question.query([])?;
                    let Some(row) = rows.next()? else { return Ok(None) };
                    let terms = (0..index.collations.len())
                        .map(|term| Ok(from_sql(row.get_ref(term)?)))
                        .collect::<rusqlite::Result<_>>()?;
                    Ok(Some(terms))
                })?
                .flatten(),
        };
        Ok(terms.and_then(|terms| claim(terms, index.collations.iter().copied())))
    }

    fn key_claim(&self, row: &RowId) -> Result<Claim, DeskError> {
        let table = self.table(row.table)?;
        let collations = table.key.iter().map(|(_, collation)| *collation);
        claim(row.key.clone(), collations).ok_or(DeskError::Unknown("key with NULL in it"))
    }

    fn remedy(&self, index: Index) -> Result<Remedy, DeskError> {
        let at = self.indexes.get(index.0 as usize).map(|(table, _)| *table);
        let at = at.ok_or(DeskError::Unknown("such index"))?;
        let (table, index) = self.index(index)?;
        let markable = |column: &&usize| {
            let in_key = table.key.iter().any(|(key, _)| key == *column);
            let in_foreign_key = self.foreign_keys.iter().any(|key| {
                (key.child == at && key.columns.contains(column))
                    || (key.parent == at && key.parent_columns.contains(column))
            });
            let text =
                table.columns.get(**column).is_some_and(|column| column.affinity == Affinity::Text);
            text && !in_key && !in_foreign_key
        };
        // The last column of a composite index is the one that tells its rows apart: a number
        // within a year, a place within a hall.
        let column = index.named.iter().rev().find(markable).copied();
        Ok(column.map_or(Remedy::Park, |column| {
            let nullable = table.columns.get(column).is_some_and(|column| !column.not_null);
            Remedy::Mark { column, nullable }
        }))
    }

    /// Not accepted either is a row that SQLite would store under another key, or with another
    /// unique value, than it has: those may be another row's.
    fn accepts(&self, table: TableNumber, values: &[Value]) -> Result<bool, DeskError> {
        let table = self.table(table)?;
        let turned = table.telling.iter().any(|place| {
            let column = table.columns.get(*place).zip(values.get(*place));
            column.is_some_and(|(column, value)| !column.affinity.keeps(value))
        });
        if !turned {
            return Ok(self.try_row(table, values, |_| Ok(()))?.is_some());
        }
        let stored = self.try_row(table, values, |connection| {
            let columns: Vec<String> = table.columns.iter().map(|c| quoted(&c.name)).collect();
            let sql = format!("SELECT {} FROM {}", columns.join(", "), quoted(&table.name));
            connection.query_row(&sql, [], |row| row_values(row, 0, columns.len()))
        })?;
        Ok(stored.is_some_and(|stored| {
            table.telling.iter().all(|place| stored.get(*place) == values.get(*place))
        }))
    }

    fn keeps_parent(&self, foreign_key: ForeignKey) -> Result<bool, DeskError> {
        let known = self.foreign_keys.get(foreign_key.0 as usize);
        let known = known.ok_or(DeskError::Unknown("such foreign key"))?;
        Ok(!self.parked.contains(&known.child))
    }

    fn code(&self, site: SiteId) -> Result<String, DeskError> {
        self.codes.get(&site).cloned().ok_or(DeskError::NoCode(site))
    }
}

/// Foreign keys with the places of tables and columns. One to a table that is not carried binds
/// nobody.
fn resolve(schema: &Schema, tables: &[Constrained]) -> Result<Vec<ResolvedKey>, DeskError> {
    let mut resolved = Vec::new();
    for (child, table) in tables.iter().enumerate() {
        for references in &table.references {
            let same = |other: &Constrained| other.name.eq_ignore_ascii_case(&references.parent);
            let Some(parent) = tables.iter().position(same) else { continue };
            let Some(of) = schema.tables.get(parent) else { continue };
            let key: Vec<usize> = match &of.identity {
                RowIdentity::Key(key) => key.iter().map(|column| column.0 as usize).collect(),
                RowIdentity::Rowid(_) => Vec::new(),
            };
            let parent_columns = match &references.parent_columns {
                None => key.clone(),
                Some(names) => names
                    .iter()
                    .map(|name| of.columns.iter().position(|c| c.eq_ignore_ascii_case(name)))
                    .collect::<Option<_>>()
                    .ok_or_else(|| {
                        DeskError::Unfit(format!(
                            "a foreign key of {} refers to a column that {} lacks",
                            table.name, of.name
                        ))
                    })?,
            };
            resolved.push(ResolvedKey {
                child,
                columns: references.columns.clone(),
                parent,
                by_key: parent_columns == key,
                parent_columns,
            });
        }
    }
    Ok(resolved)
}

/// Values as uniqueness compares them; `None` where NULL is among them.
fn claim(values: Vec<Value>, collations: impl Iterator<Item = Collation>) -> Option<Claim> {
    if values.iter().any(|value| matches!(value, Value::Null)) {
        return None;
    }
    let folded: Vec<Value> =
        values.into_iter().zip(collations).map(|(value, by)| folded(value, by)).collect();
    Some(Claim(PackedKey::new(&folded).as_bytes().to_vec()))
}

/// See <https://www.sqlite.org/datatype3.html#collation>: only text has a collation.
fn folded(value: Value, collation: Collation) -> Value {
    match (value, collation) {
        (Value::Text(text), Collation::NoCase) => {
            // SQLite compares lengths, and bytes up to the first NUL alone.
            let mut text = text.to_ascii_lowercase();
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            text.iter_mut().skip(end).for_each(|byte| *byte = 0);
            Value::Text(text)
        }
        (Value::Text(mut text), Collation::RTrim) => {
            let length = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
            text.truncate(length);
            Value::Text(text)
        }
        (value, _) => value,
    }
}

/// Whether SQLite says that the table takes no such row: a constraint, or one that can't be
/// evaluated for it.
fn is_refusal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::Unknown)
    )
}

#[cfg(test)]
mod tests;
