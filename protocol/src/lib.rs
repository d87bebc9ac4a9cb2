//! What Holdfast sites say to each other: changes, batches, branches, messages and the session.
//!
//! This crate is sans-I/O: it is handed the time and the bytes that arrived, and returns what to
//! send and what happened. It knows no socket, no task, no database, no clock. `WIRE.md` beside
//! it draws the bytes.

pub mod batch;
pub mod branch;
pub mod chain;
pub mod change;
pub mod codec;
pub mod flight;
pub mod identity;
pub mod invitation;
pub mod keys;
pub mod limits;
pub mod membership;
pub mod message;
pub mod name;
pub mod schema;
pub mod session;
pub mod snapshot;

pub use batch::{Frame, Header, Meta};
pub use branch::{Mode, Opening, Parent, SignedOpening};
pub use codec::{DecodeError, EncodeError};
pub use flight::{Flight, FlightError};
pub use identity::{BranchId, ChainHash, DatabaseId, Epoch, GroupId, Sequence};
pub use keys::{BadSignature, Domain, PublicKey, Signature, SigningKey};
pub use name::{Name, NameError};
pub use snapshot::{Manifest, ManifestId, SignedManifest};
