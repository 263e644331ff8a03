//! Checks: P18, and what an owner's death leaves.

use elixirscope::pool::*;

use crate::bench::Bench;

fn with(health: HealthChecks, count: u32) -> Bench {
    Bench::with(PoolConfig {
        size: 20,
        max_overflow: 0,
        health,
        health_interval_ns: 100,
        check_limit_ns: 10,
        return_limit_ns: 20,
        ..PoolConfig::default()
    })
    .filled_by_maintain(count)
}

impl Bench {
    /// So many idle connections, whatever checks they go through.
    fn filled_by_maintain(mut self, count: u32) -> Self {
        let leases: Vec<Lease> = (0..count).map(|_| self.lease(1)).collect();
        for lease in leases {
            self.give_back(lease);
        }
        while !self.checks.is_empty() {
            self.check_next(true);
        }
        self
    }

    fn checked_slots(&self) -> Vec<u32> {
        self.checks.iter().map(|check| check.0).collect()
    }
}

#[test]
fn p18_passive_checks_on_return_before_the_next_grant() {
    let mut bench = with(HealthChecks::Passive, 1);
    let lease = bench.lease(1);
    bench.give_back(lease);
    let (slot, _, kind, deadline) = bench.checks[0];
    assert_eq!((slot, kind, deadline), (lease.slot, CheckKind::Return, 20));
    assert_eq!((bench.seen().idle, bench.seen().checking), (0, 1));
    bench.check_next(true);
    assert_eq!((bench.seen().idle, bench.seen().checking), (1, 0));
    bench.maintain(10_000);
    assert!(bench.checks.is_empty(), "no rounds");
}

#[test]
fn p18_a_failed_check_is_destroyed_once_and_replaced_for_a_waiter() {
    let mut bench = Bench::with(PoolConfig {
        size: 1,
        max_overflow: 0,
        health: HealthChecks::Passive,
        ..PoolConfig::default()
    });
    let lease = bench.lease(1);
    bench.give_back(lease);
    bench.queue(2, Wait::Forever, 7);
    let (slot, epoch, ..) = bench.checks[0];
    bench.check_next(false);
    assert_eq!(bench.granted(), [7], "without waiting for its time-out");
    assert_eq!((bench.created, bench.seen().counts.checks_failed, bench.seen().counts.destroys), (2, 1, 1));
    let late = bench.pool.checked(slot, epoch, true, || 0, &mut Actions::new());
    assert_eq!(late, Err(StaleReport));
}

#[test]
fn p18_active_checks_all_idle_ones_each_interval_and_no_leased_one() {
    let mut bench = with(HealthChecks::Active, 12);
    let held = bench.lease(1);
    bench.maintain(0);
    bench.maintain(99);
    assert!(bench.checks.is_empty());
    bench.maintain(100);
    assert_eq!(bench.checks.len(), 8);
    let mut seen = Vec::new();
    while !bench.checks.is_empty() {
        assert!(bench.checks.len() <= 8, "a few at a time");
        seen.extend(bench.checked_slots());
        for _ in 0..bench.checks.len() {
            bench.check_next(true);
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), bench.seen().counts.checks_passed), (11, 11));
    assert!(!seen.contains(&held.slot));
}

#[test]
fn p18_mixed_checks_the_half_that_was_longest_untouched() {
    let mut bench = with(HealthChecks::Mixed, 5);
    let passed = bench.seen().counts.checks_passed;
    assert_eq!(passed, 5, "each of them when it came back");
    bench.maintain(0);
    bench.maintain(100);
    assert_eq!(bench.checked_slots(), [0, 1, 2]);
    for _ in 0..3 {
        bench.check_next(true);
    }
    bench.maintain(200);
    assert_eq!(bench.checked_slots(), [3, 4, 0]);
    assert_eq!(bench.seen().counts.checks_passed, passed + 3);
}

#[test]
fn p18_a_check_over_its_limit_has_failed() {
    let mut bench = with(HealthChecks::Active, 1).slow();
    bench.maintain(0);
    bench.maintain(100);
    let (slot, epoch, kind, deadline) = bench.checks[0];
    assert_eq!((kind, deadline), (CheckKind::Idle, 110));
    assert_eq!(bench.maintain(109), Some(110));
    bench.maintain(110);
    assert_eq!(bench.destroys[0].2, DestroyReason::CheckFailed);
    let late = bench.pool.checked(slot, epoch, true, || 110, &mut Actions::new());
    assert_eq!(late, Err(StaleReport));
}

#[test]
fn p18_keepalive_follows_use_and_leaves_the_order_of_lending_alone() {
    let mut bench =
        Bench::with(PoolConfig { size: 2, max_overflow: 0, keepalive_ns: 100, ..PoolConfig::default() })
            .filled(2);
    bench.now = 60;
    let newest = bench.lease(1);
    bench.give_back(newest);
    assert_eq!(bench.maintain(100), Some(160));
    assert_eq!(bench.checked_slots(), [1 - newest.slot]);
    bench.check_next(true);
    assert_eq!(bench.lease(1).slot, newest.slot, "a check is no use");
}

#[test]
fn p18_pre_ping_is_asked_for_after_idleness_only() {
    let mut bench = Bench::with(PoolConfig {
        size: 1,
        max_overflow: 0,
        pre_ping_after_ns: 50,
        pre_ping_limit_ns: 5,
        ..PoolConfig::default()
    })
    .filled(1);
    bench.now = 50;
    let Checkout::Granted(lease) = bench.checkout(1, Wait::Never, 0) else { panic!("fit") };
    bench.give_back(lease);
    bench.now = 101;
    let answer = bench.checkout(1, Wait::Never, 0);
    let Checkout::GrantedUntested { lease, deadline_ns: 106 } = answer else { panic!("{answer:?}") };
    bench.checkin(lease, Condition::Broken).unwrap();
    assert_eq!(bench.seen().counts.pre_pings, 1);
}

#[test]
fn p19_a_dead_holder_s_connection_may_be_checked_instead() {
    let mut bench = Bench::with(PoolConfig {
        size: 1,
        max_overflow: 0,
        owner_death: OwnerDeath::Check,
        ..PoolConfig::default()
    });
    let lease = bench.lease(4);
    bench.queue(5, Wait::Forever, 7);
    bench.owner_gone(4);
    assert_eq!(bench.checkin(lease, Condition::Good), Err(StaleLease));
    assert!(bench.wakes.is_empty(), "never lent as it is");
    bench.check_next(true);
    assert_eq!((bench.granted(), bench.created), (vec![7], 1));
}
