//! Reading a rule that a person wants, and refusing what can't work, in plain words. Nothing is set
//! here, and no row is looked at.

use super::choice::{Choice, nearest};
use super::shape::{self, ColumnShape, TableShape};
use super::{Entry, Policy, TABLE};
use crate::failure::Failure;
use crate::shared::effects::{Effects, Stance, Why};
use conflict::SiteId;
use protocol::schema::{Schema, Table};

/// A rule that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The entry that sets it.
    pub entry: Entry,
    /// The table, as the schema spells it.
    pub table: String,
    /// The column, as the schema spells it; none: the table as a whole.
    pub column: Option<String>,
    /// The rule.
    pub choice: Choice,
    /// What a person should know, a sentence each.
    pub warnings: Vec<String>,
}

/// What a rule is to be about.
struct Subject<'s> {
    table: &'s Table,
    shape: &'s TableShape,
    column: Option<(&'s str, &'s ColumnShape)>,
}

/// Reads `TABLE` or `TABLE.COLUMN` and a rule. `sites`: the members by name; `policy`: the rules in
/// force.
///
/// # Errors
/// There is no such table, column, rule or site (usage); or the rule can't work there (refused).
pub fn parse(
    subject: &str,
    rule: &str,
    schema: &Schema,
    policy: &Policy,
    sites: &[(String, SiteId)],
) -> Result<Parsed, Failure> {
    let shapes = shape::read(schema).map_err(unreadable)?;
    let subject = find(subject, schema, &shapes)?;
    let choice = Choice::parse(rule, sites).map_err(|near| {
        Failure::usage(
            format!("There is no rule {rule:?}."),
            format!("The nearest is `{near}`; see `policy --help` for all."),
        )
    })?;
    let spelled = choice.spelled(|site| {
        let name = sites.iter().find(|(_, id)| *id == site).map(|(name, _)| name.clone());
        name.unwrap_or_else(|| site.to_string())
    });
    if !choice.fits(subject.column.is_some()) {
        let (place, remedy) = match subject.column {
            Some(_) => ("a table as a whole", "Name the table without a column."),
            None => ("a column", "Name it as TABLE.COLUMN."),
        };
        return Err(Failure::usage(format!("`{spelled}` is a rule for {place}."), remedy));
    }
    if choice == Choice::Run {
        subject.check_triggers(schema, policy)?;
    }
    let warnings = subject.check(choice, &spelled)?;
    let (table, column) = (subject.table.name.clone(), subject.column.map(|(name, _)| name));
    let entry = Entry::new(&table, column, choice);
    Ok(Parsed { entry, column: column.map(str::to_owned), table, choice, warnings })
}

fn unreadable(error: rusqlite::Error) -> Failure {
    Failure::unable(format!("The schema can't be read: {error}."), "This is a bug.")
}

fn find<'s>(
    words: &str,
    schema: &'s Schema,
    shapes: &'s [TableShape],
) -> Result<Subject<'s>, Failure> {
    let tables = || schema.tables.iter().zip(shapes);
    let table = |name: &str| tables().find(|(table, _)| table.name.eq_ignore_ascii_case(name));
    if let Some((table, shape)) = table(words) {
        return Ok(Subject { table, shape, column: None });
    }
    // Names may have dots in them.
    for (at, _) in words.match_indices('.') {
        let (name, column) = (words.get(..at), words.get(at + 1..));
        let Some((table, shape)) = name.and_then(&table) else { continue };
        let column = column.unwrap_or_default();
        let mut columns = table.columns.iter().zip(&shape.columns);
        if let Some((name, shape_of)) = columns.find(|(name, _)| name.eq_ignore_ascii_case(column))
        {
            return Ok(Subject { table, shape, column: Some((name, shape_of)) });
        }
        let near = nearest(column, table.columns.iter().map(String::as_str));
        return Err(Failure::usage(
            format!("The table {} has no column {column:?}.", table.name),
            near.map_or_else(String::new, |near| format!("The nearest is {near}.")),
        ));
    }
    let name = words.split('.').next().unwrap_or(words);
    if name.eq_ignore_ascii_case(TABLE) {
        return Err(Failure::usage(
            "The rules themselves are merged by the latest one.",
            "Name a table of the application.",
        ));
    }
    let near = nearest(name, schema.tables.iter().map(|table| table.name.as_str()));
    Err(Failure::usage(
        format!("There is no table {name:?} under sync."),
        near.map_or_else(
            || "The database has no table at all.".to_owned(),
            |near| format!("The nearest is {near}."),
        ),
    ))
}

impl Subject<'_> {
    /// Whether the table's triggers can run for rows of other sites.
    fn check_triggers(&self, schema: &Schema, policy: &Policy) -> Result<(), Failure> {
        let table = &self.table.name;
        let Some(place) = schema.find(table) else { return Ok(()) };
        let effects = Effects::of(schema).map_err(unreadable)?;
        match effects.stance(schema, policy, place.0 as usize) {
            Stance::Silent(Why::Writes(written)) => Err(Failure::refused(
                format!(
                    "Triggers of {table} write {written}, whose rows come from the other sites \
                     themselves: they would count twice."
                ),
                format!("If its rows need not travel, say `policy … {written} local` first."),
            )),
            Stance::Silent(Why::Unclear) => Err(Failure::refused(
                format!("Triggers of {table} need what only the application has."),
                "They run where the application writes, and nowhere else.",
            )),
            Stance::Silent(Why::Chosen) | Stance::Run(_) => Ok(()),
        }
    }

    /// What speaks against a rule for a table as a whole.
    fn check_table(&self, choice: Choice) -> Result<Vec<String>, Failure> {
        let table = &self.table.name;
        let referred_by = self.shape.referred_by.join(", ");
        match choice {
            Choice::Collide if !self.shape.numbered => Err(Failure::refused(
                format!(
                    "Rows of {table} are told apart by what they have in their key, not by numbers \
                     that each site gives: one key is one row."
                ),
                "Where two sites may mean two things by one key, let AUTOINCREMENT number the rows.",
            )),
            Choice::Local if !referred_by.is_empty() => Ok(vec![format!(
                "Rows of {referred_by} may refer to rows of {table} that another site does not \
                 have: nothing looks after that any more."
            )]),
            Choice::AppendOnly => Ok(vec![format!(
                "Whatever changes or deletes a row of {table} is taken back from now on, also where \
                 it was done; `conflicts` lists it."
            )]),
            _ => Ok(Vec::new()),
        }
    }

    /// What speaks against a rule.
    fn check(&self, choice: Choice, spelled: &str) -> Result<Vec<String>, Failure> {
        let table = &self.table.name;
        let Some((name, column)) = self.column else {
            return self.check_table(choice);
        };
        if column.key && choice != Choice::LastWriter {
            return Err(Failure::refused(
                format!(
                    "{table}.{name} is part of the key, which tells rows apart: `{spelled}` can't hold for it."
                ),
                "Choose a column outside the key.",
            ));
        }
        match choice {
            Choice::Local if column.required => Err(Failure::refused(
                format!(
                    "{table}.{name} must have a value and has no default: rows could not enter \
                     the other sites' tables without it."
                ),
                "Give the column a default, or let it travel.",
            )),
            Choice::Local if column.unique || column.in_expression => Err(Failure::refused(
                format!(
                    "{table}.{name} must be unique: where each site has a value of its own there, \
                     two rows may have one value, and nobody knows of the other."
                ),
                "Let it travel, or take the UNIQUE index away.",
            )),
            Choice::Counter if column.refers => Err(Failure::refused(
                format!("{table}.{name} refers to another row: it is no amount."),
                "Choose a column that counts something.",
            )),
            Choice::Counter if column.text => Ok(vec![format!(
                "{table}.{name} holds text: what is no number is set as a whole, and nothing can \
                 be added to it."
            )]),
            _ => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::inspect;
    use crate::failure::FailureKind;
    use rusqlite::Connection;

    fn schema() -> Schema {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE Item (sku TEXT PRIMARY KEY, Stock INTEGER, note TEXT NOT NULL,
                                    shelf TEXT NOT NULL DEFAULT '');
                 CREATE TABLE sale (id INTEGER PRIMARY KEY, item TEXT REFERENCES item (sku));
                 CREATE TRIGGER sold AFTER INSERT ON sale BEGIN
                     UPDATE item SET stock = stock - 1 WHERE sku = new.item; END;
                 CREATE TABLE seat (id INTEGER PRIMARY KEY, place TEXT, hall TEXT, note TEXT,
                                    UNIQUE (place, hall));
                 CREATE UNIQUE INDEX noted ON seat (lower(note)) WHERE id > 1;
                 CREATE TABLE \"old.sale\" (id INTEGER PRIMARY KEY, \"a.b\" REAL);",
            )
            .unwrap();
        inspect(&connection, None).unwrap().schema
    }

    fn read(subject: &str, rule: &str) -> Result<Parsed, Failure> {
        let policy = Policy::default();
        parse(
            subject,
            rule,
            &schema(),
            &policy,
            &[("uptown".to_owned(), SiteId::from_bytes([2; 16]))],
        )
    }

    fn entry(subject: &str, rule: &str) -> (String, String, String, String) {
        let entry = read(subject, rule).unwrap().entry;
        (entry.table, entry.column, entry.setting, entry.value)
    }

    fn refusal(subject: &str, rule: &str, kind: FailureKind) -> String {
        let failure = read(subject, rule).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        failure.to_string()
    }

    #[test]
    fn rules_are_read() {
        let is = |a: &str, b: &str, c: &str, d: &str| {
            (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned())
        };
        assert_eq!(entry("item.stock", "counter"), is("item", "stock", "rule", "counter"));
        assert_eq!(entry("ITEM", "whole-row"), is("item", "", "rule", "whole-row"));
        let collide = is("old.sale", "", "same-key", "collide");
        assert_eq!(entry("old.sale", "same-key collide"), collide);
        assert_eq!(entry("old.sale", "append-only"), is("old.sale", "", "rule", "append-only"));
        assert_eq!(entry("old.sale.a.b", "counter"), is("old.sale", "a.b", "rule", "counter"));
        let site = SiteId::from_bytes([2; 16]);
        let priority = format!("site-priority {site}");
        let expected = is("item", "note", "rule", &priority);
        assert_eq!(entry("item.note", "site-priority uptown"), expected);
        assert_eq!(entry("item.note", &priority), expected);
        assert_eq!(read("item.stock", "counter").unwrap().column.as_deref(), Some("Stock"));
    }

    #[test]
    fn what_is_not_known_is_told_with_the_nearest() {
        let usage = |subject, rule| refusal(subject, rule, FailureKind::Usage);
        assert!(usage("itme", "local").contains("nearest is Item."));
        assert!(usage("itme.stock", "local").contains("nearest is Item."));
        assert!(usage("item.stok", "local").contains("nearest is Stock."));
        assert!(usage("item.stock", "conter").contains("nearest is `counter`"));
        assert!(usage("item.stock", "site-priority uptwn").contains("site-priority uptown"));
        assert!(usage("item", "counter").contains("for a column"));
        assert!(usage("item.stock", "whole-row").contains("for a table"));
        assert!(usage("_holdfast_policy.value", "local").contains("the latest one"));
    }

    #[test]
    fn what_cannot_work_is_refused_and_what_may_surprise_is_told() {
        let refused = |subject, rule| refusal(subject, rule, FailureKind::Refused);
        for rule in ["local", "counter", "first-writer", "site-priority uptown"] {
            assert!(refused("item.sku", rule).contains("part of the key"), "{rule}");
        }
        assert!(read("item.sku", "last-writer").is_ok());
        assert!(refused("item.note", "local").contains("no default"));
        assert!(read("item.shelf", "local").unwrap().warnings.is_empty());
        for column in ["seat.place", "seat.hall", "seat.note"] {
            assert!(refused(column, "local").contains("must be unique"), "{column}");
        }
        assert!(refused("sale.item", "counter").contains("no amount"));
        assert!(refused("item", "same-key collide").contains("one key is one row"));
        assert!(read("sale", "same-key collide").is_ok());
        assert!(read("item", "triggers run").is_ok());
        assert!(refused("sale", "triggers run").contains("write Item"));
        assert!(read("item", "triggers silent").is_ok());
        let warned = |subject, rule| read(subject, rule).unwrap().warnings.join("");
        assert!(warned("item.shelf", "counter").contains("holds text"));
        assert!(warned("item", "local").contains("sale"));
        assert!(warned("sale", "append-only").contains("taken back"));
        assert_eq!(warned("sale", "local"), "");
        assert_eq!(warned("item.stock", "counter"), "");
    }
}
