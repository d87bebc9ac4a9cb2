//! What became of packets: how many were sent, and what kept how many from arriving.

use std::ops::AddAssign;

/// What one site sent to another, or all to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets sent, whatever became of them.
    pub packets: u64,
    /// Bytes of their payload.
    pub bytes: u64,
    /// Lost by the line's nature.
    pub lost: u64,
    /// Came twice.
    pub doubled: u64,
    /// Arrive before one that was sent earlier did: that one was overtaken.
    pub overtaken: u64,
    /// Found the queue before a slow line full.
    pub dropped: u64,
    /// Vanished for their size.
    pub too_large: u64,
    /// Ran into a cut, a flap, or a site that is isolated or whose UDP is blocked.
    pub cut: u64,
    /// Came to a NAT that knew of nothing they could belong to.
    pub refused: u64,
    /// Came to an address or a port where nobody is.
    pub nowhere: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self { packets, bytes, lost, doubled, overtaken, dropped, too_large, .. } = other;
        self.packets += packets;
        self.bytes += bytes;
        self.lost += lost;
        self.doubled += doubled;
        self.overtaken += overtaken;
        self.dropped += dropped;
        self.too_large += too_large;
        self.cut += other.cut;
        self.refused += other.refused;
        self.nowhere += other.nowhere;
    }
}
