//! Random numbers for jitter: SplitMix64 (Steele, Lea, Flood 2014) from a seed that the caller gives, so a run can be
//! repeated.

#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of 0 to `most`.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        let drawn = self.next();
        match most.checked_add(1) {
            Some(bound) => drawn % bound,
            None => drawn,
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
