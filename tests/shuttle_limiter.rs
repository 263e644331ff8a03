//! Eight callers on the shipped limiter under random schedules: no key ever gets more than its bound (L01), although
//! keys lose their places and touch the table anew all the time.
//!
//! `ci/shuttle.sh` runs the model, and `ci/shuttle.sh sabotage` shows that it fails without a precaution:
//!
// sabotage: limiter_rescan no_key_gets_more_than_its_bound
// sabotage: limiter_nonce no_key_gets_more_than_its_bound
// sabotage: limiter_floor no_key_gets_more_than_its_bound
#![cfg(escope_shuttle)]

#[path = "support/shuttle.rs"]
mod explore;

use elixirscope::limiter::{Key, KeyedRule, Limiter, LimiterConfig, Rule, Verdict};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const THREADS: usize = 8;
const CHECKS: usize = 5;
/// More than the two places that all of them share.
const KEYS: u64 = 3;
const BURST: u64 = 2;
/// A token comes every so many nanoseconds: so soon that a key is often full again and may lose its place.
const INTERVAL: u64 = 9;

/// An admitted check: its clock was read at `from`, and at `until` it had returned.
#[derive(Debug, Clone, Copy)]
struct Admitted {
    key: u64,
    cost: u64,
    from: u64,
    until: u64,
}

/// Whatever falls whole into `[s, t]` costs at most `burst + (t - s) / interval`, for all s <= t. A check may count at
/// any instant of its call, for a new key's may be later than its clock.
fn stays_within_the_bound(admitted: &[Admitted]) {
    for (first, last) in admitted.iter().flat_map(|first| admitted.iter().map(move |last| (first, last))) {
        let inside = |check: &&Admitted| {
            check.key == first.key && check.from >= first.from && check.until <= last.until
        };
        let cost: u64 = admitted.iter().filter(inside).map(|check| check.cost).sum();
        let bound = BURST + last.until.saturating_sub(first.from) / INTERVAL;
        assert!(cost <= bound, "{first:?} to {last:?} cost {cost}, at most {bound}: {admitted:?}");
    }
}

/// What one caller was told: what it got, and how often which verdict came.
fn checks(limiter: &Limiter, clock: &AtomicU64) -> (Vec<Admitted>, [u64; 3]) {
    let rule = KeyedRule::new(Rule::new(1, INTERVAL, BURST).unwrap()).unwrap();
    let (mut admitted, mut verdicts) = (vec![], [0; 3]);
    for _ in 0..CHECKS {
        let (key, cost) = (thread_rng().gen_range(0..KEYS), thread_rng().gen_range(1..=BURST));
        // No access of the model's: a clock is read without ordering anything.
        let from = clock.fetch_add(1, Ordering::Relaxed);
        let verdict = limiter.check(Key::from_raw(key), &rule, cost, || from).verdict;
        let until = clock.load(Ordering::Relaxed);
        match verdict {
            Verdict::Allowed => {
                verdicts[0] += 1;
                admitted.push(Admitted { key, cost, from, until });
            }
            Verdict::Limited => verdicts[1] += 1,
            Verdict::TableFull => verdicts[2] += 1,
            Verdict::Never => panic!("no cost is above the burst"),
        }
    }
    (admitted, verdicts)
}

#[test]
fn no_key_gets_more_than_its_bound() {
    explore::schedules(|| {
        let config = LimiterConfig { max_keys: 1, secret: Some([0; 16]), ..LimiterConfig::default() };
        let limiter = Arc::new(Limiter::new(&config).unwrap());
        let clock = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (limiter, clock) = (Arc::clone(&limiter), Arc::clone(&clock));
                thread::spawn(move || checks(&limiter, &clock))
            })
            .collect();
        let (mut admitted, mut verdicts) = (vec![], [0; 3]);
        for thread in threads {
            let (more, counts) = thread.join().unwrap();
            admitted.extend(more);
            (0..3).for_each(|verdict| verdicts[verdict] += counts[verdict]);
        }
        stays_within_the_bound(&admitted);
        let stats = limiter.stats();
        assert_eq!([stats.allowed, stats.limited, stats.table_full], verdicts);
        assert_eq!(verdicts.iter().sum::<u64>(), (THREADS * CHECKS) as u64);
    });
}
