//! Where a key may live.
//!
//! The table is cut into three sections of cache lines, four entries a line. A key may live in one line of
//! each section, twelve places in all. A new key goes to the first line that is not [`CROWDED`]; when all are,
//! to the one with the fewest live keys, the leftmost of equals (after Vöcking, "How Asymmetry Helps Load
//! Balancing", 1999). The last place of each line is thus kept for the keys that find all their lines crowded: a
//! table 60 % full of live keys that come and go refuses 6 new keys in 100,000. Always taking the emptiest line
//! would refuse 2, but a look-up reads cache lines in this order, and so most keys are in the first or
//! second.

use super::key::Key;
use crate::sync::{AtomicWide, HALF, Ordering, Wide};

/// Entries in a line. In a model a key has two places in all.
pub(super) const WAYS: usize = if HALF == 64 { 4 } else { 1 };
/// Lines that a key may live in.
pub(super) const SECTIONS: usize = if HALF == 64 { 3 } else { 2 };

/// Live keys from which on a line is passed over as long as another one has fewer.
pub(super) const CROWDED: usize = WAYS - 1;

/// Live keys per hundred places that a table is sized for.
const NOMINAL_LOAD_PERCENT: u64 = 60;

/// A cache line of entries: the unit of a table's memory. All zero is a valid empty line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Line(pub(super) [AtomicWide; WAYS]);

impl Line {
    /// An empty line.
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicWide::new(0)))
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

/// Lines in a section of a table for `keys` live keys.
pub(super) const fn section_for(keys: u64) -> u64 {
    (keys * 100).div_ceil(NOMINAL_LOAD_PERCENT * (WAYS * SECTIONS) as u64)
}

/// Live keys that sections of this length are meant for.
pub(super) const fn nominal_keys(section: u64) -> u64 {
    section * (WAYS * SECTIONS) as u64 * NOMINAL_LOAD_PERCENT / 100
}

/// One place of a key: its word, and its rank among all places.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub word: &'a AtomicWide,
    pub rank: usize,
}

impl Place<'_> {
    /// Acquire: pairs with the AcqRel of [`Place::replace`], so who sees an entry gone also sees the floor
    /// that was raised before.
    #[inline]
    pub fn load(&self) -> Wide {
        self.word.load(Ordering::Acquire)
    }

    /// Replaces `old`, and tells whether that was still there.
    ///
    /// AcqRel: releases what this thread did before (a raised floor), and keeps the chain of replacements
    /// acquired for the next one.
    #[inline]
    pub fn replace(&self, old: Wide, new: Wide) -> bool {
        self.word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// Index of a key's line in section `section`, when each section has `length` lines.
///
/// The hash is uniform, so its two halves and a multiple of it choose the lines as if independently.
#[inline]
pub(super) fn line_of(key: Key, section: usize, length: u32) -> usize {
    let raw = key.to_raw();
    let spread = match section {
        0 => raw >> 24,
        1 => raw,
        _ => raw.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32,
    } as u32;
    section * length as usize + ((u64::from(spread) * u64::from(length)) >> 32) as usize
}

/// The way of a line where a key is looked for and put first.
#[inline]
pub(super) fn home_way(key: Key) -> usize {
    key.to_raw() as usize % WAYS
}
