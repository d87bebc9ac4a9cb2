//! Random histories of two to four sites, over schemas with everything that can compete, also with
//! children before their parents and tables that stay where they are from some time on: after
//! every step each site's tables are what f shows of its merged rows, no constraint is broken,
//! and once everything is everywhere all sites are alike and at rest.

use super::site::{Batch, Site, site_id};
use super::{assert_alike, exchange};
use crate::shared::Policy;
use crate::shared::policy::{Choice, Entry};
use proptest::prelude::*;

pub const SCHEMAS: [&str; 4] = [
    // Natural keys, several indexes on one table, one composite, one partial.
    "CREATE TABLE p (id TEXT PRIMARY KEY, a TEXT UNIQUE, b INTEGER, c TEXT, UNIQUE (b, c));
     CREATE UNIQUE INDEX part ON p (c) WHERE b > 1;
     CREATE TABLE q (id TEXT PRIMARY KEY, a TEXT REFERENCES p(id) ON DELETE CASCADE, b INTEGER, c TEXT)",
    // Numbers handed out at every site, references by them.
    "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b INTEGER, c TEXT UNIQUE);
     CREATE TABLE q (id INTEGER PRIMARY KEY AUTOINCREMENT, a INTEGER REFERENCES p(id), b INTEGER, c TEXT)",
    // Collations, an expression, a check, a reference to itself.
    "CREATE TABLE p (id TEXT PRIMARY KEY COLLATE NOCASE, a TEXT, b INTEGER CHECK (b < 4), c TEXT);
     CREATE UNIQUE INDEX expression ON p (lower(a));
     CREATE TABLE q (id TEXT PRIMARY KEY, a TEXT REFERENCES q(id) ON DELETE SET NULL, b INTEGER, c TEXT UNIQUE COLLATE NOCASE)",
    // No rowid, unmarkable unique values.
    "CREATE TABLE p (id TEXT, a TEXT, b INTEGER UNIQUE, c TEXT, PRIMARY KEY (id, c)) WITHOUT ROWID;
     CREATE TABLE q (id TEXT PRIMARY KEY, a TEXT, b INTEGER NOT NULL UNIQUE, c TEXT) WITHOUT ROWID",
];

/// The one of them whose keys are numbers.
pub const NUMBERED: usize = 1;
/// The one with a table that refers to itself.
pub const SELF_REFERRING: usize = 2;

/// The rules of those below that have a column of the first writer.
pub const FIRST_WRITER: usize = 1;

/// Rules under which it must hold all the same.
pub fn rules(number: usize) -> Vec<Entry> {
    let of = |entries: &[(&str, Option<&str>, Choice)]| {
        let entries = entries.iter();
        entries.map(|(table, column, choice)| Entry::new(table, *column, *choice)).collect()
    };
    match number {
        0 => of(&[]),
        1 => of(&[("p", Some("b"), Choice::Counter), ("p", Some("a"), Choice::FirstWriter)]),
        2 => of(&[
            ("p", Some("c"), Choice::KeepMark),
            ("q", Some("c"), Choice::KeepMark),
            ("q", None, Choice::ParkChild),
        ]),
        3 => of(&[
            ("p", None, Choice::WholeRow),
            ("q", Some("c"), Choice::SitePriority(site_id(0))),
            ("q", Some("b"), Choice::Counter),
        ]),
        _ => of(&[("q", None, Choice::AppendOnly), ("p", None, Choice::Collide)]),
    }
}

/// The same with a table whose rows stay where they are.
fn with_local(mut rules: Vec<Entry>, table: bool) -> Vec<Entry> {
    rules.push(Entry::new(name(table), None, Choice::Local));
    rules
}

fn name(table: bool) -> &'static str {
    if table { "p" } else { "q" }
}

#[derive(Clone, Debug)]
pub enum Act {
    Insert {
        table: bool,
        id: u8,
        a: u8,
        b: u8,
        c: u8,
    },
    Set {
        table: bool,
        id: u8,
        column: u8,
        to: u8,
    },
    Delete {
        table: bool,
        id: u8,
    },
    Replace {
        table: bool,
        id: u8,
        a: u8,
        b: u8,
        c: u8,
    },
    /// Without looking whether references lead anywhere.
    Loosely(Box<Act>),
    /// From here on a table stays at this site.
    Keep,
    Harvest,
    Receive(prop::sample::Index),
    MergeOnly(prop::sample::Index),
    /// Some dead rows are forgotten, whoever may still have them.
    Forget(prop::sample::Index),
}

pub fn act() -> impl Strategy<Value = Act> {
    let n = || 0..4_u8;
    let row = move || (any::<bool>(), n(), n(), n(), n());
    let insert = move || row().prop_map(|(table, id, a, b, c)| Act::Insert { table, id, a, b, c });
    let delete = move || (any::<bool>(), n()).prop_map(|(table, id)| Act::Delete { table, id });
    prop_oneof![
        8 => insert(),
        8 => (any::<bool>(), n(), n(), n())
            .prop_map(|(table, id, column, to)| Act::Set { table, id, column, to }),
        4 => delete(),
        2 => row().prop_map(|(table, id, a, b, c)| Act::Replace { table, id, a, b, c }),
        2 => prop_oneof![insert(), delete()].prop_map(|act| Act::Loosely(Box::new(act))),
        1 => Just(Act::Keep),
        6 => Just(Act::Harvest),
        8 => any::<prop::sample::Index>().prop_map(Act::Receive),
        4 => any::<prop::sample::Index>().prop_map(Act::MergeOnly),
        4 => any::<prop::sample::Index>().prop_map(Act::Forget),
    ]
}

/// A value of a column of one letter; as a number, as a text in either case, or none.
fn text(n: u8) -> String {
    match n {
        0 => "NULL".into(),
        1 => "'x'".into(),
        2 => "'X'".into(),
        _ => "'y'".into(),
    }
}

fn key(schema: usize, n: u8) -> String {
    match schema {
        1 => format!("{}", n + 1),
        _ => ["'k'", "'K'", "'l'", "'m'"][n as usize % 4].into(),
    }
}

pub fn perform(site: &Site, schema: usize, act: &Act) {
    let reference = |table: bool, n: u8| match (schema, table) {
        (0, false) | (2, false) if n > 0 => key(schema, n),
        (1, false) if n > 0 => key(1, n),
        (1, false) => "NULL".into(),
        _ => text(n),
    };
    let row = |table: &bool, id: &u8, a: &u8, b: &u8, c: &u8| {
        let c = if schema == 3 { "'x'".into() } else { text(*c) };
        format!("{}, {}, {b}, {c}", key(schema, *id), reference(*table, *a))
    };
    let sql = match act {
        Act::Insert { table, id, a, b, c } => {
            format!("INSERT INTO {} VALUES ({})", name(*table), row(table, id, a, b, c))
        }
        Act::Replace { table, id, a, b, c } => {
            format!("REPLACE INTO {} VALUES ({})", name(*table), row(table, id, a, b, c))
        }
        Act::Set { table, id, column, to } => {
            let set = match column % 3 {
                0 => format!("a = {}", reference(*table, *to)),
                1 => format!("b = {to}"),
                _ => format!("c = {}", text(*to)),
            };
            format!("UPDATE {} SET {set} WHERE id = {}", name(*table), key(schema, *id))
        }
        Act::Delete { table, id } => {
            format!("DELETE FROM {} WHERE id = {}", name(*table), key(schema, *id))
        }
        Act::Loosely(act) => {
            site.run("PRAGMA foreign_keys = OFF");
            perform(site, schema, act);
            site.run("PRAGMA foreign_keys = ON");
            return;
        }
        Act::Keep | Act::Harvest | Act::Receive(_) | Act::MergeOnly(_) | Act::Forget(_) => return,
    };
    site.run(&sql);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn all_sites_come_to_one_content(
        schema in 0..SCHEMAS.len(),
        number in 0..5_usize,
        stays in any::<bool>(),
        at_once in 1..9_usize,
        count in 2..4_usize,
        acts in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u64, act()), 1..40),
    ) {
        let policy = |rules| Policy::from_entries(rules, site_id(0));
        let mut sites = Site::group(count, SCHEMAS[schema], &policy(rules(number)));
        let staying = policy(with_local(rules(number), stays));
        let mut batches: Vec<Batch> = Vec::new();
        for (at, later, act) in &acts {
            let site = &mut sites[at.index(count)];
            site.clock += later;
            match act {
                Act::Harvest => {
                    site.harvest();
                    site.check();
                }
                Act::Receive(which) | Act::MergeOnly(which) => {
                    let next: Vec<&Batch> =
                        batches.iter().filter(|batch| site.can_take(batch)).collect();
                    if !next.is_empty() {
                        let batch = next[which.index(next.len())].clone();
                        if matches!(act, Act::Receive(_)) {
                            site.receive(&batch);
                            site.check();
                        } else {
                            site.merge(&batch);
                        }
                    }
                }
                Act::Keep => {
                    site.has_rules(&staying, at_once);
                    site.harvest();
                    site.check();
                }
                Act::Forget(first) => {
                    let dead = site.dead();
                    let from = if dead.is_empty() { 0 } else { first.index(dead.len()) };
                    site.forget(dead[from..].to_vec());
                    site.harvest();
                    site.check();
                }
                other => perform(site, schema, other),
            }
            batches = sites.iter().flat_map(|site| site.made.clone()).collect();
        }
        let kept = acts.iter().any(|(_, _, act)| matches!(act, Act::Keep));
        if kept {
            sites.iter_mut().for_each(|site| site.has_rules(&staying, at_once));
        }
        exchange(&mut sites);
        // Settled anew, however much at once, it is what it was.
        let rules = if kept { staying } else { policy(rules(number)) };
        for site in &mut sites {
            let content = site.content();
            site.waits = true;
            site.has_rules(&rules, at_once);
            site.harvest();
            site.check();
            prop_assert_eq!(content, site.content());
        }
        for site in &mut sites {
            site.check();
            let sequence = site.sequence();
            site.harvest();
            prop_assert_eq!(site.sequence(), sequence, "what was written came back as a change");
        }
        assert_alike(&sites);
        let states = sites[0].states().into_iter().map(|(_, state)| state).collect::<Vec<_>>();
        for site in &sites[1..] {
            let other: Vec<_> = site.states().into_iter().map(|(_, state)| state).collect();
            prop_assert_eq!(&states, &other);
        }
    }
}
