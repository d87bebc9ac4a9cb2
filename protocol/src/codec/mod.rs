//! The body of a batch as bytes: columnar MessagePack. `WIRE.md`, "Body", draws it.
//!
//! ```text
//! body  = [head, group, group, …]
//! head  = sequence of the schema | [schema, dependencies, cleared, sites]
//! group = form, table, columns, rows, [extras,] value, value, …
//! ```
//!
//! A group holds the rows of one `group::Shape`, their values column by column, so that
//! like stands beside like; see `column` for what differences are taken. Everything is flat and
//! of known depth, no length is believed before the bytes that it claims are there, and a decoder
//! takes exactly what the encoder writes. Compression is [`packing`]'s; what the numbers of
//! tables and columns mean is the schema's, and not checked here.

pub mod column;
pub(crate) mod extras;
pub mod group;
pub mod packing;
pub(crate) mod read;

#[cfg(test)]
pub(crate) mod tests;

use crate::change::{Body, RowChange, SchemaReference};
use crate::limits::{self, Limits};
use crate::schema::{Schema, TableIndex};
use crate::{BranchId, Sequence};
use conflict::SiteId;
use extras::Sites;
use group::Group;
use read::{Budget, List, next};
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashSet;
use std::fmt;
use thiserror::Error;

/// Why something can't be written: a mistake of the caller, or a change beyond the limits.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// It is larger than anybody may send.
    #[error("{what}: {size} is more than the {limit} allowed")]
    TooLarge {
        /// What is counted or measured.
        what: &'static str,
        /// How much of it there is.
        size: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A row without identity, or columns that are not in ascending order.
    #[error("a change can't be written: {0}")]
    Shape(&'static str),
    /// The serializer or the compressor failed.
    #[error("encoding failed: {0}")]
    Failed(String),
}

/// Why bytes are not what they should be.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The bytes have another form.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// What they should be.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A newer version wrote it.
    #[error("{what} has format {format}, which this version does not know: update Holdfast here")]
    Format {
        /// What has that format.
        what: &'static str,
        /// Its number.
        format: u64,
    },
    /// It claims to be, or is, larger than allowed.
    #[error("{what}: {size} is more than the {limit} allowed")]
    TooLarge {
        /// What is counted or measured.
        what: &'static str,
        /// How much of it there is.
        size: usize,
        /// How much there may be.
        limit: usize,
    },
}

impl DecodeError {
    pub(crate) fn malformed(what: &'static str, reason: impl fmt::Display) -> Self {
        // A reason may quote what a peer sent: no more of it than a line.
        Self::Malformed { what, reason: reason.to_string().chars().take(200).collect() }
    }
}

/// Fails if there is more of something than allowed.
pub(crate) fn check(what: &'static str, size: usize, limit: usize) -> Result<(), DecodeError> {
    if size > limit { Err(DecodeError::TooLarge { what, size, limit }) } else { Ok(()) }
}

/// The same for what we write ourselves.
pub(crate) fn allow(what: &'static str, size: usize, limit: usize) -> Result<(), EncodeError> {
    if size > limit { Err(EncodeError::TooLarge { what, size, limit }) } else { Ok(()) }
}

/// Writes a value as MessagePack, structures as arrays.
///
/// # Errors
/// The value refuses to be serialized.
pub fn write<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    rmp_serde::to_vec(value).map_err(|error| EncodeError::Failed(error.to_string()))
}

/// Reads a value that fills `bytes` to the end, nested no deeper than [`limits::DEPTH`].
///
/// # Errors
/// `bytes` are something else, or go on after the value. `what` says what they should be.
pub fn read<'de, T: Deserialize<'de>>(
    what: &'static str,
    bytes: &'de [u8],
) -> Result<T, DecodeError> {
    read_seed(what, bytes, std::marker::PhantomData)
}

pub(crate) fn read_seed<'de, S: DeserializeSeed<'de>>(
    what: &'static str,
    bytes: &'de [u8],
    seed: S,
) -> Result<S::Value, DecodeError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(limits::DEPTH);
    let value =
        seed.deserialize(&mut deserializer).map_err(|error| DecodeError::malformed(what, error))?;
    // The reader does not tell its position; at the end it can't read one more marker.
    match bool::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(DecodeError::malformed(what, "it goes on after its end")),
    }
}

/// Fails if a record, an array, does not begin with the format number that this version knows.
pub(crate) fn check_format(what: &'static str, bytes: &[u8], known: u8) -> Result<(), DecodeError> {
    // All records are arrays of less than 16 elements, and all format numbers are below 128.
    match bytes {
        [0x90..=0x9f, format, ..] if *format == known => Ok(()),
        [0x90..=0x9f, format @ 0..=0x7f, ..] => {
            Err(DecodeError::Format { what, format: (*format).into() })
        }
        _ => Err(DecodeError::malformed(what, "it does not begin like one")),
    }
}

/// Writes a body, uncompressed. Rows of one shape come together, in their order; see
/// [`Body::group`].
///
/// # Errors
/// The body is beyond the limits, a row has no identity, or columns are not in ascending order.
pub fn encode(body: &Body) -> Result<Vec<u8>, EncodeError> {
    allow("changes of a batch", body.changes.len(), limits::CHANGES)?;
    allow("dependencies of a batch", body.dependencies.len(), limits::DEPENDENCIES)?;
    allow("cleared tables of a batch", body.cleared.len(), limits::TABLES)?;
    allow("values of a batch", body.changes.iter().map(RowChange::weight).sum(), limits::VALUES)?;
    if !distinct(&body.dependencies, |(branch, _)| *branch) || !distinct(&body.cleared, |t| *t) {
        return Err(EncodeError::Shape("a branch or a table is named twice"));
    }
    let schema = match &body.schema {
        SchemaReference::At(sequence) => WireSchema::At(*sequence),
        SchemaReference::Here(schema) => WireSchema::Here(write_schema(schema)?),
    };
    let mut sites = Sites::default();
    let groups = group::gather(&body.changes)?
        .into_iter()
        .map(|(shape, rows)| Group::new(shape, rows, &mut sites))
        .collect::<Result<_, _>>()?;
    allow("sites of a batch", sites.list().len(), limits::SITES)?;
    let raw = write(&WireBody { body, schema, sites: sites.list(), groups })?;
    allow("bytes of a batch's body", raw.len(), limits::RAW_BODY)?;
    Ok(raw)
}

/// Reads a body, uncompressed.
///
/// # Errors
/// The bytes are not a body, or are beyond the limits.
pub fn decode(raw: &[u8], limits: &Limits) -> Result<Body, DecodeError> {
    check("bytes of a batch's body", raw.len(), limits.raw_body)?;
    read_seed("body", raw, BodySeed { limits, bytes: raw.len() })
}

/// Writes a schema: what a body or a manifest carries as bytes.
pub(crate) fn write_schema(schema: &Schema) -> Result<Vec<u8>, EncodeError> {
    allow("tables of a schema", schema.tables.len(), limits::TABLES)?;
    allow("statements of a schema", schema.objects.len(), limits::OBJECTS)?;
    let columns = schema.tables.iter().map(|table| table.columns.len()).max().unwrap_or(0);
    allow("columns of a table", columns, limits::COLUMNS)?;
    let bytes = write(schema)?;
    allow("bytes of a schema", bytes.len(), limits::SCHEMA)?;
    Ok(bytes)
}

/// Reads a schema.
pub(crate) fn read_schema(bytes: &[u8]) -> Result<Schema, DecodeError> {
    check("bytes of a schema", bytes.len(), limits::SCHEMA)?;
    read("schema", bytes)
}

impl Body {
    /// Brings the rows of one shape together, each keeping its place among its like: the order
    /// in which a decoded body has them. Order means nothing; this is for comparing bodies.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn group(&mut self) -> Result<(), EncodeError> {
        let order = group::gather(&self.changes)?.into_iter().flat_map(|(_, rows)| rows).cloned();
        self.changes = order.collect();
        Ok(())
    }
}

/// Whether no two items have one name.
pub(crate) fn distinct<T, K: std::hash::Hash + Eq>(items: &[T], name: impl Fn(&T) -> K) -> bool {
    let mut seen = HashSet::new();
    items.iter().all(|item| seen.insert(name(item)))
}

/// The schema of a body on the wire: an integer, or bytes.
enum WireSchema {
    At(Sequence),
    Here(Vec<u8>),
}

impl Serialize for WireSchema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(sequence) => sequence.serialize(serializer),
            Self::Here(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}

struct WireBody<'a> {
    body: &'a Body,
    schema: WireSchema,
    sites: &'a [SiteId],
    groups: Vec<Group<'a>>,
}

impl Serialize for WireBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let elements = 1 + self.groups.iter().map(Group::elements).sum::<usize>();
        let mut seq = serializer.serialize_seq(Some(elements))?;
        let lists = (&self.body.dependencies[..], &self.body.cleared[..], self.sites);
        match (&self.schema, lists) {
            (WireSchema::At(sequence), ([], [], [])) => seq.serialize_element(sequence)?,
            (schema, (dependencies, cleared, sites)) => {
                let wire = |(branch, at): &(_, _)| Dependency(*branch, *at);
                let dependencies: Vec<_> = dependencies.iter().map(wire).collect();
                seq.serialize_element(&(schema, some(&dependencies), some(cleared), some(sites)))?;
            }
        }
        for group in &self.groups {
            group.write(&mut seq)?;
        }
        seq.end()
    }
}

/// An empty list is nil.
pub(crate) fn some<T>(list: &[T]) -> Option<&[T]> {
    if list.is_empty() { None } else { Some(list) }
}

#[derive(Serialize, Deserialize)]
struct Dependency(BranchId, Sequence);

/// What stands before the groups of a body.
#[derive(Default)]
struct Head {
    schema: SchemaReference,
    dependencies: Vec<(BranchId, Sequence)>,
    cleared: Vec<TableIndex>,
    sites: Vec<SiteId>,
}

/// Reads a head; the budget is of bytes.
struct HeadSeed(Budget);

impl<'de> DeserializeSeed<'de> for HeadSeed {
    type Value = Head;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Head, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for HeadSeed {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a body's head")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Head, E> {
        let schema = SchemaSeed.visit_u64(number)?;
        Ok(Head { schema, ..Head::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Head, A::Error> {
        let schema = next(&mut seq, SchemaSeed)?;
        let dependencies: Vec<Dependency> =
            next(&mut seq, List::new(&self.0, limits::DEPENDENCIES))?;
        let dependencies: Vec<_> =
            dependencies.into_iter().map(|Dependency(branch, at)| (branch, at)).collect();
        let cleared: Vec<TableIndex> = next(&mut seq, List::new(&self.0, limits::TABLES))?;
        if !distinct(&dependencies, |(branch, _)| *branch) || !distinct(&cleared, |t| *t) {
            return Err(A::Error::custom("a branch or a table is named twice"));
        }
        let sites = next(&mut seq, List::new(&self.0, limits::SITES))?;
        Ok(Head { schema, dependencies, cleared, sites })
    }
}

struct BodySeed<'a> {
    limits: &'a Limits,
    bytes: usize,
}

impl<'de> DeserializeSeed<'de> for BodySeed<'_> {
    type Value = Body;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Body, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for BodySeed<'_> {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a body")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Body, A::Error> {
        let head = next(&mut seq, HeadSeed(Budget::new(self.bytes)))?;
        let Head { schema, dependencies, cleared, sites } = head;
        let context = group::Context {
            sites: &Sites::read(sites),
            limits: self.limits,
            budget: &Budget::new(self.limits.values.min(self.bytes)),
            copies: &Budget::new(self.limits.values),
        };
        let mut changes = Vec::new();
        while seq.size_hint() != Some(0) {
            context.read(&mut seq, &mut changes)?;
        }
        Ok(Body { dependencies, schema, cleared, changes })
    }
}

struct SchemaSeed;

impl<'de> DeserializeSeed<'de> for SchemaSeed {
    type Value = SchemaReference;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<SchemaReference, D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for SchemaSeed {
    type Value = SchemaReference;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence or a schema")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<SchemaReference, E> {
        Sequence::try_from(number).map(SchemaReference::At).map_err(E::custom)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<SchemaReference, E> {
        read_schema(bytes).map(|schema| SchemaReference::Here(Box::new(schema))).map_err(E::custom)
    }
}
