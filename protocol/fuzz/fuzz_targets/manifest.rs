//! A signed manifest. Whatever arrives, no panic and no memory beyond what arrived.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = protocol::SignedManifest::decode(data);
});
