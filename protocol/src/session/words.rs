//! What a session and its owner say to each other: channels, how far this site is, what happened,
//! and why a connection must end. What is done with it is the session's.

use crate::branch::SignedOpening;
use crate::flight::Flight;
use crate::membership::SignedRecord;
use crate::message::{Chunk, Fork, Hello, Holding, MessageError, Report, VERSION, WantChunks};
use crate::snapshot::SignedManifest;
use crate::{BranchId, Sequence};
use conflict::WallTime;
use std::sync::Arc;
use thiserror::Error;

/// The streams of a connection, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// Messages.
    Control,
    /// Flights that were just closed.
    Live,
    /// Flights that the other missed.
    CatchUp,
    /// Chunks of bases.
    Snapshot,
}

impl Channel {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Live, Self::CatchUp, Self::Snapshot];
}

/// How far this site is in a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalBranch {
    /// The opening record, for a peer that does not know the branch.
    pub opening: Arc<SignedOpening>,
    /// How far it is here.
    pub holding: Holding,
    /// The highest sequence that a signature held here covers: what can be served.
    pub servable: Sequence,
}

/// What happened, for the owner to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer said who it is. Comes first.
    Hello(Hello),
    /// Member records came.
    Members(Vec<SignedRecord>),
    /// Openings of branches that this site may not know came.
    Openings(Vec<SignedOpening>),
    /// The peer said how far it is. Its whole vector comes first, closed by [`Event::Vector`].
    Peer(Holding),
    /// The peer's whole vector is known now.
    Vector,
    /// The peer said how far a third site is.
    Report(Report),
    /// Batches came that were asked for.
    Flight(Flight),
    /// The next batches for the peer are to be read: answer with [`Session::supply_flight`](super::Session::supply_flight).
    ReadFlight {
        /// The branch.
        branch: BranchId,
        /// The first batch is the one after this.
        after: Sequence,
    },
    /// The base of a branch is asked for: answer with [`Session::supply_base`](super::Session::supply_base).
    ReadManifest(BranchId),
    /// Chunks are asked for: answer each with [`Session::supply_base`](super::Session::supply_base).
    ReadChunks(WantChunks),
    /// The base of a branch came.
    Manifest(SignedManifest),
    /// A chunk came.
    Chunk(Chunk),
    /// The peer holds another batch than this site under one sequence.
    Fork(Fork),
    /// What the peer's clock says.
    Time(WallTime),
    /// The peer said with whom it is connected: [`Session::peer_links`](super::Session::peer_links).
    Links,
}

/// Why a connection must end: the peer broke the protocol, or can't be talked to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// It speaks other versions.
    #[error("the peer speaks protocol versions {least} to {greatest}, this program {VERSION}")]
    Version {
        /// The least that the peer speaks.
        least: u16,
        /// The greatest that it speaks.
        greatest: u16,
    },
    /// It belongs to another group.
    #[error("the peer belongs to another group")]
    OtherGroup,
    /// It says that it is another site than its key.
    #[error("the peer names itself as another site than its key says")]
    OtherSite,
    /// It said something before its hello, or two hellos.
    #[error("the peer spoke out of turn")]
    OutOfTurn,
    /// It speaks of more branches than any site has.
    #[error("the peer speaks of too many branches")]
    TooManyBranches,
    /// It sent something unreadable.
    #[error("the peer sent something unreadable: {0}")]
    Unreadable(String),
}

impl From<MessageError> for SessionError {
    fn from(error: MessageError) -> Self {
        Self::Unreadable(error.to_string())
    }
}
