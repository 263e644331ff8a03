//! Creations: P16, P17.

use elixirscope::pool::*;

use crate::bench::Bench;

#[test]
fn p16_attempts_are_spaced_and_one_probe_is_in_flight() {
    let mut bench = Bench::new(4, 0).slow();
    for token in 0..4 {
        bench.queue(1, Wait::Forever, token);
    }
    assert_eq!(bench.creates.len(), 4);
    for _ in 0..4 {
        bench.create_next(Err(5));
    }
    let base = PoolConfig::default().create_backoff_ns;
    for attempt in 0..6 {
        let failed_at = bench.now;
        let retry_at = bench.maintain(failed_at).expect("a waiter waits for the next attempt");
        assert!(retry_at - failed_at >= base << attempt, "attempt {attempt}");
        bench.maintain(retry_at);
        assert_eq!(bench.creates.len(), 1, "one probe");
        bench.create_next(Err(6));
    }
    let seen = bench.seen();
    assert_eq!((seen.last_error, seen.failing, seen.waiting), (Some(6), 7, 4));
    let retry_at = bench.maintain(bench.now).unwrap();
    bench.maintain(retry_at);
    bench.create_next(Ok(()));
    assert_eq!(bench.creates.len(), 3, "the first success ends the back-off");
    assert_eq!(bench.seen().failing, 0);
}

#[test]
fn p16_nothing_is_tried_again_for_nobody() {
    let mut bench = Bench::new(1, 0).slow();
    let ticket = bench.queue(1, Wait::Forever, 1);
    bench.create_next(Err(8));
    assert!(bench.maintain(1).is_some_and(|retry| retry > 1));
    assert_eq!(bench.cancel(ticket, GiveUp::Cancelled), CancelOutcome::Cancelled);
    assert_eq!(bench.maintain(2), None);
}

#[test]
fn p16_existing_connections_serve_while_creation_fails() {
    let mut bench = Bench::new(1, 1).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    let held = bench.granted_lease(1);
    bench.queue(2, Wait::Forever, 2);
    bench.create_next(Err(9));
    assert!(bench.wakes.is_empty(), "the waiter is not failed under the policy retry");
    bench.give_back(held);
    assert_eq!(bench.granted(), [2]);
}

#[test]
fn p16_fail_fast_wakes_the_head_with_the_error() {
    let config = PoolConfig { create_failure: CreateFailure::FailFast, ..PoolConfig::default() };
    let mut bench = Bench::with(config).slow();
    let first = bench.queue(1, Wait::Forever, 1);
    bench.queue(1, Wait::Forever, 2);
    bench.create_next(Err(9));
    assert_eq!(bench.wakes, [(1, WakeOutcome::CreateFailed(9))]);
    assert_eq!(bench.cancel(first, GiveUp::TimedOut), CancelOutcome::CreateFailed(9));
    assert_eq!((bench.seen().waiting, bench.seen().counts.create_failed), (1, 1));
}

#[test]
fn p17_creation_goes_on_when_its_requester_leaves() {
    let mut bench = Bench::new(1, 0).slow();
    for token in 0..20 {
        let ticket = bench.queue(1, Wait::Forever, token);
        assert_eq!(bench.cancel(ticket, GiveUp::Cancelled), CancelOutcome::Cancelled);
    }
    assert_eq!(bench.creates.len(), 1, "cancellations make no creations");
    bench.create_next(Ok(()));
    assert_eq!(bench.seen().idle, 1);

    let mut bench = Bench::new(1, 0).slow();
    let first = bench.queue(1, Wait::Forever, 1);
    bench.queue(2, Wait::Forever, 2);
    bench.cancel(first, GiveUp::Cancelled);
    bench.create_next(Ok(()));
    assert_eq!(bench.granted(), [2], "it goes to who is next");
}
