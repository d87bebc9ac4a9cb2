//! The record of every packet that was sent. Two runs of one seed have the same.
//!
//! A packet's content is not in it: keys of a TLS session come from the system's randomness, which
//! nothing but the bytes depends on. Kept is a running hash, and the packets themselves only once
//! somebody asked for them: a run of many days has millions.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

/// A packet as it was sent, whether or not it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When, from the world's begin.
    pub time: Duration,
    /// From where, as others see it.
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

impl Packet {
    /// All of it, in a form of its own length.
    fn bytes(&self) -> [u8; 60] {
        let mut bytes = [0; 60];
        bytes[..16].copy_from_slice(&self.time.as_nanos().to_le_bytes());
        bytes[16..34].copy_from_slice(&address(self.source));
        bytes[34..52].copy_from_slice(&address(self.destination));
        bytes[52..].copy_from_slice(&(self.size as u64).to_le_bytes());
        bytes
    }
}

fn address(address: SocketAddr) -> [u8; 18] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_le_bytes());
    bytes
}

/// All packets of a world, in order.
#[derive(Debug, Default)]
pub struct Trace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    hasher: blake3::Hasher,
    totals: (u64, u64),
    kept: Option<Vec<Packet>>,
}

impl Trace {
    /// Notes a packet.
    pub fn record(&self, packet: &Packet) {
        let mut state = self.0.lock().unwrap();
        state.hasher.update(&packet.bytes());
        state.totals.0 += 1;
        state.totals.1 += packet.size as u64;
        if let Some(kept) = &mut state.kept {
            kept.push(*packet);
        }
    }

    /// Keeps the packets themselves from now on.
    pub fn keep(&self) {
        self.0.lock().unwrap().kept.get_or_insert_default();
    }

    /// How many packets and bytes of payload there were.
    pub fn totals(&self) -> (u64, u64) {
        self.0.lock().unwrap().totals
    }

    /// All packets since [`Trace::keep`]; none without it.
    pub fn packets(&self) -> Vec<Packet> {
        self.0.lock().unwrap().kept.clone().unwrap_or_default()
    }

    /// The hash of all packets so far.
    pub fn hash(&self) -> blake3::Hash {
        self.0.lock().unwrap().hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(size: usize) -> Packet {
        let source = "10.0.0.1:4433".parse().unwrap();
        let destination = "10.0.0.2:4433".parse().unwrap();
        Packet { time: Duration::from_millis(5), source, destination, size }
    }

    #[test]
    fn every_part_of_a_packet_counts_and_the_list_is_kept_on_demand() {
        let (one, two) = (Trace::default(), Trace::default());
        one.record(&packet(1));
        two.keep();
        two.record(&packet(1));
        assert_eq!(one.hash(), two.hash());
        assert_eq!((one.totals(), one.packets()), ((1, 1), vec![]));
        assert_eq!(two.packets(), vec![packet(1)]);
        let other = packet(1);
        let others = [
            Packet { time: Duration::from_millis(6), ..other },
            Packet { source: other.destination, ..other },
            Packet { destination: other.source, ..other },
            packet(2),
        ];
        for other in others {
            let trace = Trace::default();
            trace.record(&other);
            assert_ne!(trace.hash(), one.hash(), "{other}");
        }
    }
}
