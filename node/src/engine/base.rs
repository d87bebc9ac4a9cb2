//! Bases: made at the origin when a database with content is attached, and taken in by the
//! others chunk by chunk. No chunk is kept that its signed manifest does not name.

use super::{Engine, EngineError};
use crate::snapshot::BaseFile;
use crate::store::{StoreError, databases};
use protocol::message::{Chunk, WantChunks};
use protocol::session::LocalBranch;
use protocol::snapshot::{SignedManifest, verify_chunk};
use protocol::{BranchId, Sequence};

/// Chunks asked for at once, up to the next multiple of this: enough to keep a line busy, few
/// enough to hold in memory.
const WINDOW: u32 = 4;

/// What taking in a part of a base came to.
#[derive(Debug)]
pub enum BaseStep {
    /// Chunks are to be asked for.
    Want(WantChunks),
    /// The base is whole and durable here.
    Complete(LocalBranch),
    /// Nothing is to be done.
    Nothing,
    /// The peer sent what the origin never signed.
    Forged(String),
}

impl Engine {
    /// Takes in a manifest from a peer.
    ///
    /// # Errors
    /// The store fails.
    pub fn receive_manifest(&mut self, signed: &SignedManifest) -> Result<BaseStep, EngineError> {
        let manifest = signed.manifest();
        let Some(branch) = self.store.branch(manifest.branch)? else {
            return Ok(BaseStep::Nothing);
        };
        if branch.base_held {
            return Ok(BaseStep::Nothing);
        }
        let Some(origin) = self.membership.member(branch.opening.opening().origin) else {
            return Ok(BaseStep::Nothing);
        };
        if let Err(error) = signed.verify(&origin.key) {
            return Ok(BaseStep::Forged(error.to_string()));
        }
        if manifest.sequence != branch.base {
            return Ok(BaseStep::Forged(
                "the base is of another sequence than its branch's".into(),
            ));
        }
        let known = self.store.manifest(branch.number)?;
        if known.is_none_or(|known| known.id() != signed.id()) {
            // Chunks of two manifests never mix.
            self.base_file(branch.id)?.clear()?;
            databases::set_manifest(self.store.connection(), branch.number, signed)?;
        }
        self.next_chunks(branch.id)
    }

    /// Takes in a chunk.
    ///
    /// # Errors
    /// The store fails.
    pub fn receive_chunk(&mut self, chunk: &Chunk) -> Result<BaseStep, EngineError> {
        let Some(branch) = self.store.branch(chunk.branch)? else { return Ok(BaseStep::Nothing) };
        let Some(signed) = self.store.manifest(branch.number)? else {
            return Ok(BaseStep::Nothing);
        };
        if branch.base_held || signed.id() != chunk.manifest {
            return Ok(BaseStep::Nothing);
        }
        let manifest = signed.manifest();
        let mut file = self.base_file(branch.id)?;
        let next = file.count()?;
        let Some(info) = manifest.chunks.get(next as usize) else { return Ok(BaseStep::Nothing) };
        if chunk.index != next {
            return Ok(BaseStep::Nothing);
        }
        if let Err(error) = verify_chunk(info, &chunk.bytes) {
            return Ok(BaseStep::Forged(error.to_string()));
        }
        let count = file.append([chunk.bytes.as_slice()])?;
        if count as usize == manifest.chunks.len() || count % WINDOW == 0 {
            return self.next_chunks(branch.id);
        }
        Ok(BaseStep::Nothing)
    }

    /// What to ask for next of a base, given what is here; or that it is whole.
    ///
    /// # Errors
    /// The store fails.
    pub fn next_chunks(&mut self, id: BranchId) -> Result<BaseStep, EngineError> {
        let Some(branch) = self.store.branch(id)? else { return Ok(BaseStep::Nothing) };
        let Some(signed) = self.store.manifest(branch.number)? else {
            return Ok(BaseStep::Nothing);
        };
        if branch.base_held {
            return Ok(BaseStep::Nothing);
        }
        let manifest = signed.manifest();
        let chunks = u32::try_from(manifest.chunks.len())
            .map_err(|_| StoreError::Damaged("a manifest with too many chunks".into()))?;
        let count = self.base_file(id)?.count()?;
        if count < chunks {
            return Ok(BaseStep::Want(WantChunks {
                branch: id,
                manifest: signed.id(),
                from: count,
                count: (WINDOW - count % WINDOW).min(chunks - count),
            }));
        }
        databases::set_base_held(self.store.connection(), branch.number)?;
        let branch = self.store.branch_numbered(branch.number)?;
        Ok(BaseStep::Complete(self.local_branch(&branch)?))
    }

    /// Whether a branch's base is missing here.
    ///
    /// # Errors
    /// The store fails.
    pub fn lacks_base(&self, branch: BranchId) -> Result<bool, StoreError> {
        Ok(self
            .store
            .branch(branch)?
            .is_some_and(|row| !row.base_held && row.base > Sequence::ZERO))
    }

    pub(super) fn base_file(&self, branch: BranchId) -> Result<BaseFile, StoreError> {
        BaseFile::open(&*self.environment, &self.directory.snapshot(branch))
    }
}
