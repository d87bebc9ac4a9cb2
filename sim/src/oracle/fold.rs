//! What all sites said of one shared database, folded by stamp: change by change in the order of
//! (time, site), under the rules as MERGE.md tells them. Nothing of it is shared with the node, but
//! the shapes in which values travel.
//!
//! What follows for the application, where rows claim the same or refer to one another, is
//! [`super::visible`]'s.

use conflict::{Rule, SiteId, Timestamp, Value};
use std::collections::{BTreeMap, BTreeSet};

/// When and by whom: what decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The time, as it travels.
    pub time: u64,
    /// The site.
    pub site: SiteId,
}

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = Timestamp::try_from(self.time).map_or(0, |time| time.wall_time().0);
        write!(f, "{}.{:03} s ({:x})", time / 1000, time % 1000, self.time)
    }
}

/// A part of a key: the schemas here have no others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A number.
    Number(i64),
    /// A text.
    Text(Vec<u8>),
}

/// A row: its table, its key, and where one key may mean several rows, its first insert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The table.
    pub table: String,
    /// The key.
    pub key: Vec<Part>,
    /// The first insert.
    pub birth: Option<Stamp>,
}

/// What became of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It has this value, by that rule.
    Set(Value, Rule),
    /// So much was added.
    Added(Value),
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It begins, with these columns.
    Insert(BTreeMap<String, Told>),
    /// Some columns changed.
    Update(BTreeMap<String, Told>),
    /// It is gone.
    Delete,
}

/// One change, as its origin published it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// When and by whom.
    pub stamp: Stamp,
    /// Of which row.
    pub row: Id,
    /// What.
    pub what: What,
    /// The first inserts of the rows that these columns refer to.
    pub refers: BTreeMap<String, Stamp>,
}

/// A value, by which rule, and the first insert of the row that it refers to.
type Set = (Value, Rule, Option<Stamp>);

/// What is known of a row.
#[derive(Clone, Debug, Default)]
pub struct Row {
    inserts: BTreeSet<Stamp>,
    deleted: Option<Stamp>,
    /// By column, its sets, with the first inserts of what they refer to.
    sets: BTreeMap<String, BTreeMap<Stamp, Set>>,
    added: BTreeMap<String, BTreeMap<Stamp, Value>>,
}

/// All rows.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    /// By identity.
    pub rows: BTreeMap<Id, Row>,
    /// Two sites gave one row the same time.
    pub ties: u64,
}

impl Fold {
    /// Folds everything, in order of stamps.
    pub fn new(said: &[Said]) -> Self {
        let mut fold = Self::default();
        let mut in_order: Vec<&Said> = said.iter().collect();
        in_order.sort_by_key(|said| (said.stamp, &said.row));
        let mut last = BTreeMap::new();
        for said in in_order {
            if last.insert(&said.row, said.stamp.time) == Some(said.stamp.time) {
                fold.ties += 1;
            }
            fold.rows.entry(said.row.clone()).or_default().take(said);
        }
        fold
    }
}

impl Row {
    fn take(&mut self, said: &Said) {
        let columns = match &said.what {
            What::Delete => {
                self.deleted = self.deleted.max(Some(said.stamp));
                return;
            }
            What::Insert(columns) => {
                self.inserts.insert(said.stamp);
                columns
            }
            What::Update(columns) => columns,
        };
        for (column, told) in columns {
            match told {
                Told::Set(value, rule) => {
                    let refers = said.refers.get(column).copied();
                    let sets = self.sets.entry(column.clone()).or_default();
                    sets.insert(said.stamp, (value.clone(), *rule, refers));
                }
                Told::Added(amount) => {
                    let added = self.added.entry(column.clone()).or_default();
                    added.insert(said.stamp, amount.clone());
                }
            }
        }
    }

    /// The last that anybody said but a delete and what was added.
    fn last_write(&self) -> Option<Stamp> {
        let sets = self.sets.values().filter_map(|sets| sets.keys().next_back());
        sets.chain(self.inserts.last()).copied().max()
    }

    /// Whether it lives: nothing that was added brings it back.
    pub fn is_live(&self) -> bool {
        self.deleted.is_none() || self.last_write() > self.deleted
    }

    /// The least insert since it was deleted last.
    fn began(&self) -> Option<Stamp> {
        self.inserts.iter().copied().find(|insert| Some(*insert) > self.deleted)
    }

    /// What orders it among those that claim the same; none of a row whose insert nobody knows.
    pub fn rank(&self) -> Option<Stamp> {
        let dead = self.deleted.filter(|_| !self.is_live());
        self.began().or(dead).or(self.inserts.last().copied())
    }

    /// A column's value, and which row it refers to; none where nobody said anything of it.
    pub fn value(&self, column: &str) -> Option<(Value, Option<Stamp>)> {
        let added = self.added.get(column);
        let Some(sets) = self.sets.get(column).filter(|sets| !sets.is_empty()) else {
            let added = added?;
            return Some((sum(&Value::Integer(0), added.values()), None));
        };
        let (latest, (_, rule, _)) = sets.last_key_value()?;
        let first = |began: Option<Stamp>| {
            sets.iter().find(|(stamp, (value, rule, _))| {
                *rule == Rule::FirstWriter && *value != Value::Null && Some(**stamp) >= began
            })
        };
        let (stamp, (value, _, refers)) = match (rule, self.began()) {
            (Rule::FirstWriter, began) => match first(began) {
                Some(first) => first,
                None if began.is_some_and(|began| *latest < began) => {
                    return Some((Value::Null, None));
                }
                None => sets.last_key_value()?,
            },
            // No run here sets any other rule.
            _ => sets.last_key_value()?,
        };
        let above = added.into_iter().flat_map(|added| added.range(*stamp..));
        let above = above.filter(|(add, _)| *add != stamp).map(|(_, amount)| amount);
        Some((sum(value, above), *refers))
    }
}

/// Numbers here are whole.
fn sum<'a>(value: &Value, added: impl Iterator<Item = &'a Value>) -> Value {
    let mut added = added.peekable();
    if added.peek().is_none() {
        return value.clone();
    }
    let number = |value: &Value| match value {
        Value::Integer(number) => *number,
        _ => 0,
    };
    Value::Integer(number(value) + added.map(number).sum::<i64>())
}

/// A value as a part of a key; none where the schemas here have no such keys.
pub fn part(value: &Value) -> Option<Part> {
    match value {
        Value::Integer(number) => Some(Part::Number(*number)),
        Value::Text(text) => Some(Part::Text(text.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(time: u64, site: u8) -> Stamp {
        Stamp { time, site: SiteId::from_bytes([site; 16]) }
    }

    fn said(time: u64, site: u8, what: What) -> Said {
        let row = Id { table: "t".into(), key: vec![Part::Number(1)], birth: None };
        Said { stamp: stamp(time, site), row, what, refers: BTreeMap::new() }
    }

    fn set(value: i64) -> What {
        let told = Told::Set(Value::Integer(value), Rule::Counter);
        What::Update([("n".to_owned(), told)].into())
    }

    fn add(amount: i64) -> What {
        What::Update([("n".to_owned(), Told::Added(Value::Integer(amount)))].into())
    }

    fn insert(value: i64) -> What {
        let What::Update(columns) = set(value) else { return What::Delete };
        What::Insert(columns)
    }

    fn row(all: &[Said]) -> Row {
        Fold::new(all).rows.into_values().next().unwrap()
    }

    fn number(all: &[Said]) -> Value {
        row(all).value("n").unwrap().0
    }

    #[test]
    fn the_last_writer_wins_and_a_tie_goes_to_the_greater_site() {
        let all = [said(1, 1, insert(1)), said(5, 2, set(2)), said(5, 1, set(3))];
        assert_eq!(number(&all), Value::Integer(2));
        assert_eq!(Fold::new(&all).ties, 1);
    }

    #[test]
    fn what_was_added_counts_above_the_last_set_alone() {
        let all = [said(1, 1, insert(10)), said(3, 2, add(-1)), said(2, 3, add(-4))];
        assert_eq!(number(&all), Value::Integer(5));
        let with_set = [&all[..], &[said(2, 9, set(7))]].concat();
        assert_eq!(number(&with_set), Value::Integer(6));
    }

    #[test]
    fn a_row_lives_by_a_write_above_its_delete_and_never_by_what_is_added() {
        let mut all = vec![said(1, 1, insert(10)), said(5, 1, What::Delete)];
        assert!(!row(&all).is_live());
        all.push(said(7, 2, add(1)));
        assert!(!row(&all).is_live());
        assert_eq!(row(&all).rank(), Some(stamp(5, 1)));
        all.push(said(8, 2, set(1)));
        assert!(row(&all).is_live());
        assert_eq!(row(&all).rank(), Some(stamp(1, 1)));
        all.push(said(9, 1, insert(1)));
        assert_eq!(row(&all).rank(), Some(stamp(9, 1)));
    }
}
