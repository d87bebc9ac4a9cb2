//! The record of every packet that was sent. Two runs of one seed have the same.
//!
//! A packet's content is not in it: keys of a TLS session come from the system's randomness, which
//! nothing but the bytes depends on.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

/// A packet as it was sent, whether or not it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When, from the world's begin.
    pub time: Duration,
    /// From where.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
    /// Bytes of payload, without the headers of IP and UDP.
    pub size: usize,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, source, destination, size } = self;
        write!(f, "{:>12.6} {source} -> {destination} {size}", time.as_secs_f64())
    }
}

/// All packets of a world, in order.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Vec<Packet>>);

impl Trace {
    /// Notes a packet.
    pub fn record(&self, packet: Packet) {
        self.0.lock().unwrap().push(packet);
    }

    /// How many packets and bytes of payload there were.
    pub fn totals(&self) -> (u64, u64) {
        let packets = self.0.lock().unwrap();
        (packets.len() as u64, packets.iter().map(|packet| packet.size as u64).sum())
    }

    /// All packets so far.
    pub fn packets(&self) -> Vec<Packet> {
        self.0.lock().unwrap().clone()
    }

    /// The hash of them all.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for packet in self.0.lock().unwrap().iter() {
            hasher.update(packet.to_string().as_bytes()).update(b"\n");
        }
        hasher.finalize()
    }
}
