//! Why a link did not come about or ended, in plain words. What to do about it is the caller's.

use data_encoding::HEXLOWER;
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use std::net::SocketAddr;
use std::time::Duration;

/// Why one side closes a link on purpose. On the wire: the QUIC application error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// Nothing is wrong: the site stops, or needs the link no more. 0.
    Done,
    /// The other's key is not, or no longer, welcome. 1.
    Refused,
    /// The other sent what no correct node sends. 2.
    Malformed,
    /// Another link to the same site is kept. 3.
    Superseded,
    /// A code of a newer version.
    Other(u32),
}

impl CloseCode {
    pub(super) fn to_wire(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Malformed => 2,
            Self::Superseded => 3,
            Self::Other(code) => code,
        })
    }

    fn from_wire(code: VarInt) -> Self {
        match code.into_inner() {
            0 => Self::Done,
            1 => Self::Refused,
            2 => Self::Malformed,
            3 => Self::Superseded,
            other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
        }
    }
}

/// Why a link did not come about, ended, or did not take a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// This machine has no way to the address.
    #[error("{address} can't be reached from this machine: {reason}")]
    Unreachable {
        /// Where it would have been.
        address: SocketAddr,
        /// What the network says.
        reason: String,
    },
    /// Nothing came back, or not enough in time.
    #[error("no answer from {address} within {} s", .waited.as_secs())]
    NoAnswer {
        /// Who was asked, or who began and did not go on.
        address: SocketAddr,
        /// How long was waited.
        waited: Duration,
    },
    /// Another site than the expected one answers.
    #[error(
        "{address} answers with another key than expected: {}, not {}",
        HEXLOWER.encode(found), HEXLOWER.encode(expected)
    )]
    WrongKey {
        /// Who answers.
        address: SocketAddr,
        /// The pinned key.
        expected: [u8; 32],
        /// The key that it holds.
        found: [u8; 32],
    },
    /// The two sides speak no common version, or the other is no Holdfast.
    #[error("the other side speaks no version of the protocol that this one knows")]
    WrongVersion,
    /// The handshake failed otherwise.
    #[error("the handshake failed: {reason}")]
    Handshake {
        /// What TLS says.
        reason: String,
    },
    /// The other side takes no more connections just now.
    #[error("the other side is too busy to take a connection")]
    Busy,
    /// The other side does not welcome this site's key.
    #[error("the other side refused this site: {reason}")]
    Refused {
        /// Its reason.
        reason: String,
    },
    /// The other side closed the link.
    #[error("the other side closed the link: {reason}")]
    Closed {
        /// Why, for programs.
        code: CloseCode,
        /// Why, for people.
        reason: String,
    },
    /// This side closed the link.
    #[error("this side closed the link: {reason}")]
    ClosedHere {
        /// Why, for programs.
        code: CloseCode,
        /// Why, for people.
        reason: String,
    },
    /// Nothing was heard for the idle timeout: the line is cut or the other side gone.
    #[error("the other side fell silent")]
    Silent,
    /// The other side knows nothing of this link any more: it was started anew.
    #[error("the other side was restarted")]
    Restarted,
    /// The other side broke the rules of QUIC, or this side failed.
    #[error("the link broke: {reason}")]
    Broken {
        /// What QUIC says.
        reason: String,
    },
    /// A frame is too large for its channel; the link goes on.
    #[error("a frame of {length} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Bytes of the frame.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// This site can't speak QUIC at all: no socket, or no key.
    #[error("this site can't listen: {reason}")]
    Listen {
        /// What failed.
        reason: String,
    },
}

/// TLS alert `no_application_protocol`, as QUIC carries it.
fn is_wrong_version(code: TransportErrorCode) -> bool {
    code == TransportErrorCode::crypto(120)
}

impl LinkError {
    /// What a connection's error means while the handshake is not done.
    pub(super) fn in_handshake(error: ConnectionError) -> Self {
        match Self::from(error) {
            Self::Broken { reason } => Self::Handshake { reason },
            error => error,
        }
    }
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::VersionMismatch => Self::WrongVersion,
            ConnectionError::TransportError(error) if is_wrong_version(error.code) => {
                Self::WrongVersion
            }
            ConnectionError::TransportError(error) => Self::Broken { reason: error.to_string() },
            ConnectionError::ConnectionClosed(close) if is_wrong_version(close.error_code) => {
                Self::WrongVersion
            }
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                Self::Busy
            }
            ConnectionError::ConnectionClosed(close) => Self::Broken { reason: close.to_string() },
            ConnectionError::ApplicationClosed(close) => {
                let reason = String::from_utf8_lossy(&close.reason).into_owned();
                match CloseCode::from_wire(close.error_code) {
                    CloseCode::Refused => Self::Refused { reason },
                    code => Self::Closed { code, reason },
                }
            }
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::LocallyClosed => {
                Self::ClosedHere { code: CloseCode::Done, reason: "the site stops".to_owned() }
            }
            ConnectionError::CidsExhausted => Self::Broken { reason: error.to_string() },
        }
    }
}
