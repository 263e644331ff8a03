//! Overload, and the slow ends of a pool: P24, P25.

use elixirscope::pool::*;

use crate::bench::{Bench, full};

fn shedding() -> Bench {
    Bench::with(PoolConfig {
        size: 1,
        max_overflow: 0,
        queue_target_ns: 10,
        queue_interval_ns: 100,
        ..PoolConfig::default()
    })
}

#[test]
fn p25_the_head_is_shed_after_an_interval_even_if_nothing_is_returned() {
    let mut bench = shedding();
    bench.lease(1);
    let first = bench.queue(2, Wait::Forever, 1);
    bench.queue(2, Wait::Forever, 2);
    assert_eq!(bench.alarm, Some(110), "the edge is told when to look");
    assert_eq!(bench.maintain(109), Some(110));
    assert!(bench.wakes.is_empty());
    bench.maintain(110);
    assert_eq!(bench.wakes, [(1, WakeOutcome::Shed)]);
    assert_eq!(bench.cancel(first, GiveUp::TimedOut), CancelOutcome::Shed);
    assert_eq!(bench.seen().counts.shed, 1);
}

#[test]
fn p25_nobody_is_shed_while_waits_are_short() {
    let mut bench = shedding();
    let mut held = bench.lease(1);
    for round in 0..1_000 {
        bench.queue(2, Wait::Forever, round);
        bench.now += 10;
        bench.give_back(held);
        held = bench.granted_lease(round);
    }
    assert_eq!(bench.seen().counts.shed, 0);
}

/// The pauses between those who are shed are the queue's, whoever joins it.
#[test]
fn p25_who_joins_a_queue_does_not_shorten_its_pause() {
    let mut bench = shedding();
    bench.lease(1);
    bench.queue(2, Wait::Forever, 1);
    bench.queue(2, Wait::Forever, 2);
    bench.maintain(110);
    assert_eq!(bench.wakes, [(1, WakeOutcome::Shed)]);
    bench.now = 150;
    bench.queue(2, Wait::Forever, 3);
    assert_eq!(bench.maintain(209), Some(210));
    assert_eq!(bench.wakes.len(), 1);
    bench.maintain(210);
    assert_eq!(bench.wakes[1], (2, WakeOutcome::Shed));
}

fn shut(bench: &mut Bench, deadline: u64, drain: bool) {
    let mut actions = Actions::new();
    if drain {
        bench.pool.drain(deadline, || bench.now, &mut actions);
    } else {
        bench.pool.close_by(deadline, || bench.now, &mut actions);
    }
    bench.take(actions);
}

#[test]
fn p24_leases_last_until_the_deadline_of_a_close() {
    let mut bench = Bench::new(2, 0);
    let (kept, returned) = (bench.lease(1), bench.lease(1));
    bench.queue(2, Wait::Forever, 7);
    shut(&mut bench, 100, false);
    assert_eq!(bench.wakes, [(7, WakeOutcome::Closed)]);
    bench.give_back(returned);
    assert_eq!(bench.maintain(99), Some(100));
    assert_eq!((bench.seen().leased, bench.seen().phase), (1, Phase::Draining));
    bench.maintain(100);
    assert_eq!(bench.checkin(kept, Condition::Good), Err(StaleLease));
    let seen = bench.seen();
    assert_eq!((seen.leased, seen.phase, seen.counts.reclaimed), (0, Phase::Closed, 1));
}

#[test]
fn p24_a_drain_serves_those_who_wait() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    shut(&mut bench, 100, true);
    assert_eq!(bench.checkout(3, Wait::Forever, 8), Checkout::Rejected(Refusal::Closed));
    bench.give_back(held);
    let last = bench.granted_lease(7);
    bench.give_back(last);
    assert_eq!(bench.seen().phase, Phase::Closed);
}

#[test]
fn p24_a_drain_ends_at_its_deadline_and_may_become_a_close() {
    for deadline in [50, u64::MAX] {
        let mut bench = Bench::new(1, 0);
        bench.lease(1);
        bench.queue(2, Wait::Forever, 7);
        shut(&mut bench, 50, true);
        assert!(bench.wakes.is_empty());
        if deadline == u64::MAX {
            shut(&mut bench, deadline, false);
            assert_eq!(bench.wakes, [(7, WakeOutcome::Closed)]);
        }
        bench.maintain(50);
        assert_eq!(bench.wakes, [(7, WakeOutcome::Closed)]);
        assert_eq!((bench.seen().phase, bench.seen().counts.reclaimed), (Phase::Closed, 1));
    }
}

#[test]
fn p24_what_has_begun_to_end_keeps_its_deadline() {
    for (first, second) in [(false, false), (false, true), (true, true)] {
        let mut bench = Bench::new(1, 0);
        bench.lease(1);
        shut(&mut bench, 100, first);
        shut(&mut bench, 50, second);
        assert_eq!(bench.maintain(50), Some(100), "drains: {first}, then {second}");
        assert_eq!(bench.seen().leased, 1);
        bench.maintain(100);
        assert_eq!(bench.seen().phase, Phase::Closed);
        assert_eq!(bench.maintain(101), None);
    }
}

#[test]
fn p24_a_drain_keeps_nothing_for_those_whose_time_is_over() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::For(10), 7);
    shut(&mut bench, 100, true);
    bench.now = 20;
    bench.give_back(held);
    assert_eq!(bench.wakes, [(7, WakeOutcome::TimedOut)]);
    assert_eq!((bench.seen().idle, bench.seen().phase), (0, Phase::Closed));
}

#[test]
fn p24_nothing_is_due_where_nothing_is_left() {
    let mut bench = Bench::new(1, 0).filled(1);
    shut(&mut bench, 100, false);
    assert_eq!((bench.seen().phase, bench.maintain(1)), (Phase::Closed, None));
}

#[test]
fn p24_a_holder_that_was_not_told_of_its_lease_is_told_before_it_ends() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    shut(&mut bench, 100, true);
    let mut none = full();
    bench.now = 100;
    bench.pool.checkin(held, Condition::Good, || 99, &mut none).unwrap();
    bench.pool.maintain(|| 100, &mut none);
    bench.maintain(100);
    let lease = bench.granted_lease(7);
    bench.maintain(101);
    assert_eq!(bench.checkin(lease, Condition::Good), Err(StaleLease));
    assert_eq!(bench.seen().phase, Phase::Closed);
}
