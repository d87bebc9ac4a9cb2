//! What all applications of one shared database did, row by row, and what must be left of it once
//! every site has everything. It knows the rules of merging as a shop's programmer would tell
//! them, not how they are carried out: nothing of it is shared with the node.
//!
//! A row is known by its table and a token that was written into it when it began; so it does not
//! matter under which number it ends, or with which mark. Times are the world's. When a node stamps
//! what its application did is known only roughly, hence spans: what can't be decided by them is
//! not judged.

use rusqlite::types::ValueRef;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How far a stamp may lie before the moment of the commit: clocks are some seconds wrong, and one
/// batch may hold the commits of some moments.
const BEFORE: Duration = Duration::from_secs(20);
/// How far behind it, while the node runs.
const AFTER: Duration = Duration::from_secs(80);
/// After which a node that has started has harvested what it found.
const AWAKE: Duration = Duration::from_secs(180);

/// A value, or for a reference the token of the row that is referred to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// NULL.
    Null,
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl Cell {
    /// A value as SQLite has it.
    pub fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Number(number),
            ValueRef::Real(number) => Self::Text(format!("real {:x}", number.to_bits())),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::Text(format!("text {text:?}")),
            },
            ValueRef::Blob(bytes) => Self::Text(format!("blob {bytes:?}")),
        }
    }
}

/// How a column behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The last who wrote it is right.
    Plain,
    /// The same, and where two rows claim one value, one of them is marked.
    Unique,
    /// It refers to another row.
    Reference,
    /// What each site adds counts.
    Counter,
    /// As plain, of values that are met again and again.
    Odd,
}

/// A table as the ledger knows it.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// What gives the token and then the columns of each row, references as tokens.
    pub select: &'static str,
    /// Whether the key is the token, its columns joined by a stroke; else a column of that name.
    pub by_key: bool,
    /// The columns.
    pub columns: &'static [(&'static str, Kind)],
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowName {
    /// The name of its table.
    pub table: &'static str,
    /// Its token.
    pub token: String,
}

/// What was done to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was inserted, with these columns.
    Begun(Vec<(&'static str, Cell)>),
    /// It was deleted.
    Ended,
    /// A column was given a value that it had not.
    Set(&'static str, Cell),
    /// Something was added to a counter.
    Added(&'static str, i64),
}

/// Something that an application did in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// To which row.
    pub row: RowName,
    /// What.
    pub what: What,
}

/// Who did something, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) site: usize,
    pub(super) at: Duration,
    /// Counts up.
    pub(super) order: u64,
}

/// What became of a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    pub(super) births: Vec<Moment>,
    pub(super) ends: Vec<Moment>,
    pub(super) sets: BTreeMap<&'static str, Vec<(Moment, Cell)>>,
    /// By column.
    pub(super) added: BTreeMap<&'static str, Vec<(Moment, i64)>>,
}

/// All rows of a database, by name.
pub type Rows = BTreeMap<RowName, BTreeMap<&'static str, Cell>>;

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    pub(super) tables: &'static [Known],
    pub(super) stories: BTreeMap<RowName, Story>,
    /// By site, when its node did not run, or the database was not under sync.
    outages: BTreeMap<usize, Vec<(Duration, Option<Duration>)>>,
    deeds: u64,
    /// A clock was wrong at some time: stamps are near no time of the world's.
    timeless: bool,
    /// The last deed before all rules were set: what was added until then may be told otherwise.
    pub(super) ruled: u64,
}

impl Ledger {
    /// An empty one of these tables.
    pub fn new(tables: &'static [Known]) -> Self {
        Self {
            tables,
            stories: BTreeMap::new(),
            outages: BTreeMap::new(),
            deeds: 0,
            timeless: false,
            ruled: 0,
        }
    }

    /// A transaction was committed.
    pub fn write(&mut self, site: usize, at: Duration, deeds: Vec<Deed>) {
        for Deed { row, what } in deeds {
            self.deeds += 1;
            let moment = Moment { site, at, order: self.deeds };
            let story = self.stories.entry(row).or_default();
            match what {
                What::Begun(columns) => {
                    story.births.push(moment);
                    for (column, cell) in columns {
                        story.sets.entry(column).or_default().push((moment, cell));
                    }
                }
                What::Ended => story.ends.push(moment),
                What::Set(column, cell) => {
                    story.sets.entry(column).or_default().push((moment, cell));
                }
                What::Added(column, amount) => {
                    story.added.entry(column).or_default().push((moment, amount));
                }
            }
        }
    }

    /// From now on a site's node harvests nothing.
    pub fn node_ends(&mut self, site: usize, at: Duration) {
        let outages = self.outages.entry(site).or_default();
        if outages.last().is_none_or(|(_, until)| until.is_some()) {
            outages.push((at, None));
        }
    }

    /// It does again.
    pub fn node_begins(&mut self, site: usize, at: Duration) {
        if let Some((_, until @ None)) = self.outages.entry(site).or_default().last_mut() {
            *until = Some(at);
        }
    }

    /// All rules are set.
    pub fn rules_are_set(&mut self) {
        self.ruled = self.deeds;
    }

    /// A clock is wrong: from now on nothing is judged by when it was.
    pub fn clock_is_wrong(&mut self) {
        self.timeless = true;
    }

    /// How many rows there ever were, and how much was done to them.
    pub fn extent(&self) -> (usize, u64) {
        (self.stories.len(), self.deeds)
    }

    /// Between when and when the node stamped what was done then.
    fn span(&self, moment: Moment) -> (Duration, Duration) {
        if self.timeless {
            return (Duration::ZERO, Duration::MAX);
        }
        let (mut from, mut until) = (moment.at.saturating_sub(BEFORE), moment.at + AFTER);
        for (ended, began) in self.outages.get(&moment.site).into_iter().flatten() {
            let over = began.map_or(Duration::MAX, |began| began + AWAKE);
            if *ended <= until && moment.at <= over {
                from = from.min(ended.saturating_sub(BEFORE));
                until = until.max(over);
            }
        }
        (from, until)
    }

    /// What is not as it must be in a database that has everything. `parked` are rows that
    /// constraints hold back.
    pub fn judge(&self, rows: &Rows, parked: &BTreeSet<RowName>) -> Vec<String> {
        let mut wrong = Vec::new();
        let referred: BTreeSet<RowName> = self.referred(rows);
        for row in rows.keys().filter(|row| !self.stories.contains_key(*row)) {
            wrong.push(format!("{row} was never inserted by anybody"));
        }
        for (row, story) in &self.stories {
            let there = rows.get(row);
            match (self.fate(story), there) {
                (Fate::Lives, None) if parked.contains(row) => {}
                (Fate::Lives, None) => wrong.push(format!("{row} is lost: {}", self.tell(story))),
                (Fate::Dead, Some(_)) if !referred.contains(row) => {
                    wrong.push(format!("{row} was deleted and is there: {}", self.tell(story)));
                }
                _ => {}
            }
            if let Some(cells) = there {
                self.judge_row(row, story, cells, &mut wrong);
            }
        }
        wrong
    }

    /// Who is referred to.
    fn referred(&self, rows: &Rows) -> BTreeSet<RowName> {
        let mut referred = BTreeSet::new();
        for (row, cells) in rows {
            for (column, kind) in self.columns(row.table) {
                if let (Kind::Reference, Some(Cell::Text(token))) = (kind, cells.get(column)) {
                    // Tokens of one table are none of another.
                    for table in self.tables {
                        referred.insert(RowName { table: table.name, token: token.clone() });
                    }
                }
            }
        }
        referred
    }

    pub(super) fn columns(&self, table: &str) -> &'static [(&'static str, Kind)] {
        let known = self.tables.iter().find(|known| known.name == table);
        known.map_or(&[], |known| known.columns)
    }

    fn fate(&self, story: &Story) -> Fate {
        if story.ends.is_empty() {
            return Fate::Lives;
        }
        let spans = |moment: &Moment| self.span(*moment);
        let ends: Vec<_> = story.ends.iter().map(spans).collect();
        let sets = story.sets.values().flatten().map(|(moment, _)| moment);
        let lives: Vec<_> = story.births.iter().chain(sets).map(spans).collect();
        let last_end =
            (ends.iter().map(|(from, _)| from).max(), ends.iter().map(|(_, to)| to).max());
        let above = lives.iter().any(|(from, _)| last_end.1.is_some_and(|end| from > end));
        let below = lives.iter().all(|(_, to)| last_end.0.is_some_and(|end| to < end));
        match (above, below) {
            (true, _) => Fate::Lives,
            (_, true) => Fate::Dead,
            // Its own site's order is sure, whatever the clocks say.
            _ if self.one_site_saw_all(story) => {
                let end = story.ends.iter().map(|moment| moment.at).max();
                let sets = story.sets.values().flatten().map(|(moment, _)| moment.at);
                match sets.max() <= end {
                    true => Fate::Dead,
                    false => Fate::Lives,
                }
            }
            _ => Fate::Unknown,
        }
    }

    fn one_site_saw_all(&self, story: &Story) -> bool {
        let sets = story.sets.values().flatten().map(|(moment, _)| moment.site);
        let ends = story.ends.iter().map(|moment| moment.site);
        sets.chain(ends).collect::<BTreeSet<_>>().len() == 1
    }

    fn judge_row(
        &self,
        row: &RowName,
        story: &Story,
        cells: &BTreeMap<&'static str, Cell>,
        wrong: &mut Vec<String>,
    ) {
        for (column, kind) in self.columns(row.table) {
            let Some(cell) = cells.get(column) else { continue };
            let none = Vec::new();
            let sets = story.sets.get(column).unwrap_or(&none);
            let mut may: Vec<&Cell> = match kind {
                Kind::Counter => {
                    self.judge_counter(row, story, (*column, cell), wrong);
                    continue;
                }
                _ => self.last(sets),
            };
            // A row that ended may have begun again as somebody saw it; and a reference may be set
            // back before anybody saw that it had been another.
            let vague = !story.ends.is_empty() || story.births.len() > 1;
            if vague || *kind == Kind::Reference {
                may = sets.iter().map(|(_, cell)| cell).collect();
            }
            let fits = |meant: &&Cell| match (kind, *meant, cell) {
                (Kind::Unique, Cell::Text(meant), Cell::Text(shown)) => {
                    let rest = shown.strip_prefix(meant.as_str());
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('~'))
                }
                _ => *meant == cell,
            };
            if !may.iter().any(fits) {
                wrong.push(format!(
                    "{row}.{column} is {cell:?}, and should be {}: {}",
                    may.iter().map(|cell| format!("{cell:?}")).collect::<Vec<_>>().join(" or "),
                    self.tell_sets(sets),
                ));
            }
        }
    }

    /// What was begun with and what all added: where nobody began it anew.
    fn judge_counter(
        &self,
        row: &RowName,
        story: &Story,
        (column, cell): (&'static str, &Cell),
        wrong: &mut Vec<String>,
    ) {
        let sets = story.sets.get(column).map_or(&[][..], Vec::as_slice);
        let ([(_, Cell::Number(begun))], Cell::Number(count)) = (sets, cell) else { return };
        let added = story.added.get(column).into_iter().flatten();
        let added: i64 = added.map(|(_, amount)| amount).sum();
        if story.ends.is_empty() && *count != begun + added {
            wrong.push(format!(
                "{row}.{column} is {count}, and began with {begun}, to which {added} was added"
            ));
        }
    }

    /// The values that may be the last one.
    fn last<'a>(&self, sets: &'a [(Moment, Cell)]) -> Vec<&'a Cell> {
        let may = |at: usize, (moment, _): &(Moment, Cell)| {
            let (_, until) = self.span(*moment);
            sets.iter().enumerate().all(|(other, (rival, _))| {
                // One site's own order is sure.
                match rival.site == moment.site {
                    true => other <= at,
                    false => self.span(*rival).0 <= until,
                }
            })
        };
        let last = sets.iter().enumerate().filter(|(at, set)| may(*at, set));
        last.map(|(_, (_, cell))| cell).collect()
    }

    fn tell(&self, story: &Story) -> String {
        let tell = |moments: &[Moment]| {
            let told = moments.iter().map(|m| format!("site {} at {:?}", m.site, m.at));
            told.collect::<Vec<_>>().join(", ")
        };
        let sets =
            story.sets.iter().map(|(column, sets)| format!("{column}: {}", self.tell_sets(sets)));
        format!(
            "inserted by {}; deleted by {}; set: {}",
            tell(&story.births),
            tell(&story.ends),
            sets.collect::<Vec<_>>().join("; ")
        )
    }

    fn tell_sets(&self, sets: &[(Moment, Cell)]) -> String {
        let tell = |(moment, cell): &(Moment, Cell)| {
            let (from, until) = self.span(*moment);
            format!(
                "{cell:?} by site {} at {:?} ({:.0} to {:.0} s)",
                moment.site,
                moment.at,
                from.as_secs_f64(),
                until.as_secs_f64()
            )
        };
        sets.iter().map(tell).collect::<Vec<_>>().join(", ")
    }
}

/// What must be of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lives,
    /// It may be there only for those that refer to it.
    Dead,
    Unknown,
}

impl std::fmt::Display for RowName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.table, self.token)
    }
}

/// Reads all rows of a database; two of one token are an error in words.
///
/// # Errors
/// SQLite's outside.
pub fn read(
    connection: &rusqlite::Connection,
    tables: &'static [Known],
) -> rusqlite::Result<Result<Rows, String>> {
    let mut all = Rows::new();
    for table in tables {
        let mut select = connection.prepare(table.select)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let name = RowName { table: table.name, token: row.get(0)? };
            let mut cells = BTreeMap::new();
            for (place, (column, _)) in table.columns.iter().enumerate() {
                cells.insert(*column, Cell::of(row.get_ref(place + 1)?));
            }
            if all.insert(name.clone(), cells).is_some() {
                return Ok(Err(format!("{name} is there twice")));
            }
        }
    }
    Ok(Ok(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &[Known] = &[Known {
        name: "customer",
        select: "",
        by_key: false,
        columns: &[("name", Kind::Plain), ("number", Kind::Unique), ("n", Kind::Counter)],
    }];

    fn row() -> RowName {
        RowName { table: "customer", token: "a-1".into() }
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.into())
    }

    fn begun() -> Ledger {
        let mut ledger = Ledger::new(TABLES);
        let columns = vec![("name", text("Ann")), ("number", text("7")), ("n", Cell::Number(5))];
        let begun = Deed { row: row(), what: What::Begun(columns) };
        ledger.write(0, Duration::from_secs(1000), vec![begun]);
        ledger
    }

    fn rows(name: &str, number: &str, n: i64) -> Rows {
        let cells = [("name", text(name)), ("number", text(number)), ("n", Cell::Number(n))];
        [(row(), cells.into_iter().collect())].into_iter().collect()
    }

    fn did(ledger: &mut Ledger, site: usize, at: u64, what: What) {
        ledger.write(site, Duration::from_secs(at), vec![Deed { row: row(), what }]);
    }

    #[test]
    fn a_row_that_is_missing_or_invented_is_noticed() {
        let mut ledger = begun();
        assert_eq!(ledger.judge(&rows("Ann", "7~uptown~6", 5), &BTreeSet::new()), [""; 0]);
        assert_eq!(ledger.judge(&Rows::new(), &BTreeSet::new()).len(), 1);
        assert_eq!(Ledger::new(TABLES).judge(&rows("Ann", "7", 5), &BTreeSet::new()).len(), 1);
        did(&mut ledger, 1, 2000, What::Ended);
        assert_eq!(ledger.judge(&Rows::new(), &BTreeSet::new()), [""; 0]);
        assert_eq!(ledger.judge(&rows("Ann", "7", 5), &BTreeSet::new()).len(), 1);
        did(&mut ledger, 0, 3000, What::Set("name", text("Anna")));
        assert_eq!(ledger.judge(&Rows::new(), &BTreeSet::new()).len(), 1);
    }

    #[test]
    fn the_last_edit_wins_where_it_is_known_which_that_is() {
        let mut ledger = begun();
        did(&mut ledger, 0, 2000, What::Set("name", text("Anna")));
        did(&mut ledger, 1, 3000, What::Set("name", text("Anne")));
        assert_eq!(ledger.judge(&rows("Anna", "7", 5), &BTreeSet::new()).len(), 1);
        assert_eq!(ledger.judge(&rows("Anne", "7", 5), &BTreeSet::new()), [""; 0]);
        // What a node was not there for may be stamped when it was again.
        ledger.node_ends(0, Duration::from_secs(1900));
        ledger.node_begins(0, Duration::from_secs(2900));
        assert_eq!(ledger.judge(&rows("Anna", "7", 5), &BTreeSet::new()), [""; 0]);
        assert_eq!(ledger.judge(&rows("Ann", "7", 5), &BTreeSet::new()).len(), 1);
    }

    #[test]
    fn every_site_s_count_counts() {
        let mut ledger = begun();
        did(&mut ledger, 0, 2000, What::Added("n", -1));
        did(&mut ledger, 1, 2000, What::Added("n", -2));
        assert_eq!(ledger.judge(&rows("Ann", "7", 2), &BTreeSet::new()), [""; 0]);
        assert_eq!(ledger.judge(&rows("Ann", "7", 3), &BTreeSet::new()).len(), 1);
    }
}
