//! Layout of a key's word in the table.
//!
//! ```text
//!  high half:  { key: 56 | mark: 2 | n: 6 }     low half:  { tat: 64 }
//! ```
//!
//! | word | meaning |
//! | --- | --- |
//! | all zero | EMPTY. No entry is zero, since `n` is 1 to 58. |
//! | `tat < 0xFF << 56` | COMMITTED: the key owes what `tat` (in ticks, `n` a nanosecond) lies ahead of now. |
//! | `tat >= 0xFF << 56` | TENTATIVE: a first touch is under way; the low 56 bits are its nonce. |
//!
//! `n` stands beside `tat` so that a call with another rule can read the debt as time. `mark` belongs to
//! limits with a name; an entry made by a rule that came with the call keeps zero. In a model each half has 32
//! bits and the key 24.

use super::key::{KEY_BITS, Key};
use crate::sync::{HALF, Half, Wide, hi, lo, wide};

/// Largest number of ticks a nanosecond. With it, 2^58 ns (9 years of uptime) stay below the tentative range.
pub(super) const MAX_N: u64 = 58;

/// A table's `now` stops here.
pub(super) const MAX_NOW_NS: u64 = (1 << (HALF - 6)) - 1;

/// First word of the tentative range.
const TENTATIVE: Half = 0xFF << (HALF - 8);

/// Largest `tat` of a committed entry.
pub(super) const MAX_TAT: u64 = (0xFF << (HALF - 8)) - 1;

/// Bits of the high half below the key.
const KEY_SHIFT: u32 = HALF - KEY_BITS;
const N_BITS: u32 = 6;
const N_MASK: Half = (1 << N_BITS) - 1;
const MARK_MASK: Half = 3 << N_BITS;

/// No entry.
pub(super) const EMPTY: Wide = 0;

/// A word of the table, by what it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry(pub Wide);

impl Entry {
    /// The first word of a first touch.
    pub fn tentative(key: Key, n: u64, nonce: u64) -> Self {
        let nonce = if cfg!(escope_sabotage = "limiter_nonce") { 0 } else { nonce as Half & !TENTATIVE };
        Self(wide(identity(key, 0, n), TENTATIVE | nonce))
    }

    /// A key that owes up to `tat`, where `n` ticks are a nanosecond.
    #[inline]
    pub fn committed(key: Key, mark: u8, n: u64, tat: u64) -> Self {
        let mark = Half::from(mark) << N_BITS & MARK_MASK;
        Self(wide(identity(key, mark, n), tat as Half))
    }

    /// Tells apart the rules of the limit that it was written by; 0 where the rule came with the call.
    #[inline]
    pub fn mark(self) -> u8 {
        ((hi(self.0) & MARK_MASK) >> N_BITS) as u8
    }

    /// The stored instant, in ticks of [`Entry::n`] a nanosecond.
    #[inline]
    pub fn raw_tat(self) -> u64 {
        u64::from(lo(self.0))
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == EMPTY
    }

    #[inline]
    pub fn is_of(self, key: Key) -> bool {
        let high = hi(self.0);
        u64::from(high >> KEY_SHIFT) == key.to_raw() && high != 0
    }

    #[inline]
    pub fn is_committed_of(self, key: Key) -> bool {
        self.is_of(key) && !self.is_tentative()
    }

    pub fn key(self) -> Key {
        Key::from_raw(u64::from(hi(self.0) >> KEY_SHIFT))
    }

    #[inline]
    pub fn is_tentative(self) -> bool {
        lo(self.0) >= TENTATIVE
    }

    /// The stored instant in ticks of `n` a nanosecond. Rounded up, so a change of rule never creates tokens;
    /// the debt stays the same time: `ceil(tat * n / stored n)` is `n * now` plus the converted debt for
    /// every `now`, so a retry time holds across the conversion. What exceeds `u64` lies past the end of time.
    #[inline]
    pub fn tat(self, n: u64) -> u64 {
        if self.n() == n { u64::from(lo(self.0)) } else { self.converted(n) }
    }

    /// Out of line, for nearly every call brings the rule of the one before.
    #[inline(never)]
    fn converted(self, n: u64) -> u64 {
        let (tat, stored) = (u64::from(lo(self.0)), self.n());
        let converted = (u128::from(tat) * u128::from(n)).div_ceil(u128::from(stored));
        u64::try_from(converted).unwrap_or(u64::MAX)
    }

    /// Whether nothing is owed at `now`.
    #[inline]
    pub fn is_full(self, now: u64) -> bool {
        u128::from(lo(self.0)) <= u128::from(self.n()) * u128::from(now)
    }

    /// Nanoseconds until nothing is owed.
    pub fn time_to_full(self, now: u64) -> u64 {
        let debt = u128::from(lo(self.0)).saturating_sub(u128::from(self.n()) * u128::from(now));
        debt.div_ceil(u128::from(self.n())) as u64
    }

    /// Ticks a nanosecond.
    #[inline]
    pub fn n(self) -> u64 {
        u64::from(hi(self.0) & N_MASK)
    }
}

#[inline]
fn identity(key: Key, mark: Half, n: u64) -> Half {
    (key.to_raw() as Half) << KEY_SHIFT | mark | n as Half
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;

    /// Without that, a first touch that was taken over could be committed by its first owner.
    #[test]
    fn l02_two_first_touches_of_a_key_differ_by_their_nonce() {
        let key = Key::from_raw(7);
        let touch = |nonce| Entry::tentative(key, 1, nonce);
        for nonce in [0, 1, 2, 1 << 55, u64::MAX] {
            assert!(touch(nonce).is_tentative() && touch(nonce).is_of(key));
            assert_ne!(touch(nonce).0, touch(nonce ^ 1).0);
            assert_ne!(touch(nonce).0, touch(nonce ^ 1 << 55).0);
        }
    }
}
