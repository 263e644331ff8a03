//! Carries out what the core decides: threads sleep, callbacks run, connections stand in their slots.
//!
//! No lock is held while a callback runs or a thread sleeps. Who runs what:
//!
//! * **create**: a thread that waits for a connection, with its own deadline, one at a time and none any more once
//!   its wait has ended. It may be another thread than the one the connection goes to, which is the head of the queue,
//!   and another than the one that got the action, which leaves it at the [`desk`](super::desk).
//! * **destroy**: the thread that got the action, usually the one that returned the connection.
//! * **reset and check**: the thread that got the action: one that returned the connection, or that maintains.
//! * **maintain**: a waiting thread when the core's alarm is due, else whoever calls `escope_pool_maintain`.

mod actions;
mod checkout;

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

pub use self::checkout::{Asked, NoConnection, Place};
use super::callbacks::Callbacks;
use super::checks::Checks;
use super::desk::{Desk, Turn};
use super::holders::Holders;
use crate::error::ConfigError;
use crate::pool::{
    Actions, Condition, HealthChecks, Lease, Phase, Pool, PoolConfig, Returned, Snapshot, StaleLease,
};

/// Where a call reads the time: the machine's clock, or the one instant that the program gives.
pub trait Time: Fn() -> u64 + Copy {}

impl<T: Fn() -> u64 + Copy> Time for T {}

/// A pool, its connections and its waiting threads.
#[derive(Debug)]
pub struct Edge {
    core: Pool,
    connections: Box<[AtomicPtr<c_void>]>,
    holders: Holders,
    callbacks: Callbacks,
    checks: Checks,
    tests_on_return: bool,
    draining: AtomicBool,
    /// Where its threads wait.
    pub desk: Desk,
}

impl Edge {
    /// An edge around a core that was made with `config`.
    pub fn new(core: Pool, config: &PoolConfig, callbacks: Callbacks) -> Self {
        let holders = if config.leak_after_ns > 0 { config.slots() } else { 0 };
        Self {
            core,
            connections: (0..config.slots()).map(|_| AtomicPtr::default()).collect(),
            holders: Holders::new(holders),
            callbacks,
            checks: Checks::default(),
            tests_on_return: matches!(config.health, HealthChecks::Passive | HealthChecks::Mixed),
            draining: AtomicBool::new(false),
            desk: Desk::new(),
        }
    }

    /// Returns a connection. True: the pool is abandoned and this was its last lease, so its memory is the caller's to
    /// end. Else the pool may be gone, and whoever has nothing but the lease must not touch it.
    #[inline]
    pub fn checkin(&self, lease: Lease, condition: Condition, now: impl Time) -> Result<bool, StaleLease> {
        let mut actions = Actions::new();
        match self.core.checkin_unowned(lease, condition, now, &mut actions)? {
            Returned::Done => Ok(false),
            Returned::Settling => Ok(self.settle_return(now, &mut actions)),
        }
    }

    /// Does what time asks for and what nobody has begun; tells when to come again.
    pub fn maintain(&self, now: impl Time) -> Option<u64> {
        let mut actions = Actions::new();
        self.ask_maintain(now, &mut actions);
        self.settle(now, &mut actions);
        while let Some(chore) = self.desk.take_chore() {
            self.create(chore, u64::MAX, now, &mut actions);
            self.settle(now, &mut actions);
        }
        self.snapshot(now).next_deadline_ns
    }

    /// Closes the pool and destroys what is idle.
    pub fn close(&self, now: impl Time) {
        let mut actions = Actions::new();
        self.core.close(now, &mut actions);
        self.close_desk(now, &mut actions);
    }

    /// As [`Edge::close`], when nobody but leases will use the pool any more. Whether there are some: then a
    /// [`Edge::checkin`] will say that it was the last.
    pub fn abandon(&self, now: impl Time) -> bool {
        let mut actions = Actions::new();
        let is_held = self.core.abandon(now, &mut actions);
        self.close_desk(now, &mut actions);
        is_held
    }

    /// Closes the pool to new callers and waits until nothing is left of it; whether that came in time.
    pub fn drain(&self, timeout_ns: u64, now: impl Time) -> bool {
        let mut actions = Actions::new();
        let until_ns = now().saturating_add(timeout_ns);
        // Release, and before the core's lock: whoever returns a connection to a pool that drains finds this set.
        self.draining.store(true, Ordering::Release);
        self.core.drain(u64::MAX, now, &mut actions);
        let seat = self.desk.sit_and_listen();
        loop {
            self.settle(now, &mut actions);
            if self.snapshot(now).phase == Phase::Closed {
                return true;
            }
            match seat.next(until_ns, u64::MAX, now) {
                Turn::Do(chore) => self.create(chore, until_ns, now, &mut actions),
                Turn::Alarm => self.ask_maintain(now, &mut actions),
                Turn::Stirred => {}
                Turn::SliceOver | Turn::DeadlinePassed | Turn::Ended(_) => return false,
            }
        }
    }

    /// Changes the size of the pool.
    pub fn resize(&self, size: u32, max_overflow: u32, now: impl Time) -> Result<(), ConfigError> {
        let mut actions = Actions::new();
        let result = self.core.resize(size, max_overflow, now, &mut actions);
        self.settle(now, &mut actions);
        result
    }

    /// Has every connection replaced.
    pub fn evict(&self, spread_ns: u64, now: impl Time) {
        let mut actions = Actions::new();
        self.core.evict(spread_ns, now, &mut actions);
        self.settle(now, &mut actions);
    }

    /// State and counts.
    pub fn snapshot(&self, now: impl Time) -> Snapshot {
        let mut actions = Actions::new();
        let snapshot = self.core.snapshot(now, &mut actions);
        self.settle(now, &mut actions);
        snapshot
    }

    /// The connection of a lease that the calling thread has from now on.
    #[inline]
    pub fn lent(&self, lease: Lease) -> (Lease, *mut c_void) {
        self.holders.note(lease);
        (lease, self.connection(lease.slot))
    }

    /// The connection in a slot that is leased or checked.
    #[inline]
    fn connection(&self, slot: u32) -> *mut c_void {
        // Relaxed: the creator stored the connection before it reported it, and the pool's lock lies between that
        // report and what the caller knows of the slot.
        self.connections[slot as usize].load(Ordering::Relaxed)
    }

    #[cold]
    fn settle_return(&self, now: impl Time, actions: &mut Actions) -> bool {
        self.settle(now, actions);
        self.stir();
        self.core.settled()
    }

    fn close_desk(&self, now: impl Time, actions: &mut Actions) {
        let chores = self.desk.close();
        self.settle(now, actions);
        for chore in chores {
            self.abandon_chore(chore, now, actions);
            self.settle(now, actions);
        }
    }

    /// Tells a thread that drains the pool to look again.
    #[inline]
    fn stir(&self) {
        // Relaxed: the pool's lock, which the caller has held since, orders it after the store in `drain`.
        if self.draining.load(Ordering::Relaxed) {
            self.desk.stir();
        }
    }
}
