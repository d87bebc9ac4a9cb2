//! QUIC between two sites: who the other is, frames in order on channels of their own priority,
//! and why a link ended. It knows nothing of what the frames say; the session does.
//!
//! An [`Endpoint`] is this site's socket. [`Link::dial`] reaches out to a pinned key;
//! [`Endpoint::accept`] yields whoever comes, and the caller admits or refuses their key.
//!
//! Not here: names and look-ups, when to dial again, which of two links is kept.

mod endpoint;
mod error;
mod link;
mod streams;
#[cfg(test)]
mod tests;
mod tls;

pub use endpoint::{
    Arriving, Effort, Endpoint, Guest, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE, Settings,
};
pub use error::{CloseCode, LinkError};
pub use link::{Link, LinkStats};
pub use streams::Channel;
pub use tls::peer_key;

/// What a connection is for. Its protocol name (ALPN) says it, with the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Two members of a group.
    Member,
    /// Someone with an invitation, whose key nobody knows yet.
    Join,
}

impl Purpose {
    /// The protocol name offered in the handshake.
    pub const fn protocol(self) -> &'static [u8] {
        match self {
            Self::Member => b"holdfast/1",
            Self::Join => b"holdfast-join/1",
        }
    }
}
