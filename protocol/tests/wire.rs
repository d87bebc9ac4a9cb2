//! `WIRE.md` says the numbers that the code has: each row of its tables, and no number besides.
#![allow(clippy::unwrap_used, clippy::panic)]

use conflict::{Rule, Timestamp};
use protocol::codec::{column, group, packing};
use protocol::schema::ObjectKind;
use protocol::{
    Domain, Mode, batch, branch, chain, invitation, limits, membership, message, snapshot,
};
use std::collections::BTreeMap;

fn numbers() -> Vec<(&'static str, String)> {
    let number = |n: u64| n.to_string();
    let rule = |rule: Rule| number(u8::from(rule).into());
    let object = |kind: ObjectKind| number(u8::from(kind).into());
    let size = |n: usize| number(n as u64);
    vec![
        ("format of an opening", number(branch::FORMAT.into())),
        ("format of a batch", number(batch::FORMAT.into())),
        ("format of a manifest and a chunk", number(snapshot::FORMAT.into())),
        ("mode mirror", number(u8::from(Mode::Mirror).into())),
        ("mode shared", number(u8::from(Mode::Shared).into())),
        ("flag MORE", number(batch::MORE.into())),
        ("flag LAST", number(batch::LAST.into())),
        ("body stored as it is", number(packing::STORED.into())),
        ("body compressed with dictionary 1", number(packing::DICTIONARY_1.into())),
        ("group of inserts", number(group::INSERT.into())),
        ("group of updates", number(group::UPDATE.into())),
        ("group of deletes", number(group::DELETE.into())),
        ("group of forgotten rows", number(group::FORGET.into())),
        ("group with extras", number(group::EXTRAS.into())),
        ("further key column", number(group::KEY_COLUMN.into())),
        ("object table", object(ObjectKind::Table)),
        ("object index", object(ObjectKind::Index)),
        ("object view", object(ObjectKind::View)),
        ("object trigger", object(ObjectKind::Trigger)),
        ("object virtual table", object(ObjectKind::Virtual)),
        ("version of the protocol", number(message::VERSION.into())),
        ("first kind of message that may be ignored", number(message::FIRST_IGNORABLE.into())),
        ("format of a member record", number(membership::FORMAT.into())),
        ("record founding", number(membership::FOUNDING.into())),
        ("record admission", number(membership::ADMISSION.into())),
        ("record contact", number(membership::CONTACT.into())),
        ("record removal", number(membership::REMOVAL.into())),
        ("record handover", number(membership::HANDOVER.into())),
        ("rule last-writer", rule(Rule::LastWriter)),
        ("rule counter", rule(Rule::Counter)),
        ("rule first-writer", rule(Rule::FirstWriter)),
        ("rule append-only", rule(Rule::AppendOnly)),
        ("rule whole-row", rule(Rule::WholeRow)),
        ("rule site-priority", rule(Rule::SitePriority)),
        ("rule local", rule(Rule::Local)),
        ("rule yields", rule(Rule::Yields)),
        ("decimal places of a real", number(column::PLACES.into())),
        ("ceiling of timestamps", number(Timestamp::MAX.as_u64())),
        ("bytes of a body", size(limits::RAW_BODY)),
        ("bytes of a batch's header", size(limits::HEADER)),
        ("changes of a batch", size(limits::CHANGES)),
        ("values of a batch", size(limits::VALUES)),
        ("dependencies of a batch", size(limits::DEPENDENCIES)),
        ("sites of a batch", size(limits::SITES)),
        ("tables of a schema", size(limits::TABLES)),
        ("columns of a table", size(limits::COLUMNS)),
        ("statements of a schema", size(limits::OBJECTS)),
        ("bytes of a schema", size(limits::SCHEMA)),
        ("nesting", size(limits::DEPTH)),
        ("bytes of an opening", size(limits::OPENING)),
        ("batches of a flight", size(limits::FLIGHT_BATCHES)),
        ("bytes of a flight of several batches", size(limits::FLIGHT)),
        ("bytes of a member record", size(limits::MEMBER_RECORD)),
        ("addresses of a site", size(limits::ADDRESSES)),
        ("bytes of an address", size(limits::ADDRESS)),
        ("characters of an invitation code", size(limits::INVITATION)),
        ("branches of a vector", size(limits::HOLDINGS)),
        ("openings of a message", size(limits::OPENINGS)),
        ("bytes of a message", size(limits::MESSAGE)),
        ("chunks of a snapshot", size(limits::CHUNKS)),
        ("bytes of a manifest", size(limits::MANIFEST)),
        ("window of a compressed body, log2", number(limits::WINDOW.into())),
        ("opening: id, signature", Domain::OPENING.as_str().into()),
        ("line: hash", chain::CONTEXT.into()),
        ("flight: signature", Domain::FLIGHT.as_str().into()),
        ("manifest: id, signature", Domain::MANIFEST.as_str().into()),
        ("chunk: hash", snapshot::CHUNK_CONTEXT.into()),
        ("member record: signature", membership::RECORD_DOMAIN.as_str().into()),
        ("group: id", membership::GROUP_DOMAIN.into()),
        ("invitation: check", invitation::CHECK_DOMAIN.into()),
    ]
}

/// The rows of the section "Numbers".
fn documented() -> BTreeMap<String, String> {
    let text = include_str!("../WIRE.md");
    let section = text.split("\n## ").find(|section| section.starts_with("Numbers\n")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.map(|row| row.split_once(" | ").unwrap());
    rows.filter(|(name, _)| *name != "name").map(|(n, v)| (n.into(), v.into())).collect()
}

#[test]
fn the_document_is_in_step_with_the_code() {
    let mut documented = documented();
    for (name, number) in numbers() {
        assert_eq!(documented.remove(name), Some(number), "{name}");
    }
    assert!(documented.is_empty(), "the code does not know {documented:?}");
}

/// The drawing under "Body", byte for byte.
#[test]
fn the_example_is_what_the_codec_writes() {
    use conflict::Value;
    use protocol::change::{Body, Operation, RowChange, SchemaReference};
    use protocol::schema::TableIndex;

    let order = |key, text, price| {
        let values = Operation::Insert(vec![text, Value::Real(price)]);
        RowChange::plain(TableIndex(1), vec![Value::Integer(key)], values)
    };
    let body = Body {
        schema: SchemaReference::At(protocol::Sequence(1)),
        changes: vec![
            order(9, Value::text("a"), 19.99),
            order(10, Value::Null, 19.99),
            order(11, Value::text("b"), 20.49),
            RowChange::plain(TableIndex(2), vec![Value::Integer(300)], Operation::Delete),
        ],
        ..Body::default()
    };
    let text = include_str!("../WIRE.md");
    let drawn = text.split("a delete of row 300 in table 2:\n```\n").nth(1).unwrap();
    let drawn = drawn.split("```").next().unwrap().lines();
    let bytes = drawn.flat_map(|line| line.split("  ").next().unwrap().split(' '));
    let bytes: Vec<u8> = bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    assert_eq!(protocol::codec::encode(&body).unwrap(), bytes);
}
