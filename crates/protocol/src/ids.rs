//! Event ids from a seed: random to peers, the same again for the same seed.

use uuid::Builder;

/// A generator of version 4 UUIDs (SplitMix64 over two halves of a seed).
#[derive(Clone, Debug)]
pub struct Ids {
    high: u64,
    low: u64,
}

impl Ids {
    /// A generator; real processes seed it with real randomness.
    pub fn new(seed: u128) -> Self {
        Self {
            high: (seed >> 64) as u64,
            low: seed as u64,
        }
    }

    /// The next id.
    pub fn next_id(&mut self) -> String {
        Builder::from_random_bytes(self.next_bits().to_be_bytes())
            .into_uuid()
            .to_string()
    }

    /// 128 bits.
    pub fn next_bits(&mut self) -> u128 {
        self.high = self.high.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.low = self.low.wrapping_add(0xD1B5_4A32_D192_ED03);
        (u128::from(mix(self.high)) << 64) | u128::from(mix(self.low))
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
