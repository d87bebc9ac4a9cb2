//! The hop: two triggers that have AUTOINCREMENT go on at the next of this site's own blocks of
//! numbers when a row reaches the end of one (MERGE.md, Integer keys); within a statement that
//! inserts many rows, in any program, with the node off. Which blocks are whose, and where a site
//! stands when rows of others enter, is told in `shared::blocks`; a block that is overrun where
//! there is no hop is seen to by `shared::rekey`.
//!
//! While a statement runs, SQLite counts in a register, not in `sqlite_sequence`. An insert with a
//! key of its own into the same table raises that register *before* constraints are looked at, so
//! an attempt is enough:
//!
//! ```text
//! AFTER INSERT, the next number is not ours, and no row is above:
//!     hopping = 1; DELETE the new row; hopping = 0
//! BEFORE DELETE, hopping:
//!     INSERT OR IGNORE (the number before our next block); DELETE that; RAISE(IGNORE)
//! ```
//!
//! The detour through a delete that never happens is for the application's OR REPLACE, OR ABORT
//! and the like: they hold for every INSERT and UPDATE of a trigger, except in those that a DELETE
//! fires. Where a column must have a value the attempt fails, and nothing was ever there. Elsewhere
//! a row of defaults is there for a moment: [`Hop`] says where that does no harm. Only the key is
//! named, so that ALTER TABLE goes on working. All of it is known to SQLite 3.8.

use super::statement::tokens;
use super::triggers::{MARKER, TRIGGER_PREFIX, key_columns};
use crate::sql::quoted;
use protocol::membership::Residues;
use protocol::schema::{ObjectKind, RowIdentity, Schema, SchemaObject, Table};
use rusqlite::Connection;

/// Which numbers a site may hand out: block b is `[b * block, (b + 1) * block)`, and belongs to the
/// owner of residue b mod 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnNumbers {
    /// The residues that it owns.
    pub residues: Residues,
    /// How many numbers a block has; above 0.
    pub block: i64,
}

/// Whether a table's numbers can hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// SQLite does not count them by AUTOINCREMENT.
    Uncounted,
    /// They can.
    Safe,
    /// The application might notice, for this reason: a clause that follows "since".
    Unsafe(String),
}

/// How many residues there are.
const RESIDUES: i64 = 128;

impl Hop {
    /// Looks at a table of `schema`.
    pub(super) fn of(
        connection: &Connection,
        schema: &Schema,
        table: &Table,
    ) -> rusqlite::Result<Self> {
        let name = &table.name;
        let mut objects = schema.objects.iter();
        let statement = objects
            .find(|object| object.kind == ObjectKind::Table && object.name == *name)
            .map(|object| object.sql.as_str())
            .unwrap_or_default();
        let counted = tokens(statement).iter().any(|token| token.is(statement, "AUTOINCREMENT"));
        if !counted || !matches!(table.identity, RowIdentity::Key(_)) {
            return Ok(Self::Uncounted);
        }
        let reason = Self::reason(connection, schema, table)?;
        Ok(reason.map_or(Self::Safe, Self::Unsafe))
    }

    /// Why the numbers of a table could not hop, if they were counted by AUTOINCREMENT: a clause
    /// that follows "since". `None`: they could.
    ///
    /// # Errors
    /// SQLite's.
    pub fn reason(
        connection: &Connection,
        schema: &Schema,
        table: &Table,
    ) -> rusqlite::Result<Option<String>> {
        Look { connection, schema, name: &table.name }.reason()
    }
}

struct Look<'a> {
    connection: &'a Connection,
    schema: &'a Schema,
    name: &'a str,
}

impl Look<'_> {
    /// What of the application might notice.
    fn reason(&self) -> rusqlite::Result<Option<String>> {
        let (required, generated): (bool, bool) = self
            .connection
            .prepare_cached(
                "SELECT ifnull(max(\"notnull\" AND dflt_value IS NULL AND pk = 0), 0),
                        ifnull(max(hidden <> 0), 0)
                 FROM pragma_table_xinfo(?1, 'main')",
            )?
            .query_row([self.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if generated {
            return Ok(Some("it has generated columns".into()));
        }
        // Where the attempt fails, nothing that follows an insert or a delete is fired.
        let fired = |object: &&SchemaObject| {
            let of_table = object.table.eq_ignore_ascii_case(self.name);
            of_table && object.kind == ObjectKind::Trigger && fires(&object.sql, required)
        };
        if let Some(trigger) = self.schema.objects.iter().find(fired) {
            return Ok(Some(format!("its trigger {} would run", trigger.name)));
        }
        if required {
            return Ok(None);
        }
        if self.has_expression_index()? {
            return Ok(Some("it has an index on an expression".into()));
        }
        let child = self.deferred_child()?;
        Ok(child.map(|child| format!("rows of {child} could be deleted with a row that never was")))
    }

    fn has_expression_index(&self) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached(
                "SELECT 1 FROM pragma_index_list(?1, 'main') i,
                   pragma_index_xinfo(i.name, 'main') x WHERE x.key AND x.cid = -2",
            )?
            .exists([self.name])
    }

    /// A table whose rows may come before the row that they refer to, and follow it when it goes.
    fn deferred_child(&self) -> rusqlite::Result<Option<&str>> {
        let deferred = |object: &&SchemaObject| {
            let mut tokens = tokens(&object.sql).into_iter();
            object.kind == ObjectKind::Table
                && tokens.any(|token| token.is(&object.sql, "DEFERRED"))
        };
        for child in self.schema.objects.iter().filter(deferred) {
            let follows = self
                .connection
                .prepare_cached(
                    "SELECT 1 FROM pragma_foreign_key_list(?1, 'main')
                     WHERE \"table\" = ?2 COLLATE NOCASE AND on_delete <> 'NO ACTION'",
                )?
                .exists([child.name.as_str(), self.name])?;
            if follows {
                return Ok(Some(&child.name));
            }
        }
        Ok(None)
    }
}

/// Whether a trigger of the application runs in a hop; `required`: whatever is tried fails.
fn fires(sql: &str, required: bool) -> bool {
    let tokens = tokens(sql);
    // No name can be written INSERT, DELETE or UPDATE without quotes, but one can be AFTER.
    let events = ["INSERT", "DELETE", "UPDATE"];
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is(sql, word));
    let event = (0..tokens.len()).find(|at| events.iter().any(|event| is(*at, event)));
    let Some(event) = event else { return true };
    let begins_name = |at: usize| is(at, "TRIGGER") || is(at, "EXISTS") || is(at, ".");
    let after = event >= 2 && is(event - 1, "AFTER") && !begins_name(event - 2);
    let quiet = is(event, "UPDATE") || (after && required);
    !quiet
}

impl OwnNumbers {
    /// The triggers of a hop, as [`super::triggers::triggers`] gives them. None where the site owns
    /// no block, or all.
    pub(super) fn triggers(&self, number: i64, table: &Table) -> Vec<(String, String)> {
        let key = key_columns(table);
        let (Some(key), 1..) = (key.first(), self.block) else { return Vec::new() };
        if self.residues.count() == 0 || self.residues == Residues::ALL {
            return Vec::new();
        }
        let table = quoted(&table.name);
        let (hop, over) =
            (format!("{TRIGGER_PREFIX}{number}_hop"), format!("{TRIGGER_PREFIX}{number}_hop_over"));
        let (after_new, after_old) =
            (self.is_others(&format!("NEW.{key}")), self.is_others(&format!("OLD.{key}")));
        let last = i64::MAX - 2 * RESIDUES * self.block;
        let before_next = self.before_next(&format!("OLD.{key}"));
        let after_insert = format!(
            "CREATE TRIGGER {hop} AFTER INSERT ON {table} WHEN NEW.{key} BETWEEN 0 AND {last} \
             AND {after_new} AND NEW.{key} = (SELECT max({key}) FROM {table}) BEGIN \
             UPDATE {MARKER} SET hopping = 1; \
             DELETE FROM {table} WHERE {key} = NEW.{key}; \
             UPDATE {MARKER} SET hopping = 0; END"
        );
        let before_delete = format!(
            "CREATE TRIGGER {over} BEFORE DELETE ON {table} WHEN {after_old} \
             AND (SELECT hopping FROM {MARKER}) BEGIN \
             INSERT OR IGNORE INTO {table}({key}) VALUES({before_next}); \
             DELETE FROM {table} WHERE {key} = {before_next}; \
             SELECT RAISE(IGNORE); END"
        );
        vec![(hop, after_insert), (over, before_delete)]
    }

    /// SQL: whether the number after `number`, which is not negative, is none of this site's own.
    fn is_others(&self, number: &str) -> String {
        let half = |bits: u128| bits as u64 as i64;
        let (low, high) = (half(self.residues.0), half(self.residues.0 >> 64));
        let block = format!("({number} + 1) / {}", self.block);
        let bits = match low == high {
            true => low.to_string(),
            false => format!("CASE WHEN {block} % {RESIDUES} < 64 THEN {low} ELSE {high} END"),
        };
        format!("(({bits}) >> ({block} % 64)) & 1 = 0")
    }

    /// SQL: the number before the next own block above `number`.
    fn before_next(&self, number: &str) -> String {
        // Per residue, how many blocks on the next own one is: three digits each.
        let skips: String = (0..RESIDUES as u32)
            .map(|residue| format!("{:03}", self.residues.0.rotate_right(residue).trailing_zeros()))
            .collect();
        let (r, block) = (self.block, format!("({number} + 1) / {}", self.block));
        let skip = format!("CAST(substr('{skips}', {block} % {RESIDUES} * 3 + 1, 3) AS INTEGER)");
        format!("({block} + {skip}) * {r} - 1")
    }
}
