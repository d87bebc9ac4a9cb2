//! Reads the shape of an application's database: which tables are carried, what tells their rows
//! apart, what stands in the way. It writes nothing, and knows nothing of the node's own database.

use super::hop::Hop;
use crate::sql::quoted;
use protocol::schema::{
    ColumnIndex, ObjectKind, RowIdentity, Schema, SchemaObject, Table, TableIndex,
};
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeSet;

/// What everything that we put into an application's database is called.
pub const PREFIX: &str = "_holdfast";

/// What an application's database holds.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The shape of what is carried.
    pub schema: Schema,
    /// More about each of the schema's tables, in their order.
    pub tables: Vec<InspectedTable>,
    /// How it commits.
    pub journal: JournalMode,
    /// `PRAGMA schema_version`: moves with every change of the schema, and with VACUUM.
    pub schema_version: i64,
    /// What a person should know, refusals first.
    pub findings: Vec<Finding>,
}

/// How a database commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalMode {
    /// With a write-ahead log: readers and writers don't meet.
    Wal,
    /// With a rollback journal: an open read delays a commit.
    Rollback,
}

/// What capture needs to know of a table beyond the protocol's [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedTable {
    /// What tells its rows apart, in words for people.
    pub finding: String,
    /// Per column of the key, the collation under which it is unique; empty for rowids and for
    /// an INTEGER PRIMARY KEY.
    pub collations: Vec<String>,
    /// The rowid under a name that no column takes away, if there is one.
    pub rowid: Option<String>,
    /// The UNIQUE indexes through which REPLACE can remove another row (CAPTURE.md, trap 1).
    pub unique: Vec<UniqueIndex>,
    /// REPLACE can remove a row through an index that no trigger can name: rows are counted.
    pub recount: bool,
    /// Whether its numbers can hop to others.
    pub hop: Hop,
}

/// A UNIQUE index that is not the identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueIndex {
    /// Its columns with their collations.
    pub columns: Vec<(String, String)>,
    /// The WHERE of a partial index.
    pub condition: Option<String>,
}

/// Something a person should know before attaching.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// The table concerned.
    pub table: Option<String>,
    /// What was found, in one sentence.
    pub what: String,
    /// What to do about it, in one sentence; empty where nothing need be done.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// It can't be kept safe.
    Refusal,
    /// It is kept safe, with a consequence.
    Warning,
    /// Good to know.
    Note,
}

impl Inspection {
    /// The table of that number with what capture knows about it.
    pub fn table(&self, index: TableIndex) -> Option<(&Table, &InspectedTable)> {
        Some((self.schema.table(index)?, self.tables.get(index.0 as usize)?))
    }

    /// The first reason to refuse the database, if there is one.
    pub fn refusal(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.weight == Weight::Refusal)
    }
}

/// Reads the shape of the database on `connection`, in one read snapshot if the caller holds one.
///
/// A table whose key may hold NULL is keyed by it as long as none does. `previous` keeps a table
/// that was once carried by rowid that way, so that it does not go to and fro.
pub fn inspect(connection: &Connection, previous: Option<&Schema>) -> rusqlite::Result<Inspection> {
    let mode: String = connection.query_row("PRAGMA main.journal_mode", [], |row| row.get(0))?;
    let journal = match mode.as_str() {
        "wal" => JournalMode::Wal,
        _ => JournalMode::Rollback,
    };
    let mut reader = Reader { connection, previous, findings: Vec::new() };
    let mut carried = reader.tables()?;
    carried.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let (tables, mut inspected): (Vec<_>, Vec<_>) = carried.into_iter().unzip();
    let objects = reader.objects(&tables)?;
    let mirror: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_info('_holdfast_marker') WHERE name = 'branch')",
        [],
        |row| row.get(0),
    )?;
    if mirror {
        reader.find(
            Weight::Refusal,
            None,
            "the file is a mirror of another site's database, or a copy of one",
            "Attach the application's own file.",
        );
    }
    if journal == JournalMode::Rollback {
        reader.find(
            Weight::Warning,
            None,
            "the database uses a rollback journal: a read of the node can delay a commit by \
             milliseconds",
            "Attach with --wal if every program that opens it is on this computer.",
        );
    }
    let mut findings = reader.findings;
    findings.sort();
    let schema = Schema {
        tables,
        objects,
        user_version: pragma(connection, "user_version")?,
        application_id: pragma(connection, "application_id")?,
    };
    for (table, inspected) in schema.tables.iter().zip(&mut inspected) {
        inspected.hop = Hop::of(connection, &schema, table)?;
    }
    Ok(Inspection {
        schema,
        tables: inspected,
        journal,
        schema_version: pragma(connection, "schema_version")?,
        findings,
    })
}

pub(super) fn pragma<T: rusqlite::types::FromSql>(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<T> {
    connection.prepare_cached(&format!("PRAGMA main.{name}"))?.query_row([], |row| row.get(0))
}

/// A column as `table_xinfo` tells it.
struct Column {
    name: String,
    not_null: bool,
    key_place: u32,
    generated: bool,
}

/// An index as `index_list` and `index_xinfo` tell it. A column without a name is an expression.
struct Index {
    name: String,
    primary: bool,
    partial: bool,
    columns: Vec<(Option<String>, String)>,
}

struct Reader<'a> {
    connection: &'a Connection,
    previous: Option<&'a Schema>,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn find(&mut self, weight: Weight, table: Option<&str>, what: impl Into<String>, remedy: &str) {
        self.findings.push(Finding {
            weight,
            table: table.map(str::to_owned),
            what: what.into(),
            remedy: remedy.to_owned(),
        });
    }

    fn tables(&mut self) -> rusqlite::Result<Vec<(Table, InspectedTable)>> {
        let mut statement = self.connection.prepare(
            "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' ORDER BY name",
        )?;
        let list = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<(String, String, bool)>>>()?;
        let mut tables = Vec::new();
        for (name, kind, without_rowid) in list {
            if is_internal(&name) {
                continue;
            }
            match kind.as_str() {
                "table" => tables.extend(self.table(name, without_rowid)?),
                "virtual" => self.find(
                    Weight::Note,
                    Some(&name),
                    format!("{name} is a virtual table: its content is not carried"),
                    "It must follow from tables that are.",
                ),
                _ => {}
            }
        }
        Ok(tables)
    }

    fn table(
        &mut self,
        name: String,
        without_rowid: bool,
    ) -> rusqlite::Result<Option<(Table, InspectedTable)>> {
        let all = self.columns(&name)?;
        let indexes = self.unique_indexes(&name)?;
        let taken: BTreeSet<String> = all.iter().map(|c| c.name.to_ascii_lowercase()).collect();
        let rowid = ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|alias| !without_rowid && !taken.contains(*alias))
            .map(str::to_owned);
        let generated: BTreeSet<&str> =
            all.iter().filter(|c| c.generated).map(|c| c.name.as_str()).collect();
        let columns: Vec<&Column> = all.iter().filter(|column| !column.generated).collect();
        let mut key: Vec<(u32, ColumnIndex)> = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.key_place > 0)
            .map(|(at, column)| (column.key_place, ColumnIndex(at as u32)))
            .collect();
        key.sort();
        let key: Vec<ColumnIndex> = key.into_iter().map(|(_, column)| column).collect();
        let key_columns: Vec<&Column> =
            key.iter().filter_map(|at| columns.get(at.0 as usize).copied()).collect();
        let key_index = indexes.iter().find(|index| index.primary);
        let key_names = key_columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");

        let nullable = !without_rowid
            && key_index.is_some()
            && key_columns.iter().any(|column| !column.not_null);
        let keyed = !key.is_empty()
            && !(nullable && (self.was_by_rowid(&name) || self.has_null(&name, &key_columns)?));
        let (identity, finding) = if keyed {
            (RowIdentity::Key(key), format!("rows are told apart by the primary key ({key_names})"))
        } else if let Some(alias) = &rowid {
            let why = if nullable { "the primary key holds NULL" } else { "there is no key" };
            (
                RowIdentity::Rowid(alias.clone()),
                format!("{why}: rows are told apart by rowid, and compared anew after a VACUUM"),
            )
        } else {
            self.find(
                Weight::Refusal,
                Some(&name),
                format!("the rows of {name} have nothing that tells them apart"),
                "Give the table a primary key.",
            );
            return Ok(None);
        };

        let mut collations = Vec::new();
        if let (true, Some(index)) = (keyed, key_index) {
            collations = index.columns.iter().map(|(_, collation)| collation.clone()).collect();
            if !self.knows_collations(&name, &collations) {
                return Ok(None);
            }
        }
        let mut unique = Vec::new();
        let mut recount = false;
        for index in &indexes {
            if keyed && covers_key(index, &key_columns) {
                continue;
            }
            match self.nameable(index, &generated)? {
                Some(named) => unique.push(named),
                None => recount = true,
            }
        }
        let named: BTreeSet<&str> = unique
            .iter()
            .flat_map(|index: &UniqueIndex| index.columns.iter().map(|(name, _)| name.as_str()))
            .collect();
        if !named.is_empty() {
            let named = named.into_iter().collect::<Vec<_>>().join(", ");
            self.find(
                Weight::Note,
                Some(&name),
                format!("while attached, {name} can't lose a column of a UNIQUE index ({named})"),
                "Before an upgrade of the application that drops one, detach.",
            );
        }
        if recount {
            self.find(
                Weight::Note,
                Some(&name),
                format!(
                    "{name} has a UNIQUE index on an expression: its rows are counted \
                         after each change"
                ),
                "",
            );
        }
        let table = Table {
            name,
            columns: columns.iter().map(|column| column.name.clone()).collect(),
            identity,
        };
        let hop = Hop::Uncounted; // looked at once all objects are known
        let inspected = InspectedTable { finding, collations, rowid, unique, recount, hop };
        Ok(Some((table, inspected)))
    }

    fn columns(&self, table: &str) -> rusqlite::Result<Vec<Column>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name, \"notnull\", pk, hidden
             FROM pragma_table_xinfo(?1, 'main') ORDER BY cid",
        )?;
        let rows = statement.query_map([table], |row| {
            Ok(Column {
                name: row.get(0)?,
                not_null: row.get(1)?,
                key_place: row.get(2)?,
                generated: row.get::<_, i64>(3)? != 0,
            })
        })?;
        rows.collect()
    }

    fn unique_indexes(&self, table: &str) -> rusqlite::Result<Vec<Index>> {
        let mut list = self.connection.prepare_cached(
            "SELECT name, origin = 'pk', partial FROM pragma_index_list(?1, 'main')
             WHERE \"unique\" ORDER BY name",
        )?;
        let mut columns = self.connection.prepare_cached(
            "SELECT name, coll FROM pragma_index_xinfo(?1, 'main') WHERE key ORDER BY seqno",
        )?;
        let rows = list.query_map([table], |row| {
            let name: String = row.get(0)?;
            let columns = columns
                .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Index { name, primary: row.get(1)?, partial: row.get(2)?, columns })
        })?;
        rows.collect()
    }

    /// The index as a trigger can name it, unless it has expressions or generated columns, whose
    /// values an UPDATE trigger is not told to watch.
    fn nameable(
        &self,
        index: &Index,
        generated: &BTreeSet<&str>,
    ) -> rusqlite::Result<Option<UniqueIndex>> {
        let mut columns = Vec::new();
        for (name, collation) in &index.columns {
            match name {
                Some(name) if !generated.contains(name.as_str()) => {
                    columns.push((name.clone(), collation.clone()));
                }
                _ => return Ok(None),
            }
        }
        let condition = if index.partial {
            let sql: Option<String> = self
                .connection
                .query_row(
                    "SELECT sql FROM main.sqlite_schema WHERE type = 'index' AND name = ?1",
                    [&index.name],
                    |row| row.get(0),
                )
                .optional()?;
            let read = sql.as_deref().and_then(super::statement::index_statement);
            match read.and_then(|statement| statement.condition) {
                Some(condition) => Some(condition.to_owned()),
                None => return Ok(None),
            }
        } else {
            None
        };
        Ok(Some(UniqueIndex { columns, condition }))
    }

    fn was_by_rowid(&self, table: &str) -> bool {
        self.previous
            .and_then(|schema| schema.table(schema.find(table)?))
            .is_some_and(|table| matches!(table.identity, RowIdentity::Rowid(_)))
    }

    fn has_null(&self, table: &str, key: &[&Column]) -> rusqlite::Result<bool> {
        key.iter().filter(|column| !column.not_null).try_fold(false, |found, column| {
            Ok(found
                || self
                    .connection
                    .prepare(&format!(
                        "SELECT 1 FROM main.{} WHERE {} IS NULL LIMIT 1",
                        quoted(table),
                        quoted(&column.name)
                    ))?
                    .exists([])?)
        })
    }

    /// Whether all collations of a key are SQLite's own; if not, the table is refused.
    fn knows_collations(&mut self, table: &str, collations: &[String]) -> bool {
        let unknown = collations.iter().find(|collation| {
            // The list of collations also holds those that a schema merely mentions.
            let probe = format!("SELECT 'a' = 'b' COLLATE {}", quoted(collation));
            self.connection.prepare(&probe).is_err()
        });
        let Some(collation) = unknown else { return true };
        self.find(
            Weight::Refusal,
            Some(table),
            format!(
                "the key of {table} uses the collation {collation}, which only the application \
                 knows"
            ),
            "Give the key a collation of SQLite's own: BINARY, NOCASE or RTRIM.",
        );
        false
    }

    fn objects(&mut self, tables: &[Table]) -> rusqlite::Result<Vec<SchemaObject>> {
        let mut statement = self.connection.prepare(
            "SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL",
        )?;
        let rows = statement
            .query_map([], |row| {
                let sql: String = row.get(3)?;
                let kind = match row.get::<_, String>(0)?.as_str() {
                    // So SQLite begins all of them.
                    "table" if sql.starts_with("CREATE VIRTUAL TABLE ") => ObjectKind::Virtual,
                    "table" => ObjectKind::Table,
                    "index" => ObjectKind::Index,
                    "view" => ObjectKind::View,
                    _ => ObjectKind::Trigger,
                };
                Ok(SchemaObject { kind, name: row.get(1)?, table: row.get(2)?, sql })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        // A trigger bears its table's name as its statement wrote it, in whatever case.
        let mut owners: BTreeSet<String> =
            tables.iter().map(|table| table.name.to_ascii_lowercase()).collect();
        let whole =
            |object: &&SchemaObject| matches!(object.kind, ObjectKind::View | ObjectKind::Virtual);
        owners.extend(rows.iter().filter(whole).map(|object| object.name.to_ascii_lowercase()));
        let mut objects: Vec<SchemaObject> = rows
            .into_iter()
            .filter(|object| {
                owners.contains(&object.table.to_ascii_lowercase()) && !is_internal(&object.name)
            })
            .collect();
        objects.sort();
        for trigger in objects.iter().filter(|object| object.kind == ObjectKind::Trigger) {
            let sql: String =
                trigger.sql.to_ascii_uppercase().split_whitespace().collect::<Vec<_>>().concat();
            if sql.contains("RAISE(IGNORE)") {
                self.find(
                    Weight::Warning,
                    Some(&trigger.table),
                    format!(
                        "the trigger {} uses RAISE(IGNORE), which can keep a change from being \
                         noted",
                        trigger.name
                    ),
                    "Run verify from time to time, or rewrite the trigger with a WHEN clause.",
                );
            }
        }
        Ok(objects)
    }
}

/// Whether a name is SQLite's own or ours.
fn is_internal(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("sqlite_") || name.starts_with(PREFIX)
}

/// Whether rows that clash in the index have one key, bit for bit: then it removes no other row.
fn covers_key(index: &Index, key: &[&Column]) -> bool {
    key.iter().all(|column| {
        index.columns.iter().any(|(name, collation)| {
            name.as_deref() == Some(column.name.as_str()) && collation == "BINARY"
        })
    })
}
