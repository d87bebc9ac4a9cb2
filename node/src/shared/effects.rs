//! What the application's triggers write when a row of a table comes or goes, and so whether they
//! can run for rows of other sites too: only where what they write stays at its site, since all
//! else arrives as a change of its own. Told from the schema alone; no trigger runs here.

use super::policy::Policy;
use super::virtual_tables;
use protocol::schema::{ObjectKind, Schema};
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use std::collections::BTreeSet;
use std::sync::mpsc;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// In the order of the schema; `None`: it can't be told.
    tables: Vec<Option<BTreeSet<String>>>,
}

/// Whether a table's triggers run for rows of other sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stance {
    /// They do: they write these tables alone, which stay here.
    Run(Vec<String>),
    /// They do not.
    Silent(Why),
}

/// Why triggers stay silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was chosen, or nothing else was.
    Chosen,
    /// They write this table, whose rows are all sites'.
    Writes(String),
    /// They need what only the application has.
    Unclear,
}

impl Effects {
    /// Those of a schema's triggers.
    ///
    /// # Errors
    /// SQLite fails, in memory.
    pub fn of(schema: &Schema) -> rusqlite::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        connection.execute_batch("PRAGMA foreign_keys = OFF")?;
        use ObjectKind::{Index, Table, Trigger, View, Virtual};
        for kind in [Table, Index, View, Virtual, Trigger] {
            for object in schema.objects.iter().filter(|object| object.kind == kind) {
                let made = match kind {
                    Virtual => virtual_tables::make(&connection, object)?,
                    _ => connection.execute_batch(&object.sql).map_err(|e| e.to_string()),
                };
                if let Err(error) = made {
                    // What needs it can't be told, and that shows below.
                    tracing::debug!(object = object.name, %error, "is not made");
                }
            }
        }
        let (written, all) = mpsc::channel();
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            use AuthAction::{Delete, Insert, Update};
            if let (
                Some(_trigger),
                Insert { table_name } | Update { table_name, .. } | Delete { table_name },
            ) = (context.accessor, context.action)
            {
                // Nobody listens any more only once this connection is gone.
                let _ = written.send(table_name.to_owned());
            }
            Authorization::Allow
        }))?;
        let mut tables = Vec::new();
        for table in &schema.tables {
            let name = crate::sql::quoted(&table.name);
            let statements =
                [format!("INSERT INTO {name} DEFAULT VALUES"), format!("DELETE FROM {name}")];
            let clear = statements.iter().all(|sql| connection.prepare(sql).is_ok());
            let writes = all.try_iter().collect();
            tables.push(clear.then_some(writes));
        }
        Ok(Self { tables })
    }

    /// Whether the triggers of a table, by its place in the schema, run for rows of other sites.
    /// Where nothing is chosen they do if they write tables that are not under sync at all, and
    /// nothing else: full-text tables, above all.
    pub fn stance(&self, schema: &Schema, policy: &Policy, place: usize) -> Stance {
        let Some(Some(writes)) = self.tables.get(place) else {
            return Stance::Silent(Why::Unclear);
        };
        let carried = |name: &str| {
            let mut tables = schema.tables.iter();
            tables.find(|table| table.name.eq_ignore_ascii_case(name)).map(|table| &table.name)
        };
        let travels =
            writes.iter().filter_map(|name| carried(name)).find(|name| !policy.is_local(name));
        if let Some(table) = travels {
            return Stance::Silent(Why::Writes(table.clone()));
        }
        let outside = !writes.is_empty() && writes.iter().all(|name| carried(name).is_none());
        let table = schema.tables.get(place).map_or("", |table| table.name.as_str());
        match policy.triggers_run(table).unwrap_or(outside) {
            true => Stance::Run(writes.iter().cloned().collect()),
            false => Stance::Silent(Why::Chosen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::inspect;
    use crate::shared::policy::{Choice, Entry};
    use conflict::SiteId;

    const SHOP: &str = "
        CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE sale (id INTEGER PRIMARY KEY, item INTEGER);
        CREATE TABLE seen (id INTEGER PRIMARY KEY, what TEXT);
        CREATE TABLE odd (id INTEGER PRIMARY KEY);
        CREATE TABLE plain (id INTEGER PRIMARY KEY REFERENCES item (id) ON DELETE CASCADE);
        CREATE VIRTUAL TABLE words USING fts5 (name, content = 'item', content_rowid = 'id');
        CREATE TRIGGER i AFTER INSERT ON item BEGIN
            INSERT INTO words (rowid, name) VALUES (new.id, new.name); END;
        CREATE TRIGGER d AFTER DELETE ON item BEGIN
            INSERT INTO words (words, rowid, name) VALUES ('delete', old.id, old.name); END;
        CREATE TRIGGER s AFTER INSERT ON sale BEGIN INSERT INTO seen (what) VALUES ('sale'); END;
        CREATE TRIGGER o AFTER DELETE ON odd BEGIN SELECT of_the_application(old.id); END;";

    fn stances(entries: &[(&str, Choice)]) -> Vec<(String, Stance)> {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SHOP).unwrap();
        let schema = inspect(&connection, None).unwrap().schema;
        let entries = entries.iter().map(|(table, choice)| Entry::new(table, None, *choice));
        let policy = Policy::from_entries(entries, SiteId::from_bytes([1; 16]));
        let effects = Effects::of(&schema).unwrap();
        let names = schema.tables.iter().map(|table| table.name.clone());
        names.enumerate().map(|(at, n)| (n, effects.stance(&schema, &policy, at))).collect()
    }

    fn stance(entries: &[(&str, Choice)], table: &str) -> Stance {
        stances(entries).into_iter().find(|(name, _)| name == table).unwrap().1
    }

    #[test]
    fn triggers_run_where_what_they_write_stays() {
        assert_eq!(stance(&[], "item"), Stance::Run(vec!["words".into()]));
        assert_eq!(stance(&[], "sale"), Stance::Silent(Why::Writes("seen".into())));
        assert_eq!(stance(&[], "odd"), Stance::Silent(Why::Unclear));
        assert_eq!(stance(&[], "plain"), Stance::Silent(Why::Chosen));
        assert_eq!(stance(&[("item", Choice::Silent)], "item"), Stance::Silent(Why::Chosen));
        let local = ("seen", Choice::Local);
        assert_eq!(stance(&[local], "sale"), Stance::Silent(Why::Chosen));
        let run = ("sale", Choice::Run);
        assert_eq!(stance(&[local, run], "sale"), Stance::Run(vec!["seen".into()]));
        assert_eq!(stance(&[run], "sale"), Stance::Silent(Why::Writes("seen".into())));
    }
}
