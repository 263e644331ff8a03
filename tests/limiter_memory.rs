//! How much a table holds, what a flood of keys does to it (L23), and what becomes of a key that finds no place (L24).
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;
#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::counters::STRIPES;
use elixirscope::limiter::{FullPolicy, Key, Limiter, LimiterConfig, LimiterStats, Line, Table, Verdict};
use oracle::World;
use setup::{SECOND as SECOND_NS, config, limiter, rule};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const POLICIES: [FullPolicy; 3] = [FullPolicy::DenyNew, FullPolicy::EvictMostFull, FullPolicy::OverflowKey];

fn key(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

fn with_policy(max_keys: u64, full_policy: FullPolicy) -> Limiter {
    Limiter::new(&LimiterConfig { full_policy, ..config(max_keys) }).unwrap()
}

/// The table's promise, with live keys only: as many as it is meant for, and then as many again that replace
/// them one by one.
#[test]
fn l23_a_table_at_its_nominal_load_refuses_less_than_one_key_in_ten_thousand() {
    const KEYS: u64 = 36_000;
    let (limiter, rule) = (limiter(KEYS), rule(1, SECOND_NS, 1));
    let stats = limiter.stats();
    assert!(stats.bytes < 1_000_000, "{} bytes", stats.bytes);
    assert!(stats.capacity >= KEYS);
    for number in 0..10 * KEYS {
        if number >= KEYS {
            limiter.reset(limiter.key(&key(number - KEYS)));
        }
        limiter.check(limiter.key(&key(number)), &rule, 1, || 5);
    }
    let stats = limiter.stats();
    assert_eq!(stats.allowed + stats.table_full, 10 * KEYS);
    assert!(stats.table_full < 10 * KEYS / 10_000, "{} refused", stats.table_full);
    assert!((KEYS - stats.table_full..=KEYS).contains(&limiter.live_keys(|| 5)));
    assert_eq!(limiter.live_keys(|| 5 + SECOND_NS), 0);
}

#[test]
fn l23_a_flood_of_keys_takes_no_more_memory_and_passes() {
    let (limiter, rule) = (limiter(100), rule(1, 100, 1));
    let bytes = limiter.stats().bytes;
    let (mut held, mut full) = (0, 0);
    for number in 0..100_000_u64 {
        let decision = limiter.check(limiter.key(&key(number)), &rule, 1, || 5);
        match decision.verdict {
            Verdict::Allowed => held += 1,
            Verdict::TableFull => {
                full += 1;
                assert_eq!((decision.retry_after_ns, decision.remaining), (100, 0));
            }
            verdict => panic!("{verdict:?} for a new key"),
        }
    }
    assert!(held >= 100 && held + full == 100_000, "{held} and {full}");
    let stats = limiter.stats();
    assert_eq!((stats.bytes, stats.table_full), (bytes, full));
    // The refused keys' retry time holds: then the flood owes nothing.
    assert!(limiter.check(limiter.key(b"late"), &rule, 1, || 105).is_allowed());
}

/// Keys that pass through a table for a hundred: 4,000,000, or as many as `ESCOPE_FLOOD_KEYS` says.
fn flood() -> u64 {
    std::env::var("ESCOPE_FLOOD_KEYS").map_or(4_000_000, |keys| keys.parse().expect("a number of keys"))
}

/// Each owes for as long as a hundred others take.
#[test]
fn l23_a_flood_that_goes_by_leaves_nothing_behind() {
    let keys = flood();
    let (limiter, rule) = (limiter(100), rule(1, 100, 1));
    let bytes = limiter.stats().bytes;
    for number in 0..keys {
        limiter.check(limiter.key(&key(number)), &rule, 1, || number);
    }
    let stats = limiter.stats();
    assert_eq!(stats.bytes, bytes);
    assert_eq!(stats.allowed + stats.table_full, keys);
    assert!(stats.table_full < keys / 10_000, "{} refused", stats.table_full);
    assert!(limiter.live_keys(|| keys) <= 100);
    assert_eq!(limiter.live_keys(|| keys + 100), 0);
}

/// 36,000 live keys fit below a million bytes; a million below 28 bytes each.
#[test]
fn l23_a_key_takes_at_most_28_bytes() {
    for max_keys in [36_000, 1_000_000] {
        let bytes = limiter(max_keys).stats().bytes;
        assert!(bytes <= 28 * max_keys, "{bytes} bytes for {max_keys} keys");
    }
}

/// All of it: the table, the counters and the limiter itself.
#[test]
fn l23_the_bytes_are_told_to_the_last() {
    let lines = STRIPES + Table::<Vec<Line>>::lines_for(100) as usize;
    assert_eq!(limiter(100).stats().bytes as usize, size_of::<Limiter>() + lines * size_of::<Line>());
}

#[test]
fn l23_a_table_is_meant_for_at_least_as_many_keys_as_it_was_made_for() {
    for max_keys in [1, 9, 10, 11, 100, 1000, 36_000] {
        let capacity = limiter(max_keys).stats().capacity;
        // A line more or less is less than three keys.
        assert!((max_keys..max_keys.max(9) + 3).contains(&capacity), "{capacity} for {max_keys}");
    }
}

/// Keys that are live all the time keep their verdicts while millions of strangers pass by, under every policy.
#[test]
fn l23_a_flood_does_not_change_the_verdicts_of_live_keys() {
    const LIVE: u64 = 50;
    const STRANGERS: u64 = 1_000_000;
    for policy in POLICIES {
        let (limiter, slow, quick) = (with_policy(200, policy), rule(1, STRANGERS, 1), rule(1, 100, 1));
        let live: Vec<Key> = (0..LIVE).map(|number| limiter.key(&key(number))).collect();
        live.iter().for_each(|key| assert!(limiter.check(*key, &slow, 1, || 0).is_allowed()));
        for now in 1..STRANGERS {
            limiter.check(limiter.key(&key(LIVE + now)), &quick, 1, || now);
        }
        for key in &live {
            let refused = limiter.check(*key, &slow, 1, || STRANGERS - 1);
            assert_eq!((refused.verdict, refused.retry_after_ns), (Verdict::Limited, 1), "{policy:?}");
            assert!(limiter.check(*key, &slow, 1, || STRANGERS).is_allowed());
        }
        assert_eq!(limiter.stats().evicted, 0, "{policy:?}");
    }
}

/// A table for one key has sixteen places, which any key may take. Names in the order in which they owe.
const NAMES: [&str; 24] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
    "v", "w", "x",
];

/// Random checks of more keys than there are places, against the model.
#[test]
fn l24_a_full_table_does_what_its_policy_says() {
    let terms = oracle::Terms { tokens: 1, period_ns: 1000, burst: 1000 };
    for policy in POLICIES {
        let (limiter, rule, by) = (with_policy(1, policy), setup::keyed(terms), oracle::By::Rule(terms));
        let mut world = World::new(Some(16), policy);
        let (mut random, mut now, mut full) = (7_u64, 0, 0);
        for step in 0..20_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let draw = |shift: u32, bound: u64| (random >> shift) % bound;
            now += draw(20, 600);
            let name = NAMES[draw(32, 24) as usize];
            // No two keys are ever full at the same instant, so the model and the table evict the same one.
            now += u64::from(step % 997 != now % 997);
            let cost = 1 + draw(40, 30);
            let decision = limiter.check(limiter.key(name.as_bytes()), &rule, cost, || now);
            let expected = world.check(name, by, cost, now);
            full += u64::from(decision.verdict == Verdict::TableFull);
            assert_eq!(decision, expected, "{policy:?}, step {step}");
        }
        let stats = limiter.stats();
        assert_eq!(
            (stats.table_full, stats.evicted, stats.overflowed),
            (full, world.evicted, world.overflowed)
        );
        let used = [stats.table_full, stats.evicted, stats.overflowed][policy as usize];
        assert!(used > 100, "{policy:?} was needed {used} times");
        assert_eq!(stats.table_full + stats.evicted + stats.overflowed, used);
    }
}

#[test]
fn l24_each_verdict_is_counted_by_itself() {
    let (limiter, rule) = (limiter(1), rule(1, 1000 * SECOND_NS, 1));
    let check = |number, cost| limiter.check(Key::from_raw(number), &rule, cost, || 5).verdict;
    (0..16).for_each(|number| assert_eq!(check(number, 1), Verdict::Allowed));
    (0..3).for_each(|number| assert_eq!(check(number, 1), Verdict::Limited));
    (0..5).for_each(|number| assert_eq!(check(number, 2), Verdict::Never));
    (16..18).for_each(|number| assert_eq!(check(number, 1), Verdict::TableFull));
    let LimiterStats { capacity, bytes, .. } = limiter.stats();
    let counted =
        LimiterStats { allowed: 16, limited: 3, never: 5, table_full: 2, ..LimiterStats::default() };
    assert_eq!(limiter.stats(), LimiterStats { capacity, bytes, ..counted });
}

/// Who evicts may admit an evicted key's debt once more, and says how often: no more than that.
#[test]
fn l24_evictions_are_counted_under_threads() {
    const KEYS: u64 = 64;
    let (limiter, rule) = (with_policy(1, FullPolicy::EvictMostFull), rule(1, 1000 * SECOND_NS, 1));
    let admitted = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 0..4_u64 {
            let (limiter, rule, admitted) = (&limiter, &rule, &admitted);
            scope.spawn(move || {
                for turn in 0..50_000_u64 {
                    let number = (turn * 7 + seed * 13) % KEYS;
                    let decision = limiter.check(limiter.key(&key(number)), rule, 1, || 5);
                    assert_ne!(decision.verdict, Verdict::TableFull);
                    admitted.fetch_add(u64::from(decision.is_allowed()), Ordering::Relaxed);
                }
            });
        }
    });
    let (stats, live) = (limiter.stats(), limiter.live_keys(|| 5));
    let admitted = admitted.into_inner();
    assert!(live <= 16 && stats.evicted > 1000);
    // Each admission is a debt that stands, or was evicted.
    assert!(admitted <= live + stats.evicted, "{admitted} admitted, {live} live, {} evicted", stats.evicted);
}

/// All that find no place have one burst together.
#[test]
fn l24_the_overflow_bucket_is_one_under_threads() {
    let (limiter, rule) = (with_policy(1, FullPolicy::OverflowKey), rule(1, 1000 * SECOND_NS, 500));
    (0..16).for_each(|number| assert!(limiter.check(Key::from_raw(number), &rule, 1, || 5).is_allowed()));
    let admitted = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 1..=4_u64 {
            let (limiter, rule, admitted) = (&limiter, &rule, &admitted);
            scope.spawn(move || {
                for turn in 0..500 {
                    let decision = limiter.check(Key::from_raw(seed * 1000 + turn), rule, 1, || 5);
                    admitted.fetch_add(u64::from(decision.is_allowed()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!((admitted.into_inner(), limiter.stats().overflowed), (500, 500));
}

/// Limits with names share it too, whatever their numbers of changes.
#[test]
fn l24_the_overflow_bucket_keeps_its_debt_across_limits() {
    use elixirscope::limiter::{By, Limit, Strategy};
    let limiter = with_policy(1, FullPolicy::OverflowKey);
    let by = rule(1, 1000, 10);
    (0..16).for_each(|number| assert!(limiter.check(Key::from_raw(number), &by, 9, || 5).is_allowed()));
    let [changed, fresh] = [3, 0].map(|changes| {
        let limit = Limit::new(&by, 5000).unwrap();
        (0..changes).for_each(|_| limit.change(&by, Strategy::Reset, 5).unwrap());
        limit
    });
    assert!(limiter.check_limit(Key::from_raw(100), &changed, 6, || 5).is_allowed());
    assert_eq!(limiter.check_limit(Key::from_raw(101), &fresh, 6, || 5).retry_after_ns, 2000);
    assert!(limiter.check_limit(Key::from_raw(101), &fresh, 4, || 5).is_allowed());
    // A reservation leaves no receipt: what it would give back is not its key's alone.
    let reserved = limiter.reserve(Key::from_raw(102), By::Limit(&fresh), 1, 5000, || 5);
    assert_eq!((reserved.wait_ns, reserved.receipt), (1000, None));
}
