//! Where a key may live.
//!
//! The table is cut into four sections of cache lines, four entries a line. A key may live in one line of
//! each section, sixteen places in all. A look-up reads the lines in the order of the sections, so the first
//! section has five eighths of the table and its lines are filled to the last place: where live keys that come
//! and go take 60 % of all places, two keys of three are in their first line, and where they take 40 %, five of
//! six.
//!
//! A new key goes to the first of its lines that is not [`crowded`]; when all are, to the one with the fewest live
//! keys, the leftmost of equals (after Vöcking, "How Asymmetry Helps Load Balancing", 1999). The last place of
//! a line beyond the first section is thus kept for the keys that find all their lines crowded, and at 60 %
//! fewer than one new key in 100,000 is refused.

use super::key::Key;
use crate::sync::{AtomicWide, HALF, Ordering, Wide};

/// Entries in a line. In a model a key has two places in all.
pub(super) const WAYS: usize = if HALF == 64 { 4 } else { 1 };
/// Lines that a key may live in.
pub(super) const SECTIONS: usize = if HALF == 64 { 4 } else { 2 };
/// A section after the first is this part of the table; the first has the rest.
const PARTS: u32 = if HALF == 64 { 8 } else { 2 };

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

/// Lines of a table for `keys` live keys.
pub(super) const fn lines_for(keys: u64) -> u64 {
    let lines = (keys * 100).div_ceil(NOMINAL_LOAD_PERCENT * WAYS as u64);
    if lines < SECTIONS as u64 { SECTIONS as u64 } else { lines }
}

/// Live keys that so many lines are meant for.
pub(super) const fn nominal_keys(lines: u64) -> u64 {
    lines * WAYS as u64 * NOMINAL_LOAD_PERCENT / 100
}

/// Whether a line of this section with so many live keys is passed over as long as another has fewer.
pub(super) const fn crowded(section: usize, live: usize) -> bool {
    live >= if section == 0 { WAYS } else { WAYS - 1 }
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

    /// Both halves, each by itself, so that they may belong to two entries which stood here in turn. The key is in the
    /// upper one, which is read first: if it is another key, or the lower half says tentative, then the key asked for had
    /// no committed entry here at that moment. Else the entry is a guess, which a replacement or a [`Place::load`] confirms.
    ///
    /// Acquire: as [`Place::load`].
    #[inline]
    pub fn glance(&self) -> Wide {
        self.word.load_halves()
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

/// How many lines the sections of a table have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sections {
    first: u32,
    other: u32,
}

impl Sections {
    /// The sections that these many lines make up; `None` if there is not one for each.
    pub fn of(lines: usize) -> Option<Self> {
        let lines = u32::try_from(lines).ok().filter(|lines| *lines >= SECTIONS as u32)?;
        let other = lines.div_ceil(PARTS);
        Some(Self { first: lines - (SECTIONS as u32 - 1) * other, other })
    }

    /// Lines in all.
    pub fn lines(self) -> u64 {
        u64::from(self.first) + (SECTIONS as u64 - 1) * u64::from(self.other)
    }

    /// Index of a key's line in the first section.
    #[inline]
    pub fn first_line(self, key: Key) -> usize {
        pick((key.to_raw() >> 24) as u32, self.first)
    }

    /// The section that line `index` belongs to.
    pub fn section_of(self, index: usize) -> usize {
        index.checked_sub(self.first as usize).map_or(0, |beyond| 1 + beyond / self.other as usize)
    }

    /// Index of a key's line in section `section`.
    ///
    /// The hash is uniform, so its two halves and multiples of it choose the lines as if independently.
    #[inline]
    pub fn line(self, key: Key, section: usize) -> usize {
        let raw = key.to_raw();
        let spread = match section {
            0 => return self.first_line(key),
            1 => raw,
            2 => raw.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32,
            _ => raw.wrapping_mul(0xD1B5_4A32_D192_ED03) >> 32,
        };
        self.first as usize + (section - 1) * self.other as usize + pick(spread as u32, self.other)
    }
}

/// A number below `length`, by a number that may be any.
#[inline]
fn pick(spread: u32, length: u32) -> usize {
    ((u64::from(spread) * u64::from(length)) >> 32) as usize
}

/// The way of a line where a key is looked for and put first.
#[inline]
pub(super) fn home_way(key: Key) -> usize {
    key.to_raw() as usize % WAYS
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;

    /// As `Key::from_raw` names them, but spread over all 56 bits like the hash of a key.
    fn keys() -> impl Iterator<Item = Key> {
        (1..=2000_u64).map(|number| Key::from_raw(number.wrapping_mul(0xA076_1D64_78BD_642F) >> 4))
    }

    #[test]
    fn l23_the_sections_share_the_lines_of_a_table() {
        for lines in [lines_for(1) as usize, 9, 100, 1000] {
            let sections = Sections::of(lines).unwrap();
            let used = sections.lines() as usize;
            assert!((lines - SECTIONS..=lines).contains(&used), "{used} of {lines}");
            let mut seen = vec![false; used];
            for (key, section) in keys().flat_map(|key| (0..SECTIONS).map(move |section| (key, section))) {
                let line = sections.line(key, section);
                assert_eq!(sections.section_of(line), section, "line {line} of {lines}");
                seen[line] = true;
            }
            assert!(lines > 100 || seen.iter().all(|seen| *seen), "a line of {lines} that no key may use");
        }
    }

    /// Or they would crowd in each of their lines.
    #[test]
    fn l23_keys_that_share_a_line_part_in_the_others() {
        let sections = Sections::of(800).unwrap();
        for (one, other) in (0..SECTIONS).flat_map(|one| (0..one).map(move |other| (one, other))) {
            let pair = |key| (sections.line(key, one), sections.line(key, other));
            let pairs: std::collections::HashSet<_> = keys().map(pair).collect();
            assert!(pairs.len() > 1600, "sections {one} and {other}: {} pairs of lines", pairs.len());
        }
    }

    #[test]
    fn the_homes_of_keys_are_spread_over_a_line() {
        for way in 0..WAYS {
            let here = keys().filter(|key| home_way(*key) == way).count();
            assert!((400..600).contains(&here), "{here} of 2000 keys in way {way}");
        }
    }
}
