//! Stock and size: P12, P14, P23, and the pool of a forked child.

use elixirscope::pool::*;

use crate::bench::Bench;

fn resizable(size: u32, max_overflow: u32) -> Bench {
    Bench::with(PoolConfig { size, max_overflow, max_slots: 10, ..PoolConfig::default() })
}

#[test]
fn p06_a_larger_size_serves_the_waiter() {
    let mut bench = resizable(1, 0);
    bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    bench.resize(2, 0);
    assert_eq!(bench.granted(), [7]);
}

#[test]
fn p23_growth_by_k_creates_k_in_the_same_step() {
    let mut bench = resizable(1, 0).slow();
    for token in 0..6 {
        bench.queue(1, Wait::Forever, token);
    }
    assert_eq!(bench.creates.len(), 1);
    bench.resize(4, 1);
    assert_eq!(bench.creates.len(), 5);

    let config = PoolConfig { size: 1, max_overflow: 0, max_slots: 10, ..PoolConfig::default() };
    let mut bench = Bench::with(PoolConfig { max_concurrent_creates: 3, ..config }).slow();
    for token in 0..6 {
        bench.queue(1, Wait::Forever, token);
    }
    bench.resize(4, 1);
    assert_eq!(bench.creates.len(), 3, "as many as are made at a time");
}

#[test]
fn p23_a_smaller_pool_closes_the_idle_at_once_and_the_leased_on_return() {
    let mut bench = resizable(6, 0).filled(6);
    let held: Vec<Lease> = (0..3).map(|_| bench.lease(1)).collect();
    bench.resize(2, 0);
    assert_eq!((bench.seen().idle, bench.seen().leased), (0, 3));
    bench.queue(2, Wait::Forever, 7);
    bench.give_back(held[0]);
    assert!(bench.wakes.is_empty(), "no grant while the pool is above its capacity");
    bench.give_back(held[1]);
    assert_eq!(bench.granted(), [7]);
    assert_eq!(bench.seen().leased, 2);
}

#[test]
fn p23_the_last_of_two_sizes_holds() {
    let mut bench = resizable(3, 1).filled(3);
    bench.resize(8, 2);
    bench.resize(1, 0);
    let seen = bench.seen();
    assert_eq!((seen.size, seen.capacity, seen.idle), (1, 1, 1));
    let refused = bench.pool.resize(9, 2, || 0, &mut Actions::new()).unwrap_err().to_string();
    assert_eq!(refused, "`size` is 11, allowed is max_slots at most, together with max_overflow");
    assert_eq!(bench.seen(), seen);
}

#[test]
fn p12_a_burst_of_twice_the_size_is_served_and_fades() {
    let mut bench =
        Bench::with(PoolConfig { size: 5, max_overflow: 5, overflow_ttl_ns: 100, ..PoolConfig::default() });
    let leases: Vec<Lease> = (0..10).map(|_| bench.lease(1)).collect();
    assert_eq!(bench.created, 10);
    let ticket = bench.queue(1, Wait::Forever, 11);
    bench.cancel(ticket, GiveUp::Cancelled);
    for lease in leases {
        bench.give_back(lease);
    }
    bench.maintain(99);
    assert_eq!(bench.seen().idle, 10);
    bench.maintain(100);
    assert_eq!(bench.seen().idle, 5);
}

#[test]
fn p14_alternating_load_reuses_connections() {
    let mut bench =
        Bench::with(PoolConfig { size: 4, max_overflow: 4, overflow_ttl_ns: 100, ..PoolConfig::default() });
    let mut checkouts = 0;
    for round in 0..200u64 {
        bench.maintain(round * 10);
        let load = if round % 2 == 0 { 4 } else { 8 };
        let leases: Vec<Lease> = (0..load).map(|_| bench.lease(1)).collect();
        checkouts += load;
        for lease in leases {
            bench.give_back(lease);
        }
    }
    assert!(bench.created <= 8 && u64::from(bench.created) * 10 <= checkouts);
}

#[test]
fn p16_a_stock_is_made_ahead_a_few_at_a_time() {
    let mut bench = Bench::with(PoolConfig {
        size: 5,
        max_overflow: 0,
        min_idle: 3,
        max_concurrent_creates: 2,
        ..PoolConfig::default()
    })
    .slow();
    bench.maintain(0);
    assert_eq!(bench.creates.len(), 2);
    bench.create_next(Ok(()));
    bench.create_next(Ok(()));
    bench.create_next(Ok(()));
    assert!(bench.creates.is_empty());
    bench.lease(1);
    assert_eq!(bench.creates.len(), 1, "what is lent is made up for");
}

#[test]
fn p23_a_stock_that_a_small_size_had_no_room_for_is_back_with_the_room() {
    let config = PoolConfig { size: 4, max_overflow: 0, min_idle: 3, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    bench.resize(1, 0);
    bench.maintain(0);
    assert_eq!(bench.seen().idle, 1);
    bench.resize(4, 0);
    assert_eq!(bench.seen().idle, 3, "as if it had always been of this size");
}

#[test]
fn p16_a_stock_that_cannot_be_made_keeps_to_the_back_off() {
    let mut bench =
        Bench::with(PoolConfig { size: 2, max_overflow: 0, min_idle: 2, ..PoolConfig::default() }).slow();
    bench.maintain(0);
    bench.create_next(Err(5));
    bench.create_next(Err(5));
    assert!(bench.creates.is_empty());
    let retry = bench.maintain(1).expect("an attempt is to come");
    bench.maintain(retry);
    assert_eq!((bench.creates.len(), bench.seen().last_error), (1, Some(5)));
}

#[test]
fn p16_a_stock_that_could_not_be_made_is_tried_again_by_a_return() {
    let config = PoolConfig { size: 2, max_overflow: 0, min_idle: 2, ..PoolConfig::default() };
    let mut bench = Bench::with(PoolConfig { max_concurrent_creates: 1, ..config }).slow();
    bench.maintain(0);
    bench.create_next(Ok(()));
    let Checkout::Granted(lease) = bench.checkout(1, Wait::Never, 1) else { panic!("one is idle") };
    bench.create_next(Err(5));
    bench.now = bench.alarm.expect("the edge is told when to come again");
    bench.give_back(lease);
    assert_eq!(bench.creates.len(), 1);
}

#[test]
fn p25_a_forked_child_starts_without_the_parent_s_connections() {
    let mut bench = resizable(2, 0).filled(2);
    let lease = bench.lease(1);
    bench.resize(3, 1);
    let before = bench.seen();
    let child = bench.pool.fork_child().unwrap();
    let mut actions = Actions::new();
    let seen = child.snapshot(|| 0, &mut actions);
    assert_eq!((seen.size, seen.capacity, seen.idle, seen.leased), (3, 4, 0, 0));
    assert_eq!(child.checkin(lease, Condition::Good, || 0, &mut actions), Err(StaleLease));
    assert!(actions.is_empty(), "nothing of the parent's is destroyed");
    child.checkout(Owner(1), Wait::Forever, 1, || 0, &mut actions);
    assert!(matches!(actions.iter().next(), Some(Action::Create { .. })));
    assert_eq!(bench.seen(), before);
    bench.give_back(lease);
}

/// What is being created is above the capacity and will be destroyed, so there is nothing to wait for but a return.
#[test]
fn p10_nobody_waits_for_a_creation_that_a_smaller_pool_destroys() {
    let mut bench = resizable(2, 0).slow();
    bench.queue(1, Wait::ForCreation, 1);
    bench.create_next(Ok(()));
    assert_eq!(bench.granted(), [1]);
    let ticket = bench.queue(1, Wait::Forever, 2);
    bench.cancel(ticket, GiveUp::Cancelled);
    bench.resize(1, 0);
    assert_eq!((bench.seen().creating, bench.seen().leased), (1, 1));
    assert_eq!(bench.checkout(1, Wait::ForCreation, 3), Checkout::Rejected(Refusal::Exhausted));
}

/// P08, P23: such a wait has the time-out 0, so it must end when the pool becomes too small for its creation.
#[test]
fn p23_a_wait_for_a_creation_ends_when_the_pool_is_too_small_for_it() {
    let mut bench = resizable(3, 0).slow();
    for token in 1..=3 {
        bench.queue(1, Wait::ForCreation, token);
    }
    bench.resize(2, 0);
    assert_eq!(bench.wakes, [(1, WakeOutcome::TimedOut)]);
    bench.resize(1, 0);
    assert_eq!(bench.wakes, [(1, WakeOutcome::TimedOut), (2, WakeOutcome::TimedOut)]);
    for _ in 0..3 {
        bench.create_next(Ok(()));
    }
    assert_eq!(bench.granted(), [3]);
    assert_eq!((bench.seen().leased, bench.seen().waiting), (1, 0));
}

/// It may be as large as the parent ever.
#[test]
fn p25_a_forked_child_has_the_room_of_its_parent() {
    let config = PoolConfig { size: 3, max_overflow: 1, min_idle: 3, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    bench.resize(1, 1);
    let child = bench.pool.fork_child().unwrap();
    let resize = |size| child.resize(size, 1, || 0, &mut Actions::new()).map_err(|error| error.argument);
    assert_eq!(resize(3), Ok(()));
    assert!(resize(4).is_err());
}

/// P16: as the parent, it keeps as many idle as fit, and all that were asked for once it is large enough.
#[test]
fn p25_a_forked_child_has_the_stock_that_its_parent_was_asked_for() {
    let config = PoolConfig { size: 3, max_overflow: 0, min_idle: 3, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    bench.resize(1, 0);
    let child = bench.pool.fork_child().unwrap();
    let child_of_child = child.fork_child().unwrap();
    for pool in [child, child_of_child] {
        let mut actions = Actions::new();
        pool.maintain(|| 0, &mut actions);
        assert_eq!(pool.snapshot(|| 0, &mut actions).creating, 1);
        pool.resize(3, 0, || 0, &mut actions).unwrap();
        assert_eq!(pool.snapshot(|| 0, &mut actions).creating, 3);
    }
}
