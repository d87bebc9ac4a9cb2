//! Bases: loaded in chunks, interrupted, gone on with, and followed by batches.

use super::world::{BRANCH, DATABASE, Files, Origin, Pair, cut};
use crate::apply::{ApplyError, BaseLoader, Incoming, Marker, Mirror, Progress};
use crate::demo::compare::compare;
use crate::demo::shop::Shop;
use crate::environment::Environment;
use conflict::Timestamp;
use protocol::Sequence;
use std::path::Path;

const MANIFEST: [u8; 32] = [1; 32];

/// A shop at sequence 1 and its content in chunks.
fn shop(directory: &Path) -> (Origin, Vec<Incoming>, Marker) {
    let mut origin = Origin::new(directory.join("origin.db"));
    let mut shop = Shop::create(&mut origin.connection, 11, 60).unwrap();
    shop.sell(&mut origin.connection).unwrap();
    let chunks = cut(origin.harvest(), 100);
    let marker = Marker {
        database_id: DATABASE,
        branch: BRANCH,
        sequence: Sequence(1),
        timestamp: Timestamp::ZERO,
        schema_at: Sequence(1),
    };
    (origin, chunks, marker)
}

#[test]
fn a_base_is_loaded_over_interruptions_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, chunks, marker) = shop(directory.path());
    let loading = directory.path().join("mirror.db.loading");
    let open = || BaseLoader::open(&Files, &loading, MANIFEST, origin.schema.clone()).unwrap();
    assert!(chunks.len() > 5);
    for (number, chunk) in (0..).zip(&chunks) {
        // Each chunk in a process of its own, which ends without closing, having got it twice.
        let mut loader = open();
        assert_eq!(loader.progress(), Progress::Chunk(number));
        assert!(matches!(loader.load(number + 1, &chunk.body), Err(ApplyError::Gap { .. })));
        loader.load(number, &chunk.body).unwrap();
        loader.load(number, &chunk.body).unwrap();
    }
    let mut loader = open();
    assert_eq!(loader.finish(&marker).unwrap(), Vec::new());
    drop(loader);
    let loader = open();
    assert_eq!(loader.progress(), Progress::Finished);
    loader.close().unwrap();
    assert!(!directory.path().join("mirror.db.loading-wal").exists());

    let path = directory.path().join("mirror.db");
    Files.rename(&loading, &path).unwrap();
    let comparison = compare(&origin.path, &path).unwrap();
    assert!(comparison.identical(), "{:#?}", comparison.differences);
    let mirror = Mirror::open(&Files, &path).unwrap();
    assert_eq!(mirror.marker(), Some(&marker));
    let mut pair = Pair { origin, mirror, path, directory };
    pair.step("UPDATE products SET price_cents = price_cents + 1; DELETE FROM orders WHERE id < 9");
    pair.step("ALTER TABLE products ADD COLUMN shelf TEXT");
}

#[test]
fn chunks_of_two_manifests_never_mix() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, chunks, marker) = shop(directory.path());
    let path = directory.path().join("mirror.db");
    let open = |manifest| BaseLoader::open(&Files, &path, manifest, origin.schema.clone()).unwrap();
    let mut loader = open([2; 32]);
    loader.load(0, &chunks[1].body).unwrap();
    drop(loader);
    let mut loader = open(MANIFEST);
    assert_eq!(loader.progress(), Progress::Chunk(0));
    for (number, chunk) in (0..).zip(&chunks) {
        loader.load(number, &chunk.body).unwrap();
    }
    loader.finish(&marker).unwrap();
    loader.close().unwrap();
    assert!(compare(&origin.path, &path).unwrap().identical());
}
