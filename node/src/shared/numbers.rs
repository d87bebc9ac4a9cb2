//! The numbers that merged rows name sites, tables and columns by: small, and this site's own.
//! What a number means never changes.

use crate::store::StoreError;
use conflict::SiteId;
use conflict::row::Column;
use protocol::schema::{Schema, TableIndex};
use rusqlite::{Connection, OptionalExtension, params};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The numbers of one database, given out as they are asked for. After a transaction that was
/// taken back, make a new value.
#[derive(Debug)]
pub struct Numbers {
    database: i64,
    known: RefCell<Known>,
}

#[derive(Debug, Default)]
struct Known {
    numbers: BTreeMap<SiteId, u32>,
    sites: BTreeMap<u32, SiteId>,
    tables: BTreeMap<String, i64>,
    columns: BTreeMap<(i64, String), Column>,
}

/// A table of a schema, by its numbers here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedTable {
    /// `captured_table.number`.
    pub number: i64,
    /// Of each of its columns, in their order.
    pub columns: Vec<Column>,
}

impl Numbers {
    /// Those of a database.
    pub fn new(database: i64) -> Self {
        Self { database, known: RefCell::default() }
    }

    /// A site's number.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn site(&self, connection: &Connection, site: SiteId) -> Result<u32, StoreError> {
        let known = &mut *self.known.borrow_mut();
        if let Some(number) = known.numbers.get(&site) {
            return Ok(*number);
        }
        connection
            .prepare_cached("INSERT OR IGNORE INTO site_number (site) VALUES (?)")?
            .execute([site.as_bytes()])?;
        let number: u32 = connection
            .prepare_cached("SELECT number FROM site_number WHERE site = ?")?
            .query_row([site.as_bytes()], |row| row.get(0))?;
        known.numbers.insert(site, number);
        known.sites.insert(number, site);
        Ok(number)
    }

    /// The site of a number.
    ///
    /// # Errors
    /// There is none, or see [`StoreError`].
    pub fn site_of(&self, connection: &Connection, number: u32) -> Result<SiteId, StoreError> {
        let known = &mut *self.known.borrow_mut();
        if let Some(site) = known.sites.get(&number) {
            return Ok(*site);
        }
        let found: Option<[u8; 16]> = connection
            .prepare_cached("SELECT site FROM site_number WHERE number = ?")?
            .query_row([number], |row| row.get(0))
            .optional()?;
        let site = found.map(SiteId::from_bytes).ok_or_else(|| {
            StoreError::Damaged(format!("a merged row names site number {number}"))
        })?;
        known.numbers.insert(site, number);
        known.sites.insert(number, site);
        Ok(site)
    }

    /// A table's number, by its name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn table(&self, connection: &Connection, name: &str) -> Result<i64, StoreError> {
        let known = &mut *self.known.borrow_mut();
        if let Some(number) = known.tables.get(name) {
            return Ok(*number);
        }
        connection
            .prepare_cached(
                "INSERT INTO captured_table (database, number, name)
                 SELECT ?1, 1 + ifnull((SELECT max(number) FROM captured_table
                                        WHERE database = ?1), 0), ?2
                 WHERE NOT EXISTS (SELECT 1 FROM captured_table
                                   WHERE database = ?1 AND name = ?2)",
            )?
            .execute(params![self.database, name])?;
        let number = connection
            .prepare_cached("SELECT number FROM captured_table WHERE database = ?1 AND name = ?2")?
            .query_row(params![self.database, name], |row| row.get(0))?;
        known.tables.insert(name.to_owned(), number);
        Ok(number)
    }

    /// A column's number, by its name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn column(
        &self,
        connection: &Connection,
        table: i64,
        name: &str,
    ) -> Result<Column, StoreError> {
        let known = &mut *self.known.borrow_mut();
        let wanted = (table, name.to_owned());
        if let Some(column) = known.columns.get(&wanted) {
            return Ok(*column);
        }
        connection
            .prepare_cached(
                "INSERT INTO merged_column (database, tbl, number, name)
                 SELECT ?1, ?2, 1 + ifnull((SELECT max(number) FROM merged_column
                                            WHERE database = ?1 AND tbl = ?2), 0), ?3
                 WHERE NOT EXISTS (SELECT 1 FROM merged_column
                                   WHERE database = ?1 AND tbl = ?2 AND name = ?3)",
            )?
            .execute(params![self.database, table, name])?;
        let number: u32 = connection
            .prepare_cached(
                "SELECT number FROM merged_column WHERE database = ?1 AND tbl = ?2 AND name = ?3",
            )?
            .query_row(params![self.database, table, name], |row| row.get(0))?;
        known.columns.insert(wanted, Column(number));
        Ok(Column(number))
    }

    /// The tables of a schema, in its order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn schema(
        &self,
        connection: &Connection,
        schema: &Schema,
    ) -> Result<BTreeMap<TableIndex, NumberedTable>, StoreError> {
        let mut tables = BTreeMap::new();
        for (index, table) in (0..).map(TableIndex).zip(&schema.tables) {
            let number = self.table(connection, &table.name)?;
            let columns = table
                .columns
                .iter()
                .map(|name| self.column(connection, number, name))
                .collect::<Result<_, _>>()?;
            tables.insert(index, NumberedTable { number, columns });
        }
        Ok(tables)
    }
}
