//! The limiter's rules that are about threads, the clock, ranges and the words of an error.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;

#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::clock::{Clock, Manual};
use elixirscope::limiter::{Bucket, Key, KeyedRule, Limiter, LimiterConfig, PolicyName, Rule, Verdict};
use oracle::{History, Terms};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

const MAX: u64 = (1 << 62) - 1;
const SECOND_NS: u64 = 1_000_000_000;

fn rule(tokens: u64, period_ns: u64, burst: u64) -> KeyedRule {
    KeyedRule::new(Rule::new(tokens, period_ns, burst).unwrap()).unwrap()
}

fn limiter(max_keys: u64) -> Limiter {
    Limiter::new(&LimiterConfig { max_keys, secret: Some([7; 16]), ..LimiterConfig::default() }).unwrap()
}

fn key(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

#[test]
fn l02_threads_admit_exactly_the_burst_of_each_fresh_key() {
    const KEYS: u64 = 20_000;
    const BURST: u64 = 3;
    for threads in [2, 4, 16] {
        let (limiter, rule) = (limiter(KEYS), rule(1, 1000 * SECOND_NS, BURST));
        let barrier = Barrier::new(threads);
        let admitted: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    barrier.wait();
                    for (number, admitted) in (0..).zip(&admitted) {
                        let key = limiter.key(&key(number));
                        for _ in 0..BURST {
                            let decision = limiter.check(key, &rule, 1, || 5);
                            assert_ne!(decision.verdict, Verdict::TableFull);
                            admitted.fetch_add(u64::from(decision.is_allowed()), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(admitted.iter().all(|count| count.load(Ordering::Relaxed) == BURST), "{threads} threads");
        let stats = limiter.stats();
        assert_eq!((stats.allowed, stats.limited), (KEYS * BURST, KEYS * BURST * (threads as u64 - 1)));
    }
}

#[test]
fn l02_threads_share_one_bucket_exactly() {
    for (tokens, period_ns) in [(1, SECOND_NS), (999_983, 30 * 86_400 * SECOND_NS)] {
        let bucket = Bucket::new(Rule::new(tokens, period_ns, 10_000).unwrap());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5000).for_each(|_| _ = bucket.check(1, || 5)));
            }
        });
        assert_eq!(bucket.counts(), (10_000, 10_000, 0));
    }
}

/// The clock moves on only after a denial at the time that it shows, and by less than a full bucket: no refill is lost, so
/// whatever the threads did, the admissions are those of one caller. Neither one too many nor a false denial.
#[test]
fn l02_threads_on_a_moving_clock_admit_exactly_what_was_refilled() {
    const BURST: u64 = 5;
    const END: u64 = 100_003;
    for (tokens, period_ns) in [(1, 7), (3, 10), (1, 1)] {
        let rule = rule(tokens, period_ns, BURST);
        let (limiter, bucket) = (limiter(8), Bucket::new(*rule.effective()));
        let key = limiter.key(b"key");
        let check_key = |now| limiter.check(key, &rule, 1, || now).is_allowed();
        let check_bucket = |now| bucket.check(1, || now).is_allowed();
        for check in [&check_key as &(dyn Fn(u64) -> bool + Sync), &check_bucket] {
            let (clock, admitted) = (Manual::new(0), AtomicU64::new(0));
            let is_admitted = || {
                let allowed = check(clock.now_ns());
                admitted.fetch_add(u64::from(allowed), Ordering::Relaxed);
                allowed
            };
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while clock.now_ns() < END {
                            is_admitted();
                        }
                    });
                }
                for step in (1..=(BURST - 1) * period_ns / tokens).cycle() {
                    while is_admitted() {}
                    let left = END - clock.now_ns();
                    if left == 0 {
                        break;
                    }
                    clock.advance(step.min(left));
                }
            });
            assert_eq!(
                admitted.into_inner(),
                BURST + tokens * END / period_ns,
                "{tokens} per {period_ns} ns"
            );
        }
    }
}

/// Threads on a moving clock, over keys that lose their places to each other. The times of a history are those
/// read before each call; a check of a key whose place was lost may count from up to the time it returned at.
#[test]
fn l03_a_moving_clock_and_reused_places_keep_the_bound() {
    const TERMS: Terms = Terms { tokens: 1, period_ns: 20, burst: 4 };
    const KEYS: usize = 16;
    let (limiter, rule) = (limiter(1), rule(TERMS.tokens, TERMS.period_ns, TERMS.burst));
    let clock = Manual::new(0);
    let histories: Vec<Mutex<Vec<(u64, u64)>>> = (0..KEYS).map(|_| Mutex::default()).collect();
    thread::scope(|scope| {
        for seed in 1..=4_u64 {
            let (limiter, rule, clock, histories) = (&limiter, &rule, &clock, &histories);
            scope.spawn(move || {
                let mut random = seed;
                for _ in 0..20_000 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let number = (random >> 40) as usize % KEYS;
                    if random >> 61 == 0 {
                        clock.advance(15);
                    }
                    let before = clock.now_ns();
                    let key = limiter.key(&key(number as u64));
                    if limiter.check(key, rule, 1, || before).is_allowed() {
                        histories[number].lock().unwrap().push((before, clock.now_ns()));
                    }
                }
            });
        }
    });
    for history in histories {
        let mut admitted = history.into_inner().unwrap();
        assert!(admitted.len() > 20, "the keys were used");
        admitted.sort_unstable();
        for (first, &(s, _)) in admitted.iter().enumerate() {
            let mut latest = 0;
            for (count, &(_, returned)) in (1_u64..).zip(&admitted[first..]) {
                latest = latest.max(returned);
                assert!(count <= TERMS.burst + (latest - s) / TERMS.period_ns, "in [{s}, {latest}]");
            }
        }
    }
}

#[test]
fn l03_the_bound_is_reached() {
    let terms = Terms { tokens: 3, period_ns: 10, burst: 5 };
    let bucket = Bucket::new(Rule::new(terms.tokens, terms.period_ns, terms.burst).unwrap());
    let mut history = History::default();
    for now in 0..200 {
        while bucket.check(1, || now).is_allowed() {
            history.add(now, 1);
        }
    }
    assert!(history.assert_bounded(terms));
}

/// The `k`-th admission of a greedy caller is at exactly `ceil((k - burst) * period / tokens)`.
#[test]
fn l04_a_greedy_caller_sees_no_drift() {
    const BURST: u64 = 10;
    const ADMISSIONS: u64 = 10_000_000;
    for tokens in [3, 7919, 600_000_001] {
        let bucket = Bucket::new(Rule::new(tokens, SECOND_NS, BURST).unwrap());
        assert!(bucket.check(BURST, || 0).is_allowed());
        let mut now = 0;
        for k in BURST + 1..=ADMISSIONS {
            let decision = bucket.check(1, || now);
            if !decision.is_allowed() {
                now += decision.retry_after_ns;
                assert!(bucket.check(1, || now).is_allowed());
            }
            let exact = (u128::from(k - BURST) * u128::from(SECOND_NS)).div_ceil(u128::from(tokens));
            assert_eq!(u128::from(now), exact, "admission {k} at {tokens} a second");
        }
    }
}

#[test]
fn l04_an_effective_rate_has_no_drift_either() {
    let keyed = rule(600_000_001, SECOND_NS, 10);
    let (tokens, period_ns) = (keyed.effective().tokens(), keyed.effective().period_ns());
    assert!(tokens <= 58);
    let limiter = limiter(8);
    let key = limiter.key(b"key");
    assert!(limiter.check(key, &keyed, 10, || 0).is_allowed());
    let mut now = 0;
    for k in 1..=100_000_u64 {
        now += limiter.check(key, &keyed, 1, || now).retry_after_ns;
        let exact = (k * period_ns).div_ceil(tokens);
        assert!(limiter.check(key, &keyed, 1, || exact).is_allowed());
        assert!(now <= exact);
        now = exact;
    }
}

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
    for (period_ns, seconds) in [(1, 1), (SECOND_NS, 1), (SECOND_NS + 1, 2), (2 * SECOND_NS, 2)] {
        let bucket = Bucket::new(Rule::new(1, period_ns, 1).unwrap());
        assert_eq!(bucket.check(1, || 0).retry_after_s(), None);
        assert_eq!(bucket.check(1, || 0).retry_after_s(), Some(seconds));
        assert_eq!(bucket.check(2, || 0).retry_after_s(), None);
    }
}

#[test]
fn l07_header_fields_tell_whole_seconds() {
    let (bucket, name) =
        (Bucket::new(Rule::new(3, SECOND_NS, 2).unwrap()), PolicyName::new("a \"b\\").unwrap());
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
    for (tokens, period_ns) in [(1, SECOND_NS), (999_983, 30 * 86_400 * SECOND_NS)] {
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
    let (limiter, daily, quick) = (limiter(8), rule(24, 86_400 * SECOND_NS, 24), rule(1, 10, 1));
    let (key, day) = (limiter.key(b"key"), 86_400 * SECOND_NS);
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
    let others: Vec<Key> = (0..200).map(|number| limiter.key(&self::key(number))).collect();
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

#[test]
fn l22_a_rule_out_of_range_names_the_argument() {
    for (tokens, period_ns, burst, argument, value) in [
        (0, 1, 1, "tokens", 0),
        (MAX + 1, 1, 1, "tokens", MAX + 1),
        (1, 0, 1, "period_ns", 0),
        (1, u64::MAX, 1, "period_ns", u64::MAX),
        (MAX, 1, MAX + 1, "burst", MAX + 1),
        (1, MAX, 2, "burst", 2),
        (2, MAX, 3, "burst", 3),
    ] {
        let error = Rule::new(tokens, period_ns, burst).unwrap_err();
        assert_eq!((error.argument, error.value), (argument, value));
        let allowed = match argument {
            "burst" => format!("0 to {MAX}, and refilled within {MAX} ns"),
            _ => format!("1 to {MAX}"),
        };
        assert_eq!(error.to_string(), format!("`{argument}` is {value}, allowed is {allowed}"));
    }
    for (tokens, period_ns, burst) in [(1, 1, MAX), (MAX, 1, MAX), (1, MAX, 1), (MAX, MAX, MAX), (1, 1, 0)] {
        assert!(Rule::new(tokens, period_ns, burst).is_ok());
    }
}

/// The best of all fractions that a table can keep, in its lowest terms, up to a thousandth below what was asked for.
#[test]
fn l22_a_rate_becomes_the_nearest_slower_one_that_fits() {
    let mut refused = 0;
    for tokens in (59..3000).chain((1..1000).map(|step| step * 1_000_003)) {
        for period_ns in [1000, 1007, 1_000_000, SECOND_NS] {
            let (n, w) = (u128::from(tokens), u128::from(period_ns));
            // As the excess over the asked interval `w / n`, in parts of `m * n`.
            let interval = |m: u128| (w * m).div_ceil(n);
            let excess = |m: u128| interval(m) * n - w * m;
            let best = (2..=58).fold(1, |best, m| if excess(m) * best < excess(best) * m { m } else { best });
            let fits = excess(best) * 1000 <= w * best;
            let keyed = KeyedRule::new(Rule::new(tokens, period_ns, 5).unwrap());
            assert_eq!(keyed.is_ok(), fits, "{tokens} per {period_ns}");
            refused += u64::from(!fits);
            let now = keyed.map(|rule| (rule.effective().tokens(), rule.effective().period_ns()));
            if let Ok((tokens_now, period_now)) = now
                && excess(best) > 0
            {
                let now = (u128::from(tokens_now), u128::from(period_now));
                assert_eq!(now, (best, interval(best)), "{tokens} per {period_ns}");
            }
        }
    }
    assert!(refused > 100, "{refused}");
    let effective = |tokens, period_ns| {
        KeyedRule::new(Rule::new(tokens, period_ns, 5).unwrap()).map(|rule| *rule.effective())
    };
    // One in a thousand is near enough, and one in 999 is not.
    assert_eq!(effective(1001, 1000), Ok(Rule::new(1, 1, 5).unwrap()));
    assert_eq!(effective(1000, 999).unwrap_err().argument, "tokens");
    assert_eq!(effective(417, 625), Ok(Rule::new(2, 3, 5).unwrap()));
}

#[test]
fn l22_a_table_refuses_what_it_cannot_keep_exactly_enough() {
    let keyed = |tokens, period_ns, burst| KeyedRule::new(Rule::new(tokens, period_ns, burst).unwrap());
    for exact in [(1, 1, 1), (58, 1, 1000), (1, 30 * 86_400 * SECOND_NS, 1), (10, 60 * SECOND_NS, 10)] {
        let effective = *keyed(exact.0, exact.1, exact.2).unwrap().effective();
        assert_eq!((effective.tokens(), effective.period_ns(), effective.burst()), exact);
    }
    let error = keyed(59, 1, 1).unwrap_err();
    assert_eq!((error.argument, error.value), ("tokens", 59));
    assert_eq!(error.allowed, "a rate that a fraction of at most 58 tokens meets within 0.1 %");
    let error = keyed(58, 59, MAX / 2).unwrap_err();
    assert_eq!((error.argument, error.value), ("burst", MAX / 2));
    // What the message allows is allowed at every rate: a bucket that 58 tokens a nanosecond fill in 330 days.
    assert_eq!(error.allowed, "a burst that is refilled within 330 days");
    assert!(keyed(58, 1, 58 * 330 * 86_400 * SECOND_NS).is_ok());
    assert!(keyed(58, 1, 58 * 331 * 86_400 * SECOND_NS).is_err());
    // To the tick: an instant whose first byte is 0xFF is that of a first touch.
    let room = (0xFF << 56) - 1 - 58 * setup::END;
    assert!(keyed(58, 1, room).is_ok() && keyed(58, 1, room + 1).is_err());

    let config = |max_keys| LimiterConfig { max_keys, ..LimiterConfig::default() };
    for max_keys in [0, (1 << 28) + 1, u64::MAX] {
        let error = Limiter::new(&config(max_keys)).unwrap_err();
        assert_eq!((error.argument, error.value), ("max_keys", max_keys));
        assert_eq!(error.allowed, format!("1 to {}", 1 << 28));
    }
    assert_eq!([1, 1 << 28].map(|max_keys| config(max_keys).validate()), [Ok(()); 2]);
    assert_eq!(LimiterConfig::default().max_keys, 65_536);
}

#[test]
fn a_binary_has_one_key_under_a_secret_and_another_under_another() {
    let (ours, same) = (limiter(8), limiter(8));
    let other =
        Limiter::new(&LimiterConfig { max_keys: 8, secret: Some([8; 16]), ..LimiterConfig::default() })
            .unwrap();
    assert_eq!(ours.key(b"user:1"), same.key(b"user:1"));
    assert_ne!(ours.key(b"user:1"), ours.key(b"user:2"));
    assert_ne!(ours.key(b"user:1"), other.key(b"user:1"));
    assert!(ours.key(b"user:1").to_raw() < 1 << 56);
    let drawn = || {
        Limiter::new(&LimiterConfig { max_keys: 8, secret: None, ..LimiterConfig::default() })
            .unwrap()
            .key(b"user:1")
    };
    assert_ne!(drawn(), drawn());
}

/// The first entry of the known table of SipHash-1-3: key 00 01 .. 0f, no bytes.
#[test]
fn keys_are_siphash_1_3() {
    let secret = std::array::from_fn(|index| index as u8);
    let limiter =
        Limiter::new(&LimiterConfig { max_keys: 8, secret: Some(secret), ..LimiterConfig::default() })
            .unwrap();
    assert_eq!(limiter.key(&[]).to_raw(), 0xabac_0158_050f_c4dc & ((1 << 56) - 1));
}

#[test]
fn a_structured_key_never_meets_a_binary() {
    let limiter = limiter(8);
    let mut hasher = limiter.key_hasher();
    hasher.write_u8(1);
    hasher.write_u64(7);
    hasher.write(b"name");
    let mut spelled = vec![1];
    spelled.extend_from_slice(&7_u64.to_le_bytes());
    spelled.extend_from_slice(b"name");
    assert_ne!(hasher.finish(), limiter.key(&spelled));

    let mut at_once = limiter.key_hasher();
    at_once.write(&spelled);
    assert_eq!(hasher.finish(), at_once.finish(), "pieces hash like their concatenation");
    assert_eq!(limiter.key_hasher().finish_with(&spelled), at_once.finish());

    let mut begun = limiter.key_hasher();
    begun.write(&spelled[..3]);
    assert_eq!(begun.finish_with(&spelled[3..]), at_once.finish());
}
