//! Real threads: no slot has two holders, and in the end everything reconciles.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use elixirscope::pool::*;

/// Real threads: no slot has two holders, and in the end everything reconciles.
#[test]
fn p25_counters_reconcile_after_a_storm() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 2_000;
    let config = PoolConfig { size: 2, max_overflow: 1, overflow_ttl_ns: 50, ..PoolConfig::default() };
    let pool = Arc::new(Pool::new(&config).unwrap());
    let clock = Arc::new(AtomicU64::new(0));
    let holders: Arc<Vec<AtomicU64>> = Arc::new((0..3).map(|_| AtomicU64::new(0)).collect());
    let mailbox: Arc<parking_lot::Mutex<HashMap<u64, WakeOutcome>>> = Arc::default();
    let worker = |id: u64| {
        let (pool, clock, holders, mailbox) = (pool.clone(), clock.clone(), holders.clone(), mailbox.clone());
        move || {
            let now = || clock.fetch_add(1, Ordering::Relaxed);
            // Every report gets a buffer of its own, so that none overflows into a second `maintain`.
            let carry_out = |actions: Actions| {
                let mut todo = vec![actions];
                while let Some(actions) = todo.pop() {
                    for action in actions.iter() {
                        let mut next = Actions::new();
                        match action {
                            Action::Create { slot, epoch } => {
                                pool.created(slot, epoch, Ok(()), now, &mut next).unwrap();
                            }
                            Action::Destroy { slot, epoch, .. } => {
                                pool.destroyed(slot, epoch, now, &mut next).unwrap();
                            }
                            other @ (Action::Check { .. } | Action::Leaked { .. }) => panic!("{other:?}"),
                            Action::Wake { waiter_token, outcome } => {
                                assert!(mailbox.lock().insert(waiter_token, outcome).is_none(), "P05");
                            }
                        }
                        todo.push(next);
                    }
                    if actions.more() {
                        let mut next = Actions::new();
                        pool.maintain(now, &mut next);
                        todo.push(next);
                    }
                }
            };
            for round in 0..ROUNDS {
                let token = id * ROUNDS + round;
                // The dead do not call again, so every round has an owner of its own.
                let owner = Owner(1 + token);
                let mut actions = Actions::new();
                let answer = pool.checkout(owner, Wait::Forever, token, now, &mut actions);
                carry_out(actions);
                let lease = match answer {
                    Checkout::Granted(lease) => Some(lease),
                    other @ (Checkout::Rejected(_) | Checkout::GrantedUntested { .. }) => panic!("{other:?}"),
                    Checkout::Queued(ticket) => {
                        for _ in 0..round % 5 {
                            std::thread::yield_now();
                        }
                        let mut actions = Actions::new();
                        let outcome = pool.cancel(ticket, GiveUp::TimedOut, now, &mut actions);
                        carry_out(actions);
                        match outcome {
                            CancelOutcome::Cancelled => None,
                            CancelOutcome::Granted(lease) => Some(lease),
                            other => panic!("{other:?}"),
                        }
                    }
                };
                let Some(lease) = lease else { continue };
                let holder = &holders[lease.slot as usize];
                assert_eq!(holder.swap(1, Ordering::AcqRel), 0, "P02: two holders");
                std::hint::spin_loop();
                assert_eq!(holder.swap(0, Ordering::AcqRel), 1, "P02: two holders");
                let mut actions = Actions::new();
                if round % 16 == 0 {
                    pool.owner_gone(owner, now, &mut actions);
                } else {
                    let broken = if round % 7 == 0 { Condition::Broken } else { Condition::Good };
                    pool.checkin(lease, broken, now, &mut actions).unwrap();
                }
                carry_out(actions);
            }
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|id| std::thread::spawn(worker(id))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let seen = pool.snapshot(|| 0, &mut Actions::new());
    let n = seen.counts;
    assert_eq!(n.requests, THREADS * ROUNDS);
    assert_eq!(n.requests, n.granted + n.timed_out + n.cancelled + u64::from(seen.waiting), "{n:?}");
    assert_eq!((seen.leased, seen.waiting, seen.creating, seen.closing), (0, 0, 0, 0), "{seen:?}");
    assert_eq!(n.granted, n.returned + n.broken + n.reclaimed, "{n:?}");
    assert_eq!(n.created - n.destroys, u64::from(seen.idle), "{n:?}");
}
