//! An invitation code. Nothing that arrives may panic or fill the memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(code) = std::str::from_utf8(data) {
        let _ = code.parse::<protocol::invitation::Invitation>();
    }
});
