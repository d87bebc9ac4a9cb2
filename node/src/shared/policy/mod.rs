//! The merge rules of one database: a replicated, stamped entry each, and what holds without one.
//!
//! An entry is a row of a table of our own, [`TABLE`], which travels in batches and is merged like
//! any row, and is never written into the application's file. How it travels is not known here.
//! That a conflict is decided travels as such a row too ([`DECIDED`]), and is no rule.
//! Names of tables and columns are ASCII-folded in entries, as SQLite compares them.

mod choice;
mod parse;
mod propose;
mod shape;

pub use choice::{Choice, Setting};
pub use parse::{Parsed, parse};
pub use propose::{Proposal, propose};

use super::book::states;
use super::numbers::Numbers;
use crate::store::{DatabaseNumber, StoreError};
use conflict::{Rule, SiteId, Value};
use protocol::schema::{ColumnIndex, RowIdentity, Schema, Table};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// The table that entries are rows of.
pub const TABLE: &str = "_holdfast_policy";

/// What the setting of an entry begins with that is no rule, but says that a conflict is decided.
pub const DECIDED: &str = "decided ";

/// Its columns; the last is the value, the others are the key.
const COLUMNS: [&str; 4] = ["table_name", "column_name", "setting", "value"];

/// The shape of [`TABLE`], for the wire.
pub fn table() -> Table {
    Table {
        name: TABLE.to_owned(),
        columns: COLUMNS.map(str::to_owned).to_vec(),
        identity: RowIdentity::Key(vec![ColumnIndex(0), ColumnIndex(1), ColumnIndex(2)]),
    }
}

/// One row of [`TABLE`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The table that it is about, folded.
    pub table: String,
    /// The column, folded; empty for the table as a whole.
    pub column: String,
    /// See [`Setting::as_str`].
    pub setting: String,
    /// See [`Choice::value`].
    pub value: String,
}

impl Entry {
    /// A choice for a table, or for a column of it.
    pub fn new(table: &str, column: Option<&str>, choice: Choice) -> Self {
        Self {
            table: table.to_ascii_lowercase(),
            column: column.unwrap_or_default().to_ascii_lowercase(),
            setting: choice.setting().as_str().to_owned(),
            value: choice.value(),
        }
    }

    /// Reads a row; `None`: it is none that this program wrote.
    pub fn from_row(row: &[Value]) -> Option<Self> {
        let text = |value: &Value| match value {
            Value::Text(bytes) => String::from_utf8(bytes.clone()).ok(),
            _ => None,
        };
        let [table, column, setting, value] = row else { return None };
        Some(Self {
            table: text(table)?,
            column: text(column)?,
            setting: text(setting)?,
            value: text(value)?,
        })
    }

    /// The key of its row.
    pub fn key(&self) -> Vec<Value> {
        [&self.table, &self.column, &self.setting].map(|text| Value::text(text)).to_vec()
    }

    /// What stands beside the key: column and value.
    pub fn value(&self) -> (String, Value) {
        (COLUMNS[3].to_owned(), Value::text(&self.value))
    }
}

/// The rules in force here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    own: Option<SiteId>,
    /// By table and column, folded; the empty column is the table as a whole. Of each setting
    /// there is one.
    choices: BTreeMap<String, BTreeMap<String, BTreeMap<Setting, Choice>>>,
    /// What a newer version wrote: it means nothing here.
    unknown: Vec<Entry>,
}

impl Policy {
    /// The rules that the merged entries of a database give.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn read(
        connection: &Connection,
        database: DatabaseNumber,
        own: SiteId,
    ) -> Result<Self, StoreError> {
        let numbers = Numbers::new(database.0);
        let mut rows = Vec::new();
        for (id, state) in states(connection, database.0, &numbers, TABLE)? {
            let mut row =
                id.key_values().map_err(|error| StoreError::Damaged(error.to_string()))?;
            let value = numbers.column(connection, id.table, "value")?;
            row.extend(state.value(value).filter(|_| state.is_live()));
            rows.push(row);
        }
        Ok(Self::from_entries(rows.iter().filter_map(|row| Entry::from_row(row)), own))
    }

    /// The rules that these entries give at the site `own`, in whichever order they stand.
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>, own: SiteId) -> Self {
        let mut policy = Self { own: Some(own), ..Self::default() };
        for entry in entries {
            match Choice::read(&entry.setting, &entry.value) {
                Some(choice) if choice.fits(!entry.column.is_empty()) => {
                    let columns = policy.choices.entry(entry.table).or_default();
                    columns.entry(entry.column).or_default().insert(choice.setting(), choice);
                }
                _ if entry.setting.starts_with(DECIDED) => {}
                _ => policy.unknown.push(entry),
            }
        }
        policy.unknown.sort();
        policy
    }

    /// The rule that this site's sets of a column are labelled with: the column's own, else its
    /// table's.
    pub fn rule(&self, table: &str, column: &str) -> Rule {
        if self.is_local(table) {
            return Rule::Local;
        }
        let own = self.choice(table, column, Setting::Rule);
        match own.or_else(|| self.choice(table, "", Setting::Rule)) {
            Some(Choice::Counter) => Rule::Counter,
            Some(Choice::FirstWriter) => Rule::FirstWriter,
            Some(Choice::SitePriority(site)) if self.own == Some(site) => Rule::SitePriority,
            Some(Choice::SitePriority(_)) => Rule::Yields,
            Some(Choice::Local) => Rule::Local,
            Some(Choice::AppendOnly) => Rule::AppendOnly,
            Some(Choice::WholeRow) => Rule::WholeRow,
            _ => Rule::LastWriter,
        }
    }

    /// Whether the rows of a table stay at their site.
    pub fn is_local(&self, table: &str) -> bool {
        self.table_has(table, Choice::Local)
    }

    /// Whether the values of a column stay at their site.
    pub fn column_is_local(&self, table: &str, column: &str) -> bool {
        self.rule(table, column) == Rule::Local
    }

    /// Whether an edit of any column carries all columns.
    pub fn is_whole_row(&self, table: &str) -> bool {
        self.table_has(table, Choice::WholeRow)
    }

    /// Whether rows of a table are only ever inserted.
    pub fn is_append_only(&self, table: &str) -> bool {
        self.table_has(table, Choice::AppendOnly)
    }

    /// Whether one key made at two sites is two rows. Where nothing is chosen: in tables whose
    /// keys SQLite hands out.
    pub fn collides(&self, table: &str, handed_out: bool) -> bool {
        match self.choice(table, "", Setting::SameKey) {
            Some(choice) => choice == Choice::Collide,
            None => handed_out,
        }
    }

    /// Whether a deleted row stays as long as rows of `table` refer to it.
    pub fn keeps_parent(&self, table: &str) -> bool {
        !self.table_has(table, Choice::ParkChild)
    }

    /// Whether the application's triggers on a table are to run for changes of others, where that
    /// was chosen.
    pub fn triggers_run(&self, table: &str) -> Option<bool> {
        self.choice(table, "", Setting::Triggers).map(|choice| choice == Choice::Run)
    }

    /// Whether a marked value of a column returns when it is free: as chosen for the column, else
    /// for its table.
    pub fn gives_back(&self, table: &str, column: &str) -> bool {
        let own = self.choice(table, column, Setting::GiveBack);
        own.or_else(|| self.choice(table, "", Setting::GiveBack)) != Some(Choice::KeepMark)
    }

    /// What there is to tell: of every table of the schema what holds for it as a whole, and every
    /// entry. In the schema's order and spelling, then what the schema lacks.
    pub fn lines(&self, schema: &Schema) -> Vec<Line> {
        let mut lines = Vec::new();
        for table in &schema.tables {
            let folded = table.name.to_ascii_lowercase();
            let of_table = self.choices.get(&folded);
            let whole = of_table.and_then(|columns| columns.get(""));
            if whole.is_none_or(|chosen| !chosen.contains_key(&Setting::Rule)) {
                lines.push(Line::new(&table.name, None, Choice::LastWriter));
            }
            let whole = whole.into_iter().flat_map(BTreeMap::values);
            lines.extend(whole.map(|choice| Line::new(&table.name, None, *choice)));
            for (column, chosen) in of_table.into_iter().flatten() {
                if column.is_empty() {
                    continue;
                }
                let mut spellings = table.columns.iter();
                let name = spellings.find(|name| name.eq_ignore_ascii_case(column));
                let name = name.unwrap_or(column);
                let chosen = chosen.values();
                lines.extend(chosen.map(|choice| Line::new(&table.name, Some(name), *choice)));
            }
        }
        let known = |name: &str| schema.tables.iter().any(|t| t.name.eq_ignore_ascii_case(name));
        for (table, columns) in self.choices.iter().filter(|(table, _)| !known(table)) {
            for (column, chosen) in columns {
                let column = (!column.is_empty()).then_some(column);
                let chosen = chosen.values();
                lines.extend(chosen.map(|choice| Line::new(table, column, *choice)));
            }
        }
        lines
    }

    /// Entries that a newer version wrote, which mean nothing here.
    pub fn unknown(&self) -> &[Entry] {
        &self.unknown
    }

    fn table_has(&self, table: &str, choice: Choice) -> bool {
        self.choice(table, "", choice.setting()) == Some(choice)
    }

    fn choice(&self, table: &str, column: &str, setting: Setting) -> Option<Choice> {
        // Mostly nothing was chosen, and this is asked for every column of every change.
        if self.choices.is_empty() {
            return None;
        }
        let columns = self.choices.get(&table.to_ascii_lowercase())?;
        columns.get(&column.to_ascii_lowercase())?.get(&setting).copied()
    }
}

/// A rule in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The table.
    pub table: String,
    /// The column; none: the table as a whole.
    pub column: Option<String>,
    /// The rule.
    pub choice: Choice,
}

impl Line {
    fn new(table: &str, column: Option<&String>, choice: Choice) -> Self {
        Self { table: table.to_owned(), column: column.cloned(), choice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::inspect;

    const HERE: SiteId = SiteId::from_bytes([1; 16]);
    const THERE: SiteId = SiteId::from_bytes([2; 16]);

    fn policy(chosen: &[(&str, Option<&str>, Choice)]) -> Policy {
        let entries =
            chosen.iter().map(|(table, column, choice)| Entry::new(table, *column, *choice));
        Policy::from_entries(entries, HERE)
    }

    #[test]
    fn without_entries_the_defaults_hold() {
        for policy in [Policy::default(), policy(&[])] {
            assert_eq!(policy.rule("item", "stock"), Rule::LastWriter);
            assert!(!policy.is_local("item") && !policy.column_is_local("item", "stock"));
            assert!(!policy.is_whole_row("item") && !policy.is_append_only("item"));
            assert!(policy.collides("item", true) && !policy.collides("item", false));
            assert!(policy.keeps_parent("item") && policy.triggers_run("item").is_none());
            assert!(policy.gives_back("item", "name"));
        }
    }

    #[test]
    fn each_choice_is_answered_for_its_table_and_column_alone() {
        let policy = policy(&[
            ("Item", Some("Stock"), Choice::Counter),
            ("item", Some("name"), Choice::FirstWriter),
            ("item", Some("price"), Choice::SitePriority(HERE)),
            ("item", Some("cost"), Choice::SitePriority(THERE)),
            ("item", Some("seen"), Choice::Local),
            ("item", None, Choice::WholeRow),
            ("item", None, Choice::Collide),
            ("log", None, Choice::AppendOnly),
            ("log", None, Choice::Merge),
            ("log", Some("note"), Choice::LastWriter),
            ("session", None, Choice::Local),
            ("session", Some("count"), Choice::Counter),
            ("sale", None, Choice::ParkChild),
            ("sale", None, Choice::Run),
            ("sale", None, Choice::KeepMark),
            ("sale", Some("note"), Choice::GiveBack),
        ]);
        assert_eq!(policy.rule("ITEM", "stock"), Rule::Counter);
        assert_eq!(policy.rule("item", "name"), Rule::FirstWriter);
        assert_eq!(policy.rule("item", "price"), Rule::SitePriority);
        assert_eq!(policy.rule("item", "cost"), Rule::Yields);
        assert_eq!(policy.rule("item", "other"), Rule::WholeRow);
        assert_eq!(policy.rule("log", "text"), Rule::AppendOnly);
        assert_eq!(policy.rule("log", "note"), Rule::LastWriter);
        assert_eq!(policy.rule("session", "count"), Rule::Local);
        assert_eq!(policy.rule("sale", "stock"), Rule::LastWriter);
        assert!(policy.column_is_local("item", "seen") && !policy.is_local("item"));
        assert!(policy.is_local("session") && policy.column_is_local("session", "any"));
        assert!(policy.is_whole_row("item") && !policy.is_whole_row("log"));
        assert!(policy.is_append_only("log") && !policy.is_append_only("item"));
        assert!(policy.collides("item", false) && !policy.collides("log", true));
        assert!(!policy.keeps_parent("sale") && policy.keeps_parent("item"));
        assert_eq!(policy.triggers_run("sale"), Some(true));
        assert!(!policy.gives_back("sale", "number") && policy.gives_back("sale", "note"));
        assert!(policy.gives_back("item", "name"));
    }

    #[test]
    fn entries_survive_their_rows_and_newer_ones_are_told() {
        let entry = Entry::new("Item", Some("Stock"), Choice::Counter);
        let mut row = entry.key();
        row.push(entry.value().1);
        assert_eq!(row.len(), table().columns.len());
        assert_eq!(Entry::from_row(&row), Some(entry.clone()));
        assert_eq!(Entry::from_row(&row[..3]), None);
        row[3] = Value::Integer(1);
        assert_eq!(Entry::from_row(&row), None);
        let newer = Entry { value: "of-tomorrow".into(), ..entry.clone() };
        // A counter of a whole table is none either.
        let misplaced = Entry { column: String::new(), ..entry };
        let policy = Policy::from_entries([newer.clone(), misplaced.clone()], HERE);
        assert_eq!(policy.unknown(), [misplaced, newer]);
        assert_eq!(policy.rule("item", "stock"), Rule::LastWriter);
    }

    #[test]
    fn the_lines_tell_every_table_and_every_entry() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE Item (id INTEGER PRIMARY KEY, Stock INT);
                 CREATE TABLE log (id INTEGER PRIMARY KEY)",
            )
            .unwrap();
        let schema = inspect(&connection, None).unwrap().schema;
        let policy = policy(&[
            ("item", Some("stock"), Choice::Counter),
            ("log", None, Choice::AppendOnly),
            ("log", None, Choice::Collide),
            ("gone", Some("x"), Choice::Local),
        ]);
        let lines: Vec<_> = policy
            .lines(&schema)
            .into_iter()
            .map(|line| (line.table, line.column.unwrap_or_default(), line.choice))
            .collect();
        let line =
            |table: &str, column: &str, choice| (table.to_owned(), column.to_owned(), choice);
        assert_eq!(
            lines,
            [
                line("Item", "", Choice::LastWriter),
                line("Item", "Stock", Choice::Counter),
                line("log", "", Choice::AppendOnly),
                line("log", "", Choice::Collide),
                line("gone", "x", Choice::Local),
            ]
        );
    }
}
