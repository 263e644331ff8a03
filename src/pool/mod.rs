//! Connection pool that hands out slot numbers and leases, never connections.
//!
//! The edge keeps a connection per slot. It asks with [`Pool::checkout`], gets a [`Lease`], a place in the queue
//! or a refusal, and carries out the [`Actions`] that each call leaves in its buffer: make a connection, close
//! one, wake a waiter. So no connection is ever made, closed or touched under the lock, and the whole pool runs
//! in a model checker.
//!
//! * [`PoolConfig`] (`config`): what a pool can be told.
//! * [`Lease`], [`Ticket`], [`Checkout`] ... (`lease`): what goes in and out, plain integers.
//! * [`Actions`] (`actions`): what the edge has to do.
//! * `state`: the events and invariant W, with a file each for check-outs, what ends waits, age, checks,
//!   the size, the edge's reports and the output.
//! * `slots`: the slot table with its state diagram; `waiters`: the queue and the word that decides a wait;
//!   `idle`: which idle slot goes out next; `codel`: who waits too long; `owners`, `heap`, `list`, `backoff`, `random`,
//!   `memory`: one data structure each.
//! * [`Snapshot`] (`snapshot`): state and counts that reconcile.
//!
//! # Rules
//!
//! * **First come, first served.** A slot that becomes free goes to the oldest waiter. Nobody overtakes.
//! * **Nothing is lost.** A waiter and a free slot never exist together; what a failed connection frees is offered
//!   again in the same step (invariant W, in `state`).
//! * **One outcome a wait.** Grant, time-out, cancel, close and failure meet in one compare-and-swap (`waiters`).
//! * **Old leases are harmless.** A second check-in, one after the owner's death and one of another pool's lease are
//!   told from a live one by pool and epoch, and change nothing.
//!
//! # The lock, and the death of an owner
//!
//! One short lock a pool; under it there is no allocation, no wake-up and no user code but `now`, which is called at
//! most once a call and must not call the pool. [`Pool::owner_gone`] must not wait, since the BEAM calls it on a
//! scheduler: it pushes the owner onto a lock-free list and tries the lock. If somebody holds it, that somebody looks
//! at the list again after its unlock; so every death is dealt with at once, by the one or the other, and the actions
//! are in the buffer of the one who did it. [`crate::sync::PushList`] says why neither can miss the other.
//!
//! # Example
//!
//! ```
//! use elixirscope::pool::*;
//!
//! let pool = Pool::new(&PoolConfig { size: 2, max_overflow: 0, ..PoolConfig::default() })?;
//! let now = || 0;
//! let mut actions = Actions::new();
//! // Nothing is idle yet: the caller waits, and the edge is asked for a connection.
//! let answer = pool.checkout(Owner(1), Wait::For(5_000_000_000), 42, now, &mut actions);
//! assert!(matches!(answer, Checkout::Queued(_)));
//! let Some(Action::Create { slot, epoch }) = actions.iter().next() else { unreachable!() };
//! // The edge has put the connection into `slot`; the waiter with token 42 is to be woken.
//! actions.clear();
//! pool.created(slot, epoch, Ok(()), now, &mut actions)?;
//! let Some(Action::Wake { waiter_token: 42, outcome: WakeOutcome::Granted(lease) }) = actions.iter().next() else {
//!     unreachable!()
//! };
//! pool.checkin(lease, Condition::Good, now, &mut actions)?;
//! assert_eq!(pool.checkin(lease, Condition::Good, now, &mut actions), Err(StaleLease));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod actions;
mod backoff;
mod codel;
mod config;
mod heap;
mod idle;
mod lease;
mod list;
mod memory;
mod owners;
mod random;
mod slots;
mod snapshot;
mod state;
mod unowned;
mod waiters;

use std::collections::TryReserveError;
use std::ops::DerefMut;
use std::sync::Arc;

pub use actions::{Action, Actions, CheckKind, DestroyReason, WakeOutcome};
pub use config::{
    CreateFailure, HealthChecks, IdleOrder, MAX_SLOTS, MAX_WAITERS, NO_PRE_PING, OwnerDeath, PoolConfig,
};
pub use lease::{
    CancelOutcome, Checkout, Condition, GiveUp, Lease, Owner, Refusal, SlotInfo, SlotUse, StaleLease,
    StaleReport, Ticket, Wait,
};
pub use snapshot::{Counts, Phase, Snapshot};
pub use unowned::Returned;

use crate::error::ConfigError;
use crate::sync::{AtomicU64, Mutex, Ordering, PushList, unique_id};
use state::{Growth, Now, State};
use waiters::Words;

/// A pool of slots. Shared by reference between any number of threads.
///
/// Every call that takes `actions` adds to the buffer whatever became due, also on account of other callers; the
/// caller carries it out after the call.
#[derive(Debug)]
pub struct Pool {
    gone: PushList<Owner>,
    state: Mutex<State>,
    words: Arc<Words>,
    id: u64,
    /// As it was made, but for the sizes, which stand in `shape`; readable without the lock.
    config: PoolConfig,
    /// `size` in the lower half, `max_overflow` in the upper one.
    shape: AtomicU64,
}

impl Pool {
    /// A pool with no connections yet; they are made on demand.
    pub fn new(config: &PoolConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Self::of_valid(config)
    }

    /// Of a configuration that is valid, but that its `min_idle` may be more than fits into its size, as after a resize.
    fn of_valid(config: &PoolConfig) -> Result<Self, ConfigError> {
        // A cell for each waiter, and one for each lease that a wait ended in.
        let cells = (config.max_waiters + config.slots()) as usize;
        Self::with_cells(config, cells).map_err(|_| ConfigError {
            argument: "max_waiters",
            value: u64::from(config.max_waiters),
            allowed: "a number of waiters that fit in memory",
        })
    }

    fn with_cells(config: &PoolConfig, cells: usize) -> Result<Self, TryReserveError> {
        let words = Arc::new(Words::new(cells)?);
        let id = unique_id();
        let state = Mutex::new(State::new(id, config, Arc::clone(&words), cells)?);
        let shape = AtomicU64::new(shape(config.size, config.max_overflow));
        Ok(Self { gone: PushList::new(), state, words, id, config: *config, shape })
    }

    /// The number that this pool's leases carry.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Asks for a slot. `waiter_token` comes back in the wake that ends a wait.
    #[inline]
    pub fn checkout(
        &self,
        owner: Owner,
        wait: Wait,
        waiter_token: u64,
        now: impl FnOnce() -> u64,
        actions: &mut Actions,
    ) -> Checkout {
        if cfg!(escope_sabotage = "pool_split_enqueue") && self.state.lock().snapshot().idle == 0 {
            return self.locked(now, actions, |state, now| {
                state.checkout_none_idle(owner, wait, Growth::Overflow, waiter_token, now.get())
            });
        }
        if cfg!(escope_sabotage = "pool_split_promise")
            && wait == Wait::ForCreation
            && !self.state.lock().has_room(Growth::Overflow)
        {
            return self.checkout(owner, Wait::Never, waiter_token, now, actions);
        }
        self.locked(now, actions, |state, now| {
            state.checkout(owner, wait, Growth::Overflow, waiter_token, now)
        })
    }

    /// As [`Pool::checkout`], for a caller that does not want the pool to grow above its size on its account. It
    /// may still be given such a connection when one is there.
    #[inline]
    pub fn checkout_within_size(
        &self,
        owner: Owner,
        wait: Wait,
        waiter_token: u64,
        now: impl FnOnce() -> u64,
        actions: &mut Actions,
    ) -> Checkout {
        if cfg!(escope_sabotage = "pool_split_room") && self.state.lock().has_room(Growth::Size) {
            return self.checkout(owner, wait, waiter_token, now, actions);
        }
        self.locked(now, actions, |state, now| state.checkout(owner, wait, Growth::Size, waiter_token, now))
    }

    /// Gives a slot back.
    #[inline]
    pub fn checkin(
        &self,
        lease: Lease,
        condition: Condition,
        now: impl FnOnce() -> u64,
        actions: &mut Actions,
    ) -> Result<(), StaleLease> {
        if cfg!(escope_sabotage = "pool_split_surplus") {
            let seen = self.state.lock().snapshot();
            if seen.overflow > 0 && seen.waiting == 0 {
                let closes = Condition::Broken;
                return self.locked(now, actions, |state, now| state.checkin(lease, closes, now));
            }
        }
        self.locked(now, actions, |state, now| state.checkin(lease, condition, now))
    }

    /// Gives up a wait. Afterwards the caller waits no more, whatever the outcome says; a wake that says the same
    /// may still be on its way to it, unless the outcome is [`CancelOutcome::Cancelled`].
    pub fn cancel(
        &self,
        ticket: Ticket,
        reason: GiveUp,
        now: impl FnOnce() -> u64,
        actions: &mut Actions,
    ) -> CancelOutcome {
        let won = self.words.decide(ticket, reason.into());
        self.locked(now, actions, |state, _| state.cancel(ticket, won, reason))
    }

    /// Reports a [`Action::Create`]: the connection stands in its slot, or an error code of the edge's.
    pub fn created(
        &self,
        slot: u32,
        epoch: u64,
        result: Result<(), u64>,
        now: impl FnOnce() -> u64,
        actions: &mut Actions,
    ) -> Result<(), StaleReport> {
        self.locked(now, actions, |state, now| state.created(slot, epoch, result, now.get()))
    }

    /// Reports an [`Action::Check`]: whether the connection is fit for use.
    pub fn checked(
        &self,
        slot: u32,
        epoch: u64,
        healthy: bool,
        now: impl FnOnce() -> u64,
        actions: &mut Actions,
    ) -> Result<(), StaleReport> {
        self.locked(now, actions, |state, now| state.checked(slot, epoch, healthy, now.get()))
    }

    /// Reports a [`Action::Destroy`]: the slot is empty. Until then it counts, so that no server ever sees more
    /// connections than the pool may have.
    pub fn destroyed(
        &self,
        slot: u32,
        epoch: u64,
        now: impl FnOnce() -> u64,
        actions: &mut Actions,
    ) -> Result<(), StaleReport> {
        self.locked(now, actions, |state, now| state.destroyed(slot, epoch, now.get()))
    }

    /// Reports a connection that died by itself, idle or leased: its lease ends and it is destroyed. Slots in other
    /// states stay as they are. False, with nothing done, while a caller that was granted the slot still has to be
    /// woken: then carry out `actions` and call again. A caller that is woken may find its lease over, and the slot
    /// another's: see [`Lease::is_of`].
    #[must_use]
    pub fn lost(&self, slot: u32, now: impl FnOnce() -> u64, actions: &mut Actions) -> bool {
        self.locked(now, actions, |state, now| state.lost(slot, now.get()))
    }

    /// Ends all leases and waits of an owner; its connections are destroyed. Never waits for the lock. Telling it
    /// twice is telling it once. [`Owner::NONE`] has nothing to end.
    pub fn owner_gone(&self, owner: Owner, now: impl FnOnce() -> u64, actions: &mut Actions) {
        self.gone.push(owner);
        self.settle(&mut Now::new(now), actions);
    }

    /// Does what time asks for: times out and sheds waiters, closes connections that are surplus, idle or old, begins and
    /// ends checks, tells of leaks, tries creations again. Returns when to call it next, and hands out actions that did
    /// not fit before. A pool with `min_idle` or rounds of checks begins with them when this is called first.
    pub fn maintain(&self, now: impl FnOnce() -> u64, actions: &mut Actions) -> Option<u64> {
        self.locked(now, actions, |state, now| state.maintain(now.get()))
    }

    /// Closes the pool for good: waiters are woken, idle connections destroyed, others when they come back. Closing
    /// again does nothing.
    pub fn close(&self, now: impl FnOnce() -> u64, actions: &mut Actions) {
        self.close_by(u64::MAX, now, actions);
    }

    /// As [`Pool::close`]; leases that last until `deadline_ns` are ended then, by `maintain`, and their connections
    /// destroyed. After [`Pool::drain`] it wakes those who still wait, and the earlier deadline holds.
    pub fn close_by(&self, deadline_ns: u64, now: impl FnOnce() -> u64, actions: &mut Actions) {
        self.locked(now, actions, |state, now| state.close(deadline_ns, now.get()));
    }

    /// Closes the pool to new callers; those who wait are served until `deadline_ns`, when the rest is ended as by
    /// [`Pool::close_by`]. On a closed pool it does nothing.
    pub fn drain(&self, deadline_ns: u64, now: impl FnOnce() -> u64, actions: &mut Actions) {
        self.locked(now, actions, |state, now| state.drain(deadline_ns, now.get()));
    }

    /// Changes the size of the pool while it lives; both together may be [`PoolConfig::slots`] at most. A larger pool
    /// creates for its waiters at once. A smaller one closes idle connections beyond its capacity at once and others
    /// when they come back, and lends none before. It takes time in proportion to what it closes.
    pub fn resize(
        &self,
        size: u32,
        max_overflow: u32,
        now: impl FnOnce() -> u64,
        actions: &mut Actions,
    ) -> Result<(), ConfigError> {
        self.locked(now, actions, |state, now| {
            state.resize(size, max_overflow, now.get())?;
            // Relaxed: read by `fork_child` alone, in a process of its own.
            self.shape.store(shape(size, max_overflow), Ordering::Relaxed);
            Ok(())
        })
    }

    /// Has every connection replaced that there is now, each at a random instant within `spread_ns`: it is not lent after
    /// that, and destroyed when nobody holds it. One that is just being made is destroyed when it is ready. It looks at
    /// every slot.
    pub fn evict(&self, spread_ns: u64, now: impl FnOnce() -> u64, actions: &mut Actions) {
        self.locked(now, actions, |state, now| state.evict(spread_ns, now.get()));
    }

    /// What is known about a slot: who holds it since when, how old its connection is. `None` for a number that no slot
    /// has.
    pub fn slot(&self, slot: u32, now: impl FnOnce() -> u64, actions: &mut Actions) -> Option<SlotInfo> {
        self.locked(now, actions, |state, _| state.slot_info(slot))
    }

    /// The pool of a forked child: as large as this one, without connections, and every lease of this one is stale to it.
    /// It does not touch the lock, which a thread that the child does not have may hold. The connections are the
    /// parent's: the child must forget them and this pool, without destroying either.
    pub fn fork_child(&self) -> Result<Pool, ConfigError> {
        // Relaxed: the child has the one thread that forked, so it sees what that thread saw.
        let shape = self.shape.load(Ordering::Relaxed);
        let (size, max_overflow) = (shape as u32, (shape >> 32) as u32);
        let max_slots = self.config.slots();
        Pool::of_valid(&PoolConfig { size, max_overflow, max_slots, ..self.config })
    }

    /// State and counts at this instant. It takes the lock, so like any call it may inherit a death to deal with and
    /// hand out actions.
    pub fn snapshot(&self, now: impl FnOnce() -> u64, actions: &mut Actions) -> Snapshot {
        self.locked(now, actions, |state, _| state.snapshot())
    }

    #[inline]
    fn locked<F: FnOnce() -> u64, R>(
        &self,
        now: F,
        actions: &mut Actions,
        event: impl FnOnce(&mut State, &mut Now<F>) -> R,
    ) -> R {
        let mut now = Now::new(now);
        let mut state = self.state.lock();
        let result = event(&mut state, &mut now);
        self.unlock(state, &mut now, actions);
        result
    }

    #[inline]
    fn unlock<F: FnOnce() -> u64>(
        &self,
        mut state: impl DerefMut<Target = State>,
        now: &mut Now<F>,
        actions: &mut Actions,
    ) {
        state.flush(actions);
        drop(state);
        if !cfg!(escope_sabotage = "pool_no_recheck") && !self.gone.is_empty() {
            self.settle(now, actions);
        }
    }

    /// Deals with the dead, or leaves them to the holder of the lock, who looks again after its unlock.
    #[cold]
    fn settle<F: FnOnce() -> u64>(&self, now: &mut Now<F>, actions: &mut Actions) {
        while !self.gone.is_empty() {
            let Some(mut state) = self.state.try_lock() else { return };
            let gone = self.gone.take();
            gone.for_each(|owner| state.owner_gone(owner, now.get()));
            state.flush(actions);
            drop(state);
        }
    }
}

fn shape(size: u32, max_overflow: u32) -> u64 {
    u64::from(max_overflow) << 32 | u64::from(size)
}
