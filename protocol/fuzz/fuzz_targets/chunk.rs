//! A chunk of a snapshot. Nothing that arrives may panic or fill the memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = protocol::snapshot::decode_chunk(data, &protocol::limits::Limits::default());
});
