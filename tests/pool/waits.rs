//! Waiting: P05 to P11.

use elixirscope::pool::*;

use crate::bench::Bench;

#[test]
fn p05_a_time_out_that_comes_second_reports_the_grant() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    let ticket = bench.queue(2, Wait::For(10), 7);
    bench.give_back(held);
    let granted = bench.granted_lease(7);
    assert_eq!(bench.cancel(ticket, GiveUp::TimedOut), CancelOutcome::Granted(granted));
    bench.give_back(granted);
    assert_eq!(bench.cancel(ticket, GiveUp::TimedOut), CancelOutcome::Stale);
}

#[test]
fn p05_a_grant_that_comes_second_leaves_the_slot_idle() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    let ticket = bench.queue(2, Wait::For(10), 7);
    assert_eq!(bench.cancel(ticket, GiveUp::TimedOut), CancelOutcome::Cancelled);
    bench.give_back(held);
    assert_eq!((bench.seen().idle, bench.wakes.len()), (1, 0));
    assert_eq!(bench.seen().counts.timed_out, 1);
}

#[test]
fn p06_a_broken_return_serves_the_waiter() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    bench.checkin(held, Condition::Broken).unwrap();
    assert_eq!(bench.granted(), [7]);
    assert_eq!(bench.created, 2);
}

#[test]
fn p06_a_death_serves_the_waiter() {
    let mut bench = Bench::new(1, 0);
    bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    bench.owner_gone(1);
    assert_eq!(bench.granted(), [7]);
}

#[test]
fn p06_a_failed_creation_is_tried_again_for_the_waiter() {
    let mut bench = Bench::new(1, 0).slow();
    bench.queue(1, Wait::Forever, 7);
    bench.create_next(Err(3));
    let retry_at = bench.alarm.expect("the edge is told when to come again");
    assert!(retry_at >= 100_000_000);
    assert_eq!(bench.maintain(retry_at - 1), Some(retry_at));
    assert!(bench.creates.is_empty());
    assert_eq!(bench.maintain(retry_at), None);
    bench.create_next(Ok(()));
    assert_eq!(bench.granted(), [7]);
}

#[test]
fn p06_a_failed_check_of_an_idle_connection_serves_the_waiter() {
    let config = PoolConfig { size: 1, max_overflow: 0, keepalive_ns: 100, ..PoolConfig::default() };
    let mut bench = Bench::with(config).filled(1);
    bench.maintain(100);
    assert!(matches!(bench.checks[..], [(_, _, CheckKind::Idle, _)]));
    bench.queue(2, Wait::Forever, 7);
    bench.check_next(false);
    assert_eq!((bench.granted(), bench.created), (vec![7], 2));
}

#[test]
fn p06_a_slot_that_closes_counts_until_it_is_destroyed() {
    let mut bench = Bench::new(1, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    let held = bench.granted_lease(1);
    bench.queue(2, Wait::Forever, 7);
    bench.checkin(held, Condition::Broken).unwrap();
    assert!(bench.creates.is_empty(), "the server would see two connections");
    bench.destroy_next();
    assert_eq!(bench.creates.len(), 1);
}

#[test]
fn p07_every_waiter_ends_at_its_deadline() {
    let mut bench = Bench::new(1, 0);
    bench.lease(1);
    for token in 0..50 {
        bench.queue(2, Wait::For(1 + token * 7 % 50), token);
    }
    bench.maintain(60);
    assert_eq!(bench.wakes.len(), 50);
    assert!(bench.wakes.iter().all(|wake| wake.1 == WakeOutcome::TimedOut));
    assert_eq!(bench.seen().waiting, 0);
}

#[test]
fn p08_not_before_the_deadline_and_at_once_at_it() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Until(100), 1);
    bench.queue(2, Wait::Until(50), 2);
    let ticket = bench.queue(2, Wait::Until(70), 3);
    assert_eq!(bench.maintain(49), Some(50));
    assert!(bench.wakes.is_empty());
    assert_eq!(bench.maintain(50), Some(70));
    assert_eq!(bench.wakes, [(2, WakeOutcome::TimedOut)]);
    bench.cancel(ticket, GiveUp::Cancelled);
    assert_eq!(bench.maintain(50), Some(100));
    bench.now = 100;
    bench.give_back(held);
    assert_eq!(bench.wakes[1..], [(1, WakeOutcome::TimedOut)], "a grant at the deadline comes too late");
    assert_eq!(bench.seen().idle, 1);
}

#[test]
fn p08_the_edges_of_time() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.now = 10;
    assert_eq!(bench.checkout(2, Wait::For(0), 1), Checkout::Rejected(Refusal::Exhausted));
    assert_eq!(bench.checkout(2, Wait::Until(10), 1), Checkout::Rejected(Refusal::TimedOut));
    bench.queue(2, Wait::For(u64::MAX), 2);
    bench.queue(2, Wait::Until(u64::MAX), 3);
    bench.queue(2, Wait::Forever, 4);
    bench.queue(2, Wait::Until(u64::MAX - 1), 5);
    assert_eq!(bench.maintain(u64::MAX - 2), Some(u64::MAX - 1));
    assert!(bench.wakes.is_empty(), "no wrap-around");
    assert_eq!(bench.maintain(u64::MAX - 1), None, "for ever is for ever");
    assert_eq!(bench.wakes, [(5, WakeOutcome::TimedOut)]);
    bench.now = 20;
    bench.give_back(held);
    assert_eq!(bench.checkout(9, Wait::Until(20), 5), Checkout::Rejected(Refusal::TimedOut));
    assert_eq!(bench.granted(), [2]);
}

#[test]
fn p08_for_ever_outlasts_the_end_of_time() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    assert_eq!(bench.maintain(u64::MAX), None);
    bench.give_back(held);
    assert_eq!(bench.granted(), [7]);
}

#[test]
fn p08_a_past_deadline_takes_nothing_even_from_an_idle_pool() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.give_back(held);
    bench.now = 5;
    assert_eq!(bench.checkout(1, Wait::Until(5), 0), Checkout::Rejected(Refusal::TimedOut));
    assert_eq!(bench.seen().idle, 1);
    assert!(matches!(bench.checkout(1, Wait::Until(6), 0), Checkout::Granted(_)));
}

#[test]
fn p09_grants_follow_the_queue_under_every_order() {
    for order in [IdleOrder::Lifo, IdleOrder::Fifo, IdleOrder::RoundRobin, IdleOrder::LeastUsed] {
        let config = PoolConfig { size: 1, max_overflow: 0, order, ..PoolConfig::default() };
        let mut bench = Bench::with(config);
        let mut held = bench.lease(1);
        let tickets: Vec<Ticket> = (0..9).map(|token| bench.queue(2 + token, Wait::Forever, token)).collect();
        bench.cancel(tickets[3], GiveUp::Cancelled);
        bench.cancel(tickets[0], GiveUp::TimedOut);
        bench.cancel(tickets[8], GiveUp::TimedOut);
        let mut served = Vec::new();
        for _ in 0..6 {
            bench.give_back(held);
            assert_eq!(bench.checkout(99, Wait::Never, 99), Checkout::Rejected(Refusal::Exhausted));
            let (token, _) = bench.wakes[0];
            served.push(token);
            held = bench.granted_lease(token);
        }
        assert_eq!(served, [1, 2, 4, 5, 6, 7]);
    }
}

#[test]
fn p10_a_caller_that_never_waits_gets_an_idle_slot_or_nothing() {
    let mut bench = Bench::new(1, 0).slow();
    assert_eq!(bench.checkout(1, Wait::Never, 0), Checkout::Rejected(Refusal::Exhausted));
    assert_eq!(bench.checkout(1, Wait::Never, 0), Checkout::Rejected(Refusal::Exhausted));
    assert_eq!((bench.creates.len(), bench.seen().waiting), (1, 0), "one creation ahead is enough");
    bench.create_next(Ok(()));
    assert!(matches!(bench.checkout(1, Wait::Never, 0), Checkout::Granted(_)));
}

#[test]
fn p10_a_caller_that_waits_for_its_creation_never_waits_for_a_return() {
    let mut bench = Bench::new(1, 1).slow();
    bench.queue(1, Wait::ForCreation, 1);
    bench.queue(1, Wait::ForCreation, 2);
    assert_eq!(bench.checkout(1, Wait::ForCreation, 3), Checkout::Rejected(Refusal::Exhausted));
    bench.create_next(Err(8));
    assert_eq!(bench.wakes, [(1, WakeOutcome::CreateFailed(8))]);
    assert_eq!(bench.checkout(1, Wait::ForCreation, 4), Checkout::Rejected(Refusal::Exhausted), "back-off");
    bench.create_next(Ok(()));
    assert_eq!(bench.granted(), [2]);
    bench.queue(1, Wait::Forever, 5);
    bench.queue(1, Wait::Forever, 6);
    assert_eq!(bench.checkout(1, Wait::ForCreation, 7), Checkout::Rejected(Refusal::Exhausted), "a queue");
}

#[test]
fn p11_the_queue_is_bounded() {
    let mut bench =
        Bench::with(PoolConfig { size: 1, max_overflow: 0, max_waiters: 2, ..PoolConfig::default() });
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 1);
    bench.queue(2, Wait::Forever, 2);
    assert_eq!(bench.checkout(2, Wait::Forever, 3), Checkout::Rejected(Refusal::QueueFull));
    assert_eq!((bench.seen().waiting, bench.seen().counts.queue_full), (2, 1));
    bench.give_back(held);
    bench.queue(2, Wait::Forever, 4);
    assert_eq!(bench.granted(), [1]);
}

#[test]
fn p11_no_waiters_means_never_wait() {
    let mut bench =
        Bench::with(PoolConfig { size: 1, max_overflow: 0, max_waiters: 0, ..PoolConfig::default() }).slow();
    for wait in [Wait::Forever, Wait::For(5), Wait::ForCreation] {
        assert_eq!(bench.checkout(2, wait, 3), Checkout::Rejected(Refusal::QueueFull));
    }
    assert_eq!(bench.checkout(2, Wait::Never, 3), Checkout::Rejected(Refusal::Exhausted));
    assert_eq!((bench.creates.len(), bench.seen().waiting), (1, 0), "one creation ahead, as without waiting");
    bench.create_next(Ok(()));
    assert!(matches!(bench.checkout(2, Wait::Forever, 3), Checkout::Granted(_)));
}

#[test]
fn p06_a_connection_that_died_is_replaced_for_a_waiter() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    let mut actions = Actions::new();
    assert!(bench.pool.lost(held.slot, || 0, &mut actions));
    bench.take(actions);
    assert!(matches!(bench.wakes[..], [(7, WakeOutcome::Granted(_))]));
}

#[test]
fn p06_a_caller_within_the_size_does_not_cost_the_next_its_creation() {
    let mut bench = Bench::new(1, 1).slow();
    let within = bench.pool.checkout_within_size(Owner(1), Wait::Forever, 1, || 0, &mut Actions::new());
    assert!(matches!(within, Checkout::Queued(_)));
    bench.queue(2, Wait::Forever, 2);
    assert_eq!((bench.seen().creating, bench.seen().overflow), (2, 1));
}

#[test]
fn p05_who_gives_up_after_the_time_out_is_told_of_it() {
    let mut bench = Bench::new(1, 0);
    bench.lease(1);
    let ticket = bench.queue(2, Wait::For(10), 7);
    bench.maintain(10);
    assert_eq!(bench.wakes, [(7, WakeOutcome::TimedOut)]);
    assert_eq!(bench.cancel(ticket, GiveUp::Cancelled), CancelOutcome::TimedOut);
    assert_eq!(bench.seen().counts.cancelled, 0);
}

/// Its place may be another's by then.
#[test]
fn p05_the_ticket_of_an_earlier_wait_ends_no_later_one() {
    let config = PoolConfig { size: 1, max_overflow: 0, max_waiters: 1, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    let held = bench.lease(1);
    let mut earlier = Vec::new();
    for round in 0..64 {
        let ticket = bench.queue(2, Wait::Forever, round);
        for old in &earlier {
            assert_ne!(*old, ticket);
            assert_eq!(bench.cancel(*old, GiveUp::Cancelled), CancelOutcome::Stale);
        }
        assert_eq!(bench.seen().waiting, 1);
        assert_eq!(bench.cancel(ticket, GiveUp::Cancelled), CancelOutcome::Cancelled);
        earlier.push(ticket);
    }
    bench.give_back(held);
}

/// The place of a wait that ended in a lease is kept as long as the lease lasts, and is one place afterwards.
#[test]
fn p11_a_place_in_the_queue_is_one_wait_s() {
    let config = PoolConfig { size: 1, max_overflow: 0, max_waiters: 3, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    let mut held = bench.lease(1);
    for round in 0..8 {
        let tokens = [3 * round, 3 * round + 1, 3 * round + 2];
        tokens.iter().for_each(|token| _ = bench.queue(2, Wait::Forever, *token));
        assert_eq!(bench.checkout(2, Wait::Forever, 99), Checkout::Rejected(Refusal::QueueFull));
        for token in tokens {
            bench.give_back(held);
            assert_eq!(bench.wakes.len(), 1);
            held = bench.granted_lease(token);
        }
        assert_eq!(bench.seen().waiting, 0);
    }
}

/// The creation in flight, whose requester has left, goes to the one ahead of it.
#[test]
fn p10_a_caller_that_waits_for_its_creation_brings_one_along() {
    let mut bench = Bench::new(1, 3).slow();
    bench.queue(1, Wait::ForCreation, 1);
    bench.create_next(Ok(()));
    let left = bench.queue(1, Wait::Forever, 2);
    assert_eq!((bench.cancel(left, GiveUp::Cancelled), bench.creates.len()), (CancelOutcome::Cancelled, 1));
    let mut actions = Actions::new();
    let within = bench.pool.checkout_within_size(Owner(1), Wait::ForCreation, 3, || 0, &mut actions);
    bench.take(actions);
    assert!(matches!(within, Checkout::Queued(_)) && bench.creates.len() == 1);
    bench.queue(1, Wait::ForCreation, 4);
    assert_eq!(bench.creates.len(), 2);
}
