//! Leases, and what ends them: P01 to P04, P19, P20.

use elixirscope::pool::*;

use crate::bench::{Bench, full};

#[test]
fn p02_the_idle_fast_path_reads_no_clock() {
    let mut bench = Bench::new(1, 0);
    let lease = bench.lease(1);
    let mut actions = Actions::new();
    bench.pool.checkin(lease, Condition::Good, || panic!("clock"), &mut actions).unwrap();
    let again = bench.pool.checkout(Owner(1), Wait::For(5), 0, || panic!("clock"), &mut actions);
    assert!(matches!(again, Checkout::Granted(_)));
    assert!(actions.is_empty());
}

#[test]
fn p03_a_pool_has_the_number_that_its_leases_carry() {
    let (mut one, mut other) = (Bench::new(1, 0), Bench::new(1, 0));
    assert_eq!(one.lease(1).pool, one.pool.id());
    assert_eq!(other.lease(1).pool, other.pool.id());
    assert_ne!(one.pool.id(), other.pool.id());
}

#[test]
fn p03_double_foreign_and_made_up_leases_change_nothing() {
    let mut bench = Bench::new(2, 0);
    let old = bench.lease(1);
    bench.give_back(old);
    let current = bench.lease(2);
    assert_eq!(old.slot, current.slot);
    let foreign = Bench::new(2, 0).lease(1);
    let before = bench.seen();
    for lease in [
        old,
        foreign,
        Lease { pool: foreign.pool, ..current },
        Lease { slot: u32::MAX, ..current },
        Lease { slot: 1, ..current },
        Lease { epoch: current.epoch + 1, ..current },
    ] {
        for condition in [Condition::Good, Condition::Broken] {
            assert_eq!(bench.checkin(lease, condition), Err(StaleLease));
        }
    }
    assert_eq!(bench.seen(), before);
    bench.give_back(current);
}

#[test]
fn p04_when_all_have_left_nothing_is_out() {
    let mut bench = Bench::new(2, 2);
    let leases: Vec<Lease> = (0..4).map(|_| bench.lease(1)).collect();
    let ticket = bench.queue(2, Wait::Forever, 1);
    bench.queue(3, Wait::Forever, 2);
    assert_eq!(bench.cancel(ticket, GiveUp::Cancelled), CancelOutcome::Cancelled);
    bench.owner_gone(3);
    for lease in leases {
        bench.give_back(lease);
    }
    let seen = bench.seen();
    assert_eq!((seen.leased, seen.creating, seen.closing, seen.waiting), (0, 0, 0, 0));
    assert_eq!(seen.counts.created - seen.counts.destroys, u64::from(seen.idle));
}

#[test]
fn p19_death_ends_exactly_the_owner_s_leases_and_waits() {
    let mut bench = Bench::new(4, 0);
    let (mine, also_mine) = (bench.lease(1), bench.lease(1));
    let (other, another) = (bench.lease(2), bench.lease(17));
    let ticket = bench.queue(1, Wait::Forever, 1);
    bench.owner_gone(1);
    let seen = bench.seen();
    assert_eq!((seen.leased, seen.waiting, seen.counts.reclaimed, seen.counts.cancelled), (2, 0, 2, 1));
    for late in [mine, also_mine] {
        assert_eq!(bench.checkin(late, Condition::Good), Err(StaleLease));
    }
    assert_eq!(bench.cancel(ticket, GiveUp::TimedOut), CancelOutcome::Stale);
    bench.owner_gone(1);
    bench.owner_gone(0);
    assert_eq!(bench.seen(), seen, "told twice is told once, and nobody is nobody");
    bench.give_back(other);
    bench.give_back(another);
}

#[test]
fn p19_a_reclaimed_connection_is_destroyed_and_never_reused() {
    let mut bench = Bench::new(1, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    bench.owner_gone(1);
    assert_eq!(bench.destroys[0].2, DestroyReason::OwnerGone);
    assert_eq!(bench.checkout(2, Wait::Never, 0), Checkout::Rejected(Refusal::Exhausted));
}

#[test]
fn p19_a_death_with_more_than_one_buffer_of_work() {
    let mut bench = Bench::new(40, 0).slow();
    for token in 0..40 {
        bench.queue(1, Wait::Forever, token);
    }
    for _ in 0..40 {
        bench.create_next(Ok(()));
    }
    let mut actions = Actions::new();
    bench.pool.owner_gone(Owner(1), || 0, &mut actions);
    assert_eq!((actions.len(), actions.more()), (Actions::CAPACITY, true));
    bench.take(actions);
    assert_eq!(bench.destroys.len(), 40);
}

#[test]
fn p19_a_wake_that_was_not_told_dies_with_its_waiter() {
    let config = PoolConfig { size: 1, max_overflow: 0, max_waiters: 1, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    for round in 0..5 {
        let held = bench.lease(1);
        bench.queue(2, Wait::Forever, round);
        let mut none = full();
        bench.pool.checkin(held, Condition::Good, || 0, &mut none).unwrap();
        assert!(none.more());
        bench.pool.owner_gone(Owner(2), || 0, &mut none);
        bench.maintain(0);
        assert!(bench.wakes.is_empty(), "the dead get no messages");
        assert_eq!((bench.seen().leased, bench.seen().counts.reclaimed), (0, 1 + round));
    }
}

#[test]
fn p01_a_report_about_an_action_that_was_not_told_is_stale() {
    let mut bench = Bench::new(1, 0).slow();
    let mut none = full();
    bench.pool.checkout(Owner(1), Wait::Forever, 1, || 0, &mut none);
    for epoch in 0..4 {
        assert_eq!(bench.pool.created(0, epoch, Ok(()), || 0, &mut none), Err(StaleReport));
    }
    bench.maintain(0);
    bench.create_next(Ok(()));
    assert_eq!(bench.granted(), [1]);
}

#[test]
fn p20_a_broken_connection_is_destroyed_once() {
    let mut bench = Bench::new(2, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    let lease = bench.granted_lease(1);
    bench.checkin(lease, Condition::Broken).unwrap();
    assert_eq!(bench.checkin(lease, Condition::Broken), Err(StaleLease));
    assert_eq!(bench.destroys.len(), 1);
    assert_eq!(bench.destroys[0].2, DestroyReason::Broken);
    let (slot, epoch, _) = bench.destroys[0];
    bench.destroy_next();
    let again = bench.pool.destroyed(slot, epoch, || 0, &mut Actions::new());
    assert_eq!(again, Err(StaleReport));
}

#[test]
fn p20_a_connection_that_died_leaves_the_pool_idle_or_leased() {
    let mut bench = Bench::new(2, 0);
    let (idle, held) = (bench.lease(1), bench.lease(1));
    bench.give_back(idle);
    for slot in [idle.slot, held.slot, held.slot, 99] {
        assert!(bench.pool.lost(slot, || 0, &mut Actions::new()), "what is closing already stays as it is");
    }
    let seen = bench.seen();
    assert_eq!((seen.idle, seen.leased, seen.closing, seen.counts.broken), (0, 0, 2, 1));
    assert_eq!(bench.checkin(held, Condition::Good), Err(StaleLease));
}

#[test]
fn p20_a_connection_that_died_before_its_waiter_was_told_is_told_first() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    let mut none = full();
    bench.pool.checkin(held, Condition::Good, || 0, &mut none).unwrap();
    assert!(!bench.pool.lost(held.slot, || 0, &mut none), "the waiter's wake is still to come");
    bench.maintain(0);
    let [(7, WakeOutcome::Granted(lease))] = bench.wakes[..] else { panic!("{:?}", bench.wakes) };
    assert!(bench.pool.lost(held.slot, || 0, &mut Actions::new()));
    assert_eq!(bench.checkin(lease, Condition::Good), Err(StaleLease));
}

/// Its connection died between the grant and the look, and the slot is somebody else's by now.
#[test]
fn p02_a_lease_is_not_of_a_connection_that_was_made_after_it() {
    let mut bench = Bench::new(1, 0).slow();
    let mut earlier: Vec<Lease> = Vec::new();
    for round in 0..4 {
        let mut leases = Vec::new();
        bench.queue(1, Wait::Forever, round);
        let (slot, created) = bench.creates[0];
        bench.create_next(Ok(()));
        for _ in 0..2 {
            let lease = if bench.wakes.is_empty() { bench.lease(1) } else { bench.granted_lease(round) };
            assert_eq!((lease.slot, lease.is_of(created)), (slot, true));
            assert!(!earlier.iter().any(|lease| lease.is_of(created)), "{earlier:?} at {created}");
            bench.give_back(lease);
            leases.push(lease);
        }
        let lost = bench.lease(1);
        assert!(lost.is_of(created) && !lost.is_of(lost.epoch));
        let mut actions = Actions::new();
        assert!(bench.pool.lost(slot, || 0, &mut actions));
        bench.take(actions);
        bench.destroy_next();
        leases.push(lost);
        earlier.extend(leases);
    }
}

#[test]
fn p02_an_idle_slot_is_lent_without_a_place_to_wait() {
    let mut bench = Bench::new(1, 0).filled(1);
    let before = bench.seen().counts;
    let Some(Checkout::Granted(lease)) = bench.checkout_unowned() else { panic!("one is idle") };
    assert_eq!(
        bench.seen().counts,
        Counts { requests: before.requests + 1, granted: before.granted + 1, ..before }
    );
    bench.give_back(lease);
}

#[test]
fn p02_without_an_idle_slot_nothing_has_happened() {
    let mut bench = Bench::new(1, 1);
    let before = bench.seen();
    assert_eq!(bench.checkout_unowned(), None, "none is made");
    assert_eq!(bench.seen(), before);
    let held = bench.lease(1);
    let before = bench.seen();
    assert_eq!(bench.checkout_unowned(), None, "none may overflow on its account");
    assert_eq!(bench.seen(), before);
    bench.give_back(held);
    bench.pool.close(|| 0, &mut Actions::new());
    let before = bench.seen();
    assert_eq!(bench.checkout_unowned(), None, "the pool is closed");
    assert_eq!(bench.seen(), before);
}
