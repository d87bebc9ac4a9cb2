//! One of everything that has bytes, with every feature: what the golden fixtures hold.
#![allow(dead_code, reason = "each test uses its part of it")]

use conflict::{Rule, SiteId, Timestamp, Value, Version, WallTime};
use protocol::change::{Assignment, Body, Operation, RowChange, SchemaReference};
use protocol::invitation::{Invitation, InvitationId, Secret};
use protocol::membership::{
    Admission, Contact, Founding, Handover, Membership, Record, Residues, SignedRecord,
};
use protocol::schema::{
    ColumnIndex, ObjectKind, RowIdentity, Schema, SchemaObject, Table, TableIndex,
};
use protocol::snapshot::ChunkInfo;
use protocol::{
    BranchId, ChainHash, DatabaseId, Epoch, Flight, Frame, GroupId, Manifest, Meta, Mode, Opening,
    Parent, Sequence, SignedManifest, SignedOpening, SigningKey,
};
use uuid::Uuid;

pub fn key() -> SigningKey {
    SigningKey::from_seed([42; 32])
}

fn stamp(number: u64) -> Timestamp {
    Timestamp::try_from(number).unwrap()
}

fn site(byte: u8) -> SiteId {
    SiteId::from_bytes([byte; 16])
}

fn version(number: u64, byte: u8) -> Version {
    Version { timestamp: stamp(number), origin: site(byte) }
}

pub fn openings() -> Vec<(&'static str, SignedOpening)> {
    let first = Opening {
        database: DatabaseId(Uuid::from_bytes([1; 16])),
        name: "pos".parse().unwrap(),
        mode: Mode::Mirror,
        origin: site(2),
        epoch: Epoch(1),
        parent: None,
        base: true,
        opened: WallTime(1_790_000_000_000),
    };
    let next = Opening {
        name: "a-name-of-the-greatest-length-0".parse().unwrap(),
        mode: Mode::Shared,
        epoch: Epoch(i64::MAX as u64),
        parent: Some(Parent {
            branch: BranchId([3; 32]),
            sequence: Sequence(70_000),
            hash: ChainHash([4; 32]),
        }),
        base: false,
        opened: WallTime(-1),
        ..first.clone()
    };
    [("opening", first), ("opening-continues", next)]
        .map(|(name, opening)| (name, SignedOpening::open(opening, &key()).unwrap()))
        .into()
}

pub fn schema() -> Schema {
    let object = |kind, name: &str, table: &str, sql: &str| SchemaObject {
        kind,
        name: name.into(),
        table: table.into(),
        sql: sql.into(),
    };
    let table = |name: &str, columns: &[&str], identity| Table {
        name: name.into(),
        columns: columns.iter().map(|column| (*column).into()).collect(),
        identity,
    };
    Schema {
        tables: vec![
            table("Artikel", &["nr", "größe", "preis"], RowIdentity::Key(vec![ColumnIndex(0)])),
            table("log", &["line"], RowIdentity::Rowid("_rowid_".into())),
        ],
        objects: vec![
            object(
                ObjectKind::Table,
                "Artikel",
                "Artikel",
                "CREATE TABLE Artikel (nr, größe, preis)",
            ),
            object(ObjectKind::Index, "i", "Artikel", "CREATE INDEX i ON Artikel (preis)"),
            object(ObjectKind::View, "v", "v", "CREATE VIEW v AS SELECT 1"),
            object(
                ObjectKind::Trigger,
                "t",
                "log",
                "CREATE TRIGGER t AFTER INSERT ON log BEGIN SELECT 1; END",
            ),
        ],
        user_version: 7,
        application_id: -1,
    }
}

fn insert(table: u32, key: Vec<Value>, values: Vec<Value>) -> RowChange {
    RowChange::plain(TableIndex(table), key, Operation::Insert(values))
}

fn int(integer: i64) -> Value {
    Value::Integer(integer)
}

/// Every kind of value, and their extremes.
fn extremes() -> Body {
    let values = [
        Value::Null,
        int(0),
        int(i64::MIN),
        int(i64::MAX),
        int(-1),
        Value::Real(0.0),
        Value::Real(-0.0),
        Value::Real(19.99),
        int(5),
        Value::Real(0.0001),
        Value::Real(-123_456.5),
        Value::Real(9_007_199_254_740_992.0),
        Value::Real(0.1 + 0.2),
        Value::Real(f64::MAX),
        Value::Real(5e-324),
        Value::Real(f64::INFINITY),
        Value::Real(f64::NEG_INFINITY),
        Value::Real(f64::NAN),
        Value::text(""),
        Value::text("NUL \0 and ü"),
        Value::Text(vec![0xff, 0xfe, b'a']),
        Value::Blob(Vec::new()),
        Value::Blob((0..=255).collect()),
    ];
    let rows = values.into_iter().enumerate();
    Body {
        schema: SchemaReference::At(Sequence(1)),
        changes: rows.map(|(key, value)| insert(0, vec![int(key as i64)], vec![value])).collect(),
        ..Body::default()
    }
}

/// All that only shared mode has.
fn shared() -> Body {
    let counted = RowChange {
        rules: vec![(ColumnIndex(1), Rule::Counter)],
        ..RowChange::plain(
            TableIndex(0),
            vec![int(20), Value::text("second key column")],
            Operation::Update(vec![
                (ColumnIndex(1), Assignment::Add(int(-3))),
                (ColumnIndex(2), Assignment::Set(Value::Real(2.5))),
            ]),
        )
    };
    let child = RowChange {
        stamp: Some(Timestamp::MAX),
        birth: Some(version(900, 9)),
        references: vec![(ColumnIndex(0), version(1 << 60, 9)), (ColumnIndex(4), version(0, 8))],
        rules: vec![(ColumnIndex(0), Rule::FirstWriter), (ColumnIndex(3), Rule::Local)],
        ..insert(1, vec![int(7)], vec![int(1), Value::Null])
    };
    Body {
        dependencies: vec![
            (BranchId([5; 32]), Sequence(12)),
            (BranchId([6; 32]), Sequence(i64::MAX as u64)),
        ],
        schema: SchemaReference::At(Sequence(300)),
        cleared: Vec::new(),
        changes: vec![
            RowChange { key: vec![int(19), Value::Null], ..counted.clone() },
            counted,
            child.clone(),
            RowChange { stamp: None, birth: None, key: vec![int(8)], ..child },
            RowChange {
                stamp: Some(stamp(5)),
                ..RowChange::plain(TableIndex(2), vec![Value::Blob(vec![1])], Operation::Delete)
            },
        ],
    }
}

pub fn batches() -> Vec<(&'static str, Meta, Body)> {
    let meta = |sequence, timestamp| Meta {
        sequence: Sequence(sequence),
        timestamp: stamp(timestamp),
        more: false,
        last: false,
    };
    let deletes = |keys: std::ops::Range<i64>| {
        keys.map(|key| RowChange::plain(TableIndex(1), vec![int(key)], Operation::Delete)).collect()
    };
    vec![
        (
            "batch-schema",
            Meta { more: true, ..meta(1, 290_000_000_000_000_000) },
            Body { schema: SchemaReference::Here(Box::new(schema())), ..Body::default() },
        ),
        ("batch-values", meta(2, 290_000_000_000_000_001), extremes()),
        (
            "batch-cleared",
            Meta { last: true, ..meta(3, 290_000_000_000_000_002) },
            Body {
                schema: SchemaReference::At(Sequence(1)),
                cleared: vec![TableIndex(1), TableIndex(0)],
                changes: deletes(0..300),
                ..Body::default()
            },
        ),
        ("batch-shared", meta(i64::MAX as u64, Timestamp::MAX.as_u64()), shared()),
        ("batch-empty", meta(1, 0), Body::default()),
        (
            "batch-forgotten",
            meta(4, 290_000_000_000_000_003),
            Body {
                dependencies: vec![(openings()[0].1.id(), Sequence(9))],
                schema: SchemaReference::At(Sequence(1)),
                changes: (1..4)
                    .map(|key| RowChange {
                        birth: (key > 2).then(|| Version {
                            timestamp: stamp(7),
                            origin: SiteId::from_bytes([1; 16]),
                        }),
                        ..RowChange::plain(TableIndex(1), vec![int(key)], Operation::Forget)
                    })
                    .collect(),
                ..Body::default()
            },
        ),
    ]
}

pub fn flight() -> Flight {
    let branch = openings()[0].1.id();
    let frames = batches().iter().take(3).map(|(_, m, b)| Frame::encode(m, b).unwrap()).collect();
    Flight::close(branch, Sequence(1), frames, ChainHash::start(branch), &key()).unwrap()
}

pub fn chunk() -> Body {
    let row = |key| insert(0, vec![int(key)], vec![Value::text("Größe L"), Value::Real(9.9)]);
    Body { changes: (1..100).map(row).collect(), ..Body::default() }
}

pub fn manifest() -> SignedManifest {
    let manifest = Manifest {
        branch: openings()[0].1.id(),
        sequence: Sequence(9),
        hash: ChainHash([7; 32]),
        schema: schema(),
        rows: 99,
        chunks: vec![
            ChunkInfo { hash: [8; 32], bytes: 1 },
            ChunkInfo { hash: [9; 32], bytes: u32::MAX },
        ],
    };
    SignedManifest::sign(manifest, &key()).unwrap()
}

/// The group that [`member_records`] found.
pub fn group() -> GroupId {
    membership().group()
}

fn membership() -> Membership {
    let founding = Founding {
        site: SiteId::from_bytes([1; 16]),
        name: "downtown".parse().unwrap(),
        key: key().public(),
        founded: WallTime(1_790_000_000_000),
    };
    Membership::found(founding, &key()).unwrap()
}

/// A founding, an admission by the founder, how the founder is reached, and what it hands over.
pub fn member_records() -> Vec<SignedRecord> {
    let membership = membership();
    let mut records: Vec<SignedRecord> = membership.records().cloned().collect();
    let admission = Record::Admission(Admission {
        group: membership.group(),
        site: SiteId::from_bytes([2; 16]),
        name: "uptown".parse().unwrap(),
        key: SigningKey::from_seed([2; 32]).public(),
        residues: Residues::ALL.split(2).1,
        inviter: SiteId::from_bytes([1; 16]),
        admitted: WallTime(1_790_000_060_000),
    });
    let contact = Record::Contact(Contact {
        group: membership.group(),
        site: SiteId::from_bytes([1; 16]),
        addresses: vec!["downtown.example.org:4433".into()],
        number: 1,
    });
    let handover = Record::Handover(Handover {
        group: membership.group(),
        from: SiteId::from_bytes([1; 16]),
        to: SiteId::from_bytes([2; 16]),
        residues: Residues::ALL.split(2).0.split(8).1,
        handed: WallTime(1_790_000_120_000),
    });
    for record in [admission, contact, handover] {
        records.push(SignedRecord::sign(&record, &key()).unwrap());
    }
    records
}

/// What [`CODE`] says.
pub fn invitation() -> Invitation {
    Invitation {
        group: group(),
        inviter: key().public(),
        id: InvitationId([3; 8]),
        secret: Secret([4; 16]),
        addresses: vec!["downtown.example.org:4433".into(), "[2001:db8::1]:4433".into()],
    }
}
