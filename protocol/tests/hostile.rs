//! What a hostile or broken peer may send costs little and breaks nothing: memory is measured.
#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(unsafe_code)]

mod samples;

use protocol::limits::{self, Limits};
use protocol::snapshot::{ChunkInfo, decode_chunk, encode_chunk, verify_chunk};
use protocol::{
    ChainHash, DecodeError, Flight, FlightError, Frame, Header, Sequence, SignedManifest,
    SignedOpening, codec,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what each thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // At a thread's end its counters are gone: nothing is measured there.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that `work` held at once, and its result.
fn measured<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    ((MOST.get() - before) as usize, result)
}

/// A batch with a body as it is, of any claimed length.
fn batch(dictionary: u8, raw_length: u32, changes: u32, body: &[u8]) -> Vec<u8> {
    rmp_serde::to_vec(&(1, 0, 1, 0, changes, dictionary, raw_length, serde_bytes::Bytes::new(body)))
        .unwrap()
}

/// One zstd frame as batches have them: blocks of one byte repeated 128 kB times.
fn bomb(kilobytes: usize) -> Vec<u8> {
    let blocks = kilobytes / 128;
    let mut frame = vec![0x00, 0x40];
    for block in 1..=blocks {
        let header = (128 << 10) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn a_bomb_costs_no_more_than_it_admits() {
    let body = bomb(64 << 10);
    assert!(body.len() < 3_000);
    // It says less than it is: reading stops there.
    let frame = batch(1, 1_000, 1, &body);
    let (most, result) = measured(|| Frame::decode_body(&frame, &Limits::default()));
    assert!(result.is_err());
    assert!(most < 1 << 20, "{most}");
    // It admits to more than allowed: not even begun.
    let strict = Limits { raw_body: 1 << 20, ..Limits::default() };
    let frame = batch(1, 64 << 20, 1, &body);
    let (most, result) = measured(|| Frame::decode_body(&frame, &strict));
    assert!(matches!(result, Err(DecodeError::TooLarge { .. })), "{result:?}");
    assert!(most < 1 << 20, "{most}");
    // It is what it says, and all that is read must be a body: 64 million zeros are not.
    let (most, result) = measured(|| Frame::decode_body(&frame, &Limits::default()));
    assert!(matches!(result, Err(DecodeError::Malformed { what: "body", .. })), "{result:?}");
    assert!(most < 200 << 20, "{most}");
}

#[test]
fn a_claimed_length_is_not_believed() {
    let tiny = Frame::encode(&samples::batches()[1].1, &samples::batches()[1].2).unwrap();
    let length = Header::body_length(tiny.as_bytes()).unwrap();
    let body = &tiny.as_bytes()[tiny.as_bytes().len() - length..];
    for claimed in [u32::MAX, 1 << 31, limits::RAW_BODY as u32] {
        let frame = batch(1, claimed, 23, body);
        let (most, result) = measured(|| Frame::decode_body(&frame, &Limits::default()));
        assert!(result.is_err());
        assert!(most < 1 << 20, "{claimed}: {most}");
    }
    // Arrays, texts, bytes, maps and extensions of 2^32 - 1, alone and inside a body.
    for marker in [0xdd, 0xdb, 0xc6, 0xdf, 0xc9] {
        let claim = [marker, 0xff, 0xff, 0xff, 0xff];
        for prefix in [&[][..], &[0x9f], &[0x9f, 0], &[0x9f, 0, 0, 0, 1, 1], &[0x91, 0x94, 0]] {
            let raw = [prefix, &claim].concat();
            let (most, result) = measured(|| codec::decode(&raw, &Limits::default()));
            assert!(result.is_err(), "{raw:02x?}");
            assert!(most < 100_000, "{raw:02x?}: {most}");
        }
        let (most, _) = measured(|| {
            assert!(SignedOpening::decode(&claim).is_err());
            assert!(SignedManifest::decode(&claim).is_err());
            assert!(Flight::decode(&claim).is_err());
            assert!(decode_chunk(&claim, &Limits::default()).is_err());
            assert!(Header::read(&claim).is_err());
        });
        assert!(most < 100_000, "{most}");
    }
}

#[test]
fn more_changes_than_allowed_are_refused_before_unpacking() {
    let frame = batch(0, 10, limits::CHANGES as u32 + 1, &[0; 10]);
    assert!(matches!(Header::read(&frame), Err(DecodeError::TooLarge { .. })));
    let strict = Limits { changes: 22, ..Limits::default() };
    let (_, meta, body) = samples::batches().swap_remove(1);
    let frame = Frame::encode(&meta, &body).unwrap();
    assert!(frame.body(&strict).is_err());
    assert!(frame.body(&Limits { changes: 23, ..strict }).is_ok());
    assert!(frame.body(&Limits { changes: 23, values: 45, ..strict }).is_err());
}

#[test]
fn a_batch_has_one_form() {
    let good = batch(0, 2, 0, &[0x91, 0]);
    assert!(Frame::decode_body(&good, &Limits::default()).is_ok());
    for (what, wrong) in [
        ("another number of changes", batch(0, 2, 1, &[0x91, 0])),
        ("another length", batch(0, 3, 0, &[0x91, 0])),
        ("an unknown dictionary", batch(9, 2, 0, &[0x91, 0])),
        ("bytes after it", [&good[..], &[0]].concat()),
        ("an array in another form", [&[0xdc, 0, 8], &good[1..]].concat()),
        ("a number in another form", [&good[..2], &[0xcc, 0], &good[3..]].concat()),
        ("an unknown flag", [&good[..2], &[4], &good[3..]].concat()),
        ("sequence 0", [&good[..3], &[0], &good[4..]].concat()),
        ("another format", [&good[..1], &[2], &good[2..]].concat()),
    ] {
        assert!(Frame::decode_body(&wrong, &Limits::default()).is_err(), "{what}");
    }
}

/// Flips each bit of a small thing, and cuts it off everywhere.
fn damaged(bytes: &[u8], mut check: impl FnMut(&[u8])) {
    for length in 0..bytes.len() {
        check(&bytes[..length]);
    }
    for place in 0..bytes.len() * 8 {
        let mut wrong = bytes.to_vec();
        wrong[place / 8] ^= 1 << (place % 8);
        check(&wrong);
    }
}

#[test]
fn damage_to_signed_things_is_found() {
    let key = samples::key().public();
    for (name, opening) in samples::openings() {
        damaged(&opening.encode().unwrap(), |wrong| {
            let found = SignedOpening::decode(wrong).map(|opening| opening.verify(&key));
            assert!(!matches!(found, Ok(Ok(()))), "{name}");
        });
    }
    damaged(&samples::manifest().encode().unwrap(), |wrong| {
        let found = SignedManifest::decode(wrong).map(|manifest| manifest.verify(&key));
        assert!(!matches!(found, Ok(Ok(()))));
    });
    let flight = samples::flight();
    let previous = ChainHash::start(flight.branch);
    damaged(&flight.encode().unwrap(), |wrong| {
        let verify = |flight: Flight| flight.verify(previous, &key, &Limits::default());
        assert!(!matches!(Flight::decode(wrong).map(verify), Ok(Ok(_))));
    });
}

#[test]
fn damage_to_batches_and_chunks_costs_little() {
    let frames = samples::batches();
    let frames = frames.iter().map(|(_, meta, body)| Frame::encode(meta, body).unwrap());
    for frame in frames {
        damaged(frame.as_bytes(), |wrong| {
            let (most, _) = measured(|| Frame::decode_body(wrong, &Limits::default()));
            assert!(most < 64 << 20, "{most}");
        });
    }
    let (info, chunk) = encode_chunk(&samples::chunk()).unwrap();
    verify_chunk(&info, &chunk).unwrap();
    damaged(&chunk, |wrong| {
        verify_chunk(&info, wrong).unwrap_err();
        let (most, _) = measured(|| decode_chunk(wrong, &Limits::default()));
        assert!(most < 64 << 20, "{most}");
    });
    verify_chunk(&ChunkInfo { bytes: info.bytes + 1, ..info }, &chunk).unwrap_err();
}

#[test]
fn a_relay_can_not_change_a_flight() {
    let key = samples::key().public();
    let flight = samples::flight();
    let previous = ChainHash::start(flight.branch);
    let limits = Limits::default();
    let verify = |flight: &Flight| flight.verify(previous, &key, &limits);
    assert!(verify(&flight).is_ok());

    let mut shorter = flight.clone();
    shorter.frames.pop();
    assert!(matches!(verify(&shorter), Err(FlightError::Signature(_))));
    let mut swapped = flight.clone();
    swapped.frames.swap(0, 1);
    assert!(matches!(verify(&swapped), Err(FlightError::Gap { .. })));
    let later = Flight { first: Sequence(2), ..flight.clone() };
    assert!(matches!(verify(&later), Err(FlightError::Gap { .. })));
    let empty = Flight { frames: Vec::new(), ..flight.clone() };
    assert!(matches!(verify(&empty), Err(FlightError::Empty)));
    let mut beyond = flight.clone();
    beyond.frames.push(flight.frames[0].clone());
    assert!(matches!(verify(&beyond), Err(FlightError::AfterLast(Sequence(3)))));
    // The same batches after another line, or said of another branch.
    assert!(flight.verify(ChainHash([1; 32]), &key, &limits).is_err());
    let other = Flight { branch: protocol::BranchId([1; 32]), ..flight.clone() };
    assert!(matches!(verify(&other), Err(FlightError::Signature(_))));
    // Sizes: several batches must fit, a single one may be larger.
    let strict = Limits { flight: 10, ..limits };
    assert!(matches!(flight.verify(previous, &key, &strict), Err(FlightError::Decode(_))));
    let one = Flight::close(
        flight.branch,
        Sequence(1),
        vec![flight.frames[0].clone()],
        previous,
        &samples::key(),
    )
    .unwrap();
    assert!(one.verify(previous, &key, &strict).is_ok());
}

#[test]
fn a_chunk_holds_inserts_only() {
    for (_, _, body) in samples::batches().into_iter().take(4) {
        assert!(encode_chunk(&body).is_err());
        let raw = codec::encode(&body).unwrap();
        let length = raw.len() as u32;
        let bytes = rmp_serde::to_vec(&(1, 0, length, serde_bytes::Bytes::new(&raw))).unwrap();
        assert!(decode_chunk(&bytes, &Limits::default()).is_err());
    }
}
