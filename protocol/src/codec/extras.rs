//! What a group of rows carries beside its values in shared mode: stamps, births, references,
//! rules and adds. In mirror mode there is none.
//!
//! ```text
//! extras  = [stamps, births, references, rules, adds], each nil where there is none
//! stamps  = [nil | time, …]               one a row
//! births  = [nil | version, …]            one a row
//! references = [[column, version, …], …]  one version a row
//! rules   = [column, rule, column, rule, …]
//! adds    = [column, …]                   an update's columns that are added to
//! version = [site, time]                  the site as a number in the body's list of sites
//! time    = its difference to the one before in this body, or to 0, mod 2^64
//! ```

use super::group::Shape;
use super::read::{Budget, List, next, next_plain};
use super::{EncodeError, some};
use crate::change::RowChange;
use crate::limits;
use crate::schema::ColumnIndex;
use conflict::{Rule, SiteId, Timestamp, Version};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

/// The sites that a body's versions name, by number, and the time last mentioned.
#[derive(Default)]
pub(crate) struct Sites {
    list: Vec<SiteId>,
    numbers: HashMap<SiteId, u32>,
    time: Cell<u64>,
}

impl Sites {
    pub(crate) fn list(&self) -> &[SiteId] {
        &self.list
    }

    pub(crate) fn read(list: Vec<SiteId>) -> Self {
        Self { list, ..Self::default() }
    }

    fn difference(&self, time: Timestamp) -> i64 {
        let before = self.time.replace(time.as_u64());
        time.as_u64().wrapping_sub(before) as i64
    }

    fn time<E: Error>(&self, difference: i64) -> Result<Timestamp, E> {
        let time = Timestamp::try_from(self.time.get().wrapping_add_signed(difference));
        let time = time.map_err(E::custom)?;
        self.time.set(time.as_u64());
        Ok(time)
    }

    fn put(&mut self, version: Version) -> WireVersion {
        let next = self.list.len() as u32;
        let site = *self.numbers.entry(version.origin).or_insert(next);
        if site == next {
            self.list.push(version.origin);
        }
        WireVersion(site, self.difference(version.timestamp))
    }

    fn get<E: Error>(&self, WireVersion(site, time): WireVersion) -> Result<Version, E> {
        let origin = *self.list.get(site as usize).ok_or_else(|| E::custom("an unlisted site"))?;
        Ok(Version { timestamp: self.time(time)?, origin })
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct WireVersion(u32, i64);

#[derive(Serialize)]
pub(crate) struct Extras(
    Option<Vec<Option<i64>>>,
    Option<Vec<Option<WireVersion>>>,
    Option<Vec<Reference>>,
    Option<Vec<u32>>,
    Option<Vec<ColumnIndex>>,
);

impl Extras {
    /// The extras of the rows of one shape; none if they have none.
    pub(crate) fn new(
        shape: &Shape,
        rows: &[&RowChange],
        sites: &mut Sites,
    ) -> Result<Option<Self>, EncodeError> {
        let stamps = rows.iter().any(|row| row.stamp.is_some()).then(|| {
            rows.iter().map(|row| row.stamp.map(|stamp| sites.difference(stamp))).collect()
        });
        let births = rows
            .iter()
            .any(|row| row.birth.is_some())
            .then(|| rows.iter().map(|row| row.birth.map(|birth| sites.put(birth))).collect());
        let mut references = Vec::new();
        for (place, column) in shape.references.iter().enumerate() {
            let version = |row: &&RowChange| {
                row.references.get(place).map(|(_, version)| sites.put(*version))
            };
            let versions: Option<_> = rows.iter().map(version).collect();
            let versions = versions.ok_or(EncodeError::Shape("rows of one shape differ"))?;
            references.push(Reference(*column, versions));
        }
        let rules =
            shape.rules.iter().flat_map(|(column, rule)| [column.0, *rule as u32]).collect();
        let extras = Self(
            stamps,
            births,
            filled(references),
            filled(rules),
            some(&shape.adds).map(<[_]>::to_vec),
        );
        let none = matches!(extras, Self(None, None, None, None, None));
        Ok(if none { None } else { Some(extras) })
    }
}

fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

/// The births of the rows that one column refers to.
struct Reference(ColumnIndex, Vec<WireVersion>);

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(1 + self.1.len()))?;
        seq.serialize_element(&self.0)?;
        for version in &self.1 {
            seq.serialize_element(version)?;
        }
        seq.end()
    }
}

/// Extras as they were read; the lists by row are empty or have one element a row.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) stamps: Vec<Option<Timestamp>>,
    pub(crate) births: Vec<Option<Version>>,
    pub(crate) references: Vec<(ColumnIndex, Vec<Version>)>,
    pub(crate) rules: Vec<(ColumnIndex, Rule)>,
    pub(crate) adds: Vec<ColumnIndex>,
}

pub(crate) struct ExtrasSeed<'a> {
    pub(crate) rows: usize,
    pub(crate) sites: &'a Sites,
    pub(crate) budget: &'a Budget,
}

impl<'de> DeserializeSeed<'de> for ExtrasSeed<'_> {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ExtrasSeed<'_> {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the extras of a group")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Read, A::Error> {
        let Self { rows, sites, budget } = self;
        let a_row = |length: usize| {
            if length == 0 || length == rows {
                Ok(())
            } else {
                Err(A::Error::custom("not one element a row"))
            }
        };
        let stamps: Vec<Option<i64>> = next(&mut seq, List::new(budget, rows))?;
        a_row(stamps.len())?;
        let stamps = stamps
            .into_iter()
            .map(|stamp| stamp.map(|stamp| sites.time(stamp)).transpose())
            .collect::<Result<_, A::Error>>()?;
        let births: Vec<Option<WireVersion>> = next(&mut seq, List::new(budget, rows))?;
        a_row(births.len())?;
        let births = births
            .into_iter()
            .map(|birth| birth.map(|birth| sites.get(birth)).transpose())
            .collect::<Result<_, A::Error>>()?;
        let references = next(&mut seq, ReferencesSeed { rows, sites, budget })?;
        let rules: Vec<u32> = next(&mut seq, List::new(budget, 2 * limits::COLUMNS))?;
        let (pairs, rest) = rules.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(A::Error::custom("a column without its rule"));
        }
        let rules = pairs
            .iter()
            .map(|[column, rule]| {
                let number = u8::try_from(*rule).map_err(A::Error::custom)?;
                Ok((ColumnIndex(*column), Rule::try_from(number).map_err(A::Error::custom)?))
            })
            .collect::<Result<_, A::Error>>()?;
        let adds = next(&mut seq, List::new(budget, limits::COLUMNS))?;
        Ok(Read { stamps, births, references, rules, adds })
    }
}

#[derive(Clone, Copy)]
struct ReferencesSeed<'a> {
    rows: usize,
    sites: &'a Sites,
    budget: &'a Budget,
}

impl<'de> DeserializeSeed<'de> for ReferencesSeed<'_> {
    type Value = Vec<(ColumnIndex, Vec<Version>)>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for ReferencesSeed<'_> {
    type Value = Vec<(ColumnIndex, Vec<Version>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nil or references")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut references = Vec::new();
        while let Some(reference) = seq.next_element_seed(ReferenceSeed(self))? {
            references.push(reference);
        }
        if references.is_empty() {
            return Err(A::Error::custom("a list is empty"));
        }
        Ok(references)
    }
}

struct ReferenceSeed<'a>(ReferencesSeed<'a>);

impl<'de> DeserializeSeed<'de> for ReferenceSeed<'_> {
    type Value = (ColumnIndex, Vec<Version>);

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ReferenceSeed<'_> {
    type Value = (ColumnIndex, Vec<Version>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the references of a column")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let ReferencesSeed { rows, sites, budget } = self.0;
        let column = next_plain(&mut seq)?;
        if seq.size_hint() != Some(rows) {
            return Err(A::Error::custom("not one reference a row"));
        }
        budget.take(rows)?;
        let mut versions = Vec::with_capacity(rows);
        while let Some(version) = seq.next_element()? {
            versions.push(sites.get(version)?);
        }
        Ok((column, versions))
    }
}
