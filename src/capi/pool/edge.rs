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

use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::callbacks::{Callbacks, CreateError};
use super::checks::Checks;
use super::desk::{Desk, Seat, Turn};
use super::holders::Holders;
use crate::error::ConfigError;
use crate::pool::{
    Actions, CancelOutcome, Checkout, Condition, GiveUp, HealthChecks, Lease, Owner, Phase, Pool, PoolConfig,
    Refusal, Returned, Snapshot, StaleLease, Ticket, Wait, WakeOutcome,
};

/// Where a call reads the time: the machine's clock, or the one instant that the program gives.
pub trait Time: Fn() -> u64 + Copy {}

impl<T: Fn() -> u64 + Copy> Time for T {}

/// Why a check-out ended without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoConnection {
    /// The pool refused.
    Refused(Refusal),
    /// `create` failed.
    CreateFailed(CreateError),
}

/// A place in the queue: dropping it leaves the desk, but only an ended or given-up wait may be dropped.
#[derive(Debug)]
pub struct Place<D: Deref<Target = Desk>> {
    seat: Seat<D>,
    ticket: Ticket,
    deadline_ns: u64,
}

impl<D: Deref<Target = Desk>> Place<D> {
    /// See [`Seat::descriptor`].
    pub fn descriptor(&self) -> io::Result<RawFd> {
        self.seat.descriptor()
    }
}

impl Place<&Desk> {
    /// The same place, with another hold on the same desk.
    pub fn held_by<D: Deref<Target = Desk>>(self, desk: D) -> Place<D> {
        Place { seat: self.seat.held_by(desk), ticket: self.ticket, deadline_ns: self.deadline_ns }
    }
}

/// What became of asking for a connection.
#[derive(Debug)]
pub enum Asked<'a> {
    /// One was idle.
    Lent(Lease),
    /// One was idle that is to be tested until then.
    Untested(Lease, u64),
    /// The caller stands in the queue.
    Queued(Place<&'a Desk>),
    /// The pool refused.
    Refused(Refusal),
}

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

    /// Takes a connection; see `escope_pool_checkout`.
    #[inline]
    pub fn checkout(&self, timeout_ns: u64, now: impl Time) -> Result<(Lease, *mut c_void), NoConnection> {
        let mut actions = Actions::new();
        // Without a seat at the desk, which only those who wait need.
        match self.core.checkout_unowned(now, &mut actions) {
            Some(Checkout::Granted(lease)) => {
                self.settle(now, &mut actions);
                Ok(self.lent(lease))
            }
            untested => self.checkout_further(untested, timeout_ns, now, &mut actions),
        }
    }

    #[cold]
    fn checkout_further(
        &self,
        idle: Option<Checkout>,
        timeout_ns: u64,
        now: impl Time,
        actions: &mut Actions,
    ) -> Result<(Lease, *mut c_void), NoConnection> {
        let mut wait = wait_for(timeout_ns);
        let mut idle = idle.and_then(asked_idle);
        loop {
            match idle.take().unwrap_or_else(|| self.ask(wait, now, actions)) {
                Asked::Lent(lease) => {
                    self.settle(now, actions);
                    return Ok(self.lent(lease));
                }
                Asked::Untested(lease, until_ns) => {
                    // The tests count as well.
                    if let Wait::For(limit) = wait {
                        wait = Wait::Until(now().saturating_add(limit));
                    }
                    self.settle(now, actions);
                    if self.is_fit(lease, until_ns, now) {
                        return Ok(self.lent(lease));
                    }
                }
                Asked::Queued(place) => {
                    let ended = self.wait(&place, u64::MAX, now, actions);
                    return ended.expect("nobody calls it back before its wait has ended");
                }
                Asked::Refused(refusal) => {
                    self.settle(now, actions);
                    // A creation that a check-in left behind may hold the last slot while nobody waits to make it.
                    let exhausted = refusal == Refusal::Exhausted;
                    let Some(chore) = exhausted.then(|| self.desk.take_chore()).flatten() else {
                        return Err(NoConnection::Refused(refusal));
                    };
                    self.create(chore, u64::MAX, now, actions);
                    self.settle(now, actions);
                }
            }
        }
    }

    /// Takes an idle connection or a place in the queue, and neither waits nor creates. What there is to create is
    /// left for whoever waits first.
    pub fn begin(&self, timeout_ns: u64, now: impl Time) -> Asked<'_> {
        let mut actions = Actions::new();
        loop {
            let idle = self.core.checkout_unowned(now, &mut actions);
            let asked = idle
                .and_then(asked_idle)
                .unwrap_or_else(|| self.ask(wait_for(timeout_ns), now, &mut actions));
            self.settle(now, &mut actions);
            match asked {
                Asked::Untested(lease, until_ns) if !self.is_fit(lease, until_ns, now) => {}
                Asked::Untested(lease, _) => return Asked::Lent(lease),
                asked => return asked,
            }
        }
    }

    /// Waits at a place until its wait has ended, but not after `until_ns`; `None` if it goes on.
    pub fn resume<D: Deref<Target = Desk>>(
        &self,
        place: &Place<D>,
        until_ns: u64,
        now: impl Time,
    ) -> Option<Result<(Lease, *mut c_void), NoConnection>> {
        self.wait(place, until_ns, now, &mut Actions::new())
    }

    /// Gives up a wait that has not ended; a connection that it was granted meanwhile goes to the next. The result is
    /// that of [`Edge::checkin`].
    pub fn give_up<D: Deref<Target = Desk>>(&self, place: &Place<D>, now: impl Time) -> bool {
        let mut actions = Actions::new();
        let outcome = self.core.cancel(place.ticket, GiveUp::Cancelled, now, &mut actions);
        self.settle(now, &mut actions);
        let CancelOutcome::Granted(lease) = outcome else { return false };
        let returned = self.checkin(lease, Condition::Good, now);
        returned.expect("a lease that nobody was told of is returned once")
    }

    fn close_desk(&self, now: impl Time, actions: &mut Actions) {
        let chores = self.desk.close();
        self.settle(now, actions);
        for chore in chores {
            self.abandon_chore(chore, now, actions);
            self.settle(now, actions);
        }
    }

    fn ask(&self, wait: Wait, now: impl Time, actions: &mut Actions) -> Asked<'_> {
        let asked = Cell::new(0);
        let now = || {
            asked.set(now());
            asked.get()
        };
        let seat = self.desk.sit();
        match self.core.checkout(Owner::NONE, wait, seat.token(), now, actions) {
            Checkout::Granted(lease) => Asked::Lent(lease),
            Checkout::GrantedUntested { lease, deadline_ns } => Asked::Untested(lease, deadline_ns),
            Checkout::Rejected(refusal) => Asked::Refused(refusal),
            Checkout::Queued(ticket) => {
                // The core read the clock to queue the caller, so both count from the same instant.
                let deadline_ns = match wait {
                    Wait::For(limit) => asked.get().saturating_add(limit),
                    Wait::Until(deadline_ns) => deadline_ns,
                    _ => u64::MAX,
                };
                Asked::Queued(Place { seat, ticket, deadline_ns })
            }
        }
    }

    /// Tests a connection before it is lent; one that fails is given back broken.
    fn is_fit(&self, lease: Lease, until_ns: u64, now: impl Time) -> bool {
        let fit = self.callbacks.check(self.connection(lease.slot), until_ns) && now() <= until_ns;
        if !fit {
            let last = self.checkin(lease, Condition::Broken, now).expect("the lease is this call's alone");
            debug_assert!(!last, "a check-out has a reference of its own");
        }
        fit
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

    #[cold]
    fn settle_return(&self, now: impl Time, actions: &mut Actions) -> bool {
        self.settle(now, actions);
        self.stir();
        self.core.settled()
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

    /// Tells a thread that drains the pool to look again.
    #[inline]
    fn stir(&self) {
        // Relaxed: the pool's lock, which the caller has held since, orders it after the store in `drain`.
        if self.draining.load(Ordering::Relaxed) {
            self.desk.stir();
        }
    }

    fn wait<D: Deref<Target = Desk>>(
        &self,
        place: &Place<D>,
        until_ns: u64,
        now: impl Time,
        actions: &mut Actions,
    ) -> Option<Result<(Lease, *mut c_void), NoConnection>> {
        let &Place { ref seat, ticket, deadline_ns } = place;
        let granted = |lease| Some(Ok(self.lent(lease)));
        let refused = |refusal| Some(Err(NoConnection::Refused(refusal)));
        loop {
            self.settle(now, actions);
            match seat.next(until_ns, deadline_ns, now) {
                Turn::Ended(WakeOutcome::Granted(lease)) => return granted(lease),
                Turn::Ended(WakeOutcome::TimedOut) => return refused(Refusal::TimedOut),
                Turn::Ended(WakeOutcome::Closed) => return refused(Refusal::Closed),
                Turn::Ended(WakeOutcome::Shed) => return refused(Refusal::Shed),
                Turn::Ended(WakeOutcome::CreateFailed(code)) => return Some(Err(create_failed(code))),
                Turn::Do(chore) => self.create(chore, deadline_ns, now, actions),
                Turn::Alarm => self.ask_maintain(now, actions),
                Turn::Stirred => {}
                Turn::SliceOver => return None,
                Turn::DeadlinePassed => {
                    let outcome = self.core.cancel(ticket, GiveUp::TimedOut, now, actions);
                    self.settle(now, actions);
                    return match outcome {
                        // The grant came first: a connection a moment late is still a connection.
                        CancelOutcome::Granted(lease) => granted(lease),
                        CancelOutcome::Closed => refused(Refusal::Closed),
                        CancelOutcome::Shed => refused(Refusal::Shed),
                        CancelOutcome::CreateFailed(code) => Some(Err(create_failed(code))),
                        CancelOutcome::Cancelled | CancelOutcome::TimedOut | CancelOutcome::Stale => {
                            refused(Refusal::TimedOut)
                        }
                    };
                }
            }
        }
    }
}

/// What an idle connection means to who asked for it; none of the other answers is of an idle one.
fn asked_idle<'a>(idle: Checkout) -> Option<Asked<'a>> {
    match idle {
        Checkout::Granted(lease) => Some(Asked::Lent(lease)),
        Checkout::GrantedUntested { lease, deadline_ns } => Some(Asked::Untested(lease, deadline_ns)),
        Checkout::Queued(_) | Checkout::Rejected(_) => None,
    }
}

fn wait_for(timeout_ns: u64) -> Wait {
    match timeout_ns {
        0 => Wait::ForCreation,
        u64::MAX => Wait::Forever,
        limit => Wait::For(limit),
    }
}

fn create_failed(code: u64) -> NoConnection {
    NoConnection::CreateFailed(code.into())
}
