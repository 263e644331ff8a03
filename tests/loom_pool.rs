//! Interleavings of the shipped pool under loom: `ci/loom.sh` runs them, `ci/loom.sh sabotage` shows that each can
//! fail.
//!
//! | sabotage | what it takes away |
//! | --- | --- |
//! | `pool_blind_grant` | the granter's compare-and-swap |
//! | `pool_split_enqueue` | looking again under the lock before queueing |
//! | `pool_no_recheck` | looking at the list of the dead after an unlock |
//! | `pool_plain_look` | the write of that look, which orders it against a push |
//! | `pool_split_room` | looking for room within the size under the lock that starts the creation |
//! | `pool_keeps_late` | looking for the pool's end when a connection is ready or comes back |
//! | `pool_split_surplus` | looking at the queue under the lock that closes a surplus connection |
//! | `pool_settles_unheld` | counting the check-ins that carry out their actions among what keeps the memory |
//! | `pool_lost_untold` | telling a waiter of its grant before the granted connection is lost |
//! | `pool_lent_by_slot` | telling by its epoch whose connection a slot has |
//! | `pool_keeps_hopeless` | ending the waits for a creation that a smaller pool destroys |
//! | `pool_split_promise` | looking for room under the lock that queues a caller for a creation |
//! | `pool_quiet_growth` | creating for those who wait under the lock that makes the pool larger |
#![cfg(escope_loom)]

// sabotage: pool_blind_grant p05_grant_and_time_out_exclude_each_other
// sabotage: pool_blind_grant p05_a_grant_that_loses_moves_on
// sabotage: pool_split_enqueue p06_check_in_meets_a_caller_that_queues
// sabotage: pool_no_recheck p19_death_meets_an_unlock
// sabotage: pool_no_recheck p19_two_deaths_meet_a_check_in
// sabotage: pool_plain_look p19_death_meets_an_unlock
// sabotage: pool_split_room p13_two_callers_within_the_size_make_one_connection
// sabotage: pool_keeps_late p24_close_meets_a_creation
// sabotage: pool_split_surplus p13_the_last_overflow_s_return_meets_a_caller
// sabotage: pool_settles_unheld p24_the_last_of_leases_and_program_ends_the_memory
// sabotage: pool_lost_untold p20_a_lost_connection_meets_a_grant_that_was_not_told
// sabotage: pool_lent_by_slot p02_a_grant_that_is_read_late_finds_no_connection_of_another
// sabotage: pool_keeps_hopeless p23_a_smaller_size_meets_a_caller_that_waits_for_its_creation
// sabotage: pool_split_promise p23_a_smaller_size_meets_a_caller_that_waits_for_its_creation
// sabotage: pool_keeps_hopeless p23_a_smaller_and_a_larger_size_meet_a_creation_that_is_waited_for
// sabotage: pool_quiet_growth p23_a_larger_size_meets_a_caller_that_queues

use elixirscope::pool::*;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

const A: Owner = Owner(1);
const B: Owner = Owner(2);

fn now() -> u64 {
    1
}

fn pool(size: u32) -> Arc<Pool> {
    let config = PoolConfig { size, max_overflow: 0, max_waiters: 2, ..PoolConfig::default() };
    Arc::new(Pool::new(&config).unwrap())
}

/// A lease on a new connection.
fn lease(pool: &Pool, owner: Owner) -> Lease {
    let mut actions = Actions::new();
    let Checkout::Queued(ticket) = pool.checkout(owner, Wait::Forever, 0, now, &mut actions) else {
        panic!("a new pool has no idle slot")
    };
    for action in actions.clone().iter() {
        if let Action::Create { slot, epoch } = action {
            pool.created(slot, epoch, Ok(()), now, &mut Actions::new()).unwrap();
        }
    }
    match pool.cancel(ticket, GiveUp::TimedOut, now, &mut Actions::new()) {
        CancelOutcome::Granted(lease) => lease,
        other => panic!("{other:?} instead of the grant"),
    }
}

fn wakes(actions: &Actions) -> Vec<(u64, Lease)> {
    let granted = |action| match action {
        Action::Wake { waiter_token, outcome: WakeOutcome::Granted(lease) } => Some((waiter_token, lease)),
        _ => None,
    };
    actions.iter().filter_map(granted).collect()
}

/// How waits ended, by their tokens.
fn told(actions: &Actions) -> Vec<(u64, WakeOutcome)> {
    let wake = |action| match action {
        Action::Wake { waiter_token, outcome } => Some((waiter_token, outcome)),
        _ => None,
    };
    actions.iter().filter_map(wake).collect()
}

fn creates(actions: &Actions) -> Vec<(u32, u64)> {
    let create = |action| match action {
        Action::Create { slot, epoch } => Some((slot, epoch)),
        _ => None,
    };
    actions.iter().filter_map(create).collect()
}

/// A buffer without room: what a call decides stays in the pool.
fn full() -> Actions {
    let capacity = Actions::CAPACITY as u32;
    let config =
        PoolConfig { size: capacity, max_overflow: 0, max_waiters: capacity, ..PoolConfig::default() };
    let pool = Pool::new(&config).unwrap();
    let mut actions = Actions::new();
    while actions.len() < Actions::CAPACITY {
        pool.checkout(A, Wait::Forever, 0, now, &mut actions);
    }
    actions
}

fn destroys(actions: &Actions) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Destroy { .. })).count()
}

fn snapshot(pool: &Pool) -> Snapshot {
    let mut actions = Actions::new();
    let seen = pool.snapshot(now, &mut actions);
    assert!(actions.is_empty(), "what was left over would have waited for this call: {actions:?}");
    seen
}

fn queue(pool: &Pool, owner: Owner, token: u64) -> Ticket {
    match pool.checkout(owner, Wait::Forever, token, now, &mut Actions::new()) {
        Checkout::Queued(ticket) => ticket,
        other => panic!("{other:?} although the pool is used up"),
    }
}

/// A grant and a time-out of one waiter: exactly one of them happens, and the slot is with somebody or idle.
#[test]
fn p05_grant_and_time_out_exclude_each_other() {
    loom::model(|| {
        let pool = pool(1);
        let held = lease(&pool, A);
        let ticket = queue(&pool, B, 7);
        let granter = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.checkin(held, Condition::Good, now, &mut actions).unwrap();
                wakes(&actions)
            })
        };
        let mut actions = Actions::new();
        let outcome = pool.cancel(ticket, GiveUp::TimedOut, now, &mut actions);
        let woken = granter.join().unwrap();
        let seen = snapshot(&pool);
        match outcome {
            CancelOutcome::Cancelled => {
                assert!(woken.is_empty(), "granted and timed out");
                assert_eq!((seen.idle, seen.leased, seen.waiting), (1, 0, 0));
                assert_eq!(seen.counts.timed_out, 1);
            }
            CancelOutcome::Granted(lease) => {
                assert_eq!(woken, [(7, lease)]);
                assert_eq!((seen.idle, seen.leased, seen.waiting), (0, 1, 0));
            }
            other => panic!("{other:?}"),
        }
    });
}

/// The same with a second waiter: a grant that loses goes to it in the same step.
#[test]
fn p05_a_grant_that_loses_moves_on() {
    loom::model(|| {
        let pool = pool(1);
        let held = lease(&pool, A);
        let first = queue(&pool, B, 7);
        queue(&pool, B, 8);
        let granter = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.checkin(held, Condition::Good, now, &mut actions).unwrap();
                wakes(&actions)
            })
        };
        let outcome = pool.cancel(first, GiveUp::TimedOut, now, &mut Actions::new());
        let woken: Vec<u64> = granter.join().unwrap().into_iter().map(|(token, _)| token).collect();
        match outcome {
            CancelOutcome::Cancelled => assert_eq!(woken, [8]),
            CancelOutcome::Granted(_) => assert_eq!(woken, [7]),
            other => panic!("{other:?}"),
        }
        let seen = snapshot(&pool);
        assert_eq!((seen.idle, seen.leased), (0, 1));
    });
}

/// A check-in beside a check-out: the slot is granted at once or by a wake, never idle with a waiter.
#[test]
fn p06_check_in_meets_a_caller_that_queues() {
    loom::model(|| {
        let pool = pool(1);
        let held = lease(&pool, A);
        let returner = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.checkin(held, Condition::Good, now, &mut actions).unwrap();
                wakes(&actions).len()
            })
        };
        let answer = pool.checkout(B, Wait::Forever, 7, now, &mut Actions::new());
        let woken = returner.join().unwrap();
        match answer {
            Checkout::Granted(_) => assert_eq!(woken, 0),
            Checkout::Queued(_) => assert_eq!(woken, 1, "a waiter sleeps beside an idle slot"),
            other => panic!("{other:?}"),
        }
        let seen = snapshot(&pool);
        assert_eq!((seen.idle, seen.leased, seen.waiting), (0, 1, 0));
    });
}

/// A death while another thread holds the lock: one of the two deals with it, nobody has to call again.
#[test]
fn p19_death_meets_an_unlock() {
    loom::model(|| {
        let pool = pool(2);
        let (mine, others) = (lease(&pool, A), lease(&pool, B));
        let monitor = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.owner_gone(A, now, &mut actions);
                destroys(&actions)
            })
        };
        let mut actions = Actions::new();
        pool.checkin(others, Condition::Good, now, &mut actions).unwrap();
        let dealt_with = destroys(&actions) + monitor.join().unwrap();
        assert_eq!(dealt_with, 1, "the death waits for a next call");
        let seen = snapshot(&pool);
        assert_eq!((seen.leased, seen.closing, seen.idle), (0, 1, 1));
        let late = pool.checkin(mine, Condition::Good, now, &mut Actions::new());
        assert_eq!(late, Err(StaleLease));
    });
}

/// Two deaths at once, one of a holder and one of a waiter, beside a check-in that may grant to the dying waiter.
#[test]
fn p19_two_deaths_meet_a_check_in() {
    loom::model(|| {
        let pool = pool(1);
        let held = lease(&pool, A);
        queue(&pool, B, 7);
        let death = |owner: Owner| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.owner_gone(owner, now, &mut actions);
                destroys(&actions)
            })
        };
        let threads = [death(A), death(B)];
        let mut actions = Actions::new();
        let returned = pool.checkin(held, Condition::Good, now, &mut actions).is_ok();
        let destroyed: usize =
            destroys(&actions) + threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>();
        let seen = snapshot(&pool);
        assert_eq!((seen.leased, seen.waiting), (0, 0));
        assert_eq!(seen.closing as usize, destroyed);
        assert_eq!((seen.idle + seen.closing, seen.counts.returned), (1, u64::from(returned)));
    });
}

/// Check-in and the owner's death end one lease once.
#[test]
fn p19_death_meets_the_owner_s_own_check_in() {
    loom::model(|| {
        let pool = pool(1);
        let held = lease(&pool, A);
        let monitor = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.owner_gone(A, now, &mut Actions::new()))
        };
        let returned = pool.checkin(held, Condition::Good, now, &mut Actions::new());
        monitor.join().unwrap();
        let seen = snapshot(&pool);
        assert_eq!(seen.leased, 0);
        assert_eq!(seen.counts.returned + seen.counts.reclaimed, 1);
        assert_eq!(seen.idle, u32::from(returned.is_ok()));
    });
}

/// Two callers that keep the pool within its size, where there is room for one: one connection is made, and both are
/// served by it.
#[test]
fn p13_two_callers_within_the_size_make_one_connection() {
    loom::model(|| {
        let config = PoolConfig { size: 1, max_overflow: 1, max_waiters: 2, ..PoolConfig::default() };
        let pool = Arc::new(Pool::new(&config).unwrap());
        let ask = |owner: Owner, token| {
            let pool = Arc::clone(&pool);
            move || {
                let mut actions = Actions::new();
                let answer = pool.checkout_within_size(owner, Wait::Forever, token, now, &mut actions);
                assert!(matches!(answer, Checkout::Queued(_)));
                creates(&actions)
            }
        };
        let other = thread::spawn(ask(B, 8));
        let mut made = ask(A, 7)();
        made.extend(other.join().unwrap());
        assert_eq!(made.len(), 1, "a connection above the size that nobody asked for");
        let (slot, epoch) = made[0];
        let mut actions = Actions::new();
        pool.created(slot, epoch, Ok(()), now, &mut actions).unwrap();
        let first = wakes(&actions);
        actions.clear();
        pool.checkin(first[0].1, Condition::Good, now, &mut actions).unwrap();
        let mut served: Vec<u64> = first.into_iter().chain(wakes(&actions)).map(|wake| wake.0).collect();
        served.sort_unstable();
        assert_eq!(served, [7, 8]);
    });
}

/// A connection dies beside its check-in: its lease ends once, and it is destroyed and not lent again.
#[test]
fn p20_a_lost_connection_meets_its_check_in() {
    loom::model(|| {
        let pool = pool(1);
        let held = lease(&pool, A);
        let monitor = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                assert!(pool.lost(held.slot, now, &mut actions), "nobody is left to be told");
                destroys(&actions)
            })
        };
        let returned = pool.checkin(held, Condition::Good, now, &mut Actions::new()).is_ok();
        assert_eq!(monitor.join().unwrap(), 1);
        let seen = snapshot(&pool);
        assert_eq!((seen.idle, seen.leased, seen.closing), (0, 0, 1));
        assert_eq!((seen.counts.returned, seen.counts.broken), (u64::from(returned), u64::from(!returned)));
    });
}

/// A connection dies between the grant and the wake that tells of it, because a buffer was full: the waiter is told
/// whoever comes first.
#[test]
fn p20_a_lost_connection_meets_a_grant_that_was_not_told() {
    loom::model(|| {
        let pool = pool(1);
        let held = lease(&pool, A);
        queue(&pool, B, 7);
        let monitor = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let (mut told, mut actions) = (Vec::new(), Actions::new());
                while !pool.lost(held.slot, now, &mut actions) {
                    told.extend(wakes(&actions));
                    actions.clear();
                }
                told.extend(wakes(&actions));
                told
            })
        };
        let mut full = full();
        let returned = pool.checkin(held, Condition::Good, now, &mut full).is_ok();
        full.clear();
        pool.maintain(now, &mut full);
        let mut told = wakes(&full);
        told.extend(monitor.join().unwrap());
        let tokens: Vec<u64> = told.iter().map(|wake| wake.0).collect();
        // Before the check-in it was the first holder's loss, and the waiter waits for a new connection.
        assert_eq!(tokens, if returned { vec![7] } else { vec![] });
        let seen = snapshot(&pool);
        assert_eq!((seen.leased, seen.closing, seen.waiting), (0, 1, u32::from(!returned)));
    });
}

/// A pool becomes smaller beside a check-out with the time-out 0, which waits for a creation of its own alone: it is
/// refused, told that there is none, or served, and does not wait for what others hold.
#[test]
fn p23_a_smaller_size_meets_a_caller_that_waits_for_its_creation() {
    loom::model(|| {
        let pool = pool(2);
        lease(&pool, A);
        let resizer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.resize(1, 0, now, &mut actions).unwrap();
                told(&actions)
            })
        };
        let mut actions = Actions::new();
        let answer = pool.checkout(B, Wait::ForCreation, 7, now, &mut actions);
        let mut ready = Actions::new();
        for (slot, epoch) in creates(&actions) {
            pool.created(slot, epoch, Ok(()), now, &mut ready).unwrap();
        }
        let mut ends = told(&ready);
        ends.extend(resizer.join().unwrap());
        match (answer, &ends[..]) {
            (Checkout::Rejected(Refusal::Exhausted), []) => {}
            (Checkout::Queued(_), [(7, WakeOutcome::Granted(_) | WakeOutcome::TimedOut)]) => {}
            other => panic!("{other:?}"),
        }
        let seen = snapshot(&pool);
        let served = u32::from(matches!(ends[..], [(7, WakeOutcome::Granted(_))]));
        assert_eq!((seen.leased, seen.idle, seen.creating, seen.waiting), (1 + served, 0, 0, 0));
    });
}

/// The same while its connection is made, and the pool becomes as large again: one end of the wait, and no connection
/// beside those that are told to be destroyed is lost.
#[test]
fn p23_a_smaller_and_a_larger_size_meet_a_creation_that_is_waited_for() {
    loom::model(|| {
        let pool = pool(2);
        lease(&pool, A);
        let mut actions = Actions::new();
        let answer = pool.checkout(B, Wait::ForCreation, 7, now, &mut actions);
        assert!(matches!(answer, Checkout::Queued(_)));
        let (slot, epoch) = creates(&actions)[0];
        let resizer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.resize(1, 0, now, &mut actions).unwrap();
                pool.resize(2, 0, now, &mut actions).unwrap();
                (told(&actions), destroys(&actions))
            })
        };
        let mut actions = Actions::new();
        pool.created(slot, epoch, Ok(()), now, &mut actions).unwrap();
        let (mut ends, mut destroyed) = resizer.join().unwrap();
        ends.extend(told(&actions));
        destroyed += destroys(&actions);
        let served = match ends[..] {
            [(7, WakeOutcome::Granted(_))] => 1,
            [(7, WakeOutcome::TimedOut)] => 0,
            ref other => panic!("{other:?}"),
        };
        let seen = snapshot(&pool);
        assert_eq!((seen.leased, seen.creating, seen.waiting), (1 + served, 0, 0));
        assert_eq!((seen.idle, seen.closing as usize), (1 - served - seen.closing, destroyed));
    });
}

/// A pool becomes larger beside a check-out: the caller gets the one connection that there is room for.
#[test]
fn p23_a_larger_size_meets_a_caller_that_queues() {
    loom::model(|| {
        let pool = pool(2);
        pool.resize(1, 0, now, &mut Actions::new()).unwrap();
        lease(&pool, A);
        let resizer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.resize(2, 0, now, &mut actions).unwrap();
                creates(&actions)
            })
        };
        let mut actions = Actions::new();
        let answer = pool.checkout(B, Wait::Forever, 7, now, &mut actions);
        assert!(matches!(answer, Checkout::Queued(_)));
        let mut made = creates(&actions);
        made.extend(resizer.join().unwrap());
        let [(slot, epoch)] = made[..] else { panic!("{made:?} for one waiter and one place") };
        let mut actions = Actions::new();
        pool.created(slot, epoch, Ok(()), now, &mut actions).unwrap();
        let lease = Lease { pool: pool.id(), slot, epoch: epoch + 1 };
        assert_eq!(wakes(&actions), [(7, lease)]);
    });
}

/// A grant and the death of its connection, whose slot is made anew for the next waiter: when the granter looks for the
/// connection to tell of, it finds the one that was granted or none, and not the one that somebody else holds.
#[test]
fn p02_a_grant_that_is_read_late_finds_no_connection_of_another() {
    loom::model(|| {
        let pool = pool(1);
        let held = lease(&pool, A);
        queue(&pool, B, 7);
        queue(&pool, B, 8);
        // The connections of the edge, which has one slot: a number, and the epoch that it was made at.
        let place = Arc::new(loom::sync::Mutex::new(Some((0, held.epoch - 1))));
        let maker = {
            let (pool, place) = (Arc::clone(&pool), Arc::clone(&place));
            thread::spawn(move || {
                let mut actions = Actions::new();
                if !pool.lost(held.slot, now, &mut actions) {
                    return Vec::new();
                }
                let mut granted = Vec::new();
                while let Some(action) = { actions.iter().next() } {
                    actions.clear();
                    match action {
                        Action::Destroy { slot, epoch, .. } => {
                            *place.lock().unwrap() = None;
                            pool.destroyed(slot, epoch, now, &mut actions).unwrap();
                        }
                        Action::Create { slot, epoch } => {
                            *place.lock().unwrap() = Some((1, epoch));
                            pool.created(slot, epoch, Ok(()), now, &mut actions).unwrap();
                            granted = wakes(&actions);
                            actions.clear();
                        }
                        other => panic!("{other:?}"),
                    }
                }
                granted
            })
        };
        let mut actions = Actions::new();
        let told = pool.checkin(held, Condition::Good, now, &mut actions).map(|()| wakes(&actions));
        if let Ok([(7, lease)]) = told.as_deref() {
            let place = place.lock().unwrap();
            let lent = place.filter(|&(_, created)| lease.is_of(created));
            assert!(lent.is_none_or(|(number, _)| number == 0), "a connection that another waiter holds");
        }
        let granted = maker.join().unwrap();
        assert!(granted.len() <= 1);
    });
}

/// Close beside a check-out: the caller is rejected or woken, never left.
#[test]
fn p24_close_meets_a_caller_that_queues() {
    loom::model(|| {
        let pool = pool(1);
        lease(&pool, A);
        let closer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.close(now, &mut actions);
                actions.len()
            })
        };
        let answer = pool.checkout(B, Wait::Forever, 7, now, &mut Actions::new());
        let woken = closer.join().unwrap();
        match answer {
            Checkout::Queued(_) => assert_eq!(woken, 1),
            Checkout::Rejected(Refusal::Closed) => assert_eq!(woken, 0),
            other => panic!("{other:?}"),
        }
        assert_eq!(snapshot(&pool).waiting, 0);
    });
}

/// Close beside the report of a creation: the connection is destroyed, whoever comes first, and never kept.
#[test]
fn p24_close_meets_a_creation() {
    loom::model(|| {
        let pool = pool(1);
        let mut actions = Actions::new();
        pool.checkout(A, Wait::Never, 0, now, &mut actions);
        let (slot, epoch) = creates(&actions)[0];
        let closer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.close(now, &mut actions);
                destroys(&actions)
            })
        };
        let mut actions = Actions::new();
        pool.created(slot, epoch, Ok(()), now, &mut actions).unwrap();
        assert_eq!(destroys(&actions) + closer.join().unwrap(), 1, "a closed pool keeps a connection");
        let seen = snapshot(&pool);
        assert_eq!((seen.idle, seen.closing, seen.phase), (0, 1, Phase::Draining));
    });
}

/// The return of a connection above the size beside a caller: it is closed where nobody waits, else the caller gets it.
#[test]
fn p13_the_last_overflow_s_return_meets_a_caller() {
    loom::model(|| {
        let config = PoolConfig { size: 0, max_overflow: 1, max_waiters: 2, ..PoolConfig::default() };
        let pool = Arc::new(Pool::new(&config).unwrap());
        let held = lease(&pool, A);
        let returner = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut actions = Actions::new();
                pool.checkin(held, Condition::Good, now, &mut actions).unwrap();
                (destroys(&actions), wakes(&actions).len())
            })
        };
        let answer = pool.checkout(B, Wait::Forever, 7, now, &mut Actions::new());
        assert!(matches!(answer, Checkout::Queued(_)));
        let between = snapshot(&pool);
        let (destroyed, woken) = returner.join().unwrap();
        let seen = snapshot(&pool);
        if between.waiting == 1 && between.leased == 1 {
            assert_eq!(woken, 1, "a connection that a waiter stood for was closed");
        }
        assert_eq!(destroyed + woken, 1);
        assert_eq!((seen.closing as usize, seen.waiting as usize, seen.idle), (destroyed, destroyed, 0));
    });
}

/// Stands for the pool's memory.
#[derive(Default)]
struct Memory {
    /// Loom reports a use that may meet the end.
    bytes: loom::cell::UnsafeCell<()>,
    ended: loom::sync::atomic::AtomicBool,
}

impl Memory {
    fn is_used(&self) {
        self.bytes.with(|_| ());
        assert!(!self.ended.load(Relaxed), "the memory is used after its end");
    }

    fn ends(&self) {
        self.bytes.with_mut(|_| ());
        assert!(!self.ended.swap(true, Relaxed), "the memory ends twice");
    }
}

/// Returns a lease as an edge does whose memory the leases keep.
fn return_and_settle(pool: &Pool, lease: Lease, memory: &Memory) {
    let mut actions = Actions::new();
    if pool.checkin_unowned(lease, Condition::Good, now, &mut actions).unwrap() == Returned::Settling {
        memory.is_used();
        for action in actions.iter() {
            let Action::Destroy { slot, epoch, .. } = action else { panic!("{action:?} of a closed pool") };
            pool.destroyed(slot, epoch, now, &mut Actions::new()).unwrap();
        }
        if pool.settled() {
            memory.ends();
        }
    }
}

/// Two check-ins and the program's last reference: whoever is last ends the memory, and nobody uses it after that.
#[test]
fn p24_the_last_of_leases_and_program_ends_the_memory() {
    loom::model(|| {
        let pool = pool(2);
        let memory = Arc::new(Memory::default());
        let leases = [lease(&pool, Owner::NONE), lease(&pool, Owner::NONE)];
        let returning = leases.map(|lease| {
            let (pool, memory) = (Arc::clone(&pool), Arc::clone(&memory));
            thread::spawn(move || return_and_settle(&pool, lease, &memory))
        });
        let mut actions = Actions::new();
        let is_held = pool.abandon(now, &mut actions);
        for action in actions.iter() {
            let Action::Destroy { slot, epoch, .. } = action else { panic!("{action:?} of a closed pool") };
            pool.destroyed(slot, epoch, now, &mut Actions::new()).unwrap();
        }
        if !is_held {
            memory.ends();
        }
        returning.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(memory.ended.load(Relaxed), "the memory leaks");
    });
}
