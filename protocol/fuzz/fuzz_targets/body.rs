//! A body, uncompressed. Whatever arrives, no panic and no memory beyond what arrived.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = protocol::codec::decode(data, &protocol::limits::Limits::default());
});
