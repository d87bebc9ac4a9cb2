//! A part of a base on the snapshot stream. Nothing that arrives may panic or fill the memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = protocol::message::BasePart::decode(data);
});
