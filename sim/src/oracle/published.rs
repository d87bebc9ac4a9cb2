//! What sites published against what their applications did: every deed is published, or was undone
//! by a later one of the same application before anybody looked; and nothing is published that no
//! application did. References are left out: the node leads them to rows that it numbers anew.

use super::fold::{Id, Part, Said, Stamp, Told, What};
use super::ledger::{Cell, Kind, Known, Ledger, RowName, Story};
use conflict::{SiteId, Value};
use rusqlite::types::ValueRef;
use std::collections::{BTreeMap, BTreeSet};

/// What one site published of one row.
#[derive(Clone, Debug, Default)]
struct Voice {
    /// By column: when, what, and whether the row began with it.
    sets: BTreeMap<String, Vec<(Stamp, Cell, bool)>>,
    deletes: Vec<Stamp>,
    added: BTreeMap<String, Vec<(Stamp, i64)>>,
}

/// See the module.
#[derive(Debug)]
pub struct Published {
    /// The rows' names.
    names: BTreeMap<Id, RowName>,
    /// How many identities a name has had.
    identities: BTreeMap<RowName, usize>,
    voices: BTreeMap<(RowName, usize), Voice>,
    nameless: BTreeSet<Id>,
}

impl Published {
    /// Sorts what was said by rows and sites; `site` gives the place of a site.
    pub fn new(
        said: &[Said],
        tables: &'static [Known],
        site: impl Fn(SiteId) -> Option<usize>,
    ) -> Self {
        let mut names = BTreeMap::new();
        for said in said {
            if let Some(name) = name(said, tables) {
                names.insert(said.row.clone(), name);
            }
        }
        let mut identities = BTreeMap::new();
        for name in names.values() {
            *identities.entry(name.clone()).or_default() += 1;
        }
        let (mut voices, mut nameless) = (BTreeMap::<_, Voice>::new(), BTreeSet::new());
        let mut in_order: Vec<&Said> = said.iter().collect();
        in_order.sort_by_key(|said| said.stamp);
        for said in in_order {
            let (Some(name), Some(site)) = (names.get(&said.row), site(said.stamp.site)) else {
                nameless.insert(said.row.clone());
                continue;
            };
            voices.entry((name.clone(), site)).or_default().take(said);
        }
        Self { names, identities, voices, nameless }
    }

    /// The name of a row.
    pub fn name(&self, row: &Id) -> Option<&RowName> {
        self.names.get(row)
    }

    /// What does not go together with what applications did.
    pub fn judge(&self, ledger: &Ledger) -> Vec<String> {
        let nameless = self.nameless.iter();
        let mut wrong: Vec<String> =
            nameless.map(|row| format!("{row:?} was published and never inserted")).collect();
        for (name, site) in self.voices.keys() {
            if !ledger.stories.contains_key(name) {
                wrong.push(format!("site {site} published {name}, which nobody made"));
            }
        }
        let silent = Voice::default();
        for (name, story) in &ledger.stories {
            for site in sites(story) {
                let voice = self.voices.get(&(name.clone(), site)).unwrap_or(&silent);
                let judged = Judged { name, story, site, voice };
                judged.look(ledger, &mut wrong);
            }
            let others = self.voices.range((name.clone(), 0)..=(name.clone(), usize::MAX));
            for ((_, site), voice) in others {
                let renumbered = self.identities.get(name).is_some_and(|count| *count > 1);
                Judged { name, story, site: *site, voice }.invented(ledger, renumbered, &mut wrong);
            }
        }
        wrong
    }
}

impl Voice {
    fn take(&mut self, said: &Said) {
        let (columns, begins) = match &said.what {
            What::Delete => return self.deletes.push(said.stamp),
            What::Insert(columns) => (columns, true),
            What::Update(columns) => (columns, false),
        };
        for (column, told) in columns {
            match told {
                Told::Set(value, _) => {
                    let sets = self.sets.entry(column.clone()).or_default();
                    sets.push((said.stamp, cell(value), begins));
                }
                Told::Added(Value::Integer(amount)) => {
                    self.added.entry(column.clone()).or_default().push((said.stamp, *amount));
                }
                Told::Added(_) => {}
            }
        }
    }

    fn says(&self, column: &str, cell: &Cell) -> bool {
        self.sets.get(column).is_some_and(|sets| sets.iter().any(|(_, said, _)| said == cell))
    }
}

/// What one application did to a row, and what its site published of it.
struct Judged<'a> {
    name: &'a RowName,
    story: &'a Story,
    site: usize,
    voice: &'a Voice,
}

impl Judged<'_> {
    /// A: whatever it did last is published.
    fn look(&self, ledger: &Ledger, wrong: &mut Vec<String>) {
        let Self { name, story, site, voice } = *self;
        let end = story.ends.iter().filter(|end| end.site == site).map(|end| end.order).max();
        let own_birth = story.births.iter().any(|birth| birth.site == site);
        let mut last = None;
        for (column, kind) in ledger.columns(name.table) {
            let mut sets = story.sets.get(column).into_iter().flatten();
            let Some((moment, cell)) = sets.rfind(|(set, _)| set.site == site) else {
                continue;
            };
            last = last.max(Some(moment.order));
            let judged = matches!(kind, Kind::Plain | Kind::Unique);
            if judged && Some(moment.order) > end && !voice.says(column, cell) {
                wrong.push(format!(
                    "site {site} set {name}.{column} to {cell:?} and never published it"
                ));
            }
        }
        if end > last && voice.deletes.is_empty() && !own_birth {
            wrong.push(format!("site {site} deleted {name} and never published it"));
        }
        self.count(ledger, wrong);
    }

    /// C: what it added to a counter is published once, where one insert began that.
    fn count(&self, ledger: &Ledger, wrong: &mut Vec<String>) {
        let Self { name, story, site, voice } = *self;
        let ([birth], []) = (&story.births[..], &story.ends[..]) else { return };
        for (column, kind) in ledger.columns(name.table) {
            if *kind != Kind::Counter {
                continue;
            }
            let own = story.added.get(column).into_iter().flatten();
            let own: Vec<_> = own.filter(|(moment, _)| moment.site == site).collect();
            if own.iter().any(|(moment, _)| moment.order <= ledger.ruled) {
                continue;
            }
            let told = voice.added.get(*column).map_or(&[][..], Vec::as_slice);
            let done: i64 = own.iter().map(|(_, amount)| amount).sum();
            let mut published: i64 = told.iter().map(|(_, amount)| amount).sum();
            if birth.site == site
                && let Some([(_, Cell::Number(as_published), _)]) =
                    voice.sets.get(*column).map(Vec::as_slice)
                && let Some([(_, Cell::Number(begun))]) = story.sets.get(column).map(Vec::as_slice)
            {
                published += as_published - begun;
            }
            if done != published {
                let own = own.iter().map(|(m, amount)| format!("{amount} at {:?}", m.at));
                let told = told.iter().map(|(stamp, amount)| format!("{amount} at {stamp}"));
                wrong.push(format!(
                    "site {site} added {done} to {name}.{column} and published {published}:\n  {}\n  {}",
                    own.collect::<Vec<_>>().join(", "),
                    told.collect::<Vec<_>>().join(", ")
                ));
            }
        }
    }

    /// D, F47: nothing is published that it did not do.
    fn invented(&self, ledger: &Ledger, renumbered: bool, wrong: &mut Vec<String>) {
        let Self { name, story, site, voice } = *self;
        for (column, kind) in ledger.columns(name.table) {
            if *kind != Kind::Plain {
                continue;
            }
            let none = Vec::new();
            let done = story.sets.get(column).unwrap_or(&none);
            let mut at = 0;
            for (_, cell, begins) in voice.sets.get(*column).into_iter().flatten() {
                let own = |(moment, known): &&(_, Cell)| {
                    let moment: &super::ledger::Moment = moment;
                    known == cell && (*begins || moment.site == site)
                };
                let Some((moment, _)) = done.iter().find(own) else {
                    wrong.push(format!(
                        "site {site} published {cell:?} for {name}.{column}, which it never set"
                    ));
                    continue;
                };
                if !begins && moment.order < at {
                    wrong.push(format!(
                        "site {site} published {cell:?} for {name}.{column} after what it set later"
                    ));
                }
                if !begins {
                    at = at.max(moment.order);
                }
            }
        }
        let ended = story.ends.iter().any(|end| end.site == site);
        if !voice.deletes.is_empty() && !ended && !renumbered {
            wrong.push(format!("site {site} published that {name} is deleted, and never did that"));
        }
    }
}

fn sites(story: &Story) -> BTreeSet<usize> {
    let sets = story.sets.values().flatten().map(|(moment, _)| moment.site);
    let moments = story.births.iter().chain(&story.ends).map(|moment| moment.site);
    let added = story.added.values().flatten().map(|(moment, _)| moment.site);
    sets.chain(moments).chain(added).collect()
}

/// The name of a row, if this tells it.
fn name(said: &Said, tables: &'static [Known]) -> Option<RowName> {
    let known = tables.iter().find(|known| known.name == said.row.table)?;
    let token = match (known.by_key, &said.what) {
        (true, _) => {
            let parts = said.row.key.iter().map(|part| match part {
                Part::Number(number) => number.to_string(),
                Part::Text(text) => String::from_utf8_lossy(text).into_owned(),
            });
            parts.collect::<Vec<_>>().join("/")
        }
        (false, What::Insert(columns)) => match columns.get("token")? {
            Told::Set(Value::Text(text), _) => String::from_utf8_lossy(text).into_owned(),
            _ => return None,
        },
        (false, _) => return None,
    };
    Some(RowName { table: known.name, token })
}

fn cell(value: &Value) -> Cell {
    Cell::of(match value {
        Value::Null => ValueRef::Null,
        Value::Integer(number) => ValueRef::Integer(*number),
        Value::Real(number) => ValueRef::Real(*number),
        Value::Text(text) => ValueRef::Text(text),
        Value::Blob(bytes) => ValueRef::Blob(bytes),
    })
}
