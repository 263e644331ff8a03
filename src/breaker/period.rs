//! Failures within a period: the sliding log of fuse (`M` failures in `T` are tolerated, the next one opens), of
//! which only the last `M + 1` matter.
//!
//! The ring behind the first word of the window's memory, as long as a power of two, holds the times of the latest
//! failures. The latest one waits in the control word until the next one writes it there, so one compare-and-swap
//! counts a failure and opens, or not, and a process that dies next to it loses nothing. A failure of weight `w`
//! takes `w` entries.
//!
//! ```text
//! high half   time of the failure
//! low half    bits  0..28   generation      bits 28..34   window id      bits 34..59   number of the failure
//! ```
//!
//! Entries carry their number, so a late helper cannot overwrite a newer one, and one that is read is the one meant.

use super::cell::{Cell, View};
use super::closed::Lazy;
use super::control::{Control, FAILURES_SO_FAR, GENERATION};
use super::field::Field;
use super::level::Level;
use crate::sync::{AtomicWide, HALF, Ordering, Wide};

const OWNER: Field = Field::first(28, 8);
const WINDOW_ID: Field = OWNER.then(6, 4);
const NUMBER: Field = WINDOW_ID.then(25, 13);
const TIME: Field = Field::high(64, 32);
const _: () = assert!(OWNER.max() == GENERATION.max() && NUMBER.end() <= HALF);
const _: () = assert!(NUMBER.max() == FAILURES_SO_FAR.max());

/// What a failure would do.
pub(super) struct Next {
    /// The control word that counts it.
    pub(super) counted: Control,
    /// Whether it uses up what is tolerated.
    pub(super) opens: bool,
}

impl Cell<'_> {
    /// One more failure of this weight at `now`; none if something changed meanwhile.
    pub(super) fn next_failure(self, view: &View, weight: u64, now: u64) -> Option<Next> {
        if !self.write_latest(view) {
            return None;
        }
        let budget = view.settings.size() + 1;
        let (so_far, _) = view.control.failures_so_far();
        // A clock that was read before that of the latest failure is taken as equal to it.
        let time = now.max(view.control.instant());
        let weight = weight.min(budget);
        let opens = match (budget - weight).checked_sub(1) {
            None => true,
            Some(back) => {
                self.time_of(view, so_far, back).is_some_and(|time_back| self.is_young(view, time_back, time))
            }
        };
        Some(Next { counted: view.control.with_failure(weight, time), opens })
    }

    /// The level at `now`; none if something changed meanwhile.
    pub(super) fn period_level(self, view: &View, now: &mut Lazy<impl FnOnce() -> u64>) -> Option<Level> {
        let budget = view.settings.size() + 1;
        let (so_far, weight) = view.control.failures_so_far();
        if weight == 0 {
            return Some(Level::None);
        }
        if !self.write_latest(view) {
            return None;
        }
        let now = now.get().max(view.control.instant());
        let used = |share_bp: u64| (share_bp * budget).div_ceil(10_000);
        let reaches = |used: u64| {
            let time = self.time_of(view, so_far, used - 1);
            time.is_some_and(|time| self.is_young(view, time, now))
        };
        let levels = [
            (budget, Level::Exceeded),
            (used(view.settings.level_bp(2)), Level::Heavy),
            (used(view.settings.level_bp(1)), Level::Medium),
            (used(view.settings.level_bp(0)), Level::Light),
        ];
        let level = levels.into_iter().find(|(used, _)| reaches(*used));
        let level = level.map_or(Level::None, |(_, level)| level);
        self.is_current(view).then_some(level)
    }

    /// Failures that are younger than the period at `now`, up to one more than are tolerated; none if something
    /// changed meanwhile.
    pub(super) fn failures_in_period(self, view: &View, now: u64) -> Option<u64> {
        if !self.write_latest(view) {
            return None;
        }
        let (so_far, _) = view.control.failures_so_far();
        let now = now.max(view.control.instant());
        let young = (0..=view.settings.size()).take_while(|back| {
            let time = self.time_of(view, so_far, *back);
            time.is_some_and(|time| self.is_young(view, time, now))
        });
        let count = young.count() as u64;
        self.is_current(view).then_some(count)
    }

    /// Brings the latest failure from the control word into the ring. False if that has moved on.
    fn write_latest(self, view: &View) -> bool {
        if cfg!(escope_sabotage = "breaker_no_latest") {
            return true;
        }
        let (so_far, weight) = view.control.failures_so_far();
        (0..weight).all(|back| {
            let mine = key(view, so_far, back) | TIME.put(view.control.instant());
            let place = self.place(so_far, back);
            let found = place.load(Ordering::Acquire);
            // The look at the control word comes after the one at the place: an entry newer than `mine` would be
            // there only if the control word had moved before.
            found == mine
                || self.is_current(view)
                    && place.compare_exchange(found, mine, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }

    /// When the failure happened that is so many back from the latest, if there was one and the ring still holds it.
    fn time_of(self, view: &View, so_far: u64, back: u64) -> Option<u64> {
        let word = self.place(so_far, back).load(Ordering::Acquire);
        (word & !TIME.put(u64::MAX) == key(view, so_far, back)).then(|| TIME.get(word))
    }

    fn is_young(self, view: &View, time: u64, now: u64) -> bool {
        now.saturating_sub(time) < view.settings.period_ns()
    }

    fn place(&self, so_far: u64, back: u64) -> &AtomicWide {
        let ring = &self.window[1..];
        &ring[number(so_far, back) as usize & (ring.len() - 1)]
    }
}

/// Number of the failure that is so many back from the latest.
fn number(so_far: u64, back: u64) -> u64 {
    so_far.wrapping_sub(1 + back) & NUMBER.max()
}

fn key(view: &View, so_far: u64, back: u64) -> Wide {
    OWNER.put(view.control.generation().into())
        | WINDOW_ID.put(view.settings.window_id())
        | NUMBER.put(number(so_far, back))
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;
    use crate::breaker::cell::Head;
    use crate::breaker::event::Events;
    use crate::breaker::{BreakerConfig, Policy};

    #[test]
    fn no_two_failures_of_any_generation_or_window_have_the_same_key() {
        let policy = Policy::FailuresInPeriod { tolerated_failures: 1, period_ns: 1 };
        let window: [AtomicWide; 3] = std::array::from_fn(|_| AtomicWide::new(0));
        let head = Head::new(&BreakerConfig { policy, ..BreakerConfig::default() });
        let probes: [AtomicWide; 8] = std::array::from_fn(|_| AtomicWide::new(0));
        let cell = Cell::over(&head, &probes, &window);
        let first = cell.view();
        cell.reset(0, &mut Events::default());
        let next_generation = cell.view();
        cell.reconfigure(&BreakerConfig::default(), 0, &mut Events::default()).expect("it fits");
        let next_window = cell.view();
        let keys = [(first, 5, 0), (first, 5, 1), (next_generation, 5, 0), (next_window, 5, 0)]
            .map(|(view, so_far, back)| key(&view, so_far, back));
        assert!((1..keys.len()).all(|at| !keys[..at].contains(&keys[at])), "{keys:x?}");
        assert_eq!(key(&first, 5, 1), key(&first, 4, 0));
    }
}
