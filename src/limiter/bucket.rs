//! One bucket: a rule applied to one thing.

use super::decision::Decision;
use super::gcra::{MAX_VALUE, Tick};
use super::rule::Rule;
use crate::counters::Counters;
use crate::sync::{AtomicU64, AtomicWide, Ordering, Wide};

const ALLOWED: usize = 0;
const LIMITED: usize = 1;
const NEVER: usize = 2;

/// A token bucket. Exact for every rule and every `now` up to 2^62 - 1 ns, where time stops.
///
/// ```
/// use elixirscope::clock::{Clock, Monotonic};
/// use elixirscope::limiter::{Bucket, Rule};
///
/// let bucket = Bucket::new(Rule::new(2, 1_000_000_000, 2)?);
/// let now = Monotonic.now_ns();
/// assert!(bucket.check(2, || now).is_allowed());
/// assert_eq!(bucket.check(1, || now).retry_after_ms(), 500);
/// # Ok::<(), elixirscope::error::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Bucket {
    rule: Rule,
    tat: Tat,
    counters: Counters<3>,
}

/// The instant that is the bucket's whole state, in ticks, in the narrowest word that provably holds it. On a
/// cache line of its own: the rule beside it is read by every thread and never written.
#[derive(Debug)]
#[repr(align(64))]
enum Tat {
    /// `n * now + burst * w` stays below 2^64 for every `now`: so for any number of tokens that divides its
    /// period.
    Narrow(AtomicU64),
    Wide(AtomicWide),
}

/// A word that holds the instant. All accesses are relaxed: it is the only shared state, so the order of its
/// changes is all the order there is.
trait Word<T> {
    fn load(&self) -> T;
    fn replace(&self, old: T, new: T) -> Result<T, T>;
}

impl Word<u64> for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    #[inline]
    fn replace(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed)
    }
}

impl Word<u128> for AtomicWide {
    #[inline]
    fn load(&self) -> u128 {
        u128::from(self.load(Ordering::Relaxed))
    }

    #[inline]
    fn replace(&self, old: u128, new: u128) -> Result<u128, u128> {
        let (old, new) = (old as Wide, new as Wide);
        let result = self.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        result.map(u128::from).map_err(u128::from)
    }
}

impl Bucket {
    /// A full bucket.
    pub fn new(rule: Rule) -> Self {
        let ticks = rule.ticks();
        let highest = ticks.instant::<u128>(MAX_VALUE) + ticks.full;
        let tat = match u64::try_from(highest) {
            Ok(_) => Tat::Narrow(AtomicU64::new(0)),
            Err(_) => Tat::Wide(AtomicWide::new(0)),
        };
        Self { rule, tat, counters: Counters::new() }
    }

    /// The rule.
    pub const fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Debits `cost` if the rule admits it. `now` is read once.
    #[inline]
    pub fn check(&self, cost: u64, now: impl FnOnce() -> u64) -> Decision {
        let now = now().min(MAX_VALUE);
        let Tat::Narrow(word) = &self.tat else { return self.check_wide(cost, now) };
        self.decide(self.debit(word, cost, now), cost)
    }

    /// What a check of cost one would say, without a debit. Not counted.
    pub fn peek(&self, now: impl FnOnce() -> u64) -> Decision {
        let tat = match &self.tat {
            Tat::Narrow(word) => u128::from(Word::load(word)),
            Tat::Wide(word) => Word::load(word),
        };
        Decision::peek(&self.rule, self.rule.ticks().debt(tat, now().min(MAX_VALUE)))
    }

    /// Fills the bucket.
    pub fn reset(&self) {
        match &self.tat {
            Tat::Narrow(word) => word.store(0, Ordering::Relaxed),
            Tat::Wide(word) => word.store(0, Ordering::Relaxed),
        }
    }

    /// Checks admitted, refused for now, and with a cost above the burst.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.counters.sum(ALLOWED), self.counters.sum(LIMITED), self.counters.sum(NEVER))
    }

    /// Out of line, so that the narrow check stays short.
    #[inline(never)]
    fn check_wide(&self, cost: u64, now: u64) -> Decision {
        let Tat::Wide(word) = &self.tat else { return self.check(cost, || now) };
        self.decide(self.debit(word, cost, now), cost)
    }

    /// Counts, and answers with the debt after a debit or without one. A caller who ignores what is left pays no
    /// division for it, since all of this is inlined.
    #[inline]
    fn decide<T: Tick>(&self, debited: Result<T, T>, cost: u64) -> Decision {
        match debited {
            Ok(after) => {
                self.counters.increment(ALLOWED);
                Decision::allowed(&self.rule, after)
            }
            Err(debt) => self.refuse(debt.into(), cost),
        }
    }

    #[inline(never)]
    fn refuse(&self, debt: u128, cost: u64) -> Decision {
        self.counters.increment(if cost > self.rule.burst() { NEVER } else { LIMITED });
        Decision::refused(&self.rule, debt, cost)
    }

    /// The debt that a debit leaves, or the one that forbids it.
    #[inline]
    fn debit<T: Tick>(&self, word: &impl Word<T>, cost: u64, now: u64) -> Result<T, T> {
        let ticks = self.rule.ticks();
        let mut tat = word.load();
        loop {
            let debt = ticks.debt(tat, now);
            let after = ticks.after(debt, cost).ok_or(debt)?;
            if cost == 0 {
                return Ok(debt);
            }
            match word.replace(tat, ticks.instant::<T>(now) + after) {
                Ok(_) => return Ok(after),
                Err(current) => tat = current,
            }
        }
    }
}
