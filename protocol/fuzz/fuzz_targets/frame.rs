//! A batch, header and body. Nothing that arrives may panic or fill the memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = protocol::Frame::decode_body(data, &protocol::limits::Limits::default());
});
