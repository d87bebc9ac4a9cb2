//! The only randomness in the world: streams of numbers, each made of the seed and a label, so
//! that a new user of randomness does not shift what the others get.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood, 2014). It is no good for secrets, and there
//! are none here.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `label` under `seed`.
    pub fn new(seed: u64, label: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(label.as_bytes());
        let mut state = [0; 8];
        hasher.finalize_xof().fill(&mut state);
        Self(u64::from_le_bytes(state))
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0. The bias is far below what a run could show.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether what happens `times` in ten thousand happens now.
    pub fn happens(&mut self, times: u64) -> bool {
        self.below(10_000) < times
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let some = |seed, label| {
            let mut random = Random::new(seed, label);
            let mut bytes = [0; 13];
            random.fill(&mut bytes);
            (bytes, random.draw(), random.below(7) < 7)
        };
        assert_eq!(some(1, "a"), some(1, "a"));
        assert_ne!(some(1, "a"), some(2, "a"));
        assert_ne!(some(1, "a"), some(1, "b"));
    }

    #[test]
    fn the_stream_is_the_published_one() {
        // The first outputs of SplitMix64 for state 1234567, as in its reference code.
        let mut random = Random(1_234_567);
        assert_eq!(random.draw(), 6_457_827_717_110_365_317);
        assert_eq!(random.draw(), 3_203_168_211_198_807_973);
    }
}
