//! The codec against arbitrary bodies: what goes in comes out, and damage is an error or another
//! body, never a panic.

use super::*;
use crate::batch::{Frame, Header, Meta};
use crate::change::{Assignment, Operation};
use crate::schema::{ColumnIndex, ObjectKind, RowIdentity, SchemaObject, Table};
use conflict::{Rule, Timestamp, Value, Version};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-300_i64..300).prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
        (any::<i32>(), 0..6).prop_map(|(n, k)| Value::Real(f64::from(n) / 10_f64.powi(k))),
        vec(any::<u8>(), 0..20).prop_map(Value::Text),
        ".{0,10}".prop_map(|text| Value::text(&text)),
        vec(any::<u8>(), 0..20).prop_map(Value::Blob),
    ]
}

fn any_version() -> impl Strategy<Value = Version> {
    (any_timestamp(), any::<[u8; 16]>())
        .prop_map(|(timestamp, site)| Version { timestamp, origin: SiteId::from_bytes(site) })
}

fn any_timestamp() -> impl Strategy<Value = Timestamp> {
    (0..=Timestamp::MAX.as_u64()).prop_map(|number| Timestamp::try_from(number).unwrap())
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let assignment = (any_value(), any::<bool>())
        .prop_map(|(value, add)| if add { Assignment::Add(value) } else { Assignment::Set(value) });
    prop_oneof![
        vec(any_value(), 0..4).prop_map(Operation::Insert),
        btree_map((0_u32..5).prop_map(ColumnIndex), assignment, 0..4)
            .prop_map(|columns| Operation::Update(columns.into_iter().collect())),
        Just(Operation::Delete),
        Just(Operation::Forget),
    ]
}

prop_compose! {
    fn any_change()(
        table in prop_oneof![0_u32..3, any::<u32>()],
        key in vec(any_value(), 1..4),
        operation in any_operation(),
        stamp in option::of(any_timestamp()),
        birth in option::of(any_version()),
        references in btree_map(0_u32..4, any_version(), 0..3),
        rules in btree_map(0_u32..4, 0_u8..8, 0..3),
        plain in any::<bool>(),
    ) -> RowChange {
        let change = RowChange::plain(TableIndex(table), key, operation);
        if plain {
            return change;
        }
        let column = |number| ColumnIndex(number);
        RowChange {
            stamp,
            birth,
            references: references.into_iter().map(|(c, v)| (column(c), v)).collect(),
            rules: rules
                .into_iter()
                .map(|(c, rule)| (column(c), Rule::try_from(rule).unwrap()))
                .collect(),
            ..change
        }
    }
}

fn any_schema() -> impl Strategy<Value = Schema> {
    let identity = prop_oneof![
        vec((0_u32..9).prop_map(ColumnIndex), 1..3).prop_map(RowIdentity::Key),
        Just(RowIdentity::Rowid("_rowid_".into())),
    ];
    let table = (".{0,9}", vec(".{0,9}", 0..4), identity)
        .prop_map(|(name, columns, identity)| Table { name, columns, identity });
    let object = (0_u8..5, ".{0,9}", ".{0,9}", ".{0,40}").prop_map(|(kind, name, table, sql)| {
        SchemaObject { kind: ObjectKind::try_from(kind).unwrap(), name, table, sql }
    });
    (vec(table, 0..3), vec(object, 0..3), any::<i32>(), any::<i32>()).prop_map(
        |(tables, objects, user_version, application_id)| Schema {
            tables,
            objects,
            user_version,
            application_id,
        },
    )
}

fn any_body() -> impl Strategy<Value = Body> {
    let schema = prop_oneof![
        4 => (0..u64::MAX / 2).prop_map(|number| SchemaReference::At(Sequence(number))),
        1 => any_schema().prop_map(|schema| SchemaReference::Here(Box::new(schema))),
    ];
    let dependency = (any::<[u8; 32]>().prop_map(BranchId), (0_u64..9).prop_map(Sequence));
    let cleared = btree_set((0_u32..9).prop_map(TableIndex), 0..3);
    (schema, vec(dependency, 0..3), cleared, vec(any_change(), 0..12)).prop_map(
        |(schema, dependencies, cleared, changes)| Body {
            dependencies,
            schema,
            cleared: cleared.into_iter().collect(),
            changes,
        },
    )
}

fn any_meta() -> impl Strategy<Value = Meta> {
    (1..u64::MAX / 2, any_timestamp(), any::<bool>(), any::<bool>()).prop_map(
        |(sequence, timestamp, more, last)| Meta {
            sequence: Sequence(sequence),
            timestamp,
            more,
            last,
        },
    )
}

/// The form in which a body comes back.
fn grouped(body: &Body) -> Body {
    let mut body = body.clone();
    body.group().unwrap();
    body
}

proptest! {
    #[test]
    fn a_batch_comes_back(meta in any_meta(), body in any_body()) {
        let frame = Frame::encode(&meta, &body).unwrap();
        let header = frame.header().unwrap();
        prop_assert_eq!(header.meta, meta);
        prop_assert_eq!(header.changes as usize, body.changes.len());
        prop_assert_eq!(frame.body(&Limits::default()).unwrap(), grouped(&body));
        let length = Header::body_length(frame.as_bytes()).unwrap();
        prop_assert!(frame.as_bytes().len() - length <= limits::HEADER);
    }

    #[test]
    fn a_body_that_is_cut_off_is_an_error(body in any_body()) {
        let raw = encode(&body).unwrap();
        for length in 0..raw.len() {
            prop_assert!(decode(&raw[..length], &Limits::default()).is_err(), "{}", length);
        }
        let more = [&raw[..], &[0]].concat();
        prop_assert!(decode(&more, &Limits::default()).is_err());
    }

    #[test]
    fn a_batch_that_is_cut_off_is_an_error(meta in any_meta(), body in any_body()) {
        let frame = Frame::encode(&meta, &body).unwrap().into_bytes();
        for length in 0..frame.len() {
            prop_assert!(Header::read(&frame[..length]).is_err(), "{}", length);
        }
        prop_assert!(Header::read(&[&frame[..], &[0]].concat()).is_err());
    }

    /// What damage makes is refused, or is a body that can be written again: nothing that is
    /// read goes beyond what may be said.
    #[test]
    fn damage_never_panics(
        body in any_body(),
        damage in vec((any::<prop::sample::Index>(), 0_u8..8), 1..4),
    ) {
        let mut raw = encode(&body).unwrap();
        for (place, bit) in damage {
            let place = place.index(raw.len());
            raw[place] ^= 1 << bit;
        }
        if let Ok(other) = decode(&raw, &Limits::default()) {
            let again = encode(&other).unwrap();
            prop_assert_eq!(decode(&again, &Limits::default()).unwrap(), grouped(&other));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &Limits::default());
        let _ = Frame::decode_body(&bytes, &Limits::default());
    }
}

fn update(columns: &[u32]) -> Body {
    let set = |column: &u32| (ColumnIndex(*column), Assignment::Set(Value::Null));
    let operation = Operation::Update(columns.iter().map(set).collect());
    let change = RowChange::plain(TableIndex(0), vec![Value::Integer(1)], operation);
    Body { changes: vec![change], ..Body::default() }
}

#[test]
fn columns_must_ascend_on_both_sides() {
    assert!(encode(&update(&[1, 2])).is_ok());
    assert!(matches!(encode(&update(&[2, 1])), Err(EncodeError::Shape(_))));
    assert!(matches!(encode(&update(&[1, 1])), Err(EncodeError::Shape(_))));
    let raw = encode(&update(&[1, 2])).unwrap();
    let place = raw.windows(3).position(|window| window == [0x92, 1, 2]).unwrap();
    for (first, second) in [(2, 1), (1, 1)] {
        let mut wrong = raw.clone();
        wrong[place + 1] = first;
        wrong[place + 2] = second;
        assert!(decode(&wrong, &Limits::default()).is_err());
    }
}

#[test]
fn a_row_needs_an_identity() {
    let change = RowChange::plain(TableIndex(0), Vec::new(), Operation::Delete);
    let body = Body { changes: vec![change], ..Body::default() };
    assert!(matches!(encode(&body), Err(EncodeError::Shape(_))));
}

/// A body of raw elements.
fn raw<T: serde::Serialize>(elements: T) -> Result<Body, DecodeError> {
    decode(&rmp_serde::to_vec(&elements).unwrap(), &Limits::default())
}

#[test]
fn counts_must_match_what_is_there() {
    // head, form (delete), table, columns, rows, key
    assert_eq!(raw((0, 2, 0, (), 1, 7)).unwrap().changes.len(), 1);
    for rows in [0, 2, 1_000, u64::from(u32::MAX), u64::MAX] {
        assert!(raw((0, 2, 0, (), rows, 7)).is_err(), "{rows}");
    }
    // An insert of 2^32 - 1 columns; a forgotten row with columns; a key of many.
    assert!(raw((0, 0, 0, u32::MAX, 1, 7)).is_err());
    assert_eq!(raw((0, 3, 0, (), 1, 7)).unwrap().changes.len(), 1);
    assert!(raw((0, 3, 0, 1, 1, 7)).is_err());
    assert!(raw((0, 8 * 70_000 + 2, 0, (), 1, 7)).is_err());
    assert!(raw((0, u32::MAX - 1, 0, (), 1, 7)).is_err());
}

#[test]
fn unknown_things_are_refused() {
    let extras =
        |stamps: Option<[i64; 1]>, births: Option<[(u32, i64); 1]>, rules: Option<[u32; 2]>| {
            raw((0, 6, 0, (), 1, (stamps, births, (), rules, ()), 7))
        };
    assert!(extras(Some([5]), None, Some([0, 1])).is_ok());
    let above = i64::MIN; // 2^63, as a difference
    assert!(extras(Some([above]), None, None).is_err(), "a stamp above the ceiling");
    assert!(extras(Some([-1]), None, None).is_err(), "a stamp below 0");
    assert!(extras(None, Some([(0, 5)]), None).is_err(), "a site that is not listed");
    assert!(extras(None, None, Some([0, 8])).is_err(), "a rule without name");
    assert!(raw((Sequence(0), 2, 0, (), 1, f64::MAX)).is_ok());
    assert!(raw((0, 2, 0, (), 1, (5_u8, 1))).is_err(), "a decimal of five places");
    assert!(raw((0, 2, 0, (), 1, (1_u8, i64::MAX))).is_err(), "a decimal beyond 2^53");
    assert!(raw((0, 2, 0, (), 1, u64::MAX)).is_err(), "an integer beyond 63 bits");
    assert!(raw((0, 2, 0, (), 1, true)).is_err(), "a boolean");
    assert!(raw((u64::MAX, 2, 0, (), 1, 7)).is_err(), "a sequence above the ceiling");
}

#[test]
fn a_rule_list_is_not_multiplied_beyond_bounds() {
    // A small group that names many rules for many rows would need gigabytes.
    let rules: Vec<u32> = (0..32_000).flat_map(|column| [column, 1]).collect();
    let mut bytes = vec![0xdc, 0xff, 0xff, 0, 6, 0, 0xc0, 0xcd, 0xff, 0xf9];
    bytes.extend(rmp_serde::to_vec(&((), (), (), rules, ())).unwrap());
    bytes.extend(vec![0; 0xfff9]);
    let error = decode(&bytes, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("more values"), "{error}");
}

#[test]
fn deep_nesting_is_an_error() {
    for nested in [0x91, 0x81, 0xc7, 0xdc] {
        let deep = vec![nested; 100_000];
        assert!(decode(&deep, &Limits::default()).is_err());
        assert!(Header::read(&deep).is_err());
        assert!(read::<Schema>("schema", &deep).is_err());
        assert!(read::<Value>("value", &deep).is_err());
    }
}
