//! The control word: everything that decides a breaker's verdict, changed as a whole by one compare-and-swap.
//!
//! ```text
//! high half   instant          closed: time of the latest failure (failures in a period), or 0; the end of time where
//!                              a window holds the results
//!                              open: open until        half-open: entered at
//! low half    bits  0..2       phase
//!             bits  2..4       mode
//!             bit   4          which of the two configuration blocks is live
//!             bit   5          closed: acquires and successes look further   half-open: nobody holds slot 0
//!             bit   6          closed: ramping, see `ramp`
//!             bits  7..35      generation
//!             bits 35..64      tally, by phase:
//!               closed         consecutive failures; or 35..60 failures so far, 60..64 weight of the latest;
//!               open           bits 35..43 opens since the breaker was last closed
//!               half-open      bits 35..43 opens, 43..50 successes, 50..57 failures, 57..64 pending
//! ```
//!
//! `pending` names the probe slot whose result the tally counted last (slot + 1, or 0): the slot is marked as
//! counted after the word was changed, by whoever comes first, so a process that dies in between loses nothing.
//! In the same way the latest failure of a period waits here until the next one has written it to its ring.
//!
//! | phase | may become | by |
//! | --- | --- | --- |
//! | closed | closed | a counted result (tally and instant); the end of a ramp; a reset (generation) |
//! | closed | open | the result that uses up the budget |
//! | open | half-open | the first acquire at or past the instant |
//! | open | closed | the same, of a breaker without half-open |
//! | half-open | half-open | a counted result (tally only); a reconfiguration that starts a new round (generation) |
//! | half-open | closed, open | the round's verdict, or its end |
//! | any | closed, open | a mode; a reset, but for a forced open breaker |
//!
//! The generation grows by one at each change of phase or mode, at each reset and reinstallation, and with a new round of
//! probes; a permit of another generation changes nothing. Within a generation tallies only grow, or return to zero with a success.

use super::field::Field;
use super::settings::Settings;
use crate::sync::{HALF, Wide};

/// Whether a breaker admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// Calls pass and their results are counted.
    Closed = 0,
    /// Calls are rejected until an instant.
    Open = 1,
    /// A limited number of probes decides whether the breaker closes or opens again.
    HalfOpen = 2,
}

/// Who decides: the results, or somebody in charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Results decide.
    Auto = 0,
    /// Rejects every call, whatever happens.
    ForcedOpen = 1,
    /// Admits every call and counts nothing toward a trip: switched off.
    ForcedClosed = 2,
    /// Admits every call, counts, and only tells when it would have opened.
    MetricsOnly = 3,
}

const PHASE: Field = Field::first(2, 2);
const MODE: Field = PHASE.then(2, 2);
const BLOCK: Field = MODE.then(1, 1);
const GATED: Field = BLOCK.then(1, 1);
const RAMPING: Field = GATED.then(1, 1);
pub(super) const GENERATION: Field = RAMPING.then(28, 8);
const TALLY: Field = GENERATION.then(29, 17);
const _: () = assert!(TALLY.end() <= HALF);

/// In half-open the bit of [`GATED`] says that the round has no first probe yet.
const UNHELD: Field = GATED;

/// Failures in a period so far, modulo the field.
pub(super) const FAILURES_SO_FAR: Field = GENERATION.then(25, 13);
const LATEST_WEIGHT: Field = FAILURES_SO_FAR.then(4, 4);

const OPENS: Field = GENERATION.then(8, 4);
const SUCCESSES: Field = OPENS.then(7, 3);
const FAILURES: Field = SUCCESSES.then(7, 3);
const PENDING: Field = FAILURES.then(7, 3);
const _: () = assert!(PENDING.end() <= HALF && LATEST_WEIGHT.end() <= HALF);

const INSTANT: Field = Field::high(64, 32);

/// Highest number of consecutive failures the word can count to.
pub(super) const MAX_FAILURE_THRESHOLD: u32 = TALLY.max() as u32;
/// Highest number of probes in a round.
pub(super) const MAX_PERMITS: u32 = 1 << (PENDING.max().count_ones() - 1);

/// A value of the control word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Control(Wide);

impl Control {
    /// A new breaker: closed, generation 1.
    pub(super) fn new(settings: &Settings) -> Self {
        Self(0).as_closed(1, settings)
    }

    pub(super) const fn from_word(word: Wide) -> Self {
        Self(word)
    }

    pub(super) const fn word(self) -> Wide {
        self.0
    }

    #[inline]
    pub(super) fn phase(self) -> Phase {
        match PHASE.get(self.0) {
            0 => Phase::Closed,
            1 => Phase::Open,
            _ => Phase::HalfOpen,
        }
    }

    #[inline]
    pub(super) fn mode(self) -> Mode {
        match MODE.get(self.0) {
            0 => Mode::Auto,
            1 => Mode::ForcedOpen,
            2 => Mode::ForcedClosed,
            _ => Mode::MetricsOnly,
        }
    }

    /// Index of the live configuration block.
    #[inline]
    pub(super) fn block(self) -> usize {
        BLOCK.get(self.0) as usize
    }

    #[inline]
    pub(super) fn generation(self) -> u32 {
        GENERATION.get(self.0) as u32
    }

    /// Open: rejects until then. Half-open: entered then. Closed: the latest failure in a period.
    #[inline]
    pub(super) fn instant(self) -> u64 {
        INSTANT.get(self.0)
    }

    #[inline]
    pub(super) fn is_closed(self) -> bool {
        self.phase() == Phase::Closed
    }

    /// Closed, and an acquire is admitted without a look at anything else.
    #[inline]
    pub(super) fn admits_at_once(self) -> bool {
        const CLOSED_AND_PLAIN: Wide =
            PHASE.put(u64::MAX) | MODE.put(u64::MAX) | GATED.put(u64::MAX) | RAMPING.put(u64::MAX);
        self.0 & CLOSED_AND_PLAIN == 0
    }

    /// Whether this is `generation`, closed and untroubled: a success changes nothing.
    #[inline]
    pub(super) fn ignores_success(self, generation: u32) -> bool {
        self.0 & !BLOCK.put(u64::MAX) == GENERATION.put(generation as u64)
    }

    /// Whether this is `generation`, closed, and a success changes nothing but what a window holds.
    #[inline]
    pub(super) fn counts_in_window(self, generation: u32) -> bool {
        self.0 & !BLOCK.put(u64::MAX) == GENERATION.put(generation as u64) | INSTANT.put(u64::MAX)
    }

    #[inline]
    pub(super) fn is_ramping(self) -> bool {
        self.is_closed() && RAMPING.get(self.0) != 0
    }

    /// Consecutive failures of a closed breaker whose policy counts them.
    ///
    /// A word with an instant is none of theirs: a call that slept while two reconfigurations changed the policy and
    /// changed it back may still count by the one between.
    #[inline]
    pub(super) fn consecutive_failures(self) -> u32 {
        if self.instant() == 0 { TALLY.get(self.0) as u32 } else { 0 }
    }

    /// Number of failures, modulo [`FAILURES_SO_FAR`], and the weight of the latest, where a period counts them.
    #[inline]
    pub(super) fn failures_so_far(self) -> (u64, u64) {
        (FAILURES_SO_FAR.get(self.0), LATEST_WEIGHT.get(self.0))
    }

    /// How often the breaker opened since it was last closed; stays at its maximum, 255.
    pub(super) fn opens(self) -> u32 {
        match self.phase() {
            Phase::Closed => 0,
            Phase::Open | Phase::HalfOpen => OPENS.get(self.0) as u32,
        }
    }

    /// Successful probes of a half-open round.
    pub(super) fn successes(self) -> u32 {
        SUCCESSES.get(self.0) as u32
    }

    /// Failed and expired probes of a half-open round.
    pub(super) fn failures(self) -> u32 {
        FAILURES.get(self.0) as u32
    }

    /// Slot of the result that was counted last.
    pub(super) fn pending(self) -> Option<usize> {
        PENDING.get(self.0).checked_sub(1).map(|slot| slot as usize)
    }

    /// Whether slot 0 of a half-open round, while nothing was written to it, belongs to the acquire that made
    /// the round.
    pub(super) fn first_probe_is_held(self) -> bool {
        UNHELD.get(self.0) == 0
    }

    /// The same closed breaker with another count of consecutive failures.
    pub(super) fn with_consecutive_failures(self, failures: u32) -> Self {
        Self(INSTANT.set(TALLY.set(self.0, failures.into()), 0))
    }

    /// The same closed breaker after one more failure of this weight at `instant`.
    pub(super) fn with_failure(self, weight: u64, instant: u64) -> Self {
        let (so_far, _) = self.failures_so_far();
        let word = FAILURES_SO_FAR.set(self.0, so_far + weight);
        Self(INSTANT.set(LATEST_WEIGHT.set(word, weight), instant))
    }

    /// The same closed breaker with its ramp over.
    pub(super) fn ramp_over(self) -> Self {
        Self(RAMPING.set(self.0, 0))
    }

    /// Closed, as the next generation.
    pub(super) fn close(self, settings: &Settings) -> Self {
        self.as_closed(self.next_generation(), settings)
    }

    /// Closed and ramping, as the next generation.
    pub(super) fn close_ramping(self, settings: &Settings) -> Self {
        Self(RAMPING.set(self.close(settings).0, 1))
    }

    /// Open until `until` for the `opens`th time, as the next generation.
    pub(super) fn open(self, until: u64, opens: u32) -> Self {
        let opens = OPENS.put(u64::from(opens).min(OPENS.max()));
        Self(self.head(Phase::Open, self.next_generation()) | opens | INSTANT.put(until))
    }

    /// Half-open since `now`, as the next generation; the first probe is the caller's.
    pub(super) fn half_open(self, now: u64) -> Self {
        let opens = OPENS.put(self.opens().into());
        Self(self.head(Phase::HalfOpen, self.next_generation()) | opens | INSTANT.put(now))
    }

    /// A new round since `now`, as the next generation; the first probe is nobody's.
    pub(super) fn new_round(self, now: u64) -> Self {
        Self(UNHELD.set(self.half_open(now).0, 1))
    }

    /// The same round with the result of probe `slot` counted.
    pub(super) fn count(self, slot: usize, success: bool) -> Self {
        let field = if success { SUCCESSES } else { FAILURES };
        let counted = field.set(self.0, field.get(self.0) + 1);
        Self(PENDING.set(counted, slot as u64 + 1))
    }

    /// Another mode, as the next generation: open where it rejects, closed elsewhere.
    pub(super) fn with_mode(self, mode: Mode, settings: &Settings) -> Self {
        let moved = Self(MODE.set(self.0, mode as u64));
        match mode {
            Mode::ForcedOpen => moved.open(INSTANT.max(), 0),
            Mode::Auto | Mode::ForcedClosed | Mode::MetricsOnly => moved.close(settings),
        }
    }

    /// The same with the other configuration block live. A closed breaker's tally is kept if `same_window`.
    pub(super) fn reconfigured(self, settings: &Settings, same_window: bool) -> Self {
        let other = Self(BLOCK.set(self.0, self.block() as u64 ^ 1));
        match self.phase() {
            Phase::Open | Phase::HalfOpen => other,
            Phase::Closed if same_window => Self(GATED.set(other.0, settings.is_gated().into())),
            Phase::Closed => {
                Self(RAMPING.set(other.as_closed(self.generation(), settings).0, RAMPING.get(self.0)))
            }
        }
    }

    fn as_closed(self, generation: u32, settings: &Settings) -> Self {
        // No success of a breaker with a window changes nothing.
        let instant = if settings.has_rate_window() { INSTANT.put(u64::MAX) } else { 0 };
        let gated = GATED.put(settings.is_gated().into());
        Self(self.head(Phase::Closed, generation) | gated | instant)
    }

    /// Mode and block as they are.
    fn head(self, phase: Phase, generation: u32) -> Wide {
        let kept = self.0 & (MODE.put(u64::MAX) | BLOCK.put(u64::MAX));
        kept | PHASE.put(phase as u64) | GENERATION.put(generation.into())
    }

    fn next_generation(self) -> u32 {
        (self.generation() + 1) & GENERATION.max() as u32
    }
}

/// Whether `generation` came after `other`, on the circle of generations.
pub(super) fn is_newer(generation: u32, other: u32) -> bool {
    let ahead = u64::from(generation.wrapping_sub(other)) & GENERATION.max();
    ahead != 0 && ahead <= GENERATION.max() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_generation_is_less_than_half_the_circle_ahead() {
        let last = GENERATION.max() as u32;
        let half = last / 2;
        assert!(is_newer(1, 0) && is_newer(half, 0) && is_newer(0, last) && is_newer(half + 6, 6));
        assert!(!is_newer(7, 7) && !is_newer(0, 1) && !is_newer(half + 1, 0) && !is_newer(last, 0));
    }
}
