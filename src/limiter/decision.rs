//! What a check says.

use super::gcra::Tick;
use super::rule::Rule;

/// Nanoseconds in a millisecond.
const NS_PER_MS: u64 = 1_000_000;

/// Whether a check was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The cost was debited.
    Allowed,
    /// Not enough tokens now; nothing was changed.
    Limited,
    /// The cost is above the burst, so no wait can help; nothing was changed.
    Never,
    /// The key is new and every place it may take holds a key that still owes tokens; nothing was changed.
    TableFull,
}

/// Verdict of a check, with what a caller needs for response headers and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the check was admitted.
    pub verdict: Verdict,
    /// The largest cost that would be admitted now, after this check.
    pub remaining: u64,
    /// The rule's burst.
    pub limit: u64,
    /// Without other traffic, the first instant at which the same check is admitted is this far away. Zero
    /// when admitted, `u64::MAX` for [`Verdict::Never`].
    pub retry_after_ns: u64,
    /// Time until all of the burst is available again.
    pub reset_after_ns: u64,
}

impl Decision {
    /// Whether the check was admitted.
    #[inline]
    pub const fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allowed)
    }

    /// [`retry_after_ns`](Self::retry_after_ns) in milliseconds, rounded up, so that who waits that long is
    /// never too early. `u64::MAX` stays `u64::MAX`.
    pub const fn retry_after_ms(&self) -> u64 {
        ceil_ms(self.retry_after_ns)
    }

    /// [`reset_after_ns`](Self::reset_after_ns) in milliseconds, rounded up.
    pub const fn reset_after_ms(&self) -> u64 {
        ceil_ms(self.reset_after_ns)
    }

    /// Admitted, and left a debt of `debt` ticks.
    #[inline]
    pub(super) fn allowed(rule: &Rule, debt: impl Tick) -> Self {
        Self::new(Verdict::Allowed, rule, debt.into(), 0)
    }

    /// Refused while `debt` ticks are owed. Out of line, for it takes divisions and is not on the way of an
    /// admitted check.
    #[inline(never)]
    pub(super) fn refused(rule: &Rule, debt: impl Tick, cost: u64) -> Self {
        let debt = debt.into();
        if cost > rule.burst() {
            Self::new(Verdict::Never, rule, debt, u64::MAX)
        } else {
            Self::new(Verdict::Limited, rule, debt, rule.ticks().wait(debt, cost))
        }
    }

    /// A state without a debit: whether a check of cost one would be admitted.
    pub(super) fn peek(rule: &Rule, debt: impl Tick) -> Self {
        if rule.ticks().after(debt, 1).is_some() {
            Self::allowed(rule, debt)
        } else {
            Self::refused(rule, debt, 1)
        }
    }

    /// No place for the key before `wait_ns` have passed.
    pub(super) fn table_full(rule: &Rule, wait_ns: u64) -> Self {
        Self {
            verdict: Verdict::TableFull,
            remaining: 0,
            limit: rule.burst(),
            retry_after_ns: wait_ns,
            reset_after_ns: wait_ns,
        }
    }

    #[inline]
    fn new(verdict: Verdict, rule: &Rule, debt: u128, retry_after_ns: u64) -> Self {
        let ticks = rule.ticks();
        Self {
            verdict,
            remaining: ticks.remaining(debt),
            limit: rule.burst(),
            retry_after_ns,
            reset_after_ns: ticks.time_to_full(debt),
        }
    }
}

const fn ceil_ms(ns: u64) -> u64 {
    if ns == u64::MAX { u64::MAX } else { ns.div_ceil(NS_PER_MS) }
}
