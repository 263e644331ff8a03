//! A check-out: an idle connection, else a place in the queue and what its thread does while it waits there.

use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::ops::Deref;
use std::os::fd::RawFd;

use super::{Edge, Time};
use crate::capi::pool::callbacks::CreateError;
use crate::capi::pool::desk::{Desk, Seat, Turn};
use crate::pool::{
    Actions, CancelOutcome, Checkout, Condition, GiveUp, Lease, Owner, Refusal, Ticket, Wait, WakeOutcome,
};

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

impl Edge {
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
