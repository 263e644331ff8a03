//! Rules.
//!
//! A rule comes with each call, as three integers. Validating one costs a division chain (a greatest common
//! divisor), so each thread remembers the last few rules it has validated; a program has few.

use std::cell::RefCell;

use super::super::boundary::Failure;
use crate::limiter::{KeyedRule, Rule};

/// What is allowed: `tokens` every `period_ns`, and at most `burst` at once. The rate is exact, never rounded to a
/// faster one. With burst equal to tokens, one period may see up to twice as many: the burst and the refill.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct escope_rule {
    /// Tokens that a period brings, 1 or more.
    pub tokens: u64,
    /// Length of a period, 1 or more.
    pub period_ns: u64,
    /// Tokens in a full bucket; 0 blocks everything.
    pub burst: u64,
}

impl From<&Rule> for escope_rule {
    fn from(rule: &Rule) -> Self {
        Self { tokens: rule.tokens(), period_ns: rule.period_ns(), burst: rule.burst() }
    }
}

const REMEMBERED: usize = 4;

thread_local! {
    static RULES: RefCell<[Option<(escope_rule, KeyedRule)>; REMEMBERED]> =
        const { RefCell::new([None; REMEMBERED]) };
}

/// The rule in the form that the table applies, from the thread's memory or validated now.
pub(super) fn keyed(rule: &escope_rule) -> Result<KeyedRule, Failure> {
    with_keyed(rule, |keyed| *keyed)
}

/// Lends the rule in the form that the table applies, which spares the hot path a copy.
#[inline(always)]
pub(super) fn with_keyed<R>(rule: &escope_rule, with: impl FnOnce(&KeyedRule) -> R) -> Result<R, Failure> {
    let mix =
        rule.tokens.wrapping_add(rule.period_ns.rotate_left(17)).wrapping_add(rule.burst.rotate_left(34));
    let place = (mix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62) as usize;
    RULES.with(|rules| {
        // No call of the library runs code of its caller, so nothing borrows a second time.
        let mut rules = rules.borrow_mut();
        let place = &mut rules[place];
        if let Some((known, keyed)) = place
            && known == rule
        {
            return Ok(with(keyed));
        }
        let keyed = validated(rule)?;
        Ok(with(&place.insert((*rule, keyed)).1))
    })
}

#[inline(never)]
fn validated(rule: &escope_rule) -> Result<KeyedRule, Failure> {
    Ok(KeyedRule::new(Rule::new(rule.tokens, rule.period_ns, rule.burst)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_the_size_that_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_rule>(), 24);
    }

    #[test]
    fn remembered_rules_are_told_apart() {
        for period_ns in 1..=64 {
            for burst in [1, period_ns, 1 << 20] {
                let rule = escope_rule { tokens: 1, period_ns, burst };
                let expected = KeyedRule::new(Rule::new(1, period_ns, burst).unwrap()).unwrap();
                assert_eq!(keyed(&rule), Ok(expected));
                assert_eq!(keyed(&rule), Ok(expected));
            }
        }
    }
}
