//! One check: units of time, costs of nothing and of too much, another rule, another time.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;
#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::limiter::{Bucket, Key, KeyedRule, PolicyName, Rule, Verdict};
use setup::{SECOND, limiter, rule};

const MAX: u64 = (1 << 62) - 1;

#[test]
fn l07_coarse_units_are_rounded_up() {
    for (period_ns, ms) in
        [(1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2), (2_000_000_000, 2000), (2_000_000_001, 2001)]
    {
        let bucket = Bucket::new(Rule::new(1, period_ns, 1).unwrap());
        assert_eq!(bucket.check(1, || 0).retry_after_ms(), 0);
        let refused = bucket.check(1, || 0);
        assert_eq!((refused.retry_after_ns, refused.retry_after_ms()), (period_ns, ms));
        assert_eq!(refused.reset_after_ms(), ms);
    }
    let never = Bucket::new(Rule::new(1, 1, 1).unwrap()).check(2, || 0);
    assert_eq!((never.retry_after_ns, never.retry_after_ms()), (u64::MAX, u64::MAX));
}

/// Seconds as they stand in `Retry-After`: none where no wait helps, and none after an admission.
#[test]
fn l07_seconds_are_rounded_up() {
    for (period_ns, seconds) in [(1, 1), (SECOND, 1), (SECOND + 1, 2), (2 * SECOND, 2)] {
        let bucket = Bucket::new(Rule::new(1, period_ns, 1).unwrap());
        assert_eq!(bucket.check(1, || 0).retry_after_s(), None);
        assert_eq!(bucket.check(1, || 0).retry_after_s(), Some(seconds));
        assert_eq!(bucket.check(2, || 0).retry_after_s(), None);
    }
}

#[test]
fn l07_header_fields_tell_whole_seconds() {
    let (bucket, name) = (Bucket::new(Rule::new(3, SECOND, 2).unwrap()), PolicyName::new("a \"b\\").unwrap());
    let mut policy = String::new();
    name.write_policy(bucket.rule(), &mut policy).unwrap();
    assert_eq!(policy, r#""a \"b\\";q=3;w=1"#);
    let limit = |decision| {
        let mut field = String::new();
        name.write_limit(&decision, &mut field).unwrap();
        field
    };
    assert_eq!(limit(bucket.peek(|| 0)), r#""a \"b\\";r=2;t=0"#);
    assert_eq!(limit(bucket.check(1, || 0)), r#""a \"b\\";r=1;t=1"#);
    assert_eq!(limit(bucket.check(1, || 0)), r#""a \"b\\";r=0;t=1"#);
    let rare = Bucket::new(Rule::new(1, 1_500_000_000, 2).unwrap());
    rare.check(2, || 0);
    assert_eq!(limit(rare.check(1, || 0)), r#""a \"b\\";r=0;t=2"#, "after a refusal until the retry");
    assert_eq!(limit(rare.check(3, || 0)), r#""a \"b\\";r=0;t=3"#, "else until all is back");
    let mut rounded = String::new();
    name.write_policy(rare.rule(), &mut rounded).unwrap();
    assert_eq!(rounded, r#""a \"b\\";q=1;w=2"#);
    for wrong in ["", "zeile\n", "ключ", &"x".repeat(65)] {
        assert_eq!(PolicyName::new(wrong).unwrap_err().argument, "policy_name");
    }
    assert!(PolicyName::new(&"x".repeat(64)).is_ok());
}

#[test]
fn l08_a_bucket_counts_what_no_wait_can_admit_by_itself() {
    for (tokens, period_ns) in [(1, SECOND), (999_983, 30 * 86_400 * SECOND)] {
        let bucket = Bucket::new(Rule::new(tokens, period_ns, 3).unwrap());
        assert!(bucket.check(1, || 5).is_allowed());
        assert_eq!(bucket.check(3, || 5).verdict, Verdict::Limited, "as much as the burst");
        assert_eq!(bucket.counts(), (1, 1, 0));
        for cost in [4, MAX] {
            assert_eq!(bucket.check(cost, || 5).verdict, Verdict::Never);
        }
        assert_eq!(bucket.counts(), (1, 1, 2));
    }
}

#[test]
fn l09_zeroes() {
    let limiter = limiter(8);
    let (key, usual, blocked) = (limiter.key(b"key"), rule(1, 10, 2), rule(1, 10, 0));

    let nothing = limiter.check(key, &usual, 0, || 5);
    assert_eq!((nothing.verdict, nothing.remaining), (Verdict::Allowed, 2));
    assert!(!limiter.reset(key), "a cost of zero makes no entry");

    assert_eq!(limiter.check(key, &blocked, 0, || 5).verdict, Verdict::Allowed);
    let refused = limiter.check(key, &blocked, 1, || 5);
    assert_eq!((refused.verdict, refused.limit, refused.remaining), (Verdict::Never, 0, 0));
    assert_eq!(limiter.peek(key, &blocked, || 5).verdict, Verdict::Never);
}

/// To an older clock, or under a rule with a smaller burst, a key can owe more than a full bucket.
#[test]
fn l09_a_cost_of_zero_passes_whatever_is_owed() {
    let (limiter, wide, narrow) = (limiter(8), rule(1, 10, 4), rule(1, 10, 1));
    let (key, bucket) = (limiter.key(b"key"), Bucket::new(*wide.effective()));
    assert!(limiter.check(key, &wide, 4, || 1000).is_allowed());
    assert!(bucket.check(4, || 1000).is_allowed());
    for nothing in
        [limiter.check(key, &wide, 0, || 0), limiter.check(key, &narrow, 0, || 1000), bucket.check(0, || 0)]
    {
        assert_eq!((nothing.verdict, nothing.remaining, nothing.retry_after_ns), (Verdict::Allowed, 0, 0));
    }
    assert_eq!(limiter.peek(key, &wide, || 1000).reset_after_ns, 40, "nothing was written");
}

#[test]
fn l10_a_peek_of_an_absent_key_is_full_and_makes_no_entry() {
    let limiter = limiter(8);
    let peeked = limiter.peek(limiter.key(b"nobody"), &rule(1, 10, 4), || 5);
    assert_eq!((peeked.verdict, peeked.remaining, peeked.reset_after_ns), (Verdict::Allowed, 4, 0));
    assert!(!limiter.reset(limiter.key(b"nobody")));
}

/// Two rules on one key: who is denied by the one with the short memory has not paid what the other one asks.
#[test]
fn l20_a_denied_call_with_another_rule_forgives_nothing() {
    let (limiter, daily, quick) = (limiter(8), rule(24, 86_400 * SECOND, 24), rule(1, 10, 1));
    let (key, day) = (limiter.key(b"key"), 86_400 * SECOND);
    assert!(limiter.check(key, &daily, 24, || 0).is_allowed());
    let refused = limiter.check(key, &quick, 1, || 0);
    assert_eq!((refused.verdict, refused.retry_after_ns), (Verdict::Limited, day));
    assert_eq!(limiter.check(key, &daily, 1, || 0).retry_after_ns, day / 24);
    assert!(!limiter.check(key, &quick, 1, || day - 1).is_allowed());
    assert!(limiter.check(key, &quick, 1, || day).is_allowed());
}

#[test]
fn l21_an_older_time_is_stricter() {
    let (limiter, rule) = (limiter(8), rule(1, 10, 2));
    let key = limiter.key(b"key");
    assert!(limiter.check(key, &rule, 2, || 1000).is_allowed());
    let earlier = limiter.check(key, &rule, 1, || 900);
    assert_eq!((earlier.verdict, earlier.retry_after_ns), (Verdict::Limited, 110));
    assert!(!limiter.check(key, &rule, 1, || 0).is_allowed());
    assert!(limiter.check(key, &rule, 1, || 1010).is_allowed());
}

/// A key that owed nothing lost its place at 15. A check of it with an older time must not count the time up to
/// 15 as refill once more.
#[test]
fn l21_a_lost_key_is_not_refilled_twice() {
    let (limiter, rule, long) = (limiter(1), rule(1, 10, 1), rule(1, 1000, 1));
    let key = limiter.key(b"lost");
    assert!(limiter.check(key, &rule, 1, || 0).is_allowed());
    // Others crowd the table at 15 until the lost key's place is taken, then leave.
    let others: Vec<Key> = (0..200).map(|number| limiter.key(&u64::to_le_bytes(number))).collect();
    for other in &others {
        limiter.check(*other, &long, 1, || 15);
    }
    assert_eq!(limiter.peek(key, &rule, || 9).reset_after_ns, 0, "its entry is gone");
    others.iter().for_each(|other| _ = limiter.reset(*other));

    assert!(limiter.check(key, &rule, 1, || 10).is_allowed());
    assert!(!limiter.check(key, &rule, 1, || 24).is_allowed());
    assert!(limiter.check(key, &rule, 1, || 25).is_allowed());
}

#[test]
fn l21_the_ends_of_time_work() {
    let rule = Rule::new(1, 10, 2).unwrap();
    for now in [0, MAX - 20] {
        let bucket = Bucket::new(rule);
        assert!(bucket.check(2, || now).is_allowed());
        assert_eq!(bucket.check(1, || now).retry_after_ns, 10);
        assert!(bucket.check(1, || now + 10).is_allowed());
    }
    // Time stops at the end; no call wraps or panics.
    let (bucket, limiter) = (Bucket::new(rule), limiter(8));
    let (key, rule) = (limiter.key(b"key"), KeyedRule::new(rule).unwrap());
    for now in [MAX, u64::MAX] {
        let decision = bucket.check(1, || now);
        assert_eq!(limiter.check(key, &rule, 1, || now), decision);
        assert!(decision.is_allowed());
    }
    assert_eq!(bucket.check(1, || u64::MAX).verdict, Verdict::Limited);
    assert_eq!(limiter.check(key, &rule, 1, || u64::MAX).verdict, Verdict::Limited);
}

#[test]
fn l21_the_last_instant_of_a_table_is_where_its_time_stops() {
    let (limiter, rule) = (limiter(8), rule(1, 10, 2));
    let key = limiter.key(b"key");
    assert!(limiter.check(key, &rule, 2, || setup::END - 10).is_allowed());
    assert_eq!(limiter.check(key, &rule, 1, || setup::END - 1).retry_after_ns, 1);
    assert!(limiter.check(key, &rule, 1, || setup::END).is_allowed());
    assert_eq!(limiter.check(key, &rule, 1, || u64::MAX).retry_after_ns, 10);
}

/// The floor is raised where a place is taken from somebody, and only there.
#[test]
fn l21_a_key_that_takes_an_empty_place_makes_no_other_wait() {
    let (limiter, rule) = (limiter(8), rule(1, 10, 1));
    assert!(limiter.check(limiter.key(b"early"), &rule, 1, || 1000).is_allowed());
    let late = limiter.key(b"late");
    assert_eq!(limiter.check(late, &rule, 1, || 5).reset_after_ns, 10);
    assert_eq!(limiter.peek(late, &rule, || 5).reset_after_ns, 10);
}

#[test]
fn l21_a_first_touch_asks_for_one_nonce() {
    let (table, rule) = (setup::table(8), rule(1, 10, 2));
    let mut asked = 0;
    let mut check = |number| {
        let decision = table.check(Key::from_raw(number), &rule, 1, 5, || {
            asked += 1;
            asked
        });
        (decision.verdict, asked)
    };
    assert_eq!([check(1), check(1), check(1)].map(|(_, asked)| asked), [1; 3]);
    assert_eq!([check(2), check(2)], [(Verdict::Allowed, 2); 2]);
}
