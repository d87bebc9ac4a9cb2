//! The local schema as merged rows meet it: which merged columns its tables have, what rows hold
//! in those that nobody set, and what the rules say of them.

use super::fit::autoincrements;
use super::numbers::Numbers;
use super::{Desk, DeskError, Effects, MergedId, Policy, Stance};
use crate::capture::Captured;
use conflict::row::Column;
use conflict::visible::{RowId, Table as Place};
use conflict::{SiteId, Value};
use protocol::schema::{RowIdentity, TableIndex};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug)]
pub struct Local {
    /// Its constraints.
    pub desk: Desk,
    /// The rules in force.
    pub policy: Policy,
    /// This site.
    pub site: SiteId,
    /// In the order of the schema.
    pub tables: Vec<LocalTable>,
    /// Of those that do not stay here, by number.
    places: BTreeMap<i64, usize>,
}

/// One table.
#[derive(Debug)]
pub struct LocalTable {
    /// Its name.
    pub name: String,
    /// Its number in `node.db`.
    pub number: i64,
    /// Its columns, in their order.
    pub columns: Vec<LocalColumn>,
    /// The places of the key's columns, in the key's order.
    pub key: Vec<usize>,
    /// Whether SQLite hands out its keys, and each only once.
    pub autoincrement: bool,
    /// Whether one key may mean two rows.
    pub collides: bool,
    /// Whether its rows may say when they were born: they do where keys collide, or did once.
    pub bears: bool,
    /// Whether its rows stay at their site.
    pub stays: bool,
    /// Whether the application's triggers run when rows of other sites are written.
    pub triggers_run: bool,
}

/// One column.
#[derive(Debug)]
pub struct LocalColumn {
    /// Its name.
    pub name: String,
    /// Its number in `node.db`.
    pub number: Column,
    /// What a row holds in which nobody set it.
    pub default: Value,
    /// Whether it stays at its site.
    pub stays: bool,
    /// Whether it is part of the key.
    pub in_key: bool,
    /// The table whose row it refers to alone, by that table's key.
    pub refers_to: Option<usize>,
}

impl Local {
    /// The schema as captured.
    ///
    /// # Errors
    /// It has what shared mode can't keep safe, or SQLite's.
    pub fn new(
        connection: &Connection,
        captured: &Captured,
        numbers: &Numbers,
        codes: BTreeMap<SiteId, String>,
        (site, policy): (SiteId, Policy),
    ) -> Result<Self, DeskError> {
        let schema = &captured.schema;
        let parking = schema.tables.iter().enumerate();
        let parking = parking.filter(|(_, table)| !policy.keeps_parent(&table.name));
        let staying = schema.tables.iter().enumerate();
        let staying = staying.filter(|(_, table)| policy.is_local(&table.name));
        let desk = Desk::new(schema, codes)?
            .parking(parking.map(|(place, _)| place).collect())
            .staying(staying.map(|(place, _)| place).collect());
        let autoincrements = autoincrements(schema);
        let effects = Effects::of(schema)?;
        let mut tables = Vec::new();
        for (at, table) in schema.tables.iter().enumerate() {
            let RowIdentity::Key(key) = &table.identity else {
                return Err(DeskError::Unfit(format!("the table {} has no key", table.name)));
            };
            let key: Vec<usize> = key.iter().map(|column| column.0 as usize).collect();
            let number = numbers.table(connection, &table.name)?;
            let defaults = captured.defaults_of(TableIndex(at as u32));
            let mut columns = Vec::new();
            for (place, name) in table.columns.iter().enumerate() {
                columns.push(LocalColumn {
                    name: name.clone(),
                    number: numbers.column(connection, number, name)?,
                    default: defaults.get(place).cloned().flatten().unwrap_or(Value::Null),
                    stays: policy.column_is_local(&table.name, name),
                    in_key: key.contains(&place),
                    refers_to: desk.sole_parent(Place(at as u32), place),
                });
            }
            let auto = autoincrements.get(at).copied().unwrap_or(false);
            // Another number can be given only where SQLite hands them out.
            let bears = desk.hands_out_keys(Place(at as u32))?;
            tables.push(LocalTable {
                name: table.name.clone(),
                number,
                columns,
                key,
                autoincrement: auto,
                collides: bears && policy.collides(&table.name, true),
                bears,
                stays: policy.is_local(&table.name),
                triggers_run: matches!(effects.stance(schema, &policy, at), Stance::Run(_)),
            });
        }
        let travelling = tables.iter().enumerate().filter(|(_, table)| !table.stays);
        let places = travelling.map(|(at, table)| (table.number, at)).collect();
        Ok(Self { desk, policy, site, tables, places })
    }

    /// The tables whose keys SQLite hands out.
    pub fn numbered(&self) -> Vec<&str> {
        let numbered = self.tables.iter().filter(|table| table.autoincrement);
        numbered.map(|table| table.name.as_str()).collect()
    }

    /// The tables whose triggers run for rows of other sites.
    pub fn with_triggers(&self) -> BTreeSet<TableIndex> {
        let tables = self.tables.iter().enumerate().filter(|(_, table)| table.triggers_run);
        tables.map(|(at, _)| TableIndex(at as u32)).collect()
    }

    /// A table by its place in the schema.
    ///
    /// # Errors
    /// There is none.
    pub fn table(&self, place: Place) -> Result<&LocalTable, DeskError> {
        self.tables.get(place.0 as usize).ok_or(DeskError::Unknown("such table"))
    }

    /// A table by its number in `node.db`; `None`: the local schema lacks it, or its rows stay at
    /// their site, so that merged ones of it mean nothing here.
    pub fn place(&self, number: i64) -> Option<Place> {
        self.places.get(&number).map(|at| Place(*at as u32))
    }

    /// A row as `conflict::visible` names it; `None`: as [`Local::place`].
    ///
    /// # Errors
    /// What is stored is damaged.
    pub fn row_id(&self, id: &MergedId) -> Result<Option<RowId>, DeskError> {
        let Some(table) = self.place(id.table) else { return Ok(None) };
        Ok(Some(RowId { table, key: id.key_values()?, birth: id.birth()? }))
    }

    /// The reverse of [`Local::row_id`].
    ///
    /// # Errors
    /// There is no such table.
    pub fn merged_id(&self, row: &RowId) -> Result<MergedId, DeskError> {
        Ok(MergedId::new(self.table(row.table)?.number, row))
    }
}

impl LocalTable {
    /// The key of a row.
    pub fn key_of(&self, row: &[Value]) -> Vec<Value> {
        self.key.iter().filter_map(|place| row.get(*place)).cloned().collect()
    }
}
