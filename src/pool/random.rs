//! Random numbers for jitter, one after the other, from a seed that the caller gives, so a run can be repeated.

use crate::random::draw;

#[derive(Debug)]
pub(super) struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// One of 0 to `most`.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        let drawn = draw(self.seed, self.drawn);
        match most.checked_add(1) {
            Some(bound) => drawn % bound,
            None => drawn,
        }
    }
}
