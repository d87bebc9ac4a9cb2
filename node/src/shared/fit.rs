//! What shared mode can't keep safe, and what a person should know of the rest: asked before a
//! database is attached, on the application's file, which is only read. What stands in the way of
//! capture itself is told by [`crate::capture::inspect()`].

use super::blocks::{BLOCK, LIMIT};
use super::convert::{self, is_rowid, says_autoincrement};
use super::room::Room;
use super::{Desk, DeskError, Effects, Policy, Stance, Why, virtual_tables};
use crate::capture::{Finding, Hop, InspectedTable, Inspection, Weight, virtual_module};
use crate::sql::quoted;
use protocol::membership::Residues;
use protocol::schema::{ObjectKind, RowIdentity, Schema, Table};
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeMap;

/// What shared mode says of a database, refusals first. `convert_keys`: keys that must be
/// converted will be ([`convert::convert`]); `residues`: this site's;
/// `policy`: the rules that are set.
///
/// Costs a scan of every table that has foreign keys.
///
/// # Errors
/// SQLite's.
pub fn findings(
    connection: &Connection,
    inspection: &Inspection,
    convert_keys: bool,
    residues: Residues,
    policy: &Policy,
) -> rusqlite::Result<Vec<Finding>> {
    let mut fit = Fit { connection, schema: &inspection.schema, residues, findings: Vec::new() };
    let autoincrements = autoincrements(&inspection.schema);
    let effects = Effects::of(&inspection.schema)?;
    let tables = inspection.schema.tables.iter().zip(&inspection.tables).zip(autoincrements);
    for ((table, inspected), autoincrement) in tables {
        if fit.key(table)? && is_rowid(table, inspected) {
            fit.numbers(table, autoincrement, convert_keys)?;
        }
        fit.foreign_keys(table, inspected)?;
        fit.triggers(table, &effects, policy);
    }
    fit.desk()?;
    fit.virtual_tables(&effects, policy)?;
    fit.findings.sort();
    Ok(fit.findings)
}

/// What is to be known of the tables whose keys SQLite hands out, at a site of these residues that
/// joins: a part of [`findings`].
///
/// # Errors
/// SQLite's.
pub fn number_findings(
    connection: &Connection,
    inspection: &Inspection,
    residues: Residues,
) -> rusqlite::Result<Vec<Finding>> {
    let mut fit = Fit { connection, schema: &inspection.schema, residues, findings: Vec::new() };
    let tables = inspection.schema.tables.iter().zip(autoincrements(&inspection.schema));
    for (table, _) in tables.filter(|(_, autoincrement)| *autoincrement) {
        fit.room(table)?;
    }
    Ok(fit.findings)
}

/// Per table of a schema, whether its numbers come from AUTOINCREMENT.
pub fn autoincrements(schema: &Schema) -> Vec<bool> {
    let says = |table: &Table| statement(schema, table).is_some_and(says_autoincrement);
    schema.tables.iter().map(says).collect()
}

fn statement<'s>(schema: &'s Schema, table: &Table) -> Option<&'s str> {
    let mut objects = schema.objects.iter();
    objects
        .find(|object| object.kind == ObjectKind::Table && object.name == table.name)
        .map(|object| object.sql.as_str())
}

/// A foreign key as SQLite tells it.
struct ForeignKey {
    number: i64,
    parent: String,
    columns: Vec<String>,
    /// Without one: the parent's key.
    parent_columns: Vec<Option<String>>,
}

struct Fit<'a> {
    connection: &'a Connection,
    schema: &'a Schema,
    residues: Residues,
    findings: Vec<Finding>,
}

impl Fit<'_> {
    fn find(
        &mut self,
        weight: Weight,
        table: Option<&str>,
        what: String,
        remedy: impl Into<String>,
    ) {
        let table = table.map(str::to_owned);
        self.findings.push(Finding { weight, table, what, remedy: remedy.into() });
    }

    /// Whether the table has a key.
    fn key(&mut self, table: &Table) -> rusqlite::Result<bool> {
        let name = &table.name;
        let (key, nullable): (i64, bool) = self.connection.query_row(
            "SELECT count(*), ifnull(min(\"notnull\"), 1) = 0 FROM pragma_table_xinfo(?1, 'main')
             WHERE pk > 0",
            [name],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        match &table.identity {
            RowIdentity::Rowid(_) if key == 0 => self.find(
                Weight::Refusal,
                Some(name),
                format!(
                    "the table {name} has no primary key, so two sites can't mean the same row of it"
                ),
                format!("Give {name} a primary key, or attach in mirror mode."),
            ),
            RowIdentity::Rowid(_) => self.find(
                Weight::Refusal,
                Some(name),
                format!(
                    "the primary key of {name} holds NULL, or did when it was attached, so two \
                     sites can't mean the same row of it"
                ),
                format!(
                    "Give those rows of {name} a key and declare it NOT NULL, or attach in \
                     mirror mode."
                ),
            ),
            RowIdentity::Key(_) => {
                // An INTEGER PRIMARY KEY is never NULL, whatever its column says.
                let indexed = self
                    .connection
                    .prepare_cached(
                        "SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'",
                    )?
                    .exists([name])?;
                if nullable && indexed {
                    self.find(
                        Weight::Note,
                        Some(name),
                        format!(
                            "SQLite lets NULL into the primary key of {name}: such a row could \
                             not be shared"
                        ),
                        "Declare the key NOT NULL if the application might leave it out.",
                    );
                }
            }
        }
        Ok(matches!(table.identity, RowIdentity::Key(_)))
    }

    /// A table whose key is its rowid.
    fn numbers(
        &mut self,
        table: &Table,
        autoincrement: bool,
        convert_keys: bool,
    ) -> rusqlite::Result<()> {
        let name = &table.name;
        if !autoincrement {
            if !convert_keys {
                self.find(
                    Weight::Refusal,
                    Some(name),
                    format!(
                        "the table {name} numbers its rows without AUTOINCREMENT, so two sites would give \
                         one number to two rows"
                    ),
                    "Attach with --convert-keys, which adds AUTOINCREMENT to the table's key.",
                );
                return Ok(());
            }
            let sql = statement(self.schema, table).unwrap_or_default();
            match convert::converted(name, sql) {
                Ok(_) => self.find(
                    Weight::Note,
                    Some(name),
                    format!("the table {name} gets AUTOINCREMENT, as --convert-keys asks"),
                    "",
                ),
                Err(error) => self.find(
                    Weight::Refusal,
                    Some(name),
                    error.to_string(),
                    format!("Make {name} anew with INTEGER PRIMARY KEY AUTOINCREMENT."),
                ),
            }
        }
        self.room(table)
    }

    /// How a table is numbered, and how long that goes well.
    fn room(&mut self, table: &Table) -> rusqlite::Result<()> {
        let name = &table.name;
        if self.residues.count() == 0 {
            self.find(
                Weight::Warning,
                Some(name),
                format!(
                    "this site has no numbers of its own to give to new rows of {name}: they get \
                     other sites', and lose them again"
                ),
                "The others hand some over by themselves, a minute after they and this site met.",
            );
            return Ok(());
        }
        let room = Room::of(self.connection, name, self.residues)?;
        self.find(
            Weight::Note,
            Some(name),
            format!(
                "each site numbers new rows of {name} in blocks of {BLOCK}, so there are gaps: \
                 at {} a row, as it is now, {} rows more of all sites get numbers below 2^31",
                room.pace,
                room.rows_below_31()
            ),
            "",
        );
        if let Some(reason) = Hop::reason(self.connection, self.schema, table)? {
            self.find(
                Weight::Warning,
                Some(name),
                format!(
                    "numbers of {name} can't hop to the next block by themselves, since {reason}: \
                     a program that adds hundreds of rows in a moment, or while the node is off, \
                     may get numbers of other sites, and such rows get others later"
                ),
                "Let a program that adds many rows at once rest a second after each hundred.",
            );
        }
        let reached = room.reached;
        if reached >= i64::MAX - 2 * 128 * BLOCK {
            self.find(
                Weight::Warning,
                Some(name),
                format!("the numbers of {name} have reached {reached}: no block is left above it"),
                "Give the rows with the greatest numbers smaller ones, if it shall grow.",
            );
        } else if (LIMIT / 2..LIMIT).contains(&reached) {
            self.find(
                Weight::Warning,
                Some(name),
                format!(
                    "the numbers of {name} have reached {reached}, and blocks use them up faster: \
                     an application that keeps them in 32 bits takes none above {}",
                    LIMIT - 1
                ),
                "Ask its maker whether it takes greater ones.",
            );
        }
        Ok(())
    }

    fn foreign_keys(&mut self, table: &Table, inspected: &InspectedTable) -> rusqlite::Result<()> {
        let name = &table.name;
        let keys = self.foreign_keys_of(name)?;
        let mut sound = !keys.is_empty();
        for key in &keys {
            let (parent, columns) = (&key.parent, key.columns.join(", "));
            let same = |table: &&Table| table.name.eq_ignore_ascii_case(parent);
            let Some(of) = self.schema.tables.iter().find(same) else {
                sound = false;
                if !self.is_table(parent)? {
                    self.find(
                        Weight::Refusal,
                        Some(name),
                        format!(
                            "the foreign key of {name} ({columns}) refers to {parent}, which is \
                             no table of this database"
                        ),
                        format!("Make {parent}, or take the foreign key away."),
                    );
                }
                continue;
            };
            // A table that has no key is refused for that.
            let RowIdentity::Key(of_key) = &of.identity else {
                sound = false;
                continue;
            };
            let of_key: Vec<&str> = of_key
                .iter()
                .filter_map(|column| of.columns.get(column.0 as usize))
                .map(String::as_str)
                .collect();
            let refers = key.parent_columns.iter().zip(&of_key).all(|(column, key)| {
                column.as_ref().is_none_or(|column| column.eq_ignore_ascii_case(key))
            });
            if !refers || key.parent_columns.len() != of_key.len() {
                sound = false;
                self.find(
                    Weight::Refusal,
                    Some(name),
                    format!(
                        "the foreign key of {name} ({columns}) does not refer to the primary key \
                         of {parent} ({})",
                        of_key.join(", ")
                    ),
                    "Let it refer to the primary key, its columns in that order.",
                );
            }
        }
        // With another foreign key SQLite's check would fail.
        if sound {
            self.broken_references(table, inspected, &keys)?;
        }
        Ok(())
    }

    fn foreign_keys_of(&self, table: &str) -> rusqlite::Result<Vec<ForeignKey>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1, 'main')
             ORDER BY id, seq",
        )?;
        let mut rows = statement.query([table])?;
        let mut keys: Vec<ForeignKey> = Vec::new();
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            if keys.last().is_none_or(|last| last.number != number) {
                let (columns, parent_columns) = (Vec::new(), Vec::new());
                keys.push(ForeignKey { number, parent: row.get(1)?, columns, parent_columns });
            }
            if let Some(key) = keys.last_mut() {
                key.columns.push(row.get(2)?);
                key.parent_columns.push(row.get(3)?);
            }
        }
        Ok(keys)
    }

    fn is_table(&self, name: &str) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached(
                "SELECT 1 FROM pragma_table_list
                 WHERE schema = 'main' AND type = 'table' AND name = ?1 COLLATE NOCASE",
            )?
            .exists([name])
    }

    /// Rows that refer to nothing: SQLite looks for none where the application does not switch
    /// foreign keys on.
    fn broken_references(
        &mut self,
        table: &Table,
        inspected: &InspectedTable,
        keys: &[ForeignKey],
    ) -> rusqlite::Result<()> {
        let counts = self
            .connection
            .prepare_cached(
                "SELECT fkid, count(*), min(rowid) FROM pragma_foreign_key_check(?1, 'main')
                 GROUP BY fkid",
            )?
            .query_map([&table.name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<(i64, i64, Option<i64>)>>>()?;
        for (number, count, rowid) in counts {
            let Some(key) = keys.iter().find(|key| key.number == number) else { continue };
            let (name, parent, columns) = (&table.name, &key.parent, key.columns.join(", "));
            let first = match (rowid, &inspected.rowid) {
                (Some(rowid), Some(alias)) => self.key_of(table, alias, rowid)?,
                _ => None, // the check names no row of a table without rowids
            };
            let first = first.map(|key| format!(", the first of them {key}")).unwrap_or_default();
            let rows = if count == 1 { "row refers" } else { "rows refer" };
            self.find(
                Weight::Refusal,
                Some(name),
                format!("{count} {rows} from {name} ({columns}) to no row of {parent}{first}"),
                format!(
                    "Correct or delete what PRAGMA foreign_key_check({}) lists, then attach.",
                    quoted(name)
                ),
            );
        }
        Ok(())
    }

    /// The key of a row, as SQL writes it.
    fn key_of(&self, table: &Table, alias: &str, rowid: i64) -> rusqlite::Result<Option<String>> {
        let RowIdentity::Key(key) = &table.identity else { return Ok(None) };
        let values: Vec<String> = key
            .iter()
            .filter_map(|column| table.columns.get(column.0 as usize))
            .map(|column| format!("quote({})", quoted(column)))
            .collect();
        self.connection
            .query_row(
                &format!(
                    "SELECT {} FROM main.{} WHERE {} = ?1",
                    values.join(" || ', ' || "),
                    quoted(&table.name),
                    quoted(alias)
                ),
                [rowid],
                |row| row.get(0),
            )
            .optional()
    }

    fn triggers(&mut self, table: &Table, effects: &Effects, policy: &Policy) {
        let belongs = |name: &str| name.eq_ignore_ascii_case(&table.name);
        let names: Vec<&str> = (self.schema.objects.iter())
            .filter(|object| object.kind == ObjectKind::Trigger && belongs(&object.table))
            .map(|object| object.name.as_str())
            .collect();
        if names.is_empty() {
            return;
        }
        let Some(place) = self.schema.find(&table.name) else { return };
        let which = format!("triggers of {} ({})", table.name, names.join(", "));
        let silent = format!("{which} stay silent when rows of other sites are written");
        let (what, remedy) = match effects.stance(self.schema, policy, place.0 as usize) {
            Stance::Run(written) => {
                let written = written.join(", ");
                let what = format!("{which} run for rows of other sites too");
                (what, format!("They write what stays here alone: {written}."))
            }
            Stance::Silent(Why::Writes(_)) => {
                (silent, "What they change in shared tables arrives as changes of those.".into())
            }
            Stance::Silent(Why::Unclear) => {
                (silent, "They need what only the application has.".into())
            }
            Stance::Silent(Why::Chosen) => {
                let run = format!("`policy … {} triggers run` has them run.", table.name);
                (silent, run)
            }
        };
        self.find(Weight::Note, Some(&table.name), what, remedy);
    }

    /// What the desk refuses, told for every table by itself, so that none hides another.
    fn desk(&mut self) -> rusqlite::Result<()> {
        let mut refused = false;
        let keyed = |table: &&Table| matches!(table.identity, RowIdentity::Key(_));
        for table in self.schema.tables.iter().filter(keyed) {
            let mut alone = self.schema.clone();
            alone.tables = vec![table.clone()];
            alone.objects.retain(|object| object.table.eq_ignore_ascii_case(&table.name));
            refused |= self.try_desk(&alone, Some(&table.name))?;
        }
        if !refused {
            let mut together = self.schema.clone();
            together.tables.retain(|table| keyed(&table));
            self.try_desk(&together, None)?;
        }
        Ok(())
    }

    fn try_desk(&mut self, schema: &Schema, table: Option<&str>) -> rusqlite::Result<bool> {
        match Desk::new(schema, BTreeMap::new()) {
            Ok(_) => Ok(false),
            Err(DeskError::Sqlite(error)) => Err(error),
            Err(error) => {
                self.find(
                    Weight::Refusal,
                    table,
                    error.to_string(),
                    "Use only what SQLite has by itself there, or attach in mirror mode.",
                );
                Ok(true)
            }
        }
    }

    /// Whether triggers that run for all rows keep a virtual table up to date.
    fn is_followed(&self, name: &str, effects: &Effects, policy: &Policy) -> bool {
        (0..self.schema.tables.len()).any(|place| {
            let stance = effects.stance(self.schema, policy, place);
            matches!(stance, Stance::Run(written) if written.iter().any(|one| one == name))
        })
    }

    fn virtual_tables(&mut self, effects: &Effects, policy: &Policy) -> rusqlite::Result<()> {
        let tables = self
            .connection
            .prepare_cached(
                "SELECT l.name, s.sql FROM pragma_table_list l
                 JOIN main.sqlite_schema s ON s.type = 'table' AND s.name = l.name
                 WHERE l.schema = 'main' AND l.type = 'virtual' ORDER BY l.name",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, String)>>>()?;
        for (name, sql) in tables {
            if self.is_followed(&name, effects, policy) {
                continue;
            }
            if virtual_tables::is_vocabulary(&sql) {
                continue;
            }
            let module = virtual_module(&sql).unwrap_or_default().to_ascii_lowercase();
            let remedy = match module.as_str() {
                "fts3" | "fts4" | "fts5" => {
                    let name = quoted(&name);
                    format!(
                        "If its content is a table of the database, renew it now and then by \
                         INSERT INTO {name}({name}) VALUES('rebuild'); otherwise let the \
                         application fill it anew."
                    )
                }
                _ => "Let the application fill it anew now and then.".to_owned(),
            };
            self.find(
                Weight::Warning,
                Some(&name),
                format!(
                    "the table {name} ({module}) goes stale: it does not follow rows of other sites"
                ),
                remedy,
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
