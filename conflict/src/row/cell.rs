//! One column of one row: the sets and adds that still matter, and which of them it shows.
//!
//! Not whether the row lives, nor what is told about losers.

use super::sum::Sum;
use crate::{Rule, Value, Version};

/// The sets and adds of one column, each list by version, ascending.
///
/// Kept are: the latest set, since it decides how the cell is read; the greatest set of the
/// priority site; the least append-only set; every first-writer set that is not NULL; every add.
/// No other can come to count again, whatever is merged later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    sets: Vec<(Version, Set)>,
    adds: Vec<(Version, Value)>,
    /// Folded adds where there is no set at all.
    unset: Option<Sum>,
}

/// A set, and what the folded adds above it make of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) value: Value,
    pub(super) rule: Rule,
    pub(super) sum: Option<Sum>,
}

/// The set that a cell shows. None: a NULL that no change set, from `version` on.
#[derive(Clone, Copy)]
pub(super) struct Winner<'a> {
    pub(super) version: Version,
    pub(super) set: Option<&'a Set>,
}

impl<'a> Winner<'a> {
    /// The value that was set, without what was added.
    pub(super) fn value(&self) -> &'a Value {
        self.set.map_or(&Value::Null, |set| &set.value)
    }
}

impl Cell {
    /// A cell from its parts, as they stood on a disk. None: a list is not in order.
    pub(super) fn restore(
        sets: Vec<(Version, Set)>,
        adds: Vec<(Version, Value)>,
        unset: Option<Sum>,
    ) -> Option<Self> {
        if !sets.is_sorted_by(|a, b| a.0 < b.0) || !adds.is_sorted_by(|a, b| a.0 < b.0) {
            return None;
        }
        let mut cell = Self { sets, adds, unset };
        cell.prune();
        Some(cell)
    }

    pub(super) fn sets(&self) -> &[(Version, Set)] {
        &self.sets
    }

    pub(super) fn adds(&self) -> &[(Version, Value)] {
        &self.adds
    }

    pub(super) fn unset(&self) -> Option<Sum> {
        self.unset
    }

    /// The versions of its sets and adds.
    pub(super) fn versions(&self) -> impl Iterator<Item = Version> {
        let sets = self.sets.iter().map(|(version, _)| *version);
        sets.chain(self.adds.iter().map(|(version, _)| *version))
    }

    /// The version of its latest set, whether or not that wins.
    pub(super) fn latest(&self) -> Option<Version> {
        self.sets.last().map(|(version, _)| *version)
    }

    /// Merges a set.
    pub(super) fn set(&mut self, version: Version, value: Value, rule: Rule) {
        let rule = if rule == Rule::Local { Rule::LastWriter } else { rule };
        place(&mut self.sets, version, Set { value, rule, sum: None });
        self.prune();
    }

    /// Merges an add.
    pub(super) fn add(&mut self, version: Version, amount: Value) {
        place(&mut self.adds, version, amount);
    }

    /// Merges what another state holds above `bound`: everything up to there is here already.
    pub(super) fn take(&mut self, other: &Self, bound: Option<Version>) {
        let above = |version: &Version| bound.is_none_or(|bound| *version > bound);
        for (version, set) in other.sets.iter().filter(|(version, _)| above(version)) {
            place(&mut self.sets, *version, set.clone());
        }
        for (version, amount) in other.adds.iter().filter(|(version, _)| above(version)) {
            place(&mut self.adds, *version, amount.clone());
        }
        self.prune();
    }

    /// The set that wins, read by the rule of the latest. `birth`: the least insert above the
    /// greatest delete. None: there is no set.
    pub(super) fn winner(&self, birth: Option<Version>) -> Option<Winner<'_>> {
        let latest = self.sets.last()?;
        let since_birth = |version: Version| birth.is_none_or(|birth| version >= birth);
        let (version, set) = match latest.1.rule {
            Rule::LastWriter | Rule::Counter | Rule::WholeRow | Rule::Local => latest,
            Rule::AppendOnly => self.sets.iter().find(|(_, set)| is_append(set)).unwrap_or(latest),
            Rule::SitePriority | Rule::Yields => {
                self.sets.iter().rfind(|(_, set)| is_priority(set)).unwrap_or(latest)
            }
            Rule::FirstWriter => {
                let first = |set: &&(Version, Set)| is_first(&set.1) && since_birth(set.0);
                match (self.sets.iter().find(first), birth) {
                    (Some(first), _) => first,
                    // Nothing was set since the row began again: what it had before is gone.
                    (None, Some(version)) if latest.0 < version => {
                        return Some(Winner { version, set: None });
                    }
                    (None, _) => latest,
                }
            }
        };
        Some(Winner { version: *version, set: Some(set) })
    }

    /// What the cell shows: the winning set's value and the adds above it.
    pub(super) fn value(&self, birth: Option<Version>) -> Value {
        let winner = self.winner(birth);
        let (base, before) = match winner {
            Some(winner) => (winner.value(), winner.set.and_then(|set| set.sum)),
            None => (&Value::Null, self.unset),
        };
        let adds = self.adds_above(winner.map(|winner| winner.version)).iter();
        Sum::onto(base, before, adds.map(|(_, amount)| amount))
            .map_or_else(|| base.clone(), Sum::value)
    }

    /// The adds above a version, ascending.
    pub(super) fn adds_above(&self, version: Option<Version>) -> &[(Version, Value)] {
        let below = |version| self.adds.partition_point(|(add, _)| *add <= version);
        self.adds.get(version.map_or(0, below)..).unwrap_or_default()
    }

    /// Folds what lies at or below `bound`, where nothing more will be merged, and tells whether
    /// there was anything to fold. What the cell shows now and later stays the same:
    /// - Each set takes up the adds between itself and the bound. Later adds come after them, so
    ///   the order of adding stays, and with it every rounding of REALs.
    /// - Of the first-writer sets two can still win: the first since the row's birth, and the
    ///   first of all, should a later delete leave a row without birth. Births at or below the
    ///   bound can't change otherwise.
    pub(super) fn compact(&mut self, bound: Version, birth: Option<Version>) -> bool {
        // A NULL that no change set has no place to take up adds.
        let unplaced = self.winner(birth).is_some_and(|winner| winner.set.is_none());
        let stable = |add: &(Version, Value)| add.0 <= bound;
        let folding = !unplaced && self.adds.first().is_some_and(stable);
        if folding {
            self.fold(bound);
        }
        let count = self.sets.len();
        let first = |from: Option<Version>| {
            let from = |version| from.is_none_or(|from| version >= from);
            let mut sets = self.sets.iter();
            sets.find(|(version, set)| is_first(set) && from(*version)).map(|(version, _)| *version)
        };
        let kept = [first(None), first(birth), self.latest()];
        self.sets.retain(|(version, set)| {
            *version > bound || !is_first(set) || kept.contains(&Some(*version))
        });
        folding || self.sets.len() < count
    }

    fn fold(&mut self, bound: Version) {
        let adds = self.adds.partition_point(|(version, _)| *version <= bound);
        let adds: Vec<_> = self.adds.drain(..adds).collect();
        if self.sets.is_empty() {
            self.unset = Sum::onto(&Value::Null, self.unset, adds.iter().map(|(_, add)| add));
        }
        for (version, set) in &mut self.sets {
            let above = adds.iter().filter(|(add, _)| add > version);
            set.sum = Sum::onto(&set.value, set.sum, above.map(|(_, add)| add));
        }
    }

    /// Drops the sets that can't come to count again.
    fn prune(&mut self) {
        if !self.sets.is_empty() {
            self.unset = None;
        }
        if self.sets.len() < 2 {
            return;
        }
        let version_of = |set: Option<&(Version, Set)>| set.map(|(version, _)| *version);
        let kept = [
            self.latest(),
            version_of(self.sets.iter().find(|(_, set)| is_append(set))),
            version_of(self.sets.iter().rfind(|(_, set)| is_priority(set))),
        ];
        self.sets.retain(|(version, set)| is_first(set) || kept.contains(&Some(*version)));
    }
}

fn is_append(set: &Set) -> bool {
    set.rule == Rule::AppendOnly
}

fn is_priority(set: &Set) -> bool {
    set.rule == Rule::SitePriority
}

/// Could be the first value that is not NULL.
fn is_first(set: &Set) -> bool {
    set.rule == Rule::FirstWriter && set.value != Value::Null
}

/// Puts an item at its version's place, unless that is taken: then it is the same item.
fn place<T>(list: &mut Vec<(Version, T)>, version: Version, item: T) {
    if let Err(at) = list.binary_search_by_key(&version, |(version, _)| *version) {
        if list.is_empty() {
            // Most lists stay at one.
            list.reserve_exact(1);
        }
        list.insert(at, (version, item));
    }
}
