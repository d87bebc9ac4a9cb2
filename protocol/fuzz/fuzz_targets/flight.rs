//! A flight and the headers of its batches. Nothing that arrives may panic or fill the memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(flight) = protocol::Flight::decode(data) {
        let previous = protocol::ChainHash::start(flight.branch);
        let key = protocol::PublicKey([0; 32]);
        let _ = flight.verify(previous, &key, &protocol::limits::Limits::default());
    }
});
