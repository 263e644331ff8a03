//! The limiter against the integer model, one property a rule.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;

use elixirscope::limiter::{
    Bucket, Decision, Key, KeyedRule, Limiter, LimiterConfig, Line, Rule, Table, Verdict,
};
use oracle::{History, KeyedModel, Model, Terms};
use proptest::prelude::*;

const MAX: u64 = (1 << 62) - 1;
const DAY_NS: u64 = 86_400_000_000_000;
/// Time of a table ends here.
const TABLE_MAX_NOW: u64 = (1 << 58) - 1;

/// Terms that a bucket takes: small ones, ones of the kind that users write, and ones at the ends of the range.
fn any_terms() -> impl Strategy<Value = Terms> {
    let small = (1..20_u64, 1..50_u64, 0..12_u64);
    let usual = (
        prop_oneof![1..2000_u64, Just(7919), Just(600_000_001)],
        prop_oneof![Just(1_000_000_000), Just(60_000_000_000), Just(30 * DAY_NS), 1..2_000_000_000_u64],
        0..2000_u64,
    );
    let wide = (1..=MAX, 1..=MAX, 0..=MAX);
    prop_oneof![small, usual, wide]
        .prop_map(|(tokens, period_ns, burst)| Terms { tokens, period_ns, burst })
        .prop_filter("refilled within 146 years", |terms| rule(*terms).is_some())
}

/// Terms that a table takes as they are: any, at the rate that a table has for them.
fn keyed_terms() -> impl Strategy<Value = Terms> {
    any_terms().prop_filter_map("a table has no such rate", |terms| {
        let effective = *KeyedRule::new(rule(terms)?).ok()?.effective();
        let terms =
            Terms { tokens: effective.tokens(), period_ns: effective.period_ns(), burst: effective.burst() };
        (*KeyedRule::new(effective).ok()?.effective() == effective).then_some(terms)
    })
}

fn rule(terms: Terms) -> Option<Rule> {
    Rule::new(terms.tokens, terms.period_ns, terms.burst).ok()
}

fn keyed(terms: Terms) -> KeyedRule {
    KeyedRule::new(rule(terms).unwrap()).unwrap()
}

/// One step: how far the clock goes, as a share of the time one token takes, and a cost, as a share of the
/// burst.
#[derive(Debug, Clone, Copy)]
struct Step {
    key: u64,
    advance: f64,
    cost: Cost,
    reset: bool,
}

#[derive(Debug, Clone, Copy)]
enum Cost {
    Share(f64),
    Exactly(u64),
    Remaining,
    OneMoreThanRemaining,
}

fn steps(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let cost = prop_oneof![
        4 => (0..4_u64).prop_map(Cost::Exactly),
        2 => (0.0..1.1).prop_map(Cost::Share),
        1 => Just(Cost::Remaining),
        1 => Just(Cost::OneMoreThanRemaining),
    ];
    let advance = prop_oneof![2 => Just(0.0), 3 => 0.0..2.0, 1 => 0.0..50.0];
    let step = (0..4_u64, advance, cost, prop::bool::weighted(0.02))
        .prop_map(|(key, advance, cost, reset)| Step { key, advance, cost, reset });
    prop::collection::vec(step, 1..length)
}

impl Step {
    fn now(&self, terms: Terms, before: u64, end: u64) -> u64 {
        let interval = terms.period_ns as f64 / terms.tokens as f64;
        before.saturating_add((interval * self.advance) as u64).min(end)
    }

    fn cost(&self, terms: Terms, remaining: u64) -> u64 {
        match self.cost {
            Cost::Exactly(cost) => cost,
            Cost::Share(share) => (terms.burst as f64 * share) as u64,
            Cost::Remaining => remaining,
            Cost::OneMoreThanRemaining => remaining + 1,
        }
    }
}

fn limiter(max_keys: u64) -> Limiter {
    Limiter::new(&LimiterConfig { max_keys, secret: Some(*b"sixteen bytes ok"), ..LimiterConfig::default() })
        .unwrap()
}

fn table(max_keys: u64) -> Table<Box<[Line]>> {
    let lines: Vec<Line> = (0..Table::<Box<[Line]>>::lines_for(max_keys)).map(|_| Line::new()).collect();
    Table::over(lines.into_boxed_slice()).unwrap()
}

/// Nonces for tables with one thread.
fn nonce() -> impl FnMut() -> u64 {
    let mut last = 0;
    move || {
        last += 1;
        last
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn l01_a_bucket_decides_like_the_model(terms in any_terms(), start in 0..=MAX / 2, steps in steps(120)) {
        let bucket = Bucket::new(rule(terms).unwrap());
        let mut model = Model::new(terms);
        let mut now = start;
        for step in steps {
            now = step.now(terms, now, MAX);
            if step.reset {
                bucket.reset();
                model.reset();
            }
            let peeked = bucket.peek(|| now);
            prop_assert_eq!(peeked, model.peek(now));
            let cost = step.cost(terms, peeked.remaining);
            prop_assert_eq!(bucket.check(cost, || now), model.check(cost, now));
        }
    }

    #[test]
    fn l01_a_table_decides_like_the_model(
        terms in keyed_terms(), start in 0..=TABLE_MAX_NOW / 2, steps in steps(120),
    ) {
        let (limiter, rule) = (limiter(64), keyed(terms));
        let mut model = KeyedModel::new(terms);
        let mut now = start;
        for step in steps {
            now = step.now(terms, now, TABLE_MAX_NOW);
            let (key, model) = (limiter.key(&step.key.to_le_bytes()), model.of(step.key));
            if step.reset {
                limiter.reset(key);
                model.reset();
            }
            let peeked = limiter.peek(key, &rule, || now);
            prop_assert_eq!(peeked, model.peek(now));
            let cost = step.cost(terms, peeked.remaining);
            prop_assert_eq!(limiter.check(key, &rule, cost, || now), model.check(cost, now));
        }
    }

    #[test]
    fn l03_no_interval_admits_more_than_burst_and_refill(terms in keyed_terms(), steps in steps(150)) {
        let (limiter, rule) = (limiter(4), keyed(terms));
        let key = limiter.key(b"key");
        let mut history = History::default();
        let mut now = 0;
        for step in steps {
            now = step.now(terms, now, TABLE_MAX_NOW);
            let cost = step.cost(terms, limiter.peek(key, &rule, || now).remaining);
            if limiter.check(key, &rule, cost, || now).is_allowed() {
                history.add(now, cost);
            }
        }
        history.assert_bounded(terms);
    }

    #[test]
    fn l05_a_denial_writes_nothing(terms in keyed_terms(), steps in steps(60)) {
        let (table, rule) = (table(8), keyed(terms));
        let mut nonce = nonce();
        let mut now = 0;
        for step in steps {
            now = step.now(terms, now, TABLE_MAX_NOW);
            let key = Key::from_raw(step.key);
            let before = format!("{table:?}");
            let cost = step.cost(terms, table.peek(key, &rule, now).remaining);
            let decision = table.check(key, &rule, cost, now, &mut nonce);
            if !decision.is_allowed() || cost == 0 {
                prop_assert_eq!(before, format!("{table:?}"));
            } else {
                prop_assert_ne!(before, format!("{table:?}"));
            }
        }
    }

    #[test]
    fn l06_a_retry_succeeds_at_its_time_and_not_before(terms in any_terms(), steps in steps(60)) {
        let mut now = 0;
        let mut model = Model::new(terms);
        for step in steps {
            now = step.now(terms, now, MAX / 4);
            let cost = step.cost(terms, model.peek(now).remaining);
            let decision = model.check(cost, now);
            // The model's own history brings a fresh bucket to the same debt.
            let bucket = Bucket::new(rule(terms).unwrap());
            let owed = terms.burst - model.peek(now).remaining;
            prop_assert!(bucket.check(owed, || now).is_allowed());
            match decision.verdict {
                Verdict::Limited => {
                    let refused = bucket.check(cost, || now);
                    prop_assert_eq!(refused.verdict, Verdict::Limited);
                    let wait = refused.retry_after_ns;
                    prop_assert!(wait >= 1);
                    prop_assert!(!bucket.check(cost, || now + wait - 1).is_allowed());
                    prop_assert!(bucket.check(cost, || now + wait).is_allowed());
                }
                Verdict::Allowed => prop_assert_eq!(decision.retry_after_ns, 0),
                Verdict::Never => prop_assert_eq!(decision.retry_after_ns, u64::MAX),
                Verdict::TableFull => unreachable!(),
            }
        }
    }

    #[test]
    fn l08_a_cost_above_the_burst_is_never_admitted(
        terms in keyed_terms(), above in 1..=u64::MAX - MAX, now in 0..TABLE_MAX_NOW,
    ) {
        let table = table(8);
        let before = format!("{table:?}");
        let cost = terms.burst + above;
        let decision = table.check(Key::from_raw(1), &keyed(terms), cost, now, nonce());
        prop_assert_eq!(decision, Decision {
            verdict: Verdict::Never, remaining: terms.burst, limit: terms.burst,
            retry_after_ns: u64::MAX, reset_after_ns: 0,
        });
        prop_assert_eq!(Bucket::new(rule(terms).unwrap()).check(cost, || now), decision);
        prop_assert_eq!(before, format!("{table:?}"));
    }

    #[test]
    fn l10_a_peek_tells_the_largest_cost_and_the_first_full_instant(
        terms in keyed_terms(), steps in steps(40),
    ) {
        let (limiter, rule) = (limiter(8), keyed(terms));
        let key = limiter.key(b"key");
        let mut now = 0;
        for step in steps {
            now = step.now(terms, now, TABLE_MAX_NOW / 8);
            let peeked = limiter.peek(key, &rule, || now);
            prop_assert_eq!(limiter.peek(key, &rule, || now), peeked);
            prop_assert!(!limiter.check(key, &rule, peeked.remaining + 1, || now).is_allowed());
            let full = now + peeked.reset_after_ns;
            // Beyond that a table's time stands still.
            if full <= TABLE_MAX_NOW {
                prop_assert_eq!(limiter.peek(key, &rule, || full).reset_after_ns, 0);
                prop_assert_eq!(limiter.peek(key, &rule, || full).remaining, terms.burst);
                if peeked.reset_after_ns > 0 {
                    prop_assert_eq!(limiter.peek(key, &rule, || full - 1).reset_after_ns, 1);
                }
            }
            let cost = step.cost(terms, peeked.remaining).min(peeked.remaining);
            prop_assert!(limiter.check(key, &rule, cost, || now).is_allowed());
        }
    }

    /// Whatever order the times come in, the cost admitted with times in an interval stays bounded.
    #[test]
    fn l21_times_in_any_order_admit_no_more_than_the_bound(
        terms in keyed_terms(), times in prop::collection::vec((0.0..20.0, 0..4_u64), 1..150),
    ) {
        let (limiter, rule, bucket) = (limiter(64), keyed(terms), Bucket::new(rule(terms).unwrap()));
        let key = limiter.key(b"key");
        let (mut of_key, mut of_bucket) = (History::default(), History::default());
        for (share, cost) in times {
            let interval = terms.period_ns as f64 / terms.tokens as f64;
            let now = ((interval * share) as u64).min(TABLE_MAX_NOW);
            let decision = limiter.check(key, &rule, cost, || now);
            prop_assert_eq!(bucket.check(cost, || now), decision);
            if decision.is_allowed() {
                of_key.add(now, cost);
                of_bucket.add(now, cost);
            }
        }
        of_key.assert_bounded(terms);
        of_bucket.assert_bounded(terms);
    }

    /// A rule comes with the call: what a key owes stays the same time.
    #[test]
    fn l20_a_change_of_rule_keeps_the_debt_in_time(
        old in keyed_terms(), new in keyed_terms(), share in 0.0..=1.0, elapsed in 0..1000_u64,
    ) {
        let limiter = limiter(8);
        let key = limiter.key(b"key");
        let cost = (old.burst as f64 * share) as u64;
        limiter.check(key, &keyed(old), cost.min(old.burst), || 1000);
        let now = 1000 + elapsed;
        let before = limiter.peek(key, &keyed(old), || now).reset_after_ns;
        // In ticks of the new rule, at most 58 a nanosecond, the debt has to fit its word; what does not, ten years and
        // more, ends with it.
        prop_assume!(u128::from(before) * 58 <= u128::from(u64::MAX >> 1), "a debt of years");
        let after = limiter.peek(key, &keyed(new), || now).reset_after_ns;
        // Both are whole nanoseconds, rounded up from ticks that are never longer than one nanosecond.
        prop_assert!(after.abs_diff(before) <= 1, "{before} ns became {after} ns");
        prop_assert!(after >= before, "the change made tokens");
        // What a check leaves is what the peek promised, and the wait it tells is exact.
        let decision = limiter.check(key, &keyed(new), 1, || now);
        if decision.verdict == Verdict::Limited && now + decision.retry_after_ns <= TABLE_MAX_NOW {
            let wait = decision.retry_after_ns;
            prop_assert!(!limiter.check(key, &keyed(new), 1, || now + wait - 1).is_allowed());
            prop_assert!(limiter.check(key, &keyed(new), 1, || now + wait).is_allowed());
        }
    }

    /// A rate with more than 58 ticks a nanosecond: never faster than asked, at most 0.1 % slower.
    #[test]
    fn l22_a_tables_rate_is_at_most_a_thousandth_slower(
        tokens in 1..=MAX, period_ns in 1..=MAX, burst in 0..4_u64,
    ) {
        let Ok(asked) = Rule::new(tokens, period_ns, burst) else { return Ok(()) };
        let Ok(keyed) = KeyedRule::new(asked) else { return Ok(()) };
        let effective = keyed.effective();
        let ours = u128::from(effective.tokens()) * u128::from(period_ns);
        let theirs = u128::from(tokens) * u128::from(effective.period_ns());
        prop_assert!(ours <= theirs, "faster than asked");
        prop_assert!(theirs - ours <= theirs / 1000 + 1);
        prop_assert_eq!(effective.burst(), burst);
    }

    /// Verdicts equal those of a store that never forgets, though the table has place for few keys and takes
    /// the place of every key that owes nothing.
    #[test]
    fn l24_reuse_of_places_cannot_be_seen(steps in steps(400)) {
        let terms = Terms { tokens: 1, period_ns: 10, burst: 3 };
        let (limiter, rule) = (limiter(1), keyed(terms));
        let mut model = KeyedModel::new(terms);
        let mut now = 0;
        for (round, step) in (0_u64..).zip(steps) {
            now = step.now(terms, now, TABLE_MAX_NOW);
            let name = step.key + 4 * (round / 40);
            let (key, model) = (limiter.key(&name.to_le_bytes()), model.of(name));
            let cost = step.cost(terms, limiter.peek(key, &rule, || now).remaining);
            let decision = limiter.check(key, &rule, cost, || now);
            prop_assert_ne!(decision.verdict, Verdict::TableFull, "four live keys fit sixteen places");
            prop_assert_eq!(decision, model.check(cost, now));
        }
    }
}
