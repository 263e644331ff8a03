//! Random numbers that a seed repeats, for jitter and injected faults: SplitMix64 (Steele, Lea, Flood, *Fast
//! splittable pseudorandom number generators*, 2014). Pure.

/// The `index`th of the random numbers of a seed.
pub(crate) fn draw(seed: u64, index: u64) -> u64 {
    let mut bits = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}
