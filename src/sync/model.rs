//! The wide word of a model: one 64-bit atomic of loom or shuttle, with halves of 32 bits.

use super::{AtomicU64, Ordering};

/// Value of an [`AtomicWide`].
pub type Wide = u64;
/// One half of a [`Wide`].
pub type Half = u32;
/// Bits in one half of a [`Wide`].
pub const HALF: u32 = 32;

/// A type of its own, like the product's, so that no layout takes one for a 64-bit word.
#[derive(Debug)]
pub struct AtomicWide {
    turn: super::origin::Turn,
    word: AtomicU64,
}

impl AtomicWide {
    /// A word that holds `value`.
    pub fn new(value: Wide) -> Self {
        Self { turn: super::origin::Turn::new(), word: AtomicU64::new(value) }
    }

    fn next(&self) -> &AtomicU64 {
        self.turn.take();
        &self.word
    }

    /// Like the product's.
    pub fn load(&self, order: Ordering) -> Wide {
        self.next().load(order)
    }

    /// Like the product's.
    pub fn load_halves(&self) -> Wide {
        let high = self.load(Ordering::Acquire) >> HALF << HALF;
        high | Wide::from(self.load(Ordering::Acquire) as Half)
    }

    /// Like the product's.
    pub fn store(&self, value: Wide, order: Ordering) {
        self.next().store(value, order);
    }

    /// Like the product's.
    pub fn compare_exchange(
        &self,
        old: Wide,
        new: Wide,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Wide, Wide> {
        self.next().compare_exchange(old, new, success, failure)
    }
}

/// Models always run.
pub fn wide_is_lock_free() -> bool {
    true
}
