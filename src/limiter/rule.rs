//! What is allowed: a rate and a burst, validated once.

use super::entry::{MAX_N, MAX_NOW_NS, MAX_TAT};
use super::gcra::{MAX_VALUE, Ticks, divide_up};
use crate::error::ConfigError;
use std::num::NonZeroU64;

/// `tokens` per `period_ns`, and at most `burst` at once.
///
/// The rate is an exact rational: three per second stays three per second. A burst of zero blocks everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    tokens: u64,
    period_ns: u64,
    ticks: Ticks,
}

impl Rule {
    /// A rule, if `tokens` and `period_ns` are 1 to 2^62 - 1, `burst` is at most 2^62 - 1 and an empty bucket
    /// is full again within 2^62 - 1 ns (146 years).
    pub fn new(tokens: u64, period_ns: u64, burst: u64) -> Result<Self, ConfigError> {
        const RATE: &str = "1 to 4611686018427387903";
        const BURST: &str = "0 to 4611686018427387903, and refilled within 4611686018427387903 ns";

        let invalid = |argument, value, allowed| Err(ConfigError { argument, value, allowed });
        let in_range = |value| NonZeroU64::new(value).filter(|value| value.get() <= MAX_VALUE);
        let Some(whole_n) = in_range(tokens) else { return invalid("tokens", tokens, RATE) };
        let Some(whole_w) = in_range(period_ns) else { return invalid("period_ns", period_ns, RATE) };
        let (n, w) = reduced(whole_n, whole_w);
        let full = u128::from(burst) * u128::from(w.get());
        if burst > MAX_VALUE || full.div_ceil(u128::from(n.get())) > u128::from(MAX_VALUE) {
            return invalid("burst", burst, BURST);
        }
        Ok(Self { tokens, period_ns, ticks: Ticks { n, w, burst, full } })
    }

    /// A rule that was valid, from its parts: without the division chain of [`Rule::new`].
    #[inline]
    pub(super) fn from_parts(tokens: u64, period_ns: u64, burst: u64, n: NonZeroU64, w: NonZeroU64) -> Self {
        let full = u128::from(burst) * u128::from(w.get());
        Self { tokens, period_ns, ticks: Ticks { n, w, burst, full } }
    }

    /// Tokens that a period brings.
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Length of a period.
    pub const fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// Tokens in a full bucket.
    #[inline]
    pub const fn burst(&self) -> u64 {
        self.ticks.burst
    }

    #[inline]
    pub(super) const fn ticks(&self) -> &Ticks {
        &self.ticks
    }
}

/// A rule made fit for the entries of a keyed table, which keep at most 58 ticks a nanosecond.
///
/// A rate that needs more is replaced by the nearest slower rational that does not. It is never faster than
/// asked; where it would be more than 0.1 % slower the rule is refused. [`KeyedRule::effective`] tells what it
/// became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedRule {
    rule: Rule,
}

impl KeyedRule {
    /// The rule as the table applies it.
    pub fn new(rule: Rule) -> Result<Self, ConfigError> {
        let rule = if rule.ticks.n.get() <= MAX_N { rule } else { slower(&rule)? };
        // So that no stored instant reaches the tentative range. Slower rates have room for far more than this.
        let room = u128::from(MAX_TAT) - rule.ticks.instant::<u128>(MAX_NOW_NS);
        if rule.ticks.full > room {
            const BURST: &str = "a burst that is refilled within 330 days";
            return Err(ConfigError { argument: "burst", value: rule.burst(), allowed: BURST });
        }
        Ok(Self { rule })
    }

    /// The rule that is applied: the one that was asked for, or the nearest slower one that fits.
    #[inline]
    pub const fn effective(&self) -> &Rule {
        &self.rule
    }
}

/// The nearest rule that is no faster than `rule` and has at most [`MAX_N`] ticks a nanosecond.
fn slower(rule: &Rule) -> Result<Rule, ConfigError> {
    let Ticks { n, w, .. } = rule.ticks;
    let interval_up = |m: u64| divide_up(u128::from(w.get()) * u128::from(m), n);
    let excess = |m: u64, v: u64| u128::from(v) * u128::from(n.get()) - u128::from(w.get()) * u128::from(m);
    // v / m is the interval; the excess over w / n is excess / (n * m), so a / m < b / k is a * k < b * m.
    let (m, v) = (2..=MAX_N).map(|m| (m, interval_up(m))).fold((1, interval_up(1)), |best, next| {
        let closer =
            excess(next.0, next.1) * u128::from(best.0) < excess(best.0, best.1) * u128::from(next.0);
        if closer { next } else { best }
    });
    if excess(m, v) * 1000 > u128::from(w.get()) * u128::from(m) {
        const RATE: &str = "a rate that a fraction of at most 58 tokens meets within 0.1 %";
        return Err(ConfigError { argument: "tokens", value: rule.tokens, allowed: RATE });
    }
    Rule::new(m, v, rule.burst())
}

/// Both divided by their greatest common divisor.
fn reduced(a: NonZeroU64, b: NonZeroU64) -> (NonZeroU64, NonZeroU64) {
    let (mut divisor, mut rest) = (a, b.get());
    while let Some(next) = NonZeroU64::new(rest) {
        (divisor, rest) = (next, divisor.get() % next);
    }
    let divide = |value: NonZeroU64| NonZeroU64::new(value.get() / divisor).unwrap_or(NonZeroU64::MIN);
    (divide(a), divide(b))
}
