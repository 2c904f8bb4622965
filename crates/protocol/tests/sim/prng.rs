//! Chance from a seed.

/// SplitMix64.
pub(crate) struct Prng(u64);

impl Prng {
    /// The numbers of one stream of a seed: those of another stream have nothing to do with them.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut prng = Self(seed.wrapping_mul(0xD1B5_4A32_D192_ED03) ^ stream);
        prng.0 = prng.next();
        prng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}
