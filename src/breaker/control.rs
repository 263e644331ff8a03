//! The control word: everything that decides a breaker's verdict, changed as a whole by one compare-and-swap.
//!
//! ```text
//! high half   instant          closed: 0    open: open until    half-open: entered at
//! low half    bits  0..2       phase
//!             bits  2..7       reserved, zero
//!             bits  7..35      generation
//!             bits 35..64      tally, by phase:
//!               closed         consecutive failures
//!               open           bits 35..43 opens since the breaker was last closed
//!               half-open      bits 35..43 opens, 43..50 successes, 50..57 failures, 57..64 pending
//! ```
//!
//! `pending` names the probe slot whose result the tally counted last (slot + 1, or 0): the slot is marked as
//! counted after the word was changed, by whoever comes first, so a process that dies in between loses nothing.
//!
//! | phase | may become | by |
//! | --- | --- | --- |
//! | closed | closed | a failure below the threshold; a success after failures (tally only); a reset (generation) |
//! | closed | open | the failure that reaches the threshold |
//! | open | half-open | the first acquire at or past the instant |
//! | half-open | half-open | a counted result (tally only) |
//! | half-open | closed, open | the tally reaches its verdict |
//! | open, half-open | closed | a reset |
//!
//! The generation grows by one at each change of phase and at each reset; a permit of another generation
//! changes nothing. Within a generation a half-open tally only grows, so the word never repeats.

use crate::sync::{HALF, Half, Wide, hi, lo, wide};

/// Whether a breaker admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// Calls pass and their failures are counted.
    Closed = 0,
    /// Calls are rejected until an instant.
    Open = 1,
    /// A limited number of probes decides whether the breaker closes or opens again.
    HalfOpen = 2,
}

const PHASE_BITS: u32 = 2;
const RESERVED_BITS: u32 = if HALF == 64 { 5 } else { 0 };
const GENERATION_SHIFT: u32 = PHASE_BITS + RESERVED_BITS;
pub(super) const GENERATION_BITS: u32 = if HALF == 64 { 28 } else { 8 };
const TALLY_SHIFT: u32 = GENERATION_SHIFT + GENERATION_BITS;

const OPENS_BITS: u32 = if HALF == 64 { 8 } else { 4 };
const RESULT_BITS: u32 = if HALF == 64 { 7 } else { 3 };
const SUCCESSES_SHIFT: u32 = TALLY_SHIFT + OPENS_BITS;
const FAILURES_SHIFT: u32 = SUCCESSES_SHIFT + RESULT_BITS;
const PENDING_SHIFT: u32 = FAILURES_SHIFT + RESULT_BITS;
const _: () = assert!(PENDING_SHIFT + RESULT_BITS <= HALF);

const PHASE_MASK: Half = (1 << PHASE_BITS) - 1;
const GENERATION_MASK: Half = (1 << GENERATION_BITS) - 1;
const OPENS_MASK: Half = (1 << OPENS_BITS) - 1;
const RESULT_MASK: Half = (1 << RESULT_BITS) - 1;

/// Highest number of consecutive failures the word can count to.
pub(super) const MAX_FAILURE_THRESHOLD: u32 = ((1 as Half) << (HALF - TALLY_SHIFT)).wrapping_sub(1) as u32;
/// Highest number of probes in a round.
pub(super) const MAX_PERMITS: u32 = 1 << (RESULT_BITS - 1);

/// A value of the control word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Control(Wide);

impl Control {
    /// A new breaker: closed, generation 1.
    pub(super) const NEW: Self = Self::closed(1, 0);

    pub(super) const fn from_word(word: Wide) -> Self {
        Self(word)
    }

    pub(super) const fn word(self) -> Wide {
        self.0
    }

    #[inline]
    pub(super) fn phase(self) -> Phase {
        match lo(self.0) & PHASE_MASK {
            0 => Phase::Closed,
            1 => Phase::Open,
            _ => Phase::HalfOpen,
        }
    }

    #[inline]
    pub(super) fn generation(self) -> u32 {
        (lo(self.0) >> GENERATION_SHIFT & GENERATION_MASK) as u32
    }

    /// Open: rejects until then. Half-open: entered then.
    #[inline]
    pub(super) fn instant(self) -> u64 {
        hi(self.0) as u64
    }

    /// Consecutive failures of a closed breaker.
    #[inline]
    pub(super) fn consecutive_failures(self) -> u32 {
        (lo(self.0) >> TALLY_SHIFT) as u32
    }

    /// How often the breaker opened since it was last closed; stays at its maximum, 255.
    pub(super) fn opens(self) -> u32 {
        match self.phase() {
            Phase::Closed => 0,
            Phase::Open | Phase::HalfOpen => (lo(self.0) >> TALLY_SHIFT & OPENS_MASK) as u32,
        }
    }

    /// Successful probes of a half-open round.
    pub(super) fn successes(self) -> u32 {
        (lo(self.0) >> SUCCESSES_SHIFT & RESULT_MASK) as u32
    }

    /// Failed and expired probes of a half-open round.
    pub(super) fn failures(self) -> u32 {
        (lo(self.0) >> FAILURES_SHIFT & RESULT_MASK) as u32
    }

    /// Slot of the result that was counted last.
    pub(super) fn pending(self) -> Option<usize> {
        (lo(self.0) >> PENDING_SHIFT & RESULT_MASK).checked_sub(1).map(|slot| slot as usize)
    }

    const fn closed(generation: u32, consecutive_failures: u32) -> Self {
        let tally = (consecutive_failures as Half) << TALLY_SHIFT;
        Self(wide(0, tally | Self::head(Phase::Closed, generation)))
    }

    /// Whether this is `generation`, closed and without a failure: a success changes nothing.
    #[inline]
    pub(super) fn is_untroubled(self, generation: u32) -> bool {
        self == Self::closed(generation, 0)
    }

    /// The same closed breaker with another count of consecutive failures.
    pub(super) fn with_consecutive_failures(self, failures: u32) -> Self {
        Self::closed(self.generation(), failures)
    }

    /// Closed, as the next generation.
    pub(super) fn close(self) -> Self {
        Self::closed(self.next_generation(), 0)
    }

    /// Open until `until`, as the next generation.
    pub(super) fn open(self, until: u64) -> Self {
        let opens = (self.opens() as Half + 1).min(OPENS_MASK) << TALLY_SHIFT;
        Self(wide(until as Half, opens | Self::head(Phase::Open, self.next_generation())))
    }

    /// Half-open since `now`, as the next generation.
    pub(super) fn half_open(self, now: u64) -> Self {
        let opens = (self.opens() as Half) << TALLY_SHIFT;
        Self(wide(now as Half, opens | Self::head(Phase::HalfOpen, self.next_generation())))
    }

    /// The same round with the result of probe `slot` counted.
    pub(super) fn count(self, slot: usize, success: bool) -> Self {
        let shift = if success { SUCCESSES_SHIFT } else { FAILURES_SHIFT };
        let others = self.0 & !(Wide::from(RESULT_MASK) << PENDING_SHIFT);
        Self(others + ((1 as Wide) << shift) + ((slot as Wide + 1) << PENDING_SHIFT))
    }

    const fn head(phase: Phase, generation: u32) -> Half {
        phase as Half | (generation as Half & GENERATION_MASK) << GENERATION_SHIFT
    }

    fn next_generation(self) -> u32 {
        (self.generation() + 1) & GENERATION_MASK as u32
    }
}
