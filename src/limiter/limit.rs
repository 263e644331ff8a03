//! A limit with a name: a rule that many keys share and that may change while they live.
//!
//! Rules are numbered, and an entry is marked with the number, modulo four, of the rule that wrote it. A call that meets an
//! older mark carries the balance over, as if that had been done at the instant of the change; so a change touches no
//! entry, and keys that are never used again cost nothing. A call that meets a newer mark started before the change:
//! it takes the new rule and looks again.
//!
//! A table knows no limits. Where places are short it takes that of a key whose debt is paid back by the rule that wrote it;
//! there a key that is not used until then may have a full burst, though a slower rule that came since would let it wait
//! for longer.
//!
//! The limit remembers its last four rules, each in a slot of its own, so a reader never waits for a change: the slot of the
//! rule of now is not written before three more changes. A fifth rule is only taken when whatever the first may have
//! left is full again, for its mark is used anew: by the first rule itself, since its entries are then read as the fifth's,
//! and as the rules in between have carried it over, since a key owes that until it is forgotten.

use super::change::{Strategy, converted_tat};
use super::entry::{Entry, MAX_NOW_NS};
use super::gcra::{Ticks, divide_up};
use super::measure::Measure;
use super::rule::{KeyedRule, Rule};
use crate::error::ConfigError;
use crate::seqlock::SeqLock;
use crate::sync::{AtomicU64, Mutex, Ordering};
use std::hint::spin_loop;
use std::num::NonZeroU64;

/// Largest burst of a named limit.
const MAX_BURST: u64 = u32::MAX as u64;
/// Rules that are remembered, and marks that can be told apart.
const MARKS: u64 = 4;
/// Words of a slot: the rule's number, tokens, period, burst, the reduced rate, strategy, when it began, and until when keys
/// may owe what earlier rules have left.
const WORDS: usize = 9;

/// A limit with a name, which is the edge's. Any thread may use it at any time; changing it takes a short lock.
#[derive(Debug)]
pub struct Limit {
    /// Number of the rule of now: of the changes so far.
    latest: AtomicU64,
    /// The last four rules.
    slots: [SeqLock<WORDS>; MARKS as usize],
    changing: Mutex<()>,
    max_wait_ns: u64,
}

/// What a limit says at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    rule: Rule,
    number: u64,
    limit: &'a Limit,
}

/// A rule, and how it came to be.
struct Remembered {
    rule: Rule,
    strategy: Strategy,
    began_ns: u64,
    /// When keys have paid back what rules before this one have left.
    inherited_until_ns: u64,
}

/// Why a limit was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeError {
    /// The rule is out of range.
    Invalid(ConfigError),
    /// Keys may still owe what the rule that was in force four changes before has left.
    TooSoon {
        /// Nanoseconds after which the change is possible.
        retry_after_ns: u64,
    },
}

impl Limit {
    /// A limit by this rule, of which no reservation may wait longer than `max_wait_ns`. Its burst is at most 2^32 - 1.
    pub fn new(rule: &KeyedRule, max_wait_ns: u64) -> Result<Self, ConfigError> {
        let rule = *rule.effective();
        check_burst(&rule)?;
        if max_wait_ns > MAX_NOW_NS {
            let allowed = "0 to 288230376151711743";
            return Err(ConfigError { argument: "max_wait_ns", value: max_wait_ns, allowed });
        }
        let first = Remembered { rule, strategy: Strategy::AsIs, began_ns: 0, inherited_until_ns: 0 };
        Ok(Self {
            latest: AtomicU64::new(0),
            // A slot that was not used yet has no ticks, which no rule has.
            slots: std::array::from_fn(|slot| {
                SeqLock::new(if slot == 0 { first.to_words(0) } else { [0; WORDS] })
            }),
            changing: Mutex::new(()),
            max_wait_ns,
        })
    }

    /// The rule of now.
    pub fn rule(&self) -> Rule {
        self.terms().rule
    }

    /// Longest wait of a reservation.
    pub const fn max_wait_ns(&self) -> u64 {
        self.max_wait_ns
    }

    /// Replaces the rule. Keys that owe tokens are carried over by `strategy` when they are used next, with the balance
    /// that they had at `now`. Refused, with the time to come back, while a key may still owe what the rule that was in force
    /// four changes before has left.
    pub fn change(&self, rule: &KeyedRule, strategy: Strategy, now: u64) -> Result<(), ChangeError> {
        let rule = *rule.effective();
        check_burst(&rule).map_err(ChangeError::Invalid)?;
        let _one_at_a_time = self.changing.lock();
        // Relaxed: changes happen under the lock.
        let number = self.latest.load(Ordering::Relaxed);
        let old = self.remember(number);
        // Changes follow each other in time, whatever their callers' clocks say.
        let now = now.min(MAX_NOW_NS).max(old.began_ns);
        if let Some(oldest) = (number + 1).checked_sub(MARKS) {
            let free_ns = self.left_until(oldest, number);
            if now < free_ns {
                return Err(ChangeError::TooSoon { retry_after_ns: free_ns - now });
            }
        }
        let (from, to) = (old.rule.ticks(), rule.ticks());
        let owed = from.n.get().saturating_mul(self.owed_until(&old, now));
        let carried = converted_tat(from, to, strategy, owed, now);
        let inherited_until_ns = divide_up(carried.into(), to.n);
        let new = Remembered { rule, strategy, began_ns: now, inherited_until_ns };
        self.slot(number + 1).write(new.to_words(number + 1));
        // Release pairs with the Acquire of `terms`: who sees the number sees the rule.
        self.latest.store(number + 1, Ordering::Release);
        Ok(())
    }

    /// When whatever an entry may owe that a rule wrote, which ended at `ended_ns`, is paid back: a settled debt is at most one
    /// bucket below empty, and a reservation waits at most `max_wait_ns`.
    fn owed_until(&self, old: &Remembered, ended_ns: u64) -> u64 {
        let Ticks { n, full, .. } = *old.rule.ticks();
        let own = divide_up(2 * full, n).saturating_add(self.max_wait_ns).saturating_add(ended_ns);
        own.max(old.inherited_until_ns)
    }

    /// When whatever the rule with this number may have left is paid back, by that rule and as carried over to the `latest`.
    /// For who holds the lock.
    fn left_until(&self, number: u64, latest: u64) -> u64 {
        let oldest = self.remember(number);
        let own_ns = self.owed_until(&oldest, self.remember(number + 1).began_ns);
        let owed = oldest.rule.ticks().n.get().saturating_mul(own_ns);
        let carried = self.carried(oldest, number, latest, owed);
        let carried = carried.expect("only who holds the lock replaces a rule");
        own_ns.max(divide_up(carried.into(), self.remember(latest).rule.ticks().n))
    }

    /// The instant `tat` of the rule `old`, whose number is `from`, in ticks of the rule `to`, after all changes between; none
    /// if one of those rules was replaced meanwhile.
    fn carried(&self, mut old: Remembered, from: u64, to: u64, mut tat: u64) -> Option<u64> {
        for at in from + 1..=to {
            let new = self.remembered(at)?;
            tat = converted_tat(old.rule.ticks(), new.rule.ticks(), new.strategy, tat, new.began_ns);
            old = new;
        }
        Some(tat)
    }

    /// What the limit says now.
    #[inline]
    pub(super) fn terms(&self) -> Terms<'_> {
        loop {
            // Acquire pairs with the Release of `change`.
            let number = self.latest.load(Ordering::Acquire);
            if let Some([is, tokens, period_ns, burst, n, w, ..]) = self.slot(number).read()
                && let (Some(n), Some(w)) = (NonZeroU64::new(n), NonZeroU64::new(w))
                && is == number
            {
                let rule = Rule::from_parts(tokens, period_ns, burst, n, w);
                return Terms { rule, number, limit: self };
            }
            // Four changes were made meanwhile.
            spin_loop();
        }
    }

    fn slot(&self, number: u64) -> &SeqLock<WORDS> {
        &self.slots[(number % MARKS) as usize]
    }

    /// The rule with this number, one of the last four; for who holds the lock.
    fn remember(&self, number: u64) -> Remembered {
        self.remembered(number).expect("only who holds the lock replaces a rule")
    }

    /// The rule with this number, while it is one of the last four.
    fn remembered(&self, number: u64) -> Option<Remembered> {
        let [is, tokens, period_ns, burst, n, w, strategy, began_ns, inherited_until_ns] =
            self.slot(number).read()?;
        let rule = Rule::from_parts(tokens, period_ns, burst, NonZeroU64::new(n)?, NonZeroU64::new(w)?);
        let strategy = Strategy::from_number(strategy)?;
        (is == number).then_some(Remembered { rule, strategy, began_ns, inherited_until_ns })
    }

    /// The instant of an entry with another mark, in ticks of the rule `to`; none if a later rule wrote it.
    #[cold]
    fn carried_over(&self, entry: Entry, to: &Terms<'_>) -> Option<u64> {
        // Acquire pairs with the Release of `change`. Whoever wrote the entry had read its rule's number, and the entry was
        // acquired: so this number is no older.
        let latest = self.latest.load(Ordering::Acquire);
        let as_time = entry.tat(to.rule.ticks().n.get());
        let age = latest.wrapping_sub(entry.mark().into()) % MARKS;
        // A mark that this limit has not given yet is another limit's.
        let Some(at) = latest.checked_sub(age) else { return Some(as_time) };
        if at > to.number && !cfg!(escope_sabotage = "limiter_stale_terms") {
            return None;
        }
        // If the rule is forgotten, what it wrote is paid back.
        let Some(old) = self.remembered(at) else { return Some(as_time) };
        // As time, for the mark may be used anew: then another rule wrote it, and what that one counted is paid back.
        let tat = entry.tat(old.rule.ticks().n.get());
        self.carried(old, at, to.number, tat)
    }
}

impl Remembered {
    fn to_words(&self, number: u64) -> [u64; WORDS] {
        let Self { rule, strategy, began_ns, inherited_until_ns } = self;
        let Ticks { n, w, burst, .. } = *rule.ticks();
        let (tokens, period_ns, strategy) = (rule.tokens(), rule.period_ns(), *strategy as u64);
        [number, tokens, period_ns, burst, n.get(), w.get(), strategy, *began_ns, *inherited_until_ns]
    }
}

impl Measure for Terms<'_> {
    #[inline]
    fn rule(&self) -> &Rule {
        &self.rule
    }

    #[inline]
    fn tat(&self, entry: Entry) -> Option<u64> {
        if entry.mark() == self.mark() {
            Some(entry.tat(self.rule.ticks().n.get()))
        } else {
            self.limit.carried_over(entry, self)
        }
    }

    #[inline]
    fn mark(&self) -> u8 {
        (self.number % MARKS) as u8
    }

    fn refreshed(self) -> Self {
        self.limit.terms()
    }
}

fn check_burst(rule: &Rule) -> Result<(), ConfigError> {
    if rule.burst() <= MAX_BURST {
        return Ok(());
    }
    Err(ConfigError {
        argument: "burst",
        value: rule.burst(),
        allowed: "0 to 4294967295 for a limit with a name",
    })
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;
    use crate::limiter::Key;

    /// Or it would undo the change for the key.
    #[test]
    fn l20_a_call_that_began_under_an_older_rule_looks_again() {
        let rule = |burst| KeyedRule::new(Rule::new(1, 10, burst).unwrap()).unwrap();
        let limit = Limit::new(&rule(3), 0).unwrap();
        let before = limit.terms();
        limit.change(&rule(5), Strategy::AsIs, 100).unwrap();
        let after = limit.terms();
        let written = Entry::committed(Key::from_raw(7), after.mark(), 1, 130);
        assert_eq!(before.tat(written), None);
        assert_eq!((before.refreshed().tat(written), after.rule().burst()), (Some(130), 5));
    }
}
