//! How much a limiter admits: never more than its bound, also to threads and on a moving clock, and all that it may.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;
#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::clock::{Clock, Manual};
use elixirscope::limiter::{Bucket, Rule, Verdict};
use oracle::{History, Terms};
use setup::{SECOND, limiter, rule};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

fn key(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

#[test]
fn l02_threads_admit_exactly_the_burst_of_each_fresh_key() {
    const KEYS: u64 = 20_000;
    const BURST: u64 = 3;
    for threads in [2, 4, 16] {
        let (limiter, rule) = (limiter(KEYS), rule(1, 1000 * SECOND, BURST));
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
    for (tokens, period_ns) in [(1, SECOND), (999_983, 30 * 86_400 * SECOND)] {
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
        let bucket = Bucket::new(Rule::new(tokens, SECOND, BURST).unwrap());
        assert!(bucket.check(BURST, || 0).is_allowed());
        let mut now = 0;
        for k in BURST + 1..=ADMISSIONS {
            let decision = bucket.check(1, || now);
            if !decision.is_allowed() {
                now += decision.retry_after_ns;
                assert!(bucket.check(1, || now).is_allowed());
            }
            let exact = (u128::from(k - BURST) * u128::from(SECOND)).div_ceil(u128::from(tokens));
            assert_eq!(u128::from(now), exact, "admission {k} at {tokens} a second");
        }
    }
}

#[test]
fn l04_an_effective_rate_has_no_drift_either() {
    let keyed = rule(600_000_001, SECOND, 10);
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
