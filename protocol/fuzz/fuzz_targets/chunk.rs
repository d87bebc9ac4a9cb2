//! A chunk of a snapshot. Whatever arrives, no panic and no memory beyond what arrived.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = protocol::snapshot::decode_chunk(data, &protocol::limits::Limits::default());
});
