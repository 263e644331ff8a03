//! A limit with a name: a rule that many keys share and that may change while they live.
//!
//! Entries are marked with the generation, modulo four, of the rule that wrote them. A call that meets an older mark carries
//! the balance over, as if that had been done at the instant of the change; so a change touches no entry, and keys
//! that are never used again cost nothing. The limit remembers its last four rules. A fifth is only taken when whatever
//! the first may have written is full again, for its mark is used anew.

use super::change::{Strategy, converted_tat};
use super::entry::{Entry, MAX_NOW_NS};
use super::gcra::divide_up;
use super::measure::Measure;
use super::rule::{KeyedRule, Rule};
use crate::error::ConfigError;
use crate::seqlock::SeqLock;
use crate::sync::Mutex;
use std::num::NonZeroU64;

/// Largest burst of a named limit.
const MAX_BURST: u64 = u32::MAX as u64;
/// Generations whose marks can be told apart.
const MARKS: usize = 4;

/// Words of the rule of now: mark, tokens, period, burst, and the reduced rate.
const CURRENT_WORDS: usize = 6;
/// Words of one rule: tokens, period, burst, strategy, and when it began.
const RULE_WORDS: usize = 5;

/// A limit with a name, which is the edge's. Any thread may use it at any time; changing it takes a short lock.
#[derive(Debug)]
pub struct Limit {
    /// The mark and the rule of now.
    current: SeqLock<CURRENT_WORDS>,
    /// The rule of each mark.
    rules: SeqLock<{ MARKS * RULE_WORDS }>,
    changing: Mutex<()>,
    max_wait_ns: u64,
}

/// What a limit says at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    rule: Rule,
    mark: u8,
    limit: &'a Limit,
}

/// A rule of the past, as remembered.
struct Remembered {
    rule: Rule,
    strategy: Strategy,
    began_ns: u64,
}

impl Limit {
    /// A limit by this rule, of which no reservation may wait longer than `max_wait_ns`. Its burst is at most 2^32 - 1.
    pub fn new(rule: &KeyedRule, max_wait_ns: u64) -> Result<Self, ConfigError> {
        let rule = rule.effective();
        check_burst(rule)?;
        if max_wait_ns > MAX_NOW_NS {
            let allowed = "0 to 288230376151711743";
            return Err(ConfigError { argument: "max_wait_ns", value: max_wait_ns, allowed });
        }
        let mut rules = [0; MARKS * RULE_WORDS];
        rules[..RULE_WORDS].copy_from_slice(&words(rule, Strategy::AsIs, 0));
        Ok(Self {
            current: SeqLock::new(current_words(0, rule)),
            rules: SeqLock::new(rules),
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
    /// that they had at `now`. Refused, with the time to come back, while a key may still owe by the rule that was in force
    /// four changes before.
    pub fn change(&self, rule: &KeyedRule, strategy: Strategy, now: u64) -> Result<(), ChangeError> {
        let rule = rule.effective();
        check_burst(rule).map_err(ChangeError::Invalid)?;
        let now = now.min(MAX_NOW_NS);
        let _one_at_a_time = self.changing.lock();
        let mark = self.terms().mark;
        let next = (usize::from(mark) + 1) % MARKS;
        let mut rules = self.rules();
        if let Some(oldest) = remembered(&rules, next) {
            let ended_ns = remembered(&rules, (next + 1) % MARKS).map_or(0, |follower| follower.began_ns);
            // A settled debt is at most one bucket below empty, a reservation waits at most `max_wait_ns`.
            let ticks = oldest.rule.ticks();
            let longest = divide_up(2 * ticks.full, ticks.n).saturating_add(self.max_wait_ns);
            let free_ns = ended_ns.saturating_add(longest);
            if now < free_ns {
                return Err(ChangeError::TooSoon { retry_after_ns: free_ns - now });
            }
        }
        rules[next * RULE_WORDS..][..RULE_WORDS].copy_from_slice(&words(rule, strategy, now));
        // First the rule, then the mark that leads to it.
        self.rules.write(rules);
        self.current.write(current_words(next as u8, rule));
        Ok(())
    }

    /// What the limit says now.
    #[inline]
    pub(super) fn terms(&self) -> Terms<'_> {
        loop {
            if let Some(([mark, tokens, period_ns, burst, n, w], _)) = self.current.read()
                && let (Some(n), Some(w)) = (NonZeroU64::new(n), NonZeroU64::new(w))
            {
                let rule = Rule::from_parts(tokens, period_ns, burst, n, w);
                return Terms { rule, mark: mark as u8, limit: self };
            }
            std::hint::spin_loop();
        }
    }

    fn rules(&self) -> [u64; MARKS * RULE_WORDS] {
        loop {
            if let Some((rules, _)) = self.rules.read() {
                return rules;
            }
            std::hint::spin_loop();
        }
    }

    /// The instant of an entry that an earlier rule wrote, in ticks of the rule with `mark`.
    #[cold]
    fn carried_over(&self, entry: Entry, mark: u8) -> u64 {
        let rules = self.rules();
        let mut at = usize::from(entry.generation());
        let Some(mut old) = remembered(&rules, at) else { return 0 };
        let mut tat = entry.raw_tat();
        while at != usize::from(mark) {
            at = (at + 1) % MARKS;
            let Some(new) = remembered(&rules, at) else { return 0 };
            tat = converted_tat(old.rule.ticks(), new.rule.ticks(), new.strategy, tat, new.began_ns);
            old = new;
        }
        tat
    }
}

/// Why a limit was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeError {
    /// The rule is out of range.
    Invalid(ConfigError),
    /// Keys may still owe by the rule that was in force four changes before.
    TooSoon {
        /// Nanoseconds after which the change is possible.
        retry_after_ns: u64,
    },
}

impl Measure for Terms<'_> {
    #[inline]
    fn rule(&self) -> &Rule {
        &self.rule
    }

    #[inline]
    fn tat(&self, entry: Entry, _now: u64) -> u64 {
        if entry.generation() == self.mark {
            entry.tat(self.rule.ticks().n.get())
        } else {
            self.limit.carried_over(entry, self.mark)
        }
    }

    #[inline]
    fn generation(&self) -> u8 {
        self.mark
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

fn current_words(mark: u8, rule: &Rule) -> [u64; CURRENT_WORDS] {
    let ticks = rule.ticks();
    [mark.into(), rule.tokens(), rule.period_ns(), rule.burst(), ticks.n.get(), ticks.w.get()]
}

fn words(rule: &Rule, strategy: Strategy, began_ns: u64) -> [u64; RULE_WORDS] {
    [rule.tokens(), rule.period_ns(), rule.burst(), strategy as u64, began_ns]
}

/// The rule of a mark; none if that was not used yet.
fn remembered(rules: &[u64; MARKS * RULE_WORDS], mark: usize) -> Option<Remembered> {
    let [tokens, period_ns, burst, strategy, began_ns] = *rules[mark * RULE_WORDS..].first_chunk()?;
    let rule = Rule::new(tokens, period_ns, burst).ok()?;
    Some(Remembered { rule, strategy: Strategy::from_number(strategy)?, began_ns })
}
