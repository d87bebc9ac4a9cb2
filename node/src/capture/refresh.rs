//! What to do when the schema or the file moved: triggers put back, images brought into the new
//! tables' form, and the list of tables to compare as a whole.
//!
//! | what happened to a table | images | what follows |
//! |---|---|---|
//! | nothing; columns added at the end, defaults constant | stay (short rows) | nothing |
//! | it is carried by rowid, and the schema moved: a VACUUM may have renumbered | stay | compared |
//! | its triggers were gone or not as they must be | columns matched by name | compared |
//! | columns dropped | matched by name | nothing |
//! | columns renamed, or added elsewhere | matched by name | compared |
//! | shared mode: columns of the key renamed, and nothing else | matched by place | nothing |
//! | another identity; a new column whose old values can't be known | removed | `cleared`, all rows |
//! | new | – | all rows |
//! | gone | removed | nothing: the schema says so |
//!
//! While the schema moved, a UNIQUE index may have come and gone again, and a REPLACE may have
//! removed rows through it that no trigger noted: tables that are not compared are counted with the
//! next reading.

use super::application::Application;
use super::defaults::defaults;
use super::error::CaptureError;
use super::images::{Captured, Images, Position};
use super::inspect::{Finding, inspect};
use super::install::{Polite, Present};
use super::rescan::Rescan;
use crate::sql::quoted;
use conflict::Value;
use protocol::schema::{ObjectKind, RowIdentity, Schema, Table, TableIndex};
use rusqlite::Connection;
use std::collections::BTreeSet;

/// What a refresh came to.
#[derive(Debug)]
pub struct Refreshed {
    /// From where to read on. It says that a rescan is due until the next reading is folded:
    /// only with that one is the database in a state that it really had.
    pub position: Position,
    /// The schema that holds from now on, if it is another than before: the next batch brings
    /// it, also if it has no changes. See [`Images::store_schema`].
    pub schema: Option<Schema>,
    /// Tables (of the new schema) that the same batch empties.
    pub cleared: Vec<TableIndex>,
    /// What must be compared.
    pub rescan: Rescan,
    /// Whether the file lacked what the last harvest had seen: all tables are compared, and what
    /// differs is older than the images that it replaces.
    pub went_back: bool,
    /// What a person should know about the database as it is now.
    pub findings: Vec<Finding>,
}

/// What becomes of a table's images.
#[derive(Debug, PartialEq)]
enum Fate {
    Stays { compare: bool },
    Rewritten { compare: bool },
    Cleared,
    New,
}

impl Application {
    /// Puts the triggers back where they are not as they must be, inspects the schema anew and
    /// brings the images into its form. To be committed with the batch that brings the schema.
    ///
    /// # Errors
    /// The file is missing, locked, not attached any more, no database, or damaged; or the node's
    /// own database fails.
    pub fn refresh(
        &mut self,
        images: &Images<'_>,
        position: &Position,
        keep: bool,
    ) -> Result<Polite<Refreshed>, CaptureError> {
        let previous = self.captured.schema.clone();
        let (inspection, present) = self.reading(|connection| {
            let present = Present::read(connection, Some(&position.fence))?;
            Ok((inspect(connection, Some(&previous))?, present))
        })?;
        match present.marker {
            None => return Err(CaptureError::NotAttached(self.path.clone())),
            Some(other) if other != self.marker => {
                return Err(CaptureError::AttachedElsewhere(self.path.clone(), other.site));
            }
            Some(_) => {}
        }
        let file = self.open()?.file;
        let went_back = !present.holds_fence;
        let last = present.last;
        let captured = images.number_tables(&inspection.schema)?;
        let ours = (&self.marker, self.own_numbers);
        let plan = present.plan(&captured, &inspection, ours);
        let (version, last) = if plan.statements.is_empty() {
            (inspection.schema_version, last)
        } else {
            match self.put(&plan.statements, inspection.schema_version)? {
                Polite::Done((version, after)) => (version, last.or(after)),
                Polite::Busy => return Ok(Polite::Busy),
            }
        };
        let fence = match last.filter(|_| went_back) {
            Some(last) => last,
            None if went_back => return Err(CaptureError::NotAttached(self.path.clone())),
            None => position.fence,
        };

        let moved = Moved {
            keep,
            everything: went_back || position.schema_version.is_none() || position.file != file,
            schema: position.schema_version != Some(inspection.schema_version),
            stale: plan.stale,
        };
        let old = std::mem::replace(&mut self.captured, captured);
        let Outdated { cleared, rescan, counted } = moved.images(&old, &self.captured, images)?;
        self.known = Some((version, file));
        self.prepare(&inspection);
        self.uncounted.extend(counted);
        let schema = (old.schema != inspection.schema).then_some(inspection.schema);
        Ok(Polite::Done(Refreshed {
            position: Position { fence, schema_version: None, file },
            schema,
            cleared,
            rescan,
            went_back,
            findings: inspection.findings,
        }))
    }
}

/// Tables of which something must be looked at.
struct Outdated {
    cleared: Vec<TableIndex>,
    rescan: Rescan,
    counted: Vec<TableIndex>,
}

/// What moved.
struct Moved {
    /// Images of rows that are told apart as before are kept, whatever columns are new.
    keep: bool,
    everything: bool,
    schema: bool,
    stale: BTreeSet<TableIndex>,
}

impl Moved {
    /// Brings the images into the new form; which tables to empty, to compare, and to count.
    fn images(
        &self,
        old: &Captured,
        new: &Captured,
        images: &Images<'_>,
    ) -> Result<Outdated, CaptureError> {
        for (table, number) in old.schema.tables.iter().zip(&old.numbers) {
            if new.schema.find(&table.name).is_none() {
                images.clear(*number)?;
            }
        }
        let (mut cleared, mut fresh) = (Vec::new(), Vec::new());
        let (mut compared, mut counted) = (Vec::new(), Vec::new());
        for (at, (table, number)) in new.schema.tables.iter().zip(&new.numbers).enumerate() {
            let index = TableIndex(at as u32);
            let before = old.schema.find(&table.name).and_then(|old_at| old.schema.table(old_at));
            let renamed = match before {
                Some(before) if self.keep => {
                    key_renamed((&old.schema, before), (&new.schema, table))
                }
                _ => None,
            };
            let before = renamed.as_ref().or(before);
            let fate = match before {
                None => Fate::New,
                Some(before) => self.fate(index, before, table, &new.schema),
            };
            match (&fate, before) {
                (Fate::Stays { .. }, _) | (_, None) => {}
                (Fate::Rewritten { .. }, Some(before)) => {
                    let (had, has) = (defaults(&old.schema, before), defaults(&new.schema, table));
                    images.rewrite(*number, |row| matched(row, before, &had, table, &has))?;
                }
                (Fate::Cleared | Fate::New, _) => images.clear(*number)?,
            }
            match fate {
                Fate::Stays { compare: true } | Fate::Rewritten { compare: true } => {
                    compared.push(index);
                }
                Fate::Stays { .. } | Fate::Rewritten { .. } if self.schema => counted.push(index),
                Fate::Stays { .. } | Fate::Rewritten { .. } => {}
                Fate::Cleared => {
                    cleared.push(index);
                    fresh.push(index);
                }
                Fate::New => fresh.push(index),
            }
        }
        let mut rescan = Rescan::fresh(fresh);
        rescan.extend(Rescan::of(compared));
        Ok(Outdated { cleared, rescan, counted })
    }

    fn fate(&self, index: TableIndex, before: &Table, after: &Table, schema: &Schema) -> Fate {
        if !same_identity(before, after) {
            return Fate::Cleared;
        }
        let has = defaults(schema, after);
        let added: Vec<usize> = (0..after.columns.len())
            .filter(|at| after.columns.get(*at).is_some_and(|c| !before.columns.contains(c)))
            .collect();
        if !self.keep && added.iter().any(|at| has.get(*at).is_none_or(Option::is_none)) {
            return Fate::Cleared;
        }
        let stale = self.stale.contains(&index) || self.everything;
        if after.columns.starts_with(&before.columns) && !stale {
            let by_rowid = matches!(after.identity, RowIdentity::Rowid(_));
            return Fate::Stays { compare: by_rowid && self.schema };
        }
        Fate::Rewritten { compare: stale || !added.is_empty() }
    }
}

/// Whether rows are told apart by the same columns.
fn same_identity(a: &Table, b: &Table) -> bool {
    let names = |table: &Table| match &table.identity {
        RowIdentity::Key(key) => {
            Some(key.iter().map(|at| table.columns.get(at.0 as usize).cloned()).collect::<Vec<_>>())
        }
        RowIdentity::Rowid(_) => None,
    };
    names(a) == names(b)
}

/// A table as it was, with the names that its key's columns have now, if they have other names and
/// nothing else is new: its rows are told apart as before.
fn key_renamed((old, before): (&Schema, &Table), (new, after): (&Schema, &Table)) -> Option<Table> {
    let (RowIdentity::Key(was), RowIdentity::Key(is)) = (&before.identity, &after.identity) else {
        return None;
    };
    if was != is || before.columns.len() != after.columns.len() {
        return None;
    }
    let pairs = before.columns.iter().zip(&after.columns).enumerate();
    let renamed: Vec<_> = pairs.filter(|(_, (was, is))| was != is).collect();
    let in_key = |at: &usize| is.iter().any(|column| column.0 as usize == *at);
    if renamed.is_empty() || !renamed.iter().all(|(at, _)| in_key(at)) {
        return None;
    }
    let names = renamed.iter().map(|(_, (was, is))| (was.as_str(), is.as_str()));
    let (was, is) = (statement(old, before)?, statement(new, after)?);
    // SQLite writes a new name in quotes where it was given in quotes.
    let forms: [fn(&str) -> String; 2] = [str::to_owned, quoted];
    let same = |form: &fn(&str) -> String| {
        with_names(was, &before.name, names.clone().map(|(was, is)| (was, form(is))))
            .is_ok_and(|would_be| would_be == is)
    };
    forms.iter().any(same).then(|| Table { columns: after.columns.clone(), ..before.clone() })
}

fn statement<'s>(schema: &'s Schema, table: &Table) -> Option<&'s str> {
    let mut objects = schema.objects.iter();
    let found =
        objects.find(|object| object.kind == ObjectKind::Table && object.name == table.name);
    found.map(|object| object.sql.as_str())
}

/// What SQLite makes of a table's statement where columns get other names.
fn with_names<'n>(
    sql: &str,
    table: &str,
    names: impl Iterator<Item = (&'n str, String)>,
) -> rusqlite::Result<String> {
    let memory = Connection::open_in_memory()?;
    memory.execute_batch(sql)?;
    for (was, is) in names {
        let (table, was) = (quoted(table), quoted(was));
        memory.execute_batch(&format!("ALTER TABLE {table} RENAME COLUMN {was} TO {is}"))?;
    }
    let sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    memory.query_row(sql, [table], |row| row.get(0))
}

/// A row in the form of `after`: columns matched by name, defaults where there was none.
fn matched(
    row: &[Value],
    before: &Table,
    had: &[Option<Value>],
    after: &Table,
    has: &[Option<Value>],
) -> Vec<Value> {
    let value = |at: usize, column: &String| {
        let old = before.columns.iter().position(|name| name == column);
        let found = match old {
            Some(old) => row.get(old).or_else(|| had.get(old)?.as_ref()),
            None => has.get(at)?.as_ref(),
        };
        found.cloned()
    };
    after
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| value(at, column).unwrap_or(Value::Null))
        .collect()
}
