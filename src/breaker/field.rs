//! Named runs of bits in a wide word.
//!
//! Every packed word of the breaker lists its fields as constants of this type, in order, so that the layout
//! stands once and reading and writing cannot disagree. Under loom the word has half the bits: a field then
//! takes its second width.

use crate::sync::{HALF, Wide};

/// `bits` bits from `shift` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    /// The lowest field of a word; `modelled` is its width under loom.
    pub(super) const fn first(bits: u32, modelled: u32) -> Self {
        Self::at(0, bits, modelled)
    }

    /// The first field of the word's high half.
    pub(super) const fn high(bits: u32, modelled: u32) -> Self {
        Self::at(HALF, bits, modelled)
    }

    /// The field above this one.
    pub(super) const fn then(self, bits: u32, modelled: u32) -> Self {
        Self::at(self.end(), bits, modelled)
    }

    /// The first bit above.
    pub(super) const fn end(self) -> u32 {
        self.shift + self.bits
    }

    /// Largest value.
    pub(super) const fn max(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    #[inline]
    pub(super) const fn get(self, word: Wide) -> u64 {
        (word >> self.shift) as u64 & self.max()
    }

    /// A word with `value` here, cut to the field's width, and zero elsewhere.
    #[inline]
    pub(super) const fn put(self, value: u64) -> Wide {
        ((value & self.max()) as Wide) << self.shift
    }

    /// `word` with `value` here.
    #[inline]
    pub(super) const fn set(self, word: Wide, value: u64) -> Wide {
        word & !self.put(u64::MAX) | self.put(value)
    }

    const fn at(shift: u32, bits: u32, modelled: u32) -> Self {
        Self { shift, bits: if HALF == 64 { bits } else { modelled } }
    }
}
