//! Carries out what the core decides: threads sleep, callbacks run, connections stand in their slots.
//!
//! No lock is held while a callback runs or a thread sleeps. Who runs what:
//!
//! * **create**: a thread that waits for a connection, with its own deadline, one at a time and none any more once
//!   its wait has ended. It may be another thread than the one the connection goes to, which is the head of the queue,
//!   and another than the one that got the action, which leaves it at the [`desk`](super::desk).
//! * **destroy**: the thread that got the action, usually the one that returned the connection.
//! * **maintain**: a waiting thread when the core's alarm is due, else whoever calls `escope_pool_maintain`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::desk::{Chore, Desk, Seat, Turn};
use crate::pool::{
    Action, Actions, CancelOutcome, Checkout, Condition, GiveUp, Lease, Owner, Pool, Refusal, Snapshot,
    StaleLease, Ticket, Wait, WakeOutcome,
};
use crate::sync::monotonic_ns;

/// `create` of the program: makes a connection until a deadline and writes it; not 0 is a failure.
pub type CreateFn =
    unsafe extern "C" fn(userdata: *mut c_void, deadline_ns: u64, connection: *mut *mut c_void) -> i32;
/// `destroy` of the program.
pub type DestroyFn = unsafe extern "C" fn(userdata: *mut c_void, connection: *mut c_void);

/// What the program gave to make and destroy connections.
#[derive(Debug, Clone, Copy)]
pub struct Callbacks {
    /// Makes a connection.
    pub create: CreateFn,
    /// Destroys one.
    pub destroy: DestroyFn,
    /// First argument of both.
    pub userdata: *mut c_void,
}

// SAFETY: the header demands callbacks that any thread may call at the same time, with their userdata.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

/// Why a check-out ended without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoConnection {
    /// The pool refused.
    Refused(Refusal),
    /// `create` failed with this code; `None` if it returned 0 without a connection.
    CreateFailed(Option<i32>),
}

/// A place in the queue: dropping it leaves the desk, but only an ended or given-up wait may be dropped.
#[derive(Debug)]
pub struct Place<D: Deref<Target = Desk>> {
    seat: Seat<D>,
    ticket: Ticket,
    deadline_ns: u64,
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
    /// The caller stands in the queue.
    Queued(Place<&'a Desk>),
    /// The pool refused.
    Refused(Refusal),
}

/// Code in the core for a `create` that returned 0 and NULL; above every `i32`.
const NULL_CONNECTION: u64 = 1 << 32;

/// What a thread does by itself once it has told others what they wait for.
#[derive(Debug, Clone, Copy)]
enum Later {
    Destroy {
        slot: u32,
        epoch: u64,
    },
    /// A check: a pool without a callback for it takes every connection for healthy.
    Pass {
        slot: u32,
        epoch: u64,
    },
    /// A creation that a closed desk did not take.
    Abandon(Chore),
}

/// A pool, its connections and its waiting threads.
#[derive(Debug)]
pub struct Edge {
    core: Pool,
    connections: Box<[AtomicPtr<c_void>]>,
    callbacks: Callbacks,
    /// Where its threads wait.
    pub desk: Desk,
}

impl Edge {
    /// An edge around a core of `capacity` slots.
    pub fn new(core: Pool, capacity: u32, callbacks: Callbacks) -> Self {
        let connections = (0..capacity).map(|_| AtomicPtr::default()).collect();
        Self { core, connections, callbacks, desk: Desk::new() }
    }

    /// Takes a connection; see `escope_pool_checkout`.
    #[inline]
    pub fn checkout(&self, timeout_ns: u64) -> Result<(Lease, *mut c_void), NoConnection> {
        let mut actions = Actions::new();
        if let Some(lease) = self.ask_idle(&mut actions) {
            self.settle(&mut actions);
            return Ok(self.lent(lease));
        }
        self.checkout_none_idle(timeout_ns, &mut actions)
    }

    #[cold]
    fn checkout_none_idle(
        &self,
        timeout_ns: u64,
        actions: &mut Actions,
    ) -> Result<(Lease, *mut c_void), NoConnection> {
        loop {
            match self.ask(timeout_ns, actions) {
                Asked::Lent(lease) => {
                    self.settle(actions);
                    return Ok(self.lent(lease));
                }
                Asked::Queued(place) => {
                    let ended = self.wait(&place, u64::MAX, actions);
                    return ended.expect("nobody calls it back before its wait has ended");
                }
                Asked::Refused(refusal) => {
                    self.settle(actions);
                    // A creation that a check-in left behind may hold the last slot while nobody waits to make it.
                    let exhausted = refusal == Refusal::Exhausted;
                    let Some(chore) = exhausted.then(|| self.desk.take_chore()).flatten() else {
                        return Err(NoConnection::Refused(refusal));
                    };
                    self.create(chore, u64::MAX, actions);
                    self.settle(actions);
                }
            }
        }
    }

    /// Takes an idle connection or a place in the queue, and neither waits nor creates. What there is to create is
    /// left for whoever waits first.
    pub fn begin(&self, timeout_ns: u64) -> Asked<'_> {
        let mut actions = Actions::new();
        let idle = self.ask_idle(&mut actions).map(Asked::Lent);
        let asked = idle.unwrap_or_else(|| self.ask(timeout_ns, &mut actions));
        self.settle(&mut actions);
        asked
    }

    /// Waits at a place until its wait has ended, but not after `until_ns`; `None` if it goes on.
    pub fn resume<D: Deref<Target = Desk>>(
        &self,
        place: &Place<D>,
        until_ns: u64,
    ) -> Option<Result<(Lease, *mut c_void), NoConnection>> {
        self.wait(place, until_ns, &mut Actions::new())
    }

    /// Gives up a wait that has not ended; a connection that it was granted meanwhile goes to the next.
    pub fn give_up<D: Deref<Target = Desk>>(&self, place: &Place<D>) {
        let mut actions = Actions::new();
        let outcome = self.core.cancel(place.ticket, GiveUp::Cancelled, monotonic_ns, &mut actions);
        self.settle(&mut actions);
        if let CancelOutcome::Granted(lease) = outcome {
            let returned = self.checkin(lease, Condition::Good);
            returned.expect("a lease that nobody was told of is returned once");
        }
    }

    /// Takes an idle connection without a seat at the desk, which only those who wait need.
    #[inline]
    fn ask_idle(&self, actions: &mut Actions) -> Option<Lease> {
        match self.core.checkout_idle(Owner::NONE, monotonic_ns, actions)? {
            Checkout::Granted(lease) | Checkout::GrantedUntested { lease, .. } => Some(lease),
            _ => None,
        }
    }

    fn ask(&self, timeout_ns: u64, actions: &mut Actions) -> Asked<'_> {
        let wait = match timeout_ns {
            0 => Wait::ForCreation,
            u64::MAX => Wait::Forever,
            limit => Wait::For(limit),
        };
        let asked = Cell::new(0);
        let now = || {
            asked.set(monotonic_ns());
            asked.get()
        };
        let seat = self.desk.sit();
        match self.core.checkout(Owner::NONE, wait, seat.token(), now, actions) {
            Checkout::Granted(lease) | Checkout::GrantedUntested { lease, .. } => Asked::Lent(lease),
            Checkout::Rejected(refusal) => Asked::Refused(refusal),
            Checkout::Queued(ticket) => {
                // The core read the clock to queue the caller, so both count from the same instant.
                let deadline_ns = match wait {
                    Wait::For(limit) => asked.get().saturating_add(limit),
                    _ => u64::MAX,
                };
                Asked::Queued(Place { seat, ticket, deadline_ns })
            }
        }
    }

    /// Returns a connection.
    pub fn checkin(&self, lease: Lease, condition: Condition) -> Result<(), StaleLease> {
        let mut actions = Actions::new();
        let result = self.core.checkin(lease, condition, monotonic_ns, &mut actions);
        self.settle(&mut actions);
        result
    }

    /// Does what time asks for and what nobody has begun; tells when to come again.
    pub fn maintain(&self) -> Option<u64> {
        let mut actions = Actions::new();
        self.ask_maintain(&mut actions);
        self.settle(&mut actions);
        while let Some(chore) = self.desk.take_chore() {
            self.create(chore, u64::MAX, &mut actions);
            self.settle(&mut actions);
        }
        self.snapshot().next_deadline_ns
    }

    /// Closes the pool and destroys what is idle.
    pub fn close(&self) {
        let mut actions = Actions::new();
        self.core.close(monotonic_ns, &mut actions);
        let chores = self.desk.close();
        self.settle(&mut actions);
        for chore in chores {
            self.abandon(chore, &mut actions);
            self.settle(&mut actions);
        }
    }

    /// State and counts.
    pub fn snapshot(&self) -> Snapshot {
        let mut actions = Actions::new();
        let snapshot = self.core.snapshot(monotonic_ns, &mut actions);
        self.settle(&mut actions);
        snapshot
    }

    /// The connection of a lease that is alive.
    pub fn lent(&self, lease: Lease) -> (Lease, *mut c_void) {
        // Relaxed: the creator stored the connection before it reported it, and the pool's lock lies between that
        // report and this grant.
        (lease, self.connections[lease.slot as usize].load(Ordering::Relaxed))
    }

    fn wait<D: Deref<Target = Desk>>(
        &self,
        place: &Place<D>,
        until_ns: u64,
        actions: &mut Actions,
    ) -> Option<Result<(Lease, *mut c_void), NoConnection>> {
        let &Place { ref seat, ticket, deadline_ns } = place;
        let granted = |lease| Some(Ok(self.lent(lease)));
        let refused = |refusal| Some(Err(NoConnection::Refused(refusal)));
        loop {
            self.settle(actions);
            match seat.next(until_ns, deadline_ns) {
                Turn::Ended(WakeOutcome::Granted(lease)) => return granted(lease),
                Turn::Ended(WakeOutcome::TimedOut) => return refused(Refusal::TimedOut),
                Turn::Ended(WakeOutcome::Closed) => return refused(Refusal::Closed),
                Turn::Ended(WakeOutcome::Shed) => return refused(Refusal::Shed),
                Turn::Ended(WakeOutcome::CreateFailed(code)) => return Some(Err(create_failed(code))),
                Turn::Do(chore) => self.create(chore, deadline_ns, actions),
                Turn::Alarm => self.ask_maintain(actions),
                Turn::SliceOver => return None,
                Turn::DeadlinePassed => {
                    let outcome = self.core.cancel(ticket, GiveUp::TimedOut, monotonic_ns, actions);
                    self.settle(actions);
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

    fn ask_maintain(&self, actions: &mut Actions) {
        // The core counts the returned time as told, so it must not be forgotten.
        if let Some(at_ns) = self.core.maintain(monotonic_ns, actions) {
            self.desk.set_alarm(at_ns);
        }
    }

    /// Carries out `actions` and all that follows from them, but for creations; leaves the buffer empty.
    #[inline]
    fn settle(&self, actions: &mut Actions) {
        if !actions.is_empty() || actions.more() || actions.alarm_ns().is_some() {
            self.settle_all(actions);
        }
    }

    #[cold]
    fn settle_all(&self, actions: &mut Actions) {
        let mut later = VecDeque::new();
        loop {
            self.take_up(actions, &mut later);
            match later.pop_front() {
                None => return,
                Some(Later::Destroy { slot, epoch }) => self.destroy(slot, epoch, actions),
                Some(Later::Pass { slot, epoch }) => {
                    // Stale where the connection was lost meanwhile.
                    let _ = self.core.checked(slot, epoch, true, monotonic_ns, actions);
                }
                Some(Later::Abandon(chore)) => self.abandon(chore, actions),
            }
        }
    }

    /// Empties the buffer, and the pool's lists behind it: what others wait for is passed on at once, since callbacks may
    /// take long; the rest is put off.
    fn take_up(&self, actions: &mut Actions, later: &mut VecDeque<Later>) {
        loop {
            for action in actions.iter() {
                match action {
                    Action::Wake { waiter_token, outcome } => self.desk.wake(waiter_token, outcome),
                    Action::Create { slot, epoch } => {
                        if let Err(chore) = self.desk.leave_chore(Chore { slot, epoch }) {
                            later.push_back(Later::Abandon(chore));
                        }
                    }
                    Action::Destroy { slot, epoch, .. } => later.push_back(Later::Destroy { slot, epoch }),
                    Action::Check { slot, epoch, .. } => later.push_back(Later::Pass { slot, epoch }),
                    // The options ask for no leak detection.
                    Action::Leaked { .. } => {}
                }
            }
            if let Some(at_ns) = actions.alarm_ns() {
                self.desk.set_alarm(at_ns);
            }
            let more = actions.more();
            actions.clear();
            if !more {
                return;
            }
            self.ask_maintain(actions);
        }
    }

    fn create(&self, chore: Chore, deadline_ns: u64, actions: &mut Actions) {
        let mut connection = std::ptr::null_mut();
        let Callbacks { create, userdata, .. } = self.callbacks;
        // SAFETY: the program promised a function of this type for any thread; `connection` outlives the call.
        let code = unsafe { create(userdata, deadline_ns, &mut connection) };
        let result = match code {
            0 if connection.is_null() => Err(NULL_CONNECTION),
            0 => Ok(()),
            code => Err(u64::from(code as u32)),
        };
        if result.is_ok() {
            // Relaxed: see `lent`.
            self.connections[chore.slot as usize].store(connection, Ordering::Relaxed);
        }
        self.report(chore, result, actions);
    }

    fn abandon(&self, chore: Chore, actions: &mut Actions) {
        self.report(chore, Err(NULL_CONNECTION), actions);
    }

    fn report(&self, chore: Chore, result: Result<(), u64>, actions: &mut Actions) {
        let reported = self.core.created(chore.slot, chore.epoch, result, monotonic_ns, actions);
        reported.expect("a slot that was announced for creation waits for its one report");
    }

    fn destroy(&self, slot: u32, epoch: u64, actions: &mut Actions) {
        // Relaxed: the pool's lock lies between the creation and this.
        let connection = self.connections[slot as usize].swap(std::ptr::null_mut(), Ordering::Relaxed);
        let Callbacks { destroy, userdata, .. } = self.callbacks;
        // SAFETY: the program promised a function of this type for any thread; the core announces the
        // destruction of a connection once, when nobody holds it.
        unsafe { destroy(userdata, connection) };
        let reported = self.core.destroyed(slot, epoch, monotonic_ns, actions);
        reported.expect("a slot that was announced for destruction waits for its one report");
    }
}

fn create_failed(code: u64) -> NoConnection {
    NoConnection::CreateFailed((code != NULL_CONNECTION).then_some(code as u32 as i32))
}
