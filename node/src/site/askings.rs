//! What a peer asked of bases and was not given yet. Several bases take turns, a chunk each, so
//! that no asking displaces another. Nothing is read here.

use protocol::BranchId;
use protocol::message::WantChunks;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Chunks given for one asking, at most.
const CHUNKS_AT_ONCE: u32 = 16;

/// What is to be given next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The manifest of this branch's base.
    Manifest(BranchId),
    /// The chunk of this number of what was asked for.
    Chunk(WantChunks, u32),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Askings {
    manifests: BTreeSet<BranchId>,
    /// By branch, what was asked for last, and how much of it is given.
    chunks: BTreeMap<BranchId, (WantChunks, u32)>,
    /// The branch whose base was served last.
    served: Option<BranchId>,
}

impl Askings {
    /// The peer asks for a manifest.
    pub fn ask_manifest(&mut self, branch: BranchId) {
        self.manifests.insert(branch);
    }

    /// The peer asks for chunks; what it asked of the same base before is over.
    pub fn ask_chunks(&mut self, wanted: WantChunks) {
        let wanted = WantChunks { count: wanted.count.min(CHUNKS_AT_ONCE), ..wanted };
        self.chunks.insert(wanted.branch, (wanted, 0));
    }

    /// What the peer does not get: it is not here.
    pub fn give_up(&mut self, branch: BranchId) {
        self.chunks.remove(&branch);
    }

    /// Takes out what is to be given next.
    pub fn pop(&mut self) -> Option<Asked> {
        if let Some(branch) = self.manifests.pop_first() {
            return Some(Asked::Manifest(branch));
        }
        loop {
            let behind = self.served.map_or(Bound::Unbounded, Bound::Excluded);
            let mut next = self.chunks.range((behind, Bound::Unbounded)).chain(&self.chunks);
            let (branch, (wanted, given)) = next.next().map(|(branch, asked)| (*branch, *asked))?;
            match wanted.from.checked_add(given).filter(|_| given < wanted.count) {
                Some(number) => {
                    self.chunks.insert(branch, (wanted, given + 1));
                    self.served = Some(branch);
                    return Some(Asked::Chunk(wanted, number));
                }
                None => drop(self.chunks.remove(&branch)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::snapshot::ManifestId;

    fn wanted(branch: u8, from: u32, count: u32) -> WantChunks {
        let (branch, manifest) = (BranchId([branch; 32]), ManifestId([branch; 32]));
        WantChunks { branch, manifest, from, count }
    }

    #[test]
    fn two_bases_take_turns_and_neither_displaces_the_other() {
        let mut askings = Askings::default();
        askings.ask_chunks(wanted(1, 0, 3));
        assert_eq!(askings.pop(), Some(Asked::Chunk(wanted(1, 0, 3), 0)));
        askings.ask_chunks(wanted(2, 4, 2));
        askings.ask_manifest(BranchId([3; 32]));
        let rest: Vec<Asked> = std::iter::from_fn(|| askings.pop()).collect();
        assert_eq!(
            rest,
            [
                Asked::Manifest(BranchId([3; 32])),
                Asked::Chunk(wanted(2, 4, 2), 4),
                Asked::Chunk(wanted(1, 0, 3), 1),
                Asked::Chunk(wanted(2, 4, 2), 5),
                Asked::Chunk(wanted(1, 0, 3), 2),
            ]
        );
    }

    #[test]
    fn nobody_is_given_without_end() {
        let mut askings = Askings::default();
        askings.ask_chunks(wanted(1, u32::MAX - 1, u32::MAX));
        askings.ask_chunks(wanted(2, 0, u32::MAX));
        assert_eq!(std::iter::from_fn(|| askings.pop()).count(), 2 + CHUNKS_AT_ONCE as usize);
        askings.ask_chunks(wanted(2, 0, 4));
        askings.give_up(BranchId([2; 32]));
        assert_eq!(askings.pop(), None);
    }
}
