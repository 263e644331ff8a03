//! Eight callers on two slots under random schedules: every wait ends, no slot has two holders, nothing is left over.
//!
//! `ci/shuttle.sh` runs the model, and `ci/shuttle.sh sabotage` shows that it fails without a precaution:
//!
// sabotage: pool_blind_grant p02_eight_callers_share_two_slots
#![cfg(escope_shuttle)]

#[path = "support/shuttle.rs"]
mod explore;

use elixirscope::pool::*;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::Mutex;
use shuttle::thread;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const THREADS: u64 = 8;
const SLOTS: u32 = 2;
const ROUNDS: u64 = 3;

/// What an edge needs: a clock, and what waiters are told.
struct Edge {
    pool: Pool,
    clock: AtomicU64,
    told: Mutex<HashMap<u64, WakeOutcome>>,
    held: [AtomicBool; SLOTS as usize],
}

impl Edge {
    fn now(&self) -> u64 {
        // No access of the model's: a clock is read without ordering anything.
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn carry_out(&self, actions: Actions) {
        let mut todo = VecDeque::from([actions]);
        while let Some(actions) = todo.pop_front() {
            for action in actions.iter() {
                let mut next = Actions::new();
                match action {
                    Action::Create { slot, epoch } => {
                        let result = if thread_rng().gen_range(0..8) == 0 { Err(1) } else { Ok(()) };
                        self.pool.created(slot, epoch, result, || self.now(), &mut next).unwrap();
                    }
                    Action::Destroy { slot, epoch, .. } => {
                        self.pool.destroyed(slot, epoch, || self.now(), &mut next).unwrap();
                    }
                    Action::Wake { waiter_token, outcome } => {
                        let before = self.told.lock().unwrap().insert(waiter_token, outcome);
                        assert_eq!(before, None, "P05: told twice");
                    }
                    other => panic!("{other:?} was not asked for"),
                }
                todo.push_back(next);
            }
            if actions.more() {
                let mut next = Actions::new();
                self.pool.maintain(|| self.now(), &mut next);
                todo.push_back(next);
            }
        }
    }

    fn caller(&self, id: u64) {
        for round in 0..ROUNDS {
            let token = id * ROUNDS + round;
            // The dead do not call again, so every round has an owner of its own.
            let owner = Owner(1 + token);
            let mut actions = Actions::new();
            let answer = self.pool.checkout(owner, Wait::Forever, token, || self.now(), &mut actions);
            self.carry_out(actions);
            let lease = match answer {
                Checkout::Granted(lease) => Some(lease),
                Checkout::Queued(ticket) => self.wait(ticket, token),
                other => panic!("{other:?} although the caller waits"),
            };
            let Some(lease) = lease else { continue };
            let held = &self.held[lease.slot as usize];
            assert!(!held.swap(true, Ordering::Relaxed), "P02: two holders");
            thread::yield_now();
            held.store(false, Ordering::Relaxed);
            let mut actions = Actions::new();
            match thread_rng().gen_range(0..4) {
                0 => self.pool.owner_gone(owner, || self.now(), &mut actions),
                1 => self.pool.checkin(lease, Condition::Broken, || self.now(), &mut actions).unwrap(),
                _ => self.pool.checkin(lease, Condition::Good, || self.now(), &mut actions).unwrap(),
            }
            self.carry_out(actions);
        }
    }

    /// Gives the wait up at some moment; a grant that came first counts.
    fn wait(&self, ticket: Ticket, token: u64) -> Option<Lease> {
        for _ in 0..thread_rng().gen_range(0..20) {
            if let Some(WakeOutcome::Granted(lease)) = self.told.lock().unwrap().get(&token) {
                return Some(*lease);
            }
            thread::yield_now();
        }
        let mut actions = Actions::new();
        let outcome = self.pool.cancel(ticket, GiveUp::TimedOut, || self.now(), &mut actions);
        self.carry_out(actions);
        match outcome {
            CancelOutcome::Granted(lease) => Some(lease),
            CancelOutcome::Cancelled => None,
            other => panic!("{other:?} ended a wait without limit"),
        }
    }
}

#[test]
fn p02_eight_callers_share_two_slots() {
    explore::schedules(|| {
        let config = PoolConfig {
            size: SLOTS,
            max_overflow: 0,
            max_waiters: THREADS as u32,
            create_backoff_ns: 1,
            create_backoff_cap_ns: 1,
            ..PoolConfig::default()
        };
        let edge = Arc::new(Edge {
            pool: Pool::new(&config).unwrap(),
            clock: AtomicU64::new(0),
            told: Mutex::new(HashMap::new()),
            held: Default::default(),
        });
        let callers: Vec<_> = (0..THREADS)
            .map(|id| {
                let edge = Arc::clone(&edge);
                thread::spawn(move || edge.caller(id))
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        let mut actions = Actions::new();
        let seen = edge.pool.snapshot(|| edge.now(), &mut actions);
        assert!(actions.is_empty(), "P06: what was left over would have waited for this call");
        assert_eq!((seen.leased, seen.waiting, seen.creating, seen.closing), (0, 0, 0, 0), "P04: {seen:?}");
        let n = seen.counts;
        assert_eq!(n.granted, n.returned + n.broken + n.reclaimed, "P25: {n:?}");
        assert_eq!(n.created - n.destroys, u64::from(seen.idle), "P04: {n:?}");
    });
}
