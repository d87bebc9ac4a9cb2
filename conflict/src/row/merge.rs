//! Merging one change into a row's state, and telling what lost by it.

use super::cell::{Cell, Winner};
use super::sum::Sum;
use super::{Assignment, Change, Column, Loser, Lost, Reason, RowState};
use crate::{Rule, Value, Version};

/// What a row showed before a change.
struct Before {
    live: bool,
    deleted: Option<Version>,
    /// The inserts that it stood on, if the change is a delete.
    births: Vec<Version>,
    /// The winning sets, where there are sets, of the columns that the change may touch, if the
    /// row was live.
    winners: Vec<(Column, Option<(Version, Value)>)>,
}

impl RowState {
    /// Merges a change that its origin stamped with `version`, and tells what lost by it, on
    /// whichever side: one report for each set, add, insert and delete that counted before and
    /// does no more, or that never came to count. A set that lost to an equal value is none.
    ///
    /// A change that was merged before changes nothing; some of its losses may be told again.
    pub fn merge(&mut self, version: Version, change: &Change) -> Vec<Lost> {
        let mut report = Report { version, lost: Vec::new() };
        if let Some(bound) = self.compacted.filter(|bound| version <= *bound) {
            report.incoming(change, bound, Reason::Repeated, Reason::Repeated);
            if *change == Change::Delete {
                report.push(Loser::Delete, version, bound, Reason::Repeated);
            }
            return report.lost;
        }
        let before = self.before(change);
        self.absorb(version, change);
        match (self.is_live(), self.deleted) {
            (false, Some(deleted)) if before.live => {
                self.report_death(&before, deleted, &mut report)
            }
            (false, Some(deleted)) => {
                report.incoming(change, deleted, Reason::Deleted, Reason::AddToDeleted);
            }
            (true, _) | (false, None) => self.report_living(&before, change, &mut report),
        }
        report.lost
    }

    fn absorb(&mut self, version: Version, change: &Change) {
        match change {
            Change::Insert(columns) => {
                for (column, value, rule) in columns {
                    self.cells.entry(*column).or_default().set(version, value.clone(), *rule);
                }
                self.inserts.insert(version);
                self.delete(None);
            }
            Change::Update(columns) => {
                for (column, assignment) in columns {
                    let cell = self.cells.entry(*column).or_default();
                    match assignment {
                        Assignment::Set(value, rule) => cell.set(version, value.clone(), *rule),
                        Assignment::Add(amount) => cell.add(version, amount.clone()),
                    }
                }
            }
            Change::Delete => self.delete(Some(version)),
        }
    }

    fn before(&self, change: &Change) -> Before {
        let live = self.is_live();
        let birth = self.birth();
        let winner = |(column, cell): (&Column, &Cell)| {
            let winner = cell.winner(birth);
            (*column, winner.map(|winner| (winner.version, winner.value().clone())))
        };
        let winners = match change {
            _ if !live => Vec::new(),
            Change::Update(columns) => {
                let cells =
                    columns.iter().filter_map(|(column, _)| self.cells.get_key_value(column));
                cells.map(winner).collect()
            }
            // These may change where the row begins, and with it what any column shows.
            Change::Insert(_) | Change::Delete => self.cells.iter().map(winner).collect(),
        };
        let births = match (change, self.rank()) {
            (Change::Delete, Some(rank)) if live => self.inserts.range(rank..).copied().collect(),
            _ => Vec::new(),
        };
        Before { live, deleted: self.deleted, births, winners }
    }

    /// The row was live and is dead: all that it showed lost.
    fn report_death(&self, before: &Before, deleted: Version, report: &mut Report) {
        for birth in &before.births {
            report.push(Loser::Insert, *birth, deleted, Reason::Deleted);
        }
        for (column, winner) in &before.winners {
            if let Some((version, value)) = winner {
                let loser = Loser::Set(*column, value.clone());
                report.push(loser, *version, deleted, Reason::Deleted);
            }
            let version = winner.as_ref().map(|(version, _)| *version);
            let adds = self.cells.get(column).into_iter().flat_map(|cell| cell.adds_above(version));
            for (version, amount) in adds {
                let loser = Loser::Add(*column, amount.clone());
                report.push(loser, *version, deleted, Reason::Deleted);
            }
        }
    }

    /// The row is live: columns have new winners, and what was merged may not be among them.
    fn report_living(&self, before: &Before, change: &Change, report: &mut Report) {
        let last_write = self.last_write().unwrap_or(report.version);
        match before.deleted {
            Some(deleted) if !before.live => {
                report.push(Loser::Delete, deleted, last_write, Reason::Revived);
            }
            _ if *change == Change::Delete && before.deleted < self.deleted => {
                report.push(Loser::Delete, report.version, last_write, Reason::Revived);
            }
            _ => {}
        }
        for (column, winner) in &before.winners {
            self.report_replaced(*column, winner.as_ref(), report);
        }
        match change {
            Change::Insert(columns) => {
                for (column, value, rule) in columns {
                    self.report_set(*column, value, *rule, report);
                }
            }
            Change::Update(columns) => {
                for (column, assignment) in columns {
                    match assignment {
                        Assignment::Set(value, rule) => {
                            self.report_set(*column, value, *rule, report);
                        }
                        Assignment::Add(amount) => self.report_add(*column, amount, report),
                    }
                }
            }
            Change::Delete => {}
        }
    }

    /// A set that was shown and is no more, with the adds that counted on it alone.
    fn report_replaced(&self, column: Column, old: Option<&(Version, Value)>, report: &mut Report) {
        let old_version = old.map(|(version, _)| *version);
        let Some((cell, winner)) = self.shown(column) else { return };
        if old_version == Some(winner.version) {
            return;
        }
        if let Some((version, value)) = old.filter(|(_, value)| winner.value() != value) {
            let reason = match winner.set.map(|set| set.rule) {
                _ if winner.version > *version => Reason::Superseded,
                Some(Rule::SitePriority) => Reason::PrioritySite,
                _ => Reason::EarlierWriter,
            };
            report.push(Loser::Set(column, value.clone()), *version, winner.version, reason);
        }
        for (add, amount) in cell.adds_above(old_version) {
            if *add < winner.version && *add != report.version {
                let loser = Loser::Add(column, amount.clone());
                report.push(loser, *add, winner.version, Reason::Superseded);
            }
        }
    }

    /// A set that was merged, and may not be what the column shows.
    fn report_set(&self, column: Column, value: &Value, rule: Rule, report: &mut Report) {
        let Some((_, winner)) = self.shown(column) else { return };
        let version = report.version;
        if winner.version == version || winner.value() == value {
            return;
        }
        let reason = match winner.set.map(|set| set.rule) {
            Some(Rule::SitePriority) if rule != Rule::SitePriority => Reason::PrioritySite,
            _ if winner.version < version => Reason::EarlierWriter,
            _ => Reason::LaterWriter,
        };
        report.push(Loser::Set(column, value.clone()), version, winner.version, reason);
    }

    /// An add that was merged, and may not count.
    fn report_add(&self, column: Column, amount: &Value, report: &mut Report) {
        let Some((_, winner)) = self.shown(column) else { return };
        let reason = if report.version < winner.version {
            Reason::LaterWriter
        } else if Sum::base(winner.value()).is_none() {
            Reason::NotANumber
        } else {
            return;
        };
        report.push(Loser::Add(column, amount.clone()), report.version, winner.version, reason);
    }

    fn shown(&self, column: Column) -> Option<(&Cell, Winner<'_>)> {
        let cell = self.cells.get(&column)?;
        Some((cell, cell.winner(self.birth())?))
    }
}

/// The losses by the change of one version.
struct Report {
    version: Version,
    lost: Vec<Lost>,
}

impl Report {
    fn push(&mut self, loser: Loser, version: Version, winner: Version, reason: Reason) {
        self.lost.push(Lost { loser, version, winner, reason });
    }

    /// All that was merged lost, apart from a delete.
    fn incoming(&mut self, change: &Change, winner: Version, sets: Reason, adds: Reason) {
        let version = self.version;
        match change {
            Change::Insert(columns) => {
                self.push(Loser::Insert, version, winner, sets);
                for (column, value, _) in columns {
                    self.push(Loser::Set(*column, value.clone()), version, winner, sets);
                }
            }
            Change::Update(columns) => {
                for (column, assignment) in columns {
                    match assignment {
                        Assignment::Set(value, _) => {
                            self.push(Loser::Set(*column, value.clone()), version, winner, sets);
                        }
                        Assignment::Add(amount) => {
                            self.push(Loser::Add(*column, amount.clone()), version, winner, adds);
                        }
                    }
                }
            }
            Change::Delete => {}
        }
    }
}
