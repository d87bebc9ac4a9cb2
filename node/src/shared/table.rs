//! The constraints of one table as SQLite's pragmas tell them: its key, its UNIQUE indexes, its
//! foreign keys. Nothing is evaluated here.

use crate::capture::{IndexStatement, index_statement, tokens};
use crate::sql::quoted;
use conflict::Value;
use protocol::schema::{RowIdentity, Table};
use rusqlite::{Connection, OptionalExtension};

/// The collations that SQLite has by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collation {
    Binary,
    NoCase,
    RTrim,
}

impl Collation {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "BINARY" => Some(Self::Binary),
            "NOCASE" => Some(Self::NoCase),
            "RTRIM" => Some(Self::RTrim),
            _ => None,
        }
    }
}

/// One UNIQUE index beside the key.
#[derive(Clone, Debug)]
pub(super) struct UniqueIndex {
    pub terms: Terms,
    /// The columns that its terms name, by their place in the row: to give one another value may
    /// have the index claim another. What only its condition names is not among them.
    pub named: Vec<usize>,
    pub collations: Vec<Collation>,
}

/// What an index is on.
#[derive(Clone, Debug)]
pub(super) enum Terms {
    /// Columns alone, by their place in the row.
    Columns(Vec<usize>),
    /// Expressions, generated columns, or some rows only: a query that reads what the only row of
    /// the table claims, and finds none where the index leaves the row out.
    Question(String),
}

/// One foreign key.
#[derive(Clone, Debug)]
pub(super) struct References {
    /// The columns that refer, by their place in the row.
    pub columns: Vec<usize>,
    pub parent: String,
    /// The columns that are referred to; none: the parent's key.
    pub parent_columns: Option<Vec<String>>,
}

/// One table.
#[derive(Clone, Debug)]
pub(super) struct Constrained {
    pub name: String,
    pub columns: Vec<Column>,
    /// The key's columns, by their place in the row, and how they compare.
    pub key: Vec<(usize, Collation)>,
    /// The key is the rowid: SQLite hands it out.
    pub key_is_rowid: bool,
    pub indexes: Vec<UniqueIndex>,
    /// Columns of the key and of UNIQUE indexes, by their place in the row.
    pub telling: Vec<usize>,
    pub references: Vec<References>,
}

/// One column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub affinity: Affinity,
    pub not_null: bool,
}

/// Into which class SQLite turns what is stored in a column, where it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affinity {
    Text,
    /// INTEGER and NUMERIC, which store alike.
    Numeric,
    Real,
    Blob,
}

impl Affinity {
    /// By the rules of <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>.
    fn of(kind: &str) -> Self {
        let kind = kind.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| kind.contains(part));
        match () {
            () if has(&["INT"]) => Self::Numeric,
            () if has(&["CHAR", "CLOB", "TEXT"]) => Self::Text,
            () if kind.is_empty() || has(&["BLOB"]) => Self::Blob,
            () if has(&["REAL", "FLOA", "DOUB"]) => Self::Real,
            () => Self::Numeric,
        }
    }

    /// Whether a value is surely stored as it is.
    pub fn keeps(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Blob, _) | (_, Value::Null | Value::Blob(_)) => true,
            (Self::Text, value) => matches!(value, Value::Text(_)),
            (Self::Numeric, value) => matches!(value, Value::Integer(_)),
            (Self::Real, value) => matches!(value, Value::Real(_)),
        }
    }
}

/// Reads a table. `Err` in the answer: what can't be kept safe, in one sentence.
pub(super) fn read(
    connection: &Connection,
    table: &Table,
) -> rusqlite::Result<Result<Constrained, String>> {
    let RowIdentity::Key(key) = &table.identity else {
        return Ok(Err(format!("the table {} has no key that tells its rows apart", table.name)));
    };
    let columns = columns(connection, table)?;
    let (mut indexes, mut key_collations) = (Vec::new(), Vec::new());
    let mut list = connection
        .prepare("SELECT name, origin FROM pragma_index_list(?1) WHERE \"unique\" ORDER BY name")?;
    let found = list
        .query_map([&table.name], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(String, String)>>>()?;
    for (name, origin) in found {
        let index = match index(connection, table, name)? {
            Ok(index) => index,
            Err(what) => return Ok(Err(what)),
        };
        match origin.as_str() {
            "pk" => key_collations = index.collations,
            _ => indexes.push(index),
        }
    }
    let places = key.iter().map(|column| column.0 as usize);
    let references = match references(connection, table)? {
        Ok(references) => references,
        Err(what) => return Ok(Err(what)),
    };
    // An INTEGER PRIMARY KEY has no index, and every other key has one.
    let key_is_rowid = key_collations.is_empty();
    let mut telling: Vec<usize> = places.clone().collect();
    for index in &indexes {
        if let Terms::Columns(columns) = &index.terms {
            telling.extend(columns);
        }
    }
    telling.sort_unstable();
    telling.dedup();
    let collations = key_collations.into_iter().chain(std::iter::repeat(Collation::Binary));
    Ok(Ok(Constrained {
        name: table.name.clone(),
        columns,
        key: places.zip(collations).collect(),
        key_is_rowid,
        indexes,
        telling,
        references,
    }))
}

fn columns(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<Column>> {
    let mut statement = connection
        .prepare("SELECT type, \"notnull\" FROM pragma_table_xinfo(?1) WHERE name = ?2")?;
    let columns = table.columns.iter().map(|name| {
        statement.query_row([&table.name, name], |row| {
            let (kind, not_null) = (row.get::<_, String>(0)?, row.get(1)?);
            Ok(Column { name: name.clone(), affinity: Affinity::of(&kind), not_null })
        })
    });
    columns.collect()
}

fn index(
    connection: &Connection,
    table: &Table,
    name: String,
) -> rusqlite::Result<Result<UniqueIndex, String>> {
    let mut statement = connection
        .prepare("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?;
    let parts = statement
        .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(Option<String>, String)>>>()?;
    let mut collations = Vec::new();
    for (_, collation) in &parts {
        match Collation::named(collation) {
            Some(known) => collations.push(known),
            None => {
                return Ok(Err(format!(
                    "the table {} has a UNIQUE index with the collation {collation}, which only the \
                     application knows",
                    table.name
                )));
            }
        }
    }
    let sql: Option<String> = connection
        .query_row(
            "SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?1",
            [&name],
            |row| row.get(0),
        )
        .optional()?
        .flatten();
    let place = |name: &Option<String>| {
        let name = name.as_deref()?;
        table.columns.iter().position(|column| column == name)
    };
    let places: Option<Vec<usize>> = parts.iter().map(|(name, _)| place(name)).collect();
    let mut named: Vec<usize> = parts.iter().filter_map(|(name, _)| place(name)).collect();
    let question = |terms: &[&str], condition: Option<&str>| {
        let filter = condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
        format!("SELECT {} FROM {}{filter}", terms.join(", "), quoted(&table.name))
    };
    // One that a UNIQUE of the table made has no statement.
    let terms = match (sql.as_deref().map(index_statement), places) {
        (None, Some(places)) => Terms::Columns(places),
        (None, None) => {
            let names: Vec<String> =
                parts.iter().flat_map(|(name, _)| name.as_deref()).map(quoted).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Terms::Question(question(&names, None))
        }
        (Some(Some(statement)), Some(places)) if statement.condition.is_none() => {
            Terms::Columns(places)
        }
        (Some(Some(IndexStatement { terms: Some(terms), condition })), _) => {
            named = terms.iter().flat_map(|term| columns_in(term, table)).collect();
            Terms::Question(question(&terms, condition))
        }
        (Some(_), _) => {
            return Ok(Err(format!(
                "the index {name} is written in a way that this program can't read"
            )));
        }
    };
    Ok(Ok(UniqueIndex { terms, named, collations }))
}

/// The columns that an expression names, by their place in the row.
fn columns_in(term: &str, table: &Table) -> impl Iterator<Item = usize> {
    let words = tokens(term).into_iter().map(|token| token.text(term));
    let bare = |word: &str| word.trim_matches(['"', '`', '[', ']']).to_owned();
    words.map(bare).filter_map(|word| {
        table.columns.iter().position(|column| column.eq_ignore_ascii_case(&word))
    })
}

fn references(
    connection: &Connection,
    table: &Table,
) -> rusqlite::Result<Result<Vec<References>, String>> {
    let mut statement = connection.prepare(
        "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1)
         ORDER BY id, seq",
    )?;
    let mut rows = statement.query([&table.name])?;
    let mut found: Vec<(i64, References)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, parent): (i64, String) = (row.get(0)?, row.get(1)?);
        let (from, to): (String, Option<String>) = (row.get(2)?, row.get(3)?);
        let same = |name: &&String| name.eq_ignore_ascii_case(&from);
        let Some(place) = table.columns.iter().position(|name| same(&name)) else {
            return Ok(Err(format!("a foreign key of {} is on a generated column", table.name)));
        };
        if found.last().is_none_or(|(last, _)| *last != id) {
            let parent_columns = to.is_some().then(Vec::new);
            found.push((id, References { columns: Vec::new(), parent, parent_columns }));
        }
        if let Some((_, references)) = found.last_mut() {
            references.columns.push(place);
            if let (Some(columns), Some(to)) = (&mut references.parent_columns, to) {
                columns.push(to);
            }
        }
    }
    Ok(Ok(found.into_iter().map(|(_, references)| references).collect()))
}
