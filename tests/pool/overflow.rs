//! Bursts, reuse and the order of lending: P12 to P15.

use elixirscope::pool::*;

use crate::bench::Bench;

#[test]
fn p12_a_burst_of_twice_the_size() {
    let ttl = 1_000;
    let config = PoolConfig { size: 10, max_overflow: 10, overflow_ttl_ns: ttl, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    let leases: Vec<Lease> = (0..20).map(|owner| bench.lease(1 + owner)).collect();
    assert_eq!((bench.created, bench.seen().overflow), (20, 10));
    bench.queue(50, Wait::Forever, 5);
    let extra = {
        bench.give_back(leases[0]);
        bench.granted_lease(5)
    };
    for lease in leases[1..].iter().copied().chain([extra]) {
        bench.give_back(lease);
    }
    assert_eq!((bench.seen().idle, bench.created), (20, 20));
    assert_eq!(bench.maintain(ttl - 1), Some(ttl));
    assert_eq!(bench.seen().idle, 20);
    assert_eq!(bench.maintain(ttl), None);
    assert_eq!((bench.seen().idle, bench.seen().overflow), (10, 0));
}

#[test]
fn p13_a_surplus_closes_by_idle_age_and_not_by_birth() {
    let config = PoolConfig { size: 1, max_overflow: 1, overflow_ttl_ns: 100, ..PoolConfig::default() };
    let mut bench = Bench::with(config).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.queue(1, Wait::Forever, 2);
    bench.create_next(Ok(()));
    bench.create_next(Ok(()));
    let (first_born, second_born) = (bench.granted_lease(1), bench.granted_lease(2));
    bench.now = 10;
    bench.give_back(first_born);
    assert_eq!(bench.alarm, Some(110));
    bench.now = 60;
    bench.give_back(second_born);
    assert_eq!(bench.maintain(109), Some(110));
    assert!(bench.destroys.is_empty());
    bench.maintain(110);
    assert_eq!(bench.destroys.len(), 1);
    assert_eq!((bench.destroys[0].0, bench.destroys[0].2), (first_born.slot, DestroyReason::Overflow));
}

#[test]
fn p13_the_edge_is_told_once_when_to_call_maintain() {
    let config = PoolConfig { size: 1, max_overflow: 2, overflow_ttl_ns: 100, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    let leases = [bench.lease(1), bench.lease(1), bench.lease(1)];
    let alarm_of_return = |bench: &Bench, lease, now| {
        let mut actions = Actions::new();
        bench.pool.checkin(lease, Condition::Good, || now, &mut actions).unwrap();
        actions.alarm_ns()
    };
    assert_eq!(alarm_of_return(&bench, leases[0], 10), Some(110));
    assert_eq!(alarm_of_return(&bench, leases[1], 20), None, "110 is told already");
    assert_eq!(bench.maintain(110), Some(120), "the answer of maintain is the next alarm");
    assert_eq!(alarm_of_return(&bench, leases[2], 115), None);
    assert_eq!(bench.maintain(120), None);
    assert_eq!((bench.seen().idle, bench.seen().overflow), (1, 0));
}

#[test]
fn p13_without_a_ttl_the_surplus_closes_on_return() {
    let mut bench = Bench::new(1, 1);
    let (a, b) = (bench.lease(1), bench.lease(1));
    bench.give_back(a);
    assert_eq!((bench.seen().idle, bench.seen().leased, bench.seen().overflow), (0, 1, 0));
    bench.give_back(b);
    assert_eq!((bench.seen().idle, bench.seen().counts.destroys), (1, 1));
}

#[test]
fn p14_a_healthy_pool_makes_no_more_than_its_size() {
    for concurrency in 1..=4 {
        let mut bench = Bench::new(4, 4);
        for _ in 0..1_000 / concurrency {
            let leases: Vec<Lease> = (0..concurrency).map(|_| bench.lease(1)).collect();
            leases.into_iter().for_each(|lease| bench.give_back(lease));
        }
        let counts = bench.seen().counts;
        assert!(counts.created <= concurrency && counts.created * 10 <= counts.granted, "{counts:?}");
    }
}

#[test]
fn p15_lifo_takes_the_latest_and_fifo_the_earliest_return() {
    for (order, expected) in [(IdleOrder::Lifo, [1, 0, 2]), (IdleOrder::Fifo, [2, 0, 1])] {
        let mut bench = Bench::with(PoolConfig { size: 3, max_overflow: 0, order, ..PoolConfig::default() });
        let leases = [bench.lease(1), bench.lease(1), bench.lease(1)];
        for returned in [2, 0, 1] {
            bench.give_back(leases[returned]);
        }
        let taken = [bench.lease(1), bench.lease(1), bench.lease(1)];
        assert_eq!(taken.map(|lease| lease.slot), expected.map(|at: usize| leases[at].slot), "{order:?}");
    }
}

#[test]
fn p15_round_robin_goes_on_and_least_used_evens_out() {
    let with = |order| {
        Bench::with(PoolConfig { size: 4, max_overflow: 0, order, ..PoolConfig::default() }).filled(4)
    };
    let taken = |bench: &mut Bench| {
        let lease = bench.lease(1);
        bench.give_back(lease);
        lease.slot
    };
    let mut bench = with(IdleOrder::RoundRobin);
    assert_eq!([(); 6].map(|()| taken(&mut bench)), [0, 1, 2, 3, 0, 1]);
    let (two, three) = (bench.lease(1), bench.lease(1));
    assert_eq!((two.slot, three.slot), (2, 3));
    bench.give_back(three);
    assert_eq!([(); 4].map(|()| taken(&mut bench)), [0, 1, 3, 0], "two is not idle");

    let mut bench = with(IdleOrder::LeastUsed);
    assert_eq!([(); 6].map(|()| taken(&mut bench)), [0, 1, 2, 3, 0, 1]);
    let held = [bench.lease(1), bench.lease(1)];
    assert_eq!(held.map(|lease| lease.slot), [2, 3]);
    bench.give_back(held[1]);
    assert_eq!(taken(&mut bench), 0, "all of three leases each, the lowest number first");
}

#[test]
fn p13_a_caller_may_keep_the_pool_within_its_size() {
    let mut bench = Bench::new(1, 1);
    let held = bench.lease(1);
    let within = |bench: &mut Bench, wait, token| {
        let mut actions = Actions::new();
        let answer = bench.pool.checkout_within_size(Owner(2), wait, token, || 0, &mut actions);
        bench.take(actions);
        answer
    };
    assert_eq!(within(&mut bench, Wait::Never, 1), Checkout::Rejected(Refusal::Exhausted));
    assert_eq!(within(&mut bench, Wait::ForCreation, 2), Checkout::Rejected(Refusal::Exhausted));
    assert!(matches!(within(&mut bench, Wait::Forever, 3), Checkout::Queued(_)));
    assert_eq!((bench.created, bench.wakes.len()), (1, 0));
    // One that may grow the pool queues behind it: first come, first served, and each gets a connection.
    bench.queue(3, Wait::Forever, 4);
    assert_eq!(bench.created, 2);
    assert!(matches!(bench.wakes[..], [(3, WakeOutcome::Granted(_))]));
    bench.give_back(held);
    assert!(matches!(bench.wakes[..], [_, (4, WakeOutcome::Granted(_))]));
}
