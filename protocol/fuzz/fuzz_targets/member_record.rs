//! A member record, its signature aside. Nothing that arrives may panic or fill the memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let record = protocol::membership::SignedRecord {
        bytes: data.to_vec(),
        signature: protocol::Signature([0; 64]),
    };
    let _ = record.read();
});
