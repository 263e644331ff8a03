//! What time does to connections and leases: P21, P22, and leaks.

use std::collections::HashSet;

use elixirscope::pool::*;

use crate::bench::Bench;

const SIZE: u32 = 6;

fn aging(max_lifetime_ns: u64, max_lifetime_jitter_ns: u64) -> Bench {
    Bench::with(PoolConfig {
        size: SIZE,
        max_overflow: 0,
        max_lifetime_ns,
        max_lifetime_jitter_ns,
        jitter_seed: 7,
        ..PoolConfig::default()
    })
}

const HOUR: u64 = 3_600_000_000_000;

#[test]
fn p21_nothing_is_lent_at_its_age_even_if_nobody_polls() {
    let mut bench = aging(100, 0).filled(1);
    bench.now = 99;
    let lease = bench.lease(1);
    bench.give_back(lease);
    bench.now = 100;
    bench.lease(1);
    assert_eq!((bench.created, bench.seen().counts.destroys), (2, 1));
}

#[test]
fn p21_a_leased_connection_ends_its_life_on_return() {
    let mut bench = aging(100, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    let held = bench.granted_lease(1);
    bench.maintain(1_000);
    assert_eq!((bench.seen().leased, bench.destroys.len()), (1, 0), "age never ends a lease");
    bench.give_back(held);
    assert_eq!(bench.destroys[0].2, DestroyReason::Lifetime);
}

#[test]
fn p21_idle_lives_end_within_the_jitter_and_not_all_at_once() {
    let mut bench = aging(1_000, 400).filled(SIZE).slow();
    let mut ends = HashSet::new();
    while bench.destroys.len() < SIZE as usize {
        let next = bench.maintain(bench.now).expect("somebody is alive");
        let before = bench.destroys.len();
        bench.maintain(next);
        assert!(bench.destroys.len() > before, "nothing was due at {next}");
        assert!((600..=1_000).contains(&next), "{next}");
        ends.insert(next);
    }
    assert!(ends.len() > 1, "all of the pool at once");
}

#[test]
fn p21_a_life_of_zero_has_no_end() {
    let mut bench = aging(0, 0).filled(2);
    let held = bench.lease(1);
    assert_eq!(bench.maintain(u64::MAX - 1), None);
    bench.give_back(held);
    assert_eq!((bench.seen().idle, bench.seen().counts.destroys), (2, 0));
}

#[test]
fn p21_idle_time_ends_what_is_above_the_stock() {
    let mut bench = Bench::with(PoolConfig {
        size: 4,
        max_overflow: 0,
        min_idle: 1,
        idle_timeout_ns: 50,
        ..PoolConfig::default()
    })
    .filled(4)
    .slow();
    assert_eq!(bench.maintain(49), Some(50));
    assert!(bench.destroys.is_empty());
    assert_eq!(bench.maintain(50), None);
    let closed: Vec<u32> = bench.destroys.iter().map(|destroy| destroy.0).collect();
    assert_eq!(closed, [0, 1, 2], "the longest idle first");
    assert_eq!((bench.destroys[0].2, bench.seen().idle), (DestroyReason::Idle, 1));
}

#[test]
fn p22_what_was_made_before_is_destroyed_before_its_next_grant() {
    let mut bench = Bench::new(3, 0).filled(2);
    let held = bench.lease(1);
    bench.evict(0);
    bench.evict(0);
    assert_eq!((bench.seen().idle, bench.seen().leased), (0, 1), "leases in progress finish");
    let fresh = bench.lease(2);
    bench.give_back(fresh);
    assert_eq!(bench.seen().idle, 1, "new connections are not concerned");
    bench.give_back(held);
    assert_eq!((bench.seen().idle, bench.seen().counts.destroys), (1, 2));
}

#[test]
fn p22_a_creation_in_flight_counts_as_made_before() {
    let mut bench = Bench::new(1, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.evict(HOUR);
    assert_eq!(bench.maintain(0), None, "it has no life that could end");
    bench.create_next(Ok(()));
    assert_eq!(bench.destroys[0].2, DestroyReason::Evicted);
    bench.destroy_next();
    bench.create_next(Ok(()));
    assert_eq!(bench.granted(), [1]);
}

/// A second eviction may bring the first one forward, never put it off.
#[test]
fn p22_an_eviction_at_once_does_not_wait_for_a_spread_one() {
    let mut bench = Bench::new(4, 0).filled(4);
    bench.evict(HOUR);
    bench.evict(0);
    assert_eq!(bench.seen().idle, 0);
    let mut bench = Bench::new(4, 0).filled(4);
    bench.evict(HOUR);
    bench.evict(1000 * HOUR);
    bench.maintain(HOUR);
    assert_eq!(bench.seen().idle, 0);
}

#[test]
fn p22_a_spread_eviction_closes_a_few_at_a_time() {
    let mut bench = Bench::with(PoolConfig { size: 40, max_overflow: 0, ..PoolConfig::default() }).filled(40);
    bench.evict(1_000);
    assert!(bench.seen().idle > 35);
    bench.maintain(500);
    let left = bench.seen().idle;
    assert!((1..40).contains(&left), "{left}");
    bench.maintain(1_000);
    assert_eq!(bench.seen().idle, 0);
}

#[test]
fn p25_a_leak_names_the_holder_and_since_when_once() {
    let mut bench =
        Bench::with(PoolConfig { size: 2, max_overflow: 0, leak_after_ns: 100, ..PoolConfig::default() });
    bench.now = 7;
    let lost = bench.lease(42);
    bench.now = 50;
    let other = bench.lease(9);
    assert_eq!(bench.maintain(106), Some(107));
    assert!(bench.leaks.is_empty());
    bench.give_back(other);
    assert_eq!(bench.maintain(107), None);
    bench.maintain(10_000);
    assert_eq!(bench.leaks, [(lost, Owner(42), 7)]);
    let info = bench.pool.slot(lost.slot, || 0, &mut Actions::new()).unwrap();
    assert_eq!(info.state, SlotUse::Leased { owner: Owner(42), since_ns: 7 });
    bench.give_back(lost);
    assert_eq!(bench.seen().counts.leaks, 1);
}

#[test]
fn p25_times_are_measured_where_that_is_asked_for() {
    let mut bench =
        Bench::with(PoolConfig { size: 1, max_overflow: 0, measure: true, ..PoolConfig::default() });
    bench.now = 10;
    let first = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    bench.now = 25;
    bench.give_back(first);
    bench.now = 65;
    let second = bench.granted_lease(7);
    bench.give_back(second);
    let n = bench.seen().counts;
    assert_eq!((n.queue_ns, n.longest_queue_ns, n.use_ns), (15, 15, 15 + 40));
    let info = bench.pool.slot(0, || 0, &mut Actions::new()).unwrap();
    assert_eq!((info.state, info.created_ns, info.leases), (SlotUse::Idle { since_ns: 65 }, 10, 2));
}

#[test]
fn p21_idle_time_counts_from_the_last_use() {
    let config = PoolConfig { size: 1, max_overflow: 0, idle_timeout_ns: 50, ..PoolConfig::default() };
    let mut bench = Bench::with(config).filled(1).slow();
    bench.now = 40;
    let lease = bench.lease(1);
    bench.give_back(lease);
    assert_eq!(bench.maintain(50), Some(90));
    bench.maintain(90);
    assert_eq!(bench.destroys.len(), 1);
}

#[test]
fn p22_a_slot_without_a_connection_has_nothing_to_replace() {
    let mut bench = Bench::new(2, 0).filled(1);
    bench.evict(1_000);
    let next = bench.maintain(0).expect("the one connection has an end");
    assert!(next <= 1_000);
    bench.maintain(1_000);
    assert_eq!((bench.seen().idle, bench.maintain(1_000)), (0, None));
    let lease = bench.lease(1);
    bench.give_back(lease);
    assert_eq!((bench.seen().idle, bench.maintain(2_000)), (1, None), "it was made later");

    let mut bench = Bench::new(2, 0).filled(1).slow();
    let broken = bench.lease(1);
    bench.checkin(broken, Condition::Broken).unwrap();
    bench.evict(HOUR);
    assert_eq!(bench.maintain(2_000), None, "one is being closed, one is empty");
}

/// Whatever asks for `maintain` tells so in the call that brings it about.
#[test]
fn p13_the_edge_is_told_of_leaks_keep_alive_and_checks() {
    let base = PoolConfig { size: 1, max_overflow: 0, ..PoolConfig::default() };
    let mut leaks = Bench::with(PoolConfig { leak_after_ns: 100, ..base });
    leaks.now = 5;
    let lease = leaks.lease(1);
    assert_eq!(leaks.alarm, Some(105));
    leaks.give_back(lease);

    let mut kept = Bench::with(PoolConfig { keepalive_ns: 100, ..base });
    kept.now = 5;
    let lease = kept.lease(1);
    kept.give_back(lease);
    assert_eq!(kept.alarm, Some(105));

    let passive = PoolConfig { health: HealthChecks::Passive, return_limit_ns: 100, ..base };
    let mut checked = Bench::with(passive);
    checked.now = 5;
    let lease = checked.lease(1);
    checked.give_back(lease);
    assert_eq!((checked.alarm, checked.checks.len()), (Some(105), 1));
}
