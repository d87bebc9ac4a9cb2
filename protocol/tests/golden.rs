//! The bytes of format 1, as they were when it was frozen, still mean what they meant.
//!
//! `HOLDFAST_WRITE_FIXTURES=1 cargo test -p protocol --test golden` writes fixtures that are
//! missing. It never changes one that exists: a frozen format gets a successor instead.
#![allow(clippy::unwrap_used, clippy::panic)]

mod samples;

use protocol::invitation::Invitation;
use protocol::limits::Limits;
use protocol::membership::{Membership, SignedRecord};
use protocol::snapshot::{decode_chunk, encode_chunk};
use protocol::{ChainHash, Flight, Frame, SignedManifest, SignedOpening};
use std::fs;
use std::path::Path;

/// The fixture of that name; `now` is what would be written today.
fn fixture(name: &str, now: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/v1/{name}.hex"));
    if !path.exists() && std::env::var_os("HOLDFAST_WRITE_FIXTURES").is_some() {
        let lines: Vec<_> =
            now.chunks(40).map(|line| data_encoding::HEXLOWER.encode(line) + "\n").collect();
        fs::write(&path, lines.concat()).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    data_encoding::HEXLOWER.decode(text.replace('\n', "").as_bytes()).unwrap()
}

#[test]
fn openings() {
    for (name, expected) in samples::openings() {
        let bytes = fixture(name, &expected.encode().unwrap());
        let opening = SignedOpening::decode(&bytes).unwrap();
        assert_eq!(opening, expected, "{name}");
        assert_eq!(opening.encode().unwrap(), bytes, "{name}");
        opening.verify(&samples::key().public()).unwrap();
    }
}

#[test]
fn batches() {
    for (name, meta, expected) in samples::batches() {
        let now = Frame::encode(&meta, &expected).unwrap();
        let frame = Frame::new(fixture(name, now.as_bytes()));
        assert_eq!(frame.header().unwrap().meta, meta, "{name}");
        assert_eq!(frame.body(&Limits::default()).unwrap(), expected, "{name}");
    }
}

/// The signature freezes the hash of the line with it.
#[test]
fn flight() {
    let bytes = fixture("flight", &samples::flight().encode().unwrap());
    let flight = Flight::decode(&bytes).unwrap();
    assert_eq!(flight.encode().unwrap(), bytes);
    let previous = ChainHash::start(flight.branch);
    let limits = Limits::default();
    let hashes = flight.verify(previous, &samples::key().public(), &limits).unwrap();
    assert_eq!(hashes.len(), 3);
    for (frame, (name, _, expected)) in flight.frames.iter().zip(samples::batches()) {
        assert_eq!(frame.body(&limits).unwrap(), expected, "{name}");
    }
}

#[test]
fn manifest() {
    let expected = samples::manifest();
    let bytes = fixture("manifest", &expected.encode().unwrap());
    let manifest = SignedManifest::decode(&bytes).unwrap();
    assert_eq!(manifest, expected);
    assert_eq!(manifest.encode().unwrap(), bytes);
    manifest.verify(&samples::key().public()).unwrap();
}

#[test]
fn chunk() {
    let bytes = fixture("chunk", &encode_chunk(&samples::chunk()).unwrap().1);
    assert_eq!(decode_chunk(&bytes, &Limits::default()).unwrap(), samples::chunk());
}

/// A founding and an admission: the group's id and the members follow from them.
#[test]
fn members() {
    let records = samples::member_records();
    let mut membership = Membership::empty(samples::group());
    for (number, record) in records.iter().enumerate() {
        let now = rmp_serde::to_vec(record).unwrap();
        let bytes = fixture(&format!("member-{number}"), &now);
        let read: SignedRecord = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(read, *record);
        assert_eq!(now, bytes);
        membership.merge(vec![read]).unwrap();
    }
    assert_eq!(membership.members().count(), 2);
}

#[test]
fn invitation() {
    let now = samples::invitation().to_string();
    let code = String::from_utf8(fixture("invitation", now.as_bytes())).unwrap();
    let invitation: Invitation = code.parse().unwrap();
    assert_eq!(invitation, samples::invitation());
    assert_eq!(invitation.to_string(), code);
}
