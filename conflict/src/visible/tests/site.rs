//! A site of the model: a last-writer merge of its own, an application that writes what it sees,
//! a harvest that tells what it meant, and a table that is kept as `settle` says.

use super::super::{Constraints, Life, Meant, Reference, RowId, Shown, Slot, Table, Unique};
use super::books::Books;
use super::schema::{Kind, Schema};
use super::{Random, version};
use crate::{Value, Version};
use std::collections::{BTreeMap, BTreeSet};

/// A value, and the row it refers to if its column is a reference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Meaning {
    value: Value,
    parent: Option<RowId>,
}

#[derive(Clone, Debug)]
enum Kindred {
    Insert(Vec<Meaning>),
    Set(usize, Meaning),
    Delete,
    /// A mark that a person accepted.
    Remember(usize, Value),
}

#[derive(Clone, Debug)]
struct Change {
    row: RowId,
    version: Version,
    kind: Kindred,
}

#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) origin: usize,
    pub(super) sequence: u64,
    /// What the origin had applied.
    pub(super) needs: Vec<u64>,
    changes: Vec<Change>,
}

impl Batch {
    /// Whether its turn has come at a site that has applied this.
    pub(super) fn is_next(&self, vector: &[u64]) -> bool {
        vector[self.origin] + 1 == self.sequence
            && self.needs.iter().zip(vector).all(|(needed, here)| needed <= here)
    }
}

/// The merged state of a row: greatest version wins, column by column.
#[derive(Clone, Debug, Default)]
struct State {
    inserts: BTreeSet<Version>,
    delete: Option<Version>,
    cells: BTreeMap<usize, (Version, Meaning)>,
    remembered: BTreeMap<usize, (Version, Value)>,
}

impl State {
    fn merge(&mut self, change: &Change) {
        let version = change.version;
        let mut set = |column: usize, meaning: &Meaning| {
            if self.cells.get(&column).is_none_or(|(known, _)| *known < version) {
                self.cells.insert(column, (version, meaning.clone()));
            }
        };
        match &change.kind {
            Kindred::Insert(cells) => {
                for (column, meaning) in cells.iter().enumerate() {
                    set(column, meaning);
                }
                self.inserts.insert(version);
            }
            Kindred::Set(column, meaning) => set(*column, meaning),
            Kindred::Delete => self.delete = self.delete.max(Some(version)),
            Kindred::Remember(column, mark) => {
                if self.remembered.get(column).is_none_or(|(known, _)| *known < version) {
                    self.remembered.insert(*column, (version, mark.clone()));
                }
            }
        }
    }

    fn stamps(&self) -> impl Iterator<Item = Version> {
        let cells = self.cells.values().map(|(version, _)| *version);
        self.inserts.iter().copied().chain(cells)
    }

    fn live(&self) -> bool {
        self.delete.is_none_or(|delete| self.stamps().any(|stamp| stamp > delete))
    }

    /// The greatest version of anything it holds.
    fn greatest(&self) -> Option<Version> {
        let remembered = self.remembered.values().map(|(version, _)| *version);
        self.stamps().chain(self.delete).chain(remembered).max()
    }

    fn meant(&self, schema: &Schema, id: &RowId) -> Meant {
        let above = self.inserts.iter().find(|insert| Some(**insert) > self.delete);
        let below = self.inserts.iter().rfind(|insert| Some(**insert) < self.delete);
        let rank = match self.delete {
            Some(delete) if !self.live() => delete,
            _ => *above.or(below).unwrap(),
        };
        let mut values = Vec::new();
        let mut references = Vec::new();
        for (column, definition) in schema.table(id.table).columns.iter().enumerate() {
            let meaning = &self.cells[&column].1;
            values.push(meaning.value.clone());
            if let (Kind::Reference { foreign_key, .. }, Some(parent)) =
                (&definition.kind, &meaning.parent)
            {
                let (foreign_key, parent) = (*foreign_key, parent.clone());
                references.push(Reference { foreign_key, parent });
            }
        }
        let kept = self.remembered.iter();
        let kept = kept.filter(|(column, (version, _))| *version > self.cells[column].0);
        let remembered = kept.map(|(column, (_, mark))| (*column, mark.clone())).collect();
        let life = if self.live() { Life::Live } else { Life::Dead };
        Meant { life, rank, values, references, remembered }
    }
}

/// A place in the application's tables: a row's identity without its birth.
fn place(id: &RowId) -> RowId {
    RowId { birth: None, ..id.clone() }
}

/// The application's tables.
pub(super) type Tables = BTreeMap<RowId, Vec<Value>>;

#[derive(Clone)]
pub(super) struct Site {
    pub(super) number: usize,
    clock: u64,
    states: BTreeMap<RowId, State>,
    pub(super) books: Books,
    pub(super) vector: Vec<u64>,
    pub(super) tables: Tables,
    /// Every mark ever shown.
    marks: BTreeSet<(RowId, usize, Vec<u8>)>,
    /// Forms that the application once read and may save again.
    stale: Vec<(RowId, Vec<Value>)>,
}

impl Site {
    pub(super) fn new(number: usize, sites: usize) -> Self {
        Self {
            number,
            clock: number as u64,
            states: BTreeMap::new(),
            books: Books::default(),
            vector: vec![0; sites],
            tables: Tables::new(),
            marks: BTreeSet::new(),
            stale: Vec::new(),
        }
    }

    /// Merges batches, settles, and writes what settle says.
    pub(super) fn take(&mut self, schema: &Schema, batches: &[Batch]) {
        let mut touched = BTreeSet::new();
        for batch in batches {
            assert!(batch.is_next(&self.vector));
            self.vector[batch.origin] = batch.sequence;
            touched.extend(self.merge(schema, &batch.changes));
        }
        self.settle(schema, &touched, &BTreeSet::new());
    }

    fn merge(&mut self, schema: &Schema, changes: &[Change]) -> BTreeSet<RowId> {
        for change in changes {
            let state = self.states.entry(change.row.clone()).or_default();
            state.merge(change);
            let meant = state.meant(schema, &change.row);
            self.books.rows.insert(change.row.clone(), meant);
        }
        changes.iter().map(|change| change.row.clone()).collect()
    }

    /// Deletes all that is touched, then inserts final forms: `own` are the rows that the
    /// application touched here.
    fn settle(&mut self, schema: &Schema, touched: &BTreeSet<RowId>, own: &BTreeSet<RowId>) {
        let settled = self.books.settle(schema, &(touched | own));
        for change in &settled {
            if change.before.is_visible() || own.contains(&change.row) {
                self.tables.remove(&place(&change.row));
            }
        }
        for change in settled {
            if let Shown::Visible { values, marks, .. } = change.after.shown {
                for mark in marks {
                    if let Value::Text(text) = mark.shown {
                        self.marks.insert((change.row.clone(), mark.column, text));
                    }
                }
                self.stale.push((place(&change.row), values.clone()));
                assert!(self.tables.insert(place(&change.row), values).is_none(), "two on a key");
            }
        }
        let visible: Tables =
            (self.visible()).map(|(id, values)| (place(id), values.clone())).collect();
        assert_eq!(self.tables, visible, "what settle gave to write isn't all that changed");
    }

    fn visible(&self) -> impl Iterator<Item = (&RowId, &Vec<Value>)> {
        self.books.outcomes.iter().filter_map(|(id, outcome)| match &outcome.shown {
            Shown::Visible { values, .. } => Some((id, values)),
            _ => None,
        })
    }

    /// One transaction of the application, harvested; `None` if SQLite would have refused it.
    pub(super) fn transact(&mut self, random: &mut Random, schema: &Schema) -> Option<Batch> {
        let mut tables = self.tables.clone();
        for _ in 0..1 + random.below(3) {
            self.edit(random, schema, &mut tables);
        }
        let orphans = random.chance(15);
        if tables == self.tables || !allowed(schema, &tables, orphans) {
            return None;
        }
        let (mut changes, own) = self.harvest(schema, &tables);
        if random.chance(15) {
            changes.extend(self.accept_mark(&own));
        }
        self.tables = tables;
        self.vector[self.number] += 1;
        let touched = self.merge(schema, &changes);
        self.settle(schema, &touched, &own);
        let (origin, sequence) = (self.number, self.vector[self.number]);
        let mut needs = self.vector.clone();
        needs[origin] -= 1;
        Some(Batch { origin, sequence, needs, changes })
    }

    /// A person accepts a mark of a row that this transaction left alone.
    fn accept_mark(&mut self, own: &BTreeSet<RowId>) -> Option<Change> {
        let mut outcomes = self.books.outcomes.iter();
        let found = outcomes.find_map(|(id, outcome)| match &outcome.shown {
            Shown::Visible { marks, .. } if !own.contains(id) => {
                marks.first().map(|mark| (id.clone(), mark.clone()))
            }
            _ => None,
        });
        let (row, mark) = found?;
        let version = self.stamp(&row);
        Some(Change { row, version, kind: Kindred::Remember(mark.column, mark.shown) })
    }

    fn edit(&self, random: &mut Random, schema: &Schema, tables: &mut Tables) {
        let places: Vec<RowId> = tables.keys().cloned().collect();
        if places.is_empty() || random.chance(35) {
            let table = Table(random.below(schema.tables.len()) as u32);
            let key = random.pick(&schema.keys(table)).clone();
            let columns = schema.table(table).columns.len();
            let mut values = vec![key.clone()];
            values.extend((1..columns).map(|column| value(random, schema, tables, table, column)));
            tables.entry(RowId { table, key: vec![key], birth: None }).or_insert(values);
            return;
        }
        let at = random.pick(&places).clone();
        let column = 1 + random.below(schema.table(at.table).columns.len() - 1);
        match random.below(10) {
            0..4 => {
                let value = value(random, schema, tables, at.table, column);
                tables.get_mut(&at).unwrap()[column] = value;
            }
            // A whole row saved from a form that was read long ago.
            4 if !self.stale.is_empty() => {
                let (at, mut values) = random.pick(&self.stale).clone();
                let column = 1 + random.below(values.len() - 1);
                values[column] = value(random, schema, tables, at.table, column);
                if let Some(row) = tables.get_mut(&at) {
                    *row = values;
                }
            }
            5 => {
                // Two rows swap a value.
                let other = random.pick(&places).clone();
                if other.table == at.table {
                    let (a, b) = (tables[&at][column].clone(), tables[&other][column].clone());
                    tables.get_mut(&at).unwrap()[column] = b;
                    tables.get_mut(&other).unwrap()[column] = a;
                }
            }
            6 => {
                // Another key.
                let key = random.pick(&schema.keys(at.table)).clone();
                let new = RowId { key: vec![key.clone()], ..at.clone() };
                if !tables.contains_key(&new) {
                    let mut values = tables.remove(&at).unwrap();
                    values[0] = key;
                    tables.insert(new, values);
                }
            }
            7 => {
                // With what refers to it.
                let mut gone = vec![at];
                while let Some(at) = gone.pop() {
                    let Some(values) = tables.remove(&at) else { continue };
                    let refers = |(place, row): (&RowId, &Vec<Value>)| {
                        let mut columns = schema.table(place.table).columns.iter().zip(row);
                        let hit = columns.any(|(column, value)| match column.kind {
                            Kind::Reference { table, .. } => {
                                table == at.table && *value == values[0]
                            }
                            _ => false,
                        });
                        hit.then(|| place.clone())
                    };
                    gone.extend(tables.iter().filter_map(refers));
                }
            }
            _ => drop(tables.remove(&at)),
        }
    }

    /// A stamp above everything that the row holds.
    fn stamp(&self, row: &RowId) -> Version {
        let held = self.states.get(row).and_then(State::greatest);
        let time = held.map_or(0, |version| version.timestamp.as_u64() + 1).max(self.clock);
        version(time, self.number)
    }

    /// What the application changed, and the rows it touched.
    fn harvest(&mut self, schema: &Schema, tables: &Tables) -> (Vec<Change>, BTreeSet<RowId>) {
        self.clock += 1 + self.number as u64 % 2;
        let mut owners: BTreeMap<RowId, RowId> =
            self.visible().map(|(id, _)| (place(id), id.clone())).collect();
        for at in tables.keys() {
            if !owners.contains_key(at) {
                owners.insert(at.clone(), self.identity(schema, at));
            }
        }
        let meaning = |table: Table, column: usize, value: &Value| Meaning {
            value: value.clone(),
            parent: match schema.table(table).columns[column].kind {
                Kind::Reference { table, .. } if *value != Value::Null => {
                    let at = RowId { table, key: vec![value.clone()], birth: None };
                    Some(owners.get(&at).cloned().unwrap_or(at))
                }
                _ => None,
            },
        };
        let mut changes = Vec::new();
        let mut own = BTreeSet::new();
        for (at, row) in &owners {
            let (before, after) = (self.tables.get(at), tables.get(at));
            if before == after {
                continue;
            }
            own.insert(row.clone());
            let mut change = |kind| {
                let version = self.stamp(row);
                changes.push(Change { row: row.clone(), version, kind });
            };
            let (before, after) = match (before, after) {
                (Some(before), Some(after)) => (before, after),
                (None, Some(after)) => {
                    let cells = after.iter().enumerate();
                    let cells = cells.map(|(column, value)| meaning(at.table, column, value));
                    change(Kindred::Insert(cells.collect()));
                    continue;
                }
                _ => {
                    change(Kindred::Delete);
                    continue;
                }
            };
            let touched = (0..after.len()).filter(|column| {
                let shown_once = matches!(&after[*column], Value::Text(text)
                    if self.marks.contains(&(row.clone(), *column, text.clone())));
                before[*column] != after[*column] && !shown_once
            });
            let touched: Vec<usize> = touched.collect();
            let state = &self.states[row];
            if state.live() {
                for column in touched {
                    change(Kindred::Set(column, meaning(at.table, column, &after[column])));
                }
            } else if !touched.is_empty() {
                let cells = (0..after.len()).map(|column| match touched.contains(&column) {
                    true => meaning(at.table, column, &after[column]),
                    false => state.cells[&column].1.clone(),
                });
                change(Kindred::Insert(cells.collect()));
            }
        }
        (changes, own)
    }

    /// The row that an insert under a key continues or begins.
    fn identity(&self, schema: &Schema, at: &RowId) -> RowId {
        if !schema.table(at.table).collide {
            return at.clone();
        }
        let tombstones = self.states.iter().filter(|(id, state)| place(id) == *at && !state.live());
        match tombstones.max_by_key(|(_, state)| state.delete) {
            Some((id, _)) => id.clone(),
            None => RowId { birth: Some(version(self.clock, self.number)), ..at.clone() },
        }
    }

    /// A site that joins with everything this one has.
    pub(super) fn snapshot(&self, number: usize) -> Self {
        Self { number, clock: self.clock + number as u64, ..self.clone() }
    }
}

/// A value as an application would write it; now and then one that it sees elsewhere.
fn value(
    random: &mut Random,
    schema: &Schema,
    tables: &Tables,
    table: Table,
    column: usize,
) -> Value {
    let definition = &schema.table(table).columns[column];
    let Kind::Reference { table: parent, .. } = definition.kind else {
        let seen: Vec<&Vec<Value>> =
            tables.iter().filter(|(at, _)| at.table == table).map(|(_, row)| row).collect();
        return match random.chance(15) && !seen.is_empty() {
            true => random.pick(&seen)[column].clone(),
            false => schema.random_value(random, table, column),
        };
    };
    let parents: Vec<&RowId> = tables.keys().filter(|at| at.table == parent).collect();
    match parents.is_empty() || definition.nullable && random.chance(25) {
        true => Value::Null,
        false => random.pick(&parents).key[0].clone(),
    }
}

/// Whether SQLite would commit this, with foreign keys on unless `orphans`.
fn allowed(schema: &Schema, tables: &Tables, orphans: bool) -> bool {
    let mut taken = BTreeSet::new();
    tables.iter().all(|(at, values)| {
        let Ok(accepted) = schema.accepts(at.table, values);
        let Ok(key) = schema.key_claim(at);
        let mut free = taken.insert(Slot { unique: Unique::Key(at.table), claim: key });
        let Ok(indexes) = schema.indexes(at.table);
        for index in indexes {
            let Ok(claim) = schema.claim(index, values);
            let slot = claim.map(|claim| Slot { unique: Unique::Index(index), claim });
            free &= slot.is_none_or(|slot| taken.insert(slot));
        }
        let columns = schema.table(at.table).columns.iter().zip(values);
        let parents = columns.into_iter().all(|(column, value)| match column.kind {
            Kind::Reference { table, .. } => {
                let parent = RowId { table, key: vec![value.clone()], birth: None };
                *value == Value::Null || tables.contains_key(&parent)
            }
            _ => true,
        });
        accepted && free && (parents || orphans)
    })
}
