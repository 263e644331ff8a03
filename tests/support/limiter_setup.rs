//! What the limiter's tests set up: rules in a table, limiters with a fixed secret, a table whose whole content can be compared.
#![allow(dead_code)] // each test file uses its own part

use super::oracle::Terms;
use elixirscope::limiter::{KeyedRule, Limiter, LimiterConfig, Line, Rule, Table};
use proptest::prelude::*;

pub const SECOND: u64 = 1_000_000_000;
/// Time of a table ends here.
pub const END: u64 = (1 << 58) - 1;

pub fn rule(tokens: u64, period_ns: u64, burst: u64) -> KeyedRule {
    KeyedRule::new(Rule::new(tokens, period_ns, burst).unwrap()).unwrap()
}

pub fn keyed(terms: Terms) -> KeyedRule {
    rule(terms.tokens, terms.period_ns, terms.burst)
}

pub fn config(max_keys: u64) -> LimiterConfig {
    LimiterConfig { max_keys, secret: Some([7; 16]), ..LimiterConfig::default() }
}

pub fn limiter(max_keys: u64) -> Limiter {
    Limiter::new(&config(max_keys)).unwrap()
}

pub fn table(max_keys: u64) -> Table<Box<[Line]>> {
    let lines: Vec<Line> = (0..Table::<Box<[Line]>>::lines_for(max_keys)).map(|_| Line::new()).collect();
    Table::over(lines.into_boxed_slice()).unwrap()
}

/// Nonces for tables with one thread.
pub fn nonce() -> impl FnMut() -> u64 {
    let mut last = 0;
    move || {
        last += 1;
        last
    }
}

/// Terms small enough that their limits are reached, with rates on both sides of one a nanosecond.
pub fn terms() -> impl Strategy<Value = Terms> {
    let rate = prop_oneof![
        (1..20_u64, 1..50_u64),
        (1..=58_u64, Just(SECOND)),
        (Just(1), Just(30 * 86_400 * SECOND)),
    ];
    (rate, 1..12_u64).prop_map(|((tokens, period_ns), burst)| Terms { tokens, period_ns, burst })
}

/// The time that a token or a part of it takes.
pub fn after(terms: Terms, share: f64) -> u64 {
    (terms.period_ns as f64 / terms.tokens as f64 * share) as u64
}

/// That later than `now`, but well before the end of time.
pub fn later(now: u64, terms: Terms, share: f64) -> u64 {
    (now + after(terms, share)).min(END / 2).max(now)
}

/// Shares of a token's time: none, a part, many.
pub fn advance() -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(0.0), 3 => 0.0..2.0, 1 => 0.0..20.0]
}
