//! The resource behind a pool: the core's decisions, the connections, and what is known about the processes.
//!
//! # Who may write what
//!
//! * A slot's connection is written by the pool process alone, before the core hears that it was created or
//!   destroyed, and read by whoever holds the slot's lease. The death of a connection ends its lease before the holder
//!   hears of it, so who reads says which lease it has: see `lent`.
//! * Leases and waits of a process are noted by its own calls, and by whoever ends its wait.
//! * What has to be done about connections goes to the pool process as messages, how a wait ended to the waiter,
//!   both after every lock is released.
//!
//! # What a killed process leaves behind
//!
//! A kill waits until a running NIF has returned, so no decision is ever left without its messages. The pool
//! watches each process that used it: its death gives back what it held or waited for. It watches the pool
//! process as well, and closes when that dies: then nobody is left to make connections, so nobody may wait.

mod messages;

use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicI64, Ordering};

use elixirscope::error::ConfigError;
use elixirscope::pool::{
    Actions, CancelOutcome, Checkout, Condition, GiveUp, Lease, Owner, Pool, Refusal, SlotUse, Snapshot,
    StaleLease, StaleReport, Wait,
};
use elixirscope::sync::Mutex;
use rustler::{Env, LocalPid, Monitor, ResourceArc, Term};

use super::connection::{Connection, Kept};
use super::processes::{self, Pending, Process, Processes};
use crate::clock::ObjectClock;

static LIVE: AtomicI64 = AtomicI64::new(0);

/// Pools that exist in this VM, for leak tests.
pub fn live() -> i64 {
    // Relaxed: a count that orders nothing.
    LIVE.load(Ordering::Relaxed)
}

/// A pool.
pub struct SharedPool {
    core: Pool,
    clock: ObjectClock,
    server: LocalPid,
    connections: Box<[Mutex<Option<Connection>>]>,
    processes: Processes,
    last_error: Mutex<Option<Kept>>,
}

/// Answer to a check-out, before it is a term.
pub enum Taken<'a> {
    Granted(Lease, Term<'a>),
    /// To be tested first.
    Untested(Lease, Term<'a>),
    Waiting,
    Refused(Refusal),
}

impl SharedPool {
    /// A pool whose connections `server` makes and closes.
    pub fn new(core: Pool, capacity: u32, clock: ObjectClock, server: LocalPid) -> Self {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self {
            core,
            clock,
            server,
            connections: (0..capacity).map(|_| Mutex::new(None)).collect(),
            processes: Processes::new(),
            last_error: Mutex::new(None),
        }
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// The connection in a slot.
    pub fn connection<'a>(&self, env: Env<'a>, slot: u32) -> Option<Term<'a>> {
        self.connections.get(slot as usize)?.lock().as_ref().map(|connection| connection.term.get(env))
    }

    /// The connection of a lease. None if it died and another one has its slot by now: that one is somebody else's.
    pub(super) fn lent<'a>(&self, env: Env<'a>, lease: Lease) -> Option<Term<'a>> {
        let cell = self.connections[lease.slot as usize].lock();
        cell.as_ref().filter(|connection| lease.is_of(connection.made_at)).map(|lent| lent.term.get(env))
    }

    /// The same, and none either if it is a process that has died, which the pool process may not know yet.
    fn lent_alive<'a>(&self, env: Env<'a>, lease: Lease) -> Option<Term<'a>> {
        let cell = self.connections[lease.slot as usize].lock();
        let lent = cell.as_ref().filter(|connection| lease.is_of(connection.made_at))?;
        (!lent.term.is_dead(env)).then(|| lent.term.get(env))
    }

    fn is_in(&self, slot: u32, term: Term<'_>) -> bool {
        self.connections[slot as usize].lock().as_ref().is_some_and(|connection| connection.term.is(term))
    }

    /// Slots with a connection.
    pub fn slots_in_use(&self) -> Vec<u32> {
        let used = |slot: &u32| self.connections[*slot as usize].lock().is_some();
        (0..self.connections.len() as u32).filter(used).collect()
    }

    /// What the last failed creation was told to have failed with.
    pub fn last_error<'a>(&self, env: Env<'a>) -> Option<Term<'a>> {
        self.last_error.lock().as_ref().map(|kept| kept.get(env))
    }

    // Check-out and check-in, in the process that asks.

    /// Takes a slot for the calling process. `None` when that process is already dying.
    pub fn checkout<'a>(
        resource: &ResourceArc<Self>,
        env: Env<'a>,
        reference: Term<'a>,
        wait: Wait,
        overflow: bool,
    ) -> Option<Taken<'a>> {
        let mut actions = Actions::new();
        let pid = env.pid();
        let word = processes::word(env, pid);
        let taken = {
            let mut shard = resource.processes.shard(word);
            let process = match shard.entry(word) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    // Watched before it can hold or wait for anything.
                    env.monitor(resource, &pid)?;
                    entry.insert(Process::new(pid))
                }
            };
            let (core, owner, now) = (&resource.core, Owner(word), || resource.now_ns());
            loop {
                let answer = if overflow {
                    core.checkout(owner, wait, word, now, &mut actions)
                } else {
                    core.checkout_within_size(owner, wait, word, now, &mut actions)
                };
                let (lease, untested) = match answer {
                    Checkout::Granted(lease) => (lease, false),
                    // The time limit of the test is the pool process's to keep.
                    Checkout::GrantedUntested { lease, .. } => (lease, true),
                    Checkout::Queued(ticket) => {
                        process.wait = Some(Pending { ticket, reference: Kept::new(reference) });
                        break Taken::Waiting;
                    }
                    Checkout::Rejected(refusal) => break Taken::Refused(refusal),
                };
                if let Some(connection) = resource.lent_alive(env, lease) {
                    process.granted(lease);
                    let taken = if untested { Taken::Untested } else { Taken::Granted };
                    break taken(lease, connection);
                }
                // Stale if the lease is over already.
                let _ = core.checkin(lease, Condition::Broken, now, &mut actions);
            }
        };
        resource.carry_out(env, &mut actions);
        Some(taken)
    }

    /// Gives up the calling process's wait. False when something else ended it: then its message is on the way.
    pub fn cancel(&self, env: Env<'_>) -> bool {
        let mut actions = Actions::new();
        let word = processes::word(env, env.pid());
        let ticket = {
            let mut shard = self.processes.shard(word);
            let Some(process) = shard.get_mut(&word) else { return false };
            let Some(wait) = &process.wait else { return false };
            wait.ticket
        };
        let outcome = self.core.cancel(ticket, GiveUp::TimedOut, || self.now_ns(), &mut actions);
        let cancelled = outcome == CancelOutcome::Cancelled;
        if cancelled && let Some(process) = self.processes.shard(word).get_mut(&word) {
            process.wait = None;
        }
        self.carry_out(env, &mut actions);
        cancelled
    }

    /// Gives back a connection that the calling process holds.
    pub fn checkin(
        &self,
        env: Env<'_>,
        connection: Term<'_>,
        condition: Condition,
    ) -> Result<(), StaleLease> {
        let mut actions = Actions::new();
        let word = processes::word(env, env.pid());
        let result = {
            let mut shard = self.processes.shard(word);
            let process = shard.get_mut(&word).ok_or(StaleLease)?;
            // Several may look alike: ended leases of the same connection, or connections that are equal terms.
            loop {
                let held = process.leases.iter().rposition(|lease| self.is_in(lease.slot, connection));
                let Some(held) = held else { break Err(StaleLease) };
                let lease = process.leases.swap_remove(held);
                let result = self.core.checkin(lease, condition, || self.now_ns(), &mut actions);
                if result.is_ok() {
                    break result;
                }
            }
        };
        self.carry_out(env, &mut actions);
        result
    }

    /// Gives back a lease, in any process.
    pub fn checkin_lease(&self, env: Env<'_>, lease: Lease, condition: Condition) -> Result<(), StaleLease> {
        let mut actions = Actions::new();
        let result = self.core.checkin(lease, condition, || self.now_ns(), &mut actions);
        self.carry_out(env, &mut actions);
        result
    }

    /// The lease of a slot at an epoch.
    pub fn lease(&self, slot: u32, epoch: u64) -> Lease {
        Lease { pool: self.core.id(), slot, epoch }
    }

    // Reports of the pool process.

    /// A connection was made. An error when the pool does not want it any more: then it was not kept either.
    pub fn created(
        &self,
        env: Env<'_>,
        slot: u32,
        epoch: u64,
        result: Result<Term<'_>, Term<'_>>,
    ) -> Result<(), StaleReport> {
        let mut actions = Actions::new();
        let cell = self.connections.get(slot as usize).ok_or(StaleReport)?;
        let (report, before) = match result {
            Ok(connection) => {
                *self.last_error.lock() = None;
                let connection = Connection { made_at: epoch, term: Kept::new(connection) };
                (Ok(()), cell.lock().replace(connection))
            }
            Err(reason) => {
                *self.last_error.lock() = Some(Kept::new(reason));
                (Err(0), None)
            }
        };
        let known = self.core.created(slot, epoch, report, || self.now_ns(), &mut actions);
        if known.is_err() && report.is_ok() {
            *cell.lock() = before;
        }
        self.carry_out(env, &mut actions);
        known
    }

    /// A connection was tested.
    pub fn checked(&self, env: Env<'_>, slot: u32, epoch: u64, healthy: bool) -> Result<(), StaleReport> {
        let mut actions = Actions::new();
        let known = self.core.checked(slot, epoch, healthy, || self.now_ns(), &mut actions);
        self.carry_out(env, &mut actions);
        known
    }

    /// Changes the pool's size: on a dirty scheduler.
    pub fn resize(&self, env: Env<'_>, size: u32, max_overflow: u32) -> Result<(), ConfigError> {
        let mut actions = Actions::new();
        let result = self.core.resize(size, max_overflow, || self.now_ns(), &mut actions);
        self.carry_out_all(env, &mut actions);
        result
    }

    /// Has every connection replaced: on a dirty scheduler.
    pub fn evict(&self, env: Env<'_>, spread_ns: u64) {
        let mut actions = Actions::new();
        self.core.evict(spread_ns, || self.now_ns(), &mut actions);
        self.carry_out_all(env, &mut actions);
    }

    /// A connection was closed.
    pub fn destroyed(&self, env: Env<'_>, slot: u32, epoch: u64) -> Result<(), StaleReport> {
        let mut actions = Actions::new();
        let cell = self.connections.get(slot as usize).ok_or(StaleReport)?;
        let before = cell.lock().take();
        let known = self.core.destroyed(slot, epoch, || self.now_ns(), &mut actions);
        if known.is_err() {
            *cell.lock() = before;
        }
        self.carry_out(env, &mut actions);
        known
    }

    /// The connection in a slot died by itself.
    pub fn lost(&self, env: Env<'_>, slot: u32) {
        let mut actions = Actions::new();
        // Its holder may not have been told yet that it holds it: that message goes first.
        while !self.core.lost(slot, || self.now_ns(), &mut actions) {
            self.carry_out(env, &mut actions);
        }
        self.carry_out(env, &mut actions);
    }

    /// Does what time asks for; how many nanoseconds from now to do it again.
    pub fn maintain(&self, env: Env<'_>) -> Option<u64> {
        let mut actions = Actions::new();
        let now_ns = self.now_ns();
        let next_ns = self.core.maintain(|| now_ns, &mut actions);
        self.carry_out(env, &mut actions);
        next_ns.map(|next_ns| next_ns.saturating_sub(now_ns))
    }

    /// Closes the pool for good, wakes all waiters, and ends leases in `within_ns`: on a dirty scheduler.
    pub fn close(&self, env: Env<'_>, within_ns: u64) {
        let mut actions = Actions::new();
        let now_ns = self.now_ns();
        self.core.close_by(now_ns.saturating_add(within_ns), || now_ns, &mut actions);
        self.carry_out_all(env, &mut actions);
    }

    /// Closes the pool to new callers, while those who wait are served: on a dirty scheduler.
    pub fn drain(&self, env: Env<'_>) {
        let mut actions = Actions::new();
        self.core.drain(u64::MAX, || self.now_ns(), &mut actions);
        self.carry_out_all(env, &mut actions);
    }

    /// Whether a lease is live.
    pub fn is_leased(&self, env: Env<'_>, slot: u32, epoch: u64) -> bool {
        let mut actions = Actions::new();
        let info = self.core.slot(slot, || self.now_ns(), &mut actions);
        self.carry_out(env, &mut actions);
        info.is_some_and(|info| info.epoch == epoch && matches!(info.state, SlotUse::Leased { .. }))
    }

    /// How old the connection in a slot is.
    pub fn age_ns(&self, env: Env<'_>, slot: u32) -> Option<u64> {
        let mut actions = Actions::new();
        let info = self.core.slot(slot, || self.now_ns(), &mut actions);
        self.carry_out(env, &mut actions);
        info.map(|info| self.now_ns().saturating_sub(info.created_ns))
    }

    /// State and counts.
    pub fn snapshot(&self, env: Env<'_>) -> Snapshot {
        let mut actions = Actions::new();
        let snapshot = self.core.snapshot(|| self.now_ns(), &mut actions);
        self.carry_out(env, &mut actions);
        snapshot
    }
}

#[rustler::resource_impl(name = "escope_pool")]
impl rustler::Resource for SharedPool {
    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if pid == self.server {
            // No more than fits into a callback, which runs on a normal scheduler. The directory of pools sees the
            // same death and calls `close`.
            let mut actions = Actions::new();
            self.core.close(|| self.now_ns(), &mut actions);
            return self.carry_out(env, &mut actions);
        }
        let word = processes::word(env, pid);
        let gone = self.processes.shard(word).remove(&word);
        if gone.is_some_and(|process| process.may_hold()) {
            let mut actions = Actions::new();
            self.core.owner_gone(Owner(word), || self.now_ns(), &mut actions);
            self.carry_out(env, &mut actions);
        }
    }
}

impl Drop for SharedPool {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}
