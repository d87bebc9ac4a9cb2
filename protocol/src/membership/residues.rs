//! Which integer keys a site gives to its rows.

use serde::{Deserialize, Serialize};

/// Which of the 128 interleaved key ranges a site draws its integer keys from.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Residues(pub u128);

impl Residues {
    /// All of them: the founder's.
    pub const ALL: Self = Self(u128::MAX);

    /// Splits off one of `parts`, interleaved; the rest, and at least one, stays.
    pub fn split(self, parts: u32) -> (Self, Self) {
        let parts = parts.min(self.count()).max(2) as usize;
        let own = (0..128).map(|n| 1_u128 << n).filter(|bit| self.0 & bit != 0);
        let given = own.skip(parts - 1).step_by(parts).fold(0, |given, bit| given | bit);
        (Self(self.0 & !given), Self(given))
    }

    /// How many.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }
}

impl std::fmt::Debug for Residues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Residues({:032x})", self.0)
    }
}

/// On the wire: 16 bytes, big endian, residue 0 in the last bit.
impl Serialize for Residues {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_be_bytes())
    }
}

impl<'de> Deserialize<'de> for Residues {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: [u8; 16] = serde_bytes::deserialize(deserializer)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}
