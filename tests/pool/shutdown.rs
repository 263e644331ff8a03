//! The end of a pool: P24.

use elixirscope::pool::*;

use crate::bench::{Bench, full};

#[test]
fn p24_creations_that_were_not_told_are_taken_back() {
    let mut bench = Bench::new(2, 0);
    let mut none = full();
    bench.pool.checkout(Owner(1), Wait::Forever, 1, || 0, &mut none);
    bench.pool.checkout(Owner(1), Wait::Forever, 2, || 0, &mut none);
    assert!(none.more());
    bench.pool.close(|| 0, &mut none);
    bench.maintain(0);
    assert_eq!(bench.wakes, [(1, WakeOutcome::Closed), (2, WakeOutcome::Closed)]);
    assert_eq!((bench.seen().creating, bench.seen().counts.creates), (0, 0));
}

#[test]
fn p24_close_wakes_destroys_and_refuses() {
    let mut bench = Bench::new(2, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    let held = bench.granted_lease(1);
    bench.queue(1, Wait::Forever, 2);
    let ticket = bench.queue(2, Wait::Forever, 3);
    bench.close();
    assert_eq!(bench.wakes, [(2, WakeOutcome::Closed), (3, WakeOutcome::Closed)]);
    assert_eq!(bench.cancel(ticket, GiveUp::Cancelled), CancelOutcome::Closed);
    assert_eq!(bench.checkout(1, Wait::Forever, 4), Checkout::Rejected(Refusal::Closed));
    bench.create_next(Ok(()));
    assert_eq!(bench.destroys.len(), 1, "a creation that comes late is destroyed");
    bench.give_back(held);
    assert_eq!(bench.destroys.len(), 2);
    let before = bench.seen();
    bench.close();
    assert_eq!(bench.seen(), before);
    bench.destroy_next();
    bench.destroy_next();
    let seen = bench.seen();
    assert_eq!((seen.idle, seen.leased, seen.creating, seen.closing, seen.is_closed), (0, 0, 0, 0, true));
}

#[test]
fn p24_close_with_more_than_one_buffer_of_waiters() {
    let mut bench = Bench::new(1, 0);
    bench.lease(1);
    for token in 0..100 {
        bench.queue(2, Wait::Forever, token);
    }
    bench.close();
    assert_eq!(bench.wakes.len(), 100);
    assert!(bench.wakes.iter().all(|wake| wake.1 == WakeOutcome::Closed));
}
