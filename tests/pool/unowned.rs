//! Leases without owners, and who ends the memory of a pool that nobody refers to (P24).

use elixirscope::pool::*;

use crate::bench::Bench;

fn abandon(bench: &mut Bench) -> bool {
    let mut actions = Actions::new();
    let held = bench.pool.abandon(|| bench.now, &mut actions);
    bench.take(actions);
    held
}

/// Without carrying out what is asked for.
fn give_back(bench: &Bench, lease: Lease, condition: Condition) -> (Returned, Actions) {
    let mut actions = Actions::new();
    let returned = bench.pool.checkin_unowned(lease, condition, || bench.now, &mut actions);
    (returned.unwrap(), actions)
}

fn lend(bench: &mut Bench) -> Lease {
    match bench.checkout_unowned() {
        Some(Checkout::Granted(lease)) => lease,
        other => panic!("{other:?} instead of an idle slot"),
    }
}

#[test]
fn p24_a_return_that_asks_for_nothing_is_done() {
    let mut bench = Bench::new(1, 0).filled(1);
    let lease = lend(&mut bench);
    assert_eq!(give_back(&bench, lease, Condition::Good).0, Returned::Done);

    let lease = lend(&mut bench);
    let (returned, actions) = give_back(&bench, lease, Condition::Broken);
    assert_eq!((returned, actions.len()), (Returned::Settling, 1), "a connection is to be destroyed");
    bench.take(actions);
    assert!(!bench.pool.settled(), "nobody has abandoned it");
}

/// An alarm is something to do as well: who hears of it is the caller.
#[test]
fn p24_a_return_that_rings_is_not_done() {
    let config = PoolConfig { size: 1, max_overflow: 1, overflow_ttl_ns: 100, ..PoolConfig::default() };
    let mut bench = Bench::with(config).filled(1);
    let _kept = lend(&mut bench);
    let surplus = bench.lease(0);
    let (returned, actions) = give_back(&bench, surplus, Condition::Good);
    assert_eq!((returned, actions.is_empty(), actions.alarm_ns()), (Returned::Settling, true, Some(100)));
    assert!(!bench.pool.settled());
}

#[test]
fn p24_an_abandoned_pool_without_leases_is_held_by_nobody() {
    let mut bench = Bench::new(2, 0).filled(2);
    assert!(!abandon(&mut bench));
    assert_eq!(bench.seen().phase, Phase::Closed);
    assert_eq!(bench.checkout_unowned(), None);
}

#[test]
fn p24_the_last_return_to_an_abandoned_pool_ends_it() {
    let mut bench = Bench::new(2, 0).filled(2);
    let leases = [lend(&mut bench), lend(&mut bench)];
    assert!(abandon(&mut bench), "two leases");
    for (lease, is_last) in leases.into_iter().zip([false, true]) {
        let (returned, actions) = give_back(&bench, lease, Condition::Good);
        assert_eq!(returned, Returned::Settling);
        bench.take(actions);
        assert_eq!(bench.pool.settled(), is_last);
    }
}

/// A check-in keeps the pool until it has carried out what it brought about, alone or beside others.
#[test]
fn p24_a_return_that_settles_keeps_an_abandoned_pool() {
    let mut bench = Bench::new(3, 0).filled(3);
    let [one, two, three] = std::array::from_fn(|_| lend(&mut bench));
    let settling = [one, two].map(|lease| give_back(&bench, lease, Condition::Broken));
    let last = give_back(&bench, three, Condition::Broken);
    assert!(abandon(&mut bench), "no leases, but three returns");
    for (_, actions) in settling {
        bench.take(actions);
        assert!(!bench.pool.settled());
    }
    bench.take(last.1);
    assert!(bench.pool.settled());
}
