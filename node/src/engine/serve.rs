//! Reading what peers lack: flights, manifests and chunks. Any site that holds them serves them.

use super::{Engine, EngineError};
use crate::snapshot::BaseFile;
use protocol::flight::Flight;
use protocol::limits::FLIGHT_BATCHES;
use protocol::message::{Chunk, WantChunks};
use protocol::snapshot::SignedManifest;
use protocol::{BranchId, Sequence};

/// About how large a flight is: small enough that a live batch waits little behind it, and that
/// little is sent again after a cut.
const FLIGHT_BYTES: usize = 64 << 10;

impl Engine {
    /// The next flight of a branch for a peer that is at `after`.
    ///
    /// # Errors
    /// The store fails.
    pub fn read_flight(
        &self,
        branch: BranchId,
        after: Sequence,
    ) -> Result<Option<Flight>, EngineError> {
        let Some(branch) = self.store.branch(branch)? else { return Ok(None) };
        Ok(self.store.flight_after(&branch, after, FLIGHT_BATCHES, FLIGHT_BYTES)?)
    }

    /// The manifest of a branch's base, if the base is here whole.
    ///
    /// # Errors
    /// The store fails.
    pub fn read_manifest(&self, branch: BranchId) -> Result<Option<SignedManifest>, EngineError> {
        let Some(branch) = self.store.branch(branch)? else { return Ok(None) };
        if !branch.base_held {
            return Ok(None);
        }
        Ok(self.store.manifest(branch.number)?)
    }

    /// One chunk of a base that was asked for.
    ///
    /// # Errors
    /// The store fails.
    pub fn read_chunk(
        &self,
        wanted: &WantChunks,
        index: u32,
    ) -> Result<Option<Chunk>, EngineError> {
        let Some(manifest) = self.read_manifest(wanted.branch)? else { return Ok(None) };
        if manifest.id() != wanted.manifest {
            return Ok(None);
        }
        let file = BaseFile::open(&*self.environment, &self.directory.snapshot(wanted.branch))?;
        Ok(file.chunk(index)?.map(|bytes| Chunk {
            branch: wanted.branch,
            manifest: wanted.manifest,
            index,
            bytes,
        }))
    }
}
