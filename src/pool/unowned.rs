//! Check-out and check-in for an edge whose leases have no owners, C's: nobody's death is told, and a lease
//! ends by its check-in alone.
//!
//! Such an edge does not look at the list of the dead after an unlock. And it may promise that a lease outlives the program's
//! last reference to the pool, as a statement outlives a closed database. A reference count would cost each lease two
//! atomic steps; the pool counts its leases under the lock anyway, so the lock decides who ends the memory:
//!
//! * *held* are the leases, those among them that their waiter was not told of yet, and the check-ins that still carry out
//!   what theirs brought about;
//! * [`Pool::abandon`] closes the pool and says whether something is held. From then on nothing is lent, so the number
//!   only falls;
//! * exactly one call finds an abandoned pool with nothing held: `abandon` itself, or the [`Pool::settled`] that ends the
//!   last check-in. That one ends the memory.
//!
//! A check-in that brings nothing about, [`Returned::Done`], does not touch the pool after its unlock. Every check-in of
//! an abandoned pool has a connection to destroy, so none of them is one.

use std::ops::DerefMut;

use super::Pool;
use super::actions::Actions;
use super::lease::{Checkout, Condition, Lease, Owner, StaleLease};
use super::state::{Now, State};

/// What is left to do after a check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// Nothing: the pool may be gone.
    Done,
    /// To carry out the actions, and then to call [`Pool::settled`]. Until then the pool stays.
    Settling,
}

impl Pool {
    /// As [`Pool::checkout`] by [`Owner::NONE`] where a slot is idle; else nothing has happened and nothing is counted.
    /// A caller that is to be queued may need a place of its own first, so that only those who wait pay for it.
    #[inline(always)]
    pub fn checkout_unowned(&self, now: impl FnOnce() -> u64, actions: &mut Actions) -> Option<Checkout> {
        let mut now = Now::new(now);
        let mut state = self.state.lock();
        let leased = state.lease_idle(Owner::NONE, &mut now);
        let Some((slot, epoch)) = leased else {
            state.flush(actions);
            return None;
        };
        if state.grants_further {
            return Some(grant_further(state, slot, epoch, &mut now, actions));
        }
        // Made of its parts here, where they stand in registers: one that comes through memory is read in other pieces
        // than it was written in.
        let lease = state.granted(slot, epoch);
        state.flush(actions);
        drop(state);
        Some(Checkout::Granted(lease))
    }

    /// As [`Pool::checkin`]. `actions` is empty.
    #[inline]
    pub fn checkin_unowned(
        &self,
        lease: Lease,
        condition: Condition,
        now: impl FnOnce() -> u64,
        actions: &mut Actions,
    ) -> Result<Returned, StaleLease> {
        let mut now = Now::new(now);
        let mut state = self.state.lock();
        state.checkin(lease, condition, &mut now)?;
        state.flush(actions);
        if actions.is_done() {
            return Ok(Returned::Done);
        }
        state.begin_settling();
        Ok(Returned::Settling)
    }

    /// Ends a check-in that was [`Returned::Settling`]. True: the pool is abandoned and this was the last that kept it.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.state.lock().end_settling()
    }

    /// As [`Pool::close`], when nobody but leases and check-ins will use the pool any more. True: there are some, and the
    /// last of them will be told by [`Pool::settled`]; false: there are none.
    #[must_use]
    pub fn abandon(&self, now: impl FnOnce() -> u64, actions: &mut Actions) -> bool {
        self.locked(now, actions, |state, now| {
            state.close(u64::MAX, now.get());
            state.abandon()
        })
    }
}

#[cold]
#[inline(never)]
fn grant_further<F: FnOnce() -> u64>(
    mut state: impl DerefMut<Target = State>,
    slot: u32,
    epoch: u64,
    now: &mut Now<F>,
    actions: &mut Actions,
) -> Checkout {
    let granted = state.grant_idle(slot, epoch, now);
    state.flush(actions);
    granted
}

impl State {
    #[cold]
    fn begin_settling(&mut self) {
        self.settling += u32::from(!cfg!(escope_sabotage = "pool_settles_unheld"));
    }

    fn end_settling(&mut self) -> bool {
        self.settling -= u32::from(!cfg!(escope_sabotage = "pool_settles_unheld"));
        self.abandoned && !self.is_held()
    }

    fn abandon(&mut self) -> bool {
        self.abandoned = true;
        self.is_held()
    }

    fn is_held(&self) -> bool {
        self.slots.leased() + self.settling > 0
    }
}
