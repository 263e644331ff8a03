//! The last N results, and their sums, changed as a whole.
//!
//! The first word of the window's memory is its head; the others are a ring, as many as a power of two. A result is
//! pending in the head, already part of the sums, until the next one writes it to the ring: one compare-and-swap
//! adds a result and publishes the sums with it, and a process that dies next to it loses nothing.
//!
//! ```text
//! head        bits   0..28     generation                     entry  bits  0..28   generation
//!             bits  28..34     window id                             bits 28..34   window id
//!             bits  34..50     N, or on the way to a larger one     bits 34..38   weight
//!             bits  50..86     results so far                        bit  38       slow
//!             bits  86..106    sum of weights                 high   bits  0..35   number of the result
//!             bits 106..122    slow ones
//!             bits 122..126    weight of the pending result
//!             bit  126         whether it is slow
//! ```
//!
//! A success into a window of nothing but successes changes nothing, and writes nothing.
//!
//! A head of another generation or window id is an empty window: nobody has to clear one. Entries carry the
//! number of their result, so a late helper cannot overwrite a newer one, and one that is read is the one meant.

use super::cell::{Cell, View};
use super::control::{Control, GENERATION};
use super::field::Field;
use super::level::Level;
use super::rate::Tally;
use super::settings::{Kind, Settings};
use crate::sync::{Ordering, Wide};

/// One result of a closed breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) weight: u64,
    pub(super) slow: bool,
}

const OWNER: Field = Field::first(28, 8);
const WINDOW_ID: Field = OWNER.then(6, 4);
const _: () = assert!(OWNER.max() == GENERATION.max());

const SIZE: Field = WINDOW_ID.then(16, 8);
const RESULTS: Field = SIZE.then(36, 16);
const WEIGHTS: Field = RESULTS.then(20, 10);
const SLOW: Field = WEIGHTS.then(16, 8);
const PENDING_WEIGHT: Field = SLOW.then(4, 4);
const PENDING_SLOW: Field = PENDING_WEIGHT.then(1, 1);

const ENTRY_WEIGHT: Field = WINDOW_ID.then(4, 4);
const ENTRY_SLOW: Field = ENTRY_WEIGHT.then(1, 1);
const ENTRY_NUMBER: Field = Field::high(35, 15);
// A number that goes on from the middle ends in the same bits as before.
const _: () = assert!(ENTRY_NUMBER.max() == RESULTS.max() / 2);

/// A value of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sums(Wide);

impl Cell<'_> {
    /// Adds a result to the window. Its sums before and after; none if the breaker changed meanwhile.
    #[inline]
    pub(super) fn count_result(self, view: &View, sample: Sample) -> Option<(Tally, Tally)> {
        let (head, ring) = self.count_window();
        loop {
            // Acquire pairs with the Release of the exchange below: the ring is as full as the head says.
            let word = head.load(Ordering::Acquire);
            if !self.is_current(view) {
                return None;
            }
            let Some(before) = self.current(view, Sums(word)) else { continue };
            if cfg!(not(escope_sabotage = "breaker_no_help")) && !self.write_pending(ring, before) {
                continue;
            }
            let (size, held) = (view.settings.size(), before.size());
            let nothing = Sample { weight: 0, slow: false };
            let (leaving, held) = if before.results() < held {
                (nothing, size)
            } else if held < size {
                // N has grown: what had left the window before does not come back.
                (nothing, held + 1)
            } else {
                let Some(oldest) = entry(ring, before, before.results() - size) else { continue };
                (oldest, size)
            };
            let after = before.with(sample, leaving).with_size(held);
            // AcqRel: Release publishes the entry that this call or the one before has written.
            if head.compare_exchange(word, after.0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Some((before.tally(), after.tally()));
            }
        }
    }

    /// Lets a smaller N take effect at once: what leaves the window does not come back when N grows again.
    pub(super) fn trim_window(self) {
        loop {
            let view = self.view();
            if !view.control.is_closed() || view.settings.kind() != Kind::CountWindow {
                return;
            }
            let head = self.count_window().0;
            let word = head.load(Ordering::Acquire);
            let current = if self.is_current(&view) { self.current(&view, Sums(word)) } else { None };
            if let Some(sums) = current
                && (sums.0 == word
                    || head.compare_exchange(word, sums.0, Ordering::AcqRel, Ordering::Acquire).is_ok())
            {
                return;
            }
        }
    }

    /// Whether one more success leaves the window as it is: N successes, none of them slow, and no level to take back.
    #[inline(never)]
    pub(super) fn window_ignores_success(self, control: Control) -> bool {
        let Some((window_id, size)) = self.head.blocks[control.block()].count_window() else { return false };
        let sums = Sums(self.count_window().0.load(Ordering::Acquire));
        let nothing = WEIGHTS.put(u64::MAX) | SLOW.put(u64::MAX);
        let clean = OWNER.put(control.generation().into()) | WINDOW_ID.put(window_id) | SIZE.put(size);
        let parts = OWNER.put(u64::MAX) | WINDOW_ID.put(u64::MAX) | SIZE.put(u64::MAX) | nothing;
        sums.0 & parts == clean
            && sums.results() >= size
            && self.told_level(control) == Level::None
            && self.head.control() == control
    }

    /// The sums of the window; none if something changed meanwhile.
    pub(super) fn count_tally(self, view: &View) -> Option<Tally> {
        let word = self.count_window().0.load(Ordering::Acquire);
        if self.is_current(view) { self.current(view, Sums(word)).map(Sums::tally) } else { None }
    }

    /// The head as of `view`, which was current after the head was read: empty where it is left from another generation
    /// or window, summed up anew where N is smaller now.
    #[inline]
    fn current(self, view: &View, sums: Sums) -> Option<Sums> {
        let empty = Sums::empty(view.control.generation(), &view.settings);
        if sums.owner() == empty.owner() && sums.size() <= empty.size() {
            return Some(sums);
        }
        self.resized(view, sums, empty)
    }

    #[cold]
    fn resized(self, view: &View, sums: Sums, empty: Sums) -> Option<Sums> {
        if sums.owner() != empty.owner() {
            return Some(empty);
        }
        let (_, ring) = self.count_window();
        let mut tally = sums.with_size(view.settings.size()).with_sums(0, 0);
        let results = sums.results();
        for number in results - results.min(view.settings.size())..results {
            let pending = number + 1 == results;
            let Sample { weight, slow } = if pending { sums.pending() } else { entry(ring, sums, number)? };
            tally = tally.with_sums(tally.weights() + weight, tally.slow() + u64::from(slow));
        }
        Some(tally)
    }

    /// Brings the pending result into the ring. False if the head has moved on.
    #[inline]
    fn write_pending(self, ring: &[crate::sync::AtomicWide], sums: Sums) -> bool {
        let Some(number) = sums.results().checked_sub(1) else { return true };
        let place = &ring[number as usize & (ring.len() - 1)];
        let Sample { weight, slow } = sums.pending();
        let mine = sums.entry_key(number) | ENTRY_WEIGHT.put(weight) | ENTRY_SLOW.put(slow.into());
        let found = place.load(Ordering::Acquire);
        if found == mine {
            return true;
        }
        // The look at the head comes after the one at the place: an entry newer than `mine` would be there only if
        // the head had moved before.
        let unmoved = Sums(self.count_window().0.load(Ordering::Acquire)).same_results(sums);
        unmoved && place.compare_exchange(found, mine, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    #[inline]
    fn count_window(&self) -> (&crate::sync::AtomicWide, &[crate::sync::AtomicWide]) {
        (&self.window[0], &self.window[1..])
    }
}

/// The result with this number, if the ring still holds it.
#[inline]
fn entry(ring: &[crate::sync::AtomicWide], sums: Sums, number: u64) -> Option<Sample> {
    let word = ring[number as usize & (ring.len() - 1)].load(Ordering::Acquire);
    let value = ENTRY_WEIGHT.put(u64::MAX) | ENTRY_SLOW.put(u64::MAX);
    (word & !value == sums.entry_key(number))
        .then(|| Sample { weight: ENTRY_WEIGHT.get(word), slow: ENTRY_SLOW.get(word) != 0 })
}

impl Sums {
    fn empty(generation: u32, settings: &Settings) -> Self {
        Self(OWNER.put(generation.into()) | WINDOW_ID.put(settings.window_id()) | SIZE.put(settings.size()))
    }

    /// Results that the window holds at most: N, or on the way there after N has grown.
    #[inline]
    fn size(self) -> u64 {
        SIZE.get(self.0)
    }

    #[inline]
    fn with_size(self, size: u64) -> Self {
        Self(SIZE.set(self.0, size))
    }

    #[inline]
    fn owner(self) -> Wide {
        self.0 & (OWNER.put(u64::MAX) | WINDOW_ID.put(u64::MAX))
    }

    #[inline]
    fn results(self) -> u64 {
        RESULTS.get(self.0)
    }

    fn weights(self) -> u64 {
        WEIGHTS.get(self.0)
    }

    fn slow(self) -> u64 {
        SLOW.get(self.0)
    }

    #[inline]
    fn pending(self) -> Sample {
        Sample { weight: PENDING_WEIGHT.get(self.0), slow: PENDING_SLOW.get(self.0) != 0 }
    }

    /// Everything of an entry but its value.
    #[inline]
    fn entry_key(self, number: u64) -> Wide {
        self.owner() | ENTRY_NUMBER.put(number)
    }

    #[inline]
    fn tally(self) -> Tally {
        let calls = self.results().min(self.size());
        Tally { calls, failures: self.weights(), slow: self.slow() }
    }

    fn same_results(self, other: Self) -> bool {
        (self.owner(), self.results()) == (other.owner(), other.results())
    }

    fn with_sums(self, weights: u64, slow: u64) -> Self {
        Self(SLOW.set(WEIGHTS.set(self.0, weights), slow))
    }

    #[inline]
    fn with(self, sample: Sample, leaving: Sample) -> Self {
        let weights = self.weights() + sample.weight - leaving.weight;
        let slow = self.slow() + u64::from(sample.slow) - u64::from(leaving.slow);
        let results = RESULTS.set(self.0, next_number(self.results()));
        let pending = PENDING_WEIGHT.set(results, sample.weight);
        Self(PENDING_SLOW.set(pending, sample.slow.into())).with_sums(weights, slow)
    }
}

/// At its end the number goes on from the middle: a multiple of every ring's length, and above every N.
#[inline]
fn next_number(number: u64) -> u64 {
    if number == RESULTS.max() { RESULTS.max() / 2 + 1 } else { number + 1 }
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::{ENTRY_WEIGHT, OWNER, RESULTS, Sample, Sums, WINDOW_ID, entry, next_number};
    use crate::breaker::{Breaker, BreakerConfig, Outcome, Policy, Window};
    use crate::sync::AtomicWide;

    fn breaker() -> Breaker {
        let policy = Policy::Rate {
            window: Window::Count { size: 4 },
            min_calls: 4,
            failure_rate_bp: 10_000,
            slow_call_rate_bp: 10_000,
        };
        Breaker::new(&BreakerConfig { policy, window_capacity: 8, ..BreakerConfig::default() }).unwrap()
    }

    fn record(breaker: &Breaker, outcome: Outcome) {
        let permit = breaker.acquire(|| 0).verdict.unwrap();
        breaker.record(permit, outcome, || 0);
    }

    /// Whether a success writes to the window.
    fn writes(breaker: &Breaker) -> bool {
        let before = breaker.window_head();
        record(breaker, Outcome::Success);
        breaker.window_head() != before
    }

    #[test]
    fn a_success_writes_nothing_once_the_window_holds_nothing_else() {
        let breaker = breaker();
        let writing: Vec<_> = (0..6).map(|_| writes(&breaker)).collect();
        assert_eq!(writing, [true, true, true, true, false, false]);
        record(&breaker, Outcome::Failure);
        let writing: Vec<_> = (0..6).map(|_| writes(&breaker)).collect();
        assert_eq!(writing, [true, true, true, true, false, false]);
    }

    #[test]
    fn a_window_that_grew_is_filled_first() {
        let breaker = breaker();
        (0..5).for_each(|_| record(&breaker, Outcome::Success));
        let policy = Policy::Rate {
            window: Window::Count { size: 6 },
            min_calls: 6,
            failure_rate_bp: 10_000,
            slow_call_rate_bp: 10_000,
        };
        breaker.reconfigure(&BreakerConfig { policy, ..BreakerConfig::default() }, || 0).unwrap();
        assert!(writes(&breaker) && writes(&breaker) && !writes(&breaker));
    }

    #[test]
    fn a_head_with_another_result_or_owner_has_moved_on() {
        let sums = Sums(OWNER.put(3) | WINDOW_ID.put(2) | RESULTS.put(5));
        assert!(sums.same_results(sums.with_sums(9, 9)));
        assert!(!sums.same_results(Sums(RESULTS.set(sums.0, 6))));
        assert!(!sums.same_results(Sums(WINDOW_ID.set(sums.0, 1))));
    }

    #[test]
    fn an_entry_is_read_as_the_result_that_it_is_and_as_no_other() {
        let sums = Sums(OWNER.put(3) | WINDOW_ID.put(2) | RESULTS.put(5));
        let ring = [AtomicWide::new(sums.entry_key(4) | ENTRY_WEIGHT.put(7))];
        assert_eq!(entry(&ring, sums, 4), Some(Sample { weight: 7, slow: false }));
        assert_eq!(entry(&ring, sums, 3), None);
        assert_eq!(entry(&ring, Sums(OWNER.put(4) | WINDOW_ID.put(2)), 4), None);
        assert_eq!(entry(&ring, Sums(OWNER.put(3) | WINDOW_ID.put(1)), 4), None);
    }

    #[test]
    fn numbers_go_on_from_the_middle_where_they_end() {
        let (middle, last) = (RESULTS.max() / 2 + 1, RESULTS.max());
        assert_eq!([next_number(0), next_number(last - 1), next_number(last)], [1, last, middle]);
        // So that a number stays at its place in each ring, and no window seems to be half full again.
        let largest = 1 << 16;
        assert!(middle.is_multiple_of(largest) && middle > largest);
    }
}
