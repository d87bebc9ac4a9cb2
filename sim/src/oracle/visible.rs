//! What the application must see, once every site has everything: of all folded rows and the
//! constraints of the schema, from scratch, as MERGE.md tells phases A to E. Not how nodes keep it
//! up to date, and nothing of their code.

use super::fold::{Fold, Id, Part, Row, Stamp};
use conflict::{SiteId, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A table as its constraints are known here.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its name.
    pub table: &'static str,
    /// The columns of its key.
    pub key: &'static [&'static str],
    /// Columns whose values are unique, each by itself: text that may be marked.
    pub unique: &'static [&'static str],
    /// Columns that refer to a table's key.
    pub parents: &'static [(&'static str, &'static str)],
    /// A column that must not fall below this.
    pub at_least: Option<(&'static str, i64)>,
}

/// What must be seen.
#[derive(Clone, Debug, Default)]
pub struct Visible {
    /// The rows, by table and key: their columns.
    pub rows: BTreeMap<(String, Vec<Part>), BTreeMap<String, Value>>,
    /// Rows that are held back.
    pub parked: BTreeSet<Id>,
    /// Values that are shown with a mark.
    pub marked: u64,
    /// Rows that are dead and there, since others refer to them.
    pub kept: u64,
}

/// Where a row stands among those that claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    dead: bool,
    rank: Stamp,
    birth: Option<Stamp>,
    key: Vec<Part>,
    table: String,
}

struct Candidate<'a> {
    shape: &'a Shape,
    place: Place,
    born: bool,
    values: BTreeMap<String, Value>,
    parents: Vec<Id>,
    /// It was let in, in phase A or C.
    claimed: bool,
    parked: bool,
    lost: Vec<&'static str>,
}

/// Table, column, text.
type Claim = (String, &'static str, Vec<u8>);

/// What is claimed already.
#[derive(Debug, Default)]
struct Taken {
    keys: BTreeSet<(String, Vec<Part>)>,
    values: BTreeSet<Claim>,
    /// Who lost a value, in order of loss.
    losers: Vec<Id>,
}

/// What is seen of `fold` under a schema: `shapes`, and each table's `columns` with what rows hold
/// in those that nobody set.
pub fn visible(
    fold: &Fold,
    shapes: &[Shape],
    columns: &BTreeMap<String, BTreeMap<String, Value>>,
    codes: &BTreeMap<SiteId, String>,
) -> Visible {
    let mut all: BTreeMap<Id, Candidate<'_>> = BTreeMap::new();
    for (id, row) in &fold.rows {
        let shape = shapes.iter().find(|shape| shape.table == id.table);
        if let (Some(shape), Some(columns)) = (shape, columns.get(&id.table)) {
            all.insert(id.clone(), candidate(id, row, shape, columns));
        }
    }
    let mut taken = Taken::default();
    // A: those that live.
    claim(&mut all, |candidate| !candidate.place.dead, &mut taken);
    // B: the dead that they need, and those that these need.
    let mut needed: BTreeSet<Id> = BTreeSet::new();
    let mut next: Vec<Id> = all
        .values()
        .filter(|candidate| candidate.claimed && !candidate.parked)
        .flat_map(|candidate| candidate.parents.clone())
        .collect();
    while let Some(id) = next.pop() {
        if let Some(candidate) = all.get(&id).filter(|candidate| candidate.place.dead)
            && needed.insert(id)
        {
            next.extend(candidate.parents.clone());
        }
    }
    // C: these.
    claim(&mut all, |candidate| needed.contains(&candidate.id()), &mut taken);
    mark(&mut all, &taken, codes);
    // D: who refers to what is not seen is not seen either.
    loop {
        let hidden: Vec<Id> = all
            .iter()
            .filter(|(_, candidate)| candidate.is_seen())
            .filter(|(_, candidate)| {
                candidate.parents.iter().any(|id| !all.get(id).is_some_and(Candidate::is_seen))
            })
            .map(|(id, _)| id.clone())
            .collect();
        if hidden.is_empty() {
            break;
        }
        for id in hidden {
            all.entry(id).and_modify(|candidate| candidate.parked = true);
        }
    }
    let mut seen = Visible::default();
    for (id, candidate) in all {
        if !candidate.claimed {
            continue;
        }
        if candidate.parked {
            seen.parked.insert(id);
            continue;
        }
        seen.kept += u64::from(candidate.place.dead);
        seen.marked += candidate.lost.len() as u64;
        seen.rows.insert((id.table, id.key), candidate.values);
    }
    seen
}

fn candidate<'a>(
    id: &Id,
    row: &Row,
    shape: &'a Shape,
    columns: &BTreeMap<String, Value>,
) -> Candidate<'a> {
    let mut values = BTreeMap::new();
    let mut births = BTreeMap::new();
    for (column, default) in columns {
        let at = shape.key.iter().position(|key| key == column);
        let value = match (at.and_then(|at| id.key.get(at)), row.value(column)) {
            (Some(Part::Number(number)), _) => Value::Integer(*number),
            (Some(Part::Text(text)), _) => Value::Text(text.clone()),
            (None, Some((value, refers))) => {
                births.insert(column.as_str(), refers);
                value
            }
            (None, None) => default.clone(),
        };
        values.insert(column.clone(), value);
    }
    let mut parents = Vec::new();
    for (column, table) in shape.parents {
        if let Some(key) = values.get(*column).and_then(super::fold::part) {
            let birth = births.get(column).copied().flatten();
            parents.push(Id { table: (*table).to_owned(), key: vec![key], birth });
        }
    }
    let rank = row.rank();
    let place = Place {
        dead: !row.is_live(),
        rank: rank.unwrap_or(Stamp { time: u64::MAX, site: SiteId::from_bytes([255; 16]) }),
        birth: id.birth,
        key: id.key.clone(),
        table: id.table.clone(),
    };
    let (claimed, parked, lost) = (false, false, Vec::new());
    Candidate { shape, place, born: rank.is_some(), values, parents, claimed, parked, lost }
}

impl Candidate<'_> {
    fn id(&self) -> Id {
        let Place { table, key, birth, .. } = self.place.clone();
        Id { table, key, birth }
    }

    fn is_seen(&self) -> bool {
        self.claimed && !self.parked
    }

    fn is_sound(&self) -> bool {
        self.shape.at_least.is_none_or(|(column, least)| {
            !matches!(self.values.get(column), Some(Value::Integer(number)) if *number < least)
        })
    }

    fn claim(&self, column: &'static str) -> Option<Claim> {
        let Value::Text(text) = self.values.get(column)? else { return None };
        Some((self.place.table.clone(), column, text.clone()))
    }
}

/// Lets those in that are meant, by their order.
fn claim(
    all: &mut BTreeMap<Id, Candidate<'_>>,
    meant: impl Fn(&Candidate<'_>) -> bool,
    taken: &mut Taken,
) {
    let mut in_order: Vec<Place> =
        all.values().filter(|known| meant(known)).map(|known| known.place.clone()).collect();
    in_order.sort();
    for Place { table, key, birth, .. } in in_order {
        let id = Id { table, key, birth };
        let Some(candidate) = all.get_mut(&id) else { continue };
        candidate.claimed = true;
        let place = (id.table.clone(), id.key.clone());
        if !candidate.born || !candidate.is_sound() || taken.keys.contains(&place) {
            candidate.parked = true;
            continue;
        }
        taken.keys.insert(place);
        for column in candidate.shape.unique {
            match candidate.claim(column) {
                Some(claim) if taken.values.contains(&claim) => candidate.lost.push(column),
                Some(claim) => {
                    taken.values.insert(claim);
                }
                None => {}
            }
        }
        if !candidate.lost.is_empty() {
            taken.losers.push(id);
        }
    }
}

/// E: who lost is shown with a mark.
fn mark(all: &mut BTreeMap<Id, Candidate<'_>>, taken: &Taken, codes: &BTreeMap<SiteId, String>) {
    let mut marks: BTreeSet<Claim> = BTreeSet::new();
    for id in &taken.losers {
        let Some(candidate) = all.get_mut(id) else { continue };
        let site = candidate.place.birth.unwrap_or(candidate.place.rank).site;
        let mut suffix = format!("~{}", codes.get(&site).map_or("?", |code| code)).into_bytes();
        for (at, part) in id.key.iter().enumerate() {
            suffix.push(if at == 0 { b'~' } else { b',' });
            match part {
                Part::Number(number) => suffix.extend(number.to_string().into_bytes()),
                Part::Text(text) => suffix.extend(text),
            }
        }
        for column in candidate.lost.clone() {
            let Some(Value::Text(text)) = candidate.values.get(column).cloned() else { continue };
            for number in 1.. {
                let mut marked = [&text[..], &suffix[..]].concat();
                if number > 1 {
                    marked.extend(format!("~{number}").into_bytes());
                }
                let claim = (id.table.clone(), column, marked.clone());
                if !taken.values.contains(&claim) && marks.insert(claim) {
                    candidate.values.insert(column.to_owned(), Value::Text(marked));
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fold::{Said, Told, What};
    use super::*;
    use conflict::Rule;

    const SHAPES: &[Shape] = &[
        Shape { table: "a", key: &["id"], unique: &["code"], parents: &[], at_least: None },
        Shape {
            table: "b",
            key: &["id"],
            unique: &[],
            parents: &[("a", "a")],
            at_least: Some(("n", 0)),
        },
    ];

    fn stamp(time: u64, site: u8) -> Stamp {
        Stamp { time, site: SiteId::from_bytes([site; 16]) }
    }

    fn said(table: &str, id: i64, stamp: Stamp, what: What) -> Said {
        let row = Id { table: table.into(), key: vec![Part::Number(id)], birth: None };
        Said { stamp, row, what, refers: BTreeMap::new() }
    }

    fn insert(columns: &[(&str, Value)]) -> What {
        let set = |(column, value): &(&str, Value)| {
            ((*column).to_owned(), Told::Set(value.clone(), Rule::LastWriter))
        };
        What::Insert(columns.iter().map(set).collect())
    }

    fn seen(all: &[Said]) -> Visible {
        let columns = |names: &[&str]| -> BTreeMap<String, Value> {
            names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect()
        };
        let columns = [
            ("a".to_owned(), columns(&["id", "code"])),
            ("b".to_owned(), columns(&["id", "a", "n"])),
        ];
        let codes = [(stamp(0, 2).site, "uptown".to_owned())];
        visible(&Fold::new(all), SHAPES, &columns.into(), &codes.into())
    }

    fn code(seen: &Visible, id: i64) -> Option<&Value> {
        seen.rows.get(&("a".to_owned(), vec![Part::Number(id)]))?.get("code")
    }

    #[test]
    fn the_least_rank_keeps_a_value_and_the_other_is_marked() {
        let later = said("a", 1, stamp(9, 2), insert(&[("code", Value::text("x"))]));
        let first = said("a", 2, stamp(5, 1), insert(&[("code", Value::text("x"))]));
        let seen = seen(&[later, first]);
        assert_eq!(code(&seen, 2), Some(&Value::text("x")));
        assert_eq!(code(&seen, 1), Some(&Value::text("x~uptown~1")));
        assert_eq!((seen.marked, seen.kept, seen.parked.len()), (1, 0, 0));
    }

    #[test]
    fn a_dead_parent_is_there_as_long_as_a_child_is_seen() {
        let parent = said("a", 1, stamp(1, 1), insert(&[("code", Value::Null)]));
        let gone = said("a", 1, stamp(4, 1), What::Delete);
        let n = |n| {
            said("b", 7, stamp(5, 2), insert(&[("a", Value::Integer(1)), ("n", Value::Integer(n))]))
        };
        assert!(seen(&[parent.clone(), gone.clone()]).rows.is_empty());
        let kept = seen(&[parent.clone(), gone.clone(), n(0)]);
        assert_eq!((kept.rows.len(), kept.kept), (2, 1));
        // A child that is held back itself keeps nobody.
        let parked = seen(&[parent.clone(), gone, n(-1)]);
        assert_eq!((parked.rows.len(), parked.kept, parked.parked.len()), (0, 0, 1));
        // Nor is one seen whose parent is not.
        let orphan = seen(&[n(0)]);
        assert_eq!((orphan.rows.len(), orphan.parked.len()), (0, 1));
        assert_eq!(seen(&[parent, n(3)]).rows.len(), 2);
    }
}
