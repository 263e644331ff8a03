//! The rate limiter as a child would keep it: a level of tokens that rises with time, in exact integers.
//!
//! The product keeps one instant in ticks of a reduced rate. This model keeps the level itself, unreduced, in
//! units of one token divided by the period, and the time at which it was last brought up to date; so the two
//! share no formula.
#![allow(dead_code)] // each test file uses its own part

use elixirscope::limiter::{Decision, Verdict};
use std::collections::HashMap;

/// A rule, unreduced.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub tokens: u64,
    pub period_ns: u64,
    pub burst: u64,
}

/// A bucket. It starts full.
#[derive(Debug, Clone)]
pub struct Model {
    terms: Terms,
    level: u128,
    at: u64,
}

impl Model {
    pub fn new(terms: Terms) -> Self {
        Self { terms, level: full(terms), at: 0 }
    }

    /// Brings the level up to `now`.
    fn refill(&mut self, now: u64) {
        let gained = u128::from(now - self.at) * u128::from(self.terms.tokens);
        self.level = (self.level + gained).min(full(self.terms));
        self.at = now;
    }

    pub fn check(&mut self, cost: u64, now: u64) -> Decision {
        self.refill(now);
        let price = u128::from(cost) * u128::from(self.terms.period_ns);
        let (verdict, retry_after_ns) = if cost > self.terms.burst {
            (Verdict::Never, u64::MAX)
        } else if price > self.level {
            let wait = (price - self.level).div_ceil(u128::from(self.terms.tokens));
            (Verdict::Limited, u64::try_from(wait).unwrap())
        } else {
            self.level -= price;
            (Verdict::Allowed, 0)
        };
        self.decision(verdict, retry_after_ns)
    }

    pub fn peek(&mut self, now: u64) -> Decision {
        let mut copy = self.clone();
        let would = copy.check(1, now);
        self.refill(now);
        self.decision(would.verdict, would.retry_after_ns)
    }

    pub fn reset(&mut self) {
        self.level = full(self.terms);
    }

    fn decision(&self, verdict: Verdict, retry_after_ns: u64) -> Decision {
        let missing = full(self.terms) - self.level;
        Decision {
            verdict,
            remaining: u64::try_from(self.level / u128::from(self.terms.period_ns)).unwrap(),
            limit: self.terms.burst,
            retry_after_ns,
            reset_after_ns: u64::try_from(missing.div_ceil(u128::from(self.terms.tokens))).unwrap(),
        }
    }
}

fn full(terms: Terms) -> u128 {
    u128::from(terms.burst) * u128::from(terms.period_ns)
}

/// A bucket for each key, and no bound on their number.
#[derive(Debug)]
pub struct KeyedModel {
    terms: Terms,
    buckets: HashMap<u64, Model>,
}

impl KeyedModel {
    pub fn new(terms: Terms) -> Self {
        Self { terms, buckets: HashMap::new() }
    }

    pub fn of(&mut self, key: u64) -> &mut Model {
        self.buckets.entry(key).or_insert_with(|| Model::new(self.terms))
    }
}

/// Cost admitted at a time, in the order in which it was debited.
#[derive(Debug, Default)]
pub struct History(Vec<(u64, u64)>);

impl History {
    pub fn add(&mut self, now: u64, cost: u64) {
        self.0.push((now, cost));
    }

    /// Panics unless for all `s <= t` the cost admitted in `[s, t]` is at most `burst + floor(tokens * (t - s) /
    /// period)`. Returns whether the bound is reached somewhere.
    pub fn assert_bounded(&self, terms: Terms) -> bool {
        let mut by_time = self.0.clone();
        by_time.sort_unstable();
        let mut reached = false;
        for (first, &(s, _)) in by_time.iter().enumerate() {
            let mut sum = 0;
            for (index, &(t, cost)) in by_time.iter().enumerate().skip(first) {
                sum += u128::from(cost);
                let refill = u128::from(terms.tokens) * u128::from(t - s) / u128::from(terms.period_ns);
                let bound = u128::from(terms.burst) + refill;
                assert!(sum <= bound, "{sum} admitted in [{s}, {t}], the bound is {bound}: {terms:?}");
                let last_at_t = by_time.get(index + 1).is_none_or(|next| next.0 != t);
                reached |= last_at_t && sum == bound;
            }
        }
        reached
    }
}
