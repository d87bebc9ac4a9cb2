//! The hash of a branch's line: each batch's covers its predecessor's, back to the opening record.
//! It is computed by whoever holds the batches, never sent with them.

use crate::{BranchId, ChainHash};

/// The BLAKE3 key derivation context under which a line is hashed.
pub const CONTEXT: &str = "holdfast chain 1";

impl ChainHash {
    /// The hash before a branch's first batch: the branch's id. The opening record covers the
    /// hash of the line that it continues, if it continues one.
    pub fn start(branch: BranchId) -> Self {
        Self(branch.0)
    }

    /// The hash after one more batch, of these bytes.
    #[must_use]
    pub fn extend(self, frame: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.0);
        hasher.update(frame);
        Self(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_content_order_and_beginning() {
        let start = ChainHash::start(BranchId([1; 32]));
        let line = start.extend(b"a").extend(b"b");
        assert_ne!(line, start.extend(b"b").extend(b"a"));
        assert_ne!(line, start.extend(b"ab"));
        assert_ne!(line, ChainHash::start(BranchId([2; 32])).extend(b"a").extend(b"b"));
    }
}
